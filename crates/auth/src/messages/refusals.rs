//! Why a client was refused, and the fix.

use std::fmt;

use crate::refusal::{Detail, Refusal};
use input::text::Quoted;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}; fix: ", self.reason.code(), self.detail)?;
        if let Some(seconds) = self.wait {
            write!(f, "wait {seconds} s; if that does not help, ")?;
        }
        f.write_str(self.fix())
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSignedIn { topic } => {
                write!(f, "it has not signed in, so {} is refused", Quoted(topic))
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}
