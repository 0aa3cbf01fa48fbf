//! `refresh-keys`: has the tenant's keys fetched now.

use crate::{
    arguments::{Account, Broker},
    control::{Commanded, Target},
    messages::administration,
    output::{Failure, Outcome},
};

/// Has the keys fetched.
///
/// # Errors
///
/// Returns a failure if the broker does not answer.
pub(crate) fn run(broker: &Broker) -> Result<Box<dyn Outcome>, Failure> {
    Commanded::run(
        broker,
        "refreshKeys",
        vec![Target::Keys],
        Account::default(),
        administration::keys_refreshed,
    )
}
