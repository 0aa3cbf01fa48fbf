//! Limits how many wrong passwords of one user the tenant receives.
//!
//! Auth0 locks a user for thirty days after ten wrong passwords (Auth0, "Brute-force Protection"). A device with an old
//! password, or a stranger who guesses, must not get a device locked out, neither by Auth0 nor by this plugin.
//!
//! Auth0 counts by user and address, and so does the first count here: from one address the tenant receives nine wrong
//! passwords, and those of a stranger do not count for the device. If no address is passed on, all logins come from the
//! broker's own address and are counted together, as Auth0 does. The second count applies to them too, because such a
//! caller is at no address that is known as the user's.
//!
//! The first count is not enough where the tenant counts otherwise: it may not trust the address that it is told, or it
//! may lock accounts whatever the address (mode *Account Lockout*). Then ten wrong passwords from anywhere lock the
//! user. So the second count is by user alone. A limit of nine would prevent every lock, but two strangers could lock a
//! device out with nine CONNECTs. Without a limit they could make Auth0 lock the device. The compromise: after
//! `MOST_ANYWHERE` wrong passwords in a row from anywhere, one a day is let through, and the address from which the
//! user last came in never waits. Consequences:
//!
//! * A device that signs in every day (tokens of Auth0 last a day) resets the count before the tenth.
//! * A device at its usual address never waits because of others.
//! * A device that has moved while strangers guess waits a day at most, if they leave it its turn. It comes in at once
//!   if its login is cached.
//! * One stranger alone is slowed down by the first count, and needs a day to get that far.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{LoginAttempt, source::SourceNetwork};
use crate::{
    refusal::{LimitDetail, Reason, Refusal},
    secret::Fingerprint,
};

/// How long a user waits after so many wrong passwords in a row. The first three are free, because people mistype. The
/// rest are spread so that there is time to correct the password.
const WAITS: [Duration; (MOST - 1) as usize] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    HOUR,
    DAY,
    Duration::from_secs(7 * 24 * 3600),
];

/// The same after refusals that have nothing to do with the password: a blocked user, a second factor. They lock
/// nobody, so the waits are short enough to notice soon that the cause is fixed.
const REFUSED_WAITS: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    HOUR,
];

/// The longest wait for which waiting is the first advice. After a longer one somebody has to look at the device.
const LONG_WAIT: Duration = HOUR;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The maximum number of wrong passwords from one address that the tenant receives: one less than locks the user.
const MOST: u32 = 9;

/// The maximum number from all addresses together, before it is one a day.
const MOST_ANYWHERE: u32 = MOST - 1;

/// After this time without a request Auth0 has forgotten, too.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// The maximum number of users, and of users at addresses, in the tables. In a full table the entries with the fewest
/// wrong passwords are dropped.
const MAX_KNOWN: usize = 100_000;

/// What the tenant said about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordResult {
    /// The password is right.
    Correct,
    /// The password is wrong.
    Wrong,
    /// The password was sent and the response got lost: the tenant may have counted it as wrong.
    Unknown,
    /// The user is refused, whatever the password.
    UserRefused,
    /// Nothing about this login, or the tenant was not asked.
    NotChecked,
}

/// The users that are being checked, or were refused last time.
#[derive(Default)]
pub(super) struct Lockout {
    pairs: HashMap<(Fingerprint, SourceNetwork), Pair>,
    users: HashMap<Fingerprint, User>,
}

/// One user at one address.
#[derive(Default)]
struct Pair {
    wrong: u32,
    /// The responses that were lost since the last one that was not. If there was a wrong password among the others,
    /// they count as wrong. Alone they may have been right, so the next try comes sooner.
    lost: u32,
    /// The refusals in a row.
    refused: u32,
    /// The requests under way. Each may turn out to be wrong.
    asking: u32,
    /// When the next request may be sent; `None` is now.
    next: Option<Instant>,
}

/// One user at all addresses.
#[derive(Default)]
struct User {
    wrong: u32,
    asking: u32,
    last: Option<Instant>,
    /// When the next request beyond the limit may be sent.
    next: Option<Instant>,
    /// The address from which the user last came in.
    home: Option<SourceNetwork>,
}

