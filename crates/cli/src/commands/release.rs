//! `release`: lets another account have a client ID.

use crate::{
    arguments::{Account, Release},
    control::{Commanded, Target},
    messages::administration,
    output::{Failure, Outcome},
};

/// Releases client IDs.
///
/// # Errors
///
/// Returns a failure if the broker does not answer.
pub(crate) fn run(which: Release) -> Result<Box<dyn Outcome>, Failure> {
    let targets = which.client_ids.into_iter().map(Target::Client).collect();
    Commanded::run(
        &which.broker,
        "releaseClientId",
        targets,
        Account::default(),
        administration::released,
    )
}
