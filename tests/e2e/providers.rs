//! What other OpenID Connect providers do differently from Auth0.

use serde_json::json;
use testbed::{
    clients::{MosquittoClient, Protocol, raw::ConnectPacket},
    signing::{SigningKey, shared_key},
    tenant::{Behaviour, ClientAuth, DEVICE, Endpoint, PASSWORD, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// An issuer at whose address there is nothing.
const ELSEWHERE: &str = "https://id.example/";

fn publishes(broker: &testbed::broker::Mosquitto, username: &str, password: &str) {
    let device = MosquittoClient::of(broker)
        .username(username)
        .password(password);
    device.publish("temperature", "1").expect_success();
}

/// Has the tenant serve a discovery document with this issuer and these ways to authenticate.
fn discovery(tenant: &Tenant, issuer: &str, auth_methods: &[&str]) {
    let document = json!({
        "issuer": issuer,
        "jwks_uri": tenant.url(".well-known/jwks.json"),
        "token_endpoint": tenant.url("oauth/token"),
        "token_endpoint_auth_methods_supported": auth_methods,
    });
    let answer = Behaviour::Status {
        code: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: document.to_string(),
    };
    tenant.on(Endpoint::Discovery, answer);
}

on_each_broker! {
    fn the_keys_are_fetched_where_jwks_uri_says(version) {
        let tenant = tenant();
        let token = tenant.mint(DEVICE).claim("iss", ELSEWHERE).sign();
        let options = PluginOptions::tokens(&tenant).without("domain").with("issuer", ELSEWHERE);
        let broker = broker(version, &options.with("jwks_uri", &tenant.url(".well-known/jwks.json")));
        publishes(&broker, "JWT", &token);
        assert_eq!(tenant.count(Endpoint::Discovery), 0);
    }

    fn the_discovery_document_is_read_where_discovery_url_says(version) {
        let tenant = tenant();
        let document = tenant.url(".well-known/openid-configuration");
        let issuers = format!("{ELSEWHERE},{}", tenant.issuer());
        let options = PluginOptions::both(&tenant).without("domain").without("connection").with("issuer", &issuers);
        let options = options.with("discovery_url", &document);
        discovery(&tenant, ELSEWHERE, &["client_secret_post"]);
        let good = broker(version, &options);
        publishes(&good, "JWT", &tenant.mint(DEVICE).claim("iss", ELSEWHERE).sign());
        publishes(&good, DEVICE, PASSWORD);
        // A document of an issuer that nobody has named is not used.
        discovery(&tenant, "https://other.example/", &["client_secret_post"]);
        let bad = broker(version, &options);
        let line = bad.wait_for_log("could not be fetched", PATIENCE).unwrap();
        assert!(line.contains("calls itself 'https://other.example/'"), "{line}");
    }

    /// Azure AD B2C's issuer leaves out a part of the address of its document. The line in the log says what to write,
    /// and where nothing is found, which options say where to look.
    fn the_line_about_another_issuer_leads_to_the_options(version) {
        let tenant = tenant();
        let token = tenant.mint(DEVICE).claim("iss", ELSEWHERE).sign();
        discovery(&tenant, ELSEWHERE, &["client_secret_post"]);
        let wrong = PluginOptions::tokens(&tenant).without("domain").with("issuer", tenant.issuer());
        let line = broker(version, &wrong).expect_log("signing keys could not be fetched");
        let (before, after) = line.split_once("; write it exactly so, and set discovery_url to '").expect(&line);
        let issuer = before.split('\'').nth_back(3).expect(&line);
        let address = after.split('\'').next().expect(&line);
        let right = broker(version, &wrong.clone().with("issuer", issuer).with("discovery_url", address));
        publishes(&right, "JWT", &token);

        tenant.on(Endpoint::Discovery, Behaviour::json(404, json!({})));
        let line = broker(version, &wrong).expect_log("signing keys could not be fetched");
        let fix = "if the discovery document or the keys are elsewhere, set discovery_url or jwks_uri";
        assert!(line.contains("answered 404") && line.ends_with(fix), "{line}");
    }

    /// The application has a private key. The tenant verifies each assertion, and takes none twice. The key is
    /// replaced by SIGHUP.
    fn an_application_proves_who_it_is_with_its_private_key(version) {
        let tenant = tenant();
        let register = |key: &SigningKey| tenant.configure(|settings| {
            settings.client_auth = ClientAuth::PrivateKeyJwt;
            settings.client_jwk = Some(key.jwk());
        });
        let (first, second) = (shared_key(2), shared_key(3));
        register(&first);
        let folder = tempfile::tempdir().unwrap();
        let file = secret_file(folder.path(), "key.pem", first.private_pem().as_bytes());
        let options = PluginOptions::both(&tenant).without("client_secret").with("client_assertion_key_file", &file);
        let lines: String = options.pairs().into_iter().map(|(name, value)| format!("{name} = \"{value}\"\n")).collect();
        let config = secret_file(folder.path(), "auth0.toml", lines.as_bytes());
        let broker = broker(version, &PluginOptions(vec![]).with("config_file", &config));
        for _ in 0..2 {
            publishes(&broker, DEVICE, PASSWORD);
        }
        for request in tenant.requests_to(Endpoint::Token) {
            assert!(request.field("client_assertion").is_some() && request.field("client_secret").is_none());
            assert!(request.header("authorization").is_none());
        }
        register(&second);
        let connect = ConnectPacket::new(Protocol::V311, "c-old").login(DEVICE, PASSWORD);
        let _ = answer(&broker, &connect);
        let line = expect_refusal(&broker, "'c-old'", "login-configuration");
        assert!(line.contains("private_key_jwt") && line.contains("client_assertion_key_file"), "{line}");
        std::fs::write(&file, second.private_pem()).unwrap();
        let mark = broker.log_mark();
        broker.reload();
        let line = broker.wait_for_log_after(mark, "configuration generation", PATIENCE).unwrap();
        assert!(line.ends_with("generation 2 is in force: changed are client_assertion_key_file"), "{line}");
        publishes(&broker, DEVICE, PASSWORD);
        assert!(!broker.log().contains("PRIVATE KEY"));
    }

    /// An access token as Keycloak makes it without an audience mapper, and one of Cognito's.
    fn claims_are_read_where_the_provider_puts_them(version) {
        let tenant = tenant();
        let policy = tempfile::NamedTempFile::new().unwrap();
        let rule = "roles_claim = \"roles\"\n[[rule]]\nname = \"r\"\nwhen.role = \"gardener\"\nallow.publish = \"garden\"";
        std::fs::write(policy.path(), rule).unwrap();
        let options = PluginOptions::tokens(&tenant).with("audience", "mqtt-devices");
        let options = options.with("policy_file", policy.path().to_str().unwrap());
        let keycloak = options.clone().with("audience_claim", "azp").with("username_claim", "preferred_username,sub");
        let keycloak = keycloak.with("permissions_claim", "/resource_access/mqtt-devices/roles");
        let keycloak = broker(version, &keycloak.with("roles_claim", "/realm_access/roles"));
        let minted = || tenant.mint(DEVICE).claim("aud", json!("account")).claim("topics", json!([]));
        let roles = json!({"mqtt-devices": {"roles": ["publish:up"]}});
        let token = minted()
            .claim("azp", "mqtt-devices")
            .claim("preferred_username", "pump-1")
            .claim("realm_access", json!({"roles": ["gardener", "offline_access"]}))
            .claim("resource_access", roles);
        let token = token.sign();
        let device = || MosquittoClient::of(&keycloak).username("JWT").password(&token);
        device().publish("up", "1").expect_success();
        device().publish("garden", "1").expect_success();
        assert!(keycloak.wait_for_log("u'pump-1'", PATIENCE).is_some(), "{}", keycloak.log());
        let foreign = minted().claim("azp", "another").claim("preferred_username", "pump-1").sign();
        let _ = answer(&keycloak, &token_connect(Protocol::V5, "foreign", &foreign));
        expect_refusal(&keycloak, "'foreign'", "token-audience");

        let cognito = options.with("audience_claim", "client_id").with("roles_claim", "cognito:groups");
        let cognito = broker(version, &cognito.with("username_claim", "username"));
        let token = minted()
            .claim("aud", json!(null))
            .claim("client_id", "mqtt-devices")
            .claim("username", "pump-2")
            .claim("cognito:groups", json!(["gardener"]));
        let token = token.sign();
        let device = MosquittoClient::of(&cognito).username("JWT").password(&token);
        device.publish("garden", "1").expect_success();
        assert!(cognito.wait_for_log("u'pump-2'", PATIENCE).is_some(), "{}", cognito.log());
    }

    fn the_secret_is_sent_as_the_provider_wants_it(version) {
        let tenant = tenant();
        tenant.configure(|settings| settings.client_auth = ClientAuth::Basic);
        let options = PluginOptions::both(&tenant);
        let basic = broker(version, &options.clone().with("token_endpoint_auth_method", "client_secret_basic"));
        publishes(&basic, DEVICE, PASSWORD);
        let request = &tenant.requests_to(Endpoint::Token)[0];
        assert!(request.header("authorization").is_some() && request.field("client_secret").is_none());

        // Auth0's default is the form. The line says what was sent.
        let post = broker(version, &options);
        let connect = ConnectPacket::new(Protocol::V311, "c-post").login(DEVICE, PASSWORD);
        let _ = answer(&post, &connect);
        let line = expect_refusal(&post, "'c-post'", "login-configuration");
        assert!(line.contains("the secret was sent by client_secret_post"), "{line}");

        // Without the option, the document decides.
        discovery(&tenant, tenant.issuer(), &["private_key_jwt", "client_secret_basic"]);
        let options = PluginOptions::both(&tenant).without("domain").with("issuer", tenant.issuer());
        publishes(&broker(version, &options), DEVICE, PASSWORD);
    }
}
