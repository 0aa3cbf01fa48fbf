//! Which key signed the token of each session, and what follows when the tenant revokes the key.
//!
//! A session has the number of its key. A key gets one when it signs a token that counts, by what it is, and not by its
//! name: a key that comes back under another name is the same, and one that takes the name of another is not.
//!
//! A key is revoked when a key set that was fetched does not have it, or the file of keys when it is read again. No
//! other set proves anything: a failed fetch brings none, a set that was restored from disk may be old, and keys that
//! are dropped because they are stale may still be good. The secret for HS256 counts as a key: it is revoked when it is
//! replaced.

use std::sync::Arc;

use super::{Common, Engine, issuers::Issuer, report::Report};
use crate::{
    account::IssuerNumber,
    clock::Unix,
    identity::SigningKey,
    jwt::{
        jwks::{KeyMark, KeySet},
        jws::SignedBy,
    },
};

/// The keys that signed tokens which count, and what they were compared with.
#[derive(Default)]
pub(super) struct SigningKeys {
    /// The newest number.
    last: u16,
    numbered: Vec<(IssuerNumber, SignedBy, SigningKey)>,
    /// What they were compared with, by issuer.
    compared: Vec<Compared>,
}

/// What the keys of one issuer are compared with.
struct Compared {
    set: Option<Arc<KeySet>>,
    secret: Option<SignedBy>,
}

impl Compared {
    /// Whether these are the same, without a look at the keys.
    fn is(&self, other: &Self) -> bool {
        let same_set = match (&self.set, &other.set) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_set && self.secret == other.secret
    }

    fn has(&self, key: SignedBy) -> bool {
        match key {
            SignedBy::Key(mark) => self.set.as_ref().is_none_or(|set| set.has(mark)),
            SignedBy::Secret(_) => self.secret == Some(key),
        }
    }
}

impl SigningKeys {
    /// Returns the number of a key that has signed a token.
    pub(super) fn number(&mut self, issuer: IssuerNumber, signed_by: SignedBy) -> SigningKey {
        let mut numbered = self.numbered.iter();
        let known = numbered.find(|(of, key, _)| *of == issuer && *key == signed_by);
        if let Some((.., number)) = known {
            return *number;
        }
        // There are as many keys at a time as the tenant publishes, so a number is free again when it comes round.
        self.last = self.last.wrapping_add(1);
        let number = SigningKey(self.last);
        self.numbered.push((issuer, signed_by, number));
        number
    }

    /// Returns the key with this number.
    fn named(&self, number: SigningKey) -> Option<SignedBy> {
        let mut numbered = self.numbered.iter();
        let found = numbered.find(|(.., one)| *one == number);
        found.map(|(_, key, _)| *key)
    }

    /// Takes the keys that are not among these.
    fn take_revoked(&mut self, now: Vec<Compared>) -> Vec<SigningKey> {
        let (before, same) = (self.compared.iter(), now.len() == self.compared.len());
        if same && before.zip(&now).all(|(before, now)| before.is(now)) {
            return Vec::new();
        }
        let is_revoked = |of: IssuerNumber, key| !now[of.place()].has(key);
        let numbered = &mut self.numbered;
        let revoked = numbered.extract_if(.., |(of, key, _)| is_revoked(*of, *key));
        let revoked = revoked.map(|(.., number)| number).collect();
        self.compared = now;
        revoked
    }
}

impl Issuer {
    /// Returns what its keys are compared with now.
    fn keys_in_force(&self) -> Compared {
        let secret = self.requirements.secret.as_ref();
        Compared {
            set: self.keys.confirmed(),
            secret: secret.map(|secret| secret.mark()),
        }
    }
}

impl Engine {
    /// Ends the rights of the sessions whose signing key was revoked since the last call. [`Self::expire`] returns the
    /// clients that are connected.
    pub fn follow_keys(&mut self, common: &mut Common, now: Unix) {
        let issuers = self.issuers.iter();
        let in_force = issuers.map(Issuer::keys_in_force).collect();
        let revoked = self.signing_keys.take_revoked(in_force);
        if revoked.is_empty() {
            return;
        }
        // Tokens are remembered with the set of keys that verified them, so none of them counts any more.
        self.login_cache
            .forget(|identity| revoked.contains(&identity.signing_key));
        let stay = self.config.keeps_revoked;
        let clients = match stay {
            true => common.sessions.count_admitted_by(self.id, &revoked),
            false => common.sessions.end_admitted_by(self.id, &revoked, now),
        };
        if clients > 0 {
            self.tell(&Report::KeyRevoked { clients, stay });
        }
    }

    /// Returns what to save of a key over a restart. `None` for the secret for HS256: a mark of it on disk would let
    /// whoever reads the file try secrets.
    pub(super) fn mark_to_save(&self, key: SigningKey) -> Option<u64> {
        match self.signing_keys.named(key)? {
            SignedBy::Key(KeyMark(mark)) => Some(mark),
            SignedBy::Secret(_) => None,
        }
    }

    /// Returns the number of the key of a session that was saved, and whether its rights end because the key is revoked
    /// by now.
    pub(super) fn saved_key(&mut self, mark: u64, issuer: IssuerNumber) -> (SigningKey, bool) {
        let key = SignedBy::Key(KeyMark(mark));
        let in_force = self.issuers[issuer].keys_in_force();
        let is_revoked = !self.config.keeps_revoked && !in_force.has(key);
        (self.signing_keys.number(issuer, key), is_revoked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(number: u64) -> SignedBy {
        SignedBy::Secret(number)
    }

    fn in_force(number: u64) -> Vec<Compared> {
        vec![Compared {
            set: None,
            secret: Some(secret(number)),
        }]
    }

    #[test]
    fn a_key_has_one_number_until_it_is_withdrawn() {
        let mut keys = SigningKeys::default();
        let first = keys.number(IssuerNumber::default(), secret(1));
        assert_eq!(keys.number(IssuerNumber::default(), secret(1)), first);
        assert!(keys.take_revoked(in_force(1)).is_empty());
        let second = keys.number(IssuerNumber::default(), secret(2));
        assert_ne!(first, second);
        assert_eq!(keys.take_revoked(in_force(2)), [first]);
        assert!(keys.take_revoked(in_force(2)).is_empty());
        assert_ne!(
            keys.number(IssuerNumber::default(), secret(1)),
            first,
            "it is another one when it comes back"
        );
    }
}
