//! The tenant's signing keys and their life cycle: next, current, previous, revoked.

use std::sync::Arc;

use serde_json::Value;

use crate::json::Members;
use crate::signing::{SigningKey, random_kid, shared_key};

/// The keys of a tenant. Auth0 lists "always the current key and the next key", and previous ones until they
/// are revoked (Auth0 docs, Rotate Signing Keys).
#[derive(Debug)]
pub(super) struct KeyRing {
    pub(super) current: Arc<SigningKey>,
    pub(super) next: Arc<SigningKey>,
    pub(super) previous: Vec<Arc<SigningKey>>,
    origin: KeyOrigin,
    published: Option<String>,
}

#[derive(Debug)]
enum KeyOrigin {
    /// The index of the next shared key.
    TenantShared(usize),
    Fresh,
}

impl KeyOrigin {
    fn draw(&mut self) -> Arc<SigningKey> {
        match self {
            Self::TenantShared(nth) => {
                *nth += 1;
                shared_key(*nth - 1)
            }
            Self::Fresh => Arc::new(SigningKey::generate(&random_kid())),
        }
    }
}

impl KeyRing {
    pub(super) fn new(fresh: bool) -> Self {
        let mut origin = if fresh {
            KeyOrigin::Fresh
        } else {
            KeyOrigin::TenantShared(0)
        };
        Self {
            current: origin.draw(),
            next: origin.draw(),
            previous: Vec::new(),
            origin,
            published: None,
        }
    }

    /// Makes the next key the current one and the current key a previous one, and adds a new next key.
    pub(super) fn rotate(&mut self) {
        let new = self.origin.draw();
        let promoted = std::mem::replace(&mut self.next, new);
        self.demote(promoted);
    }

    /// Replaces the current key by one that no JWKS has contained before.
    pub(super) fn rotate_unannounced(&mut self) {
        let new = self.origin.draw();
        self.demote(new);
    }

    fn demote(&mut self, successor: Arc<SigningKey>) {
        let old = std::mem::replace(&mut self.current, successor);
        self.previous.insert(0, old);
    }

    pub(super) fn revoke_previous(&mut self) {
        self.previous.clear();
    }

    /// Publishes this text instead of the keys, or the keys again.
    pub(super) fn publish(&mut self, text: Option<String>) {
        self.published = text;
    }

    /// Returns the body of the JWKS.
    pub(super) fn jwks(&self, with_alg: bool) -> String {
        if let Some(text) = &self.published {
            return text.clone();
        }
        let keys = [&self.current, &self.next]
            .into_iter()
            .chain(&self.previous);
        let keys: Vec<String> = keys
            .map(|key| {
                let mut jwk: Members = key.jwk_members();
                if !with_alg {
                    jwk.remove("alg");
                }
                jwk.to_string()
            })
            .collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    /// Returns the JWKS as a value, for changing it.
    pub(super) fn jwks_value(&self, with_alg: bool) -> Value {
        serde_json::from_str(&self.jwks(with_alg)).unwrap_or_default()
    }
}
