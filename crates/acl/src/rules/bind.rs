//! The values of placeholders for one client.
//!
//! A value becomes one level of a topic, or a part of one. A value that would be more than that, or that would lead a
//! filter to the broker's own topics, is refused: clients choose their client IDs, and one could choose `#`.

use serde_json::Value;

use super::template::Placeholder;
use crate::client::ClientAttributes;

/// A value that cannot be part of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnusableValue {
    /// The placeholder that it would replace.
    pub placeholder: Placeholder,
    /// What is wrong with it.
    pub problem: ValueProblem,
}

/// What is wrong with the value of a placeholder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueProblem {
    /// The token does not have the claim.
    Missing,
    /// The value is neither a string nor a whole number.
    Type,
    /// Its elements are asked for, and it is not an array.
    NotAnArray,
    /// It is empty.
    Empty,
    /// It contains a wildcard, a slash or a control character.
    ForbiddenCharacter(Box<str>),
    /// It begins with `$`, at the front of a filter: such topics are the broker's own.
    LeadingDollar(Box<str>),
}

/// The values of the placeholders of some rules, for one client.
#[derive(Debug, Default)]
pub(crate) struct Bindings(pub(super) Box<[Binding]>);

impl Bindings {
    /// Whether no rule has a placeholder. Then the rules are the same for all clients that have them.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The value of one placeholder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Binding {
    One(Box<str>),
    /// Any of these, which are sorted.
    Each(Box<[Box<str>]>),
}

impl Binding {
    /// Whether a text is the value, or one of the values.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        match self {
            Self::One(value) => value.as_bytes() == text,
            Self::Each(values) => values
                .binary_search_by(|value| value.as_bytes().cmp(text))
                .is_ok(),
        }
    }

    /// Returns the length in bytes, if there is only one value.
    #[inline]
    pub(super) fn width(&self) -> Option<usize> {
        match self {
            Self::One(value) => Some(value.len()),
            Self::Each(_) => None,
        }
    }
}

/// Returns the value of a placeholder for this client. `is_front` says that the placeholder begins a filter.
///
/// # Errors
///
/// Returns an error if the value cannot be part of a topic.
pub(super) fn binding(
    placeholder: &Placeholder,
    is_front: bool,
    client: &ClientAttributes,
) -> Result<Binding, UnusableValue> {
    let claim = |name: &str| client.claims.get(name).ok_or(ValueProblem::Missing);
    let value = match placeholder {
        Placeholder::ClientId => text(&client.client_id, is_front).map(Binding::One),
        Placeholder::Username => text(&client.username, is_front).map(Binding::One),
        Placeholder::Claim(name) => {
            claim(name).and_then(|value| scalar(value, is_front).map(Binding::One))
        }
        Placeholder::EachOf(name) => claim(name).and_then(|value| elements(value, is_front)),
    };
    value.map_err(|problem| UnusableValue {
        placeholder: placeholder.clone(),
        problem,
    })
}

/// Returns the elements of an array. An empty array yields no filter, which is not an error.
fn elements(value: &Value, is_front: bool) -> Result<Binding, ValueProblem> {
    let Value::Array(elements) = value else {
        return Err(ValueProblem::NotAnArray);
    };
    let values = elements.iter().map(|element| scalar(element, is_front));
    let mut values = values.collect::<Result<Vec<_>, _>>()?;
    values.sort_unstable();
    Ok(Binding::Each(values.into()))
}

fn scalar(value: &Value, is_front: bool) -> Result<Box<str>, ValueProblem> {
    match value {
        Value::String(value) => text(value, is_front),
        // A fraction has more than one spelling.
        Value::Number(number) if !number.is_f64() => text(&number.to_string(), is_front),
        _ => Err(ValueProblem::Type),
    }
}

fn text(value: &str, is_front: bool) -> Result<Box<str>, ValueProblem> {
    let is_forbidden = |c: char| matches!(c, '+' | '#' | '/') || c.is_control();
    if value.is_empty() {
        Err(ValueProblem::Empty)
    } else if value.contains(is_forbidden) {
        Err(ValueProblem::ForbiddenCharacter(value.into()))
    } else if is_front && value.starts_with('$') {
        Err(ValueProblem::LeadingDollar(value.into()))
    } else {
        Ok(value.into())
    }
}

/// Checks that the value of a placeholder for this client can be part of a topic.
///
/// # Errors
///
/// Returns an error if it cannot.
pub(crate) fn check(
    placeholder: &Placeholder,
    is_front: bool,
    client: &ClientAttributes,
) -> Result<(), UnusableValue> {
    binding(placeholder, is_front, client).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_value_that_can_be_part_of_a_level_is_usable() {
        let claims = json!({
            "site": "north", "n": 7, "float": 1.5, "flag": true, "none": null, "list": ["a", "b"], "mixed": ["a", 2],
            "bad": ["a", "b/c"], "empty": [], "blank": "", "wild": "a+b", "deep": "a/b", "nul": "a\u{0}",
            "dollar": "$SYS",
        });
        let client = ClientAttributes::with_claims("#", claims);
        let value = |name: &str, is_front| {
            let placeholder = match name {
                "%c" => Placeholder::ClientId,
                "%u" => Placeholder::Username,
                name => match name.strip_suffix("[*]") {
                    Some(list) => Placeholder::EachOf(list.into()),
                    None => Placeholder::Claim(name.into()),
                },
            };
            match binding(&placeholder, is_front, &client) {
                Ok(Binding::One(value)) => value.to_string(),
                Ok(Binding::Each(values)) => values.join(" "),
                Err(why) => why.to_string(),
            }
        };
        for (name, expected) in [
            ("%u", "auth0|1"),
            ("site", "north"),
            ("n", "7"),
            ("list[*]", "a b"),
            ("mixed[*]", "2 a"),
            ("empty[*]", ""),
            ("dollar", "$SYS"),
        ] {
            assert_eq!(value(name, false), expected);
        }
        for (name, part) in [
            ("%c", "its client ID is '#', which contains"),
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
            (
                "gone",
                "its claim 'gone' is missing, so it cannot replace ${gone}",
            ),
            ("gone[*]", "missing"),
        ] {
            assert!(
                value(name, false).contains(part),
                "{name}: {}",
                value(name, false)
            );
        }
        assert!(value("dollar", true).contains("belongs to the broker"));
    }
}
