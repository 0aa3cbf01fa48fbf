//! What the tenant receives, and changes of keys.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use fake_broker::{
    AclAccess, BAD_USERNAME_OR_PASSWORD as BAD, ClientSpec, ClientState, SUCCESS, alone,
};
use testbed::tenant::{DEVICE, Endpoint, PASSWORD, Tenant};

use super::{GRANTED, RELEASE, Scene, broker, credentials, login, offline, options, scratch};

#[test]
fn the_tenant_is_told_where_a_device_connects_from() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        for (seen, told) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("fe80::7%eth0", Some("fe80::7")),
            ("127.0.0.1", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
            ("/run/mosquitto.sock", None),
        ] {
            let spec = new_client().password(PASSWORD).address(seen);
            scene.connected(&spec);
            let requests = scene.tenant.requests_to(Endpoint::Token);
            let last = requests.last().expect("a request");
            assert_eq!(last.header("auth0-forwarded-for"), told, "{seen}");
            assert_eq!(last.field("username"), Some(DEVICE));
            assert_eq!(last.field("password"), Some(PASSWORD));
        }
    });
}

fn last_address(scene: &Scene) -> Option<String> {
    let requests = scene.tenant.requests_to(Endpoint::Token);
    let last = requests.last().expect("a request");
    last.header("auth0-forwarded-for").map(str::to_owned)
}

/// Returns a client ID that was not used before: under others no login may wait for the tenant on 2.1.
fn new_client() -> ClientSpec {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    ClientSpec::new(format!("client {number}")).username(DEVICE)
}

fn websocket(address: &str, password: &str) -> ClientSpec {
    let spec = new_client().password(password);
    spec.address(address).websocket()
}

#[test]
fn an_address_that_a_client_can_forge_is_ignored() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let victim = "203.0.113.7";
        scene.connected(&websocket(victim, PASSWORD));
        if RELEASE.is_2_1() {
            // There the address is the connection's.
            assert_eq!(last_address(&scene).as_deref(), Some(victim));
            return;
        }
        assert_eq!(last_address(&scene), None);
        assert_eq!(scene.broker.lines_with("trusted_proxies"), 1);
        scene.broker.forget_log();
        for number in 0..3 {
            let wrong = websocket(victim, &format!("wrong {number}"));
            assert_ne!(scene.broker.connect_new(&wrong).1, SUCCESS);
        }
        scene.connected(&websocket(victim, PASSWORD).transport());
        assert_eq!(last_address(&scene).as_deref(), Some(victim));
        let asked = scene.tenant.count(Endpoint::Token);
        for number in 0..100 {
            let wrong = websocket(&format!("198.51.100.{number}"), &format!("guess {number}"));
            assert_ne!(scene.broker.connect_new(&wrong).1, SUCCESS);
            scene.broker.tick();
            scene.broker.forget_log();
        }
        let guesses = scene.tenant.count(Endpoint::Token) - asked;
        assert!(guesses <= 9 - 3, "{guesses} more");
    });
}

#[test]
fn a_trusted_proxys_header_counts_and_its_own_address_does_not() {
    alone(|| {
        let listed = "127.0.0.1,10.0.0.0/8";
        let mut scene = Scene::live(|tenant| credentials(tenant).with("trusted_proxies", listed));
        if !RELEASE.is_2_1() {
            for (told, address) in [
                ("203.0.113.7", Some("203.0.113.7")),
                ("198.51.100.1, 203.0.113.7,10.0.0.9", Some("203.0.113.7")),
                ("203.0.113.7, unknown", None),
                ("10.0.0.9", None),
            ] {
                scene.connected(&websocket(told, PASSWORD));
                assert_eq!(last_address(&scene).as_deref(), address, "{told}");
            }
        }
        for spec in [
            websocket("10.0.0.9", PASSWORD),
            websocket("10.0.0.9", PASSWORD).transport(),
        ] {
            scene.connected(&spec);
            assert_eq!(last_address(&scene), None);
        }
        assert_eq!(scene.broker.lines_with("trusted_proxies"), 0);
    });
}

#[test]
fn a_malformed_token_is_not_sent_to_the_tenant() {
    alone(|| check_malformed_tokens_stay_here("deny"));
}

#[test]
fn a_malformed_token_is_not_deferred_either() {
    alone(|| check_malformed_tokens_stay_here("defer"));
}

