//! Options become a typed configuration, or the broker does not start.
//!
//! Every error is one line that names the option, its value and the fix. A secret's value is
//! never in it.

pub mod on_disk;
pub mod options;

use std::{
    collections::HashMap,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{
    files,
    identity::ClientIds,
    proxies::TrustedProxies,
    secret::{Secret, read_secret_file},
    state_dir::StateDir,
};
use acl::{
    claims::{Reading, permissions::Verbs},
    rules::template::{Placeholder, Template},
};
use input::{json::Place, text::Quoted};

/// The shortest secret of HS256, in bytes: as long as the hash (RFC 7518, section 3.2).
pub const HS256_MIN_SECRET: usize = 32;

/// A signature algorithm that Auth0 uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, Auth0's default.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// HMAC with SHA-256: everyone who can verify can forge.
    Hs256,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Rs256, Self::Ps256, Self::Hs256];

    /// Its name in a JOSE header (RFC 7518, section 3.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Hs256 => "HS256",
        }
    }

    /// The algorithm of that name, exactly as written.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// Where the tenant's endpoints are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// An Auth0 tenant: the paths follow from the domain.
    Domain(String),
    /// Any OpenID provider: they are discovered at this issuer.
    Issuer(String),
}

impl Home {
    /// The domain or the issuer.
    pub fn name(&self) -> &str {
        match self {
            Self::Domain(name) | Self::Issuer(name) => name,
        }
    }
}

/// Where the signing keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The tenant.
    Tenant,
    /// A JWK Set on this machine.
    File(PathBuf),
}

/// The application that credentials mode acts for.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its client ID.
    pub client_id: String,
    /// Its client secret.
    pub client_secret: Secret,
    /// The connection (realm) in which the devices are; the tenant's default directory if none.
    pub connection: Option<String>,
    /// The scope asked for.
    pub scope: String,
}

/// Everything an operator decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the tenant is.
    pub home: Home,
    /// Accepted values of `iss`.
    pub issuers: Vec<String>,
    /// Accepted values of `aud`; never empty. The first is what credentials mode asks for.
    pub audiences: Vec<String>,
    /// Credentials mode, if it is on.
    pub application: Option<Application>,
    /// Which claims say what a device may do.
    pub reading: Reading,
    /// The policy file, if there is one.
    pub policy_file: Option<PathBuf>,
    /// The claim that becomes the user name in token mode.
    pub username_claim: String,
    /// What the broker is told in front of the user names of those who come in through the tenant.
    pub username_prefix: String,
    /// Which client ids a token's bearer may use.
    pub client_ids: ClientIds,
    /// Whether a client id that one subject holds may be taken over by another.
    pub any_takeover: bool,
    /// Whether clients that are not ours are left to others.
    pub defer_others: bool,
    /// Whether messages and subscriptions of our clients are left to others.
    pub defer_acl: bool,
    /// Accepted signature algorithms; never empty.
    pub algorithms: Vec<Algorithm>,
    /// The secret of HS256 tokens; there exactly if HS256 is accepted.
    pub hs256_secret: Option<Secret>,
    /// Seconds that clocks may differ.
    pub leeway: u64,
    /// The most that one CONNECT may wait for the tenant, and the most one fetch of keys may take.
    pub timeout: Duration,
    /// The most that the broker stands still for one CONNECT.
    pub login_wait: Duration,
    /// The most of any ten seconds that the broker stands still, in percent.
    pub stall_budget: u32,
    /// The most requests to the tenant at a time.
    pub login_workers: usize,
    /// The most requests to the tenant a second, in the long run.
    pub login_rate: u32,
    /// The most seconds that a good login is remembered.
    pub login_cache: u64,
    /// The proxies whose word about a client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether MQTT 5 clients, too, are answered later.
    pub delay_mqtt5: bool,
    /// Certificates to trust for the tenant, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the signing keys come from.
    pub keys: KeySource,
    /// How long fetched keys stay good while the tenant cannot be asked.
    pub jwks_max_stale: Duration,
    /// Where keys are kept over a restart, if anywhere.
    pub state_dir: Option<StateDir>,
}

