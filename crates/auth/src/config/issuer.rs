//! The options of one issuer: where its tenant is, what its tokens must satisfy, and what they mean.

use std::{path::PathBuf, time::Duration};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    Algorithm, Application, ConfigError, HS256_MIN_SECRET, KeySource, Result, TenantAddress,
    errors::Problem,
    given::{Given, wrong},
    proxy::{self, is_host, is_port},
};
use crate::{
    claim_sources::ClaimSources,
    client_auth::{ApplicationCredential, ClientAuth, assertion::AssertionKey},
    http_proxy::HttpProxy,
    identity::ClientIds,
    secret::Secret,
    username::Usernames,
};
use acl::{
    claims::{AdminPermission, Reading, Verbs},
    rules::{Placeholder, Template},
};
use input::json::{Place, Places};

const AUTH_METHOD: &str = "token_endpoint_auth_method";
const KEY_FILE: &str = "client_assertion_key_file";

/// Where an issuer is, what its tokens must satisfy, and what they mean.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// Where the tenant is.
    pub tenant: TenantAddress,
    /// Where the discovery document is, if it is not below the issuer.
    pub(crate) discovery_url: Option<String>,
    /// Where the signing keys are fetched, if it is not where the tenant says.
    pub(crate) jwks_uri: Option<String>,
    /// The accepted values of `iss`; never empty.
    pub names: Vec<String>,
    /// The accepted values of `aud`; never empty. The plugin asks for tokens for the first.
    pub audiences: Vec<String>,
    /// The application of credentials mode, if that mode is on.
    pub application: Option<Application>,
    /// The claims that say what a client may do.
    pub reading: Reading,
    /// The policy file of this issuer alone, if it has one.
    pub(crate) policy_file: Option<PathBuf>,
    /// Claims that stand in for `aud`.
    pub(crate) audience_claim: Places,
    /// Where the claims are that have other names in its tokens.
    pub(crate) sources: ClaimSources,
    /// What becomes the user name of a client with a token.
    pub(crate) usernames: Usernames,
    /// What the broker is told in front of the tenant's user names.
    pub(crate) username_prefix: String,
    /// The client IDs that a token allows.
    pub(crate) client_ids: ClientIds,
    /// The accepted signature algorithms; never empty.
    pub algorithms: Vec<Algorithm>,
    /// The secret of HS256 tokens, if HS256 is accepted.
    pub(crate) hs256_secret: Option<Secret>,
    /// The authorities to trust for the tenant, if not the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy through which the tenant is asked, if there is one.
    pub proxy: Option<HttpProxy>,
    /// Where the signing keys come from.
    pub keys: KeySource,
    /// How long fetched keys stay good while the tenant cannot be reached.
    pub(crate) jwks_max_stale: Duration,
}

impl IssuerConfig {
    /// Returns the issuer that these plain options describe: a policy file among them is that of all issuers.
    /// `defer_acl` says that others decide about messages.
    ///
    /// # Errors
    ///
    /// Returns the first thing that is wrong.
    pub(super) fn of(given: &Given, defer_acl: bool) -> Result<Self> {
        let (tenant, names) = tenant(given)?;
        let audiences = given.list("audience");
        if audiences.is_empty() {
            return Err(ConfigError::hidden("audience", Problem::NoAudience));
        }
        let (algorithms, hs256_secret) = signatures(given)?;
        Ok(Self {
            tenant,
            discovery_url: discovery_url(given)?,
            jwks_uri: https_url(given, "jwks_uri")?,
            names,
            audiences: audiences.into_iter().map(str::to_owned).collect(),
            application: application(given)?,
            reading: reading(given, defer_acl)?,
            policy_file: None,
            audience_claim: Places::parse(given.list("audience_claim")),
            sources: sources(given)?,
            usernames: usernames(given)?,
            username_prefix: username_prefix(given)?,
            client_ids: client_ids(given)?,
            algorithms,
            hs256_secret,
            ca_file: given.file("ca_file")?,
            proxy: proxy::read(given)?,
            keys: given
                .file("jwks_file")?
                .map_or(KeySource::Tenant, KeySource::File),
            jwks_max_stale: Duration::from_secs(given.whole("jwks_max_stale")?),
        })
    }

