//! Counts, for one line a minute, how many known clients had to try again, why, and who used up what they needed.
//!
//! The lines about single refusals do not show that: they name whoever was refused first, and in a flood that is an
//! unknown client.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    mem,
};

use super::{Engine, report::Report};
use crate::{
    clock::Unix,
    limits::{
        known_callers::{Caller, Standing},
        source::SourceNetwork,
    },
    refusal::{Reason, Refusal, Responsible},
    sign_in::SignIn,
};

/// How many seconds one line is about.
const PERIOD: u64 = 60;

/// How many devices are counted one by one. If there are more, the line says so.
pub(crate) const MAX_DEVICES: usize = 10_000;

/// How many sources are counted one by one; the others are counted together.
const MAX_SOURCES: usize = 1000;

/// How many sources and reasons a line names.
const NAMED: usize = 3;

/// What happened in a minute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Minute {
    /// How many clients that came in before, from where they are, had to try again.
    pub returning: usize,
    /// How many clients of whose user or address one came in before had to try again.
    pub familiar: usize,
    /// Why, and how often: the most frequent reasons.
    pub reasons: Vec<(Reason, u64)>,
    /// How often unknown clients were turned away.
    pub unknown: u64,
    /// For whom the tenant was asked most, and how often.
    pub asked: Vec<(SourceNetwork, u64)>,
    /// How often the tenant was asked.
    pub asked_in_all: u64,
}

/// What has happened since the last line.
#[derive(Default)]
pub(super) struct Tally {
    since: Option<Unix>,
    hashes: RandomState,
    /// The devices, as hashes: as in [`Minute`].
    returning: HashSet<u64>,
    familiar: HashSet<u64>,
    /// How often they were turned away, and how often unknown clients were.
    reasons: HashMap<Reason, u64>,
    unknown: u64,
    /// How often the tenant was asked for whom.
    asked: HashMap<SourceNetwork, u64>,
    asked_in_all: u64,
}

impl Tally {
    /// Counts a request to the tenant.
    fn asked(&mut self, caller: Caller) {
        self.asked_in_all += 1;
        if self.asked.len() < MAX_SOURCES || self.asked.contains_key(&caller.source) {
            *self.asked.entry(caller.source).or_default() += 1;
        }
    }

    /// Counts a CONNECT that was turned away and may be good.
    fn turned_away(&mut self, sign_in: &SignIn, reason: Reason) {
        let devices = match sign_in.caller.standing {
            Standing::Unknown => {
                self.unknown += 1;
                return;
            }
            Standing::Familiar => &mut self.familiar,
            Standing::Returning => &mut self.returning,
        };
        if devices.len() < MAX_DEVICES {
            let device = (
                &sign_in.client.id,
                &sign_in.client.username,
                sign_in.caller.source,
            );
            devices.insert(self.hashes.hash_one(device));
        }
        *self.reasons.entry(reason).or_default() += 1;
    }

    /// Returns what happened in the period that has ended, if known clients had to try again.
    fn take(&mut self, now: Unix) -> Option<Minute> {
        let since = *self.since.get_or_insert(now);
        // A clock that was set back begins another period.
        if (since..since.plus(PERIOD)).contains(&now) {
            return None;
        }
        let next = Self {
            since: Some(now),
            ..Self::default()
        };
        let past = mem::replace(self, next);
        if past.returning.len() + past.familiar.len() == 0 {
            return None;
        }
        Some(Minute {
            returning: past.returning.len(),
            familiar: past.familiar.len(),
            reasons: most(past.reasons),
            unknown: past.unknown,
            asked: most(past.asked),
            asked_in_all: past.asked_in_all,
        })
    }
}

/// Returns the most frequent ones, with their numbers.
fn most<K: Ord>(counts: HashMap<K, u64>) -> Vec<(K, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    counts.truncate(NAMED);
    counts
}

impl Engine {
    pub(super) fn count_question(&mut self, caller: Caller) {
        self.tally.asked(caller);
    }

    /// Counts a refusal that says nothing against the device.
    pub(super) fn count_refusal(&mut self, sign_in: &SignIn, refusal: &Refusal) {
        if sign_in.user.is_some() && refusal.reason.responsible() == Responsible::Passing {
            self.tally.turned_away(sign_in, refusal.reason);
        }
    }

