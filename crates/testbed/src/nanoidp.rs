//! An OpenID Connect server that is not ours: [nanoidp](https://github.com/cdelmonte-zg/nanoidp), as PyPI packages it.
//! `tests/servers/nanoidp/install.sh` installs it and `tests/servers/nanoidp/server.py` configures it. Everything that
//! it serves is the package's own.
//!
//! What an account may do is in the claim `attributes`, as its administrator writes it; the token of an application
//! has scopes. Refresh tokens are JSON Web Tokens too, with the same key and the same `aud`. It takes the secret of an
//! application by one method only, and as it is: it does not decode what RFC 6749, section 2.3.1 has clients encode.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::packaged_server::{PackagedServer, note_left_out, token_in};

/// The audience of its tokens.
pub const AUDIENCE: &str = "https://mqtt.example/";
/// The application with the password grant. It authenticates with an Authorization header.
pub const CLIENT_ID: &str = "broker";
/// Its secret, which encoding does not change.
pub const CLIENT_SECRET: &str = "broker-s_secret.1";
/// Another application with the password grant.
pub const ENCODED_CLIENT_ID: &str = "broker-2";
/// Its secret, which encoding changes.
pub const ENCODED_CLIENT_SECRET: &str = "broker 2's secret+/=";
/// The application that gets tokens for itself. It authenticates in the form.
pub const DEVICE: &str = "device";
/// The user.
pub const USERNAME: &str = "thermostat-1a";
/// The user's password.
pub const PASSWORD: &str = "swordfish & chips 50%+=/";
/// The topics of the user.
pub const TOPICS: [&str; 2] = ["temperature", "config"];
/// The scopes of the device's token.
pub const SCOPES: [&str; 2] = ["publish:temperature", "subscribe:config"];

const DEVICE_SECRET: &str = "device's secret & 100%+=/:";
const INSTALL: &str = "tests/servers/nanoidp/install.sh";

/// A running server. Dropping it stops it.
pub struct Nanoidp(PackagedServer);

/// The tokens of a user.
pub struct Tokens {
    /// The one for this broker.
    pub access: String,
    /// The one that fetches others.
    pub refresh: String,
}

/// Returns the folder with the installed packages, or why there is none.
fn installed() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("target/servers/nanoidp");
    let list = |folder: &Path| fs::read(folder.join("requirements.txt")).ok();
    match (list(&folder), list(&root.join("tests/servers/nanoidp"))) {
        (None, _) => Err(format!("{INSTALL} installs it")),
        (have, want) if have == want => Ok(folder),
        _ => Err(format!("it is another version; run {INSTALL} again")),
    }
}

impl Nanoidp {
    /// Starts a server. Returns `None` and prints a note if it is not installed.
    ///
    /// # Errors
    ///
    /// Returns why an installed server does not start.
    pub fn start_if_installed() -> Result<Option<Self>, String> {
        match installed() {
            Ok(folder) => Self::start(&folder).map(Some),
            Err(why) => {
                note_left_out("nanoidp", &why);
                Ok(None)
            }
        }
    }

    fn start(folder: &Path) -> Result<Self, String> {
        let client = |id: &str, method: &str, secret: &str, scopes: &[&str]| {
            json!({
                "client_id": id,
                "client_secret": secret,
                "token_endpoint_auth_method": method,
                "allowed_scopes": scopes,
            })
        };
        let settings = json!({
            "audience": AUDIENCE,
            "clients": [
                client(CLIENT_ID, "client_secret_basic", CLIENT_SECRET, &["openid"]),
                client(ENCODED_CLIENT_ID, "client_secret_basic", ENCODED_CLIENT_SECRET, &["openid"]),
                client(DEVICE, "client_secret_post", DEVICE_SECRET, &SCOPES),
            ],
            "scopes": SCOPES,
            "username": USERNAME,
            "password": PASSWORD,
            "topics": TOPICS,
        });
        let program = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(folder.join("bin/python"));
        command.arg(program.join("../../tests/servers/nanoidp/server.py"));
        PackagedServer::start("nanoidp", &mut command, settings).map(Self)
    }

    /// Returns the issuer, byte for byte as in discovery and tokens.
    pub fn issuer(&self) -> &str {
        self.0.issuer()
    }

    /// Returns the authority's certificate, in PEM, which clients of this server have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.0.ca_file()
    }

    /// Requests a token for the device.
    ///
    /// # Errors
    ///
    /// Returns what the server answered instead.
    pub fn device_token(&self) -> Result<String, String> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", DEVICE),
            ("client_secret", DEVICE_SECRET),
        ];
        token_in(&self.0.post("/token", &form)?, "access_token")
    }

    /// Requests tokens for the user.
    ///
    /// # Errors
    ///
    /// Returns what the server answered instead.
    pub fn user_tokens(&self) -> Result<Tokens, String> {
        let form = [
            ("grant_type", "password"),
            ("client_id", DEVICE),
            ("client_secret", DEVICE_SECRET),
            ("username", USERNAME),
            ("password", PASSWORD),
        ];
        let answer = self.0.post("/token", &form)?;
        Ok(Tokens {
            access: token_in(&answer, "access_token")?,
            refresh: token_in(&answer, "refresh_token")?,
        })
    }

    /// Has new tokens signed with a new key. Tokens that the old one signed stay good.
    ///
    /// # Errors
    ///
    /// Returns what the server answered instead.
    pub fn rotate_keys(&self) -> Result<(), String> {
        let answer = self.0.post("/api/keys/rotate", &[])?;
        match answer["success"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(answer.to_string()),
        }
    }
}
