//! What the commands do, one file each.

pub(crate) mod can;
mod check;
mod doctor;
mod forget;
mod kick;
mod lint;
pub(crate) mod login;
mod refresh_keys;
mod release;
pub(crate) mod replay;
mod sessions;
mod tenant_export;
mod test;
mod token;

use crate::{
    arguments::{Arguments, Command, TenantCommand},
    exit::Exit,
    output,
};

/// Runs a command, and shows its result.
pub(crate) fn run(arguments: Arguments) -> Exit {
    let result = match arguments.command {
        Command::Can(arguments) => can::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Check(at) => check::run(&at),
        Command::Sessions(wanted) => sessions::run(wanted),
        Command::Kick(whom) => kick::run(whom),
        Command::Forget(whose) => forget::run(whose),
        Command::Release(which) => release::run(which),
        Command::RefreshKeys(broker) => refresh_keys::run(&broker),
        Command::Tenant(TenantCommand::Export(arguments)) => tenant_export::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Login(arguments) => login::run(&arguments),
    };
    output::show(result, arguments.json)
}