/// What is wrong with the configuration: one line.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ConfigError {
    /// An option whose value is wrong, and how to set it right.
    pub fn of(option: &str, value: &str, what: impl fmt::Display) -> Self {
        match options::find(option) {
            Some(known) if known.secret => Self(format!("option {option}: {what}")),
            _ => Self(format!("option {option}, value {}: {what}", Quoted(value))),
        }
    }

    fn missing(option: &str, fix: &str) -> Self {
        Self(format!("option {option} is missing: {fix}"))
    }
}

type Result<T> = std::result::Result<T, ConfigError>;

impl Config {
    /// Reads `plugin_opt_` pairs, and the file that `config_file` names.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn read(pairs: Vec<(String, String)>) -> Result<Self> {
        let mut values = Values::default();
        for (name, value) in pairs {
            values.set(name, value)?;
        }
        if let Some(path) = values.take("config_file") {
            values.add_file(&path)?;
        }
        values.into_config()
    }
}

/// The longest configuration file read, in bytes: room for every option many times over.
const MAX_CONFIG_FILE: u64 = 256 * 1024;

/// The longest file that another option may name, in bytes. The system's whole bundle of
/// certificates has a quarter of a megabyte.
const MAX_NAMED_FILE: u64 = 4 * 1024 * 1024;

/// Options that were set and not yet understood.
#[derive(Default)]
struct Values(HashMap<String, String>);

impl Values {
    fn set(&mut self, name: String, value: String) -> Result<()> {
        if options::find(&name).is_none() {
            let hint = match options::nearest(&name) {
                Some(near) => format!("did you mean {near}?"),
                None => "the README lists the options".into(),
            };
            // A misspelt `client_secret` still holds the secret.
            let meant = options::nearest(&name).and_then(options::find);
            let shown = if meant.is_some_and(|option| option.secret) || name.contains("secret") {
                "(not shown)".into()
            } else {
                Quoted(&value).to_string()
            };
            return Err(ConfigError(format!(
                "option {}, value {shown}: there is no such option; {hint}",
                Quoted(&name)
            )));
        }
        if value.trim().is_empty() {
            return Err(ConfigError::of(
                &name,
                &value,
                "it is empty; give it a value or leave the line out",
            ));
        }
        let quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
        let commented =
            value.contains(" #") && !options::find(&name).is_some_and(|option| option.secret);
        if quoted || commented {
            return Err(ConfigError::of(
                &name,
                &value,
                "mosquitto.conf takes the whole rest of a line as the value; leave quotes and comments out",
            ));
        }
        if self.0.contains_key(&name) {
            return Err(ConfigError::of(
                &name,
                &value,
                "it is set twice; leave one of the two out",
            ));
        }
        self.0.insert(name, value);
        Ok(())
    }

