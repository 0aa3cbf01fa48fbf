//! `POST /oauth/token`: checks application, user and request, and responds with Auth0's texts.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::TenantShared;
use super::answers::{granted, refused, with_rate_limit};
use super::device::{Device, DeviceState};
use super::device_flow::Poll;
use super::mint::{Holder, Issuer};
use super::protection::Block;
use super::refresh_tokens::RefreshGrant;
use super::settings::{ClientAuth, Grant, Settings, UnknownAudience};
use crate::http::{Request, Response, percent_decode};
use crate::json::Members;
use crate::lock;
use crate::signing::{now, random_bytes};

/// The scopes that `openid` yields in a password grant, which cannot ask for consent.
const OPENID_SCOPES: &str = "openid profile email address phone";
/// The scope that yields a refresh token.
const OFFLINE: &str = "offline_access";
/// Seconds until suspicious IP throttling grants one more attempt: a day divided by 100 attempts.
const REGRANT: u64 = 864;

/// A refusal with Auth0's texts.
#[derive(Debug)]
struct OAuthRefusal {
    status: u16,
    body: Members,
}

impl OAuthRefusal {
    fn new(status: u16, error: &str, description: impl Into<Value>) -> Self {
        let body = Members::new()
            .with("error", error)
            .with("error_description", description);
        Self { status, body }
    }

    fn missing(field: &str) -> Self {
        let text = format!("Missing required parameter: {field}");
        Self::new(400, "invalid_request", text)
    }

    /// The one refusal for every way in which an application can fail to authenticate.
    fn application() -> Self {
        Self::new(401, "access_denied", "Unauthorized")
    }
}

/// The fields of a request, each at most once.
struct Form(Vec<(String, String)>);

impl Form {
    /// Returns the field's value; an empty field counts as missing (RFC 6749 section 3.2).
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| value.as_str());
        value.filter(|text| !text.is_empty())
    }

    fn require(&self, name: &str) -> Result<&str, OAuthRefusal> {
        self.get(name).ok_or_else(|| OAuthRefusal::missing(name))
    }
}

/// Responds to a token request from this peer.
pub(super) fn token(shared: &TenantShared, request: &Request, peer: IpAddr) -> Response {
    let settings = lock(&shared.settings).clone();
    let exchange = Exchange::of(shared, &settings, request, peer);
    let response = match exchange.run() {
        Ok(body) => granted(body),
        Err(refusal) => refused(refusal.status, refusal.body),
    };
    exchange.with_budget(response)
}

/// Responds to a request for a device code. Only the client ID says which application it is (RFC 8628, section 3.1).
pub(super) fn device_code(shared: &TenantShared, request: &Request, peer: IpAddr) -> Response {
    let settings = lock(&shared.settings).clone();
    let exchange = Exchange::of(shared, &settings, request, peer);
    match exchange.begin_device_flow() {
        Ok(body) => granted(body),
        Err(refusal) => refused(refusal.status, refusal.body),
    }
}

/// Returns the address that attack protection counts: the forwarded one if the tenant trusts it.
fn client_address(settings: &Settings, request: &Request, peer: IpAddr) -> String {
    let forwarded = request.header("auth0-forwarded-for").map(str::trim);
    let trusted = settings.trust_forwarded_ip && settings.client_auth != ClientAuth::None;
    match forwarded.and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(device) if trusted => device.to_string(),
        _ => peer.to_string(),
    }
}

struct Exchange<'a> {
    shared: &'a TenantShared,
    settings: &'a Settings,
    request: &'a Request,
    address: String,
    form: Form,
}

impl<'a> Exchange<'a> {
    fn of(
        shared: &'a TenantShared,
        settings: &'a Settings,
        request: &'a Request,
        peer: IpAddr,
    ) -> Self {
        Self {
            shared,
            settings,
            request,
            address: client_address(settings, request, peer),
            form: Form(request.fields().unwrap_or_default()),
        }
    }
}

