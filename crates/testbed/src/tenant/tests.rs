//! Tests of the tenant through a real TLS client.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use rustls::crypto::aws_lc_rs::default_provider;
use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::*;
use crate::json::Members;
use crate::signing::{Alg, SigningKey, peek};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn agent(tenant: &Tenant) -> Agent {
    let pem = fs::read(tenant.ca_file()).unwrap();
    let roots = RootCerts::new_with_certs(&[Certificate::from_pem(&pem).unwrap()]);
    let tls = TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(SOON))
        .build()
        .into()
}

type Answer = ureq::http::Response<Body>;

fn get(tenant: &Tenant, path: &str) -> Result<Answer, ureq::Error> {
    agent(tenant).get(tenant.url(path)).call()
}

fn jwks(tenant: &Tenant) -> Result<Answer, ureq::Error> {
    get(tenant, ".well-known/jwks.json")
}

fn text(answer: &mut Answer) -> String {
    answer.body_mut().read_to_string().unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

/// The form of a login as the plugin sends it.
fn login() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "grant_type",
            "http://auth0.com/oauth/grant-type/password-realm",
        ),
        ("realm", CONNECTION),
        ("username", DEVICE),
        ("password", PASSWORD),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("audience", AUDIENCE),
        ("scope", "openid"),
    ]
}

/// The same form with a field changed, or removed if the value is empty.
fn with<'a>(
    mut form: Vec<(&'a str, &'a str)>,
    name: &'a str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    form.retain(|(known, _)| *known != name);
    if !value.is_empty() {
        form.push((name, value));
    }
    form
}

fn post(tenant: &Tenant, form: &[(&str, &str)]) -> Answer {
    let request = agent(tenant).post(tenant.url("oauth/token"));
    request.send_form(form.iter().copied()).unwrap()
}

fn post_from(tenant: &Tenant, address: &str, form: &[(&str, &str)]) -> Answer {
    let request = agent(tenant).post(tenant.url("oauth/token"));
    let request = request.header("auth0-forwarded-for", address);
    request.send_form(form.iter().copied()).unwrap()
}

/// Returns status and exact body.
fn reply(tenant: &Tenant, form: &[(&str, &str)]) -> (u16, String) {
    let mut answer = post(tenant, form);
    (answer.status().as_u16(), text(&mut answer))
}

fn refusal(error: &str, description: &str) -> String {
    Members::new()
        .with("error", error)
        .with("error_description", description)
        .to_string()
}

/// Verifies a token with the JWKS that the tenant serves, as the plugin would.
fn verify(tenant: &Tenant, token: &str, audience: &str) -> Result<Value, String> {
    let set: JwkSet = serde_json::from_str(&text(&mut jwks(tenant).unwrap())).unwrap();
    let header = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
    let kid = header.kid.ok_or("no kid")?;
    let key = DecodingKey::from_jwk(set.find(&kid).ok_or("unknown kid")?).unwrap();
    let mut rules = Validation::new(header.alg);
    rules.set_audience(&[audience]);
    rules.set_issuer(&[tenant.issuer()]);
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &rules);
    decoded.map(|t| t.claims).map_err(|e| e.to_string())
}

#[test]
fn a_login_is_answered_as_auth0_answers_it() {
    let tenant = Tenant::start();
    let mut answer = post(&tenant, &login());
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-type"), "application/json");
    assert_eq!(header(&answer, "cache-control"), "no-store");
    assert_eq!(header(&answer, "pragma"), "no-cache");
    assert_eq!(header(&answer, "transfer-encoding"), "chunked");
    assert_eq!(header(&answer, "x-auth0-requestid").len(), 20);
    assert_eq!(header(&answer, "x-ratelimit-limit"), "100");
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "100");
    let body = text(&mut answer);
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
    assert_eq!(body["scope"], "openid profile email address phone");
    assert_eq!(body["expires_in"], 86_400);
    assert_eq!(body["token_type"], "Bearer");

    let access = verify(&tenant, body["access_token"].as_str().unwrap(), AUDIENCE).unwrap();
    let device = tenant.device(DEVICE).unwrap();
    assert_eq!(access["iss"], tenant.issuer());
    assert_eq!(access["sub"], device.user_id);
    assert_eq!(access["aud"], json!([AUDIENCE, tenant.url("userinfo")]));
    assert_eq!(access["topics"], json!(["temperature", "config"]));
    assert_eq!(access["azp"], CLIENT_ID);
    assert_eq!(access["gty"], "password");
    assert_eq!(access["scope"], body["scope"]);
    let (issued, expires) = (access["iat"].as_u64(), access["exp"].as_u64());
    assert_eq!(expires.unwrap() - issued.unwrap(), 86_400);

    let id = verify(&tenant, body["id_token"].as_str().unwrap(), CLIENT_ID).unwrap();
    assert_eq!(id["aud"], CLIENT_ID);
    assert_eq!(id["sub"], device.user_id);
    assert_eq!(id["nickname"], DEVICE);
    assert_eq!(id["topics"], json!(["temperature", "config"]));
}

