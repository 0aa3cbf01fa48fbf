//! The arguments that say who a device is. Every command that signs one in has them.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;

use auth::clock::Unix;

/// The client ID of a device, where none is named.
pub(crate) const DEFAULT_CLIENT_ID: &str = "mosquitto-auth0";

/// Who a device is, and what it presents.
#[derive(Args, Clone, Debug)]
pub(crate) struct DeviceArguments {
    /// The token that the device presents: a file, or `-` for the standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "claims"])]
    pub(crate) token: Option<PathBuf>,
    /// The user name of a device that signs in with a password. The tenant is asked, which counts as a sign-in there
    #[arg(long, value_name = "U")]
    pub(crate) username: Option<String>,
    /// The password of that user: a file, or `-` for the standard input. Without it, the password is asked for
    #[arg(
        long,
        value_name = "FILE",
        requires = "username",
        conflicts_with = "claims"
    )]
    pub(crate) password_file: Option<PathBuf>,
    /// The claims of a token, as JSON, in place of a token: a file, or `-` for the standard input. Nobody verifies
    /// them. With --username they are those of a user who signs in with a password
    #[arg(long, value_name = "FILE")]
    pub(crate) claims: Option<PathBuf>,
    /// The client ID of the device
    #[arg(long, value_name = "ID", default_value = DEFAULT_CLIENT_ID)]
    pub(crate) client_id: String,
    /// The address from which the device connects
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
    /// The port of the listener to which it connects
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The certificate that the device shows to the broker, for rules that ask for one: PEM or DER
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// When the device does it, as in 2026-03-01T22:30:00Z or in seconds since 1970. Without it, now
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) at: Option<Unix>,
    /// Do not ask the tenant: verify with the keys of jwks_file, or with those that the plugin has saved in state_dir
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Parses a time.
pub(crate) fn time(text: &str) -> Result<Unix, String> {
    /// The end of the year 9999.
    const LAST: u64 = 253_402_300_799;
    match text.parse() {
        Ok(seconds @ ..=LAST) => return Ok(Unix(seconds)),
        Ok(_) => return Err("it is after the year 9999".to_owned()),
        Err(_) => {}
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        "write a time such as 2026-03-01T22:30:00Z, or seconds since 1970".to_owned()
    })?;
    u64::try_from(time.as_second())
        .map(Unix)
        .map_err(|_| "it is before 1970".to_owned())
}