impl Lockout {
    /// Checks whether the tenant may be asked about this login now, and counts the request until
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// Returns why not.
    pub(super) fn begin(&mut self, attempt: LoginAttempt, now: Instant) -> Result<(), Refusal> {
        let (key, source) = counted(attempt);
        if self.pairs.len() >= MAX_KNOWN && !self.pairs.contains_key(&key) {
            self.make_room_for_pairs(now);
        }
        if self.users.len() >= MAX_KNOWN && !self.users.contains_key(&attempt.user) {
            self.make_room_for_users();
        }
        let pair = self.pairs.entry(key).or_default();
        let user = self.users.entry(attempt.user).or_default();
        let asked = pair.ask(now).and_then(|()| user.ask(source, now)).map_err(
            |Backoff { detail, seconds }| {
                let refusal = Refusal::new(Reason::LoginBackoff, detail);
                match seconds.filter(|seconds| *seconds <= LONG_WAIT.as_secs()) {
                    Some(seconds) => refusal.wait_first(seconds),
                    None => refusal,
                }
            },
        );
        if asked.is_ok() {
            pair.asking += 1;
            user.asking += 1;
        }
        self.drop_empty(attempt);
        asked
    }

    /// Records what the tenant said.
    pub(super) fn finish(&mut self, attempt: LoginAttempt, result: PasswordResult, now: Instant) {
        let (key, source) = counted(attempt);
        let pair = self.pairs.entry(key).or_default();
        let user = self.users.entry(attempt.user).or_default();
        pair.asking = pair.asking.saturating_sub(1);
        user.asking = user.asking.saturating_sub(1);
        match result {
            PasswordResult::Correct => {
                (pair.wrong, pair.lost) = (0, 0);
                if pair.refused == 0 {
                    pair.next = None;
                }
                (user.wrong, user.next) = (0, None);
                if source != SourceNetwork::Unknown {
                    user.home = Some(source);
                }
            }
            PasswordResult::Wrong => pair.count_wrong(now),
            PasswordResult::Unknown => pair.count_lost(now),
            PasswordResult::UserRefused => pair.count_refused(now),
            PasswordResult::NotChecked => {}
        }
        if matches!(result, PasswordResult::Wrong | PasswordResult::Unknown) {
            user.count_wrong(now);
        }
        self.drop_empty(attempt);
    }

    /// Records that the tokens for a right password are of no use. It counts as a refusal.
    pub(super) fn tokens_refused(&mut self, attempt: LoginAttempt, now: Instant) {
        let pair = self.pairs.entry(counted(attempt).0).or_default();
        pair.count_refused(now);
    }

    /// Records that the device came in.
    pub(super) fn signed_in(&mut self, attempt: LoginAttempt) {
        if let Some(pair) = self.pairs.get_mut(&counted(attempt).0) {
            (pair.refused, pair.next) = (0, None);
        }
        self.drop_empty(attempt);
    }

    /// Ends all waits, because somebody may have fixed something (SIGHUP).
    ///
    /// Wrong passwords stay counted: many systems rotate the log every night with a SIGHUP. After the ninth wrong
    /// password that the tenant is known to have counted, there is no request until it has forgotten them.
    pub(super) fn reset_after_reload(&mut self) {
        for pair in self.pairs.values_mut() {
            pair.refused = 0;
            if pair.wrong < MOST {
                pair.next = None;
            }
        }
        for user in self.users.values_mut() {
            user.next = None;
        }
        self.pairs.retain(|_, pair| !pair.is_empty());
    }

    fn drop_empty(&mut self, attempt: LoginAttempt) {
        let (key, _) = counted(attempt);
        if self.pairs.get(&key).is_some_and(Pair::is_empty) {
            self.pairs.remove(&key);
        }
        if self.users.get(&attempt.user).is_some_and(User::is_empty) {
            self.users.remove(&attempt.user);
        }
    }

    fn make_room_for_pairs(&mut self, now: Instant) {
        for wrong in 0..=MOST {
            self.pairs.retain(|_, pair| {
                pair.asking > 0
                    || pair.count() > wrong
                    || pair.next.is_some_and(|next| now < next && wrong == MOST)
            });
            if self.pairs.len() < MAX_KNOWN / 2 {
                return;
            }
        }
    }

