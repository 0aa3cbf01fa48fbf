//! The tenant's signing keys and their life: next, current, previous, revoked.

use std::sync::Arc;

use serde_json::Value;

use crate::json::Members;
use crate::signing::{RsaKey, random_kid, shared_key};

/// Auth0 lists "always the current key and the next key", and previous ones until they are revoked
/// (Auth0 docs, Rotate Signing Keys).
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) current: Arc<RsaKey>,
    pub(super) next: Arc<RsaKey>,
    pub(super) previous: Vec<Arc<RsaKey>>,
    source: Source,
    published: Option<String>,
}

#[derive(Debug)]
enum Source {
    /// The index of the next shared key.
    Shared(usize),
    Fresh,
}

impl Source {
    fn draw(&mut self) -> Arc<RsaKey> {
        match self {
            Self::Shared(nth) => {
                *nth += 1;
                shared_key(*nth - 1)
            }
            Self::Fresh => Arc::new(RsaKey::generate(&random_kid())),
        }
    }
}

impl Ring {
    pub(super) fn new(fresh: bool) -> Self {
        let mut source = if fresh {
            Source::Fresh
        } else {
            Source::Shared(0)
        };
        Self {
            current: source.draw(),
            next: source.draw(),
            previous: Vec::new(),
            source,
            published: None,
        }
    }

    /// Next becomes current, current becomes previous, and a new next is made.
    pub(super) fn rotate(&mut self) {
        let new = self.source.draw();
        let promoted = std::mem::replace(&mut self.next, new);
        self.demote(promoted);
    }

    /// The current key is replaced by one that no JWKS has shown before.
    pub(super) fn rotate_unannounced(&mut self) {
        let new = self.source.draw();
        self.demote(new);
    }

    fn demote(&mut self, successor: Arc<RsaKey>) {
        let old = std::mem::replace(&mut self.current, successor);
        self.previous.insert(0, old);
    }

    pub(super) fn revoke_previous(&mut self) {
        self.previous.clear();
    }

    /// Publishes this text instead of the ring, or the ring again.
    pub(super) fn publish(&mut self, text: Option<String>) {
        self.published = text;
    }

    /// The body of the JWKS.
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

    /// The JWKS as a value, for changing it.
    pub(super) fn jwks_value(&self, with_alg: bool) -> Value {
        serde_json::from_str(&self.jwks(with_alg)).unwrap_or_default()
    }
}
