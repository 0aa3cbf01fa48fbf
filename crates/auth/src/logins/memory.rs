//! What the tenant said about a credential before: so that a device that reconnects is not asked
//! about again, and comes in while the tenant is away.
//!
//! Nothing here gives a password away: a credential is its keyed fingerprint. A good answer is kept
//! until its token expires, or for `login_cache` if that is shorter; of the bad ones only a wrong
//! password is kept, and only briefly, because it may be set right at any time.

use super::{Terms, Verdict, expiring::Expiring};
use crate::{
    clock::Unix,
    refusal::{Reason, Refusal},
    secret::Fingerprint,
};

/// How many seconds a wrong password stays wrong without asking.
const REFUSED: u64 = 10;

/// How many seconds a good answer waits for a device that was turned away before it came. A device that sleeps
/// between two tries comes back after minutes.
const UNHEARD: u64 = 15 * 60;

/// The memory.
pub struct Memory {
    keep: u64,
    known: Expiring<Known>,
}

struct Known {
    verdict: Verdict,
    /// Where it was kept for longer than it is good for: when it ends once it has been heard.
    heard: Option<Unix>,
}

impl Memory {
    /// Good answers are kept at most `keep` seconds; 0 keeps none.
    pub fn new(keep: u64) -> Self {
        Self {
            keep,
            known: Expiring::default(),
        }
    }

    /// What is known of this credential.
    pub fn recall(&mut self, key: Fingerprint, now: Unix) -> Option<Verdict> {
        let known = self.known.get(key, now)?;
        if known.verdict.as_ref().is_ok_and(|terms| terms.until <= now) {
            return None;
        }
        let (verdict, heard) = (known.verdict.clone(), known.heard);
        if let Some(end) = heard {
            self.known.end_by(key, end);
        }
        Some(verdict)
    }

    /// Keeps what may be kept.
    pub fn remember(&mut self, key: Fingerprint, verdict: &Verdict, now: Unix) {
        self.keep_for(self.keep, key, verdict, now);
    }

    /// Keeps what nobody has heard yet until its device comes back, even where nothing is remembered.
    /// It comes back once: then the answer is as old as any other.
    pub fn hold(&mut self, key: Fingerprint, verdict: &Verdict, now: Unix) {
        self.keep_for(self.keep.max(UNHEARD), key, verdict, now);
    }

    /// Forgets what has ended; whether that was much.
    pub fn forget_old(&mut self, now: Unix) -> bool {
        self.known.forget_old(now)
    }

    /// The clock was set by this many seconds: what is remembered is so for as long as before. A token's own
    /// end is what its tenant said, by whatever clock.
    pub fn clock_was_set(&mut self, by: i64) {
        self.known.clock_was_set(by);
        for known in self.known.values_mut() {
            known.heard = known.heard.map(|end| end.moved(by));
        }
    }

