//! While a CONNECT waits for the tenant: who else has to wait, and what becomes of the answer.
//!
//! A gate holds the tenant's answers for as long as a test likes, so nothing here depends on time:
//! a broker that stood still would never let the others talk.

use std::time::Duration;

use lab::{
    broker::{Broker, Version},
    clients::{
        Protocol,
        raw::{self, Connect, Refusal, Will},
    },
    tenant::{Behaviour, DEVICE, Device, Endpoint, Gate, PASSWORD, Tenant},
};
use serde_json::json;

use crate::{on_each_broker, setting::*};

/// As an operator has it: nothing set that need not be.
fn options(tenant: &Tenant) -> Options {
    Options::both(tenant)
        .without("login_wait")
        .without("stall_budget")
        .without("login_cache")
        .with("timeout", "20")
}

fn login(protocol: Protocol, client_id: &str, name: &str) -> Connect {
    Connect::new(protocol, client_id).login(name, "pass")
}

/// A tenant that holds its answers, and a broker. Token clients are in already.
fn held(version: Version, options: impl FnOnce(Options) -> Options) -> (Tenant, Gate, Broker) {
    let tenant = tenant();
    for i in 0..50 {
        device(&tenant, &format!("d{i}"), json!(["temperature"]));
    }
    let gate = Gate::new();
    tenant.on(Endpoint::Token, Behaviour::Gate(gate.clone()));
    let broker = broker(version, &options(crate::waiting::options(&tenant)));
    // With `login_wait 0` nobody waits for the first keys either.
    assert!(
        broker
            .wait_for_log("signing keys are here", PATIENCE)
            .is_some()
    );
    (tenant, gate, broker)
}

/// Two clients talk: the broker is alive.
fn talk(publisher: &mut raw::Client, subscriber: &mut raw::Client, what: &str) {
    assert!(publisher.publish("temperature", what, 1).unwrap() < 0x80);
    assert_eq!(subscriber.next_message(PATIENCE).unwrap().text(), what);
}

fn pair(broker: &Broker, tenant: &Tenant) -> (raw::Client, raw::Client) {
    let publisher = raw(broker, tenant, DEVICE, "publisher", Protocol::V311);
    let mut subscriber = raw(broker, tenant, WATCHER, "subscriber", Protocol::V311);
    assert_eq!(subscriber.subscribe(&[("temperature", 1)]), Ok(vec![1]));
    (publisher, subscriber)
}

/// Sends a CONNECT and does not wait for the answer.
fn knock(broker: &Broker, connect: &Connect) -> raw::Client {
    let mut client = raw::Client::open(broker.port(), connect.protocol);
    client.send(&connect.packet());
    client
}