    /// Drops the users of strangers before those of devices that came in once.
    fn make_room_for_users(&mut self) {
        for (wrong, strangers_only) in (0..=MOST_ANYWHERE)
            .map(|wrong| (wrong, true))
            .chain([(0, false)])
        {
            self.users.retain(|_, user| {
                user.asking > 0 || user.wrong > wrong || (strangers_only && user.home.is_some())
            });
            if self.users.len() < MAX_KNOWN / 2 {
                return;
            }
        }
    }
}

/// Why the tenant is not asked.
struct Backoff {
    detail: LimitDetail,
    /// How long to wait, if that is known.
    seconds: Option<u64>,
}

impl From<LimitDetail> for Backoff {
    fn from(detail: LimitDetail) -> Self {
        let seconds = None;
        Self { detail, seconds }
    }
}

impl Pair {
    fn count(&self) -> u32 {
        self.wrong + self.lost
    }

    fn is_empty(&self) -> bool {
        self.count() + self.refused + self.asking == 0
    }

    fn ask(&mut self, now: Instant) -> Result<(), Backoff> {
        if let Some(next) = self.next
            && now < next
        {
            let seconds = (next - now).as_secs() + 1;
            let detail = match (self.refused, self.lost) {
                (times @ 1.., _) => LimitDetail::UserRefused { times, seconds },
                (_, times @ 1..) => LimitDetail::PasswordsLost { times, seconds },
                _ => LimitDetail::WrongPasswords {
                    times: self.wrong,
                    seconds,
                },
            };
            return Err(Backoff {
                detail,
                seconds: Some(seconds),
            });
        }
        if self.wrong >= MOST {
            // Thirty days have passed.
            (self.wrong, self.lost) = (0, 0);
        }
        // If the responses were only lost, one more request is let through when its time has come.
        let one_more = self.lost > 0 && self.asking == 0;
        if self.count() + self.asking >= MOST && !one_more {
            let detail = LimitDetail::WrongPasswordsAndMore {
                times: self.count(),
                asking: self.asking,
            };
            return Err(detail.into());
        }
        Ok(())
    }

    fn count_wrong(&mut self, now: Instant) {
        (self.wrong, self.lost) = (self.count() + 1, 0);
        self.wait(self.usual_wait().unwrap_or(FORGOTTEN), now);
    }

    fn count_lost(&mut self, now: Instant) {
        if self.wrong > 0 {
            return self.count_wrong(now);
        }
        self.lost += 1;
        // If the tenant does not answer for a day, devices must not wait for a week.
        let wait = self.usual_wait().map_or(DAY, |wait| wait.min(HOUR));
        self.wait(wait, now);
    }

    fn count_refused(&mut self, now: Instant) {
        let longest = REFUSED_WAITS.len() - 1;
        self.wait(REFUSED_WAITS[longest.min(self.refused as usize)], now);
        self.refused += 1;
    }

    fn usual_wait(&self) -> Option<Duration> {
        WAITS.get(self.count() as usize - 1).copied()
    }

    fn wait(&mut self, wait: Duration, now: Instant) {
        self.next = self.next.max(Some(now + wait));
    }
}

impl User {
    fn is_empty(&self) -> bool {
        self.wrong + self.asking == 0 && self.home.is_none()
    }

    fn ask(&mut self, from: SourceNetwork, now: Instant) -> Result<(), Backoff> {
        if self.last.is_some_and(|last| now >= last + FORGOTTEN) {
            (self.wrong, self.next) = (0, None);
        }
        if self.home == Some(from) || self.wrong + self.asking < MOST_ANYWHERE {
            return Ok(());
        }
        let waits = self.next.is_some_and(|next| now < next);
        if !waits && self.asking == 0 {
            return Ok(());
        }
        let detail = LimitDetail::WrongPasswordsElsewhere {
            times: self.wrong + self.asking,
        };
        Err(detail.into())
    }

