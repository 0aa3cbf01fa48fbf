//! Tokens whose signature was good: so that a fleet that comes back at once costs no signature
//! checks.
//!
//! Only good tokens are kept, by their keyed fingerprint, and no longer than they are good. A token
//! was good under a set of keys: when the tenant's set is another one, its key may be the one that
//! was withdrawn, and the token is checked again.

use std::sync::Arc;

use super::{Terms, expiring::Expiring};
use crate::{clock::Unix, keys::KeySet, secret::Fingerprint};

/// How many seconds a token is remembered after its client has gone: long enough for a network that
/// comes back, short enough that a fleet that is gone leaves nothing behind.
const AFTER_LEAVING: u64 = 60;

/// The memory.
#[derive(Default)]
pub struct Verified(Expiring<(Terms, Arc<KeySet>)>);

impl Verified {
    /// What a token is good for, if it was good under these very keys.
    /// Whoever brings it is about to come back, so it is remembered to its end again.
    pub fn recall(&mut self, token: Fingerprint, keys: &Arc<KeySet>, now: Unix) -> Option<Terms> {
        let (terms, under) = self.0.get(token, now)?;
        let terms = Arc::ptr_eq(under, keys).then(|| terms.clone())?;
        self.0.end_at(token, terms.until);
        Some(terms)
    }

    /// Remembers a token that is good under these keys.
    pub fn remember(&mut self, token: Fingerprint, terms: &Terms, keys: Arc<KeySet>, now: Unix) {
        self.0
            .insert(token, (terms.clone(), keys), terms.until, now);
    }

    /// The client that came with this token has gone.
    pub fn release(&mut self, token: Fingerprint, now: Unix) {
        self.0.end_by(token, now.plus(AFTER_LEAVING));
    }

    /// Forgets what has ended; whether that was much.
    pub fn forget_old(&mut self, now: Unix) -> bool {
        self.0.forget_old(now)
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Account;
    use crate::secret::Fingerprinter;

    fn terms() -> Terms {
        Terms {
            username: "u".into(),
            account: Account {
                issuer: "https://tenant.example/".into(),
                subject: "u".into(),
            },
            client_ids: None,
            grants: Default::default(),
            claims: None,
            until: Unix(2000),
        }
    }

    #[test]
    fn a_token_is_known_as_long_as_it_is_good_under_the_same_keys() {
        let token = Fingerprinter::new().unwrap().of(b"token");
        let (keys, others) = (Arc::new(KeySet::default()), Arc::new(KeySet::default()));
        let terms = terms();
        let mut verified = Verified::default();
        verified.remember(token, &terms, Arc::clone(&keys), Unix(1000));
        assert!(verified.recall(token, &keys, Unix(1999)).is_some());
        assert!(verified.recall(token, &others, Unix(1999)).is_none());
        assert!(verified.recall(token, &keys, Unix(2000)).is_none());

        verified.remember(token, &terms, Arc::clone(&keys), Unix(1000));
        verified.release(token, Unix(1000));
        verified.forget_old(Unix(1059));
        assert!(!verified.is_empty());
        verified.forget_old(Unix(1060));
        assert!(verified.is_empty());
    }

    #[test]
    fn who_came_back_is_known_when_the_network_fails_again() {
        let token = Fingerprinter::new().unwrap().of(b"token");
        let keys = Arc::new(KeySet::default());
        let terms = terms();
        let mut verified = Verified::default();
        verified.remember(token, &terms, Arc::clone(&keys), Unix(1000));
        verified.release(token, Unix(1000));
        assert!(verified.recall(token, &keys, Unix(1010)).is_some());
        assert!(verified.recall(token, &keys, Unix(1999)).is_some());
        assert!(verified.recall(token, &keys, Unix(2000)).is_none());
    }
}