    fn keep_for(&mut self, seconds: u64, key: Fingerprint, verdict: &Verdict, now: Unix) {
        let end = match verdict {
            Ok(Terms { until, .. }) => now.plus(seconds).min(*until),
            Err(Refusal {
                reason: Reason::LoginRefused,
                ..
            }) => now.plus(REFUSED),
            Err(_) => return,
        };
        let heard = (verdict.is_ok() && seconds > self.keep).then(|| now.plus(self.keep));
        let verdict = verdict.clone();
        self.known.insert(key, Known { verdict, heard }, end, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Account;
    use crate::secret::Fingerprinter;

    fn good(until: u64) -> Verdict {
        Ok(Terms {
            username: "u".into(),
            account: Account {
                issuer: "https://tenant.example/".into(),
                subject: "u".into(),
            },
            client_ids: None,
            grants: Default::default(),
            claims: None,
            until: Unix(until),
        })
    }

    fn bad(reason: Reason) -> Verdict {
        Err(Refusal::new(reason, "x"))
    }

    #[test]
    fn good_answers_last_as_long_as_their_token_and_no_longer_than_wanted() {
        let prints = Fingerprinter::new().unwrap();
        let (a, b) = (prints.of(b"a"), prints.of(b"b"));
        let mut memory = Memory::new(100);
        memory.remember(a, &good(1050), Unix(1000));
        memory.remember(b, &good(9000), Unix(1000));
        assert!(memory.recall(a, Unix(1049)).unwrap().is_ok());
        assert!(memory.recall(a, Unix(1050)).is_none());
        assert!(memory.recall(b, Unix(1099)).is_some());
        assert!(memory.recall(b, Unix(1100)).is_none());
        assert!(memory.known.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_makes_it_neither_longer_nor_shorter() {
        let prints = Fingerprinter::new().unwrap();
        let (a, b) = (prints.of(b"a"), prints.of(b"b"));
        for by in [-900, 900] {
            let now = |seconds: u64| Unix(seconds.saturating_add_signed(by));
            let mut memory = Memory::new(100);
            memory.remember(a, &good(9000), Unix(1000));
            memory.remember(b, &bad(Reason::LoginRefused), Unix(1000));
            memory.clock_was_set(by);
            assert!(memory.recall(b, now(1000 + REFUSED - 1)).is_some());
            assert!(memory.recall(b, now(1000 + REFUSED)).is_none());
            assert!(memory.recall(a, now(1099)).is_some());
            assert!(memory.recall(a, now(1100)).is_none());

            memory.hold(a, &good(9000), Unix(1000));
            let mut once = Memory::new(5);
            once.hold(a, &good(9000), Unix(1000));
            once.clock_was_set(by);
            assert!(once.recall(a, now(1059)).is_some() && once.recall(a, now(1059)).is_none());
        }
        // By the clock as it is now its token has ended.
        let mut memory = Memory::new(100);
        memory.remember(a, &good(1500), Unix(1000));
        memory.clock_was_set(900);
        assert!(memory.recall(a, Unix(1901)).is_none());
    }

    #[test]
    fn what_nobody_has_heard_is_kept_for_one_who_comes_back() {
        let key = Fingerprinter::new().unwrap().of(b"a");
        let mut none = Memory::new(0);
        none.remember(key, &good(9000), Unix(1000));
        assert!(none.recall(key, Unix(1000)).is_none());
        let last = Unix(1000 + UNHEARD - 1);
        for (when, known) in [
            (Unix(1000), true),
            (last, true),
            (Unix(1000 + UNHEARD), false),
        ] {
            none.hold(key, &good(9000), Unix(1000));
            assert_eq!(none.recall(key, when).is_some(), known, "{when:?}");
            assert!(none.recall(key, when).is_none(), "once");
        }

        let mut brief = Memory::new(5);
        brief.hold(key, &good(9000), Unix(1000));
        assert!(brief.recall(key, Unix(1003)).is_some());
        assert!(brief.recall(key, Unix(1004)).is_some(), "as any other");
        assert!(brief.recall(key, Unix(1005)).is_none());
        brief.hold(key, &good(9000), Unix(1000));
        assert!(brief.recall(key, Unix(1030)).is_some());
        assert!(brief.recall(key, Unix(1030)).is_none());

        let mut long = Memory::new(100);
        long.hold(key, &good(9000), Unix(1000));
        assert!(long.recall(key, Unix(1099)).is_some() && long.recall(key, Unix(1099)).is_some());
        none.hold(key, &bad(Reason::LoginRefused), Unix(1000));
        assert!(none.recall(key, Unix(1001)).is_some() && none.recall(key, Unix(1001)).is_some());
    }

    #[test]
    fn of_refusals_only_a_wrong_password_is_kept_and_briefly() {
        let prints = Fingerprinter::new().unwrap();
        let key = prints.of(b"a");
        let mut memory = Memory::new(100);
        for reason in Reason::ALL {
            memory.remember(key, &bad(*reason), Unix(1000));
            let kept = memory.recall(key, Unix(1001)).is_some();
            assert_eq!(kept, *reason == Reason::LoginRefused, "{}", reason.code());
            memory.known.forget(key);
        }
        memory.remember(key, &bad(Reason::LoginRefused), Unix(1000));
        assert!(memory.recall(key, Unix(1000 + REFUSED)).is_none());
        memory.remember(key, &bad(Reason::LoginRefused), Unix(1000));
        memory.remember(key, &good(9000), Unix(1001));
        assert!(
            memory.recall(key, Unix(1002)).unwrap().is_ok(),
            "the newer answer counts"
        );
    }
}
