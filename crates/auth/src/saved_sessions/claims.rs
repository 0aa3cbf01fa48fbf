//! The claims of a token that decide about rights, as they are saved.
//!
//! Most are the same in the tokens of many devices, and are saved once. Others tell one device from the next, such as
//! the one that a placeholder names: these are saved with the session, if they are short. Saved claims also say which
//! claims the token did not have, because a rule that denies may ask for one.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{account::Account, secret::sha256};
use acl::interner::Interner;
use input::json;

/// The longest value that is saved with the session, in bytes.
const MAX_OWN: usize = 128;

/// The hash by which sessions name claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClaimsHash(pub(super) [u8; 8]);

/// Claims that sessions share.
#[derive(Debug)]
pub(crate) struct SharedClaims {
    pub(super) hash: ClaimsHash,
    /// JSON: the issuer, the claims, the names of those that are saved with the session, and of those that are missing.
    pub(super) text: Box<str>,
}

/// What [`SharedClaims`] say.
#[derive(Debug)]
pub(super) struct ParsedClaims {
    pub(super) issuer: Arc<str>,
    shared: Arc<Map<String, Value>>,
    own: Vec<String>,
    /// The names of all claims about which they say something.
    known: BTreeSet<String>,
}

/// The claims of one session.
#[derive(Clone, Debug)]
pub(crate) struct SavedClaims {
    pub(super) shared: Arc<SharedClaims>,
    /// JSON: an array of the values of the claims that are saved with the session. Empty if there are none.
    pub(super) own: Box<str>,
}

impl SavedClaims {
    /// Picks what has to be saved of a token's claims: `counting` are the names of those that [`acl::claims`] reads,
    /// `named` those that rules depend on.
    pub(crate) fn pick(
        claims: &Map<String, Value>,
        account: &Account,
        counting: BTreeSet<String>,
        named: BTreeSet<String>,
        interner: &mut Interner<SharedClaims>,
    ) -> Self {
        let (mut shared, mut own_names, mut own, mut missing) =
            (Map::new(), Vec::new(), Vec::new(), Vec::new());
        for name in counting.union(&named) {
            match claims.get(name) {
                None => missing.push(name.as_str()),
                Some(value) if !counting.contains(name) && is_own(value) => {
                    own_names.push(name.as_str());
                    own.push(value);
                }
                Some(value) => drop(shared.insert(name.clone(), value.clone())),
            }
        }
        let text =
            json!({ "iss": *account.issuer, "claims": shared, "own": own_names, "none": missing });
        let text = text.to_string();
        let made = interner.obtain(&text, || {
            Ok::<_, std::convert::Infallible>(SharedClaims::new(text.as_str()))
        });
        let Ok(shared) = made;
        let own = match own.is_empty() {
            true => Box::default(),
            false => json!(own).to_string().into(),
        };
        Self { shared, own }
    }
}

/// Whether a claim that rules name, and that does not count by itself, is saved with the session.
fn is_own(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= MAX_OWN,
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::Array(_) | Value::Object(_) => false,
    }
}

impl SharedClaims {
    pub(super) fn new(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        let digest = sha256(text.as_bytes());
        let (hash, _) = digest.split_first_chunk().expect("there are 32");
        Self {
            hash: ClaimsHash(*hash),
            text,
        }
    }
}

impl ParsedClaims {
    /// Returns what a text says. `None` if it is not what [`SavedClaims::pick`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut members = json::object(text.as_bytes()).ok()?;
        let issuer = members.get("iss")?.as_str()?.into();
        let own = names(members.get("own")?)?;
        let missing = names(members.get("none")?)?;
        let Value::Object(shared) = members.remove("claims")? else {
            return None;
        };
        let known = shared.keys().chain(&own).chain(&missing).cloned();
        Some(Self {
            issuer,
            known: known.collect(),
            shared: Arc::new(shared),
            own,
        })
    }

    /// Whether the claim with this name is saved with the session.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name)
    }

    /// Whether they say something about all claims with these names.
    pub(super) fn cover<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> bool {
        names.into_iter().all(|name| self.known.contains(name))
    }

    /// Returns the claims of a session that has these values for itself. `None` if they do not fit.
    pub(super) fn with_own(&self, own: &str) -> Option<Arc<Map<String, Value>>> {
        if self.own.is_empty() && own.is_empty() {
            return Some(Arc::clone(&self.shared));
        }
        let Value::Array(values) = json::value(own).ok()? else {
            return None;
        };
        if values.len() != self.own.len() {
            return None;
        }
        let mut all = (*self.shared).clone();
        all.extend(self.own.iter().cloned().zip(values));
        Some(Arc::new(all))
    }
}

fn names(list: &Value) -> Option<Vec<String>> {
    let names = list.as_array()?.iter();
    names.map(|name| Some(name.as_str()?.to_owned())).collect()
}
