use super::*;
use crate::signing::peek;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};

fn server(authority: &Authority) -> Option<Glewlwyd> {
    Glewlwyd::start_unless_left_out(authority).unwrap_or_else(|why| panic!("{why}"))
}

/// Returns the token's content, if a published key has signed it for this issuer and audience.
fn verified(server: &Glewlwyd, token: &str, audience: &str) -> Result<TokenData<Value>, String> {
    let keys: JwkSet = serde_json::from_value(server.jwks()?).map_err(|why| why.to_string())?;
    let kid = jsonwebtoken::decode_header(token)
        .map_err(|why| why.to_string())?
        .kid
        .ok_or("no kid")?;
    let key = keys
        .find(&kid)
        .ok_or("the key of the token is not published")?;
    let key = DecodingKey::from_jwk(key).map_err(|why| why.to_string())?;
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_issuer(&[server.issuer()]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    jsonwebtoken::decode(token, &key, &rules).map_err(|why| why.to_string())
}

#[test]
fn discovery_and_tokens_have_the_documented_form() {
    let Some(server) = server(&Authority::new("glewlwyd")) else {
        return;
    };
    let document = server.discovery().unwrap();
    assert_eq!(document["issuer"], server.issuer());
    let methods = document["token_endpoint_auth_methods_supported"]
        .as_array()
        .unwrap();
    assert!(
        methods.contains(&"client_secret_post".into()),
        "{methods:?}"
    );

    let tokens = server
        .token_for(server.username(), server.password())
        .unwrap();

    let id = verified(&server, &tokens.id_token, server.client_id()).unwrap();
    assert_eq!(id.header.typ.as_deref(), Some("JWT"));
    assert_eq!(id.claims["aud"], server.client_id());
    assert_eq!(
        id.claims["topics"],
        serde_json::json!(["temperature", "config"])
    );
    assert_eq!(id.claims[server.username_claim()], server.username());

    let access = verified(&server, &tokens.access_token, "openid").unwrap();
    assert_eq!(access.header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(access.claims["aud"], "openid");
    assert_eq!(access.claims["client_id"], server.client_id());
    assert_eq!(access.claims["topics"], "temperature,config");
    assert_eq!(access.claims[server.username_claim()], server.username());

    for token in [&id.claims, &access.claims] {
        let seconds = |name: &str| {
            token[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {}", token[name]))
        };
        assert_eq!(
            seconds("exp") - seconds("iat"),
            ours::TOKEN_LIFETIME.as_secs()
        );
    }
}

#[test]
fn refusals_have_a_status_and_no_body() {
    let Some(server) = server(&Authority::new("glewlwyd")) else {
        return;
    };
    let refusal = |secret: &str, username: &str, password: &str, scope: &str| {
        let answer = server.ask(&[
            ("grant_type", "password"),
            ("client_id", server.client_id()),
            ("client_secret", secret),
            ("username", username),
            ("password", password),
            ("scope", scope),
        ]);
        let ServerResponse {
            status,
            content_type,
            body,
        } = answer.unwrap();
        assert_eq!((content_type, body.as_str()), (None, ""), "{status}");
        status
    };
    let (secret, username, password) =
        (server.client_secret(), server.username(), server.password());
    assert_eq!(refusal(secret, username, "wrong", "openid"), 403);
    assert_eq!(refusal(secret, "nobody", password, "openid"), 403);
    assert_eq!(refusal(secret, username, password, "g_admin"), 403);
    assert_eq!(refusal("wrong", username, password, "openid"), 400);
    assert_eq!(refusal(secret, username, "", "openid"), 400);
    assert_eq!(refusal(secret, username, password, ""), 400);
}

#[test]
fn users_keys_and_lifetimes_change_while_it_runs() {
    let Some(server) = server(&Authority::new("glewlwyd")) else {
        return;
    };
    server
        .add_user("thermostat-2b", "another", &["humidity"])
        .unwrap();
    let before = server.token_for("thermostat-2b", "another").unwrap();
    let id = verified(&server, &before.id_token, server.client_id()).unwrap();
    assert_eq!(id.claims["topics"], serde_json::json!(["humidity"]));

    server.set_token_lifetime(Duration::from_secs(7)).unwrap();
    let short = server.token_for("thermostat-2b", "another").unwrap();
    for token in [&short.id_token, &short.access_token] {
        let (_, claims) = peek(token).unwrap();
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            7
        );
    }
    verified(&server, &before.id_token, server.client_id()).unwrap();

    server.rotate_keys().unwrap();
    let refused = verified(&server, &before.id_token, server.client_id()).unwrap_err();
    assert_eq!(refused, "the key of the token is not published");
    let after = server.token_for("thermostat-2b", "another").unwrap();
    verified(&server, &after.id_token, server.client_id()).unwrap();
}

#[test]
fn dropping_the_server_removes_process_and_directory() {
    let Some(server) = server(&Authority::new("glewlwyd")) else {
        return;
    };
    let (dir, pid) = (
        server.process.dir.path().to_owned(),
        server.process.child.id(),
    );
    assert!(dir.is_dir() && Path::new(&format!("/proc/{pid}")).exists());
    drop(server);
    assert!(!dir.exists() && !Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn another_server_on_the_same_port_is_not_mistaken_for_this_one() {
    let authority = Authority::new("glewlwyd");
    let Some(first) = server(&authority) else {
        return;
    };
    assert!(Administrator::log_in(&first.agent, &first.origin, &first.cookie).is_ok());
    assert!(Administrator::log_in(&first.agent, &first.origin, "lab-glewlwyd-of-another").is_err());
    let port = first.origin.rsplit(':').next().unwrap().parse().unwrap();
    match Glewlwyd::start_on(port, &authority) {
        Err(NotStarted::Ended(why)) => assert!(why.contains("it ended with"), "{why}"),
        Err(NotStarted::Failed(why)) => panic!("{why}"),
        Ok(_) => panic!("two servers on one port"),
    }
}
