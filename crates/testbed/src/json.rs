//! A JSON object whose members keep their order.
//!
//! Auth0's responses and tokens have a fixed order. `serde_json`'s map sorts, and its feature
//! `preserve_order` would change the plugin under test as well.

use std::fmt;

use serde_json::Value;

/// An ordered JSON object. `Display` writes it compactly, as Auth0 does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(Vec<(String, Value)>);

impl Members {
    /// Returns an object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns this object with one more member. See [`Members::set`].
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Replaces a member in its place, or adds it at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Adds a member at the end even when the name exists: RFC 8259 section 4 only says that names SHOULD be
    /// unique, so a forger may repeat them.
    pub fn repeat(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Removes every member with this name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Returns the first member with this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// Returns the members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl fmt::Display for Members {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("{")?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{}:{value}", Value::from(name.as_str()))?;
        }
        out.write_str("}")
    }
}

impl From<&Members> for Value {
    fn from(members: &Members) -> Self {
        let pairs = members.iter();
        Value::Object(pairs.map(|(k, v)| (k.to_owned(), v.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_keep_their_order_in_compact_text() {
        let members = Members::new()
            .with("z", 1)
            .with("a", json!(["\"", null]))
            .with("z", true);
        assert_eq!(members.to_string(), r#"{"z":true,"a":["\"",null]}"#);
        assert_eq!(Value::from(&members), json!({"a": ["\"", null], "z": true}));
    }

    #[test]
    fn members_can_be_repeated_and_removed() {
        let mut members = Members::new().with("alg", "RS256");
        members.repeat("alg", "none");
        assert_eq!(members.to_string(), r#"{"alg":"RS256","alg":"none"}"#);
        members.remove("alg");
        assert_eq!(members.to_string(), "{}");
    }
}
