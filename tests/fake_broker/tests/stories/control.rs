//! Messages to the plugin's own topics.

use fake_broker::{AclAccess, ClientSpec, ClientState, Event, FakeClient, SUCCESS, alone};
use serde_json::{Value, json};
use testbed::tenant::{DEVICE, Tenant};

use super::{GRANTED, RELEASE, Scene, broker, offline, scratch};

const COMMANDS: &str = "$CONTROL/auth0/v1";
const RENEW: &str = "$CONTROL/auth0/v1/renew";

/// A broker where `admin` is an administrator.
fn scene() -> (Scene, FakeClient) {
    let mut scene = Scene::quiet_with(|options| options.with("admin_permission", "mqtt:admin"));
    let admin = admin(&scene.tenant, "admin");
    let admin = scene.connected(&admin);
    // Until the first tick it might be a broker that never ticks.
    scene.broker.tick();
    (scene, admin)
}

fn admin(tenant: &Tenant, id: &str) -> ClientSpec {
    let token = tenant
        .mint(DEVICE)
        .claim("permissions", json!(["mqtt:admin"]));
    ClientSpec::new(id).token(token.sign())
}

fn kick(id: &str) -> String {
    json!({"commands": [{"command": "kick", "clientId": id}]}).to_string()
}

#[test]
fn clients_are_kicked_in_a_tick_and_answers_go_to_their_client() {
    alone(|| {
        let (mut scene, admin) = scene();
        let device = scene.device("device");
        let client = scene.connected(&device);
        assert!(!scene.broker.control(client, COMMANDS, kick("admin")));
        assert!(scene.broker.control(admin, COMMANDS, kick("device")));
        assert_eq!(scene.broker.kicks(), 0, "2.0 would use a freed client ID");
        scene.broker.tick();
        assert_eq!(scene.broker.kicks(), 1);
        let sent = scene.broker.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (&*sent[0].client_id, &*sent[0].topic),
            ("admin", "$CONTROL/auth0/v1/response")
        );
        let answer: Value = serde_json::from_str(&sent[0].payload).unwrap();
        assert_eq!(answer["responses"][0]["data"]["clients"], 1);

        // Whoever is away is left alone: 2.0 would put it on its list of expiring sessions twice.
        let away = scene.connected(&device.kept());
        scene.broker.disconnect(away);
        assert!(scene.broker.control(admin, COMMANDS, kick("device")));
        scene.broker.tick();
        assert_eq!(scene.broker.kicks(), 1);
    });
}

/// 2.0 must not disconnect a client that is away.
#[test]
fn a_client_that_several_commands_name_is_kicked_once() {
    alone(|| {
        let (mut scene, admin) = scene();
        let device = scene.device("device");
        let client = scene.connected(&device.kept());
        let one = json!({"command": "kick", "clientId": "device"});
        let both = json!({"commands": [one, one]}).to_string();
        assert!(scene.broker.control(admin, COMMANDS, &both));
        assert!(scene.broker.control(admin, COMMANDS, kick("device")));
        scene.broker.tick();
        assert_eq!(scene.broker.kicks(), 1);
        assert_eq!(scene.broker.state(client), ClientState::Offline);
    });
}

#[test]
fn an_administrator_that_has_gone_gets_no_answer() {
    alone(|| {
        let (mut scene, admin) = scene();
        assert!(scene.broker.control(admin, COMMANDS, kick("nobody")));
        scene.broker.disconnect(admin);
        // Another client with the same client ID.
        let again = super::control::admin(&scene.tenant, "admin");
        scene.connected(&again);
        scene.broker.tick();
        assert_eq!(scene.broker.sent(), []);
    });
}

