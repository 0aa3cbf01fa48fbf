//! The command line. The help, the manual page and the shell completions are made from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod device;
mod policy;

pub(crate) use device::{DEFAULT_CLIENT_ID, DeviceArguments};
pub(crate) use policy::CanArguments;

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

/// The broker's configuration, where none is named.
pub(crate) const CONF: &str = "/etc/mosquitto/mosquitto.conf";

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read a configuration as the broker and the plugin read it, and report what is wrong
    Check(Configuration),
    /// Ask the tenant whether it is set up as the configuration expects, and say how to mend what is not
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// Sign in as a device would, and show what its token says, which rights it has and when they end
    #[command(after_help = LOGIN_HELP)]
    Login(LoginArguments),
    /// List the connected clients and the kept sessions of the broker on this machine
    Sessions(Sessions),
    /// Disconnect clients of the broker on this machine; they may come back at once
    Kick(Kick),
    /// Forget remembered logins and tokens, so that the tenant is asked again
    Forget(Forget),
    /// Let another account have the client ID of a device that is away
    Release(Release),
    /// Have the broker fetch the tenant's keys now
    RefreshKeys(Broker),
    /// Say whether a device may publish, subscribe or receive something, and why
    #[command(
        override_usage = "mosquitto-auth0 can [CONF] <WHO> [OPTIONS] <publish|subscribe|receive> TOPIC\n       \
                          mosquitto-auth0 can [CONF] <WHO> [OPTIONS] --questions FILE"
    )]
    Can(CanArguments),
}

/// Where the configuration is.
#[derive(Args, Debug)]
pub(crate) struct Configuration {
    /// The broker's configuration
    #[arg(value_name = "CONF", default_value = CONF)]
    pub(crate) conf: PathBuf,
}

/// Where the broker is that is commanded. Its socket is in the folder that the option `state_dir` names.
#[derive(Args, Debug)]
pub(crate) struct Broker {
    /// The broker's configuration, whose state_dir has the socket
    #[arg(
        long,
        value_name = "CONF",
        default_value = "/etc/mosquitto/mosquitto.conf"
    )]
    pub(crate) conf: PathBuf,
    /// The socket itself, in place of the configuration
    #[arg(long, value_name = "PATH", conflicts_with = "conf")]
    pub(crate) socket: Option<PathBuf>,
}

/// An account. A subject is unique within its issuer only.
#[derive(Args, Debug, Default)]
pub(crate) struct Account {
    /// The account with this subject (the claim sub of its tokens)
    #[arg(long, value_name = "SUB")]
    pub(crate) subject: Option<String>,
    /// Of this issuer, if two tenants have the same subject
    #[arg(long, value_name = "URL", requires = "subject")]
    pub(crate) issuer: Option<String>,
}

/// Which sessions are listed.
#[derive(Args, Debug)]
pub(crate) struct Sessions {
    #[command(flatten)]
    pub(crate) broker: Broker,
    #[command(flatten)]
    pub(crate) account: Account,
    /// Only this client ID
    #[arg(long, value_name = "ID", conflicts_with = "prefix")]
    pub(crate) client_id: Option<String>,
    /// Only client IDs that begin with this
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
}

/// Who is disconnected.
#[derive(Args, Debug)]
pub(crate) struct Kick {
    /// The clients with these client IDs
    #[arg(
        value_name = "CLIENT_ID",
        required_unless_present = "subject",
        conflicts_with = "subject"
    )]
    pub(crate) client_ids: Vec<String>,
    #[command(flatten)]
    pub(crate) account: Account,
    #[command(flatten)]
    pub(crate) broker: Broker,
}

/// Whose logins are forgotten.
#[derive(Args, Debug)]
pub(crate) struct Forget {
    /// The users with these names
    #[arg(
        value_name = "USERNAME",
        required_unless_present = "subject",
        conflicts_with = "subject"
    )]
    pub(crate) usernames: Vec<String>,
    #[command(flatten)]
    pub(crate) account: Account,
    #[command(flatten)]
    pub(crate) broker: Broker,
}

/// Which client IDs are released.
#[derive(Args, Debug)]
pub(crate) struct Release {
    /// The client IDs
    #[arg(value_name = "CLIENT_ID", required = true)]
    pub(crate) client_ids: Vec<String>,
    #[command(flatten)]
    pub(crate) broker: Broker,
}

/// What the exit codes of `login` mean.
const LOGIN_HELP: &str = "Exit codes: 0 the device is let in, 1 it is not, 2 wrong command line, 3 the tenant could not be asked.";

/// Who signs in.
#[derive(Args, Debug)]
pub(crate) struct LoginArguments {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// What `doctor` promises.
const DOCTOR_HELP: &str = "\
It says what it will send before it sends anything (on the error output). Without --probe-login and --username it tries \
no login, so it does not know whether audience, connection and attack protection are right.

Exit codes: 0 nothing is wrong, 1 something is wrong, 2 wrong command line, 3 the tenant could not be asked.";

/// What `doctor` is to examine.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    /// Send nothing: examine the configuration, the saved keys and the clock only
    #[arg(long, conflicts_with_all = ["probe_login", "username"])]
    pub(crate) offline: bool,
    /// Also try to sign in as a user that does not exist, twice. No device is locked out by that
    #[arg(long)]
    pub(crate) probe_login: bool,
    /// Also sign this user in, and examine its tokens. The password is asked for
    #[arg(long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// Also examine the token in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,
}
