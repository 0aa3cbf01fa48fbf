//! What the tenant said about a credential before: so that a device that reconnects is not asked
//! about again, and comes in while the tenant is away.
//!
//! Nothing here gives a password away: a credential is its keyed fingerprint. A good answer is kept
//! until its token expires, or for `login_cache` if that is shorter; of the bad ones only a wrong
//! password is kept, and only briefly, because it may be set right at any time.

use super::expiring::ExpiringMap;
use crate::{
    clock::Unix,
    identity::{Identity, Verdict},
    refusal::{Reason, Refusal},
    secret::Fingerprint,
};

/// How many seconds a wrong password stays wrong without asking.
const REFUSED: u64 = 10;

/// How many seconds a good answer waits for a device that was turned away before it came. A device that sleeps
/// between two tries comes back after minutes.
const UNDELIVERED: u64 = 15 * 60;

/// The cache.
pub struct LoginCache {
    keep: u64,
    entries: ExpiringMap<CachedLogin>,
}

struct CachedLogin {
    verdict: Verdict,
    /// Where it was kept for longer than it is good for: when it ends once it has been after_delivery.
    after_delivery: Option<Unix>,
}

impl LoginCache {
    /// Good answers are kept at most `keep` seconds; 0 keeps none.
    pub fn new(keep: u64) -> Self {
        Self {
            keep,
            entries: ExpiringMap::default(),
        }
    }

    /// What is known of this credential.
    pub fn get(&mut self, key: Fingerprint, now: Unix) -> Option<Verdict> {
        let known = self.entries.get(key, now)?;
        if known
            .verdict
            .as_ref()
            .is_ok_and(|identity| identity.until <= now)
        {
            return None;
        }
        let (verdict, after_delivery) = (known.verdict.clone(), known.after_delivery);
        if let Some(end) = after_delivery {
            self.entries.end_by(key, end);
        }
        Some(verdict)
    }

    /// Keeps what may be kept.
    pub fn insert(&mut self, key: Fingerprint, verdict: &Verdict, now: Unix) {
        self.keep_for(self.keep, key, verdict, now);
    }

    /// Keeps what nobody has after_delivery yet until its device comes back, even where nothing is remembered.
    /// It comes back once: then the answer is as old as any other.
    pub fn insert_until_delivered(&mut self, key: Fingerprint, verdict: &Verdict, now: Unix) {
        self.keep_for(self.keep.max(UNDELIVERED), key, verdict, now);
    }

    /// Forgets what has ended; whether that was much.
    pub fn remove_expired(&mut self, now: Unix) -> bool {
        self.entries.remove_expired(now)
    }

    /// The clock was set by this many seconds: what is remembered is so for as long as before. A token's own
    /// end is what its tenant said, by whatever clock.
    pub fn clock_was_set(&mut self, by: i64) {
        self.entries.clock_was_set(by);
        for known in self.entries.values_mut() {
            known.after_delivery = known.after_delivery.map(|end| end.moved(by));
        }
    }

