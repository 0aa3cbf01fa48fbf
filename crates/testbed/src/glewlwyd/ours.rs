//! All values of the server's configuration that this test bed chooses, with the reasons.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::quoted;

/// The client (the "application") that requests tokens for the devices.
pub const CLIENT_ID: &str = "mosquitto";
/// It contains every character that has a meaning in a form body, so that a client that does not encode it is
/// noticed.
pub const CLIENT_SECRET: &str = "client secret & 100%+=/";
/// The device.
pub const USERNAME: &str = "thermostat-1a";
/// Like [`CLIENT_SECRET`], it needs encoding.
pub const PASSWORD: &str = "swordfish & chips 50%+=/";
/// The topics that the device may publish and subscribe to.
pub const TOPICS: [&str; 2] = ["temperature", "config"];
/// The name of the user property, and of the claim in both tokens.
pub const TOPICS_CLAIM: &str = "topics";
/// The claim with the user's name. This server's `sub` is a random string.
pub const USERNAME_CLAIM: &str = "preferred_username";
/// The default lifetime of both tokens.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// The administrator that the package's schema creates. The password stays as it is: the server lives on the
/// loopback interface for seconds.
pub const ADMINISTRATOR: (&str, &str) = ("admin", "password");
/// The first segment of every path, which is the program's default.
pub const API: &str = "api";
/// The name of the OpenID Connect module's instance, which is the second segment of its paths.
pub const INSTANCE: &str = "oidc";

/// Returns the configuration file. `cookie` must be unique, see `Glewlwyd::start`.
pub fn file(origin: &str, port: u16, cookie: &str, dir: &Path) -> String {
    let path = |name: &str| quoted(&dir.join(name).to_string_lossy());
    format!(
        r#"# Only the loopback interface, on the port that was free a moment ago.
bind_address = "{address}"
port = {port}
# From these two come the addresses in the discovery document.
external_url = {origin}
api_prefix = "{API}"

# TLS with the certificate of the test's own authority; no proxy in front.
use_secure_connection = true
secure_connection_key_file = {key}
secure_connection_pem_file = {certificate}

# The package's schema in a file of this run.
database = {{ type = "sqlite3"; path = {database}; }};

# Standard output, which goes to a file of this run.
log_mode = "console"
log_level = "DEBUG"

# The administrator's session, used for the few requests of the set-up.
session_key = {cookie}
session_expiration = 3600
cookie_domain = "{address}"
cookie_secure = 1

# Where the package keeps its modules, and what its schema calls the scopes and hashes the password
# with: the values of the package's sample configuration. There is no user_middleware in the
# package, and the program says so in its log.
user_module_path = "/usr/lib/glewlwyd/user"
user_middleware_module_path = "/usr/lib/glewlwyd/user_middleware"
client_module_path = "/usr/lib/glewlwyd/client"
user_auth_scheme_module_path = "/usr/lib/glewlwyd/scheme"
plugin_module_path = "/usr/lib/glewlwyd/plugin"
login_url = "login.html"
admin_scope = "g_admin"
profile_scope = "g_profile"
hash_algorithm = "SHA512"
"#,
        address = std::net::Ipv4Addr::LOCALHOST,
        origin = quoted(origin),
        key = path(super::TLS_KEY),
        certificate = path(super::TLS_CERTIFICATE),
        database = path(super::DATABASE),
        cookie = quoted(cookie),
    )
}

/// Returns the addition to the package's user store: a property with several values, the topics.
pub fn user_property() -> Value {
    json!({"multiple": true, "read": true, "write": true})
}

/// Returns the settings of the OpenID Connect module. `key` and `certificate` are the private and the public
/// half of an RSA key in PEM. Longer than a screen, because it is one document.
pub fn module(issuer: &str, key: &str, certificate: &str, lifetime: Duration) -> Value {
    json!({
        "module": "oidc",
        "name": INSTANCE,
        "display_name": "OpenID Connect",
        "enabled": true,
        "parameters": {
            // The address of discovery, so that discovery's `issuer` equals the address of the request.
            "iss": issuer,
            // RS256. The server derives the `kid` from the key.
            "jwt-type": "rsa",
            "jwt-key-size": "256",
            "key": key,
            "cert": certificate,
            "jwks-show": true,
            // The module requires all three; only the first matters here.
            "access-token-duration": lifetime.as_secs(),
            "refresh-token-duration": 86_400,
            "code-duration": 600,
            "refresh-token-rolling": false,
            // The password grant is OAuth and not OpenID Connect: without the first setting, the server
            // refuses the second (403).
            "allow-non-oidc": true,
            "auth-type-password-enabled": true,
            // All other grants are disabled. ID tokens cannot be disabled.
            "auth-type-code-enabled": false,
            "auth-type-token-enabled": false,
            "auth-type-id-token-enabled": true,
            "auth-type-none-enabled": false,
            "auth-type-client-enabled": false,
            "auth-type-device-enabled": false,
            "auth-type-refresh-enabled": false,
            // One `sub` for each user, for all clients.
            "subject-type": "public",
            // Added to the access token as a string, with several values joined by commas. The server has no
            // other form.
            "additional-parameters": [
                {"user-parameter": TOPICS_CLAIM, "token-parameter": TOPICS_CLAIM},
                {"user-parameter": "username", "token-parameter": USERNAME_CLAIM},
            ],
            // Added to every ID token ("mandatory"), not only on request. An array stays an array.
            "claims": [
                {
                    "user-property": TOPICS_CLAIM,
                    "name": TOPICS_CLAIM,
                    "type": "string",
                    "mandatory": true,
                },
                {
                    "user-property": "username",
                    "name": USERNAME_CLAIM,
                    "type": "string",
                    "mandatory": true,
                },
            ],
            "name-claim": "no",
            "email-claim": "no",
            "scope-claim": "no",
        },
    })
}

/// Returns the client: confidential, with its secret in the body of the form, for the password grant only.
pub fn client() -> Value {
    json!({
        "client_id": CLIENT_ID,
        "name": "The broker",
        "enabled": true,
        "confidential": true,
        "client_secret": CLIENT_SECRET,
        "token_endpoint_auth_method": ["client_secret_post"],
        "authorization_type": ["password"],
        "scope": [],
        "redirect_uri": [],
    })
}

/// Returns a device. The scope `openid` comes with the schema; a user without it gets no token.
pub fn user(username: &str, password: &str, topics: &[&str]) -> Value {
    json!({
        "username": username,
        "password": password,
        "name": username,
        "email": "",
        "enabled": true,
        "scope": ["openid"],
        (TOPICS_CLAIM): topics,
    })
}
