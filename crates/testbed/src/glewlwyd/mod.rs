//! An identity server that is not ours: [Glewlwyd](https://github.com/babelouest/glewlwyd), as Debian
//! packages it.
//!
//! [`Glewlwyd::start`] runs the packaged program on a free port of the loopback interface, with TLS and with
//! a database and a directory of its own, and configures it through the program's administration interface.
//! No configuration of the machine is read. Dropping the value ends the process and removes the directory.
//!
//! The package provides the program, its modules, the database schema with the administrator in it, discovery,
//! the keys endpoint, the token endpoint, and the form of tokens and refusals. All that this test bed adds is
//! in the module `ours`.
//!
//! What the server answers (2.7.5):
//!
//! | | header | claims |
//! |---|---|---|
//! | access token | `typ` = `at+jwt`, `alg` = `RS256`, `kid` | `iss`, `aud` = **the granted scopes** (`openid`), `sub` (a random string), `client_id`, `exp`, `iat`, `nbf`, `jti`, `type`, `scope`, and additional parameters **as a string joined by commas** |
//! | ID token | `typ` = `JWT`, `alg` = `RS256`, `kid` | `iss`, `aud` = the client ID (a string), `sub`, `azp`, `exp`, `iat`, `auth_time`, `amr`, `at_hash`, and additional claims as arrays |
//!
//! Its refusals are not those of RFC 6749: a wrong password is status 403, a wrong client secret is status
//! 400, and both have an empty body and no content type.

mod ours;

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::lock;
use crate::pki::Authority;
use crate::scratch::Scratch;
use crate::signing::SigningKey;

/// The name of the package, in Debian and in Ubuntu.
const PACKAGE: &str = "glewlwyd";
/// Where the package installs the program. Its modules have a fixed place too, see `ours::file`.
const PROGRAM: &str = "/usr/bin/glewlwyd";
/// The tool that creates a database from the schema. The package depends on it.
const SQLITE: &str = "/usr/bin/sqlite3";
/// The package's own schema, which its installation uses.
const SCHEMA: &str = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3";

/// The environment variable that skips the tests with this server.
const LEFT_OUT: &str = "MOSQUITTO_AUTH0_WITHOUT_GLEWLWYD";

const CONFIGURATION: &str = "glewlwyd.conf";
const DATABASE: &str = "glewlwyd.db";
const LOG: &str = "glewlwyd.log";
const TLS_KEY: &str = "server.key";
const TLS_CERTIFICATE: &str = "server.pem";
const AUTHORITY: &str = "authority.pem";

/// A start takes about a quarter of a second. The value allows for a machine that is busy with other tests.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The interval at which readiness is polled.
const POLL: Duration = Duration::from_millis(10);
/// The timeout of one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How many ports to try when other processes take them.
const PORTS: usize = 16;
/// How many bytes of the program's log an error quotes.
const LOG_TAIL: usize = 2000;

/// A running server. Dropping it stops it.
pub struct Glewlwyd {
    process: ServerProcess,
    agent: Agent,
    origin: String,
    issuer: String,
    token_endpoint: String,
    cookie: String,
    module: Mutex<Module>,
}

/// The tokens that the token endpoint issued to a user.
#[derive(Clone, Debug)]
pub struct UserTokens {
    /// The access token. The table above says what its audience is.
    pub access_token: String,
    /// The ID token.
    pub id_token: String,
}

/// A response of the server, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerResponse {
    /// The HTTP status.
    pub status: u16,
    /// The content type, if there is one.
    pub content_type: Option<String>,
    /// The body, unchanged.
    pub body: String,
}

/// The module's settings that change while it runs.
struct Module {
    key: SigningKey,
    lifetime: Duration,
}

/// The child process and its directory, which are dropped in this order.
struct ServerProcess {
    child: Child,
    dir: Scratch,
}

/// Why a start failed.
enum NotStarted {
    /// The program exited by itself, which it does when the port is taken.
    Ended(String),
    /// Any other error: another port would not help.
    Failed(String),
}

