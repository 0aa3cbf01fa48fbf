//! Regular expressions of rules in a token, about the client ID and the user name.
//!
//! They are searched for, as in EMQX: `^` and `$` tie one to the whole text. The syntax is that of `regex-lite`, which
//! has no look-around and no back-references, so that the time of a search is limited. The size of an expression and
//! the length of a text are limited too: a device chooses its client ID.

use std::hash::{Hash, Hasher};

use regex_lite::{Regex, RegexBuilder};

/// The longest expression, in bytes.
const MAX_PATTERN: usize = 256;
/// The memory that an expression may take when compiled, in bytes. One for a UUID takes less than half of it.
const MAX_COMPILED: usize = 8 << 10;
/// The deepest nesting of groups and repetitions.
const MAX_NESTING: u32 = 16;
/// The longest text in which something is searched for, in bytes. A search takes at most about a millisecond then.
const MAX_TEXT: usize = 256;

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

/// Why a text is no regular expression that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PatternProblem {
    /// It has more than this many bytes.
    TooLong(usize),
    /// It cannot be compiled. This is what the compiler says.
    Invalid(Box<str>),
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be used.
    pub(super) fn parse(text: &str) -> Result<Self, PatternProblem> {
        if text.len() > MAX_PATTERN {
            return Err(PatternProblem::TooLong(MAX_PATTERN));
        }
        let compiled = RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .nest_limit(MAX_NESTING)
            .build();
        compiled
            .map(Self)
            .map_err(|why| PatternProblem::Invalid(why.to_string().into()))
    }

    /// Whether a text contains what the expression describes. `None` if the text is too long to tell.
    pub(crate) fn is_in(&self, text: &str) -> Option<bool> {
        (text.len() <= MAX_TEXT).then(|| self.0.is_match(text))
    }

    /// Returns the expression as it is written.
    pub(crate) fn text(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_searched_for_unless_it_says_otherwise() {
        for (pattern, text, found) in [
            ("pump", "a pump-7", true),
            ("^pump-[0-9]+$", "pump-7", true),
            ("^pump-[0-9]+$", "pump-7x", false),
            ("^pump", "a pump", false),
            ("", "anything", true),
            ("(?i)PUMP", "pump", true),
            (r"^\d+$", "٣", false),
            (
                r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
                "12345678-9abc-def0-1234-56789abcdef0",
                true,
            ),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.is_in(text), Some(found), "{pattern:?} {text}");
        }
        let pattern = Pattern::parse("a").unwrap();
        assert_eq!(pattern.is_in(&"a".repeat(MAX_TEXT)), Some(true));
        assert_eq!(pattern.is_in(&"a".repeat(MAX_TEXT + 1)), None);
    }

    #[test]
    fn what_would_take_long_is_no_expression() {
        let long = "a".repeat(MAX_PATTERN + 1);
        assert_eq!(
            Pattern::parse(&long),
            Err(PatternProblem::TooLong(MAX_PATTERN))
        );
        let nested = format!("{}a{}", "(".repeat(20), ")".repeat(20));
        for text in [
            "(",
            "(?<=a)b",
            r"(a)\1",
            r"\p{L}",
            "(((a?){9}){9}){9}",
            "a{1000}",
            &nested,
        ] {
            assert!(
                matches!(Pattern::parse(text), Err(PatternProblem::Invalid(_))),
                "{text}"
            );
        }
    }
}
