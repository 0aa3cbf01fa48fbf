//! The settings of an Auth0 dashboard that affect a broker.

/// The API's identifier: the `audience` of a token request.
pub const AUDIENCE: &str = "https://mqtt.example/";
/// The application that the broker uses.
pub const CLIENT_ID: &str = "mqttLabClientIdAbcdefGhijklmnop0";
/// Its secret: 64 characters, as long as Auth0's own.
pub const CLIENT_SECRET: &str = "s3cret_Of-the_lab-Tenant_0123456789_abcdefghijklmnopqrstuvwxyz-A";
/// The API's secret, for an API that signs with HS256.
pub const API_SECRET: &str = "api_Signing-secret_0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ-lab_api";
/// The connection that the devices belong to.
pub const CONNECTION: &str = "Thermostats";
/// Another connection of the same application, without devices.
pub const OTHER_CONNECTION: &str = "Visitors";

/// A grant type that an application can be allowed (application settings, Advanced, Grant Types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `password`, answered from the Default Directory.
    Password,
    /// `http://auth0.com/oauth/grant-type/password-realm`.
    PasswordRealm,
    /// `client_credentials`.
    ClientCredentials,
    /// `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628).
    DeviceCode,
    /// `refresh_token`, with which a request for the scope `offline_access` yields one.
    RefreshToken,
}

impl Grant {
    /// Returns the value of `grant_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::PasswordRealm => "http://auth0.com/oauth/grant-type/password-realm",
            Self::ClientCredentials => "client_credentials",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::RefreshToken => "refresh_token",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [
            Self::Password,
            Self::PasswordRealm,
            Self::ClientCredentials,
            Self::DeviceCode,
            Self::RefreshToken,
        ]
        .into_iter()
        .find(|grant| grant.name() == name)
    }
}

/// The signature algorithms that Auth0 offers, for an API and for an application's ID tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Signing {
    Rs256,
    Ps256,
    Hs256,
}

/// The format of access tokens (API settings, JSON Web Token Profile).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProfile {
    /// `typ` is `JWT`; `azp` and `gty`.
    Auth0,
    /// RFC 9068: `typ` is `at+jwt`; `client_id` and `jti`.
    Rfc9068,
}

/// How the application authenticates (application settings, Credentials).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_secret_post`: the secret is a field of the body.
    Post,
    /// `client_secret_basic`: RFC 6749 section 2.3.1.
    Basic,
    /// `private_key_jwt`: RFC 7523, with the key of [`Settings::client_jwk`].
    PrivateKeyJwt,
    /// `none`: a public client. Auth0 then ignores `auth0-forwarded-for`.
    None,
}

/// Which of the two known responses an unknown audience gets in a password grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownAudience {
    /// 400 `invalid_request`, as recorded from a real tenant.
    InvalidRequest,
    /// 403 `access_denied`, `Service not found: ...`, as reported by users. Machine grants always get this
    /// one.
    ServiceNotFound,
}

