//! An OpenID Connect server that is not ours: [oidc-provider](https://github.com/panva/node-oidc-provider), as npm
//! packages it. `tests/servers/oidc-provider/server.js` configures it. Discovery, keys, tokens and refusals are the
//! package's own; it has no password grant, so that one is added.
//!
//! Its access tokens have the type `at+jwt`, the client's ID as `sub` (or the user's name), and the requested API as
//! `aud`. It signs with one key for each key type, whose entries in the key set need not have `alg`.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};
use ureq::Agent;

use crate::glewlwyd::agent;
use crate::pki::Authority;
use crate::scratch::Scratch;

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

const AUTHORITY: &str = "authority.pem";
const LOG: &str = "server.log";

/// The folder with the installed packages, or why there is none.
static INSTALLED: LazyLock<Result<PathBuf, String>> = LazyLock::new(install);

/// A running server. Dropping it stops it.
pub struct OidcProvider {
    child: Child,
    dir: Scratch,
    agent: Agent,
    issuer: String,
}

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
                // Not `eprintln!`, whose output the test harness hides while the test passes.
                let note = format!(
                    "left out: the cases against oidc-provider ({})\n",
                    why.trim()
                );
                let _ = io::stderr().write_all(note.as_bytes());
                Ok(None)
            }
        }
    }

    fn start(folder: &Path) -> Result<Self, String> {
        let authority = Authority::new("oidc-provider's authority");
        let leaf = authority.issue(&["localhost", "127.0.0.1"]);
        let settings = json!({
            "key": leaf.key_pem,
            "certificate": leaf.cert_pem,
            "audience": AUDIENCE,
            "topics": TOPICS,
            "algorithms": ALGORITHMS,
            "secret": CLIENT_SECRET,
            "username": USERNAME,
            "password": PASSWORD,
        });
        let dir = Scratch::new("lab-oidc-provider").map_err(|why| why.to_string())?;
        let written = dir
            .write("settings.json", settings.to_string())
            .and_then(|settings| {
                dir.write(AUTHORITY, authority.pem())?;
                Ok((settings, fs::File::create_new(dir.path().join(LOG))?))
            });
        let (settings, log) = written.map_err(|why| why.to_string())?;
        // It ends when its input does, also if this process is killed.
        let child = Command::new("node")
            .arg("server.js")
            .arg(settings)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|why| format!("node: {why}"))?;
        let agent = agent(&authority)?;
        let mut server = Self {
            child,
            dir,
            agent,
            issuer: String::new(),
        };
        if let Some(output) = &mut server.child.stdout {
            let read = BufReader::new(output).read_line(&mut server.issuer);
            read.map_err(|why| why.to_string())?;
        }
        server.issuer.truncate(server.issuer.trim_end().len());
        match server.issuer.is_empty() {
            true => Err(format!("oidc-provider ended: {}", server.log())),
            false => Ok(server),
        }
    }

    /// Returns the issuer, byte for byte as in discovery and tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the authority's certificate, in PEM, which clients of this server have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join(AUTHORITY)
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
        let answer = self
            .agent
            .post(format!("{}/token", self.issuer))
            .send_form(form);
        let body = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        let body = body.map_err(|why| why.to_string())?;
        let answer: Value = serde_json::from_str(&body).map_err(|why| why.to_string())?;
        let token = answer["access_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| format!("{body}; {}", self.log()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default()
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        // This is our own child, which is waited for only here, so no other process can have its ID.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
