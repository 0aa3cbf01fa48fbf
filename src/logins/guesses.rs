//! Wrong passwords of one user: Auth0 locks a user after ten of them, for thirty days (Auth0,
//! "Brute-force Protection"), and counts all of a broker's devices at the broker's address. A device
//! with an old password, or a stranger who guesses, must not get a device locked out: the tenth is
//! never asked about.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    refusal::{Reason, Refusal},
    secret::Fingerprint,
};

/// How long a user has to wait after so many wrong passwords in a row. Three at once are a slip; the
/// rest are spread so that somebody can mend it meanwhile.
const WAITS: [Duration; (MOST - 1) as usize] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(7 * 24 * 3600),
];

/// The most wrong passwords of a user that the tenant is to hear of: one less than locks it.
const MOST: u32 = 9;

/// After so long without a question Auth0 has forgotten too.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many users are kept apart. Beyond it those are forgotten that got it wrong least often.
const MAX_USERS: usize = 100_000;

/// The users that the tenant is being asked about, or refused last time.
#[derive(Default)]
pub struct Guesses(HashMap<Fingerprint, User>);

#[derive(Default)]
struct User {
    wrong: u32,
    /// Questions under way: each may turn out wrong.
    asking: u32,
    /// When the next may be asked; `None` is now.
    next: Option<Instant>,
}

impl Guesses {
    /// Whether the tenant may be asked about this user now. It is counted until it is
    /// [`heard`](Self::heard) or [given back](Self::give_back).
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ask(&mut self, user: Fingerprint, now: Instant) -> Result<(), Refusal> {
        if self.0.len() >= MAX_USERS && !self.0.contains_key(&user) {
            self.make_room(now);
        }
        let known = self.0.entry(user).or_default();
        let refuse = |detail| Err(Refusal::new(Reason::LoginBackoff, detail));
        if let Some(next) = known.next
            && now < next
        {
            return refuse(format!(
                "it sent {} wrong passwords in a row; the next is looked at in {} s",
                known.wrong,
                (next - now).as_secs() + 1
            ));
        }
        if known.wrong >= MOST {
            // Thirty days have passed.
            known.wrong = 0;
        }
        if known.wrong + known.asking >= MOST {
            return refuse(format!(
                "it sent {} wrong passwords in a row, and {} are being looked at",
                known.wrong, known.asking
            ));
        }
        known.asking += 1;
        Ok(())
    }

    /// The tenant was not asked after all, or said nothing about the password.
    pub fn give_back(&mut self, user: Fingerprint) {
        if let Some(known) = self.0.get_mut(&user) {
            known.asking = known.asking.saturating_sub(1);
            if known.wrong + known.asking == 0 {
                self.0.remove(&user);
            }
        }
    }

    /// What the tenant said about the password.
    pub fn heard(&mut self, user: Fingerprint, right: bool, now: Instant) {
        if right {
            self.0.remove(&user);
            return;
        }
        let known = self.0.entry(user).or_default();
        known.asking = known.asking.saturating_sub(1);
        known.wrong += 1;
        let wait = WAITS.get(known.wrong as usize - 1).unwrap_or(&FORGOTTEN);
        known.next = Some(now + *wait);
    }

    /// Somebody has mended something (SIGHUP): whoever waits may be asked about now. What was counted
    /// stays counted, because a log is rotated every night by a SIGHUP.
    pub fn look_again(&mut self) {
        for user in self.0.values_mut().filter(|user| user.wrong < MOST) {
            user.next = None;
        }
    }

    fn make_room(&mut self, now: Instant) {
        for wrong in 1..=MOST {
            self.0.retain(|_, user| {
                user.asking > 0
                    || user.wrong > wrong
                    || user.next.is_some_and(|next| now < next && wrong == MOST)
            });
            if self.0.len() < MAX_USERS / 2 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fingerprinter;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn user() -> Fingerprint {
        Fingerprinter::new().unwrap().of(b"user")
    }

    /// The seconds at which a device that tries all the time is asked about.
    fn asked(
        guesses: &mut Guesses,
        user: Fingerprint,
        start: Instant,
        seconds: std::ops::Range<u64>,
    ) -> Vec<u64> {
        seconds
            .filter(|second| {
                let now = start + S(*second);
                let asked = guesses.ask(user, now).is_ok();
                if asked {
                    guesses.heard(user, false, now);
                }
                asked
            })
            .collect()
    }

    #[test]
    fn the_tenth_is_never_asked_about_within_thirty_days() {
        let (start, user) = (Instant::now(), user());
        let mut guesses = Guesses::default();
        let month = 30 * 24 * 3600;
        let first = asked(&mut guesses, user, start, 0..month);
        assert_eq!(first.len(), MOST as usize, "{first:?}");
        assert!(first[6] < 2 * 3600 && first[7] > 24 * 3600, "{first:?}");
        let last = first[8];
        let next = asked(&mut guesses, user, start, month..last + month + 1);
        assert_eq!(next, [last + month]);
    }

    /// Debian rotates the broker's log with a SIGHUP every night.
    #[test]
    fn a_reload_shortens_a_wait_and_forgets_nothing() {
        let (start, user) = (Instant::now(), user());
        let mut guesses = Guesses::default();
        let mut count = 0;
        for day in 0..30 {
            let from = day * 86_400;
            count += asked(&mut guesses, user, start, from..from + 300).len();
            guesses.look_again();
        }
        assert_eq!(count, MOST as usize);
        let mut guesses = Guesses::default();
        assert_eq!(asked(&mut guesses, user, start, 0..300).len(), 5);
        guesses.look_again();
        assert!(guesses.ask(user, start + S(300)).is_ok(), "at once");
    }

    #[test]
    fn questions_under_way_count_as_wrong() {
        let (now, user) = (Instant::now(), user());
        let mut guesses = Guesses::default();
        let asked = (0..50).filter(|_| guesses.ask(user, now).is_ok()).count();
        assert_eq!(asked, MOST as usize);
        for _ in 0..MOST - 1 {
            guesses.give_back(user);
        }
        assert!(guesses.ask(user, now).is_ok());
        guesses.heard(user, true, now);
        assert!(guesses.0.is_empty(), "a right one ends it");
    }

    #[test]
    fn many_users_do_not_make_room_for_a_tenth_guess() {
        let prints = Fingerprinter::new().unwrap();
        let (start, user) = (Instant::now(), prints.of(b"user"));
        let mut guesses = Guesses::default();
        asked(&mut guesses, user, start, 0..30 * 24 * 3600);
        for i in 0..MAX_USERS + 1000 {
            let other = prints.of(&i.to_le_bytes());
            assert!(guesses.ask(other, start).is_ok());
            guesses.heard(other, false, start);
        }
        assert!(guesses.0.len() <= MAX_USERS && guesses.0.contains_key(&user));
    }
}
