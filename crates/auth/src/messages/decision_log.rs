//! What is said about the decision log.

use std::fmt;

use crate::decision_log::DecisionLogReport;
use input::text::Quoted;

impl fmt::Display for DecisionLogReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotWritten { path, .. }
        | Self::WrittenAgain { path, .. }
        | Self::LeftOut { path, .. }
        | Self::NotReopened { path, .. }) = self;
        let path = path.display().to_string();
        let path = Quoted(&path);
        match self {
            Self::NotWritten { why, .. } => write!(
                f,
                "the decision log {path} cannot be written ({why}): decisions are counted and not logged until it can; \
                 fix: make room there"
            ),
            Self::WrittenAgain { missing, .. } => write!(
                f,
                "the decision log {path} is written again; {missing} decisions are missing in it"
            ),
            Self::LeftOut { decisions, .. } => write!(
                f,
                "{decisions} decisions are missing in the decision log {path}, because they came faster than they \
                 could be written; fix: find the device that is denied so often, set decision_log_messages to none, or \
                 use a faster disk"
            ),
            Self::NotReopened { why, .. } => write!(
                f,
                "the decision log {path} cannot be opened again: {why}; what follows is written where it was before; \
                 fix: let the broker's user create files in its folder, and reload"
            ),
        }
    }
}