    /// Returns the issuer that the options in an `[[issuer]]` table describe, with its own policy file if it has one.
    ///
    /// # Errors
    ///
    /// Returns the first thing that is wrong.
    pub(super) fn of_table(given: &Given, defer_acl: bool) -> Result<Self> {
        Ok(Self {
            policy_file: own_policy_file(given, defer_acl)?,
            ..Self::of(given, defer_acl)?
        })
    }

    /// Whether a token can only be used with certain client IDs.
    pub fn binds_client_ids(&self) -> bool {
        !matches!(self.client_ids, ClientIds::Any)
    }

    /// Whether keys are fetched from the tenant at all.
    pub fn fetches_keys(&self) -> bool {
        self.keys == KeySource::Tenant && self.algorithms != [Algorithm::Hs256]
    }
}

/// Returns the policy file of an `[[issuer]]` table.
fn own_policy_file(given: &Given, defer_acl: bool) -> Result<Option<PathBuf>> {
    const NAME: &str = "policy_file";
    match given.given(NAME) {
        Some(path) if defer_acl => Err(ConfigError::new(NAME, path, Problem::PolicyFileUnused)),
        _ => given.file(NAME),
    }
}

/// Where the tenant is, and the issuers of its tokens.
pub(super) fn tenant(given: &Given) -> Result<(TenantAddress, Vec<String>)> {
    let domain = given.given("domain").map(domain).transpose()?;
    let issuers = given.list("issuer").into_iter().map(issuer);
    let issuers = issuers.collect::<Result<Vec<_>>>()?;
    match (domain, issuers.first()) {
        (_, None) if given.given("issuer").is_some() => Err(wrong("issuer", "")),
        (Some(domain), None) => {
            let tenant = TenantAddress::Domain(domain);
            let issuer = tenant.issuer();
            Ok((tenant, vec![issuer]))
        }
        (Some(domain), Some(_)) => Ok((TenantAddress::Domain(domain), issuers)),
        (None, Some(first)) => Ok((TenantAddress::Issuer(first.clone()), issuers)),
        (None, None) => Err(ConfigError::hidden("domain", Problem::NoDomain)),
    }
}

/// Checks that the value is `host` or `host:port`.
fn domain(value: &str) -> Result<String> {
    if value.starts_with("http://") {
        return Err(ConfigError::new("domain", value, Problem::PlainHttp));
    }
    if value.contains('@') {
        return Err(ConfigError::hidden("domain", Problem::LoginInAddress));
    }
    let (host, port) = value
        .split_once(':')
        .map_or((value, None), |(host, port)| (host, Some(port)));
    if !is_host(host) || !port.is_none_or(is_port) {
        return Err(wrong("domain", value));
    }
    // Auth0 spells its issuer in lower case, and it is compared byte for byte.
    Ok(value.to_ascii_lowercase())
}

/// Checks that the value is an https address without a query.
fn issuer(value: &str) -> Result<String> {
    let address = https_address("issuer", value)?;
    match address.contains('?') {
        false => Ok(address),
        true => Err(wrong("issuer", value)),
    }
}

/// Checks that the value of this option is an https address.
fn https_address(name: &'static str, value: &str) -> Result<String> {
    let (_, after_scheme) = value.split_once("://").unwrap_or(("", value));
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    // If no port follows the colon, this may be a user name and a password that contains a slash.
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit());
    if authority.contains('@') || !is_port {
        return Err(ConfigError::hidden(name, Problem::LoginInAddress));
    }
    if value.starts_with("http://") {
        return Err(ConfigError::new(name, value, Problem::PlainHttp));
    }
    let is_plain = |b: u8| b.is_ascii_graphic() && b != b'#';
    match value.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && value.bytes().all(is_plain) => {
            Ok(value.to_owned())
        }
        _ => Err(wrong(name, value)),
    }
}

