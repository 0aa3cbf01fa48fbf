//! Credentials mode: user name and password go to the tenant.

use std::time::Duration;

use serde_json::json;
use testbed::{
    clients::{Protocol, raw::ConnectPacket},
    tenant::{
        AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Device, DeviceState,
        Endpoint, PASSWORD,
    },
};

use crate::{helpers::*, on_each_broker};

fn login(protocol: Protocol, client_id: &str) -> ConnectPacket {
    ConnectPacket::new(protocol, client_id).login(DEVICE, PASSWORD)
}

on_each_broker! {
    fn a_device_signs_in_with_its_password(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let thermostat = testbed::clients::MosquittoClient::of(&broker).id("t1").username(DEVICE).password(PASSWORD);
        let mut seen = with_token(&broker, &tenant, WATCHER).subscribe(&["temperature"]).subscribed();
        thermostat.publish("temperature", "20.5").expect_success();
        assert_eq!(seen.expect_message().text(), "20.5");
        // The tenant has checked this user name, so the client keeps it.
        assert!(broker.wait_for_log("as t1 (", PATIENCE).unwrap().contains(&format!("u'{DEVICE}'")));

        let requests = tenant.requests_to(Endpoint::Token);
        assert_eq!(requests.len(), 1);
        let request = &requests[0];
        assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
        for (name, value) in [
            ("grant_type", "http://auth0.com/oauth/grant-type/password-realm"),
            ("realm", CONNECTION),
            ("username", DEVICE),
            ("password", PASSWORD),
            ("audience", AUDIENCE),
            ("scope", "openid"),
            ("client_id", CLIENT_ID),
            ("client_secret", CLIENT_SECRET),
        ] {
            assert_eq!(request.field(name), Some(value), "{name}");
        }
        // The broker saw 127.0.0.1, which is not a client address for Auth0.
        assert_eq!(request.header("auth0-forwarded-for"), None);
    }

    fn without_a_connection_the_default_directory_is_asked(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant).without("connection"));
        assert_eq!(answer(&broker, &login(Protocol::V311, "c")), None);
        let requests = tenant.requests_to(Endpoint::Token);
        assert_eq!((requests[0].field("grant_type"), requests[0].field("realm")), (Some("password"), None));
    }

    fn the_secret_may_come_from_a_file(version) {
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let file = secret_file(folder.path(), "secret", format!("{CLIENT_SECRET}\n").as_bytes());
        let options = PluginOptions::both(&tenant).without("client_secret").with("client_secret_file", &file);
        let broker = broker(version, &options);
        assert_eq!(answer(&broker, &login(Protocol::V311, "c")), None);
    }

    fn a_token_is_never_sent_as_a_password(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let expired = tenant.mint(DEVICE).lifetime(-60).sign();
        assert!(answer(&broker, &ConnectPacket::new(Protocol::V5, "c").login(DEVICE, &expired)).is_some());
        expect_refusal(&broker, "'c'", "token-expired");
        assert_eq!(tenant.count(Endpoint::Token), 0);
    }

    /// A token is not sent either if it is wrapped, cut off or in the wrong field. It does not count as a
    /// wrong password (the tenant would hear of nine) or as a login.
    fn a_wrapped_or_misplaced_token_is_never_sent_as_a_password(version) {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let token = tenant.token(DEVICE);
        let (header, rest) = token.split_once('.').unwrap();
        let json = format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#);
        let (as_password, misplaced) = (|text: &str| (DEVICE.to_owned(), text.to_owned()), "token-misplaced");
        for (n, ((name, password), reason, part)) in [
            (as_password(&format!("Bearer {token}")), "token-wrapped", "`Bearer` in front of it"),
            (("JWT".into(), format!("Bearer {token}")), "token-wrapped", "`Bearer` in front of it"),
            (as_password("Bearer PPlGNh1wLQbJznsdLCx5XFb04ZPKzPxL"), "token-wrapped", "`Bearer` in front of it"),
            (as_password(r#"{"Authorization": "Bearer PPlGNh1wLQbJznsdLCx5XFb04ZPKzPxL"}"#), "token-wrapped", "`Authorization:` in front of it"),
            (as_password(r#"{"accessToken":"PPlGNh1wLQbJznsdLCx5XFb04ZPKzPxL"}"#), "token-wrapped", "JSON in front of it"),
            (as_password(&format!("\"{token}\"")), "token-wrapped", "quotes around it"),
            (as_password(&format!("{token}\n")), "token-wrapped", "white space or an invisible character behind it"),
            (as_password(&json), "token-wrapped", "JSON around it"),
            (as_password(&format!("access_token={token}")), "token-wrapped", "a form's fields in front of it"),
            (as_password(&STANDARD.encode(&token)), "token-wrapped", "encoded once more"),
            (as_password(header), "token-malformed", "cut off in its header"),
            (as_password(rest), "token-malformed", "without its beginning"),
            (as_password(&token[..255]), "token-malformed", "cut off after 255 bytes"),
            (as_password(&token[..token.len() - 50]), "token-signature", "cut off after"),
            ((token.clone(), "x".into()), misplaced, "its user name is a token"),
            ((token.clone(), "".into()), misplaced, "its user name is a token"),
            ((format!("Bearer {token}"), PASSWORD.into()), misplaced, "its user name is a token with `Bearer` in front of it"),
            ((token[..200].into(), PASSWORD.into()), misplaced, "its user name is a token"),
        ].into_iter().enumerate() {
            for protocol in [Protocol::V311, Protocol::V5] {
                let connect = ConnectPacket::new(protocol, &format!("form-{n}")).login(&name, &password);
                assert_eq!(answer(&broker, &connect), expected_refusal(version, protocol, 0x86), "{reason}: {part}");
            }
            let line = broker.expect_log(&format!("'form-{n}'"));
            assert!(line.contains(&format!("[{reason}] ")) && line.contains(part), "{line}");
        }
        let secret = &rest[rest.len() - 100..];
        assert!(!broker.log().contains(secret), "no token in the log");

        // The broker itself logs client IDs.
        for protocol in [Protocol::V311, Protocol::V5] {
            let connect = ConnectPacket::new(protocol, &token).login(DEVICE, PASSWORD);
            assert_eq!(answer(&broker, &connect), expected_refusal(version, protocol, 0x86));
        }
        let line = broker.expect_log("its client ID is a token");
        assert!(line.contains(&format!("[{misplaced}]")) && !line.contains(secret), "{line}");

        assert_eq!(tenant.count(Endpoint::Token), 0);
        assert_eq!(answer(&broker, &login(Protocol::V5, "at-once")), None, "{}", broker.log());
        assert_eq!(tenant.count(Endpoint::Token), 1);
    }

    /// Each error of the tenant is told apart by code and status, and has its own log line and CONNACK.
    fn each_tenant_error_has_its_own_reason(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        // One device for each protocol: after a refusal the tenant is asked about a device again only after a
        // while.
        let check = |reason: &str, code: u8, state: DeviceState, password: &str| {
            for protocol in [Protocol::V311, Protocol::V5] {
                let name = format!("{reason} {protocol:?}");
                tenant.add_device(Device::new(&name, "pass").state(state.clone()));
                let connect = ConnectPacket::new(protocol, &format!("c-{reason}")).login(&name, password);
                assert_eq!(answer(&broker, &connect), expected_refusal(version, protocol, code), "{reason}");
            }
            expect_refusal(&broker, &format!("'c-{reason}'"), reason)
        };
        check("login-refused", 0x86, DeviceState::Normal, "wrong");
        for (reason, code, state) in [
            ("login-blocked", 0x8a, DeviceState::Blocked),
            ("login-locked", 0x8a, DeviceState::Locked),
            ("login-mfa", 0x87, DeviceState::MfaRequired),
            ("login-leaked", 0x87, DeviceState::PasswordLeaked),
            ("login-verification", 0x87, DeviceState::RequiresVerification),
            ("login-denied", 0x87, DeviceState::Denied("device disabled".into())),
        ] {
            let line = check(reason, code, state, "pass");
            if reason == "login-denied" {
                assert!(line.contains("'device disabled'"), "{line}");
            }
        }
        assert!(!broker.log().contains("wrong'"), "no password in the log");
    }

    /// For a configuration error of the plugin's, the device is told to come back and the operator is told
    /// what to fix.
    fn plugin_configuration_errors_are_not_blamed_on_the_device(version) {
        let tenant = tenant();
        for (options, settings, reason, part) in [
            (PluginOptions::both(&tenant).with("client_secret", "a-wrong-secret"), None, "login-configuration", "401"),
            (PluginOptions::both(&tenant).with("audience", "https://nobody.example/"), None, "login-configuration", "invalid_request"),
            (PluginOptions::both(&tenant).with("connection", "Nowhere"), None, "login-configuration", ""),
            (PluginOptions::both(&tenant).without("connection"), Some(()), "tenant-error", "default connection"),
        ] {
            tenant.configure(|s| s.default_directory = if settings.is_some() { None } else { Some(CONNECTION.into()) });
            let broker = broker(version, &options);
            assert_eq!(answer(&broker, &login(Protocol::V5, "c")), expected_refusal(version, Protocol::V5, 0x88), "{reason}");
            let line = expect_refusal(&broker, "'c'", reason);
            assert!(line.contains(part), "{line}");
        }
    }

    /// With a slow, unreachable or faulty tenant, the log explains the fault, the device keeps its password
    /// and the broker keeps running.
    fn tenant_faults_are_temporary_refusals(version) {
        let tenant = tenant();
        let elsewhere = testbed::tenant::Tenant::start();
        let trouble = [
            ("tenant-unreachable", 0x88, Behaviour::Hang),
            ("tenant-unreachable", 0x88, Behaviour::SlowBody(Duration::from_millis(50))),
            ("tenant-unreachable", 0x88, Behaviour::ResetConnection),
            ("tenant-unreachable", 0x88, Behaviour::Close),
            ("tenant-unreachable", 0x88, Behaviour::TruncatedBody),
            ("tenant-unreachable", 0x88, Behaviour::HugeBody),
            ("tenant-unreachable", 0x88, Behaviour::Garbage(b"220 smtp.example ESMTP\r\n".to_vec())),
            ("tenant-answer", 0x88, Behaviour::Html(502)),
            ("tenant-answer", 0x88, Behaviour::Redirect(elsewhere.url("/oauth/token"))),
            ("tenant-answer", 0x88, Behaviour::WrongContentType("text/html".into())),
            ("tenant-answer", 0x88, Behaviour::json(200, "{}")),
            ("tenant-answer", 0x88, Behaviour::json(200, "[")),
            ("tenant-error", 0x88, Behaviour::refusal(503, "temporarily_unavailable", "later")),
            ("login-throttled", 0x89, Behaviour::RateLimited { retry_after: Some(7) }),
        ];
        for (reason, code, behaviour) in trouble {
            // One broker for each case: log lines about all clients come once a minute.
            let broker = broker(version, &PluginOptions::both(&tenant).with("timeout", "1"));
            let what = format!("{behaviour:?}");
            tenant.on(Endpoint::Token, behaviour);
            assert_eq!(answer(&broker, &login(Protocol::V5, "c")), expected_refusal(version, Protocol::V5, code), "{what}");
            let line = expect_refusal(&broker, "'c'", reason);
            assert!(!line.contains(PASSWORD) && !line.contains(CLIENT_SECRET), "{line}");
            tenant.behave();
            assert!(retry_until_admitted(&broker, &login(Protocol::V5, "c")), "{what}: and then it is over");
        }
        assert_eq!(elsewhere.count(Endpoint::Token), 0, "redirects are not followed");
    }

    fn a_tenant_with_another_certificate_gets_no_password(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        assert_eq!(answer(&broker, &login(Protocol::V5, "first")), None);
        tenant.forget_requests();
        let names = ["localhost", "127.0.0.1"];
        for leaf in [
            testbed::pki::Authority::new("somebody else").issue(&names),
            tenant.authority().issue_expired(&names),
            tenant.authority().issue(&["elsewhere.example"]),
        ] {
            tenant.use_certificate(&leaf);
            assert_eq!(answer(&broker, &login(Protocol::V5, "second")), expected_refusal(version, Protocol::V5, 0x88));
        }
        assert!(expect_refusal(&broker, "'second'", "tenant-unreachable").contains("could not be trusted"));
        assert_eq!(tenant.count(Endpoint::Token), 0);
    }

    /// The TLS library's name for what is wrong would lead nobody to the fix.
    fn a_tenant_with_the_certificate_of_an_authority_is_refused_with_the_fix(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        tenant.use_certificate(&testbed::pki::Leaf::self_signed(&["localhost", "127.0.0.1"], true));
        assert_eq!(answer(&broker, &login(Protocol::V5, "first")), expected_refusal(version, Protocol::V5, 0x88));
        assert!(expect_refusal(&broker, "'first'", "tenant-unreachable").contains("basicConstraints=CA:FALSE"));
    }

    /// If the access token is not a JWT for the API, the ID token is used.
    fn the_id_token_is_used_if_the_access_token_is_no_jwt(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let id_token = tenant.id_token(DEVICE);
        let other_api = tenant.mint(DEVICE).claim("aud", "https://other.example/").sign();
        for access_token in ["PPlGNh1wLQbJznsdLCx5XFb04ZPKzPxL", other_api.as_str()] {
            tenant.once(Endpoint::Token, Behaviour::json(200, json!({"access_token": access_token, "id_token": id_token, "token_type": "Bearer"})));
            let connect = login(Protocol::V5, "c");
            let mut client = testbed::clients::raw::RawClient::connect(broker.port(), &connect).unwrap();
            assert_eq!(client.publish("temperature", "1", 1).map(|code| code < 0x80), Ok(true));
        }
        tenant.once(Endpoint::Token, Behaviour::json(200, json!({"access_token": "opaque", "token_type": "Bearer"})));
        assert_eq!(answer(&broker, &login(Protocol::V5, "opaque")), expected_refusal(version, Protocol::V5, 0x88));
        assert!(expect_refusal(&broker, "'opaque'", "login-token").contains("opaque"));
    }

    /// The ID token's audience must be the application, and an invalid access token is not skipped.
    fn tokens_from_the_tenant_are_verified(version) {
        let tenant = tenant();
        let other = std::sync::Arc::new(testbed::signing::SigningKey::generate("other"));
        let later = testbed::signing::now() + 600;
        let without_slash = tenant.issuer().trim_end_matches('/').to_owned();
        for (access, id, part, fix) in [
            (tenant.mint(DEVICE).forged_by(&other).sign(), tenant.id_token(DEVICE), "signature", "check domain and hs256_secret_file"),
            (tenant.mint(DEVICE).lifetime(-60).sign(), tenant.id_token(DEVICE), "expired", "; fix: check the clock of this machine"),
            (tenant.mint(DEVICE).claim("iat", later).sign(), tenant.id_token(DEVICE), "(iat)", "; fix: check the clock of this machine"),
            (tenant.mint(DEVICE).claim("iss", without_slash).sign(), tenant.id_token(DEVICE), "its issuer is", "; fix: correct the option issuer"),
            ("opaque".into(), tenant.mint_id_token(DEVICE).claim("aud", "another-application").sign(), "another-application", "set audience to an API"),
        ] {
            let broker = broker(version, &PluginOptions::both(&tenant));
            tenant.once(Endpoint::Token, Behaviour::json(200, json!({"access_token": access, "id_token": id})));
            assert_eq!(answer(&broker, &login(Protocol::V5, "c")), expected_refusal(version, Protocol::V5, 0x88));
            let line = expect_refusal(&broker, "'c'", "login-token");
            assert!(line.contains(part) && line.contains(fix), "{line}");
        }
    }

    fn unusable_credentials_cause_no_tenant_request(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let long = "x".repeat(2000);
        for (id, name, password, reason) in [
            ("no-password", DEVICE, "", "no-password"),
            ("no-name", "", "secret", "no-username"),
            ("long-name", long.as_str(), "secret", "too-long"),
            ("long-password", DEVICE, long.as_str(), "too-long"),
        ] {
            let connect = ConnectPacket::new(Protocol::V5, id).login(name, password);
            assert!(answer(&broker, &connect).is_some());
            assert!(broker.wait_for_log(&format!("'{id}'"), PATIENCE).unwrap().contains(&format!("[{reason}]")));
        }
        assert_eq!(tenant.count(Endpoint::Token), 0);
    }
}
