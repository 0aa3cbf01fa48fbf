//! Key sets. The judge reads each entry alone, and expects of the whole what follows from that.

use auth::{fuzzing::jwks_of, jwt::jwks::KeySet};
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

/// One entry that is usable alone.
struct Entry {
    json: Value,
    /// The set of this key alone.
    alone: KeySet,
    /// The key as it is written anew.
    written: Value,
}

impl Entry {
    fn read(json: &Value) -> Option<Self> {
        let alone = KeySet::parse(json!({ "keys": [json] }).to_string().as_bytes()).ok()?;
        assert_eq!(alone.len(), 1, "{json}");
        let Value::Array(mut written) = jwks_of(&alone)["keys"].take() else {
            panic!("no array")
        };
        Some(Self {
            json: json.clone(),
            alone,
            written: written.remove(0),
        })
    }

    /// Whether both are the same key under the same name for the same algorithms.
    fn is(&self, other: &Self) -> bool {
        self.written == other.written
    }

    /// Whether a token could mean either, and the two differ.
    fn conflicts_with(&self, other: &Self) -> bool {
        let of = |entry: &Self| {
            let (kid, algorithms) = entry.alone.names().next().expect("a key");
            (kid.map(str::to_owned), algorithms)
        };
        let ((kid, algorithms), (other_kid, other_algorithms)) = (of(self), of(other));
        let number = |name: &str| self.written.get(name) != other.written.get(name);
        kid == other_kid
            && algorithms.iter().any(|one| other_algorithms.contains(one))
            && ["kty", "crv", "n", "e", "x", "y"].into_iter().any(number)
    }
}

/// Takes a key set. Returns whether it was usable.
pub(crate) fn key_set(input: &[u8]) -> bool {
    let set = KeySet::parse(input);
    if let Err(why) = &set {
        let said = why.to_string();
        assert!(
            !said.is_empty() && !said.contains(char::is_control),
            "{said:?}"
        );
    }
    // The members of one object may have the same name for `serde_json`, and not for us.
    let Ok(document) = input::json::object(input) else {
        assert!(set.is_err());
        return false;
    };
    let Some(Value::Array(keys)) = document.get("keys") else {
        assert!(set.is_err());
        return false;
    };
    // The most that are read (`MAX_KEYS`).
    if keys.len() > 64 {
        assert!(set.is_err());
        return false;
    }
    let mut good: Vec<Entry> = Vec::new();
    for key in keys {
        let Some(entry) = Entry::read(key) else {
            continue;
        };
        judge(&entry);
        if !good.iter().any(|one| one.is(&entry)) {
            good.push(entry);
        }
    }
    let expected: Vec<&Entry> = good
        .iter()
        .filter(|one| !good.iter().any(|other| other.conflicts_with(one)))
        .collect();
    assert_eq!(set.is_ok(), !expected.is_empty(), "{keys:?}");
    let Ok(set) = set else {
        return false;
    };
    let of = |keys: Vec<&Value>| {
        let again = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
        again.expect("the same usable keys")
    };
    assert_eq!(set.len(), expected.len());
    let those = of(expected.iter().map(|entry| &entry.json).collect());
    assert!(
        set.has_same_keys(&those),
        "what is bad costs nothing else: {keys:?}"
    );
    let backwards = of(keys.iter().rev().collect());
    assert!(set.has_same_keys(&backwards), "in any order: {keys:?}");
    let written = of(jwks_of(&set)["keys"]
        .as_array()
        .expect("an array")
        .iter()
        .collect());
    assert!(
        set.has_same_keys(&written) && written.ignored().is_empty(),
        "{keys:?}"
    );
    for ignored in set.ignored() {
        assert!(
            !ignored.to_string().contains(char::is_control),
            "{ignored:?}"
        );
    }
    true
}

/// What holds for each key that is usable.
fn judge(entry: &Entry) {
    let jwk = &entry.json;
    assert!(
        jwk.get("d").is_none_or(Value::is_null),
        "a private key: {jwk}"
    );
    assert!(jwk["kty"] != "oct", "a secret: {jwk}");
    assert!(
        jwk.get("use")
            .is_none_or(|purpose| purpose.is_null() || purpose == "sig"),
        "{jwk}"
    );
    let (kid, algorithms) = entry.alone.names().next().expect("a key");
    assert!(!algorithms.is_empty());
    for algorithm in algorithms {
        assert!(
            entry.alone.find(kid, algorithm).is_ok(),
            "{algorithm:?} {jwk}"
        );
    }
    let theirs = serde_json::from_value(entry.written.clone()).expect("a JWK");
    assert!(
        DecodingKey::from_jwk(&theirs).is_ok(),
        "jsonwebtoken: {}",
        entry.written
    );
}
