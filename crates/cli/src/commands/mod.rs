//! What the commands do, one file each.

mod check;

use crate::{
    arguments::{Arguments, Command},
    exit::Exit,
    output,
};

/// Runs a command, and shows its result.
pub(crate) fn run(arguments: Arguments) -> Exit {
    let result = match arguments.command {
        Command::Check(at) => check::run(&at),
    };
    output::show(result, arguments.json)
}
