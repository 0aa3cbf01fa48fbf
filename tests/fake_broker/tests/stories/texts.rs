//! Texts that are not UTF-8, too long, or misleading.

use fake_broker::{
    ACL_DENIED, AUTH, AclAccess, BAD_USERNAME_OR_PASSWORD as BAD, ClientSpec, MALFORMED_UTF8,
    SERVER_UNAVAILABLE, SUCCESS, alone,
};
use serde_json::json;
use testbed::tenant::{DEVICE, Endpoint, PASSWORD};

use super::{ALSO_GRANTED, GRANTED, Scene, credentials};
use crate::RELEASE;

#[test]
fn names_and_passwords_that_are_not_utf_8_are_refused() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        for bad in [
            &b"\xff"[..],
            b"caf\xe9",
            b"\xed\xa0\x80",
            b"\xc0\xaf",
            b"a\x80",
        ] {
            let spec = ClientSpec::new("a").username(bad).password("p");
            scene.refused(&spec, BAD, "[not-utf8]");
            let spec = ClientSpec::new("a").username(DEVICE).password(bad);
            scene.refused(&spec, BAD, "[not-utf8]");
            let token = [scene.tenant.token(DEVICE).as_bytes(), b" ", bad].concat();
            scene.refused(&ClientSpec::new("a").token(token), BAD, "[token-wrapped]");
            // A broker that accepts such an ID is broken, and the device is not to blame.
            let token = scene.tenant.token(DEVICE);
            let (_, code) = scene.broker.connect_new(&ClientSpec::new(bad).token(token));
            assert_eq!(code, RELEASE.refusal(SERVER_UNAVAILABLE));
        }
        scene.broker.cleanup();
        assert_eq!(scene.broker.lines_with("refused 4 more [internal]"), 1);
        assert_eq!(scene.tenant.count(Endpoint::Token), 0);
    });
}

#[test]
fn topics_that_are_not_utf_8_are_denied() {
    alone(|| {
        let mut scene = Scene::quiet();
        let token = scene
            .tenant
            .mint(DEVICE)
            .claim("topics", json!(["#"]))
            .sign();
        let client = scene.connected(&ClientSpec::new("a").token(token));
        for access in AclAccess::ALL {
            for bad in [&b"\xff"[..], b"a/\xe9", b"\xed\xa0\x80"] {
                assert_eq!(
                    scene.broker.acl(client, access, bad),
                    ACL_DENIED,
                    "{access:?}"
                );
            }
            assert_eq!(
                scene.broker.acl(client, access, "a/b"),
                SUCCESS,
                "{access:?}"
            );
        }
    });
}

#[test]
fn a_password_of_64_kilobytes_is_refused() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let long = "p".repeat(65_535);
        let spec = ClientSpec::new("a")
            .username(DEVICE)
            .password(long.as_str());
        scene.refused(&spec, BAD, "[too-long]");
        let spec = ClientSpec::new("a")
            .username(long.as_str())
            .password(PASSWORD);
        scene.refused(&spec, BAD, "[too-long]");
        scene.refused(
            &ClientSpec::new("a").token(long.as_str()),
            BAD,
            "[token-malformed]",
        );
        let spec = ClientSpec::new("a").token(format!("eyJ{}", ".".repeat(65_532)));
        scene.refused(&spec, BAD, "[token-malformed]");
        let header = format!("{}..", "eyJh".repeat(16_383));
        scene.refused(
            &ClientSpec::new("a").token(header),
            BAD,
            "[token-malformed]",
        );
        assert_eq!(scene.tenant.count(Endpoint::Token), 0);
    });
}

#[test]
fn a_valid_token_of_60_kilobytes_is_accepted() {
    alone(|| {
        let mut scene = Scene::quiet();
        let topics: Vec<String> = (0..4_000).map(|i| format!("site/{i}")).collect();
        let token = scene
            .tenant
            .mint(DEVICE)
            .claim("topics", json!(topics))
            .sign();
        assert!((50_000..65_536).contains(&token.len()), "{}", token.len());
        let client = scene.connected(&ClientSpec::new("a").token(token));
        assert!(scene.broker.allows(client, AclAccess::Write, "site/3999"));
        assert!(!scene.broker.allows(client, AclAccess::Write, "site/4000"));
    });
}

#[test]
fn a_password_with_a_nul_is_refused_where_the_broker_tells_its_length() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let spec = |password: &str| {
            ClientSpec::new("a")
                .username(DEVICE)
                .password_with_length(password)
        };
        scene.refused(&spec(&format!("{PASSWORD}\0")), BAD, "[password-nul]");
        scene.refused(&spec(&format!("{PASSWORD}\0x")), BAD, "[password-nul]");
        scene.refused(&spec("\0"), BAD, "[password-nul]");
        assert_eq!(
            scene.tenant.count(Endpoint::Token),
            0,
            "only the start would have been sent"
        );
        scene.connected(&spec(PASSWORD));
        let token = scene.tenant.token(DEVICE);
        scene.connected(
            &ClientSpec::new("b")
                .username("JWT")
                .password_with_length(token.as_str()),
        );
        let token = format!("{token}\0 and more");
        let spec = ClientSpec::new("c")
            .username("JWT")
            .password_with_length(token);
        scene.refused(&spec, BAD, "[password-nul]");
    });
}