/// The tenant's configuration. It can change at any time with [`Tenant::configure`].
///
/// [`Tenant::configure`]: super::Tenant::configure
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's identifier.
    pub audience: String,
    /// Tenant settings, Default Audience: used when a request names none. Without it, such a request gets an
    /// opaque access token.
    pub default_audience: Option<String>,
    /// The application's id.
    pub client_id: String,
    /// The application's secret.
    pub client_secret: String,
    /// How the application must authenticate; any other way is a 401.
    pub client_auth: ClientAuth,
    /// The public key of the application, for `private_key_jwt`.
    pub client_jwk: Option<serde_json::Value>,
    /// Seconds between the polls of a device flow.
    pub device_interval: u64,
    /// Seconds that a device code is good for.
    pub device_code_lifetime: u64,
    /// Refresh Token Rotation: whether each refresh token can be used once. Whoever uses one again ends all that came
    /// of the same sign-in.
    pub rotates_refresh_tokens: bool,
    /// The grants that the application is allowed.
    pub grants: Vec<Grant>,
    /// The connections that are enabled for the application.
    pub connections: Vec<String>,
    /// Tenant settings, Default Directory: what plain `password` uses. Without it, the response is a 500.
    pub default_directory: Option<String>,
    /// The response to an unknown audience.
    pub unknown_audience: UnknownAudience,
    /// Status of `mfa_required`: 403 in production, 401 in Auth0's OpenAPI description.
    pub mfa_status: u16,

    /// The format of access tokens.
    pub profile: TokenProfile,
    /// Signature of access tokens.
    pub access_token_signing: Signing,
    /// Signature of ID tokens.
    pub id_token_signing: Signing,
    /// Secret of an API that signs with HS256. ID tokens use the client secret instead.
    pub api_secret: String,
    /// Token Encryption of the API: whether access tokens are JWE, which only the API's owner can read.
    pub encrypts_access_tokens: bool,
    /// Lifetime of access tokens, in seconds.
    pub access_token_lifetime: u64,
    /// Lifetime of ID tokens, in seconds.
    pub id_token_lifetime: u64,
    /// Scopes that the API defines. A request that names none is granted all of them.
    pub api_scopes: Vec<String>,
    /// How far the tenant's clock is ahead, in seconds; negative if it is behind.
    pub clock_offset: i64,

    /// The claim in which the tenant's post-login Action puts a device's topics.
    pub topics_claim: String,
    /// Whether the Action sets it on access tokens.
    pub topics_in_access_token: bool,
    /// Whether the Action sets it on ID tokens.
    pub topics_in_id_token: bool,

    /// Brute-force protection: failures from one address for one identifier before the pair is blocked.
    /// `None` disables it.
    pub brute_force_threshold: Option<u32>,
    /// Suspicious IP throttling: failures from one address in a day. `None` disables it, and with it the
    /// `X-RateLimit-*` headers of password grants.
    pub suspicious_ip_budget: Option<u32>,
    /// Trust Token Endpoint IP Header: whether `auth0-forwarded-for` counts.
    pub trust_forwarded_ip: bool,

    /// `Cache-Control` of the JWKS and of the discovery document. `None` leaves it out.
    pub keys_cache_control: Option<String>,
    /// Tenant toggle Include Signing Algorithms in JWKS: whether keys have `alg`.
    pub alg_in_jwks: bool,
}

impl Default for Settings {
    /// A tenant configured as the plugin's README asks, with Auth0's defaults for everything else.
    fn default() -> Self {
        Self {
            audience: AUDIENCE.to_owned(),
            default_audience: None,
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            client_auth: ClientAuth::Post,
            client_jwk: None,
            device_interval: 5,
            device_code_lifetime: 900,
            rotates_refresh_tokens: true,
            grants: vec![
                Grant::Password,
                Grant::PasswordRealm,
                Grant::ClientCredentials,
            ],
            connections: vec![CONNECTION.to_owned(), OTHER_CONNECTION.to_owned()],
            default_directory: Some(CONNECTION.to_owned()),
            unknown_audience: UnknownAudience::InvalidRequest,
            mfa_status: 403,
            profile: TokenProfile::Auth0,
            access_token_signing: Signing::Rs256,
            id_token_signing: Signing::Rs256,
            api_secret: API_SECRET.to_owned(),
            encrypts_access_tokens: false,
            access_token_lifetime: 86_400,
            id_token_lifetime: 36_000,
            api_scopes: Vec::new(),
            clock_offset: 0,
            topics_claim: "topics".to_owned(),
            topics_in_access_token: true,
            topics_in_id_token: true,
            brute_force_threshold: Some(10),
            suspicious_ip_budget: Some(100),
            trust_forwarded_ip: true,
            keys_cache_control: Some(
                "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400".to_owned(),
            ),
            alg_in_jwks: true,
        }
    }
}