impl Glewlwyd {
    /// Checks that this machine has the program. The error says how to install it.
    pub fn available() -> Result<(), String> {
        match [PROGRAM, SQLITE, SCHEMA]
            .into_iter()
            .find(|path| !Path::new(path).is_file())
        {
            None => Ok(()),
            Some(path) => Err(format!(
                "{path} is not here: install the package {PACKAGE} of Debian or Ubuntu, whose question \
                 about a configuration can be answered with \"No configuration\" (apt-get install \
                 {PACKAGE}), or set {LEFT_OUT}=1 to leave this identity server out"
            )),
        }
    }

    /// Whether the environment variable `MOSQUITTO_AUTH0_WITHOUT_GLEWLWYD` asks to skip tests with this
    /// server.
    pub fn left_out() -> bool {
        env::var_os(LEFT_OUT).is_some_and(|value| !value.is_empty())
    }

    /// Like [`start`](Self::start), but returns `None` and prints a note if the server is
    /// [`left_out`](Self::left_out). A missing program is an error: a test that never ran must not look like
    /// one that passed.
    pub fn start_unless_left_out(authority: &Authority) -> Result<Option<Self>, String> {
        if Self::left_out() {
            // Not `eprintln!`, whose output the test harness hides while the test passes.
            let note =
                format!("left out, because {LEFT_OUT} is set: the cases against {PACKAGE}\n");
            let _ = io::stderr().write_all(note.as_bytes());
            return Ok(None);
        }
        Self::start(authority).map(Some)
    }

    /// Starts a server whose certificate is from `authority`, with one client and one user.
    pub fn start(authority: &Authority) -> Result<Self, String> {
        Self::available()?;
        // Another process may take the port between its choice and the program's start. The program exits
        // then, and the next port is tried.
        let mut last = String::new();
        for _ in 0..PORTS {
            match Self::start_on(free_port()?, authority) {
                Ok(server) => return Ok(server),
                Err(NotStarted::Failed(why)) => return Err(why),
                Err(NotStarted::Ended(why)) => last = why,
            }
        }
        Err(format!(
            "{PACKAGE} found no free port in {PORTS} attempts; the last one: {last}"
        ))
    }

