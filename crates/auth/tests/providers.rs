//! Tokens as other providers make them, and the options of `docs/other-providers.md` that go with them. Each token has
//! the members that the provider's documentation shows.

mod common;

use std::{fs, path::Path};

use auth::{
    clock,
    engine::{Action, Step},
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    policy_file::BrokerFeatures,
    refusal::Reason,
};
use common::TestInstance;
use serde_json::{Value, json};
use testbed::signing::{Alg, now, shared_key};

/// A provider: its options as the page has them, its token, and what must come of both.
struct Provider {
    name: &'static str,
    claims: Value,
    username: &'static str,
    /// A role or group that a rule of the policy file asks for.
    role: Option<&'static str>,
}

/// The rights in every token that can carry some, written as permissions.
const RIGHTS: [&str; 2] = ["publish:up/#", "subscribe:down/#"];

fn providers() -> Vec<Provider> {
    let provider = |name, claims, username, role| Provider {
        name,
        claims,
        username,
        role,
    };
    vec![
        // Without an audience mapper `aud` is `account`, the client of Keycloak's own pages.
        provider(
            "keycloak",
            json!({
                "iss": "https://id.example/realms/plant", "aud": "account", "azp": "mqtt-devices", "typ": "Bearer",
                "sub": "4b5d", "jti": "onrtro:7a", "acr": "1", "allowed-origins": ["/*"],
                "realm_access": {"roles": ["gardener", "offline_access", "uma_authorization"]},
                "resource_access": {"mqtt-devices": {"roles": RIGHTS}, "account": {"roles": ["manage-account"]}},
                "scope": "email profile", "email_verified": true, "preferred_username": "pump-1",
            }),
            "pump-1",
            Some("gardener"),
        ),
        provider(
            "entra",
            json!({
                "iss": "https://login.microsoftonline.com/7d5e/v2.0", "aud": "0c0a", "azp": "5b11", "azpacr": "1",
                "idtyp": "app", "oid": "a9d2", "sub": "a9d2", "tid": "7d5e", "ver": "2.0", "uti": "w8", "rh": "0.A",
                "roles": [RIGHTS[0], RIGHTS[1], "gardener"],
            }),
            "7d5e:a9d2",
            Some("gardener"),
        ),
        provider(
            "okta",
            json!({
                "iss": "https://dev-1.okta.com/oauth2/default", "aud": "api://mqtt", "ver": 1, "jti": "AT.0mP",
                "cid": "0oab", "uid": "00u1", "sub": "pump-1@example.com", "auth_time": now(),
                "scp": RIGHTS, "groups": ["Everyone", "gardener"],
            }),
            "pump-1@example.com",
            Some("gardener"),
        ),
        // An access token of a user pool names no API.
        provider(
            "cognito",
            json!({
                "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_A", "client_id": "5bsj",
                "sub": "aaaa-bbbb", "device_key": "eu-central-1_d", "origin_jti": "a", "event_id": "e", "jti": "j",
                "cognito:groups": ["gardener"], "token_use": "access", "scope": "mqtt/use openid",
                "auth_time": now(), "version": 2, "username": "pump-1",
            }),
            "pump-1",
            Some("gardener"),
        ),
        // Custom claims of Firebase stand beside its own.
        provider(
            "firebase",
            json!({
                "iss": "https://securetoken.google.com/plant-1", "aud": "plant-1", "auth_time": now(),
                "user_id": "uid7", "sub": "uid7", "email": "pump-1@example.com", "email_verified": true,
                "firebase": {"identities": {"email": ["pump-1@example.com"]}, "sign_in_provider": "password"},
                "topics": {"publish": ["up/#"], "subscribe": ["down/#"]},
            }),
            "uid7",
            None,
        ),
        provider(
            "google",
            json!({
                "iss": "https://accounts.google.com", "aud": "123.apps.googleusercontent.com",
                "azp": "123.apps.googleusercontent.com", "sub": "1103", "email": "pump-1@example.com",
                "email_verified": true, "hd": "example.com",
            }),
            "pump-1@example.com",
            None,
        ),
        // Roles are the names of an object's members.
        provider(
            "zitadel",
            json!({
                "iss": "https://plant-1.zitadel.cloud", "aud": ["2201@plant", "2200"], "client_id": "2201@plant",
                "sub": "1709", "jti": "V2",
                "urn:zitadel:iam:org:project:roles": {"gardener": {"1701": "plant.example"}},
                "permissions": RIGHTS,
            }),
            "1709",
            Some("gardener"),
        ),
        provider(
            "authentik",
            json!({
                "iss": "https://id.example/application/o/mqtt/", "aud": "mqtt-client", "azp": "mqtt-client",
                "sub": "5f2c", "auth_time": now(), "acr": "goauthentik.io/providers/oauth2/default", "uid": "h4",
                "preferred_username": "pump-1", "nickname": "pump-1", "groups": ["gardener", RIGHTS[0], RIGHTS[1]],
            }),
            "pump-1",
            Some("gardener"),
        ),
    ]
}