    fn keep_for(&mut self, seconds: u64, key: Fingerprint, verdict: &Verdict, now: Unix) {
        let end = match verdict {
            Ok(Identity { until, .. }) => now.plus(seconds).min(*until),
            Err(Refusal {
                reason: Reason::LoginRefused,
                ..
            }) => now.plus(REFUSED),
            Err(_) => return,
        };
        let after_delivery = (verdict.is_ok() && seconds > self.keep).then(|| now.plus(self.keep));
        let verdict = verdict.clone();
        self.entries.insert(
            key,
            CachedLogin {
                verdict,
                after_delivery,
            },
            end,
            now,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Account;
    use crate::secret::Fingerprinter;

    fn good(until: u64) -> Verdict {
        Ok(Identity {
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
        let mut cache = LoginCache::new(100);
        cache.insert(a, &good(1050), Unix(1000));
        cache.insert(b, &good(9000), Unix(1000));
        assert!(cache.get(a, Unix(1049)).unwrap().is_ok());
        assert!(cache.get(a, Unix(1050)).is_none());
        assert!(cache.get(b, Unix(1099)).is_some());
        assert!(cache.get(b, Unix(1100)).is_none());
        assert!(cache.entries.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_makes_it_neither_longer_nor_shorter() {
        let prints = Fingerprinter::new().unwrap();
        let (a, b) = (prints.of(b"a"), prints.of(b"b"));
        for by in [-900, 900] {
            let now = |seconds: u64| Unix(seconds.saturating_add_signed(by));
            let mut cache = LoginCache::new(100);
            cache.insert(a, &good(9000), Unix(1000));
            cache.insert(b, &bad(Reason::LoginRefused), Unix(1000));
            cache.clock_was_set(by);
            assert!(cache.get(b, now(1000 + REFUSED - 1)).is_some());
            assert!(cache.get(b, now(1000 + REFUSED)).is_none());
            assert!(cache.get(a, now(1099)).is_some());
            assert!(cache.get(a, now(1100)).is_none());

            cache.insert_until_delivered(a, &good(9000), Unix(1000));
            let mut once = LoginCache::new(5);
            once.insert_until_delivered(a, &good(9000), Unix(1000));
            once.clock_was_set(by);
            assert!(once.get(a, now(1059)).is_some() && once.get(a, now(1059)).is_none());
        }
        // By the clock as it is now its token has ended.
        let mut cache = LoginCache::new(100);
        cache.insert(a, &good(1500), Unix(1000));
        cache.clock_was_set(900);
        assert!(cache.get(a, Unix(1901)).is_none());
    }

    #[test]
    fn what_nobody_has_heard_is_kept_for_one_who_comes_back() {
        let key = Fingerprinter::new().unwrap().of(b"a");
        let mut none = LoginCache::new(0);
        none.insert(key, &good(9000), Unix(1000));
        assert!(none.get(key, Unix(1000)).is_none());
        let last = Unix(1000 + UNDELIVERED - 1);
        for (when, known) in [
            (Unix(1000), true),
            (last, true),
            (Unix(1000 + UNDELIVERED), false),
        ] {
            none.insert_until_delivered(key, &good(9000), Unix(1000));
            assert_eq!(none.get(key, when).is_some(), known, "{when:?}");
            assert!(none.get(key, when).is_none(), "once");
        }

        let mut brief = LoginCache::new(5);
        brief.insert_until_delivered(key, &good(9000), Unix(1000));
        assert!(brief.get(key, Unix(1003)).is_some());
        assert!(brief.get(key, Unix(1004)).is_some(), "as any other");
        assert!(brief.get(key, Unix(1005)).is_none());
        brief.insert_until_delivered(key, &good(9000), Unix(1000));
        assert!(brief.get(key, Unix(1030)).is_some());
        assert!(brief.get(key, Unix(1030)).is_none());

        let mut long = LoginCache::new(100);
        long.insert_until_delivered(key, &good(9000), Unix(1000));
        assert!(long.get(key, Unix(1099)).is_some() && long.get(key, Unix(1099)).is_some());
        none.insert_until_delivered(key, &bad(Reason::LoginRefused), Unix(1000));
        assert!(none.get(key, Unix(1001)).is_some() && none.get(key, Unix(1001)).is_some());
    }

    #[test]
    fn of_refusals_only_a_wrong_password_is_kept_and_briefly() {
        let prints = Fingerprinter::new().unwrap();
        let key = prints.of(b"a");
        let mut cache = LoginCache::new(100);
        for reason in Reason::ALL {
            cache.insert(key, &bad(*reason), Unix(1000));
            let kept = cache.get(key, Unix(1001)).is_some();
            assert_eq!(kept, *reason == Reason::LoginRefused, "{}", reason.code());
            cache.entries.remove(key);
        }
        cache.insert(key, &bad(Reason::LoginRefused), Unix(1000));
        assert!(cache.get(key, Unix(1000 + REFUSED)).is_none());
        cache.insert(key, &bad(Reason::LoginRefused), Unix(1000));
        cache.insert(key, &good(9000), Unix(1001));
        assert!(
            cache.get(key, Unix(1002)).unwrap().is_ok(),
            "the newer answer counts"
        );
    }
}
