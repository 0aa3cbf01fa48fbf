//! Remembers tokens that were verified. So a fleet that comes back at once costs no signature checks.
//!
//! Only valid tokens are kept, by their keyed fingerprint, until they expire. A token was verified with one set of
//! keys. When the tenant has another set, the key of the token may be the one that was withdrawn, so the token is
//! verified again.

use std::sync::Arc;

use super::expiring::ExpiringMap;
use crate::{
    account::IssuerNumber, clock::Unix, decision_log::record::TokenId, identity::Identity,
    jwt::jwks::KeySet, secret::Fingerprint,
};

/// How many seconds a token is kept after its client has gone. That is long enough for a network that comes back, and
/// short enough that a fleet that has gone leaves nothing behind.
const AFTER_LEAVING: u64 = 60;

/// The cache.
#[derive(Default)]
pub(crate) struct TokenCache(ExpiringMap<(Identity, Arc<KeySet>)>);

impl TokenCache {
    /// Returns the identity in a token, if it was verified with the keys that its issuer has now. Its client is about
    /// to come back, so the token is kept until it expires again.
    pub(crate) fn get(
        &mut self,
        token: Fingerprint,
        keys_of: impl FnOnce(IssuerNumber) -> Arc<KeySet>,
        now: Unix,
    ) -> Option<Identity> {
        let (identity, under) = self.0.get(token, now)?;
        let is_current = Arc::ptr_eq(under, &keys_of(identity.issuer));
        let identity = is_current.then(|| identity.clone())?;
        self.0.end_at(token, identity.until);
        Some(identity)
    }

    /// Returns what the decision log calls this token, if it is known.
    pub(crate) fn token_id(&self, token: Fingerprint) -> Option<TokenId> {
        self.0.peek(token)?.0.token_id
    }

    /// Keeps a token that was verified with these keys.
    pub(crate) fn insert(
        &mut self,
        token: Fingerprint,
        identity: &Identity,
        keys: Arc<KeySet>,
        now: Unix,
    ) {
        self.0
            .insert(token, (identity.clone(), keys), identity.until, now);
    }

    /// Keeps a token for a short time only, because its client has gone.
    pub(crate) fn client_left(&mut self, token: Fingerprint, now: Unix) {
        self.0.end_by(token, now.plus(AFTER_LEAVING));
    }

    /// Forgets the tokens of these identities. Returns how many.
    pub(crate) fn forget(&mut self, is_meant: impl Fn(&Identity) -> bool) -> usize {
        self.0.remove_where(|(identity, _)| is_meant(identity))
    }

    /// Removes what has ended. Returns whether that was much.
    pub(crate) fn remove_expired(&mut self, now: Unix) -> bool {
        self.0.remove_expired(now)
    }

    /// Returns how many tokens are kept.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::test_identity;
    use crate::secret::Fingerprinter;

    #[test]
    fn a_token_is_known_as_long_as_it_is_good_under_the_same_keys() {
        let token = Fingerprinter::new().unwrap().of(b"token");
        let (keys, others) = (Arc::new(KeySet::default()), Arc::new(KeySet::default()));
        let id = Some(TokenId([1; 8]));
        let identity = Identity {
            token_id: id,
            ..test_identity(Unix(2000))
        };
        let mut cache = TokenCache::default();
        assert_eq!(cache.token_id(token), None);
        cache.insert(token, &identity, Arc::clone(&keys), Unix(1000));
        assert_eq!(cache.token_id(token), id);
        assert!(cache.get(token, |_| keys.clone(), Unix(1999)).is_some());
        assert!(cache.get(token, |_| others.clone(), Unix(1999)).is_none());
        assert!(cache.get(token, |_| keys.clone(), Unix(2000)).is_none());

        cache.insert(token, &identity, Arc::clone(&keys), Unix(1000));
        cache.client_left(token, Unix(1000));
        cache.remove_expired(Unix(1059));
        assert!(!cache.is_empty());
        cache.remove_expired(Unix(1060));
        assert!(cache.is_empty());
    }

    #[test]
    fn a_token_stays_cached_after_its_client_came_back() {
        let token = Fingerprinter::new().unwrap().of(b"token");
        let keys = Arc::new(KeySet::default());
        let identity = test_identity(Unix(2000));
        let mut cache = TokenCache::default();
        cache.insert(token, &identity, Arc::clone(&keys), Unix(1000));
        cache.client_left(token, Unix(1000));
        assert!(cache.get(token, |_| keys.clone(), Unix(1010)).is_some());
        assert!(cache.get(token, |_| keys.clone(), Unix(1999)).is_some());
        assert!(cache.get(token, |_| keys.clone(), Unix(2000)).is_none());
    }
}
