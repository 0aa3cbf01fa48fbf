//! What the tenant sees, and keys that change.

use std::fs;

use fake_broker::{SUCCESS, Spec, alone};
use lab::tenant::{DEVICE, Endpoint, PASSWORD, Tenant};

use super::{Scene, broker, credentials, offline, options, scratch};

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
            let spec = Spec::new("a")
                .username(DEVICE)
                .password(PASSWORD)
                .address(seen);
            scene.connected(&spec);
            let requests = scene.tenant.requests_to(Endpoint::Token);
            let last = requests.last().expect("a request");
            assert_eq!(last.header("auth0-forwarded-for"), told, "{seen}");
            assert_eq!(last.field("username"), Some(DEVICE));
            assert_eq!(last.field("password"), Some(PASSWORD));
        }
    });
}

#[test]
fn a_reload_never_ends_the_broker() {
    alone(|| {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        let options = offline(&tenant, &scratch);
        broker.init(&options).expect("it starts");
        let old = Spec::new("old").token(tenant.token(DEVICE));
        let file = scratch.path().join("jwks.json");
        for broken in ["", "{", "[]", r#"{"keys":[]}"#, r#"{"keys":"none"}"#] {
            broker.forget_log();
            fs::write(&file, broken).expect("a file");
            assert_eq!(broker.reload(), SUCCESS);
            assert_eq!(
                broker.lines_with("the keys read before stay in use"),
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
        let new = Spec::new("new").token(tenant.token(DEVICE));
        assert_ne!(broker.connect_new(&new).1, SUCCESS);
        fs::write(&file, tenant.jwks().to_string()).expect("a file");
        assert_eq!(broker.reload(), SUCCESS);
        assert_eq!(broker.connect_new(&new).1, SUCCESS);
    });
}

#[test]
fn a_reload_fetches_new_keys_and_keeps_the_old_ones_until_they_are_here() {
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
        scene.broker.run_until_said("signing keys are here");
        let new = scene.device("new");
        scene.connected(&new);
        let (_, code) = scene.broker.connect_new(&old);
        assert_ne!(code, SUCCESS, "its key was revoked");
    });
}