#[test]
fn client_text_stays_one_short_log_line() {
    alone(|| {
        // The fake broker itself checks that each line is short and has no control characters.
        let mut scene = Scene::quiet();
        let long = "é".repeat(32_000);
        for nasty in [
            "x\n1970: forged\r\x1b[2J",
            "%s%n%x",
            "'; fix: none",
            long.as_str(),
        ] {
            let spec = ClientSpec::new(nasty).username(nasty).password("p");
            scene.refused(&spec, AUTH, "[credentials-off]");
            let spec = scene.device(nasty);
            let client = scene.connected(&spec);
            for access in AclAccess::ALL {
                scene.broker.allows(client, access, nasty);
            }
            scene.broker.tick();
            assert_eq!(
                scene.broker.lines_with("[not-granted]"),
                3,
                "{:#?}",
                scene.broker.log()
            );
            scene.broker.forget_log();
        }
    });
}

#[test]
fn hostile_names_leave_reason_and_fix_readable() {
    alone(|| {
        let mut scene = Scene::quiet();
        for nasty in [
            "n".repeat(1000),
            "\x1b[31m\r\n".repeat(10_000),
            "\u{202e}".repeat(20_000),
            "\u{2067}x'".repeat(300),
        ] {
            let spec = ClientSpec::new(nasty.as_str()).username(nasty.as_str());
            let spec = spec.password("p").address(&nasty);
            assert_ne!(scene.broker.connect_new(&spec).1, SUCCESS);
            let issuer: String = nasty.chars().take(1000).collect();
            let claims = scene.tenant.mint(DEVICE).claim("iss", issuer);
            let spec = ClientSpec::new(nasty.as_str()).token(claims.sign());
            assert_ne!(scene.broker.connect_new(&spec).1, SUCCESS);
            let client = scene.connected(&scene.device(&nasty));
            scene.broker.allows(client, AclAccess::Write, &nasty);
            scene.broker.tick();
            for line in [
                "refused CONNECT [credentials-off] of '",
                "refused CONNECT [token-issuer] of '",
                "refused PUBLISH [not-granted] of '",
            ] {
                let log = scene.broker.log();
                let found = log.iter().find(|one| one.text.contains(line));
                let text = &found.unwrap_or_else(|| panic!("{line}: {log:#?}")).text;
                assert!(
                    text.contains("; fix: ") && text.ends_with("once a minute"),
                    "{text}"
                );
                assert!(
                    !text.contains(['\x1b', '\u{202e}', '\u{2067}', '\r']),
                    "{text}"
                );
            }
            scene.broker.forget_log();
        }
    });
}

#[test]
fn an_invalid_user_name_is_refused() {
    alone(|| {
        let mut scene = Scene::quiet();
        for (i, (sub, what)) in [
            (json!("a\u{0}b"), "control character"),
            (json!("a\nb"), "control character"),
            (json!("a\u{85}b"), "control character"),
            (json!(""), "is empty"),
            (json!(7), "is not a string"),
            (json!("x".repeat(2_000)), "is longer"),
        ]
        .into_iter()
        .enumerate()
        {
            let token = scene.tenant.mint(DEVICE).claim("sub", sub).sign();
            let (client, answer) = scene
                .broker
                .connect_new(&ClientSpec::new(format!("a{i}")).token(token));
            assert_eq!(
                scene.broker.lines_with(what),
                1,
                "{:#?}",
                scene.broker.log()
            );
            scene.was_refused(client, answer, AUTH, "[token-username]");
        }
    });
}

/// All tokens with an empty subject would share one account.
#[test]
fn an_empty_subject_is_a_missing_one() {
    alone(|| {
        let mut scene = Scene::quiet();
        let token = scene.tenant.mint(DEVICE).claim("sub", json!("")).sign();
        let spec = ClientSpec::new("a").token(token);
        scene.refused(&spec, AUTH, "[token-username]");
    });
}

#[test]
fn with_an_empty_subject_the_user_name_is_the_account() {
    alone(|| {
        let mut scene = Scene::quiet_with(|options| options.with("username_claim", "name"));
        let token = scene.tenant.mint(DEVICE).claim("name", json!("n"));
        let token = token.claim("sub", json!("")).sign();
        scene.connected(&ClientSpec::new("a").token(token));
    });
}

#[test]
fn a_rejected_user_name_refuses_the_client() {
    alone(|| {
        let mut scene = Scene::quiet();
        for code in [3, MALFORMED_UTF8, 1] {
            scene.broker.refuse_usernames(code);
            let spec = scene.device(&format!("a{code}"));
            scene.refused(&spec, AUTH, "[token-username]");
        }
        let spec = scene.device("a");
        scene.broker.refuse_usernames(SUCCESS);
        let client = scene.connected(&spec);
        let sub = scene.tenant.device(DEVICE).expect("the device").user_id;
        assert_eq!(scene.broker.username(client), Some(sub));
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        assert!(
            scene
                .broker
                .allows(client, AclAccess::Subscribe, ALSO_GRANTED)
        );
    });
}
