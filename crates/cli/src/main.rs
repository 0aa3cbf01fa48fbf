//! `mosquitto-auth0`, the operator's tool. It answers with the code of the plugin itself: [`auth`] and [`acl`].
//!
//! | question | file |
//! |---|---|
//! | Which commands and arguments are there? | [`arguments`] |
//! | What does a command do? | [`commands`], one file each |
//! | Which options does a mosquitto.conf give the plugin? | [`configuration`] |
//! | What does `check` look at? | [`check`] |
//! | How is the broker on this machine commanded? | [`control`] |
//! | How does the tool sign a device in, and ask what it may do? | [`device`], as every command does |
//! | How is a question written? | [`question`]; a file of expectations, [`expectations`] |
//! | What does the tenant need for a configuration? | [`tenant_export`] |
//! | How is a token asked for and kept, and a bridge's password kept fresh? | [`token`] |
//! | How is a result shown to a person, and how to a program? | [`output`] |
//! | What does `doctor` ask the tenant, and what follows from the answers? | [`doctor`] |
//! | What do people read? | [`messages`], one file for each command or group of commands |
//! | Where do passwords and tokens come from? | [`secrets`] |
//! | What do exit codes mean? | [`exit`] |
//!
//! A command returns data, which [`output`] shows. No command prints anything by itself, except what has to
//! be read before there is a result: the code of a device flow, and what `token --watch` does.

mod arguments;
mod check;
mod commands;
mod configuration;
mod control;
mod device;
mod doctor;
mod exit;
mod expectations;
#[cfg(test)]
mod generated;
mod messages;
mod output;
mod private_file;
mod question;
mod secrets;
mod table;
mod tenant_export;
mod token;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let exit = commands::run(arguments);
    exit.into()
}
