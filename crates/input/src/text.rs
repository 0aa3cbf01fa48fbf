//! Quotes foreign text for the log: escaped and cut, so that one log line stays one line.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use crate::recognise;

/// The maximum length of a log line, in bytes. The broker's own buffer has 1000 bytes, including the time
/// stamp (src/logging.c).
pub const MAX_LINE: usize = 900;

/// The maximum length of a quotation, in bytes as shown.
const MAX_QUOTED: usize = 80;

/// Displays a string in single quotes, with control characters and quotes escaped, and at most [`MAX_QUOTED`] bytes
/// long. No text that a client sends can end the log line or change how it looks.
///
/// If the string is or contains a token, only a few characters of it are shown: anybody who reads the log could use the
/// token.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_token = recognise::shown(self.0);
        f.write_char('\'')?;
        let mut room = MAX_QUOTED;
        for c in of_token.unwrap_or(self.0).chars() {
            let shown = Shown::of(c, matches!(c, '\'' | '\\'));
            match room.checked_sub(shown.len()) {
                Some(rest) => room = rest,
                None => return f.write_str("'..."),
            }
            shown.fmt(f)?;
        }
        f.write_str(if of_token.is_some() {
            "'... (a token)"
        } else {
            "'"
        })
    }
}

/// A character as it is shown: itself or its escape sequence.
enum Shown {
    Itself(char),
    Escaped(std::char::EscapeDefault),
}

impl Shown {
    /// Escapes a character if `escape` says so, or if it would end a line, move the cursor or change how the
    /// rest looks: control characters, line and paragraph separators, and Unicode's format characters.
    fn of(c: char, escape: bool) -> Self {
        let is_unseen = matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        );
        if escape || c.is_control() || is_unseen {
            Self::Escaped(c.escape_default())
        } else {
            Self::Itself(c)
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Itself(c) => c.len_utf8(),
            Self::Escaped(escape) => escape.len(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself(c) => f.write_char(*c),
            Self::Escaped(escape) => escape.fmt(f),
        }
    }
}

/// Returns a text for a file that programs read. It is the text itself, except that of one that is or contains a token
/// only a few characters are left.
pub fn without_token(text: &str) -> Cow<'_, str> {
    match recognise::shown(text) {
        None => Cow::Borrowed(text),
        Some(beginning) => Cow::Owned(format!("{beginning}... (a token)")),
    }
}

/// Returns JSON in which every character is escaped that would end a line, move the cursor or change how the rest
/// looks. Such characters stand in strings only, so it is the same JSON.
pub fn json_line(json: &str) -> String {
    // Most lines have none.
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return json.to_owned();
    }
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        match Shown::of(c, false) {
            Shown::Itself(c) => line.push(c),
            Shown::Escaped(_) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(line, "\\u{unit:04x}").expect("a String takes everything");
                }
            }
        }
    }
    line
}

/// Returns a text as one log line: control characters are escaped, and the line is cut at [`MAX_LINE`].
pub fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_LINE));
    for c in text.chars() {
        if shown.len() > MAX_LINE {
            break;
        }
        write!(shown, "{}", Shown::of(c, false)).expect("a String takes everything");
    }
    cut(&shown, MAX_LINE)
}

/// Returns one log line. If it would be too long, `middle` is cut. Behind the line, room for `more` bytes is
/// left.
pub fn line_around(head: &str, middle: &str, tail: &str, more: usize) -> String {
    let room = MAX_LINE.saturating_sub(head.len() + tail.len() + more);
    format!("{head}{}{tail}", cut(&line(middle), room))
}

/// Returns at most `most` bytes of a text. If it is longer, a mark stands at the end.
pub fn cut(text: &str, most: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_one_line() {
        assert_eq!(Quoted("a/b").to_string(), "'a/b'");
        assert_eq!(
            Quoted("x\n1970: forged\r\0'").to_string(),
            r"'x\n1970: forged\r\u{0}\''"
        );
        assert_eq!(Quoted("\u{202e}abc").to_string(), r"'\u{202e}abc'");
    }

    #[test]
    fn a_quotation_never_exceeds_its_maximum_length() {
        for c in [
            'y',
            'é',
            '\u{1f600}',
            '\u{202e}',
            '\u{e0041}',
            '\n',
            '\'',
            '\x1b',
        ] {
            let quote = Quoted(&c.to_string().repeat(65_535)).to_string();
            assert!(quote.len() <= MAX_QUOTED + "''...".len(), "{quote}");
            assert!(
                quote.len() > MAX_QUOTED - 12 && quote.ends_with("'..."),
                "{quote}"
            );
            assert!(
                !quote.contains(['\u{202e}', '\u{e0041}', '\n', '\x1b']),
                "{quote}"
            );
        }
        let whole = "z".repeat(MAX_QUOTED);
        assert_eq!(Quoted(&whole).to_string(), format!("'{whole}'"));
    }

    #[test]
    fn a_log_line_is_one_line_of_bounded_length() {
        assert_eq!(line("it's a\\b"), "it's a\\b");
        assert_eq!(line("x\r\n\x1b[2J\u{2066}"), r"x\r\n\u{1b}[2J\u{2066}");
        for text in ["é".repeat(5000), "\n".repeat(5000), "😀".repeat(5000)] {
            assert!((MAX_LINE - 6..=MAX_LINE).contains(&line(&text).len()));
        }
        let squeezed = line_around("why: ", &"é".repeat(5000), "; what helps", 9);
        assert!(
            squeezed.len() <= MAX_LINE - 9 && squeezed.ends_with("é...; what helps"),
            "{squeezed}"
        );
        assert_eq!(line_around("a", "b", "c", 0), "abc");
    }

    #[test]
    fn json_stays_the_same_json_on_one_line() {
        let text = "a\"\\\n\u{7f}\u{9b}31m\u{2028}\u{202e}\u{e0041}\u{e9}\u{1f600}";
        let json = serde_json::Value::from(text).to_string();
        let line = json_line(&json);
        assert_eq!(
            line,
            "\"a\\\"\\\\\\n\\u007f\\u009b31m\\u2028\\u202e\\udb40\\udc41\u{e9}\u{1f600}\""
        );
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    #[test]
    fn a_token_is_left_out_of_what_programs_read() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0";
        assert_eq!(without_token(token), "eyJhbGci... (a token)");
        assert_eq!(without_token("a\nb"), "a\nb");
    }

    #[test]
    fn a_token_is_shown_by_its_first_characters_only() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0";
        assert_eq!(Quoted(token).to_string(), "'eyJhbGci'... (a token)");
        assert_eq!(
            Quoted(&format!("Bearer {token}")).to_string(),
            "'Bearer e'... (a token)"
        );
    }
}
