//! `kick`: disconnects clients.

use crate::{
    arguments::Kick,
    control::{Commanded, Target},
    messages::administration,
    output::{Failure, Outcome},
};

/// Disconnects clients.
///
/// # Errors
///
/// Returns a failure if the broker does not answer.
pub(crate) fn run(whom: Kick) -> Result<Box<dyn Outcome>, Failure> {
    let targets = whom.client_ids.into_iter().map(Target::Client).collect();
    Commanded::run(
        &whom.broker,
        "kick",
        targets,
        whom.account,
        administration::kicked,
    )
}
