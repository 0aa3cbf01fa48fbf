//! The arguments of the commands about rules.

use std::path::PathBuf;

use clap::Args;

use super::{CONF, device::DeviceArguments};

/// What a device may do.
#[derive(Args, Debug)]
pub(crate) struct CanArguments {
    /// The broker's configuration (default: /etc/mosquitto/mosquitto.conf), then publish, subscribe or receive, and the
    /// topic
    #[arg(value_name = "WORDS", num_args = 0..=3)]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
    /// The QoS of the message, or the one that is asked for
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// Publish with the retain flag
    #[arg(long)]
    pub(crate) retain: bool,
    /// Publish a payload of so many bytes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) payload_bytes: u32,
    /// Answer several questions: a file with a line such as `publish --qos 1 a/b` for each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["qos", "retain", "payload_bytes"])]
    pub(crate) questions: Option<PathBuf>,
    /// Name the rule that decides, and the nearest one that would have allowed it
    #[arg(long)]
    pub(crate) explain: bool,
}

/// What a policy is expected to do.
#[derive(Args, Debug)]
pub(crate) struct TestArguments {
    /// The expectations: TOML with device tables, each with claims or token_file, may and may_not
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The broker's configuration
    #[arg(long, value_name = "CONF", default_value = CONF)]
    pub(crate) conf: PathBuf,
    /// Do not ask the tenant
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Whose rules are looked at.
#[derive(Args, Debug)]
pub(crate) struct LintArguments {
    /// The broker's configuration
    #[arg(value_name = "CONF", default_value = CONF)]
    pub(crate) conf: PathBuf,
    /// Look at the rules of the listener with this port; without it, at those of the first plugin
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// This policy file, in place of those that the configuration names
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_file: Option<PathBuf>,
}