    fn add_file(&mut self, path: &str) -> Result<()> {
        let error = |what: String| ConfigError::of("config_file", path, what);
        let content = files::read(Path::new(path), MAX_CONFIG_FILE)
            .map_err(|why| error(format!("it {why}")))?;
        let text = std::str::from_utf8(&content.bytes)
            .map_err(|_| error("it is not UTF-8 text".into()))?;
        // Only place and kind of a mistake: a quoted line could be the one with the secret.
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let before = text
                .get(..e.span().map_or(0, |span| span.start))
                .unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            error(format!(
                "line {line} is not good TOML ({}); write NAME = \"VALUE\"",
                e.message()
            ))
        })?;
        if table
            .keys()
            .any(|name| options::find(name).is_some_and(|option| option.secret))
        {
            let why = |why| error(format!("it holds a secret and {why}"));
            content.is_private(Path::new(path)).map_err(why)?;
        }
        for (name, value) in table {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Array(list) if list.iter().all(toml::Value::is_str) => list
                    .iter()
                    .filter_map(toml::Value::as_str)
                    .collect::<Vec<_>>()
                    .join(","),
                _ => {
                    return Err(error(format!(
                        "its option {} is neither text nor a number nor a list of texts",
                        Quoted(&name)
                    )));
                }
            };
            if name == "config_file" {
                return Err(error(
                    "it names another config_file; put everything in one".into(),
                ));
            }
            self.set(name, value)?;
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).map(|value| value.trim().to_owned())
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        self.take(name).map(|value| value.to_string())
    }

    /// A comma-separated list without empty parts.
    fn take_list(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.take(name)?;
        Some(
            value
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    fn take_seconds(
        &mut self,
        name: &str,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Result<u64> {
        self.take_whole(name, "whole seconds", default, allowed)
    }

    fn take_number(
        &mut self,
        name: &str,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Result<u64> {
        self.take_whole(name, "a whole number", default, allowed)
    }

    fn take_whole(
        &mut self,
        name: &str,
        what: &str,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Result<u64> {
        let Some(value) = self.take(name) else {
            return Ok(default);
        };
        let number = value.parse().ok().filter(|number| allowed.contains(number));
        number.ok_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            ConfigError::of(name, &value, format!("write {what} from {least} to {most}"))
        })
    }

    fn take_duration(&mut self, name: &str, default: f64, most: f64) -> Result<Duration> {
        let Some(value) = self.take(name) else {
            return Ok(Duration::from_secs_f64(default));
        };
        let seconds = value
            .parse()
            .ok()
            .filter(|seconds| (0.0..=most).contains(seconds));
        seconds.map(Duration::from_secs_f64).ok_or_else(|| {
            ConfigError::of(
                name,
                &value,
                format!("write seconds from 0 to {most}, as in 0.5"),
            )
        })
    }

    fn take_flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(ConfigError::of(name, other, "write true or false")),
        }
    }

    /// One of two words, of which the first is the default; whether it is the second.
    fn take_word(&mut self, name: &str, [usual, other]: [&str; 2]) -> Result<bool> {
        match self.take(name).as_deref() {
            None => Ok(false),
            Some(word) if word == usual => Ok(false),
            Some(word) if word == other => Ok(true),
            Some(word) => Err(ConfigError::of(
                name,
                word,
                format!("write {usual} or {other}"),
            )),
        }
    }

    fn username_prefix(&mut self) -> Result<String> {
        const MAX: usize = 64;
        let prefix = self.take_text("username_prefix").unwrap_or_default();
        // It stands in user names, and they stand in the topics of an acl_file (`%u`).
        let fits = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '+' | '#');
        if prefix.len() > MAX || !prefix.chars().all(fits) {
            return Err(ConfigError::of(
                "username_prefix",
                &prefix,
                "write at most 64 bytes without spaces, /, + and #, as in auth0:",
            ));
        }
        Ok(prefix)
    }

    fn client_ids(&mut self) -> Result<ClientIds> {
        let claim = self.take_text("client_id_claim");
        let template = self.take_text("client_id_template");
        match (claim, template) {
            (None, None) => Ok(ClientIds::Any),
            (Some(claim), None) => Ok(ClientIds::Claim(claim)),
            (None, Some(text)) => {
                let error = |why: String| ConfigError::of("client_id_template", &text, why);
                let template = Template::parse(&text).map_err(|why| error(why.to_string()))?;
                let names: Vec<_> = template.placeholders().map(|(name, _)| name).collect();
                if names.contains(&&Placeholder::ClientId) {
                    return Err(error(
                        "it asks for the client id itself; name a claim, as in device-${sub}"
                            .into(),
                    ));
                }
                if names.is_empty() || text.contains(['+', '#']) {
                    return Err(error("every device would need the same client id; name a claim, as in device-${sub}".into()));
                }
                Ok(ClientIds::Template(template))
            }
            (Some(_), Some(text)) => Err(ConfigError::of(
                "client_id_template",
                &text,
                "client_id_claim is set too; leave one of the two out",
            )),
        }
    }

    fn trusted_proxies(&mut self) -> Result<TrustedProxies> {
        let Some(list) = self.take_list("trusted_proxies") else {
            return Ok(TrustedProxies::default());
        };
        const FIX: &str =
            "write addresses or networks with commas between them, as in 127.0.0.1,10.0.0.0/8";
        match TrustedProxies::parse(&list) {
            Ok(proxies) if !proxies.is_empty() => Ok(proxies),
            Ok(_) => Err(ConfigError::of("trusted_proxies", "", FIX)),
            Err(bad) => Err(ConfigError::of("trusted_proxies", bad, FIX)),
        }
    }

    fn defer_acl(&mut self) -> Result<bool> {
        let defer = self.take_word("acl", ["own", "defer"])?;
        match self.0.get("policy_file") {
            Some(path) if defer => Err(ConfigError::of(
                "policy_file",
                path,
                "acl is defer, so nobody would ask it; leave one of the two out",
            )),
            _ => Ok(defer),
        }
    }

    fn take_file(&mut self, name: &str) -> Result<Option<PathBuf>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let path = PathBuf::from(value.as_str());
        // Read again by whoever needs it; here only so that the option is named.
        files::read(&path, MAX_NAMED_FILE)
            .map_err(|why| ConfigError::of(name, &value, format!("it {why}")))?;
        Ok(Some(path))
    }

    fn take_state_dir(&mut self) -> Result<Option<StateDir>> {
        let Some(value) = self.take("state_dir") else {
            return Ok(None);
        };
        StateDir::open(Path::new(value.as_str()))
            .map(Some)
            .map_err(|why| ConfigError::of("state_dir", &value, format!("it {why}")))
    }

    fn take_secret_file(&mut self, name: &str) -> Result<Option<Secret>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        // Somebody pasted the secret itself where its file belongs.
        if !value.contains('/') {
            return Err(ConfigError(format!(
                "option {name}, value (not shown): write the full path of a file that holds the secret, as in /etc/mosquitto/auth0.secret"
            )));
        }
        let secret = read_secret_file(Path::new(value.as_str()));
        secret
            .map(Some)
            .map_err(|why| ConfigError::of(name, &value, format!("it {why}")))
    }

    fn into_config(mut self) -> Result<Config> {
        let domain = self
            .take("domain")
            .map(|value| domain(&value))
            .transpose()?;
        let issuers = self
            .take_list("issuer")
            .map(|list| list.into_iter().map(issuer).collect::<Result<Vec<_>>>())
            .transpose()?;
        let (home, issuers) = match (domain, issuers) {
            (Some(domain), None) => {
                let issuer = format!("https://{domain}/");
                (Home::Domain(domain), vec![issuer])
            }
            (Some(domain), Some(issuers)) if !issuers.is_empty() => (Home::Domain(domain), issuers),
            (None, Some(issuers)) if !issuers.is_empty() => {
                (Home::Issuer(issuers[0].clone()), issuers)
            }
            (_, Some(_)) => {
                return Err(ConfigError::of(
                    "issuer",
                    "",
                    "it lists nothing; write https://…",
                ));
            }
            (None, None) => {
                return Err(ConfigError::missing(
                    "domain",
                    "add the line: plugin_opt_domain YOUR-TENANT.eu.auth0.com",
                ));
            }
        };

        let audiences = self.take_list("audience").unwrap_or_default();
        if audiences.is_empty() {
            return Err(ConfigError::missing(
                "audience",
                "add the line: plugin_opt_audience IDENTIFIER-OF-YOUR-API (in Auth0: Applications > APIs)",
            ));
        }

        let (algorithms, hs256_secret) = self.signatures()?;
        let defer_acl = self.defer_acl()?;
        Ok(Config {
            home,
            issuers,
            audiences,
            application: self.application()?,
            reading: self.reading(defer_acl)?,
            policy_file: self.take_file("policy_file")?,
            username_claim: self
                .take_text("username_claim")
                .unwrap_or_else(|| "sub".into()),
            username_prefix: self.username_prefix()?,
            client_ids: self.client_ids()?,
            any_takeover: self.take_word("takeover", ["subject", "any"])?,
            defer_others: self.take_word("on_other", ["deny", "defer"])?,
            defer_acl,
            algorithms,
            hs256_secret,
            leeway: self.take_seconds("leeway", 30, 0..=300)?,
            timeout: Duration::from_secs(self.take_seconds("timeout", 5, 1..=60)?),
            login_wait: self.take_duration("login_wait", 1.0, 60.0)?,
            stall_budget: self.take_number("stall_budget", 20, 0..=100)? as u32,
            login_workers: self.take_number("login_workers", 64, 1..=256)? as usize,
            login_rate: self.take_number("login_rate", 5, 1..=10_000)? as u32,
            login_cache: self.take_seconds("login_cache", 86_400, 0..=30 * 86_400)?,
            trusted_proxies: self.trusted_proxies()?,
            delay_mqtt5: self.take_flag("delay_mqtt5")?,
            ca_file: self.take_file("ca_file")?,
            keys: self
                .take_file("jwks_file")?
                .map_or(KeySource::Tenant, KeySource::File),
            jwks_max_stale: Duration::from_secs(self.take_seconds(
                "jwks_max_stale",
                86_400,
                0..=30 * 86_400,
            )?),
            state_dir: self.take_state_dir()?,
        })
    }

    /// Which claims count: none where others decide what a device may do, and then a claim that is
    /// not as it should be keeps nobody out. The options about them may stay: unlike a policy file, they
    /// deny nothing that would now go.
    fn reading(&mut self, defer_acl: bool) -> Result<Reading> {
        const FIX: &str =
            "write one or more of topics, permissions, scope, with commas between them";
        let topics = match (
            self.take_text("topics_claim"),
            self.take_text("topics_pointer"),
        ) {
            (Some(_), Some(pointer)) => {
                return Err(ConfigError::of(
                    "topics_pointer",
                    &pointer,
                    "topics_claim is set too; leave one of the two out",
                ));
            }
            (_, Some(pointer)) if !pointer.starts_with('/') => {
                return Err(ConfigError::of(
                    "topics_pointer",
                    &pointer,
                    "write a JSON pointer, as in /app/topics",
                ));
            }
            (_, Some(pointer)) => Place::Pointer(pointer),
            (name, None) => Place::Name(name.unwrap_or_else(|| "topics".into())),
        };
        let mut reading = Reading {
            topics: None,
            permissions: false,
            scope: false,
            verbs: self.verbs()?,
            placeholders: self.take_flag("claim_placeholders")?,
        };
        let default = || vec!["topics".into(), "permissions".into()];
        let sources = self.take_list("rights").unwrap_or_else(default);
        for source in &sources {
            match source.as_str() {
                "topics" => reading.topics = Some(topics.clone()),
                "permissions" => reading.permissions = true,
                "scope" => reading.scope = true,
                other => return Err(ConfigError::of("rights", other, FIX)),
            }
        }
        if sources.is_empty() {
            return Err(ConfigError::of("rights", "", FIX));
        }
        if defer_acl {
            (reading.topics, reading.permissions, reading.scope) = (None, false, false);
            reading.placeholders = false;
        }
        Ok(reading)
    }

    fn verbs(&mut self) -> Result<Verbs> {
        let Some(value) = self.take_text("permission_verbs") else {
            return Ok(Verbs::default());
        };
        let words: Vec<_> = value.split(',').map(str::trim).collect();
        match words[..] {
            [publish, subscribe, both]
                if words
                    .iter()
                    .all(|word| !word.is_empty() && !word.contains([' ', ':']))
                    && publish != subscribe
                    && subscribe != both
                    && both != publish =>
            {
                Ok(Verbs {
                    publish: publish.into(),
                    subscribe: subscribe.into(),
                    both: both.into(),
                })
            }
            _ => Err(ConfigError::of(
                "permission_verbs",
                &value,
                "write three different words, for publishing, for subscribing and for both, as in write,read,readwrite",
            )),
        }
    }

    fn application(&mut self) -> Result<Option<Application>> {
        let client_id = self.take_text("client_id");
        let inline = self
            .take("client_secret")
            .map(|value| Secret::new(value.as_bytes()));
        let from_file = self.take_secret_file("client_secret_file")?;
        let (connection, scope) = (self.take_text("connection"), self.take_text("scope"));
        let client_secret = match (inline, from_file) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::of(
                    "client_secret",
                    "",
                    "client_secret_file is set too; keep the file and leave this out",
                ));
            }
            (secret, None) | (None, secret) => secret,
        };
        match (client_id, client_secret) {
            (Some(client_id), Some(client_secret)) => {
                if client_secret.reveal_str().is_none() {
                    return Err(ConfigError::of(
                        "client_secret",
                        "",
                        "the client secret is not UTF-8 text; copy it from the application's settings again",
                    ));
                }
                let scope = scope.unwrap_or_else(|| "openid".into());
                Ok(Some(Application {
                    client_id,
                    client_secret,
                    connection,
                    scope,
                }))
            }
            (Some(_), None) => Err(ConfigError::missing(
                "client_secret_file",
                "client_id is set; add the file with its secret, or leave client_id out to turn credentials mode off",
            )),
            (None, Some(_)) => Err(ConfigError::missing(
                "client_id",
                "a client secret is set; add the client ID of the same application",
            )),
            (None, None) => {
                let stray = [("connection", &connection), ("scope", &scope)]
                    .into_iter()
                    .find_map(|(name, value)| Some((name, value.as_deref()?)));
                match stray {
                    Some((name, value)) => Err(ConfigError::of(
                        name,
                        value,
                        "it is for credentials mode, which is off; set client_id and client_secret_file, or leave it out",
                    )),
                    None => Ok(None),
                }
            }
        }
    }

    fn signatures(&mut self) -> Result<(Vec<Algorithm>, Option<Secret>)> {
        let mut algorithms = Vec::new();
        for name in self
            .take_list("algorithms")
            .unwrap_or_else(|| vec!["RS256".into()])
        {
            match Algorithm::parse(&name) {
                Some(algorithm) if !algorithms.contains(&algorithm) => algorithms.push(algorithm),
                Some(_) => {}
                None => {
                    return Err(ConfigError::of(
                        "algorithms",
                        &name,
                        "write one or more of RS256, PS256, HS256, with commas between them",
                    ));
                }
            }
        }
        if algorithms.is_empty() {
            return Err(ConfigError::of(
                "algorithms",
                "",
                "write one or more of RS256, PS256, HS256, with commas between them",
            ));
        }

        let path = self
            .0
            .get("hs256_secret_file")
            .map(|value| value.to_string())
            .unwrap_or_default();
        let secret = self.take_secret_file("hs256_secret_file")?;
        let encoding = self.take_text("hs256_secret_encoding");
        let wanted = algorithms.contains(&Algorithm::Hs256);
        let secret = match secret {
            None if wanted => return Err(ConfigError::missing("hs256_secret_file", "algorithms lists HS256; add a file with the API's signing secret")),
            None => {
                if let Some(encoding) = encoding {
                    return Err(ConfigError::of("hs256_secret_encoding", &encoding, "it needs hs256_secret_file; set that or leave this out"));
                }
                return Ok((algorithms, None));
            }
            Some(_) if !wanted => return Err(ConfigError::of("hs256_secret_file", &path, "algorithms does not list HS256; add it, or leave the file out")),
            Some(secret) => match encoding.as_deref() {
                None | Some("utf8") => secret,
                Some("base64") => decode_base64(&secret)
                    .ok_or_else(|| ConfigError::of("hs256_secret_encoding", "base64", "the secret in hs256_secret_file is not base64; write utf8 unless the tenant is from before 2017"))?,
                Some(other) => return Err(ConfigError::of("hs256_secret_encoding", other, "write utf8, or base64 for a tenant whose secrets were base64-encoded")),
            },
        };
        if secret.reveal().len() < HS256_MIN_SECRET {
            return Err(ConfigError::of(
                "hs256_secret_file",
                &path,
                "the secret has fewer than 32 bytes, which HS256 forbids (RFC 7518, section 3.2); use a longer one",
            ));
        }
        Ok((algorithms, Some(secret)))
    }
}