/// Returns where the discovery document is, which nobody reads with `domain`.
fn discovery_url(given: &Given) -> Result<Option<String>> {
    let url = https_url(given, "discovery_url")?;
    match (&url, given.given("domain")) {
        (Some(url), Some(_)) => {
            let problem = Problem::DiscoveryWithDomain;
            Err(ConfigError::new("discovery_url", url, problem))
        }
        _ => Ok(url),
    }
}

/// Returns an option that is an https address.
fn https_url(given: &Given, name: &'static str) -> Result<Option<String>> {
    let value = given.given(name);
    value.map(|value| https_address(name, value)).transpose()
}

/// The application of credentials mode, which has an ID and a secret or a key, or is not there at all.
fn application(given: &Given) -> Result<Option<Application>> {
    let (secret, key) = (client_secret(given)?, assertion_key(given)?);
    let Some(client_id) = given.given("client_id") else {
        if secret.is_some() || key.is_some() {
            return Err(ConfigError::hidden("client_id", Problem::NoClientId));
        }
        let of_the_application = ["connection", "scope", "token_endpoint_auth_method"];
        let set = |name| given.given(name).map(|value| (name, value));
        return match of_the_application.into_iter().find_map(set) {
            Some((name, value)) => {
                let problem = Problem::CredentialsModeOff;
                Err(ConfigError::new(name, value, problem))
            }
            None => Ok(None),
        };
    };
    let auth = client_auth(given)?;
    let error = |name: &str, problem| {
        let value = given.given(name).unwrap_or_default();
        Err(ConfigError::new(name, value, problem))
    };
    let missing = |name, problem| Err(ConfigError::hidden(name, problem));
    let (credential, auth) = match (secret, key, auth) {
        (Some(_), Some(_), _) => {
            let is_inline = given.given("client_secret").is_some();
            let by = match is_inline {
                true => "client_secret",
                false => "client_secret_file",
            };
            return error(KEY_FILE, Problem::Excluded { by });
        }
        (None, Some(_), Some(ClientAuth::Post | ClientAuth::Basic)) => {
            return error(AUTH_METHOD, Problem::KeyIsNoSecret);
        }
        (None, Some(key), _) => {
            let auth = Some(ClientAuth::Assertion);
            (ApplicationCredential::Key(key), auth)
        }
        (_, None, Some(ClientAuth::Assertion)) => {
            return missing(KEY_FILE, Problem::NoAssertionKey);
        }
        (Some(secret), None, auth) => (ApplicationCredential::Secret(secret), auth),
        (None, None, _) => return missing("client_secret_file", Problem::NoClientSecret),
    };
    Ok(Some(Application {
        client_id: client_id.to_owned(),
        credential,
        auth,
        connection: given.given("connection").map(str::to_owned),
        scope: given.text("scope").unwrap_or_default().to_owned(),
    }))
}

/// The application's secret, from one place.
fn client_secret(given: &Given) -> Result<Option<Secret>> {
    const NAME: &str = "client_secret";
    let from_file = given.secret_file("client_secret_file")?;
    let secret = match (given.given(NAME), from_file) {
        (Some(secret), Some(_)) => {
            return Err(ConfigError::new(NAME, secret, Problem::TwoSecrets));
        }
        (Some(secret), None) => Some(Secret::new(secret.as_bytes())),
        (None, secret) => secret,
    };
    match &secret {
        Some(secret) if secret.reveal_str().is_none() => {
            Err(ConfigError::hidden(NAME, Problem::SecretNotText))
        }
        _ => Ok(secret),
    }
}

/// The application's private key, and how it signs.
fn assertion_key(given: &Given) -> Result<Option<AssertionKey>> {
    const ALGORITHM: &str = "client_assertion_algorithm";
    const KID: &str = "client_assertion_kid";
    let Some(pem) = given.secret_file(KEY_FILE)? else {
        let set = |name| given.given(name).map(|value| (name, value));
        return match [ALGORITHM, KID].into_iter().find_map(set) {
            Some((name, value)) => {
                let problem = Problem::Alone { without: KEY_FILE };
                Err(ConfigError::new(name, value, problem))
            }
            None => Ok(None),
        };
    };
    let algorithm = match given.given(ALGORITHM) {
        Some(_) => Algorithm::parse(given.one_of(ALGORITHM)?),
        None => None,
    };
    let key = AssertionKey::new(pem, algorithm, given.given(KID).map(str::to_owned));
    key.map(Some).map_err(|why| {
        let path = given.given(KEY_FILE).unwrap_or_default();
        ConfigError::new(KEY_FILE, path, Problem::AssertionKey(why))
    })
}