impl Exchange<'_> {
    fn run(&self) -> Result<Members, OAuthRefusal> {
        let name = self.form.require("grant_type")?;
        self.authenticate_application()?;
        let grant = Grant::of(name).ok_or_else(|| {
            let text = format!("Unsupported grant type: {name}");
            OAuthRefusal::new(400, "unsupported_grant_type", text)
        })?;
        if !self.settings.grants.contains(&grant) {
            let text = format!("Grant type '{name}' not allowed for the client.");
            return Err(OAuthRefusal::new(403, "unauthorized_client", text));
        }
        match grant {
            Grant::Password => {
                let text = "Authorization server not configured with default connection.";
                let missing = || OAuthRefusal::new(500, "server_error", text);
                let directory = self.settings.default_directory.as_deref();
                self.password(directory.ok_or_else(missing)?)
            }
            Grant::PasswordRealm => self.password(self.form.require("realm")?),
            Grant::ClientCredentials => self.client_credentials(),
            Grant::DeviceCode => self.device_code(),
            Grant::RefreshToken => self.refresh_token(),
        }
    }

    fn begin_device_flow(&self) -> Result<Members, OAuthRefusal> {
        if self.form.require("client_id")? != self.settings.client_id {
            return Err(OAuthRefusal::application());
        }
        let name = Grant::DeviceCode.name();
        if !self.settings.grants.contains(&Grant::DeviceCode) {
            let text = format!("Grant type '{name}' not allowed for the client.");
            return Err(OAuthRefusal::new(403, "unauthorized_client", text));
        }
        let audience = self.audience(UnknownAudience::ServiceNotFound)?;
        let scope = self.form.get("scope").unwrap_or_default();
        let (device_code, user_code) =
            lock(&self.shared.authorizations).begin(self.settings, scope, audience);
        let page = format!("{}activate", self.shared.issuer);
        let complete = format!("{page}?user_code={user_code}");
        Ok(Members::new()
            .with("device_code", device_code)
            .with("user_code", user_code)
            .with("verification_uri", page)
            .with("expires_in", self.settings.device_code_lifetime)
            .with("interval", self.settings.device_interval)
            .with("verification_uri_complete", complete))
    }

    fn device_code(&self) -> Result<Members, OAuthRefusal> {
        let poll = lock(&self.shared.authorizations).poll(self.form.require("device_code")?);
        let refusal = |status, error: &str, text: &str| Err(OAuthRefusal::new(status, error, text));
        match poll {
            Poll::Approved(device, asked) => {
                Ok(self.grant_scope(&device, asked.audience.as_deref(), &asked.scope))
            }
            Poll::Pending => refusal(
                403,
                "authorization_pending",
                "User has yet to authorize device code.",
            ),
            Poll::TooFast(seconds) => {
                let text = format!(
                    "You are polling faster than the specified interval of {seconds} seconds."
                );
                refusal(429, "slow_down", &text)
            }
            Poll::Cancelled => refusal(
                403,
                "access_denied",
                "User cancelled the confirmation prompt",
            ),
            Poll::Expired => refusal(403, "expired_token", "The device_code has expired."),
            Poll::Unknown => refusal(403, "invalid_grant", "Invalid or expired device code."),
        }
    }

    fn refresh_token(&self) -> Result<Members, OAuthRefusal> {
        let next = opaque_token();
        let rotation = self.settings.rotates_refresh_tokens;
        let grant = lock(&self.shared.refresh_tokens).exchange(
            self.form.require("refresh_token")?,
            &next,
            rotation,
        );
        let unknown = || {
            let text = "Unknown or invalid refresh token.";
            OAuthRefusal::new(403, "invalid_grant", text)
        };
        let grant = grant.ok_or_else(unknown)?;
        let device = self.shared.find_device(&grant.connection, &grant.username);
        let device = device.ok_or_else(unknown)?;
        if let Some(refusal) = state_refusal(&device.state, self.settings) {
            return Err(refusal);
        }
        Ok(self.tokens(
            &device,
            grant.audience.as_deref(),
            grant.scope,
            rotation.then_some(next),
        ))
    }

    fn authenticate_application(&self) -> Result<(), OAuthRefusal> {
        if self.settings.client_auth == ClientAuth::PrivateKeyJwt {
            return match self.assertion_holds() {
                true => Ok(()),
                false => Err(OAuthRefusal::application()),
            };
        }
        let basic = self.request.header("authorization").and_then(basic);
        let posted = self.form.get("client_id");
        let (id, secret) = match (self.settings.client_auth, &basic) {
            (ClientAuth::Basic, Some((id, secret))) => (Some(id.as_str()), Some(secret.as_str())),
            (ClientAuth::Basic, None) => (posted, None),
            _ => (posted, self.form.get("client_secret")),
        };
        let Some(id) = id else {
            return Err(OAuthRefusal::new(
                401,
                "invalid_client",
                "Missing client_id",
            ));
        };
        let proven = match self.settings.client_auth {
            ClientAuth::None => true,
            _ => secret == Some(self.settings.client_secret.as_str()),
        };
        match id == self.settings.client_id && proven {
            true => Ok(()),
            false => Err(OAuthRefusal::application()),
        }
    }

    /// Whether the client assertion is right (RFC 7523, section 3; Auth0, "Authenticate with Private Key JWT").
    fn assertion_holds(&self) -> bool {
        use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let key = self
            .settings
            .client_jwk
            .clone()
            .and_then(|jwk| serde_json::from_value(jwk).ok());
        let key = key.and_then(|jwk| DecodingKey::from_jwk(&jwk).ok());
        let (Some(key), Some(assertion)) = (key, self.form.get("client_assertion")) else {
            return false;
        };
        let Ok(header) = decode_header(assertion) else {
            return false;
        };
        let algorithms = [Algorithm::RS256, Algorithm::RS384, Algorithm::PS256];
        let mut rules = Validation::new(header.alg);
        rules.set_audience(&[&self.shared.issuer]);
        rules.set_issuer(&[&self.settings.client_id]);
        rules.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        rules.leeway = 10;
        let Ok(token) = decode::<Value>(assertion, &key, &rules) else {
            return false;
        };
        let claims = token.claims;
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let is_short = claims["exp"].as_u64().is_some_and(|exp| exp <= now() + 300);
        self.form.get("client_assertion_type") == Some(kind)
            && self.form.get("client_secret").is_none()
            && algorithms.contains(&header.alg)
            && assertion.len() <= 2048
            && is_short
            // Auth0 takes one audience, as a text.
            && claims["aud"].is_string()
            && text("sub") == self.settings.client_id
            && (1..=64).contains(&text("jti").len())
            && lock(&self.shared.assertions).insert(text("jti"))
    }

    /// Returns the requested API, if any.
    fn audience(&self, unknown: UnknownAudience) -> Result<Option<&str>, OAuthRefusal> {
        let default = self.settings.default_audience.as_deref();
        let Some(audience) = self.form.get("audience").or(default) else {
            return Ok(None);
        };
        if audience == self.settings.audience {
            return Ok(Some(audience));
        }
        Err(match unknown {
            UnknownAudience::InvalidRequest => OAuthRefusal::new(
                400,
                "invalid_request",
                "invalid audience specified for password grant exchange",
            ),
            UnknownAudience::ServiceNotFound => {
                let text = format!("Service not found: {audience}");
                OAuthRefusal::new(403, "access_denied", text)
            }
        })
    }

    fn password(&self, connection: &str) -> Result<Members, OAuthRefusal> {
        let username = self.form.require("username")?;
        let password = self.form.require("password")?;
        let audience = self.audience(self.settings.unknown_audience)?;
        if !self.settings.connections.iter().any(|c| c == connection) {
            let text = format!("Connection {connection} is not enabled for the client.");
            return Err(OAuthRefusal::new(403, "unauthorized_client", text));
        }
        let device = self.authenticate_device(connection, username, password)?;
        Ok(self.grant_to(&device, audience))
    }

    fn authenticate_device(
        &self,
        connection: &str,
        username: &str,
        password: &str,
    ) -> Result<Device, OAuthRefusal> {
        let device = self.shared.find_device(connection, username);
        let locked = device.as_ref().map(|device| &device.state) == Some(&DeviceState::Locked);
        let mut protection = lock(&self.shared.protection);
        let block = protection.block(self.settings, &self.address, username);
        if let Some(block) = block.or(locked.then_some(Block::BruteForce)) {
            return Err(blocked(block));
        }
        let Some(device) = device.filter(|device| device.password == password) else {
            protection.failed(&self.address, username);
            let text = "Wrong email or password.";
            return Err(OAuthRefusal::new(403, "invalid_grant", text));
        };
        protection.succeeded(&self.address, username);
        match state_refusal(&device.state, self.settings) {
            Some(refusal) => Err(refusal),
            None => Ok(device),
        }
    }

    /// Returns the tokens of a device, in Auth0's order.
    fn grant_to(&self, device: &Device, audience: Option<&str>) -> Members {
        let asked = self.form.get("scope").unwrap_or_default();
        self.grant_scope(device, audience, asked)
    }

    /// Returns the tokens for a request for this scope.
    fn grant_scope(&self, device: &Device, audience: Option<&str>, asked: &str) -> Members {
        let scope = granted_scope(self.settings, asked, audience.is_some());
        let is_offline = scope.split(' ').any(|word| word == OFFLINE);
        let refresh_token = is_offline.then(|| {
            let token = opaque_token();
            let grant = RefreshGrant {
                username: device.username.clone(),
                connection: device.connection.clone(),
                scope: scope.clone(),
                audience: audience.map(str::to_owned),
            };
            lock(&self.shared.refresh_tokens).issue(&token, grant);
            token
        });
        self.tokens(device, audience, scope, refresh_token)
    }

    fn tokens(
        &self,
        device: &Device,
        audience: Option<&str>,
        scope: String,
        refresh_token: Option<String>,
    ) -> Members {
        let issuer = self.issuer();
        let mut body = Members::new();
        let (token, lifetime) = match audience {
            Some(api) => {
                let token = issuer.access_token(Holder::Device(device), api, &scope);
                let token = match self.settings.encrypts_access_tokens {
                    true => encrypted(&token.sign()),
                    false => token.sign(),
                };
                (token, self.settings.access_token_lifetime)
            }
            None => (opaque_token(), 86_400),
        };
        body.set("access_token", token);
        if let Some(token) = refresh_token {
            body.set("refresh_token", token);
        }
        if scope.split(' ').any(|word| word == "openid") {
            body.set("id_token", issuer.id_token(device).sign());
        }
        if !scope.is_empty() {
            body.set("scope", scope);
        }
        body.with("expires_in", lifetime)
            .with("token_type", "Bearer")
    }

    fn client_credentials(&self) -> Result<Members, OAuthRefusal> {
        let Some(audience) = self.audience(UnknownAudience::ServiceNotFound)? else {
            let text = "Non-global clients are not allowed access to APIv1";
            return Err(OAuthRefusal::new(403, "access_denied", text));
        };
        let token = self.issuer().access_token(Holder::Machine, audience, "");
        Ok(Members::new()
            .with("access_token", token.sign())
            .with("expires_in", self.settings.access_token_lifetime)
            .with("token_type", "Bearer"))
    }

    fn issuer(&self) -> Issuer<'_> {
        Issuer {
            name: &self.shared.issuer,
            settings: self.settings,
            key: lock(&self.shared.ring).current.clone(),
        }
    }

    /// Adds `X-RateLimit-*`, which on password grants describe the limit of the address, not of the tenant.
    fn with_budget(&self, response: Response) -> Response {
        let asked = self.form.get("grant_type").and_then(Grant::of);
        let password = matches!(asked, Some(Grant::Password | Grant::PasswordRealm));
        let Some(limit) = self.settings.suspicious_ip_budget.filter(|_| password) else {
            return response;
        };
        let spent = lock(&self.shared.protection).spent(&self.address);
        let reset = now() + REGRANT * u64::from(spent.min(limit));
        with_rate_limit(response, limit, limit.saturating_sub(spent), reset)
    }
}