on_each_broker! {
    /// 2.1: fifty sign-ins wait, and the others talk. 2.0: they are turned away at once, and let in
    /// from memory when they try again, with one question to the tenant each.
    fn fifty_sign_ins_hold_nobody_up(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let connects: Vec<_> = (0..50).map(|i| login(Protocol::V311, &format!("c{i}"), &format!("d{i}"))).collect();
        let mut clients: Vec<_> = connects.iter().map(|connect| knock(&broker, connect)).collect();
        assert!(gate.wait_for(50, PATIENCE), "all fifty are asked about");
        talk(&mut publisher, &mut subscriber, "while they wait");

        if version.can_delay_logins() {
            gate.open();
            for client in &mut clients {
                assert_eq!(client.wait_connack(PATIENCE), Ok(()));
            }
        } else {
            for client in &mut clients {
                assert_eq!(client.wait_connack(PATIENCE), Err(Refusal::Code(5)));
            }
            expect_refusal(&broker, "", "login-pending");
            gate.open();
            for connect in &connects {
                while answer(&broker, connect).is_some() {
                    talk(&mut publisher, &mut subscriber, "meanwhile");
                }
            }
        }
        assert_eq!(tenant.count(Endpoint::Token), 50);
        talk(&mut publisher, &mut subscriber, "afterwards");
    }

    /// A device that is remembered needs no tenant: not when it reconnects, not when Auth0 is gone.
    fn a_good_login_is_remembered(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let connect = Connect::new(Protocol::V311, "c").login(DEVICE, PASSWORD);
        let mut first = raw::Client::connect(broker.port(), &connect).unwrap();
        assert_eq!(first.publish("temperature", "1", 1), Ok(0));
        tenant.stop_listening();
        for _ in 0..3 {
            assert_eq!(answer(&broker, &connect), None);
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
        let wrong = Connect::new(Protocol::V311, "c").login(DEVICE, "another");
        assert!(answer(&broker, &wrong).is_some(), "of this password nothing is known");
    }

    /// A wrong password is not asked about twice in a row.
    fn a_wrong_password_is_remembered_briefly(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        for _ in 0..5 {
            let wrong = Connect::new(Protocol::V5, "c").login(DEVICE, "wrong");
            assert_eq!(answer(&broker, &wrong), told(version, Protocol::V5, 0x86));
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
        let right = Connect::new(Protocol::V5, "c").login(DEVICE, PASSWORD);
        assert_eq!(answer(&broker, &right), None);
    }

    /// The same credential many times at once is one question.
    fn one_credential_is_asked_about_once(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let mut clients: Vec<_> = (0..20).map(|i| knock(&broker, &login(Protocol::V311, &format!("c{i}"), "d0"))).collect();
        assert!(gate.wait_for(1, PATIENCE));
        if !version.can_delay_logins() {
            for client in &mut clients {
                assert_eq!(client.wait_connack(PATIENCE), Err(Refusal::Code(5)));
            }
        }
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        talk(&mut publisher, &mut subscriber, "all of them have been seen");
        gate.open();
        for client in clients.iter_mut().filter(|_| version.can_delay_logins()) {
            assert_eq!(client.wait_connack(PATIENCE), Ok(()));
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
    }

    /// MQTT 5 is not delayed by default: 2.1.2 can be ended by whoever hangs up while it waits.
    fn mqtt5_waits_only_where_it_is_allowed_to(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("delay_mqtt5", "true"));
        let mut client = knock(&broker, &login(Protocol::V5, "c", "d0"));
        assert!(gate.wait_for(1, PATIENCE));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        talk(&mut publisher, &mut subscriber, "alive");
        gate.open();
        let told = if version.can_delay_logins() { Ok(()) } else { Err(Refusal::Code(0x87)) };
        assert_eq!(client.wait_connack(PATIENCE), told);

        let (_tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let connect = login(Protocol::V5, "c", "d0");
        assert_eq!(answer(&broker, &connect), crate::setting::told(version, Protocol::V5, 0x89));
        gate.open();
    }

    /// Whoever hangs up while it waits leaves nothing behind: not its will, not its rights.
    fn hanging_up_while_waiting(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let mut connect = login(Protocol::V311, "gone", "d0");
        connect.will = Some(Will { topic: "temperature".into(), payload: b"will".to_vec(), qos: 1, ..Will::default() });
        knock(&broker, &connect).abort();
        assert!(gate.wait_for(1, PATIENCE));
        talk(&mut publisher, &mut subscriber, "no will came before this");
        gate.open();
        // Its answer comes, finds nobody, and the next client of that name is judged for itself.
        let wrong = Connect::new(Protocol::V311, "gone").login("d0", "wrong");
        assert_eq!(answer(&broker, &wrong), Some(Refusal::Code(5)));
        connect.will = None;
        assert!(tries_until_let_in(&broker, &connect));
        talk(&mut publisher, &mut subscriber, "nor after");
        assert!(broker.stop().status.unwrap().success());
    }

    /// A device that keeps its session, and hangs up while it waits to come back, loses nothing.
    fn hanging_up_leaves_the_kept_session_alone(version) {
        let tenant = tenant();
        device(&tenant, "d0", json!(["temperature"]));
        let broker = broker(version, &options(&tenant).with("login_cache", "0").with("stall_budget", "100"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let mut connect = login(Protocol::V311, "kept", "d0");
        connect.clean = false;
        let mut client = raw::Client::connect(broker.port(), &connect).unwrap();
        assert_eq!(client.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        client.disconnect(0);
        talk(&mut publisher, &mut subscriber, "first");

        let gate = Gate::new();
        tenant.once(Endpoint::Token, Behaviour::Gate(gate.clone()));
        if version.can_delay_logins() {
            knock(&broker, &connect).abort();
            assert!(gate.wait_for(1, PATIENCE));
        }
        gate.open();
        // The answer has come when the next one has.
        let other = login(Protocol::V311, "other", "d0");
        assert!(tries_until_let_in(&broker, &other));
        talk(&mut publisher, &mut subscriber, "second");
        let mut client = raw::Client::connect(broker.port(), &connect).unwrap();
        assert!(client.session_present);
        let mut got = vec![client.next_message(PATIENCE).unwrap().text()];
        if got[0] == "first" {
            got.push(client.next_message(PATIENCE).unwrap().text());
        }
        assert_eq!(got.last().map(String::as_str), Some("second"));
    }

    /// The answer for a client that hung up is not given to the next one of its name.
    fn an_answer_is_for_the_one_who_asked(version) {
        if !version.can_delay_logins() {
            return;
        }
        let (tenant, _, broker) = held(version, |options| options);
        let (first, second_gate) = (Gate::new(), Gate::new());
        tenant.behave();
        tenant.once(Endpoint::Token, Behaviour::Gate(first.clone()));
        tenant.once(Endpoint::Token, Behaviour::Gate(second_gate.clone()));
        tenant.add_device(Device::new("other", "pass").topics(json!(["secret"])));
        knock(&broker, &login(Protocol::V311, "same", "d0")).abort();
        assert!(first.wait_for(1, PATIENCE));
        let wrong = Connect::new(Protocol::V311, "same").login("other", "wrong");
        let mut second = knock(&broker, &wrong);
        assert!(second_gate.wait_for(1, PATIENCE));
        // The first answer is a yes. It must not be the second client's.
        first.open();
        assert_eq!(second.wait_connack(Duration::from_millis(300)), Err(Refusal::Silent));
        second_gate.open();
        assert_eq!(second.wait_connack(PATIENCE), Err(Refusal::Code(5)));
        expect_refusal(&broker, "'same'", "login-refused");
    }

    /// A connected client stays until the one that takes over has been let in.
    fn a_takeover_waits_too(version) {
        if !version.can_delay_logins() {
            return;
        }
        let (tenant, gate, broker) = held(version, |options| options);
        let mut old = raw(&broker, &tenant, WATCHER, "same", Protocol::V311);
        assert_eq!(old.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let mut new = knock(&broker, &login(Protocol::V311, "same", "d0"));
        assert!(gate.wait_for(1, PATIENCE));
        let mut publisher = raw(&broker, &tenant, DEVICE, "publisher", Protocol::V311);
        talk(&mut publisher, &mut old, "the old one is still here");
        gate.open();
        assert_eq!(new.wait_connack(PATIENCE), Ok(()));
        assert!(old.wait_end(PATIENCE).is_ok());
        assert_eq!(new.publish("temperature", "1", 1), Ok(0));
        assert_eq!(new.subscribe(&[("#", 1)]), Ok(vec![0x80]), "its own rights, not the old one's");
    }

    /// SIGHUP and shutdown with answers on the way.
    fn sighup_and_shutdown_while_waiting(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("timeout", "2"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let mut client = knock(&broker, &login(Protocol::V311, "c", "d0"));
        assert!(gate.wait_for(1, PATIENCE));
        broker.reload();
        talk(&mut publisher, &mut subscriber, "nobody was dropped");
        if version.can_delay_logins() {
            gate.release(1);
            assert_eq!(client.wait_connack(PATIENCE), Ok(()));
        }
        let _last = knock(&broker, &login(Protocol::V311, "c2", "d1"));
        assert!(gate.wait_for(1, PATIENCE));
        assert!(broker.stop().status.unwrap().success());
    }

    /// Nobody waits for ever: at the deadline the client is told.
    fn a_wait_has_an_end(version) {
        let (_tenant, gate, broker) = held(version, |options| options.with("timeout", "1").with("login_wait", "5").with("stall_budget", "100"));
        assert_eq!(answer(&broker, &login(Protocol::V311, "c", "d0")), Some(Refusal::Code(5)));
        expect_refusal(&broker, "'c'", "tenant-unreachable");
        gate.open();
        assert!(tries_until_let_in(&broker, &login(Protocol::V311, "c", "d0")));
    }

    /// A token with a new key waits for the keys, and comes in under the name that it says.
    fn a_token_may_wait_for_its_key(version) {
        let tenant = tenant();
        let gate = Gate::new();
        tenant.once(Endpoint::Jwks, Behaviour::Gate(gate.clone()));
        let broker = broker(version, &options(&tenant).with("login_wait", "20").with("stall_budget", "100"));
        assert!(gate.wait_for(1, PATIENCE));
        let mut client = knock(&broker, &token_connect(Protocol::V311, "early", &tenant.token(DEVICE)));
        gate.open();
        assert_eq!(client.wait_connack(PATIENCE), Ok(()));
        let sub = tenant.device(DEVICE).unwrap().user_id;
        assert!(broker.wait_for_log("as early (", PATIENCE).unwrap().contains(&format!("u'{sub}'")));
        assert_eq!(client.publish("temperature", "1", 1), Ok(0));
    }

    /// The tenant's limit is kept, whatever the fleet does.
    fn no_more_than_the_rate(version) {
        let tenant = tenant();
        for i in 0..80 {
            device(&tenant, &format!("d{i}"), json!(["temperature"]));
        }
        let broker = broker(version, &options(&tenant).with("login_rate", "1").with("stall_budget", "100"));
        assert!(broker.wait_for_log("signing keys are here", PATIENCE).is_some());
        let let_in = (0..80).filter(|i| answer(&broker, &login(Protocol::V5, &format!("c{i}"), &format!("d{i}"))).is_none());
        // A minute's worth at once, and what is gained meanwhile.
        let let_in = let_in.count();
        assert!((60..75).contains(&let_in), "{let_in}");
        assert_eq!(tenant.count(Endpoint::Token), let_in);
        expect_refusal(&broker, "", "login-rate");
    }

    /// `Retry-After` holds for every device.
    fn the_tenant_is_left_alone_when_it_says_so(version) {
        let tenant = tenant();
        device(&tenant, "other", json!([]));
        let broker = broker(version, &options(&tenant));
        tenant.once(Endpoint::Token, Behaviour::RateLimited { retry_after: Some(3600) });
        for name in [DEVICE, "other", DEVICE] {
            assert_eq!(answer(&broker, &login(Protocol::V5, name, name)), told(version, Protocol::V5, 0x89));
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
    }

    /// A tenant that fails is not asked by everybody all the time.
    fn a_tenant_in_trouble_is_left_alone(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("stall_budget", "100"));
        tenant.on(Endpoint::Token, Behaviour::Html(502));
        for i in 0..50 {
            assert_eq!(answer(&broker, &login(Protocol::V5, &format!("c{i}"), DEVICE)), told(version, Protocol::V5, 0x88));
        }
        let asked = tenant.count(Endpoint::Token);
        assert!((5..10).contains(&asked), "{asked}");
        tenant.behave();
        let connect = Connect::new(Protocol::V5, "c").login(DEVICE, PASSWORD);
        assert!(tries_until_let_in(&broker, &connect));
    }

    /// A device that guesses is slowed down here, long before Auth0 would lock it.
    fn a_device_with_a_wrong_password_is_slowed_down(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("stall_budget", "100"));
        for i in 0..20 {
            let connect = Connect::new(Protocol::V5, "c").login(DEVICE, format!("guess {i}"));
            assert!(answer(&broker, &connect).is_some());
        }
        let asked = tenant.count(Endpoint::Token);
        assert!((4..8).contains(&asked), "{asked}");
        expect_refusal(&broker, "'c'", "login-backoff");
        let token = token_connect(Protocol::V5, "c", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &token), None, "a token is another matter");
    }
}
