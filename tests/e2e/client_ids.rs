//! Attackers who know only a device's client ID cannot keep it out: at no rate, from no number of addresses,
//! however slow the tenant is.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket, ConnectRefusal},
    },
    tenant::{Behaviour, DEVICE, Endpoint, PASSWORD, ResponseGate, Tenant},
};

use crate::{
    helpers::*,
    on_each_broker,
    waiting::{held, login, options, send_connect},
};

const TRIES: usize = 60;

/// Returns a CONNECT with an unknown user and password.
fn junk(client_id: &str, number: usize) -> ConnectPacket {
    ConnectPacket::new(Protocol::V311, client_id).login(format!("nobody {number}"), "junk")
}

/// Sends junk from these addresses, a CONNECT every few milliseconds each and without waiting for the
/// CONNACKs, while the closure runs. Also returns how many were sent.
fn while_sending<T>(
    broker: &Mosquitto,
    client_id: &str,
    hosts: &[u8],
    device: impl FnOnce(&AtomicUsize) -> T,
) -> (T, usize) {
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let tried = thread::scope(|scope| {
        for &host in hosts {
            let (done, sent) = (&done, &sent);
            scope.spawn(move || {
                let mut open = std::collections::VecDeque::new();
                while !done.load(Ordering::Relaxed) {
                    let connect = junk(client_id, sent.fetch_add(1, Ordering::Relaxed));
                    let mut client =
                        raw::RawClient::open_from(host, broker.port(), connect.protocol);
                    client.send(&connect.packet());
                    open.push_back(client);
                    if open.len() > 20 {
                        open.pop_front();
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let tried = device(&sent);
        done.store(true, Ordering::Relaxed);
        tried
    });
    (tried, sent.load(Ordering::Relaxed))
}

/// Returns how many tries were admitted at once, with junk before each, and the longest time that one took.
fn tries(broker: &Mosquitto, connect: &ConnectPacket, sent: &AtomicUsize) -> (usize, Duration) {
    let mut longest = Duration::ZERO;
    let admitted = (0..TRIES)
        .filter(|_| {
            let before = sent.load(Ordering::Relaxed);
            while sent.load(Ordering::Relaxed) < before + 10 {
                thread::sleep(Duration::from_millis(1));
            }
            let began = Instant::now();
            let client = raw::RawClient::connect(broker.port(), connect);
            longest = longest.max(began.elapsed());
            if let Ok(client) = client {
                client.disconnect(0);
                return true;
            }
            false
        })
        .count();
    (admitted, longest)
}

/// A returning device is admitted on every first try, with its token and with a cached password.
fn gets_in(version: Version, latency: Duration, hosts: &[u8]) {
    let tenant = tenant();
    let broker = broker(version, &options(&tenant));
    broker.expect_log("signing keys were fetched");
    let by_token = token_connect(Protocol::V311, "mine", &tenant.token(DEVICE));
    let by_password = ConnectPacket::new(Protocol::V311, "mine").login(DEVICE, PASSWORD);
    assert_eq!(answer(&broker, &by_token), None);
    assert!(retry_until_admitted(&broker, &by_password));
    tenant.on(Endpoint::Token, Behaviour::Delay(latency));
    for (what, connect) in [("token", &by_token), ("remembered password", &by_password)] {
        let ((admitted, longest), sent) =
            while_sending(&broker, "mine", hosts, |sent| tries(&broker, connect, sent));
        eprintln!(
            "{version}, tenant {latency:?}, {} addresses, {what}: {admitted} of {TRIES} first tries, longest {longest:?}, beside {sent} junk logins",
            hosts.len()
        );
        assert_eq!(admitted, TRIES, "{what}\n{}", broker.log());
    }
    assert!(!broker.log().contains("client-id-pending"));
}

/// Makes the tenant hold its responses.
fn hold(tenant: &Tenant) -> ResponseGate {
    let gate = ResponseGate::new();
    tenant.on(Endpoint::Token, Behaviour::Gate(gate.clone()));
    gate
}

on_each_broker! {
    fn a_device_is_admitted_despite_one_attacker_and_a_fast_tenant(version) {
        gets_in(version, Duration::from_millis(300), &[66]);
    }

    fn a_device_is_admitted_despite_many_attackers_and_a_fast_tenant(version) {
        gets_in(version, Duration::from_millis(300), &[61, 62, 63, 64, 65, 66]);
    }

    fn a_device_is_admitted_despite_one_attacker_and_a_slow_tenant(version) {
        gets_in(version, Duration::from_secs(4), &[66]);
    }

    fn a_device_is_admitted_despite_many_attackers_and_a_slow_tenant(version) {
        gets_in(version, Duration::from_secs(4), &[61, 62, 63, 64, 65, 66]);
    }

    /// Nobody knows yet who owns a client ID that has not been used. One login may wait for the tenant under
    /// it and keeps others out meanwhile, which the log says. After that no login may wait.
    fn one_login_may_wait_under_a_new_client_id(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0"));
        let device = token_connect(Protocol::V311, "new", &tenant.token(DEVICE));
        let mut first = send_connect(&broker, &junk("new", 0));
        assert!(gate.wait_for(1, PATIENCE));
        if version.can_delay_logins() {
            for _ in 0..3 {
                assert_eq!(answer(&broker, &device), Some(ConnectRefusal::Closed), "it is not asked about");
            }
            let line = expect_refusal(&broker, "'new'", "client-id-pending");
            assert!(line.contains("from '127.0.0.1'"), "{line}");
            assert_eq!(broker.log().matches("client-id-pending").count(), 1, "a line a minute");
        }
        gate.open();
        assert_eq!(first.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
        let _gate = hold(&tenant);
        let ((admitted, _), _) = while_sending(&broker, "new", &[66], |sent| tries(&broker, &device, sent));
        assert_eq!(admitted, TRIES, "{}", broker.log());
    }

    /// A returning device whose password is no longer cached is refused once and admitted when it comes back.
    /// Under a new client ID it waits, on 2.1.
    fn returning_client_is_admitted_on_first_retry(version) {
        let (tenant, gate, broker) = held(version, |options| options.with("login_wait", "0").with("login_cache", "0"));
        device(&tenant, "d0", json!(["temperature"]));
        let connect = login(Protocol::V311, "c", "d0");
        let mut first = send_connect(&broker, &connect);
        assert!(gate.wait_for(1, PATIENCE));
        gate.release(1);
        if version.can_delay_logins() {
            assert_eq!(first.wait_connack(PATIENCE), Ok(()));
        } else {
            assert_eq!(first.wait_connack(PATIENCE), Err(ConnectRefusal::Code(5)));
            assert!(retry_until_admitted(&broker, &connect));
        }
        first.disconnect(0);
        assert_eq!(answer(&broker, &connect), Some(ConnectRefusal::Code(5)));
        expect_refusal(&broker, "'c'", "login-pending");
        gate.open();
        assert!(retry_until_admitted(&broker, &connect));
        assert_eq!(tenant.count(Endpoint::Token), 2, "asked about once each time");
    }
}
