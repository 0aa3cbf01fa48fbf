//! `forget`: has remembered logins and tokens forgotten.

use crate::{
    arguments::Forget,
    control::{Commanded, Target},
    messages::administration,
    output::{Failure, Outcome},
};

/// Has remembered logins and tokens forgotten.
///
/// # Errors
///
/// Returns a failure if the broker does not answer.
pub(crate) fn run(whose: Forget) -> Result<Box<dyn Outcome>, Failure> {
    let targets = whose.usernames.into_iter().map(Target::User).collect();
    Commanded::run(
        &whose.broker,
        "forgetLogin",
        targets,
        whose.account,
        administration::forgotten,
    )
}