/// Base64 or base64url, with or without padding: old tenants show either.
fn decode_base64(secret: &Secret) -> Option<Secret> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&alphabet::URL_SAFE, &alphabet::STANDARD]
        .into_iter()
        .find_map(|alphabet| {
            GeneralPurpose::new(alphabet, config)
                .decode(secret.reveal())
                .ok()
        })
        .map(Secret::new)
}

/// `host` or `host:port`.
fn domain(value: &str) -> Result<String> {
    let error = |what: &str| Err(ConfigError::of("domain", value, what));
    if value.starts_with("http://") {
        return error(
            "plain http would show every password on the way; write the host name only, as in example.eu.auth0.com",
        );
    }
    if value.starts_with("https://") || value.contains('/') {
        return error("write the host name only, as in example.eu.auth0.com");
    }
    let (host, port) = value
        .split_once(':')
        .map_or((value, None), |(host, port)| (host, Some(port)));
    let good_host = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !good_host || !good_port {
        return error(
            "it is no host name; write it as in example.eu.auth0.com, or with a port as in localhost:8443",
        );
    }
    // Auth0 spells its issuer in lower case, and it is compared byte for byte.
    Ok(value.to_ascii_lowercase())
}

fn issuer(value: String) -> Result<String> {
    if value.starts_with("http://") {
        return Err(ConfigError::of(
            "issuer",
            &value,
            "plain http would let anyone on the way hand out keys; write https://…",
        ));
    }
    let host = value
        .strip_prefix("https://")
        .map(|rest| rest.split('/').next().unwrap_or_default());
    match host {
        Some(host)
            if !host.is_empty()
                && value
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#')) =>
        {
            Ok(value)
        }
        _ => Err(ConfigError::of(
            "issuer",
            &value,
            "write it as in https://example.eu.auth0.com/, with the slash if the tenant's tokens have it",
        )),
    }
}

#[cfg(test)]
mod tests;