#[test]
fn whoever_did_not_sign_in_here_is_not_heard() {
    alone(|| {
        let (mut scene, admin) = scene();
        let unknown = scene.broker.client(&ClientSpec::new("unknown"));
        for topic in [COMMANDS, RENEW, "$CONTROL/auth0/v1/response"] {
            assert!(
                !scene.broker.control(unknown, topic, kick("admin")),
                "{topic}"
            );
            for access in [AclAccess::Read, AclAccess::Write, AclAccess::Subscribe] {
                assert!(
                    !scene.broker.allows(unknown, access, topic),
                    "{access:?} {topic}"
                );
            }
        }
        // The same event, as a broker sends it that asked somebody else.
        let (topic, payload) = (c"$CONTROL/auth0/v1", kick("admin"));
        let mut data = [0usize; 11];
        data[1] = unknown.address();
        data[2] = topic.as_ptr() as usize;
        data[3] = payload.as_ptr() as usize;
        data[6] = payload.len();
        assert_eq!(scene.broker.raw(Event::Control, Some(&mut data)), SUCCESS);
        // A client that was in, and whose memory another one has now.
        let spec = ClientSpec::new("other").username("other");
        scene.broker.disconnect(admin);
        scene.broker.tick();
        scene.broker.reuse(admin, &spec);
        data[1] = admin.address();
        assert_eq!(scene.broker.raw(Event::Control, Some(&mut data)), SUCCESS);
        scene.broker.tick();
        assert_eq!((scene.broker.kicks(), scene.broker.sent()), (0, vec![]));
    });
}

#[test]
fn a_message_without_a_payload_is_harmless() {
    alone(|| {
        let (mut scene, admin) = scene();
        assert!(scene.broker.control(admin, COMMANDS, ""));
        assert!(scene.broker.sent()[0].payload.contains("cannot be read"));
        assert!(scene.broker.control(admin, RENEW, ""));
    });
}

#[test]
fn a_new_token_counts_at_once_and_is_answered_to_its_client_alone() {
    alone(|| {
        let mut scene = Scene::quiet();
        let device = scene.device("device");
        let client = scene.connected(&device);
        scene.connected(&scene.device("other"));
        // What was allowed a moment ago is remembered.
        for _ in 0..3 {
            assert!(scene.broker.allows(client, AclAccess::Write, GRANTED));
        }
        let fewer = scene
            .tenant
            .mint(DEVICE)
            .claim("topics", json!(["else"]))
            .sign();
        assert!(scene.broker.control(client, RENEW, &fewer));
        let sent = scene.broker.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (&*sent[0].client_id, &*sent[0].topic),
            ("device", "$CONTROL/auth0/v1/renew/response")
        );
        assert!(
            sent[0].payload.contains(r#""result":"renewed""#),
            "{sent:?}"
        );
        assert!(!scene.broker.allows(client, AclAccess::Write, GRANTED));
        assert!(scene.broker.allows(client, AclAccess::Write, "else"));
    });
}

#[test]
fn each_listener_has_its_own_administrators() {
    alone(|| {
        let (tenants, scratch) = ([Tenant::start(), Tenant::start()], [scratch(), scratch()]);
        let mut broker = broker();
        for (listener, (tenant, scratch)) in (1..).zip(tenants.iter().zip(&scratch)) {
            let options = offline(tenant, scratch).with("admin_permission", "mqtt:admin");
            assert_eq!(broker.init_for(listener, &options), Ok(()));
        }
        // 2.1 calls the first instance for all.
        let registered = broker.registered_for(2, Event::Control);
        assert_eq!(registered, if RELEASE.is_2_1() { 0 } else { 2 });
        let mut admins = Vec::new();
        for (listener, tenant) in (1..).zip(&tenants) {
            for id in [format!("device{listener}"), format!("admin{listener}")] {
                let (client, code) = broker.connect_new(&admin(tenant, &id).listener(listener));
                assert_eq!(code, SUCCESS, "{:#?}", broker.log());
                admins.push(client);
            }
        }
        let list = json!({"commands": [{"command": "listSessions"}]}).to_string();
        for (admin, other) in [(admins[1], "device2"), (admins[3], "device1")] {
            assert!(broker.control(admin, COMMANDS, &list));
            assert!(broker.control(admin, COMMANDS, kick(other)));
            broker.tick();
            let sent = broker.sent();
            assert_eq!(sent.len(), 2, "{sent:?}");
            assert!(!sent[0].payload.contains(other), "{sent:?}");
            assert!(sent[1].payload.contains("error"), "{sent:?}");
        }
        assert_eq!(broker.kicks(), 0);
    });
}
