//! Remembers what the tenant said about a user name and password. So a device that reconnects costs no request, and
//! comes in while the tenant is unreachable.
//!
//! The key is a keyed fingerprint, so the cache gives no password away. A good result is kept until its token expires,
//! or for `login_cache` seconds if that is shorter. Of the refusals only a wrong password is kept, and only briefly,
//! because it may be corrected at any time.

use super::expiring::ExpiringMap;
use crate::{
    clock::Unix,
    identity::{Identity, Verdict},
    refusal::{Reason, Refusal},
    secret::Fingerprint,
};

/// How many seconds a wrong password counts as wrong without asking the tenant.
const REFUSED: u64 = 10;

/// How many seconds a good result is kept for a device that was refused before it came. A device that sleeps between
/// two tries comes back after minutes.
const UNDELIVERED: u64 = 15 * 60;

/// The cache.
pub(crate) struct LoginCache {
    keep: u64,
    entries: ExpiringMap<CachedLogin>,
}

struct CachedLogin {
    verdict: Verdict,
    /// When it ends after it was delivered, if it is kept for longer until then.
    after_delivery: Option<Unix>,
}

impl LoginCache {
    /// Returns an empty cache that keeps good results at most `keep` seconds; 0 keeps none.
    pub(crate) fn new(keep: u64) -> Self {
        Self {
            keep,
            entries: ExpiringMap::default(),
        }
    }

    /// Returns what is known about this login.
    pub(crate) fn get(&mut self, key: Fingerprint, now: Unix) -> Option<Verdict> {
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

    /// Keeps a verdict, if it is of a kind that is kept.
    pub(crate) fn insert(&mut self, key: Fingerprint, verdict: &Verdict, now: Unix) {
        self.keep_for(self.keep, key, verdict, now);
    }

    /// Keeps a verdict until its device comes back, even if the cache is off. It is delivered once; then it is as old
    /// as any other.
    pub(crate) fn insert_until_delivered(
        &mut self,
        key: Fingerprint,
        verdict: &Verdict,
        now: Unix,
    ) {
        self.keep_for(self.keep.max(UNDELIVERED), key, verdict, now);
    }

    /// Forgets a login at this time, if it would be kept for longer.
    pub(crate) fn end_by(&mut self, key: Fingerprint, end: Unix) {
        self.entries.end_by(key, end);
    }

    /// Forgets the good results for these identities. Returns how many.
    pub(crate) fn forget(&mut self, is_meant: impl Fn(&Identity) -> bool) -> usize {
        self.entries
            .remove_where(|known| known.verdict.as_ref().is_ok_and(&is_meant))
    }

    /// Returns how many results are kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes what has ended. Returns whether that was much.
    pub(crate) fn remove_expired(&mut self, now: Unix) -> bool {
        self.entries.remove_expired(now)
    }

    /// Adjusts to a clock that was set by this many seconds: what is kept lasts as long as before. A token still ends
    /// when its tenant said.
    pub(crate) fn clock_was_set(&mut self, by: i64) {
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
    use crate::cache::test_identity;
    use crate::refusal::ConnectDetail;
    use crate::secret::Fingerprinter;

    fn good(until: u64) -> Verdict {
        Ok(test_identity(Unix(until)))
    }

    fn bad(reason: Reason) -> Verdict {
        Err(Refusal::new(reason, ConnectDetail::NoPassword))
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
    fn setting_the_clock_does_not_change_how_long_an_answer_is_cached() {
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
        // By the new time its token has ended.
        let mut cache = LoginCache::new(100);
        cache.insert(a, &good(1500), Unix(1000));
        cache.clock_was_set(900);
        assert!(cache.get(a, Unix(1901)).is_none());
    }

    #[test]
    fn an_undelivered_answer_is_kept_for_the_next_try() {
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
    fn only_wrong_passwords_are_cached_as_refusals_and_briefly() {
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