    pub(super) fn tell_tally(&mut self, now: Unix) {
        if let Some(minute) = self.tally.take(now) {
            self.tell(&Report::Minute(minute));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::ConnectDetail;
    use crate::sign_in::Presented;
    use crate::{
        client::{Client, ClientKey},
        engine::{Common, testing::engine},
        secret::Fingerprinter,
    };

    fn sign_in(number: u32, standing: Standing) -> SignIn {
        let print = Fingerprinter::new().unwrap().of(b"");
        let source = SourceNetwork::V4(number.into());
        SignIn {
            key: ClientKey(1),
            client: Client::default(),
            credential: print,
            user: Some(print),
            login: None,
            caller: Caller { source, standing },
            id_is_free: false,
            presented: Presented::default(),
            token_id: None,
            restored_for: None,
            ends_with_connection: false,
        }
    }

    #[test]
    fn a_minute_in_which_good_devices_had_to_wait_has_a_line() {
        let mut tally = Tally::default();
        assert_eq!(tally.take(Unix(1000)), None);
        for tries in 0..3 {
            for number in 0..10 {
                tally.turned_away(&sign_in(number, Standing::Returning), Reason::LoginRate);
            }
            tally.turned_away(
                &sign_in(100 + tries, Standing::Familiar),
                Reason::LoginPending,
            );
        }
        for number in 0..1000 {
            tally.turned_away(&sign_in(number, Standing::Unknown), Reason::LoginRate);
            tally.asked(sign_in(number % 7, Standing::Unknown).caller);
        }
        assert_eq!(tally.take(Unix(1059)), None);
        let line = tally
            .take(Unix(1060))
            .map(Report::Minute)
            .unwrap()
            .to_string();
        for part in [
            "10 devices that signed in before had to try again, and 3 devices whose user or address is known",
            "([login-rate] 30 times, [login-pending] 3 times)",
            "unknown clients were turned away 1000 times",
            "asked 1000 times, most for 0.0.0.0 143 times, 0.0.0.1 143 times, 0.0.0.2 143 times;",
            "fix: ",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert_eq!(tally.take(Unix(1120)), None, "each is counted once");
        tally.turned_away(&sign_in(1, Standing::Unknown), Reason::LoginRate);
        assert_eq!(
            tally.take(Unix(1180)),
            None,
            "unknown clients alone are no reason"
        );
        assert_eq!(tally.take(Unix(10)), None, "the clock was set back");
    }

    /// From the refusal of a CONNECT to the line in the log.
    #[test]
    fn the_line_counts_known_devices_only() {
        let (mut engine, log) = engine();
        let mut common = Common::default();
        let mut told = |reason, now| {
            engine.reap(&mut common, Unix(now));
            let device = sign_in(1, Standing::Returning);
            let token = SignIn {
                user: None,
                ..device.clone()
            };
            for sign_in in [device, token] {
                engine.report_refused_connect(
                    &sign_in,
                    &Refusal::new(reason, ConnectDetail::NoPassword),
                    Unix(now),
                );
            }
            engine.reap(&mut common, Unix(now + PERIOD));
            let lines = log.take().into_iter().map(|(_, line)| line);
            let lines: Vec<_> = lines
                .filter(|line| line.contains("in the last minute"))
                .collect();
            lines
        };
        let lines = told(Reason::LoginRate, 1000);
        assert!(
            lines.len() == 1 && lines[0].contains(" 1 device that signed in before"),
            "{lines:?}"
        );
        assert!(told(Reason::LoginRefused, 2000).is_empty(), "its own fault");
    }

    #[test]
    fn a_flood_neither_fills_the_memory_nor_the_line() {
        let mut tally = Tally::default();
        tally.take(Unix(0));
        for number in 0..2 * MAX_DEVICES as u32 {
            for standing in Standing::ALL {
                let mut sign_in = sign_in(number, standing);
                let network = std::net::Ipv6Addr::from_bits(u128::MAX - (u128::from(number) << 64));
                sign_in.caller.source = SourceNetwork::V6(network);
                tally.asked(sign_in.caller);
                let reason = Reason::ALL[number as usize % Reason::ALL.len()];
                tally.turned_away(&sign_in, reason);
            }
        }
        assert_eq!(tally.returning.len(), MAX_DEVICES);
        assert_eq!(tally.asked.len(), MAX_SOURCES);
        tally
            .asked
            .values_mut()
            .for_each(|number| *number = u64::MAX / 2000);
        tally.unknown = u64::MAX;
        let line = tally
            .take(Unix(60))
            .map(Report::Minute)
            .unwrap()
            .to_string();
        assert!(line.len() <= 900, "{}: {line}", line.len());
        assert!(line.contains("10000 or more devices"));
    }
}