#[test]
fn members_have_auth0s_order() {
    let tenant = Tenant::start();
    let (_, body) = reply(&tenant, &login());
    let places = [
        "access_token",
        "id_token",
        "scope",
        "expires_in",
        "token_type",
    ]
    .map(|name| body.find(&format!("\"{name}\":")).unwrap());
    assert!(places.is_sorted(), "{body}");
    assert!(body.starts_with(r#"{"access_token":"eyJ"#));
    let claims = tenant.mint(DEVICE).claim_members().to_string();
    assert!(claims.starts_with(r#"{"topics":["temperature","config"],"iss":"https://localhost:"#));
    let header = tenant.mint(DEVICE).header_members().to_string();
    let kid = tenant.current_key().kid().to_owned();
    assert_eq!(
        header,
        format!(r#"{{"alg":"RS256","typ":"JWT","kid":"{kid}"}}"#)
    );
}

#[test]
fn json_is_taken_as_well_as_a_form() {
    let tenant = Tenant::start();
    let members: serde_json::Map<String, Value> = login()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let answer = agent(&tenant)
        .post(tenant.url("oauth/token"))
        .content_type("application/json")
        .send(Value::Object(members).to_string())
        .unwrap();
    assert_eq!(answer.status(), 200);
    let recorded = &tenant.requests()[0];
    assert_eq!(recorded.field("password"), Some(PASSWORD));
    let nothing = agent(&tenant)
        .post(tenant.url("oauth/token"))
        .content_type("text/plain")
        .send("grant_type=password")
        .unwrap();
    assert_eq!(nothing.status(), 400);
}

#[test]
fn without_an_audience_the_access_token_is_opaque() {
    let tenant = Tenant::start();
    let (status, body) = reply(&tenant, &with(login(), "audience", ""));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(body["access_token"].as_str().unwrap().len(), 32);
    assert!(verify(&tenant, body["id_token"].as_str().unwrap(), CLIENT_ID).is_ok());
    tenant.configure(|settings| settings.default_audience = Some(AUDIENCE.to_owned()));
    let (_, body) = reply(&tenant, &with(login(), "audience", ""));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(verify(&tenant, body["access_token"].as_str().unwrap(), AUDIENCE).is_ok());
}

#[test]
fn scopes_decide_what_comes_back() {
    let tenant = Tenant::start();
    let (_, body) = reply(&tenant, &with(login(), "scope", ""));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body.get("scope").is_none() && body.get("id_token").is_none());
    let claims = verify(&tenant, body["access_token"].as_str().unwrap(), AUDIENCE).unwrap();
    assert_eq!(claims["aud"], AUDIENCE);
    tenant.configure(|settings| settings.api_scopes = vec!["read:t".into(), "write:t".into()]);
    let (_, body) = reply(&tenant, &with(login(), "scope", ""));
    assert!(body.contains(r#""scope":"read:t write:t""#), "{body}");
    let (_, body) = reply(&tenant, &with(login(), "scope", "read:t read:everything"));
    assert!(body.contains(r#""scope":"read:t""#), "{body}");
}

#[test]
fn every_invalid_request_has_auth0s_error() {
    let tenant = Tenant::start();
    let plain = with(with(login(), "grant_type", "password"), "realm", "");
    let machine = with(login(), "grant_type", "client_credentials");
    let wrong = "Wrong email or password.";
    let cases = [
        (
            with(login(), "password", "wrong"),
            403,
            "invalid_grant",
            wrong,
        ),
        (
            with(login(), "username", "nobody"),
            403,
            "invalid_grant",
            wrong,
        ),
        (
            with(login(), "realm", OTHER_CONNECTION),
            403,
            "invalid_grant",
            wrong,
        ),
        (
            with(login(), "realm", "Elsewhere"),
            403,
            "unauthorized_client",
            "Connection Elsewhere is not enabled for the client.",
        ),
        (
            with(login(), "client_secret", "x"),
            401,
            "access_denied",
            "Unauthorized",
        ),
        (
            with(login(), "client_secret", ""),
            401,
            "access_denied",
            "Unauthorized",
        ),
        (
            with(login(), "client_id", "x"),
            401,
            "access_denied",
            "Unauthorized",
        ),
        (
            with(login(), "client_id", ""),
            401,
            "invalid_client",
            "Missing client_id",
        ),
        (
            with(login(), "audience", "https://typo.example/"),
            400,
            "invalid_request",
            "invalid audience specified for password grant exchange",
        ),
        (
            with(machine.clone(), "audience", "https://typo.example/"),
            403,
            "access_denied",
            "Service not found: https://typo.example/",
        ),
        (
            with(machine, "audience", ""),
            403,
            "access_denied",
            "Non-global clients are not allowed access to APIv1",
        ),
        (
            with(login(), "username", ""),
            400,
            "invalid_request",
            "Missing required parameter: username",
        ),
        (
            with(login(), "grant_type", ""),
            400,
            "invalid_request",
            "Missing required parameter: grant_type",
        ),
        (
            with(login(), "grant_type", "magic"),
            400,
            "unsupported_grant_type",
            "Unsupported grant type: magic",
        ),
    ];
    for (form, status, error, description) in &cases {
        let expected = (*status, refusal(error, description));
        assert_eq!(reply(&tenant, form), expected);
    }
    assert_eq!(reply(&tenant, &plain).0, 200);
    tenant.configure(|settings| settings.default_directory = None);
    let text = "Authorization server not configured with default connection.";
    assert_eq!(reply(&tenant, &plain), (500, refusal("server_error", text)));
    tenant.configure(|settings| settings.grants = vec![Grant::PasswordRealm]);
    let text = "Grant type 'password' not allowed for the client.";
    let expected = (403, refusal("unauthorized_client", text));
    assert_eq!(reply(&tenant, &plain), expected);
    tenant.configure(|settings| settings.unknown_audience = UnknownAudience::ServiceNotFound);
    let (status, body) = reply(&tenant, &with(login(), "audience", "nothing"));
    assert_eq!(status, 403);
    assert_eq!(body, refusal("access_denied", "Service not found: nothing"));
}

#[test]
fn a_refusal_has_auth0s_headers() {
    let tenant = Tenant::start();
    let answer = post(&tenant, &with(login(), "password", "wrong"));
    assert_eq!(answer.status(), 403);
    assert_eq!(header(&answer, "content-type"), "application/json");
    assert_eq!(
        header(&answer, "cache-control"),
        "private, no-store, no-cache, must-revalidate, post-check=0, pre-check=0, no-transform"
    );
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "99");
    assert_eq!(header(&answer, "x-auth0-requestid").len(), 20);
}

#[test]
fn every_device_state_has_auth0s_error() {
    let tenant = Tenant::start();
    let state = |state: DeviceState| {
        tenant.change_device(DEVICE, |device| device.state = state);
        reply(&tenant, &login())
    };
    let blocked = refusal("unauthorized", "user is blocked");
    assert_eq!(state(DeviceState::Blocked), (403, blocked));
    let denied = refusal("access_denied", "device disabled");
    let why = "device disabled".to_owned();
    assert_eq!(state(DeviceState::Denied(why)), (403, denied));
    let (status, body) = state(DeviceState::PasswordLeaked);
    assert_eq!(status, 401);
    assert!(body.starts_with(r#"{"error":"password_leaked","#), "{body}");
    let (status, body) = state(DeviceState::Locked);
    assert_eq!(status, 429);
    assert!(
        body.starts_with(r#"{"error":"too_many_attempts","#),
        "{body}"
    );
    let (status, body) = state(DeviceState::RequiresVerification);
    assert_eq!(status, 403);
    assert!(
        body.starts_with(r#"{"error":"requires_verification","#),
        "{body}"
    );
    let (status, body) = state(DeviceState::MfaRequired);
    assert_eq!(status, 403);
    assert!(body.contains(r#""mfa_token":""#), "{body}");
    tenant.configure(|settings| settings.mfa_status = 401);
    assert_eq!(reply(&tenant, &login()).0, 401);
    let other = DeviceState::Refused {
        status: 418,
        error: "teapot".into(),
        description: "short and stout".into(),
    };
    assert_eq!(state(other), (418, refusal("teapot", "short and stout")));
    assert_eq!(state(DeviceState::Normal).0, 200);
    tenant.remove_device(DEVICE);
    assert_eq!(reply(&tenant, &login()).0, 403);
}

#[test]
fn ten_failures_block_a_device_from_one_address_only() {
    let tenant = Tenant::start();
    let wrong = with(login(), "password", "wrong");
    for _ in 0..10 {
        assert_eq!(post_from(&tenant, "192.0.2.1", &wrong).status(), 403);
    }
    let mut answer = post_from(&tenant, "192.0.2.1", &login());
    assert_eq!(answer.status(), 429);
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "90");
    assert!(text(&mut answer).contains("multiple consecutive login attempts"));
    assert_eq!(post_from(&tenant, "192.0.2.2", &login()).status(), 200);
    assert_eq!(post(&tenant, &login()).status(), 200);
    tenant.unblock(DEVICE);
    assert_eq!(post_from(&tenant, "192.0.2.1", &login()).status(), 200);
    // If the header is not trusted, every address is the broker's.
    tenant.configure(|settings| settings.trust_forwarded_ip = false);
    for last in 0..10 {
        let address = format!("192.0.2.{last}");
        assert_eq!(post_from(&tenant, &address, &wrong).status(), 403);
    }
    assert_eq!(post(&tenant, &login()).status(), 429);
}

#[test]
fn an_address_that_fails_too_often_is_throttled_for_every_user() {
    let tenant = Tenant::start();
    tenant.configure(|settings| settings.suspicious_ip_budget = Some(2));
    for name in ["one", "two"] {
        assert_eq!(reply(&tenant, &with(login(), "username", name)).0, 403);
    }
    let mut answer = post(&tenant, &login());
    assert_eq!(answer.status(), 429);
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "0");
    assert!(text(&mut answer).contains("suspicious login behavior"));
    tenant.configure(|settings| settings.suspicious_ip_budget = None);
    let answer = post(&tenant, &login());
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "");
}

#[test]
fn a_machine_gets_a_token_of_its_own() {
    let tenant = Tenant::start();
    let form = with(login(), "grant_type", "client_credentials");
    let (status, body) = reply(&tenant, &form);
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    let claims = verify(&tenant, body["access_token"].as_str().unwrap(), AUDIENCE).unwrap();
    assert_eq!(claims["sub"], format!("{CLIENT_ID}@clients"));
    assert_eq!(claims["gty"], "client-credentials");
    assert!(body.get("id_token").is_none() && claims.get("topics").is_none());
    let minted = tenant.mint_machine_token().sign();
    assert_eq!(peek(&minted).unwrap().1["sub"], claims["sub"]);
}

#[test]
fn an_application_authenticates_in_the_configured_way_only() {
    let tenant = Tenant::start();
    tenant.configure(|settings| settings.client_auth = ClientAuth::Basic);
    assert_eq!(reply(&tenant, &login()).0, 401);
    let pair = format!("{CLIENT_ID}:{CLIENT_SECRET}");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
    let form = with(with(login(), "client_secret", ""), "client_id", "");
    let answer = agent(&tenant)
        .post(tenant.url("oauth/token"))
        .header("authorization", format!("Basic {encoded}"))
        .send_form(form)
        .unwrap();
    assert_eq!(answer.status(), 200);
    tenant.configure(|settings| settings.client_auth = ClientAuth::None);
    assert_eq!(reply(&tenant, &with(login(), "client_secret", "")).0, 200);
}

#[test]
fn an_assertion_holds_once_and_for_this_tenant() {
    let tenant = Tenant::start();
    let key = crate::signing::shared_key(2);
    tenant.configure(|settings| {
        settings.client_auth = ClientAuth::PrivateKeyJwt;
        settings.client_jwk = Some(key.jwk());
    });
    let claims = |jti: &str| {
        serde_json::json!({
            "iss": CLIENT_ID, "sub": CLIENT_ID, "aud": tenant.issuer(), "iat": crate::signing::now(),
            "exp": crate::signing::now() + 60, "jti": jti,
        })
    };
    let header = serde_json::json!({"alg": "RS256", "typ": "JWT"});
    let sign = |claims: &Value| key.sign(crate::signing::Alg::Rs256, &header, claims);
    let status = |assertion: &str| {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let form = with(login(), "client_assertion_type", kind);
        let form: Vec<_> = form
            .into_iter()
            .filter(|(name, _)| *name != "client_secret")
            .collect();
        reply(&tenant, &with(form, "client_assertion", assertion)).0
    };
    let good = sign(&claims("1"));
    assert_eq!(status(&good), 200);
    assert_eq!(status(&good), 401, "it was used");
    for (name, value) in [
        ("aud", serde_json::json!(tenant.url("oauth/token"))),
        ("aud", serde_json::json!([tenant.issuer()])),
        ("exp", serde_json::json!(crate::signing::now() - 60)),
        ("exp", serde_json::json!(crate::signing::now() + 900)),
        ("sub", serde_json::json!("another")),
        ("jti", serde_json::json!("")),
    ] {
        let mut claims = claims(name);
        claims[name] = value;
        assert_eq!(status(&sign(&claims)), 401, "{claims}");
    }
    let another = crate::signing::shared_key(3);
    let forged = another.sign(crate::signing::Alg::Rs256, &header, claims("2"));
    assert_eq!(status(&forged), 401);
    assert_eq!(reply(&tenant, &login()).0, 401, "a secret does not count");
}

#[test]
fn keys_are_published_then_used_then_revoked() {
    let tenant = Tenant::start();
    let mut answer = jwks(&tenant).unwrap();
    assert_eq!(
        header(&answer, "content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(
        header(&answer, "cache-control"),
        "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400"
    );
    let (first, second) = (tenant.current_key(), tenant.next_key());
    let expected = format!(
        r#"{{"keys":[{},{}]}}"#,
        first.jwk_members(),
        second.jwk_members()
    );
    assert_eq!(text(&mut answer), expected);

    let old = tenant.token(DEVICE);
    tenant.rotate();
    assert_eq!(tenant.current_key().kid(), second.kid());
    assert_eq!(tenant.previous_key().unwrap().kid(), first.kid());
    assert_eq!(tenant.jwks()["keys"].as_array().unwrap().len(), 3);
    assert!(verify(&tenant, &old, AUDIENCE).is_ok());
    assert!(verify(&tenant, &tenant.token(DEVICE), AUDIENCE).is_ok());
    tenant.revoke_previous();
    assert_eq!(verify(&tenant, &old, AUDIENCE), Err("unknown kid".into()));
    let before = tenant.jwks();
    tenant.rotate_unannounced();
    assert!(!before.to_string().contains(tenant.current_key().kid()));
    assert!(verify(&tenant, &tenant.token(DEVICE), AUDIENCE).is_ok());

    tenant.configure(|settings| settings.alg_in_jwks = false);
    assert!(tenant.jwks()["keys"][0].get("alg").is_none());
    tenant.set_jwks(&json!({"keys": []}));
    assert_eq!(text(&mut jwks(&tenant).unwrap()), r#"{"keys":[]}"#);
    tenant.set_jwks_text("{\"keys\":");
    assert_eq!(text(&mut jwks(&tenant).unwrap()), "{\"keys\":");
    tenant.reset_jwks();
    assert_eq!(tenant.jwks()["keys"].as_array().unwrap().len(), 3);
}

#[test]
fn tenants_share_keys_unless_one_asks_for_its_own() {
    let (one, two) = (Tenant::start(), Tenant::start());
    assert_eq!(one.current_key().kid(), two.current_key().kid());
    let own = Tenant::builder().fresh_keys().start().unwrap();
    assert_ne!(own.current_key().kid(), one.current_key().kid());
    assert_ne!(own.next_key().kid(), one.next_key().kid());
}

#[test]
fn discovery_leads_to_the_other_endpoints() {
    let tenant = Tenant::start();
    let mut answer = get(&tenant, ".well-known/openid-configuration").unwrap();
    let body = text(&mut answer);
    let issuer = tenant.issuer();
    assert!(body.starts_with(&format!(
        r#"{{"issuer":"{issuer}","authorization_endpoint":"{issuer}authorize","token_endpoint":"{issuer}oauth/token","#
    )));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["jwks_uri"], tenant.url("/.well-known/jwks.json"));
    assert_eq!(
        body["id_token_signing_alg_values_supported"],
        json!(["HS256", "RS256", "PS256"])
    );
    assert_eq!(get(&tenant, "nowhere?x=1").unwrap().status(), 404);
    assert_eq!(get(&tenant, "oauth/token").unwrap().status(), 404);
    assert_eq!(
        tenant.requests_to(Endpoint::Other)[0].target,
        "/nowhere?x=1"
    );
}

#[test]
fn signatures_and_layout_are_the_operators_choice() {
    let tenant = Tenant::start();
    tenant.configure(|settings| {
        settings.access_token_signing = Signing::Ps256;
        settings.id_token_signing = Signing::Hs256;
        settings.profile = TokenProfile::Rfc9068;
        settings.access_token_lifetime = 60;
        settings.topics_claim = "https://mqtt.example/topics".to_owned();
        settings.topics_in_id_token = false;
    });
    let token = tenant.token(DEVICE);
    let (header, claims) = peek(&token).unwrap();
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("PS256"), &json!("at+jwt"))
    );
    assert_eq!(claims["client_id"], CLIENT_ID);
    assert_eq!(claims["aud"], AUDIENCE);
    assert!(claims.get("gty").is_none() && claims.get("jti").is_some());
    assert_eq!(claims["https://mqtt.example/topics"][1], "config");
    assert!(verify(&tenant, &token, AUDIENCE).is_ok());

    let (header, claims) = peek(&tenant.id_token(DEVICE)).unwrap();
    assert_eq!(header, json!({"alg": "HS256", "typ": "JWT"}));
    assert!(claims.get("https://mqtt.example/topics").is_none());
    let secret = DecodingKey::from_secret(CLIENT_SECRET.as_bytes());
    let mut rules = Validation::new(jsonwebtoken::Algorithm::HS256);
    rules.set_audience(&[CLIENT_ID]);
    jsonwebtoken::decode::<Value>(tenant.id_token(DEVICE), &secret, &rules).unwrap();

    tenant.configure(|settings| settings.clock_offset = -3600);
    let behind = peek(&tenant.token(DEVICE)).unwrap().1;
    assert!(verify(&tenant, &tenant.token(DEVICE), AUDIENCE).is_err());
    assert!(behind["exp"].as_u64().unwrap() < crate::signing::now());
}

#[test]
fn any_token_can_be_minted() {
    let tenant = Tenant::start();
    let good = tenant.mint(DEVICE);
    assert!(verify(&tenant, &good.sign(), AUDIENCE).is_ok());
    let stranger = Arc::new(SigningKey::generate("stranger"));
    let signed = |mint: Mint| verify(&tenant, &mint.sign(), AUDIENCE);
    assert!(signed(good.clone().lifetime(-3600)).is_err());
    assert!(signed(good.clone().claim("aud", "https://elsewhere.example/")).is_err());
    assert!(signed(good.clone().without("exp")).is_err());
    assert!(signed(good.clone().forged_by(&stranger)).is_err());
    assert_eq!(
        signed(good.clone().key(&stranger)),
        Err("unknown kid".into())
    );
    assert_eq!(
        signed(good.clone().without_header("kid")),
        Err("no kid".into())
    );
    assert!(signed(good.clone().key(&tenant.next_key()).alg(Alg::Ps512)).is_ok());
    let pem = tenant.current_key().public_pem();
    let confused = good.clone().secret(pem.as_bytes());
    assert_eq!(confused.header_members().get("alg").unwrap(), "HS256");
    assert!(signed(confused).is_err());
    let twice = good
        .repeat_header("alg", "none")
        .repeat_claim("sub", "x")
        .sign();
    let header = twice.split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header);
    assert_eq!(
        String::from_utf8(header.unwrap())
            .unwrap()
            .matches("\"alg\"")
            .count(),
        2
    );
}

#[test]
fn devices_are_users_of_one_connection() {
    let tenant = Tenant::start();
    let visitor = Device::new("ann", "secret")
        .connection(OTHER_CONNECTION)
        .user_id("auth0|ann")
        .claim("permissions", json!(["read"]))
        .state(DeviceState::Normal);
    tenant.add_device(visitor.clone());
    tenant.add_device(visitor);
    let form = with(with(login(), "username", "ann"), "password", "secret");
    assert_eq!(reply(&tenant, &form).0, 403);
    assert_eq!(
        reply(&tenant, &with(form, "realm", OTHER_CONNECTION)).0,
        200
    );
    let claims = peek(&tenant.token("ann")).unwrap().1;
    assert_eq!(claims["sub"], "auth0|ann");
    assert_eq!(claims["permissions"], json!(["read"]));
    assert!(claims.get("topics").is_none());
}

#[test]
fn requests_are_recorded_as_they_were_sent() {
    let tenant = Tenant::start();
    let client = agent(&tenant);
    for _ in 0..2 {
        let mut answer = client
            .post(tenant.url("oauth/token"))
            .header("auth0-forwarded-for", "192.0.2.7")
            .send_form(login())
            .unwrap();
        text(&mut answer);
    }
    let recorded = tenant.requests();
    assert_eq!(tenant.count(Endpoint::Token), 2);
    assert_eq!(recorded[1].method, "POST");
    assert_eq!(recorded[1].endpoint, Endpoint::Token);
    assert_eq!(recorded[1].field("password"), Some(PASSWORD));
    assert_eq!(recorded[1].field("nothing"), None);
    assert_eq!(recorded[1].header("Auth0-Forwarded-For"), Some("192.0.2.7"));
    assert!(recorded[1].peer.ip().is_loopback());
    // A pooled connection is used again.
    assert_eq!(recorded[0].connection, recorded[1].connection);
    assert_eq!(tenant.count(Endpoint::Connection), 1);
    assert!(tenant.wait_for(Endpoint::Token, 2, Duration::ZERO));
    assert!(!tenant.wait_for(Endpoint::Jwks, 1, Duration::ZERO));
    tenant.forget_requests();
    assert_eq!(tenant.count(Endpoint::Token), 0);
    assert!(tenant.requests().is_empty());
}

#[test]
fn canned_answers_are_sent_as_they_are() {
    let tenant = Tenant::start();
    tenant.once(
        Endpoint::Jwks,
        Behaviour::refusal(503, "temporarily_unavailable", "later"),
    );
    tenant.once(Endpoint::Jwks, Behaviour::Html(502));
    tenant.once(
        Endpoint::Jwks,
        Behaviour::Redirect("https://evil.example/".into()),
    );
    tenant.once(
        Endpoint::Jwks,
        Behaviour::WrongContentType("text/html".into()),
    );
    tenant.once(
        Endpoint::Jwks,
        Behaviour::ExtraHeaders(vec![("Cache-Control".into(), "max-age=0".into())]),
    );

    let mut answer = jwks(&tenant).unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(
        text(&mut answer),
        refusal("temporarily_unavailable", "later")
    );

    let mut answer = jwks(&tenant).unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(header(&answer, "content-type"), "text/html; charset=UTF-8");
    assert!(text(&mut answer).contains("<hr><center>cloudflare</center>"));

    let answer = jwks(&tenant).unwrap();
    assert_eq!(answer.status(), 302);
    assert_eq!(header(&answer, "location"), "https://evil.example/");

    let mut answer = jwks(&tenant).unwrap();
    assert_eq!(header(&answer, "content-type"), "text/html");
    assert!(text(&mut answer).starts_with("{\"keys\":["));

    let answer = jwks(&tenant).unwrap();
    assert_eq!(header(&answer, "cache-control"), "max-age=0");

    let answer = jwks(&tenant).unwrap();
    assert_eq!(answer.status(), 200);
}

#[test]
fn a_rate_limit_may_have_retry_after() {
    let tenant = Tenant::start();
    let retry_after = Some(7);
    tenant.on(Endpoint::Token, Behaviour::RateLimited { retry_after });
    let mut answer = post(&tenant, &login());
    assert_eq!(answer.status(), 429);
    assert_eq!(header(&answer, "retry-after"), "7");
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "0");
    let limited = refusal("too_many_requests", "Global limit has been reached");
    assert_eq!(text(&mut answer), limited);
    let retry_after = None;
    tenant.on(Endpoint::Token, Behaviour::RateLimited { retry_after });
    assert_eq!(header(&post(&tenant, &login()), "retry-after"), "");
    assert_eq!(jwks(&tenant).unwrap().status(), 200);
    tenant.behave();
    assert_eq!(post(&tenant, &login()).status(), 200);
}

#[test]
fn a_gate_holds_a_response_until_it_is_released() {
    let tenant = Tenant::start();
    let gate = ResponseGate::new();
    tenant.on(Endpoint::Jwks, Behaviour::Gate(gate.clone()));
    let kid = tenant.current_key().kid().to_owned();
    thread::scope(|scope| {
        let early = scope.spawn(|| text(&mut jwks(&tenant).unwrap()));
        let late = scope.spawn(|| text(&mut jwks(&tenant).unwrap()));
        assert!(gate.wait_for(2, SOON));
        assert!(tenant.wait_for(Endpoint::Jwks, 2, SOON));
        assert_eq!(gate.waiting(), 2);
        tenant.rotate_unannounced();
        tenant.revoke_previous();
        gate.release(1);
        // The response is the one of the time of the request.
        gate.open();
        assert!(early.join().unwrap().contains(&kid));
        assert!(late.join().unwrap().contains(&kid));
    });
    assert!(!text(&mut jwks(&tenant).unwrap()).contains(&kid));
}

#[test]
fn a_response_can_be_delayed_also_before_another_fault() {
    let tenant = Tenant::start();
    let delay = Duration::from_millis(50);
    tenant.once(
        Endpoint::Jwks,
        Behaviour::Delay(delay).then(Behaviour::Html(520)),
    );
    let started = Instant::now();
    assert_eq!(jwks(&tenant).unwrap().status(), 520);
    assert!(started.elapsed() >= delay);
}

#[test]
fn connections_can_be_cut_in_every_way() {
    let tenant = Tenant::start();
    for endpoint in [Endpoint::Connection, Endpoint::Jwks] {
        tenant.once(endpoint, Behaviour::ResetConnection);
        let why = io_kind(jwks(&tenant).unwrap_err());
        assert_eq!(why, Some(io::ErrorKind::ConnectionReset), "{endpoint:?}");
        tenant.once(endpoint, Behaviour::Close);
        assert!(jwks(&tenant).is_err());
        tenant.once(
            endpoint,
            Behaviour::Garbage(b"\x00\xffgarbage\r\n\r\n".to_vec()),
        );
        assert!(jwks(&tenant).is_err());
        tenant.once(endpoint, Behaviour::Hang);
        tenant.forget_requests();
        thread::scope(|scope| {
            let hung = scope.spawn(|| jwks(&tenant));
            assert!(tenant.wait_for(endpoint, 1, SOON));
            assert!(!hung.is_finished());
            tenant.hang_up();
            assert!(hung.join().unwrap().is_err());
        });
        assert_eq!(jwks(&tenant).unwrap().status(), 200);
    }
}

fn io_kind(error: ureq::Error) -> Option<io::ErrorKind> {
    match error {
        ureq::Error::Io(error) => Some(error.kind()),
        _ => None,
    }
}

#[test]
fn bodies_can_be_huge_slow_or_cut_short() {
    let tenant = Tenant::start();
    tenant.once(Endpoint::Jwks, Behaviour::HugeBody);
    let mut answer = jwks(&tenant).unwrap();
    assert_eq!(header(&answer, "content-length"), "1073741824");
    let mut start = [0; 4096];
    answer
        .body_mut()
        .as_reader()
        .read_exact(&mut start)
        .unwrap();
    drop(answer);

    tenant.once(Endpoint::Jwks, Behaviour::TruncatedBody);
    let mut answer = jwks(&tenant).unwrap();
    assert!(answer.body_mut().read_to_string().is_err());

    let pause = Duration::from_micros(10);
    tenant.once(
        Endpoint::Jwks,
        Behaviour::json(200, "{}").then(Behaviour::SlowBody(pause)),
    );
    assert_eq!(text(&mut jwks(&tenant).unwrap()), "{}");

    tenant.once(Endpoint::Token, Behaviour::SlowBody(pause));
    let (status, body) = reply(&tenant, &login());
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Value>(&body).is_ok());
}

#[test]
fn dropping_the_tenant_ends_everything_that_is_held() {
    let tenant = Tenant::start();
    let held = [
        Behaviour::Hang,
        Behaviour::Gate(ResponseGate::new()),
        Behaviour::Delay(Duration::from_secs(86_400)),
        Behaviour::SlowBody(Duration::from_secs(86_400)),
    ];
    let count = held.len();
    for behaviour in held {
        tenant.once(Endpoint::Jwks, behaviour);
    }
    tenant.once(Endpoint::Connection, Behaviour::Hang);
    let port = tenant.port();
    let silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(tenant.wait_for(Endpoint::Connection, 1, SOON));
    let ca_file = tenant.ca_file().to_owned();
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let (client, url) = (agent(&tenant), tenant.url(".well-known/jwks.json"));
            thread::spawn(move || {
                let answer = client.get(url).call();
                answer.and_then(|mut answer| answer.body_mut().read_to_string())
            })
        })
        .collect();
    assert!(tenant.wait_for(Endpoint::Jwks, count, SOON));
    let started = Instant::now();
    drop(tenant);
    assert!(started.elapsed() < Duration::from_secs(5));
    for client in clients {
        assert!(client.join().unwrap().is_err());
    }
    assert_eq!((&silent).read(&mut [0]).unwrap_or(0), 0);
    assert!(!ca_file.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn the_tenant_can_stop_and_listen_again_on_the_same_port() {
    let tenant = Tenant::start();
    let client = agent(&tenant);
    let ask = || client.get(tenant.url(".well-known/jwks.json")).call();
    text(&mut ask().unwrap());
    tenant.stop_listening();
    tenant.stop_listening();
    let direct = TcpStream::connect(("127.0.0.1", tenant.port())).unwrap_err();
    assert_eq!(direct.kind(), io::ErrorKind::ConnectionRefused);
    assert!(jwks(&tenant).is_err());
    tenant.listen_again().unwrap();
    tenant.listen_again().unwrap();
    assert_eq!(jwks(&tenant).unwrap().status(), 200);
}

#[test]
fn its_certificate_can_be_changed_while_it_runs() {
    let tenant = Tenant::start();
    assert!(jwks(&tenant).is_ok());
    let ours = tenant.authority();
    let theirs = Authority::new("another CA");
    for bad in [
        ours.issue_expired(&["localhost"]),
        ours.issue(&["elsewhere.example"]),
        theirs.issue(&["localhost"]),
    ] {
        tenant.use_certificate(&bad);
        assert!(jwks(&tenant).is_err());
    }
    tenant.use_certificate(&ours.issue(&["localhost"]));
    assert!(jwks(&tenant).is_ok());
}

#[test]
fn port_and_directory_can_be_chosen() {
    let scratch = Scratch::new("demo").unwrap();
    let dir = scratch.path().join("below");
    let tenant = Tenant::builder()
        .dir(&dir)
        .names(&["127.0.0.1"])
        .settings(|settings| settings.client_id = "demo".to_owned())
        .device(Device::new("another", "one"))
        .start()
        .unwrap();
    assert_eq!(tenant.ca_file(), dir.join("ca.pem"));
    assert_eq!(tenant.domain(), format!("127.0.0.1:{}", tenant.port()));
    assert_eq!(tenant.settings().client_id, "demo");
    assert_eq!(tenant.devices().len(), 2);
    assert!(tenant.device("another").is_some() && tenant.device(DEVICE).is_some());
    assert!(jwks(&tenant).is_ok());
    drop(tenant);
    assert!(dir.join("ca.pem").exists());
}

#[test]
fn a_device_with_the_default_name_replaces_the_default_one() {
    let tenant = Tenant::builder()
        .device(Device::new(DEVICE, "first"))
        .device(Device::new(DEVICE, "second"))
        .start()
        .unwrap();
    assert_eq!(tenant.devices().len(), 1);
    assert_eq!(tenant.device(DEVICE).unwrap().password, "second");
}

#[test]
fn the_secrets_are_as_long_as_auth0s() {
    assert_eq!(CLIENT_ID.len(), 32);
    assert_eq!(CLIENT_SECRET.len(), 64);
    assert_eq!(API_SECRET.len(), 64);
}
