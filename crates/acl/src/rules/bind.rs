//! What placeholders stand for, for one client.
//!
//! A value becomes one level of a topic, or a part of one. A value that would be more than that, or that would lead a
//! filter to the broker's own topics, is refused: clients choose their client IDs, and one could choose `#`.

use std::fmt;

use serde_json::{Map, Value};

use super::template::Placeholder;
use input::text::Quoted;

/// Where values come from.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// The user name.
    pub username: &'a str,
    /// The token's claims.
    pub claims: &'a Map<String, Value>,
}

/// A value that cannot stand in a topic. The sentence begins with whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unusable {
    placeholder: Placeholder,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Why {
    Missing,
    Kind,
    NoArray,
    Empty,
    Holds(Box<str>),
    Front(Box<str>),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.placeholder {
            Placeholder::ClientId => f.write_str("its client id")?,
            Placeholder::Username => f.write_str("its user name")?,
            Placeholder::Claim(name) => write!(f, "its claim {}", Quoted(name))?,
            Placeholder::EachOf(name) => write!(f, "(an element of) its claim {}", Quoted(name))?,
        }
        match &self.why {
            Why::Missing => f.write_str(" is missing")?,
            Why::Kind => f.write_str(" is neither a string nor a whole number")?,
            Why::NoArray => f.write_str(" is not an array")?,
            Why::Empty => f.write_str(" is empty")?,
            Why::Holds(value) => write!(
                f,
                " is {}, which holds `+`, `#`, `/` or a control character",
                Quoted(value)
            )?,
            Why::Front(value) => write!(
                f,
                " is {}, and `$` leads to the broker's own topics",
                Quoted(value)
            )?,
        }
        write!(f, ", so {} cannot stand for it", self.placeholder)
    }
}

/// The values of the placeholders of some rules, for one client.
#[derive(Debug, Default)]
pub struct Bindings(pub(super) Box<[Binding]>);

/// The value of one placeholder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Binding {
    One(Box<str>),
    /// Any of these, which are sorted.
    Each(Box<[Box<str>]>),
}

impl Binding {
    /// Whether a text is the value, or one of the values.
    pub fn is(&self, text: &[u8]) -> bool {
        match self {
            Self::One(value) => value.as_bytes() == text,
            Self::Each(values) => values
                .binary_search_by(|value| value.as_bytes().cmp(text))
                .is_ok(),
        }
    }

    /// Returns the length in bytes, if there is only one value.
    #[inline]
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::One(value) => Some(value.len()),
            Self::Each(_) => None,
        }
    }
}

/// What a placeholder stands for. `front` says that it is the beginning of a filter.
///
/// # Errors
///
/// If the value cannot be a part of a topic's level.
pub(super) fn binding(
    placeholder: &Placeholder,
    front: bool,
    values: &Values,
) -> Result<Binding, Unusable> {
    let refuse = |why| {
        Err(Unusable {
            placeholder: placeholder.clone(),
            why,
        })
    };
    let usable = |value: &str| {
        if value.is_empty() {
            refuse(Why::Empty)
        } else if value
            .chars()
            .any(|c| matches!(c, '+' | '#' | '/') || c.is_control())
        {
            refuse(Why::Holds(value.into()))
        } else if front && value.starts_with('$') {
            refuse(Why::Front(value.into()))
        } else {
            Ok(Box::from(value))
        }
    };
    let scalar = |value: &Value| match value {
        Value::String(text) => usable(text),
        // A fraction has more than one spelling.
        Value::Number(number) if !number.is_f64() => usable(&number.to_string()),
        _ => refuse(Why::Kind),
    };
    match placeholder {
        Placeholder::ClientId => usable(values.client_id).map(Binding::One),
        Placeholder::Username => usable(values.username).map(Binding::One),
        Placeholder::Claim(name) => match values.claims.get(&**name) {
            None => refuse(Why::Missing).map(Binding::One),
            Some(value) => scalar(value).map(Binding::One),
        },
        Placeholder::EachOf(name) => match values.claims.get(&**name) {
            None => refuse(Why::Missing).map(Binding::One),
            // Of nothing, each: no filter, which is not a mistake.
            Some(Value::Array(elements)) => elements
                .iter()
                .map(scalar)
                .collect::<Result<Vec<_>, _>>()
                .map(|mut values| {
                    values.sort_unstable();
                    Binding::Each(values.into())
                }),
            Some(_) => refuse(Why::NoArray).map(Binding::One),
        },
    }
}

/// Whether a placeholder can stand for this client's value.
///
/// # Errors
///
/// If not.
pub fn check(placeholder: &Placeholder, front: bool, values: &Values) -> Result<(), Unusable> {
    binding(placeholder, front, values).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_a_level_is_taken() {
        let claims = json!({
            "site": "north", "n": 7, "float": 1.5, "flag": true, "none": null, "list": ["a", "b"], "mixed": ["a", 2],
            "bad": ["a", "b/c"], "empty": [], "blank": "", "wild": "a+b", "deep": "a/b", "nul": "a\u{0}", "dollar": "$SYS",
        });
        let ask = |name: &str, front| {
            let placeholder = match name {
                "%c" => Placeholder::ClientId,
                "%u" => Placeholder::Username,
                name => match name.strip_suffix("[*]") {
                    Some(list) => Placeholder::EachOf(list.into()),
                    None => Placeholder::Claim(name.into()),
                },
            };
            let values = Values {
                client_id: "#",
                username: "auth0|1",
                claims: claims.as_object().unwrap(),
            };
            match binding(&placeholder, front, &values) {
                Ok(Binding::One(value)) => value.to_string(),
                Ok(Binding::Each(values)) => values.join(" "),
                Err(why) => why.to_string(),
            }
        };
        for (name, value) in [
            ("%u", "auth0|1"),
            ("site", "north"),
            ("n", "7"),
            ("list[*]", "a b"),
            ("mixed[*]", "2 a"),
            ("empty[*]", ""),
            ("dollar", "$SYS"),
        ] {
            assert_eq!(ask(name, false), value);
        }
        for (name, part) in [
            ("%c", "its client id is '#', which holds"),
            ("float", "neither a string"),
            ("flag", "neither a string"),
            ("none", "neither a string"),
            ("list", "neither a string"),
            ("bad[*]", "'b/c'"),
            ("site[*]", "not an array"),
            ("blank", "is empty"),
            ("wild", "'a+b'"),
            ("deep", "'a/b'"),
            ("nul", "control"),
            ("gone", "its claim 'gone' is missing, so ${gone} cannot"),
            ("gone[*]", "missing"),
        ] {
            assert!(
                ask(name, false).contains(part),
                "{name}: {}",
                ask(name, false)
            );
        }
        assert!(ask("dollar", true).contains("the broker's own topics"));
    }
}
