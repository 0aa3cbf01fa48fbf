//! Other people's text in our log: quoted, escaped and cut, so that one line stays one line.

use std::fmt::{self, Write};

use crate::recognise;

/// The broker's own line buffer is 1000 bytes; a quote must leave room for the reason.
const MAX_QUOTED_CHARS: usize = 80;

/// Displays a string in single quotes with control characters and quotes escaped, and the middle
/// of a log line safe from whatever a client sent. Of a token, which stands here only by mistake, it shows
/// a few characters: whoever reads the log could use the rest.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_token = recognise::shown(self.0);
        f.write_char('\'')?;
        for (i, c) in of_token.unwrap_or(self.0).chars().enumerate() {
            if i == MAX_QUOTED_CHARS {
                f.write_str("'...")?;
                return Ok(());
            }
            if c.is_control()
                || matches!(
                    c,
                    '\'' | '\\' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}'
                )
            {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        f.write_str(if of_token.is_some() {
            "'... (a token)"
        } else {
            "'"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_one_line_and_bounded() {
        assert_eq!(Quoted("a/b").to_string(), "'a/b'");
        assert_eq!(
            Quoted("x\n1970: forged\r\0'").to_string(),
            r"'x\n1970: forged\r\u{0}\''"
        );
        assert_eq!(Quoted("\u{202e}abc").to_string(), r"'\u{202e}abc'");
        assert!(Quoted(&"y".repeat(10_000)).to_string().len() < 100);
    }

    #[test]
    fn of_a_token_a_few_characters_are_shown() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0";
        assert_eq!(Quoted(token).to_string(), "'eyJhbGci'... (a token)");
        assert_eq!(
            Quoted(&format!("Bearer {token}")).to_string(),
            "'Bearer e'... (a token)"
        );
    }
}