    fn count_wrong(&mut self, now: Instant) {
        self.wrong += 1;
        self.last = Some(now);
        if self.wrong >= MOST_ANYWHERE {
            self.next = Some(now + DAY);
        }
    }
}

/// Returns the key of the first count, and the address in it.
fn counted(attempt: LoginAttempt) -> ((Fingerprint, SourceNetwork), SourceNetwork) {
    let source = SourceNetwork::from(attempt.address);
    ((attempt.user, source), source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fingerprinter;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const MONTH: u64 = 30 * 24 * 3600;

    /// A user without an address.
    fn user() -> LoginAttempt {
        LoginAttempt {
            user: Fingerprinter::new().unwrap().of(b"user"),
            address: None,
        }
    }

    fn at(user: LoginAttempt, address: &str) -> LoginAttempt {
        LoginAttempt {
            address: Some(address.parse().unwrap()),
            ..user
        }
    }

    /// Returns the seconds at which the tenant is asked about a device that tries all the time.
    fn asked(
        lockout: &mut Lockout,
        attempt: LoginAttempt,
        result: PasswordResult,
        start: Instant,
        seconds: impl IntoIterator<Item = u64>,
    ) -> Vec<u64> {
        seconds
            .into_iter()
            .filter(|second| {
                let now = start + S(*second);
                let asked = lockout.begin(attempt, now).is_ok();
                if asked {
                    lockout.finish(attempt, result, now);
                }
                asked
            })
            .collect()
    }

    #[test]
    fn at_most_nine_wrong_passwords_reach_the_tenant_in_thirty_days() {
        let start = Instant::now();
        for attempt in [user(), at(user(), "203.0.113.7")] {
            let mut lockout = Lockout::default();
            let month = (0..MONTH).step_by(30);
            let first = asked(&mut lockout, attempt, PasswordResult::Wrong, start, month);
            assert_eq!(first.len(), MOST as usize, "{first:?}");
            assert!(first[6] < 2 * 3600 && first[7] > 24 * 3600, "{first:?}");
            let last = first[8];
            lockout.reset_after_reload();
            let again = (MONTH..=last + MONTH).step_by(30);
            let next = asked(&mut lockout, attempt, PasswordResult::Wrong, start, again);
            assert_eq!(next, [last + MONTH], "and a reload changes nothing");
        }
    }

    /// Debian rotates the log of the broker with a SIGHUP every night.
    #[test]
    fn a_reload_shortens_a_wait_and_forgets_nothing() {
        let (start, user) = (Instant::now(), user());
        let mut lockout = Lockout::default();
        let mut count = 0;
        for day in 0..30 {
            let from = day * 86_400;
            let day = from..from + 300;
            count += asked(&mut lockout, user, PasswordResult::Wrong, start, day).len();
            lockout.reset_after_reload();
        }
        assert_eq!(count, MOST as usize);
        let mut lockout = Lockout::default();
        let first = asked(&mut lockout, user, PasswordResult::Wrong, start, 0..300);
        assert_eq!(first.len(), 5);
        lockout.reset_after_reload();
        assert!(lockout.begin(user, start + S(300)).is_ok(), "at once");
    }

    #[test]
    fn requests_under_way_count_as_wrong_passwords() {
        let (now, user) = (Instant::now(), user());
        let mut lockout = Lockout::default();
        let asked = (0..50).filter(|_| lockout.begin(user, now).is_ok()).count();
        assert_eq!(asked, MOST_ANYWHERE as usize);
        for _ in 0..MOST_ANYWHERE - 1 {
            lockout.finish(user, PasswordResult::NotChecked, now);
        }
        assert!(lockout.begin(user, now).is_ok());
        lockout.finish(user, PasswordResult::Correct, now);
        lockout.finish(user, PasswordResult::Correct, now);
        assert!(lockout.pairs.is_empty() && lockout.users.is_empty());
    }

    #[test]
    fn wrong_passwords_of_a_stranger_do_not_count_for_the_device() {
        let (start, user) = (Instant::now(), user());
        let (stranger, device) = (at(user, "198.51.100.1"), at(user, "203.0.113.7"));
        let mut lockout = Lockout::default();
        asked(
            &mut lockout,
            stranger,
            PasswordResult::Wrong,
            start,
            0..20_000,
        );
        assert!(lockout.begin(stranger, start + S(20_000)).is_err());
        let here = asked(
            &mut lockout,
            device,
            PasswordResult::Correct,
            start,
            20_000..20_010,
        );
        assert_eq!(here.len(), 10, "asked about whenever it likes");
        assert!(
            lockout.begin(stranger, start + S(20_010)).is_err(),
            "what the device does right is not the stranger's either"
        );
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let (start, user) = (Instant::now(), user());
        let mut lockout = Lockout::default();
        let asked: usize = (1..100)
            .map(|i| at(user, &format!("2001:db8::{i:x}")))
            .map(|attempt| asked(&mut lockout, attempt, PasswordResult::Wrong, start, 0..1).len())
            .sum();
        assert_eq!(asked, 3);
        let elsewhere = at(user, "2001:db8:0:1::1");
        assert!(lockout.begin(elsewhere, start).is_ok());
    }

    #[test]
    fn many_strangers_cause_no_lock_and_lock_nobody_out() {
        let (start, user) = (Instant::now(), user());
        let home = at(user, "203.0.113.7");
        let strangers = |lockout: &mut Lockout, from: u64| {
            (0..100)
                .map(|i| at(user, &format!("198.51.100.{i}")))
                .map(|attempt| {
                    asked(
                        lockout,
                        attempt,
                        PasswordResult::Wrong,
                        start,
                        from..from + 1,
                    )
                    .len()
                })
                .sum::<usize>()
        };
        let day = 24 * 3600;
        let mut lockout = Lockout::default();
        lockout.begin(home, start).unwrap();
        lockout.finish(home, PasswordResult::Correct, start);
        let since = strangers(&mut lockout, 0) + strangers(&mut lockout, day - 1);
        assert_eq!(since, MOST_ANYWHERE as usize);
        assert_eq!(strangers(&mut lockout, day), 1, "one a day");
        assert!(lockout.begin(home, start + S(day)).is_ok());
        lockout.finish(home, PasswordResult::Correct, start + S(day));
        assert_eq!(
            strangers(&mut lockout, day + 1),
            MOST_ANYWHERE as usize,
            "who came in takes the count back, as in the tenant"
        );

        let moved = at(user, "192.0.2.7");
        let refusal = lockout.begin(moved, start + S(day + 2)).unwrap_err();
        assert!(
            refusal
                .detail
                .to_string()
                .contains("one more is checked each day")
        );
        assert!(lockout.begin(moved, start + S(2 * day + 1)).is_ok());
        lockout.finish(moved, PasswordResult::NotChecked, start + S(2 * day + 1));
        lockout.users.get_mut(&user.user).unwrap().next = Some(start + S(9 * day));
        lockout.reset_after_reload();
        assert!(lockout.begin(moved, start + S(2 * day + 2)).is_ok());
    }

    /// Two clients without an address cannot be told apart.
    #[test]
    fn a_login_without_an_address_is_not_from_a_known_address() {
        let (start, user) = (Instant::now(), user());
        let home = at(user, "203.0.113.7");
        let mut lockout = Lockout::default();
        for attempt in [home, user] {
            lockout.begin(attempt, start).unwrap();
            lockout.finish(attempt, PasswordResult::Correct, start);
        }
        let strangers = (0..100)
            .map(|i| at(user, &format!("198.51.100.{i}")))
            .map(|attempt| asked(&mut lockout, attempt, PasswordResult::Wrong, start, 0..1).len())
            .sum::<usize>();
        assert_eq!(strangers, MOST_ANYWHERE as usize);
        assert!(lockout.begin(user, start).is_err(), "they count for it too");
        assert!(lockout.begin(home, start).is_ok(), "and not at home");
    }

    #[test]
    fn a_refused_account_is_asked_about_less_and_less() {
        let (start, user) = (Instant::now(), user());
        let mut lockout = Lockout::default();
        let refused = asked(
            &mut lockout,
            user,
            PasswordResult::UserRefused,
            start,
            0..10_000,
        );
        assert_eq!(refused, [0, 10, 70, 670, 4270, 7870]);
        let refusal = lockout.begin(user, start + S(10_000)).unwrap_err();
        assert!(
            refusal
                .detail
                .to_string()
                .contains("refused it 6 times in a row")
        );
        lockout.reset_after_reload();
        let refused = asked(
            &mut lockout,
            user,
            PasswordResult::UserRefused,
            start,
            10_000..10_071,
        );
        assert_eq!(
            refused,
            [10_000, 10_010, 10_070],
            "from the start after a reload"
        );
        lockout.signed_in(user);
        let refused = asked(
            &mut lockout,
            user,
            PasswordResult::UserRefused,
            start,
            10_071..10_082,
        );
        assert_eq!(refused, [10_071, 10_081], "and after it came in");
    }

    #[test]
    fn unusable_tokens_slow_a_device_down_despite_correct_passwords() {
        let (start, user) = (Instant::now(), user());
        let mut lockout = Lockout::default();
        let mut seconds = Vec::new();
        for second in 0..1000 {
            let now = start + S(second);
            if lockout.begin(user, now).is_ok() {
                lockout.finish(user, PasswordResult::Correct, now);
                lockout.finish(user, PasswordResult::UserRefused, now);
                seconds.push(second);
            }
        }
        assert_eq!(seconds, [0, 10, 70, 670]);
    }

    /// The tenant counts the passwords, and its responses get lost.
    #[test]
    fn lost_answers_count_until_one_is_right() {
        let (start, user) = (Instant::now(), at(user(), "203.0.113.7"));
        let mut lockout = Lockout::default();
        lockout.finish(user, PasswordResult::Correct, start);
        let day = 24 * 3600;
        let lost = asked(&mut lockout, user, PasswordResult::Unknown, start, 0..day);
        assert_eq!(lost.len(), MOST as usize, "{lost:?}");
        assert!(lost.windows(2).all(|two| two[1] - two[0] <= 3600));
        let more = asked(
            &mut lockout,
            user,
            PasswordResult::Unknown,
            start,
            day..lost[8] + day + 60,
        );
        assert_eq!(more, [lost[8] + day], "one a day");
        lockout.reset_after_reload();
        let now = start + S(3 * day);
        assert!(lockout.begin(user, now).is_ok(), "a reload asks at once");
        lockout.finish(user, PasswordResult::Correct, now);
        assert!(lockout.pairs.is_empty());
    }

    #[test]
    fn lost_answers_of_a_device_with_wrong_passwords_count_as_wrong() {
        let start = Instant::now();
        for order in [
            [PasswordResult::Wrong, PasswordResult::Unknown],
            [PasswordResult::Unknown, PasswordResult::Wrong],
        ] {
            let (mut lockout, user) = (Lockout::default(), user());
            let mut count = 0;
            for second in (0..MONTH).step_by(30) {
                let now = start + S(second);
                if lockout.begin(user, now).is_ok() {
                    lockout.finish(user, order[usize::from(count % 2 == 1)], now);
                    count += 1;
                }
            }
            assert_eq!(count, MOST);
        }
    }

    #[test]
    fn many_users_do_not_make_room_for_a_tenth_guess() {
        let prints = Fingerprinter::new().unwrap();
        let (start, user) = (Instant::now(), user());
        let mut lockout = Lockout::default();
        let month = (0..MONTH).step_by(30);
        asked(&mut lockout, user, PasswordResult::Wrong, start, month);
        let home = at(
            LoginAttempt {
                user: prints.of(b"home"),
                address: None,
            },
            "203.0.113.7",
        );
        lockout.finish(home, PasswordResult::Correct, start);
        for i in 0..MAX_KNOWN + 1000 {
            let other = LoginAttempt {
                user: prints.of(&i.to_le_bytes()),
                address: None,
            };
            assert!(lockout.begin(other, start).is_ok());
            lockout.finish(other, PasswordResult::Wrong, start);
        }
        assert!(lockout.pairs.len() <= MAX_KNOWN && lockout.pairs.contains_key(&counted(user).0));
        assert!(lockout.users.len() <= MAX_KNOWN && lockout.users.contains_key(&home.user));
    }
}