    /// Returns the issuer, byte for byte as in discovery and tokens. It does not end with a slash.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the authority's certificate, in PEM, which clients of this server have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.process.dir.path().join(AUTHORITY)
    }

    /// Returns the client ID for the password grant, which is also the audience of the ID token.
    pub fn client_id(&self) -> &'static str {
        ours::CLIENT_ID
    }

    /// Returns the client's secret.
    pub fn client_secret(&self) -> &'static str {
        ours::CLIENT_SECRET
    }

    /// Returns the name of the user that exists from the start.
    pub fn username(&self) -> &'static str {
        ours::USERNAME
    }

    /// Returns the password of the user that exists from the start.
    pub fn password(&self) -> &'static str {
        ours::PASSWORD
    }

    /// Returns the topics of the user that exists from the start.
    pub fn topics(&self) -> [&'static str; 2] {
        ours::TOPICS
    }

    /// Returns the claim that holds the user's name, because this server's `sub` is a random string.
    pub fn username_claim(&self) -> &'static str {
        ours::USERNAME_CLAIM
    }

    /// Returns the token endpoint, as in discovery.
    pub fn token_endpoint(&self) -> &str {
        &self.token_endpoint
    }

    /// Returns the program's log, for a test that failed.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Requests a user's tokens from the token endpoint, as a broker would.
    pub fn token_for(&self, username: &str, password: &str) -> Result<UserTokens, String> {
        let answer = self.ask(&[
            ("grant_type", "password"),
            ("client_id", ours::CLIENT_ID),
            ("client_secret", ours::CLIENT_SECRET),
            ("username", username),
            ("password", password),
            ("scope", "openid"),
        ])?;
        let body = answer.json()?;
        let token = |name: &str| match &body[name] {
            Value::String(token) => Ok(token.clone()),
            _ => Err(format!("the answer of {PACKAGE} has no {name}")),
        };
        Ok(UserTokens {
            access_token: token("access_token")?,
            id_token: token("id_token")?,
        })
    }

    /// Posts a form to the token endpoint and returns the response.
    pub fn ask(&self, form: &[(&str, &str)]) -> Result<ServerResponse, String> {
        answer(
            self.agent
                .post(&self.token_endpoint)
                .send_form(form.iter().copied()),
        )
    }

    /// Fetches an address of the server, such as discovery's `jwks_uri`.
    pub fn get(&self, url: &str) -> Result<ServerResponse, String> {
        answer(self.agent.get(url).call())
    }

    /// Fetches the discovery document.
    pub fn discovery(&self) -> Result<Value, String> {
        self.get(&discovery_of(&self.issuer))?.json()
    }

    /// Fetches the published keys: one, with which the server signs.
    pub fn jwks(&self) -> Result<Value, String> {
        match &self.discovery()?["jwks_uri"] {
            Value::String(url) => self.get(url)?.json(),
            _ => Err("discovery has no jwks_uri".into()),
        }
    }

    /// Adds a user.
    pub fn add_user(&self, username: &str, password: &str, topics: &[&str]) -> Result<(), String> {
        self.administrator()?
            .post("user/", &ours::user(username, password, topics))
    }

    /// Replaces the signing key. The old key is not published any more.
    pub fn rotate_keys(&self) -> Result<(), String> {
        let key = signing_key();
        self.change(|module| module.key = key)
    }

    /// Changes the lifetime of tokens issued from now on: whole seconds, at least one.
    pub fn set_token_lifetime(&self, lifetime: Duration) -> Result<(), String> {
        self.change(|module| module.lifetime = lifetime)
    }

    /// Sends changed module settings to the server, which applies them at once.
    fn change(&self, change: impl FnOnce(&mut Module)) -> Result<(), String> {
        let mut module = lock(&self.module);
        change(&mut module);
        let administrator = self.administrator()?;
        let path = format!("mod/plugin/{}", ours::INSTANCE);
        administrator.put(&path, Some(&module.describe(&self.issuer)))?;
        administrator.put(&format!("{path}/reset"), None)
    }

    fn administrator(&self) -> Result<Administrator<'_>, String> {
        Administrator::log_in(&self.agent, &self.origin, &self.cookie)
    }

    /// Starts the program on a port. Longer than a screen, because it is the steps of one start, in order.
    fn start_on(port: u16, authority: &Authority) -> Result<Self, NotStarted> {
        let dir = Scratch::new("lab-glewlwyd").map_err(|why| format!("no directory: {why}"))?;
        let origin = format!("https://{}:{port}", Ipv4Addr::LOCALHOST);
        let issuer = format!("{origin}/{}/{}", ours::API, ours::INSTANCE);
        // While the program loads its modules, another test's server may answer on this port with a
        // certificate of the same authority. It would not use this cookie.
        let cookie = dir
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();

        let leaf = authority.issue(&["localhost", "127.0.0.1"]);
        for (name, content) in [
            (TLS_CERTIFICATE, &leaf.cert_pem[..]),
            (TLS_KEY, &leaf.key_pem),
            (AUTHORITY, authority.pem()),
            (
                CONFIGURATION,
                &ours::file(&origin, port, &cookie, dir.path()),
            ),
        ] {
            dir.write(name, content)
                .map_err(|why| format!("{name}: {why}"))?;
        }
        create_database(&dir)?;

        let agent = agent(authority)?;
        let module = Module {
            key: signing_key(),
            lifetime: ours::TOKEN_LIFETIME,
        };

        let mut process = ServerProcess::start(dir)?;
        let until = Instant::now() + READY_WITHIN;
        let administrator =
            process.wait(until, || Administrator::log_in(&agent, &origin, &cookie))?;
        let set_up = administrator
            .add_user_property()
            .and_then(|()| administrator.post("mod/plugin/", &module.describe(&issuer)))
            .and_then(|()| administrator.post("client/", &ours::client()))
            .and_then(|()| {
                administrator.post(
                    "user/",
                    &ours::user(ours::USERNAME, ours::PASSWORD, &ours::TOPICS),
                )
            });
        set_up.map_err(|why| process.with_log(&why))?;
        let token_endpoint = process.wait(until, || {
            let document = answer(agent.get(discovery_of(&issuer)).call())?.json()?;
            match (&document["issuer"], &document["token_endpoint"]) {
                (Value::String(found), Value::String(endpoint)) if *found == issuer => {
                    Ok(endpoint.clone())
                }
                _ => Err(format!("discovery is not that of {issuer}: {document}")),
            }
        })?;
        Ok(Self {
            process,
            agent,
            origin,
            issuer,
            token_endpoint,
            cookie,
            module: Mutex::new(module),
        })
    }
}

