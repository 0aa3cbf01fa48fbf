//! The command line. The help, the manual page and the shell completions are made from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Finds out why a device is refused, and whether a configuration and a tenant are right.
#[derive(Debug, Parser)]
#[command(name = "mosquitto-auth0", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Write the result as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read a configuration as the broker and the plugin read it, and report what is wrong
    Check(Configuration),
}

/// Where the configuration is.
#[derive(Args, Debug)]
pub(crate) struct Configuration {
    /// The broker's configuration
    #[arg(value_name = "CONF", default_value = "/etc/mosquitto/mosquitto.conf")]
    pub(crate) conf: PathBuf,
}