/// Returns the options in the block of the page that has this mark.
fn options(name: &str) -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/other-providers.md");
    let page = fs::read_to_string(page).unwrap();
    let mark = format!("<!-- tested: {name} -->\n```conf\n");
    let (_, block) = page
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no block {name}"));
    let (block, _) = block.split_once("```").unwrap();
    let lines = block
        .lines()
        .filter_map(|line| line.strip_prefix("plugin_opt_"));
    let options = lines.filter_map(|line| line.split_once(' '));
    options
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn token(claims: &Value) -> String {
    let mut all = claims.clone();
    all["iat"] = json!(now());
    all["exp"] = json!(now() + 3600);
    let header = json!({"alg": "RS256", "kid": shared_key(0).kid()});
    shared_key(0).sign(Alg::Rs256, header, all)
}

/// Returns an instance with these options, the keys of all tokens here, and a policy file with a rule for gardeners.
fn instance(options: &[(String, String)]) -> TestInstance {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let keys = write(
        "keys.json",
        json!({"keys": [shared_key(0).jwk()]}).to_string(),
    );
    let policy = write(
        "policy.toml",
        "roles_claim = \"roles\"\n[[rule]]\nname = \"r\"\nwhen.role = \"gardener\"\nallow.both = \"garden\"\n\
         [[rule]]\nname = \"zitadel\"\n\
         when.claim = { pointer = \"/urn:zitadel:iam:org:project:roles/gardener/1701\", is = \"plant.example\" }\n\
         allow.both = \"garden\"\n"
            .into(),
    );
    let mut all: Vec<_> = options
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    all.extend([("jwks_file", &*keys), ("policy_file", &*policy)]);
    let mut instance = common::instance(&all, FetchSchedule::default(), Log::default());
    let TestInstance { engine, common } = &mut instance;
    engine.start(common, BrokerFeatures::default()).unwrap();
    instance
}

fn may(instance: &mut TestInstance, username: &str, action: Action, topic: &str) -> bool {
    let connect = common::connect("d", "");
    let access = common::access(&connect, username, action, topic);
    instance.authorize(&access, clock::now()).allows()
}

fn username(instance: &mut TestInstance, token: &str) -> Result<String, (Reason, String)> {
    match instance.authenticate(&common::connect("d", token), clock::now()) {
        Step::Admit(admission) => {
            let name = admission.username().to_owned();
            drop(instance.common.admit(admission));
            Ok(name)
        }
        Step::Refuse(refusal) => Err((refusal.reason, refusal.to_string())),
        _ => panic!("the keys are here"),
    }
}