fn basic(header: &str) -> Option<(String, String)> {
    let encoded = header.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((
        percent_decode(id.as_bytes())?,
        percent_decode(secret.as_bytes())?,
    ))
}

fn blocked(block: Block) -> OAuthRefusal {
    let text = match block {
        Block::BruteForce => {
            "Your account has been blocked after multiple consecutive login attempts. \
             We've sent you an email with instructions on how to unblock it."
        }
        Block::SuspiciousIp => {
            "We have detected suspicious login behavior and further attempts will be blocked. \
             Please contact the administrator."
        }
    };
    OAuthRefusal::new(429, "too_many_attempts", text)
}

fn state_refusal(state: &DeviceState, settings: &Settings) -> Option<OAuthRefusal> {
    Some(match state {
        DeviceState::Normal => return None,
        DeviceState::Locked => blocked(Block::BruteForce),
        DeviceState::Blocked => OAuthRefusal::new(403, "unauthorized", "user is blocked"),
        DeviceState::MfaRequired => {
            let text = "Multifactor authentication required";
            let mut refusal = OAuthRefusal::new(settings.mfa_status, "mfa_required", text);
            refusal.body.set("mfa_token", opaque_token());
            refusal
        }
        DeviceState::PasswordLeaked => OAuthRefusal::new(
            401,
            "password_leaked",
            "This login attempt has been blocked because the password you're using was previously \
             disclosed through a data breach (not in this application).",
        ),
        DeviceState::RequiresVerification => OAuthRefusal::new(
            403,
            "requires_verification",
            "Suspicious request requires verification",
        ),
        DeviceState::Denied(reason) => OAuthRefusal::new(403, "access_denied", reason.as_str()),
        DeviceState::Refused {
            status,
            error,
            description,
        } => OAuthRefusal::new(*status, error, description.as_str()),
    })
}