/// A client that is left to others gets another return code.
fn check_malformed_tokens_stay_here(on_other: &str) {
    let mut scene = Scene::live(|tenant| credentials(tenant).with("on_other", on_other));
    let token = scene.tenant.token(DEVICE);
    let spec = |name: &str, password: &str| {
        let spec = ClientSpec::new("a").username(name).password(password);
        spec.address("192.0.2.7").v5()
    };
    // More than the nine wrong passwords of which the tenant would hear.
    for _ in 0..4 {
        for (name, password, reason) in [
            (DEVICE, format!("Bearer {token}"), "[token-wrapped]"),
            ("JWT", format!("'{token}'"), "[token-wrapped]"),
            (DEVICE, format!("{token}\n"), "[token-wrapped]"),
            (DEVICE, token[..100].to_owned(), "[token-malformed]"),
            (&token, String::new(), "[token-misplaced]"),
            (&token, PASSWORD.to_owned(), "[token-misplaced]"),
        ] {
            scene.refused(&spec(name, &password), BAD, reason);
        }
        let mut named = ClientSpec::new(token.as_str()).username(DEVICE).v5();
        scene.refused(&named, BAD, "[token-misplaced]");
        named = named.password(PASSWORD);
        scene.refused(&named, BAD, "[token-misplaced]");
    }
    assert_eq!(scene.tenant.count(Endpoint::Token), 0);
    scene.connected(&spec(DEVICE, PASSWORD));
    assert_eq!(scene.tenant.count(Endpoint::Token), 1);
}

#[test]
fn a_username_prefix_separates_tenant_users_from_others() {
    alone(|| {
        let mut scene = Scene::live(|tenant| credentials(tenant).with("username_prefix", "auth0:"));
        let token = scene.tenant.mint(DEVICE).claim("sub", "admin").sign();
        let spec = ClientSpec::new("a").token(token);
        let client = scene.connected(&spec);
        assert_eq!(
            scene.broker.username(client).as_deref(),
            Some("auth0:admin")
        );
        let login = login("b");
        for spec in [login.clone(), login.v5()] {
            let client = scene.connected(&spec);
            let given = format!("auth0:{DEVICE}");
            assert_eq!(scene.broker.username(client), Some(given));
            assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        }
        // A SIGHUP asks again, with the user names that the broker was given.
        scene.broker.sighup();
        assert_eq!(scene.broker.state(client), ClientState::Connected);
        let fields: Vec<_> = scene.tenant.requests_to(Endpoint::Token);
        assert!(
            fields
                .iter()
                .all(|one| one.field("username") == Some(DEVICE))
        );
    });
}

#[test]
fn a_failed_reload_does_not_stop_the_broker() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        let options = offline(&tenant, &scratch);
        broker.init(&options).expect("it starts");
        let old = ClientSpec::new("old").token(tenant.token(DEVICE));
        let file = scratch.path().join("jwks.json");
        for broken in ["", "{", "[]", r#"{"keys":[]}"#, r#"{"keys":"none"}"#] {
            broker.forget_log();
            fs::write(&file, broken).expect("a file");
            assert_eq!(broker.reload(), SUCCESS);
            assert_eq!(
                broker.lines_with("configuration generation 1 stays in force"),
                1,
                "{broken}"
            );
            assert_eq!(
                broker.connect_new(&old).1,
                SUCCESS,
                "{broken}: {:#?}",
                broker.log()
            );
        }
        broker.forget_log();
        fs::remove_file(&file).expect("it was there");
        assert_eq!(broker.reload(), SUCCESS);
        assert_eq!(broker.lines_with("cannot be read"), 1);
        assert_eq!(broker.connect_new(&old).1, SUCCESS);

        tenant.rotate_unannounced();
        let new = ClientSpec::new("new").token(tenant.token(DEVICE));
        assert_ne!(broker.connect_new(&new).1, SUCCESS);
        fs::write(&file, tenant.jwks().to_string()).expect("a file");
        assert_eq!(broker.reload(), SUCCESS);
        assert_eq!(broker.connect_new(&new).1, SUCCESS);
    });
}

#[test]
fn a_reload_keeps_the_old_keys_until_new_ones_arrive() {
    alone(|| {
        let mut scene = Scene::live(options);
        let old = scene.device("old");
        scene.tenant.set_jwks_text("no keys today");
        scene.broker.forget_log();
        assert_eq!(scene.broker.reload(), SUCCESS);
        scene
            .broker
            .run_until_said("the last good ones stay in use");
        scene.connected(&old);

        scene.tenant.reset_jwks();
        scene.tenant.rotate_unannounced();
        scene.tenant.revoke_previous();
        scene.broker.forget_log();
        assert_eq!(scene.broker.reload(), SUCCESS);
        scene.broker.run_until_said("signing keys were fetched");
        let new = scene.device("new");
        scene.connected(&new);
        let (_, code) = scene.broker.connect_new(&old);
        assert_ne!(code, SUCCESS, "its key was revoked");
    });
}