/// Returns how the application authenticates, if an option says so.
pub(super) fn client_auth(given: &Given) -> Result<Option<ClientAuth>> {
    if given.given(AUTH_METHOD).is_none() {
        return Ok(None);
    }
    let name = given.one_of(AUTH_METHOD)?;
    Ok(ClientAuth::ALL.into_iter().find(|one| one.name() == name))
}

/// The accepted algorithms, and the secret that HS256 needs.
fn signatures(given: &Given) -> Result<(Vec<Algorithm>, Option<Secret>)> {
    const FILE: &str = "hs256_secret_file";
    const ENCODING: &str = "hs256_secret_encoding";
    let names = given.some_of("algorithms")?.into_iter();
    let algorithms: Vec<_> = names.filter_map(Algorithm::parse).collect();
    let secret = given.secret_file(FILE)?;
    let encoding = given.one_of(ENCODING)?;
    let error = |problem| {
        let path = given.given(FILE).unwrap_or_default();
        Err(ConfigError::new(FILE, path, problem))
    };
    let has_hs256 = algorithms.contains(&Algorithm::Hs256);
    let secret = match secret {
        None if has_hs256 => return Err(ConfigError::hidden(FILE, Problem::NoHs256Secret)),
        None => {
            return match given.given(ENCODING) {
                Some(value) => {
                    let problem = Problem::Alone { without: FILE };
                    Err(ConfigError::new(ENCODING, value, problem))
                }
                None => Ok((algorithms, None)),
            };
        }
        Some(_) if !has_hs256 => return error(Problem::Hs256NotListed),
        Some(secret) if encoding == "base64" => decode_base64(&secret)
            .ok_or_else(|| ConfigError::new(ENCODING, encoding, Problem::SecretNotBase64))?,
        Some(secret) => secret,
    };
    if secret.reveal().len() < HS256_MIN_SECRET {
        return error(Problem::SecretTooShort);
    }
    Ok((algorithms, Some(secret)))
}

/// Decodes base64 or base64url, with or without padding: old tenants show either.
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

/// The claims that say what a device may do. Where others decide that, none is read, so a malformed claim
/// keeps nobody out. The options about claims may stay: unlike a policy file, they deny nothing that would
/// then be allowed.
fn reading(given: &Given, defer_acl: bool) -> Result<Reading> {
    let topics = match given.given("topics_pointer") {
        Some(pointer) if given.given("topics_claim").is_some() => {
            let by = "topics_claim";
            let problem = Problem::Excluded { by };
            return Err(ConfigError::new("topics_pointer", pointer, problem));
        }
        Some(pointer) if !pointer.starts_with('/') => {
            return Err(wrong("topics_pointer", pointer));
        }
        Some(pointer) => Place::Pointer(pointer.to_owned()),
        None => Place::Name(given.text("topics_claim").unwrap_or_default().to_owned()),
    };
    let sources = given.some_of("rights")?;
    let has = |source| !defer_acl && sources.contains(&source);
    Ok(Reading {
        topics: has("topics").then_some(topics),
        permissions: has("permissions"),
        scope: has("scope"),
        verbs: verbs(given)?,
        placeholders: given.is_true("claim_placeholders")? && !defer_acl,
        admin: admin(given, &sources)?,
    })
}

