//! A panic in the plugin is a refusal. Each test ends with success, which shows that it is not an abort.

use fake_broker::{
    ACL_DENIED, AUTH, AUTH_CONTINUE, AclAccess, ClientState, Event, SUCCESS, UNKNOWN,
    alone_provoked,
};
use testbed::tenant::{DEVICE, Tenant};

use super::{FORBIDDEN, GRANTED, Scene, broker, offline, scratch};

/// Ends the panics.
fn calm() {
    // SAFETY: no other thread of this process reads the environment: keys are from a file, and the
    // tenant's threads only serve.
    unsafe { std::env::remove_var("MOSQUITTO_AUTH0_PROVOKE") };
}

/// Starts the panics, in a test whose start must succeed.
fn provoke(place: &str) {
    // SAFETY: as above.
    unsafe { std::env::set_var("MOSQUITTO_AUTH0_PROVOKE", place) };
}

#[test]
fn a_panic_in_init_prevents_the_start() {
    alone_provoked("init", || {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        let options = offline(&tenant, &scratch);
        assert_eq!(broker.init(&options), Err(UNKNOWN));
        // The last chance to log the reason: the broker exits now.
        assert_eq!(
            broker.lines_with("provoked in init"),
            1,
            "{:#?}",
            broker.log()
        );
        assert_eq!(broker.registered(Event::BasicAuth), 0);
        calm();
        assert_eq!(broker.init(&options), Ok(()));
    });
}

/// Nothing but AUTH_CONTINUE is safe where an exchange goes on, because there may be none.
#[test]
fn a_panic_in_extended_auth_damages_nothing() {
    alone_provoked("none", || {
        let mut scene = Scene::quiet();
        let spec = scene.device("a").v5();
        let token = scene.tenant.token(DEVICE);
        let client = scene.broker.client(&spec);
        assert_eq!(
            scene.broker.connect_by(client, "OAUTH2-JWT", &token),
            SUCCESS
        );
        provoke("ext_auth_continue");
        assert_eq!(scene.broker.auth(client, 0, ""), AUTH_CONTINUE);
        provoke("ext_auth_start");
        let other = scene.broker.client(&spec);
        assert_eq!(scene.broker.connect_by(other, "OAUTH2-JWT", &token), AUTH);
        calm();
        assert_eq!(scene.broker.auth(client, 0, ""), AUTH_CONTINUE);
        scene.broker.tick();
        assert_eq!(scene.broker.state(client), ClientState::Gone);
    });
}

#[test]
fn a_panic_in_a_login_refuses_the_client() {
    alone_provoked("basic_auth", || {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let (client, answer) = scene.broker.connect_new(&spec);
        assert_eq!(answer, AUTH);
        assert_eq!(
            scene.broker.acl(client, AclAccess::Write, GRANTED),
            ACL_DENIED
        );
        scene.broker.tick();
        assert_eq!(
            scene.broker.lines_with("[internal]"),
            1,
            "{:#?}",
            scene.broker.log()
        );
        assert_eq!(scene.broker.lines_with("provoked in basic_auth"), 1);

        calm();
        let client = scene.connected(&spec);
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}

#[test]
fn a_panic_in_an_acl_check_denies_it() {
    alone_provoked("acl_check", || {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        for access in AclAccess::ALL {
            assert_eq!(
                scene.broker.acl(client, access, GRANTED),
                ACL_DENIED,
                "{access:?}"
            );
        }
        scene.broker.tick();
        // The 1st, the 2nd and the 4th: a fault at every message must not flood the log.
        assert_eq!(scene.broker.lines_with("provoked in acl_check"), 3);
        for _ in 0..60 {
            scene.broker.acl(client, AclAccess::Read, GRANTED);
        }
        scene.broker.tick();
        assert_eq!(scene.broker.lines_with("provoked in acl_check"), 7);

        calm();
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        assert!(!scene.broker.allows(client, AclAccess::Write, FORBIDDEN));
    });
}

#[test]
fn a_panic_in_a_disconnect_leaves_no_rights() {
    alone_provoked("disconnect", || {
        let mut scene = Scene::quiet();
        let sensor = scene.device("a").will(GRANTED);
        let client = scene.connected(&sensor);
        scene.broker.disconnect(client);
        assert_eq!(scene.broker.state(client), ClientState::Gone);
        scene.broker.tick();
        assert_eq!(scene.broker.lines_with("provoked in disconnect"), 1);

        calm();
        // Another client at the old address has no rights; the same device can sign in again.
        scene.broker.reuse(client, &scene.device("b"));
        assert!(!scene.broker.allows(client, AclAccess::Write, GRANTED));
        let client = scene.connected(&sensor);
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}

#[test]
fn a_panic_in_a_tick_is_logged() {
    alone_provoked("tick", || {
        let mut scene = Scene::quiet();
        // The fake broker accepts only SUCCESS for a tick.
        scene.broker.tick();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        assert!(!scene.broker.allows(client, AclAccess::Write, FORBIDDEN));
        calm();
        scene.broker.tick();
        assert_eq!(
            scene.broker.lines_with("provoked in tick"),
            1,
            "{:#?}",
            scene.broker.log()
        );
        assert_eq!(
            scene.broker.lines_with("[not-granted]"),
            1,
            "{:#?}",
            scene.broker.log()
        );
    });
}

#[test]
fn a_panic_in_a_reload_changes_no_rights() {
    alone_provoked("reload", || {
        let mut scene = Scene::quiet();
        let spec = scene.device("a");
        let client = scene.connected(&spec);
        assert_eq!(scene.broker.reload(), SUCCESS);
        scene.broker.tick();
        assert_eq!(scene.broker.lines_with("provoked in reload"), 1);
        calm();
        assert_eq!(scene.broker.reload(), SUCCESS);
        assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
    });
}

#[test]
fn a_panic_in_cleanup_allows_a_new_start() {
    alone_provoked("cleanup", || {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        let options = offline(&tenant, &scratch);
        broker.init(&options).expect("it starts");
        broker.cleanup();
        assert_eq!(broker.cleanup_nothing(), SUCCESS);
        calm();
        broker.init(&options).expect("it starts again");
        provoke("cleanup");
    });
}
