//! Token mode: the JWT is in the password field.

use serde_json::json;
use testbed::{
    clients::{MosquittoClient, Protocol, raw::ConnectPacket},
    elliptic::{Curve, EllipticKey},
    signing::{Alg, peek},
    tenant::{API_SECRET, AUDIENCE, DEVICE, Signing, TokenProfile},
};

use crate::{helpers::*, on_each_broker};

on_each_broker! {
    /// The article's story: sign in, publish `temperature`, read `config`.
    fn a_device_signs_in_and_uses_its_topics(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        for protocol in [Protocol::V311, Protocol::V5] {
            let thermostat = with_token(&broker, &tenant, DEVICE).protocol(protocol);
            let watcher = with_token(&broker, &tenant, WATCHER).protocol(protocol);
            let mut seen = watcher.subscribe(&["temperature"]).subscribed();
            let mut config = thermostat.subscribe(&["config"]).subscribed();
            thermostat.publish("temperature", "20.5").expect_success();
            watcher.publish("config", "21").expect_success();
            assert_eq!(seen.expect_message().text(), "20.5");
            assert_eq!(config.expect_message().text(), "21");
        }
    }

    /// The user name is `JWT` by convention, or any text, or absent; it is always replaced.
    fn the_user_name_is_replaced_by_the_claim(version) {
        let tenant = tenant();
        let sub = tenant.device(DEVICE).unwrap().user_id;
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let token = tenant.token(DEVICE);
        for (client_id, name) in [("c-jwt", "JWT"), ("c-admin", "admin"), ("c-empty", "")] {
            MosquittoClient::of(&broker).id(client_id).username(name).password(&token).publish("temperature", "1").expect_success();
            let line = broker.wait_for_log(&format!("as {client_id} ("), PATIENCE).unwrap();
            assert!(line.contains(&format!("u'{sub}'")), "{line}");
        }
        // In MQTT 5 a client may send a password without a user name.
        let mut connect = ConnectPacket::new(Protocol::V5, "c-none");
        connect.password = Some(token.into_bytes());
        assert_eq!(answer(&broker, &connect), None);
        assert!(broker.wait_for_log("as c-none (", PATIENCE).unwrap().contains(&format!("u'{sub}'")));
    }

    fn the_user_name_is_replaced_by_another_claim_if_configured(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("username_claim", "https://mqtt.example/name"));
        let token = tenant.mint(DEVICE).claim("https://mqtt.example/name", "greenhouse 1").sign();
        assert_eq!(answer(&broker, &token_connect(Protocol::V311, "named", &token)), None);
        assert!(broker.wait_for_log("as named (", PATIENCE).unwrap().contains("u'greenhouse 1'"));
        let connect = token_connect(Protocol::V5, "nameless", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x87));
        expect_refusal(&broker, "'nameless'", "token-username");
    }

    /// Every refusal has its log line, and its reason code where the broker can send it.
    fn an_invalid_token_is_refused_with_its_reason(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let good = tenant.mint(DEVICE);
        let other = std::sync::Arc::new(testbed::signing::SigningKey::generate("other"));
        let cases = [
            ("token-expired", 0x86, good.clone().lifetime(-60).sign()),
            ("token-audience", 0x87, good.clone().claim("aud", "https://other.example/").sign()),
            ("token-issuer", 0x87, good.clone().claim("iss", tenant.issuer().trim_end_matches('/')).sign()),
            ("token-signature", 0x86, good.clone().forged_by(&other).sign()),
            ("token-algorithm", 0x86, good.clone().alg(Alg::Ps256).sign()),
            ("token-bound", 0x87, good.clone().claim("cnf", json!({"jkt": "x"})).sign()),
            ("token-topics", 0x87, good.clone().claim("topics", json!(["temperature", "a/#/b"])).sign()),
            ("token-encrypted", 0x86, "eyJhbGciOiJkaXIifQ.a.b.c.d".into()),
            ("token-malformed", 0x86, "eyJhbGciOiJSUzI1NiJ9.nonsense".into()),
            ("token-claims", 0x86, good.clone().without("exp").sign()),
            // This machine's clock is behind, so the device should keep its token.
            ("token-not-yet", 0x88, good.clone().claim("iat", testbed::signing::now() + 60).sign()),
        ];
        for (reason, code, token) in cases {
            for protocol in [Protocol::V311, Protocol::V5] {
                let connect = token_connect(protocol, &format!("c-{reason}"), &token);
                assert_eq!(answer(&broker, &connect), expected_refusal(version, protocol, code), "{reason}");
            }
            let line = expect_refusal(&broker, &format!("'c-{reason}'"), reason);
            assert!(line.contains("from 127.0.0.1"), "{line}");
        }
        assert!(broker.expect_log("[token-audience]").contains("or correct the option audience"));
        // Client IDs appear in the broker's log and on its disk, so not even a valid token is accepted as
        // one.
        let token = good.clone().sign();
        let connect = token_connect(Protocol::V5, &token, &token);
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x86));
        broker.expect_log("its client ID is a token");
        // The invalid entry is named.
        assert!(broker.expect_log("[token-topics]").contains("'a/#/b'"));
        assert_eq!(answer(&broker, &token_connect(Protocol::V311, "good", &good.sign())), None);
    }

    fn missing_and_unusual_passwords_are_refused(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let v5 = |id: &str| ConnectPacket::new(Protocol::V5, id);
        let long = "x".repeat(65_535);
        for (reason, code, connect) in [
            ("no-password", 0x86, v5("anonymous")),
            ("token-malformed", 0x86, v5("not-a-token").login("JWT", "hello")),
            ("credentials-off", 0x87, v5("password").login(DEVICE, "password")),
            ("not-utf8", 0x86, v5("bytes").login("JWT", b"\xff\xfe")),
            ("token-malformed", 0x86, v5("long").login("JWT", &long)),
        ] {
            let id = connect.client_id.clone();
            let mark = broker.log_mark();
            assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, code), "{id}");
            assert!(broker.wait_for_log_after(mark, &format!("'{id}'"), PATIENCE).unwrap().contains(&format!("[{reason}]")));
        }
        // A NUL ends the password in every broker up to 2.1.2, so only the part before it is checked.
        let cut = [tenant.token(DEVICE).as_bytes(), b"\0junk"].concat();
        assert_eq!(answer(&broker, &v5("cut").login("JWT", cut)), None);
        let empty = v5("empty").login("JWT", b"\0junk");
        assert_eq!(answer(&broker, &empty), expected_refusal(version, Protocol::V5, 0x86));
    }

    /// PS256 and the token type of RFC 9068.
    fn ps256_is_accepted_if_configured(version) {
        let tenant = tenant();
        tenant.configure(|s| {
            s.access_token_signing = Signing::Ps256;
            s.profile = TokenProfile::Rfc9068;
            s.alg_in_jwks = false;
        });
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("algorithms", "PS256"));
        with_token(&broker, &tenant, DEVICE).publish("temperature", "1").expect_success();
        let rs256 = tenant.mint(DEVICE).alg(Alg::Rs256).sign();
        let connect = token_connect(Protocol::V5, "rs", &rs256);
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x86));
        expect_refusal(&broker, "'rs'", "token-algorithm");
    }

    /// A key that states RS256 verifies nothing else, and the log line says what to turn off.
    fn a_key_is_for_its_own_algorithm(version) {
        let tenant = tenant();
        tenant.configure(|s| s.access_token_signing = Signing::Ps256);
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("algorithms", "RS256,PS256"));
        let connect = token_connect(Protocol::V311, "ps", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V311, 0x86));
        assert!(expect_refusal(&broker, "'ps'", "token-key-unfit").contains("Include Signing Algorithms"));
    }

    /// Providers other than Auth0 sign with keys on elliptic curves. A key set may have two keys under one name, one
    /// without a name, and entries that nobody can use.
    fn keys_on_elliptic_curves_are_accepted_where_they_are_listed(version) {
        let tenant = tenant();
        let claims = peek(&tenant.token(DEVICE)).unwrap().1;
        let keys = [Curve::P256, Curve::P384, Curve::Ed25519].map(|curve| (curve, EllipticKey::generate("same", curve)));
        let mut jwks: Vec<_> = keys.iter().map(|(_, key)| key.jwk()).collect();
        jwks[2]["kid"] = json!(null);
        jwks.extend([json!({"kty": "oct"}), json!(7), jwks[0].clone()]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, json!({ "keys": jwks }).to_string()).unwrap();
        let options = PluginOptions::tokens(&tenant).with("jwks_file", file.to_str().unwrap());
        let accepting = broker(version, &options.clone().with("algorithms", "ES256,ES384,EdDSA"));
        let refusing = broker(version, &options);
        for (curve, key) in keys {
            let header = match curve {
                Curve::Ed25519 => json!({"alg": "EdDSA"}),
                _ => json!({"alg": curve.algorithm(), "kid": "same"}),
            };
            let token = key.sign(header, &claims);
            let device = MosquittoClient::of(&accepting).username("JWT").password(&token);
            device.publish("temperature", "1").expect_success();
            let name = format!("c-{}", curve.algorithm());
            let connect = token_connect(Protocol::V311, &name, &token);
            assert_eq!(answer(&refusing, &connect), expected_refusal(version, Protocol::V311, 0x86));
            let line = refusing.wait_for_log(&format!("of '{name}'"), PATIENCE).unwrap();
            assert!(line.contains("or list this one if you trust it"), "{line}");
        }
        let unknown = tenant.mint(DEVICE).header("alg", "ES512").sign();
        let _ = answer(&refusing, &token_connect(Protocol::V311, "c-unknown", &unknown));
        let line = refusing.wait_for_log("of 'c-unknown'", PATIENCE).unwrap();
        assert!(line.contains("this one is not supported"), "{line}");
    }

    fn hs256_is_accepted_with_a_secret_from_a_file(version) {
        let tenant = tenant();
        tenant.configure(|s| s.access_token_signing = Signing::Hs256);
        let folder = tempfile::tempdir().unwrap();
        let options = PluginOptions::tokens(&tenant).with("algorithms", "HS256");
        let secret = secret_file(folder.path(), "hs256", format!("{API_SECRET}\n").as_bytes());
        let broker = broker(version, &options.with("hs256_secret_file", &secret));
        with_token(&broker, &tenant, DEVICE).publish("temperature", "1").expect_success();
        let forged = tenant.mint(DEVICE).secret(b"another secret, as long as it must be").sign();
        let connect = token_connect(Protocol::V311, "forged", &forged);
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V311, 0x86));
        expect_refusal(&broker, "'forged'", "token-signature");
    }

    /// Old tenants have secrets in base64, whose decoded bytes are the key.
    fn hs256_is_accepted_with_a_base64_secret(version) {
        use base64::{Engine, engine::general_purpose::URL_SAFE};
        let tenant = tenant();
        tenant.configure(|s| s.access_token_signing = Signing::Hs256);
        let bytes = b"\xfa\xfb\xfc\xfd 32 bytes and some that are not text";
        let folder = tempfile::tempdir().unwrap();
        let secret = secret_file(folder.path(), "hs256", URL_SAFE.encode(bytes).as_bytes());
        let options = PluginOptions::tokens(&tenant)
            .with("algorithms", "HS256")
            .with("hs256_secret_file", &secret)
            .with("hs256_secret_encoding", "base64");
        let broker = broker(version, &options);
        let token = tenant.mint(DEVICE).secret(bytes).sign();
        MosquittoClient::of(&broker).username("JWT").password(&token).publish("temperature", "1").expect_success();
    }

    /// Names of claims contain dots and slashes and are not paths.
    fn the_topics_claim_is_a_literal_name(version) {
        let tenant = tenant();
        tenant.configure(|s| s.topics_claim = "https://mqtt.example/topics".into());
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("topics_claim", "https://mqtt.example/topics"));
        with_token(&broker, &tenant, DEVICE).publish("temperature", "1").expect_success();
        let token = tenant.mint(DEVICE).without("https://mqtt.example/topics").sign();
        let connect = token_connect(Protocol::V5, "bare", &token);
        let mut client = testbed::clients::raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(broker.wait_for_log("'bare' signed in and has no rights", PATIENCE).is_some());
        assert_eq!(client.publish("temperature", "1", 1), Ok(0x87));
    }

    /// Two accepted audiences, and explicit issuers, as with a custom domain.
    fn each_configured_audience_and_issuer_is_accepted(version) {
        let tenant = tenant();
        let issuers = format!("https://login.example/,{}", tenant.issuer());
        let options = PluginOptions::tokens(&tenant).with("audience", &format!("https://old.example/, {AUDIENCE}")).with("issuer", &issuers);
        let broker = broker(version, &options);
        let mint = tenant.mint(DEVICE);
        for token in [mint.clone().sign(), mint.clone().claim("iss", "https://login.example/").sign(), mint.clone().claim("aud", "https://old.example/").sign()] {
            assert_eq!(answer(&broker, &token_connect(Protocol::V311, "c", &token)), None);
        }
    }
}