/// The permission of administrators. It counts in the claims that `rights` lists, also where others decide about
/// topics.
fn admin(given: &Given, sources: &[&str]) -> Result<Option<AdminPermission>> {
    const NAME: &str = "admin_permission";
    let Some(entry) = given.given(NAME) else {
        return Ok(None);
    };
    // Entries of `scope` are separated by spaces.
    if entry.contains(char::is_whitespace) {
        return Err(wrong(NAME, entry));
    }
    let permission = AdminPermission {
        entry: entry.to_owned(),
        in_permissions: sources.contains(&"permissions"),
        in_scope: sources.contains(&"scope"),
    };
    match permission.in_permissions || permission.in_scope {
        true => Ok(Some(permission)),
        false => Err(ConfigError::new(NAME, entry, Problem::AdminNotRead)),
    }
}

fn verbs(given: &Given) -> Result<Verbs> {
    const NAME: &str = "permission_verbs";
    let value = given.text(NAME).unwrap_or_default();
    let words: Vec<_> = value.split(',').map(str::trim).collect();
    let is_word = |word: &&str| !word.is_empty() && !word.contains([' ', ':']);
    match words[..] {
        [publish, subscribe, both]
            if words.iter().all(is_word)
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
        _ => Err(wrong(NAME, value)),
    }
}

fn username_prefix(given: &Given) -> Result<String> {
    const NAME: &str = "username_prefix";
    const MAX: usize = 64;
    let prefix = given.text(NAME).unwrap_or_default();
    // It becomes a part of user names, which become parts of topics in an acl_file (`%u`).
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '+' | '#');
    if prefix.len() > MAX || !prefix.chars().all(is_plain) {
        return Err(wrong(NAME, prefix));
    }
    Ok(prefix.to_owned())
}

fn client_ids(given: &Given) -> Result<ClientIds> {
    if let Some(template) = template(given, "client_id_template", "client_id_claim")? {
        return Ok(ClientIds::Template(template));
    }
    let claim = given.given("client_id_claim");
    Ok(claim.map_or(ClientIds::Any, |claim| ClientIds::Claim(claim.to_owned())))
}

/// What becomes the user name of a client with a token.
fn usernames(given: &Given) -> Result<Usernames> {
    const NAME: &str = "username_template";
    const CLAIM: &str = "username_claim";
    let Some(template) = template(given, NAME, CLAIM)? else {
        return Ok(Usernames::Claims(claim_places(given, CLAIM)?));
    };
    // It gives one user name, which is not known yet.
    let is_claim = |name: &Placeholder| matches!(name, Placeholder::Claim(_));
    if template.placeholders().all(|(name, _)| is_claim(name)) {
        return Ok(Usernames::Template(template));
    }
    let text = given.given(NAME).unwrap_or_default();
    Err(ConfigError::new(NAME, text, Problem::TemplateOfSeveral))
}

/// Returns the template in this option, if it is set. `claim` is the option that it excludes.
fn template(given: &Given, name: &'static str, claim: &'static str) -> Result<Option<Template>> {
    let Some(text) = given.given(name) else {
        return Ok(None);
    };
    let error = |problem| Err(ConfigError::new(name, text, problem));
    if given.given(claim).is_some() {
        return error(Problem::Excluded { by: claim });
    }
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(malformed) => return error(Problem::Template(malformed)),
    };
    let names: Vec<_> = template.placeholders().map(|(name, _)| name).collect();
    if names.contains(&&Placeholder::ClientId) {
        return error(Problem::TemplateOfItself);
    }
    if names.is_empty() || text.contains(['+', '#']) {
        return error(Problem::TemplateWithoutClaim);
    }
    Ok(Some(template))
}

/// Where the claims are that have other names in the issuer's tokens.
fn sources(given: &Given) -> Result<ClaimSources> {
    Ok(ClaimSources::new([
        ("permissions", claim_places(given, "permissions_claim")?),
        ("scope", claim_places(given, "scope_claim")?),
        ("roles", claim_places(given, "roles_claim")?),
    ]))
}

/// Returns the places that this option names.
fn claim_places(given: &Given, name: &'static str) -> Result<Places> {
    let places = Places::parse(given.list(name));
    match places.is_empty() {
        false => Ok(places),
        true => Err(wrong(name, given.given(name).unwrap_or_default())),
    }
}