impl ServerResponse {
    /// Returns the body as JSON, if the response is a success.
    pub fn json(&self) -> Result<Value, String> {
        self.success()?;
        serde_json::from_str(&self.body).map_err(|why| format!("not JSON ({why}): {:?}", self.body))
    }

    fn success(&self) -> Result<(), String> {
        match self.status {
            200 => Ok(()),
            status => Err(format!("status {status}, body {:?}", self.body)),
        }
    }
}

impl Module {
    fn describe(&self, issuer: &str) -> Value {
        ours::module(
            issuer,
            &self.key.private_pem(),
            &self.key.public_pem(),
            self.lifetime,
        )
    }
}

/// The administration interface, for as long as one session lasts.
struct Administrator<'a> {
    agent: &'a Agent,
    base: String,
    session: String,
}

impl<'a> Administrator<'a> {
    fn log_in(agent: &'a Agent, origin: &str, cookie: &str) -> Result<Self, String> {
        let base = format!("{origin}/{}", ours::API);
        let (username, password) = ours::ADMINISTRATOR;
        let body = serde_json::json!({"username": username, "password": password}).to_string();
        let response = agent
            .post(format!("{base}/auth/"))
            .header("content-type", "application/json")
            .send(body)
            .map_err(|why| why.to_string())?;
        let status = response.status();
        let session = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok()?.split(';').next())
            .find(|pair| pair.split('=').next() == Some(cookie))
            .ok_or_else(|| format!("no session for {username}: status {status}"))?;
        Ok(Self {
            agent,
            base,
            session: session.to_owned(),
        })
    }

    fn post(&self, path: &str, body: &Value) -> Result<(), String> {
        let request = self
            .agent
            .post(self.url(path))
            .header("cookie", &self.session);
        self.done(
            path,
            request
                .header("content-type", "application/json")
                .send(body.to_string()),
        )
    }

    fn put(&self, path: &str, body: Option<&Value>) -> Result<(), String> {
        let request = self
            .agent
            .put(self.url(path))
            .header("cookie", &self.session);
        self.done(
            path,
            match body {
                Some(body) => request
                    .header("content-type", "application/json")
                    .send(body.to_string()),
                None => request.send_empty(),
            },
        )
    }

    /// Defines the property for topics in the user store that comes with the schema.
    fn add_user_property(&self) -> Result<(), String> {
        let path = "mod/user/database";
        let mut store = answer(
            self.agent
                .get(self.url(path))
                .header("cookie", &self.session)
                .call(),
        )?
        .json()?;
        store["parameters"]["data-format"][ours::TOPICS_CLAIM] = ours::user_property();
        self.put(path, Some(&store))?;
        self.put(&format!("{path}/reset"), None)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    fn done(
        &self,
        path: &str,
        result: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<(), String> {
        answer(result)
            .and_then(|answer| answer.success())
            .map_err(|why| format!("{path}: {why}"))
    }
}

impl ServerProcess {
    fn start(dir: Scratch) -> Result<Self, String> {
        let log =
            fs::File::create_new(dir.path().join(LOG)).map_err(|why| format!("{LOG}: {why}"))?;
        let copy = log.try_clone().map_err(|why| format!("{LOG}: {why}"))?;
        let child = Command::new(PROGRAM)
            .arg("--config-file")
            .arg(dir.path().join(CONFIGURATION))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(|why| format!("{PROGRAM}: {why}"))?;
        Ok(Self { child, dir })
    }

    /// Repeats `attempt` until it succeeds, the program exits or the time is over.
    fn wait<T>(
        &mut self,
        until: Instant,
        mut attempt: impl FnMut() -> Result<T, String>,
    ) -> Result<T, NotStarted> {
        loop {
            let result = attempt();
            if let Some(status) = self.ended()? {
                return Err(NotStarted::Ended(
                    self.with_log(&format!("it ended with {status}")),
                ));
            }
            match result {
                Ok(value) => return Ok(value),
                Err(why) if Instant::now() >= until => {
                    let why = format!("not ready after {READY_WITHIN:?}: {why}");
                    return Err(NotStarted::Failed(self.with_log(&why)));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child
            .try_wait()
            .map_err(|why| format!("{PROGRAM}: {why}"))
    }

    fn log(&self) -> String {
        // Its log need not be UTF-8.
        fs::read(self.dir.path().join(LOG))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn with_log(&self, why: &str) -> String {
        let log = self.log();
        let from =
            (log.len().saturating_sub(LOG_TAIL)..=log.len()).find(|at| log.is_char_boundary(*at));
        format!(
            "{PACKAGE}: {why}; the end of its log:\n{}",
            &log[from.unwrap_or(0)..]
        )
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // This is our own child, which is waited for only here and in `ended`, so no other process can have
        // its ID.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<String> for NotStarted {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Creates the database from the package's schema.
fn create_database(dir: &Scratch) -> Result<(), String> {
    let schema = fs::File::open(SCHEMA).map_err(|why| format!("{SCHEMA}: {why}"))?;
    let made = Command::new(SQLITE)
        // Without durability: the database is short-lived, and a slow disk should not matter.
        .args(["-batch", "-bail", "-cmd", "PRAGMA synchronous = OFF"])
        .arg(dir.path().join(DATABASE))
        .stdin(schema)
        .output()
        .map_err(|why| format!("{SQLITE}: {why}"))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{SQLITE} with {SCHEMA}: {}",
            String::from_utf8_lossy(&made.stderr)
        )),
    }
}

/// Returns an HTTP client that trusts only this authority and uses no proxy.
pub(crate) fn agent(authority: &Authority) -> Result<Agent, String> {
    let root = Certificate::from_pem(authority.pem().as_bytes()).map_err(|why| why.to_string())?;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(vec![root])))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        // The server may have closed a pooled connection.
        .max_idle_connections(0)
        .http_status_as_error(false)
        .timeout_global(Some(ANSWER_WITHIN))
        .build();
    Ok(config.into())
}

fn answer(result: Result<Response<ureq::Body>, ureq::Error>) -> Result<ServerResponse, String> {
    let mut response = result.map_err(|why| why.to_string())?;
    let content_type = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut body = String::new();
    response
        .body_mut()
        .as_reader()
        .read_to_string(&mut body)
        .map_err(|why| why.to_string())?;
    Ok(ServerResponse {
        status: response.status().as_u16(),
        content_type,
        body,
    })
}

/// Generates a key. The server derives its own key ID from it.
fn signing_key() -> SigningKey {
    SigningKey::generate("")
}

fn discovery_of(issuer: &str) -> String {
    format!("{issuer}/.well-known/openid-configuration")
}

/// Returns a port of the loopback interface that is free at this moment.
fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|why| format!("no free port: {why}"))
}

/// Quotes a string for the configuration file.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