/// Returns the scope of a password grant: the requested scopes that exist, or all without a request (Auth0
/// docs, Call Your API Using Resource Owner Password Flow).
fn granted_scope(settings: &Settings, asked: &str, for_api: bool) -> String {
    let of_api = |word: &&str| for_api && settings.api_scopes.iter().any(|scope| scope == word);
    let mut words: Vec<&str> = Vec::new();
    if asked.is_empty() && for_api {
        words.extend(settings.api_scopes.iter().map(String::as_str));
    }
    if asked.split(' ').any(|word| word == "openid") {
        words.extend(OPENID_SCOPES.split(' '));
    }
    words.extend(asked.split(' ').filter(of_api));
    // An application without the grant gets no refresh token.
    let refreshes = settings.grants.contains(&Grant::RefreshToken);
    let asks_for_one = asked.split(' ').any(|word| word == OFFLINE);
    words.extend((refreshes && asks_for_one).then_some(OFFLINE));
    words.join(" ")
}

/// Returns a token in the form of Auth0's encrypted ones: a JWE around the signed token (Auth0 docs, JSON Web
/// Encryption). Nobody can decrypt this one.
fn encrypted(token: &str) -> String {
    let header = r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","typ":"JWT","cty":"JWT"}"#;
    let text = token.bytes().zip(random_bytes::<16>().into_iter().cycle());
    let text: Vec<u8> = text.map(|(byte, random)| byte ^ random).collect();
    let (key, vector, tag) = (
        random_bytes::<256>(),
        random_bytes::<12>(),
        random_bytes::<16>(),
    );
    let parts: [&[u8]; 5] = [header.as_bytes(), &key, &vector, &text, &tag];
    parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

/// Returns 32 characters that have a meaning only for Auth0.
fn opaque_token() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bytes = random_bytes::<32>();
    let letters = bytes.iter().map(|byte| ALPHABET[usize::from(byte % 64)]);
    letters.map(char::from).collect()
}
