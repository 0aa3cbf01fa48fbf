//! All sentences of this crate. Each begins with its verb; the caller names what it is about, such as "its password".

use std::fmt;

use crate::{
    json::JsonError,
    recognise::{Fragment, Surrounding, Token, Wrapping},
};

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateMember => f.write_str("names a member twice"),
            Self::NotUtf8 => f.write_str("is not UTF-8 text"),
            Self::NotAnObject => f.write_str("is not a JSON object"),
            Self::Syntax(message) => write!(f, "is not valid JSON ({message})"),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("is a token"),
            Self::Wrapped(wrapping) => write!(f, "is a token {wrapping}"),
            Self::Piece(Fragment::Header(length)) => write!(
                f,
                "is the beginning of a token, cut off in its header after {length} bytes"
            ),
            Self::Piece(Fragment::Rest) => {
                f.write_str("is a piece of a token without its beginning")
            }
        }
    }
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => f.write_str("that was encoded once more (base64 or hexadecimal)"),
            Self::Alphabet => f.write_str("in base64 with `+`, `/` or `=`, and not in base64url"),
            Self::Split => f.write_str("with white space or line breaks in it"),
            Self::Text { before, after } => match (before, after) {
                (Some(before), None) => write!(f, "with {before} in front of it"),
                (None, Some(after)) => write!(f, "with {after} behind it"),
                (Some(before), Some(after)) if before == after => {
                    write!(f, "with {before} around it")
                }
                (Some(before), Some(after)) => {
                    write!(f, "with {before} in front of it and {after} behind it")
                }
                (None, None) => f.write_str("with something around it"),
            },
        }
    }
}

impl fmt::Display for Surrounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invisible => "white space or an invisible character",
            Self::Quotes => "quotes",
            Self::Authorization => "`Authorization:`",
            Self::Json => "JSON",
            Self::Url => "a URL",
            Self::Form => "a form's fields",
            Self::Bearer => "`Bearer`",
            Self::Jwt => "`JWT`",
            Self::Token => "`Token`",
            Self::Password => "`password`",
            Self::Punctuation => "punctuation",
            Self::Other => "other text",
        })
    }
}