#[test]
fn the_token_of_each_provider_gives_a_user_name_and_rights() {
    for provider in providers() {
        let name = provider.name;
        let mut instance = instance(&options(name));
        let found = username(&mut instance, &token(&provider.claims));
        assert_eq!(found.as_deref(), Ok(provider.username), "{name}");
        let mut may = |action, topic| may(&mut instance, provider.username, action, topic);
        // Cognito's groups, and Google's ID tokens, carry no topics.
        let has_rights = !matches!(name, "cognito" | "google");
        assert_eq!(may(Action::Publish, "up/1"), has_rights, "{name}");
        assert_eq!(may(Action::Subscribe, "down/#"), has_rights, "{name}");
        assert!(
            !may(Action::Subscribe, "up/1") && !may(Action::Publish, "other"),
            "{name}"
        );
        assert_eq!(
            may(Action::Publish, "garden"),
            provider.role.is_some(),
            "{name}"
        );
    }
}

#[test]
fn a_token_of_another_application_is_refused() {
    for provider in providers() {
        let mut instance = instance(&options(provider.name));
        let mut claims = provider.claims.clone();
        for name in ["aud", "azp", "client_id"] {
            if claims.get(name).is_some() {
                claims[name] = json!("another");
            }
        }
        let (reason, line) = username(&mut instance, &token(&claims)).unwrap_err();
        let expected = [Reason::TokenAudience, Reason::TokenClaims];
        assert!(expected.contains(&reason), "{}: {line}", provider.name);
    }
}

/// Without the option nothing but `aud` counts, and the line leads to the option.
#[test]
fn a_token_without_aud_is_accepted_by_another_claim_only_where_that_is_configured() {
    let base = |more: &[(&str, &str)]| {
        let options = [("issuer", "https://id.example/"), ("audience", "app")];
        let options = options.iter().chain(more);
        options
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    let claims = json!({"iss": "https://id.example/", "sub": "u", "azp": "app"});
    let mut strict = instance(&base(&[]));
    let (reason, line) = username(&mut strict, &token(&claims)).unwrap_err();
    assert_eq!(reason, Reason::TokenClaims);
    assert!(
        line.contains("audience mapper") && line.contains("audience_claim"),
        "{line}"
    );

    let mut by_azp = instance(&base(&[("audience_claim", "azp")]));
    assert!(username(&mut by_azp, &token(&claims)).is_ok());
    for (azp, aud) in [
        (json!("other"), json!("account")),
        (json!(["app"]), json!(null)),
        (json!(""), json!([])),
    ] {
        let mut claims = claims.clone();
        (claims["azp"], claims["aud"]) = (azp, aud);
        assert!(username(&mut by_azp, &token(&claims)).is_err(), "{claims}");
    }
}

#[test]
fn an_empty_sub_is_a_missing_one() {
    let options = |more: &[(&str, &str)]| {
        let all = [("issuer", "https://id.example/"), ("audience", "app")];
        let all = all.iter().chain(more);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    let claims = json!({"iss": "https://id.example/", "aud": "app", "sub": "", "name": "a"});
    let (reason, _) = username(&mut instance(&options(&[])), &token(&claims)).unwrap_err();
    assert_eq!(reason, Reason::TokenUsername);
    // The user name is then the account, as without `sub`.
    let mut by_name = instance(&options(&[("username_claim", "name")]));
    assert_eq!(username(&mut by_name, &token(&claims)).as_deref(), Ok("a"));
}

/// A claim that the operator has placed elsewhere does not count under its usual name.
#[test]
fn only_the_claim_that_is_named_counts() {
    let mut instance = instance(
        &[
            ("issuer", "https://id.example/"),
            ("audience", "app"),
            ("permissions_claim", "/app/rights"),
            ("rights", "permissions,scope"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let claims = json!({
        "iss": "https://id.example/", "aud": "app", "sub": "u", "permissions": ["publish:a"],
        "app": {"rights": ["publish:b"]}, "scope": "publish:c", "scp": ["publish:d"],
    });
    assert!(username(&mut instance, &token(&claims)).is_ok());
    for (topic, allowed) in [("a", false), ("b", true), ("c", true), ("d", false)] {
        assert_eq!(
            may(&mut instance, "u", Action::Publish, topic),
            allowed,
            "{topic}"
        );
    }
}
