//! The profile claim `topics`: from what a tenant wrote into a token to [`Grants`].

use std::fmt;

use serde_json::Value;

use super::{
    Grants,
    filter::{self, Malformed},
};
use crate::text::Quoted;

/// Why a claim gives no grants at all: one bad entry refuses the whole token, because an operator
/// who made one mistake should see it, not a device that half works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTopics {
    /// Neither an array nor a string.
    Type(&'static str),
    /// An element of the array is not a string.
    Element {
        /// Its place, from 0.
        index: usize,
        /// What it is instead.
        found: &'static str,
    },
    /// An entry is not a topic filter.
    Filter {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        why: Malformed,
    },
}

impl fmt::Display for BadTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(found) => write!(f, "it is {found}, not an array of topic filters"),
            Self::Element { index, found } => {
                write!(f, "its element {index} is {found}, not a string")
            }
            Self::Filter { entry, why } => write!(f, "the entry {} {why}", Quoted(entry)),
        }
    }
}

/// Reads the claim: an array of filters, or a string of filters split on spaces and commas (what
/// client metadata in Auth0 can hold, whose values are strings).
///
/// The number of entries needs no limit of its own: the token that holds them has one.
pub fn topics(claim: &Value) -> Result<Grants, BadTopics> {
    let mut grants = Grants::default();
    let mut add = |entry: &str| {
        filter::check_grant(entry).map_err(|why| BadTopics::Filter {
            entry: entry.into(),
            why,
        })?;
        grants.insert(entry);
        Ok(())
    };
    match claim {
        Value::Array(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                add(entry.as_str().ok_or(BadTopics::Element {
                    index,
                    found: kind(entry),
                })?)?;
            }
        }
        Value::String(list) => {
            for entry in list.split([' ', ',']).filter(|entry| !entry.is_empty()) {
                add(entry)?;
            }
        }
        other => return Err(BadTopics::Type(kind(other))),
    }
    Ok(grants)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_article_s_array_and_the_string_form_grant_the_same() {
        for claim in [
            json!(["temperature", "config"]),
            json!("temperature config"),
            json!("temperature,config"),
            json!(", temperature ,  config,"),
        ] {
            let grants = topics(&claim).unwrap();
            assert_eq!(grants.len(), 2, "{claim}");
            assert!(grants.match_topic("temperature") && grants.cover_subscription("config"));
            assert!(!grants.match_topic("temperature/x") && !grants.match_topic("Temperature"));
        }
    }

    #[test]
    fn an_empty_list_grants_nothing_and_is_no_error() {
        assert!(topics(&json!([])).unwrap().is_empty());
        assert!(topics(&json!("")).unwrap().is_empty());
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for (claim, text) in [
            (json!(null), "it is null"),
            (json!(7), "it is a number"),
            (json!({"publish": ["a"]}), "it is an object"),
            (json!(["a", 7]), "its element 1 is a number"),
            (json!(["a", ["b"]]), "its element 1 is an array"),
            (json!(["a", "a/#/b"]), "the entry 'a/#/b' has a `#`"),
            (json!(["a", ""]), "the entry '' is empty"),
            (json!("a b+"), "the entry 'b+' has a `+`"),
            (
                json!(["a\u{0}b"]),
                r"the entry 'a\u{0}b' holds a control character",
            ),
            (json!(["$share/g/a"]), "starts with `$share/`"),
        ] {
            let error = topics(&claim).unwrap_err().to_string();
            assert!(
                error.starts_with(text) || error.contains(text),
                "{claim}: {error}"
            );
        }
    }

    #[test]
    fn placeholders_are_literal_text() {
        let grants = topics(&json!(["%u/x"])).unwrap();
        assert!(grants.match_topic("%u/x") && !grants.match_topic("alice/x"));
    }

    #[test]
    fn ten_thousand_entries_are_only_many() {
        let many: Vec<String> = (0..10_000).map(|i| format!("t/{i}")).collect();
        let grants = topics(&json!(many)).unwrap();
        assert_eq!(grants.len(), 10_000);
        assert!(grants.match_topic("t/9999") && !grants.match_topic("t/10000"));
    }
}
