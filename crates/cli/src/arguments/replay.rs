//! The arguments of `replay`.

use std::path::PathBuf;

use clap::Args;

use super::CONF;

/// What `replay` promises.
pub(super) const HELP: &str = "\
Nothing is sent or changed. The log of a broker with decision_log_messages all tells most; one that was compressed is \
read with zcat LOG.gz | mosquitto-auth0 replay - --policy FILE.

Exit codes: 0 nothing would be different, 1 something would, 2 wrong command line, 3 a file could not be read, or the \
log does not tell enough.";

/// What is decided again, and by which rules.
#[derive(Args, Debug)]
pub(crate) struct ReplayArguments {
    /// The decision log, and those that were rotated away before it, the oldest first; `-` is the standard input
    #[arg(value_name = "LOG", required = true)]
    pub(crate) logs: Vec<PathBuf>,
    /// The policy file to decide by
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// The broker's configuration, which says in which claims rights are
    #[arg(long, value_name = "CONF", default_value = CONF)]
    pub(crate) conf: PathBuf,
}
