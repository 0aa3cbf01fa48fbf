//! What the exit codes mean. They are the same for every command, and a part of the tool's interface.

use std::process::ExitCode;

/// How a command ended. A wrong command line ends with 2, which is clap's code for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything is right, or the answer is yes: 0.
    Yes,
    /// Something is wrong, or the answer is no: 1.
    No,
    /// There is no answer, because a file, the tenant or the broker could not be asked: 3.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Yes => 0,
            Exit::No => 1,
            Exit::Unknown => 3,
        })
    }
}
