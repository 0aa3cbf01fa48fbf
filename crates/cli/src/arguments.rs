//! The command line. The help, the manual page and the shell completions are made from it.

use std::path::PathBuf;

use auth::algorithm::Algorithm;
use clap::{Args, Parser, Subcommand, ValueEnum};

mod device;
mod policy;
mod replay;

pub(crate) use device::{DEFAULT_CLIENT_ID, DeviceArguments, time};
pub(crate) use policy::{CanArguments, LintArguments, TestArguments};
pub(crate) use replay::ReplayArguments;

/// What `--version` says. A test compares it with the code.
pub(crate) const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nBrokers: Mosquitto 2.0.11 and later; tested with 2.0.11, 2.0.21 and 2.1.2",
    "\nSaved sessions (state_dir/sessions): generation 2"
);

/// Finds out why a device is refused, and whether a configuration and a tenant are right.
#[derive(Debug, Parser)]
#[command(name = "mosquitto-auth0", version, long_version = LONG_VERSION, propagate_version = true)]
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
    /// Ask the tenant whether it is set up as the configuration expects, and say how to fix what is not
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
    /// Decide what is in a decision log once more, by another policy file, and say what would be different
    #[command(after_help = replay::HELP)]
    Replay(ReplayArguments),
    /// Say whether a device may publish, subscribe or receive something, and why
    #[command(
        override_usage = "mosquitto-auth0 can [CONF] <WHO> [OPTIONS] <publish|subscribe|receive> TOPIC\n       \
                          mosquitto-auth0 can [CONF] <WHO> [OPTIONS] --questions FILE"
    )]
    Can(CanArguments),
    /// Test whether the rules do what a file expects of them
    Test(TestArguments),
    /// Find rules that never apply, that others hide, or that allow more than their neighbours deny
    Lint(LintArguments),
    /// Get a token for `mosquitto_pub -u JWT -P "$(mosquitto-auth0 token …)"`, or keep a bridge's password fresh
    #[command(after_help = TOKEN_HELP)]
    Token(Box<Token>),
    /// Write what the tenant needs for a configuration
    #[command(subcommand)]
    Tenant(TenantCommand),
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
    /// Examine the plugin of the listener with this port; without it, the first one
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Send nothing: examine the configuration, the saved keys, the clock and the token only
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

/// What is said after the help of `token`.
const TOKEN_HELP: &str = "\
The tenant, the API and the client ID are those of the plugin in CONF, unless options name others. Secrets are read from \
files, or from the standard input (-), and are in no argument.

A token is kept in $XDG_CACHE_HOME/mosquitto-auth0 and used again until it ends. With the device flow a refresh token is \
asked for and kept there as well, so that nobody has to sign in again.

--watch never ends. A Mosquitto bridge reads its password from the broker's configuration: let FILE be the file below \
include_dir that has the bridge. Mosquitto 2.1 takes the new password on SIGHUP (--on-change 'systemctl reload \
mosquitto'), and at once with bridge_reload_type immediate. 2.0 takes it when it starts (--on-change 'systemctl restart \
mosquitto').";

/// How a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenGrant {
    /// A person signs in with a browser, on any device (RFC 8628)
    Device,
    /// The application itself, with its secret or its private key (RFC 6749, section 4.4; RFC 7523)
    ClientCredentials,
    /// A refresh token (RFC 6749, section 6)
    RefreshToken,
}

/// With which algorithm a private key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum KeyAlgorithm {
    Rs256,
    Rs384,
    Ps256,
    Es256,
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Rs256 => Self::Rs256,
            KeyAlgorithm::Rs384 => Self::Rs384,
            KeyAlgorithm::Ps256 => Self::Ps256,
            KeyAlgorithm::Es256 => Self::Es256,
        }
    }
}

/// Which token is wanted, and how it is asked for.
#[derive(Args, Debug)]
pub(crate) struct Token {
    /// The broker's configuration, whose tenant, API and application are taken
    #[arg(
        long,
        value_name = "CONF",
        default_value = "/etc/mosquitto/mosquitto.conf"
    )]
    pub(crate) conf: PathBuf,
    /// The domain of the tenant; no configuration is read then
    #[arg(long, value_name = "DOMAIN", conflicts_with_all = ["conf", "issuer"])]
    pub(crate) domain: Option<String>,
    /// The issuer, for a provider other than Auth0; no configuration is read then
    #[arg(long, value_name = "URL", conflicts_with = "conf")]
    pub(crate) issuer: Option<String>,
    /// The API (resource server) that the token is for
    #[arg(long, value_name = "API")]
    pub(crate) audience: Option<String>,
    /// The authorities to trust for the tenant
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The client ID of the application
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// How to ask; without it, by what is given: a secret or key, a refresh token, or else the device flow
    #[arg(long, value_name = "GRANT", value_enum)]
    pub(crate) grant: Option<TokenGrant>,
    /// The file with the secret of the application; - for the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "private_key_file")]
    pub(crate) client_secret_file: Option<PathBuf>,
    /// The file with the private key of the application, PEM (RSA or P-256); - for the standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) private_key_file: Option<PathBuf>,
    /// The ID of that key (kid)
    #[arg(long, value_name = "KID", requires = "private_key_file")]
    pub(crate) key_id: Option<String>,
    /// With which algorithm it signs; without it, RS256 with an RSA key and ES256 with one on P-256
    #[arg(long, value_name = "ALG", value_enum, requires = "private_key_file")]
    pub(crate) algorithm: Option<KeyAlgorithm>,
    /// The file with a refresh token; the next one is written into it
    #[arg(long, value_name = "FILE")]
    pub(crate) refresh_token_file: Option<PathBuf>,
    /// The scope to ask for
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Option<String>,
    /// Where the token is kept
    #[arg(long, value_name = "FILE")]
    pub(crate) cache: Option<PathBuf>,
    /// Keep nothing
    #[arg(long, conflicts_with = "cache")]
    pub(crate) no_cache: bool,
    /// Ask for a new token, although one is kept
    #[arg(long)]
    pub(crate) fresh: bool,
    /// How many seconds a kept token must still be good for
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) valid_for: u64,
    /// Write the token into this file, and again and again before it ends
    #[arg(long, value_name = "FILE")]
    pub(crate) watch: Option<PathBuf>,
    /// The bridge in that file, if it has several
    #[arg(long, value_name = "NAME", requires = "watch")]
    pub(crate) connection: Option<String>,
    /// What the shell runs after each change of that file
    #[arg(long, value_name = "COMMAND", requires = "watch")]
    pub(crate) on_change: Option<String>,
}

/// What is done about a tenant's settings.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Write the API, the application, the roles and the Action as files for Auth0's Deploy CLI and for Terraform
    Export(TenantExport),
}

/// Where the files of a tenant are.
#[derive(Args, Debug)]
pub(crate) struct TenantExport {
    /// The broker's configuration
    #[arg(value_name = "CONF", default_value = CONF)]
    pub(crate) conf: PathBuf,
    /// The folder that the files are in: tenant.yaml, main.tf and actions/mqtt-claims.js
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub(crate) to: PathBuf,
    /// Write nothing, and exit with 1 if a file is not as it would be written
    #[arg(long)]
    pub(crate) check: bool,
    /// Also write the roles that the policy file mentions. The Deploy CLI takes the permissions of such a role away
    #[arg(long)]
    pub(crate) roles: bool,
}
