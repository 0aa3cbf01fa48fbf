//! What happens while a CONNECT waits for the tenant: who else has to wait, and what happens to the response.
//!
//! A gate holds the tenant's responses for as long as a test wants, so nothing here depends on timing: other
//! clients cannot exchange messages with a blocked broker.

use std::time::Duration;

use serde_json::json;
use testbed::{
    broker::{Listener, Mosquitto, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket, ConnectRefusal, Will},
    },
    tenant::{Behaviour, DEVICE, Device, Endpoint, PASSWORD, ResponseGate, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// The usual options of an operator.
pub fn options(tenant: &Tenant) -> PluginOptions {
    PluginOptions::both(tenant)
        .without("login_wait")
        .without("stall_budget")
        .without("login_cache")
        .with("timeout", "20")
}

pub fn login(protocol: Protocol, client_id: &str, name: &str) -> ConnectPacket {
    ConnectPacket::new(protocol, client_id).login(name, "pass")
}

/// Starts a tenant that holds its responses, and a broker. Clients with tokens are connected already.
pub fn held(
    version: Version,
    options: impl FnOnce(PluginOptions) -> PluginOptions,
) -> (Tenant, ResponseGate, Mosquitto) {
    let tenant = tenant();
    for i in 0..50 {
        device(&tenant, &format!("d{i}"), json!(["temperature"]));
    }
    let gate = ResponseGate::new();
    tenant.on(Endpoint::Token, Behaviour::Gate(gate.clone()));
    let broker = broker(version, &options(crate::waiting::options(&tenant)));
    // With `login_wait 0` no client waits for the first keys either.
    assert!(
        broker
            .wait_for_log("signing keys were fetched", PATIENCE)
            .is_some()
    );
    (tenant, gate, broker)
}

/// Exchanges a message between two clients, which shows that the broker is alive.
pub fn talk(publisher: &mut raw::RawClient, subscriber: &mut raw::RawClient, what: &str) {
    assert!(publisher.publish("temperature", what, 1).unwrap() < 0x80);
    assert_eq!(subscriber.next_message(PATIENCE).unwrap().text(), what);
}

pub fn pair(broker: &Mosquitto, tenant: &Tenant) -> (raw::RawClient, raw::RawClient) {
    let publisher = raw(broker, tenant, DEVICE, "publisher", Protocol::V311);
    let mut subscriber = raw(broker, tenant, WATCHER, "subscriber", Protocol::V311);
    assert_eq!(subscriber.subscribe(&[("temperature", 1)]), Ok(vec![1]));
    (publisher, subscriber)
}

/// Adds a device with different rights.
fn add_other(tenant: &Tenant) {
    tenant.add_device(Device::new("other", "pass").topics(json!(["secret"])));
}

fn will(payload: &str) -> Option<Will> {
    Some(Will {
        topic: "temperature".into(),
        payload: payload.into(),
        qos: 1,
        ..Will::default()
    })
}

/// Checks that the client has the rights of d0, of `other`, or of neither.
#[track_caller]
fn has_rights(client: &mut raw::RawClient, temperature: bool, secret: bool) {
    let code = |granted| if granted { 1 } else { 0x80 };
    let failure = |code: u8| if code < 0x80 { code } else { 0x80 };
    let codes = client
        .subscribe(&[("temperature", 1), ("secret", 1)])
        .unwrap();
    let codes: Vec<u8> = codes.into_iter().map(failure).collect();
    assert_eq!(codes, [code(temperature), code(secret)]);
}

/// Sends a CONNECT and does not wait for the CONNACK.
pub fn send_connect(broker: &Mosquitto, connect: &ConnectPacket) -> raw::RawClient {
    let mut client = raw::RawClient::open(broker.port(), connect.protocol);
    client.send(&connect.packet());
    client
}

on_each_broker! {
    /// On 2.1 fifty sign-ins wait while other clients exchange messages. On 2.0 they are refused at once, and
    /// admitted from the login cache when they try again, with one request to the tenant each.
    fn fifty_sign_ins_do_not_block_other_clients(version) {
        // One address may use fifty of this many threads.
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("login_workers", "128"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let connects: Vec<_> = (0..50).map(|i| login(Protocol::V311, &format!("c{i}"), &format!("d{i}"))).collect();
        let mut clients: Vec<_> = connects.iter().map(|connect| send_connect(&broker, connect)).collect();
        assert!(gate.wait_for(50, PATIENCE), "all fifty are asked about");
        talk(&mut publisher, &mut subscriber, "while they wait");

        if version.can_delay_logins() {
            gate.open();
            for client in &mut clients {
                assert_eq!(client.wait_connack(PATIENCE), Ok(()));
            }
        } else {
            for client in &mut clients {
                assert_eq!(client.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
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

    /// A device with a cached login needs no tenant: neither when it reconnects, nor when Auth0 is
    /// unreachable.
    fn a_successful_login_is_cached(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let connect = ConnectPacket::new(Protocol::V311, "c").login(DEVICE, PASSWORD);
        let mut first = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(first.publish("temperature", "1", 1), Ok(0));
        tenant.stop_listening();
        for _ in 0..3 {
            assert_eq!(answer(&broker, &connect), None);
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
        let wrong = ConnectPacket::new(Protocol::V311, "c").login(DEVICE, "another");
        assert!(answer(&broker, &wrong).is_some(), "of this password nothing is known");
    }

    /// Without a login cache, the result for a device that was refused meanwhile is used once.
    fn without_a_cache_a_late_result_is_used_once(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("login_cache", "0"));
        let connect = login(Protocol::V5, "c", "d0");
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x89));
        gate.release(1);
        assert!(retry_until_admitted(&broker, &connect));
        assert_eq!(tenant.count(Endpoint::Token), 1);
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x89), "asked again");
        assert!(gate.wait_for(1, PATIENCE));
        assert_eq!(tenant.count(Endpoint::Token), 2);
        gate.open();
    }

    /// A wrong password is not sent twice in a row.
    fn a_wrong_password_is_cached_briefly(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        for _ in 0..5 {
            let wrong = ConnectPacket::new(Protocol::V5, "c").login(DEVICE, "wrong");
            assert_eq!(answer(&broker, &wrong), expected_refusal(version, Protocol::V5, 0x86));
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
        let right = ConnectPacket::new(Protocol::V5, "c").login(DEVICE, PASSWORD);
        assert_eq!(answer(&broker, &right), None);
    }

    /// Many simultaneous logins with the same credential cause one request.
    fn simultaneous_logins_with_one_credential_share_a_request(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let connect = |i| send_connect(&broker, &login(Protocol::V311, &format!("c{i}"), "d0"));
        let mut clients: Vec<_> = (0..20).map(connect).collect();
        assert!(gate.wait_for(1, PATIENCE));
        if !version.can_delay_logins() {
            for client in &mut clients {
                assert_eq!(client.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
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

    /// MQTT 5 is not delayed by default: in 2.1.2 a client that closes the connection while it waits can
    /// crash the broker.
    fn mqtt5_is_delayed_only_if_configured(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("delay_mqtt5", "true"));
        let mut client = send_connect(&broker, &login(Protocol::V5, "c", "d0"));
        assert!(gate.wait_for(1, PATIENCE));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        talk(&mut publisher, &mut subscriber, "alive");
        gate.open();
        let told = if version.can_delay_logins() { Ok(()) } else { Err(ConnectRefusal::Code(0x87)) };
        assert_eq!(client.wait_connack(PATIENCE), told);

        let (_tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let connect = login(Protocol::V5, "c", "d0");
        assert_eq!(answer(&broker, &connect), crate::helpers::expected_refusal(version, Protocol::V5, 0x89));
        gate.open();
    }

    /// A client that closes the connection while it waits leaves nothing behind: neither a will nor rights.
    fn a_client_that_hangs_up_while_waiting_leaves_no_will_and_no_rights(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let mut connect = login(Protocol::V311, "gone", "d0");
        connect.will = Some(Will { topic: "temperature".into(), payload: b"will".to_vec(), qos: 1, ..Will::default() });
        send_connect(&broker, &connect).abort();
        assert!(gate.wait_for(1, PATIENCE));
        talk(&mut publisher, &mut subscriber, "no will came before this");
        gate.open();
        // The result finds no client, and the next client with that ID is authenticated by itself.
        let wrong = ConnectPacket::new(Protocol::V311, "gone").login("d0", "wrong");
        assert_eq!(answer(&broker, &wrong), Some(ConnectRefusal::Code(5)));
        connect.will = None;
        assert!(retry_until_admitted(&broker, &connect));
        talk(&mut publisher, &mut subscriber, "nor after");
        assert!(broker.stop().status.unwrap().success());
    }

    /// A device with a kept session that closes the connection while it waits to come back loses nothing.
    fn hanging_up_while_waiting_keeps_the_session(version) {
        let tenant = tenant();
        device(&tenant, "d0", json!(["temperature"]));
        let broker = broker(version, &options(&tenant).with("login_cache", "0").with("stall_budget", "100"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let mut connect = login(Protocol::V311, "kept", "d0");
        connect.clean = false;
        let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(client.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        client.disconnect(0);
        talk(&mut publisher, &mut subscriber, "first");

        let gate = ResponseGate::new();
        tenant.once(Endpoint::Token, Behaviour::Gate(gate.clone()));
        if version.can_delay_logins() {
            send_connect(&broker, &connect).abort();
            assert!(gate.wait_for(1, PATIENCE));
        }
        gate.open();
        // Results come in order, so the first one has come when this client is admitted.
        let other = login(Protocol::V311, "other", "d0");
        assert!(retry_until_admitted(&broker, &other));
        talk(&mut publisher, &mut subscriber, "second");
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut client = loop {
            match raw::RawClient::connect(broker.port(), &connect) {
                Ok(client) => break client,
                // On 2.1 it may not wait if it has a session.
                Err(refusal) => assert_eq!(refusal, ConnectRefusal::Code(5)),
            }
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(client.session_present);
        let mut got = vec![client.next_message(PATIENCE).unwrap().text()];
        if got[0] == "first" {
            got.push(client.next_message(PATIENCE).unwrap().text());
        }
        assert_eq!(got.last().map(String::as_str), Some("second"));
    }

    /// The result for a client that closed its connection is not used for the next one with its ID, who may
    /// not wait.
    fn a_result_is_only_used_for_the_client_that_asked(version) {
        if !version.can_delay_logins() {
            return;
        }
        let (tenant, _, broker) = held(version, |options| options);
        let first = ResponseGate::new();
        tenant.behave();
        tenant.once(Endpoint::Token, Behaviour::Gate(first.clone()));
        add_other(&tenant);
        send_connect(&broker, &login(Protocol::V311, "same", "d0")).abort();
        assert!(first.wait_for(1, PATIENCE));
        let wrong = ConnectPacket::new(Protocol::V311, "same").login("other", "wrong");
        assert_eq!(answer(&broker, &wrong), Some(ConnectRefusal::Code(5)));
        // The first result is a success. No other client must get it.
        first.open();
        assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", "d0")));
        assert_eq!(answer(&broker, &wrong), Some(ConnectRefusal::Code(5)));
        expect_refusal(&broker, "'same'", "login-refused");
        assert!(!broker.log().contains(" as same ("), "{}", broker.log());
    }

    /// A connected client stays until the client that takes over is authenticated, which has to come back for
    /// that.
    fn a_takeover_succeeds_on_a_later_try(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("takeover", "any").with("login_wait", "0"));
        let mut old = raw(&broker, &tenant, WATCHER, "same", Protocol::V311);
        assert_eq!(old.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        assert_eq!(answer(&broker, &login(Protocol::V311, "same", "d0")), Some(ConnectRefusal::Code(5)));
        assert!(gate.wait_for(1, PATIENCE));
        let mut publisher = raw(&broker, &tenant, DEVICE, "publisher", Protocol::V311);
        talk(&mut publisher, &mut old, "the old one is still here");
        gate.open();
        assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", "d0")));
        let mut new = raw::RawClient::connect(broker.port(), &login(Protocol::V311, "same", "d0")).unwrap();
        assert!(old.wait_end(PATIENCE).is_ok());
        assert_eq!(new.publish("temperature", "1", 1), Ok(0));
        assert_eq!(new.subscribe(&[("#", 1)]), Ok(vec![0x80]), "its own rights, not the old one's");
    }

    /// SIGHUP and shutdown with responses on the way.
    fn sighup_and_shutdown_work_while_clients_wait(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("timeout", "2"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let mut client = send_connect(&broker, &login(Protocol::V311, "c", "d0"));
        assert!(gate.wait_for(1, PATIENCE));
        broker.sighup();
        talk(&mut publisher, &mut subscriber, "nobody was dropped");
        if version.can_delay_logins() {
            gate.release(1);
            assert_eq!(client.wait_connack(PATIENCE), Ok(()));
        }
        broker.expect_log("Reloading config");
        talk(&mut publisher, &mut subscriber, "still nobody");
        let _last = send_connect(&broker, &login(Protocol::V311, "c2", "d1"));
        assert!(gate.wait_for(1, PATIENCE));
        // One more, which never takes effect.
        broker.sighup();
        assert!(broker.stop().status.unwrap().success());
    }

    /// 2.1 handles a SIGHUP when no client waits, because it would misuse memory if one closed its connection
    /// just then. Clients that connect meanwhile are served as on 2.0, and afterwards as before.
    fn sighup_is_delayed_while_clients_wait(version) {
        if !version.can_delay_logins() {
            return;
        }
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let connect = |i| send_connect(&broker, &login(Protocol::V311, &format!("c{i}"), &format!("d{i}")));
        let mut waiting: Vec<_> = (0..5).map(connect).collect();
        assert!(gate.wait_for(5, PATIENCE));
        let mark = broker.log_mark();
        broker.sighup();
        assert!(broker.wait_for_log_after(mark, "SIGHUP is delayed until", PATIENCE).is_some());
        let meanwhile = login(Protocol::V311, "meanwhile", "d5");
        assert_eq!(answer(&broker, &meanwhile), Some(ConnectRefusal::Code(5)), "turned away, and asked about");
        assert!(gate.wait_for(6, PATIENCE));
        let mut by_token = raw(&broker, &tenant, DEVICE, "by-token", Protocol::V311);
        has_rights(&mut by_token, true, false);
        talk(&mut publisher, &mut subscriber, "the broker goes on");
        assert!(!broker.log().contains("Reloading config"), "it waits");

        gate.release(6);
        for client in &mut waiting {
            assert_eq!(client.wait_connack(PATIENCE), Ok(()));
        }
        broker.expect_log("Reloading config");
        assert!(retry_until_admitted(&broker, &meanwhile));
        assert_eq!(tenant.count(Endpoint::Token), 6, "nobody was asked about twice");
        for client in &mut waiting {
            has_rights(client, true, false);
        }
        // A client that connects now may wait again.
        let mut later = send_connect(&broker, &login(Protocol::V311, "later", "d6"));
        assert!(gate.wait_for(1, PATIENCE));
        talk(&mut publisher, &mut subscriber, "and nobody else waits");
        gate.open();
        assert_eq!(later.wait_connack(PATIENCE), Ok(()));
    }

    /// Clients whose logins the tenant never answers delay a SIGHUP for as long as they may wait, and no
    /// longer, even when more and more come.
    fn sighup_takes_effect_despite_new_waiting_clients(version) {
        let (_tenant, gate, broker) = held(version, |options| options.with("timeout", "1").with("login_wait", "0"));
        let mark = broker.log_mark();
        let connect = |i| send_connect(&broker, &login(Protocol::V311, &format!("c{i}"), &format!("d{i}")));
        let waiting: Vec<_> = (0..5).map(connect).collect();
        assert!(gate.wait_for(5, PATIENCE));
        broker.sighup();
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut crowd = Vec::new();
        while broker.wait_for_log_after(mark, "Reloading config", Duration::from_millis(20)).is_none() {
            assert!(std::time::Instant::now() < deadline, "it never comes");
            let number = crowd.len();
            crowd.push(send_connect(&broker, &login(Protocol::V311, &format!("more {number}"), &format!("nobody {number}"))));
        }
        gate.open();
        drop(waiting);
        assert!(broker.stop().status.unwrap().success());
    }

    /// In a daemon with the plugin at two listeners and without clients, every SIGHUP takes effect.
    fn sighup_takes_effect_on_an_idle_broker(version) {
        let tenant = tenant();
        let options = options(&tenant);
        let listener = || Listener::tcp().plugin(plugin(), &options.pairs());
        for daemon in [false, true] {
            let broker = Mosquitto::builder(version).per_listener_settings(true).daemon(daemon);
            let broker = broker.listener(listener()).listener(listener()).start().unwrap();
            for _ in 0..3 {
                broker.reload();
            }
            broker.stop();
        }
    }

    /// Where the broker itself must wait, it does so for at most a fifth of its time, however many clients
    /// sign in; other clients exchange messages in the rest. Without a budget they would exchange one message
    /// a second.
    fn a_storm_of_sign_ins_blocks_the_broker_a_fifth_of_the_time(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_rate", "1000"));
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let done = std::sync::atomic::AtomicBool::new(false);
        let mut words = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut knocking = std::collections::VecDeque::new();
                // Each uses another user, and no login is ever answered.
                for i in 0.. {
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let connect = login(Protocol::V5, &format!("c{i}"), &format!("nobody{i}"));
                    knocking.push_back(send_connect(&broker, &connect));
                    if knocking.len() > 20 {
                        let _ = knocking.pop_front().map(|mut first| first.wait_connack(PATIENCE));
                    }
                }
            });
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_secs(6) {
                words += 1;
                talk(&mut publisher, &mut subscriber, &words.to_string());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        gate.open();
        assert!(words > 100, "{words} words in six seconds");
        expect_refusal(&broker, "", "login-pending");
    }

    /// No client waits for ever: at the deadline it gets a CONNACK.
    fn a_waiting_client_gets_an_answer_at_its_deadline(version) {
        let (_tenant, gate, broker) = held(version, |options| options.with("timeout", "1").with("login_wait", "5").with("stall_budget", "100"));
        assert_eq!(answer(&broker, &login(Protocol::V311, "c", "d0")), Some(ConnectRefusal::Code(5)));
        expect_refusal(&broker, "'c'", "tenant-unreachable");
        gate.open();
        assert!(retry_until_admitted(&broker, &login(Protocol::V311, "c", "d0")));
    }

    /// A token with a new key waits for the keys, and the client gets the user name that the token states.
    fn a_token_with_an_unknown_key_waits_for_the_keys(version) {
        let tenant = tenant();
        let gate = ResponseGate::new();
        tenant.once(Endpoint::Jwks, Behaviour::Gate(gate.clone()));
        let broker = broker(version, &options(&tenant).with("login_wait", "20").with("stall_budget", "100"));
        assert!(gate.wait_for(1, PATIENCE));
        let mut client = send_connect(&broker, &token_connect(Protocol::V311, "early", &tenant.token(DEVICE)));
        gate.open();
        assert_eq!(client.wait_connack(PATIENCE), Ok(()));
        let sub = tenant.device(DEVICE).unwrap().user_id;
        assert!(broker.wait_for_log("as early (", PATIENCE).unwrap().contains(&format!("u'{sub}'")));
        assert_eq!(client.publish("temperature", "1", 1), Ok(0));
    }

    /// The tenant's rate limit is respected, whatever the devices do.
    fn the_login_rate_is_respected(version) {
        let tenant = tenant();
        for i in 0..80 {
            device(&tenant, &format!("d{i}"), json!(["temperature"]));
        }
        let broker = broker(version, &options(&tenant).with("login_rate", "1").with("stall_budget", "100"));
        assert!(broker.wait_for_log("signing keys were fetched", PATIENCE).is_some());
        let admitted = (0..80).filter(|i| answer(&broker, &login(Protocol::V5, &format!("c{i}"), &format!("d{i}"))).is_none());
        // A minute's worth at once, half of which is for returning devices; one address may use four fifths
        // of the rest. Plus what is gained meanwhile.
        let admitted = admitted.count();
        assert!((24..40).contains(&admitted), "{admitted}");
        assert_eq!(tenant.count(Endpoint::Token), admitted);
        expect_refusal(&broker, "", "login-rate");
    }

    /// `Retry-After` may be a date, and applies to all devices.
    fn retry_after_with_a_date_is_respected(version) {
        let tenant = tenant();
        device(&tenant, "other", json!([]));
        let broker = broker(version, &options(&tenant));
        let date = vec![("Retry-After".into(), "Fri, 31 Dec 9999 23:59:59 GMT".into())];
        let throttled = Behaviour::RateLimited { retry_after: None };
        tenant.once(Endpoint::Token, throttled.then(Behaviour::ExtraHeaders(date)));
        for name in [DEVICE, "other"] {
            let refusal = expected_refusal(version, Protocol::V5, 0x89);
            assert_eq!(answer(&broker, &login(Protocol::V5, name, name)), refusal);
        }
        assert!(expect_refusal(&broker, "", "login-throttled").contains("9999"));
        assert_eq!(tenant.count(Endpoint::Token), 1);
    }

    /// `Retry-After` applies to all devices.
    fn retry_after_is_respected(version) {
        let tenant = tenant();
        device(&tenant, "other", json!([]));
        let broker = broker(version, &options(&tenant));
        tenant.once(Endpoint::Token, Behaviour::RateLimited { retry_after: Some(3600) });
        for name in [DEVICE, "other", DEVICE] {
            let refusal = expected_refusal(version, Protocol::V5, 0x89);
            assert_eq!(answer(&broker, &login(Protocol::V5, name, name)), refusal);
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
    }

    /// A tenant with errors is not asked by every client all the time.
    fn the_circuit_breaker_limits_requests_to_a_failing_tenant(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("stall_budget", "100"));
        tenant.on(Endpoint::Token, Behaviour::Html(502));
        for i in 0..50 {
            let connect = login(Protocol::V5, &format!("c{i}"), DEVICE);
            assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x88));
        }
        let asked = tenant.count(Endpoint::Token);
        assert!((5..10).contains(&asked), "{asked}");
        tenant.behave();
        let connect = ConnectPacket::new(Protocol::V5, "c").login(DEVICE, PASSWORD);
        assert!(retry_until_admitted(&broker, &connect));
    }

    /// A device that guesses passwords is slowed down here, long before Auth0 would lock it.
    fn lockout_protection_slows_a_device_with_a_wrong_password(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("stall_budget", "100"));
        for i in 0..20 {
            let connect = ConnectPacket::new(Protocol::V5, "c").login(DEVICE, format!("guess {i}"));
            assert!(answer(&broker, &connect).is_some());
        }
        let asked = tenant.count(Endpoint::Token);
        assert_eq!(asked, 3, "three at once; the next after ten seconds");
        expect_refusal(&broker, "'c'", "login-backoff");
        let token = token_connect(Protocol::V5, "c", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &token), None, "a token is another matter");
    }

    /// Two clients with the same ID at once. 2.1 refuses the second while the first waits; 2.0 refuses both
    /// while their requests run. In both cases each gets its own result and its own rights.
    fn two_clients_with_one_id_get_their_own_results(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("takeover", "any"));
        add_other(&tenant);
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        let with_will = |name: &str| {
            let mut connect = login(Protocol::V311, "same", name);
            connect.will = will(name);
            connect
        };
        let mut first = send_connect(&broker, &with_will("d0"));
        assert!(gate.wait_for(1, PATIENCE));
        for _ in 0..3 {
            assert!(answer(&broker, &with_will("other")).is_some());
        }
        talk(&mut publisher, &mut subscriber, "no will came before this");
        if version.can_delay_logins() {
            assert_eq!(tenant.count(Endpoint::Token), 1, "the second was never asked about");
            gate.open();
            assert_eq!(first.wait_connack(PATIENCE), Ok(()));
        } else {
            assert_eq!(first.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
            assert!(gate.wait_for(2, PATIENCE));
            gate.open();
            assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", "d0")));
            first = raw::RawClient::connect(broker.port(), &login(Protocol::V311, "same", "d0")).unwrap();
        }
        has_rights(&mut first, true, false);
        assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", "other")));
        // A normal takeover, by a client with other rights.
        let mut second = raw::RawClient::connect(broker.port(), &login(Protocol::V311, "same", "other")).unwrap();
        assert!(first.wait_end(PATIENCE).is_ok());
        has_rights(&mut second, false, true);
    }

    /// The first client closes the connection, and another one connects with its ID: it gets neither the
    /// first one's success or refusal nor its rights.
    fn another_user_with_the_same_client_id_gets_its_own_result(version) {
        for first_is_right in [true, false] {
            for by_token in [true, false] {
                let (tenant, _, broker) = held(version, |options| options.with("login_wait", "0"));
                add_other(&tenant);
                let (mut publisher, mut subscriber) = pair(&broker, &tenant);
                let (first_gate, second_gate) = (ResponseGate::new(), ResponseGate::new());
                tenant.behave();
                tenant.once(Endpoint::Token, Behaviour::Gate(first_gate.clone()));
                tenant.once(Endpoint::Token, Behaviour::Gate(second_gate.clone()));
                let password = if first_is_right { "pass" } else { "wrong" };
                let mut connect = ConnectPacket::new(Protocol::V311, "same").login("d0", password);
                connect.will = will("of the first");
                send_connect(&broker, &connect).abort();
                assert!(first_gate.wait_for(1, PATIENCE));
                let connect = match by_token {
                    true => token_connect(Protocol::V311, "same", &tenant.token("other")),
                    false => login(Protocol::V311, "same", "other"),
                };
                let mut second = send_connect(&broker, &connect);
                if by_token {
                    assert_eq!(second.wait_connack(PATIENCE), Ok(()));
                    has_rights(&mut second, false, true);
                    second_gate.open();
                } else {
                    assert_eq!(second.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
                    assert!(second_gate.wait_for(1, PATIENCE));
                }
                first_gate.open();
                // Results come in order, so the first client's result was delivered when a later one was.
                if first_is_right {
                    assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", "d0")));
                }
                let probe = login(Protocol::V311, "probe", "d1");
                assert!(retry_until_admitted(&broker, &probe));
                if !by_token {
                    second_gate.open();
                    assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", "other")));
                    second = raw::RawClient::connect(broker.port(), &connect).unwrap();
                }
                has_rights(&mut second, false, true);
                talk(&mut publisher, &mut subscriber, "no will came before this");
            }
        }
    }

    /// The broker frees a client that closes the connection while it waits, and reuses its address for
    /// another client. That client keeps its own rights when the result for the one before comes, whether
    /// success or refusal.
    fn hanging_up_does_not_affect_a_client_at_the_same_memory_address(version) {
        for password in ["pass", "wrong"] {
            let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
            let mark = broker.log_mark();
            send_connect(&broker, &ConnectPacket::new(Protocol::V311, "gone").login("d0", password)).abort();
            assert!(gate.wait_for(1, PATIENCE));
            if version.can_delay_logins() {
                assert!(broker.wait_for_log_after(mark, "Client gone [", PATIENCE).is_some());
            }
            let connect = |i| raw(&broker, &tenant, DEVICE, &format!("other{i}"), Protocol::V311);
            let mut others: Vec<_> = (0..10).map(connect).collect();
            gate.open();
            for name in ["d1", "d2"] {
                assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", name)));
            }
            for other in &mut others {
                has_rights(other, true, false);
            }
        }
    }

    /// The will of a client that was never admitted is never sent: neither after a refusal, nor after a
    /// timeout, nor after it closed the connection while waiting.
    fn the_will_of_a_client_never_admitted_is_not_sent(version) {
        for (protocol, delayed) in [(Protocol::V311, "false"), (Protocol::V5, "false"), (Protocol::V5, "true")] {
            let tenant = tenant();
            device(&tenant, "d0", json!(["temperature"]));
            let options = options(&tenant).with("timeout", "1").with("login_wait", "1").with("stall_budget", "100");
            let broker = broker(version, &options.with("delay_mqtt5", delayed));
            broker.expect_log("signing keys were fetched");
            let (mut publisher, mut subscriber) = pair(&broker, &tenant);
            let connect = |id: &str, password: &str| {
                let mut connect = ConnectPacket::new(protocol, id).login("d0", password);
                connect.will = will(id);
                connect
            };
            let refused = answer(&broker, &connect("refused", "wrong"));
            assert!(matches!(refused, Some(ConnectRefusal::Code(_))), "{refused:?}");
            tenant.on(Endpoint::Token, Behaviour::Hang);
            let late = answer(&broker, &connect("late", "pass"));
            assert!(matches!(late, Some(ConnectRefusal::Code(_))), "{late:?}");
            let gate = ResponseGate::new();
            tenant.on(Endpoint::Token, Behaviour::Gate(gate.clone()));
            // Refused in the end: the will of a client that was admitted and closed the connection would
            // rightly be sent.
            send_connect(&broker, &connect("gone", "wrong too")).abort();
            assert!(gate.wait_for(1, PATIENCE));
            gate.open();
            tenant.behave();
            assert!(retry_until_admitted(&broker, &ConnectPacket::new(protocol, "probe").login("d0", "pass")));
            talk(&mut publisher, &mut subscriber, "no will came before this");
            let mut stays = send_connect(&broker, &connect("stays", "pass"));
            assert_eq!(stays.wait_connack(PATIENCE), Ok(()));
            stays.abort();
            assert_eq!(subscriber.next_message(PATIENCE).unwrap().text(), "stays", "of one that was in");
            assert!(broker.stop().status.unwrap().success());
        }
    }

    /// A takeover that fails leaves the connected client as it is, with its rights.
    fn a_failed_takeover_leaves_the_connected_client(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let mut old = raw(&broker, &tenant, WATCHER, "same", Protocol::V311);
        let mut publisher = raw(&broker, &tenant, DEVICE, "publisher", Protocol::V311);
        assert_eq!(old.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let mut refused = send_connect(&broker, &ConnectPacket::new(Protocol::V311, "same").login("d0", "wrong"));
        assert!(gate.wait_for(1, PATIENCE));
        talk(&mut publisher, &mut old, "while it waits");
        gate.release(1);
        assert_eq!(refused.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
        talk(&mut publisher, &mut old, "after it was refused");

        let mut gone = login(Protocol::V311, "same", "d1");
        gone.will = will("of one that waited");
        send_connect(&broker, &gone).abort();
        assert!(gate.wait_for(1, PATIENCE));
        gate.open();
        for name in ["d1", "d2"] {
            assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", name)));
        }
        talk(&mut publisher, &mut old, "after one had hung up");
        has_rights(&mut old, true, true);
    }

    /// Repeated SIGHUPs while twenty clients wait: each gets its own result.
    fn waiting_clients_get_their_own_results_despite_sighups(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        add_other(&tenant);
        let connect = |i| send_connect(&broker, &login(Protocol::V311, &format!("c{i}"), &format!("d{i}")));
        let mut knocking: Vec<_> = (0..20).map(connect).collect();
        let mut other = send_connect(&broker, &login(Protocol::V311, "other", "other"));
        assert!(gate.wait_for(21, PATIENCE));
        // 2.1 handles it when all waiting clients have their result.
        let sighup = || if version.can_delay_logins() { broker.sighup() } else { broker.reload() };
        sighup();
        gate.release(10);
        sighup();
        gate.open();
        broker.reload();
        if !version.can_delay_logins() {
            for (i, client) in knocking.iter_mut().enumerate() {
                assert_eq!(client.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
                let name = format!("d{i}");
                assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", &name)));
                *client = send_connect(&broker, &login(Protocol::V311, &format!("c{i}"), &name));
            }
            assert!(retry_until_admitted(&broker, &login(Protocol::V311, "probe", "other")));
            other = send_connect(&broker, &login(Protocol::V311, "other", "other"));
        }
        for client in &mut knocking {
            assert_eq!(client.wait_connack(PATIENCE), Ok(()));
            has_rights(client, true, false);
        }
        assert_eq!(other.wait_connack(PATIENCE), Ok(()));
        has_rights(&mut other, false, true);
        assert_eq!(tenant.count(Endpoint::Token), 21);
    }

    /// The broker is stopped while twenty responses arrive.
    fn the_broker_stops_cleanly_while_responses_arrive(version) {
        let (_tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let clients: Vec<_> = (0..20)
            .map(|i| {
                let mut connect = login(Protocol::V311, &format!("c{i}"), &format!("d{i}"));
                connect.will = will("of one that waits");
                send_connect(&broker, &connect)
            })
            .collect();
        assert!(gate.wait_for(20, PATIENCE));
        broker.signal(testbed::broker::Signal::TERM);
        gate.open();
        assert!(broker.stop().status.unwrap().success());
        drop(clients);
    }
}
