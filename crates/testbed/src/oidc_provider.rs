//! An OpenID Connect server that is not ours: [oidc-provider](https://github.com/panva/node-oidc-provider), as npm
//! packages it. `tests/servers/oidc-provider/server.js` configures it. Discovery, keys, tokens and refusals are the
//! package's own; it has no password grant, so that one is added.
//!
//! Its access tokens have the type `at+jwt`, the client's ID as `sub` (or the user's name), and the requested API as
//! `aud`. It signs with one key for each key type, whose entries in the key set need not have `alg`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::json;

use crate::packaged_server::{PackagedServer, note_left_out, token_in};

/// What it signs with: each device has a token with one of these.
pub const ALGORITHMS: [&str; 7] = [
    "RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "EdDSA",
];
/// The audience of its tokens.
pub const AUDIENCE: &str = "https://mqtt.example/";
/// The application with the password grant.
pub const CLIENT_ID: &str = "broker";
/// The secret of every application. It has to be encoded in a form, and once more in an Authorization header.
pub const CLIENT_SECRET: &str = "client secret & 100%+=/:";
/// The user.
pub const USERNAME: &str = "thermostat-1a";
/// The user's password.
pub const PASSWORD: &str = "swordfish & chips 50%+=/";
/// The topics of every token.
pub const TOPICS: [&str; 2] = ["temperature", "config"];

/// The folder with the installed packages, or why there is none.
static INSTALLED: LazyLock<Result<PathBuf, String>> = LazyLock::new(install);

/// A running server. Dropping it stops it.
pub struct OidcProvider(PackagedServer);

/// The oldest version of Node that can run the server.
const NODE: u32 = 20;

/// Returns the major version of Node.
fn node_version() -> Result<u32, String> {
    let output = Command::new("node").arg("--version").output();
    let output = output.map_err(|why| format!("node: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text.trim().trim_start_matches('v').split('.').next();
    let major = major.and_then(|major| major.parse().ok());
    major.ok_or_else(|| format!("node --version says {text:?}"))
}

/// Installs the packages with npm. The checkout stays unchanged.
fn install() -> Result<PathBuf, String> {
    let version = node_version()?;
    if version < NODE {
        return Err(format!(
            "it needs Node {NODE} or later, and this is {version}"
        ));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let from = root.join("tests/servers/oidc-provider");
    let folder = root.join("target/servers/oidc-provider");
    let copy = |name: &str| fs::copy(from.join(name), folder.join(name));
    fs::create_dir_all(&folder)
        .and_then(|()| copy("package.json"))
        .and_then(|_| copy("package-lock.json"))
        .and_then(|_| copy("server.js"))
        .map_err(|why| format!("{}: {why}", folder.display()))?;
    let npm = Command::new("npm")
        .args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--ignore-scripts",
        ])
        .current_dir(&folder)
        .output()
        .map_err(|why| format!("npm: {why}"))?;
    match npm.status.success() {
        true => Ok(folder),
        false => Err(format!("npm ci: {}", String::from_utf8_lossy(&npm.stderr))),
    }
}

impl OidcProvider {
    /// Starts a server. Returns `None` and prints a note if npm cannot install it on this machine.
    ///
    /// # Errors
    ///
    /// Returns why an installed server does not start.
    pub fn start_if_installed() -> Result<Option<Self>, String> {
        match &*INSTALLED {
            Ok(folder) => Self::start(folder).map(Some),
            Err(why) => {
                note_left_out("oidc-provider", why);
                Ok(None)
            }
        }
    }

    fn start(folder: &Path) -> Result<Self, String> {
        let settings = json!({
            "audience": AUDIENCE,
            "topics": TOPICS,
            "algorithms": ALGORITHMS,
            "secret": CLIENT_SECRET,
            "username": USERNAME,
            "password": PASSWORD,
        });
        let mut command = Command::new("node");
        command.arg("server.js").current_dir(folder);
        PackagedServer::start("oidc-provider", &mut command, settings).map(Self)
    }

    /// Returns the issuer, byte for byte as in discovery and tokens.
    pub fn issuer(&self) -> &str {
        self.0.issuer()
    }

    /// Returns the authority's certificate, in PEM, which clients of this server have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.0.ca_file()
    }

    /// Requests a token for the device that has its tokens signed with this algorithm.
    ///
    /// # Errors
    ///
    /// Returns what the server answered instead.
    pub fn token(&self, algorithm: &str) -> Result<String, String> {
        let client_id = format!("device-{algorithm}");
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &client_id),
            ("client_secret", CLIENT_SECRET),
        ];
        token_in(&self.0.post("/token", &form)?, "access_token")
    }
}
