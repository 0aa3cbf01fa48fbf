//! The connection to the tenant is broken: DNS fails, connections are closed before TLS, certificates change.
//! What needs no tenant goes on, and the log explains the fault.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{Protocol, raw, raw::ConnectPacket},
    dns::{Dns, DnsFault},
    heap::Heap,
    pki::Authority,
    tenant::{Behaviour, DEVICE, Endpoint, PASSWORD, Recorded, Tenant},
};

use crate::{helpers::*, on_each_broker};

const OTHER: &str = "other";

/// The usual options with short timeouts, because these tests wait for a faulty tenant.
fn options(tenant: &Tenant) -> PluginOptions {
    PluginOptions::both(tenant)
        .without("login_cache")
        .with("timeout", "1")
}

fn tenant_with_another_device() -> Tenant {
    let tenant = tenant();
    device(&tenant, OTHER, json!(["temperature"]));
    tenant
}

fn known() -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, "known").login(DEVICE, PASSWORD)
}

fn unknown(client_id: &str) -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, client_id).login(OTHER, "pass")
}

/// Signs a device in with its password, and connects one that stays.
fn before(broker: &Mosquitto, tenant: &Tenant) -> raw::RawClient {
    broker.expect_log("signing keys were fetched");
    assert_eq!(answer(broker, &known()), None, "{}", broker.log());
    raw(broker, tenant, DEVICE, "connected", Protocol::V5)
}

/// With any fault of the tenant, connected clients stay connected, and tokens with known keys and cached
/// passwords are accepted.
#[track_caller]
fn check_tenant_independent_logins(
    broker: &Mosquitto,
    tenant: &Tenant,
    connected: &mut raw::RawClient,
) {
    assert!(connected.publish("temperature", "1", 1).unwrap() < 0x80);
    raw(broker, tenant, DEVICE, "by-token", Protocol::V5);
    assert_eq!(answer(broker, &known()), None, "{}", broker.log());
}

/// A new password is refused as "try again later", with a log line that contains `why`. The keys stay.
#[track_caller]
fn check_new_login_is_refused(version: Version, broker: &Mosquitto, client_id: &str, why: &str) {
    let mark = broker.log_mark();
    assert_eq!(
        answer(broker, &unknown(client_id)),
        expected_refusal(version, Protocol::V5, 0x88),
        "{}",
        broker.log()
    );
    // Log lines about all clients come once a minute, so the first one is the right one.
    let line = expect_refusal(broker, "", "tenant-unreachable");
    assert!(line.contains(why), "{why}: {line}");
    broker.reload();
    let line = broker.wait_for_log_after(mark, "signing keys could not be fetched", PATIENCE);
    let line = line.unwrap_or_else(|| panic!("{}", broker.log()));
    assert!(
        line.contains("last good ones stay in use") && line.contains(why),
        "{why}: {line}"
    );
}

on_each_broker! {
    /// DNS fails in each of its ways while devices are connected.
    fn dns_failures_are_temporary_refusals(version) {
        for (fault, why) in [
            (DnsFault::Unknown, "could not be reached"),
            (DnsFault::NoServer, "could not be reached"),
            (DnsFault::Hang, "did not answer"),
        ] {
            let tenant = tenant_with_another_device();
            let dns = Dns::new().unwrap();
            let broker = dns.of(builder(version, &options(&tenant))).start().unwrap();
            let mut connected = before(&broker, &tenant);
            let asked = (tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks));
            dns.fail(fault);
            tenant.hang_up();
            check_new_login_is_refused(version, &broker, "during", why);
            check_tenant_independent_logins(&broker, &tenant, &mut connected);
            assert_eq!((tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks)), asked, "{fault:?}");
            dns.behave();
            assert!(retry_until_admitted(&broker, &unknown("after")), "{fault:?}: {}", broker.log());
            assert!(broker.stop().status.unwrap().success(), "{fault:?}");
        }
    }

    /// With a wrong domain name from the start, the broker runs and logs the fault.
    fn a_nonexistent_domain_is_logged(version) {
        let tenant = tenant_with_another_device();
        let dns = Dns::new().unwrap();
        dns.fail(DnsFault::Unknown);
        let options = options(&tenant).with("domain", "no-such-tenant.invalid");
        let broker = dns.of(builder(version, &options)).start().unwrap();
        assert_eq!(answer(&broker, &unknown("by-password")), expected_refusal(version, Protocol::V5, 0x88));
        let line = expect_refusal(&broker, "'by-password'", "tenant-unreachable");
        assert!(line.contains("lookup"), "{line}");
        let line = broker.expect_log("signing keys could not be fetched");
        assert!(line.contains("no-such-tenant.invalid") && line.contains("lookup"), "{line}");
        let token = tenant.mint(DEVICE).claim("iss", "https://no-such-tenant.invalid/").sign();
        let by_token = token_connect(Protocol::V5, "by-token", &token);
        assert_eq!(answer(&broker, &by_token), expected_refusal(version, Protocol::V5, 0x88));
        expect_refusal(&broker, "'by-token'", "keys-unavailable");
        broker.reload();
        assert!(broker.stop().status.unwrap().success());

        // With keys from a file the name is not needed.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, tenant.jwks().to_string()).unwrap();
        let broker = dns.of(builder(version, &options.with("jwks_file", file.to_str().unwrap()))).start().unwrap();
        assert_eq!(answer(&broker, &by_token), None, "{}", broker.log());
        assert_eq!(answer(&broker, &unknown("by-password")), expected_refusal(version, Protocol::V5, 0x88));
    }

    /// The broker stops during a DNS lookup, with status 0, whenever the result comes.
    fn the_broker_stops_during_a_dns_lookup(version) {
        for answered in [false, true] {
            let tenant = tenant_with_another_device();
            let dns = Dns::new().unwrap();
            let broker = dns.of(builder(version, &options(&tenant).with("login_wait", "0"))).start().unwrap();
            broker.expect_log("signing keys were fetched");
            dns.fail(DnsFault::Hang);
            tenant.hang_up();
            broker.reload();
            let mut waiting = raw::RawClient::open(broker.port(), Protocol::V311);
            let mut connect = unknown("waiting");
            connect.protocol = Protocol::V311;
            waiting.send(&connect.packet());
            raw(&broker, &tenant, DEVICE, "later", Protocol::V311).ping().unwrap();
            if answered {
                broker.signal(testbed::broker::Signal::TERM);
                dns.behave();
            }
            assert!(broker.stop().status.unwrap().success(), "answered: {answered}");
        }
    }

    /// Logins in turn share a connection. One that the tenant has closed meanwhile is replaced before anything is
    /// sent, so the login is good at the first attempt, and no password is sent twice.
    fn connections_are_kept_and_replaced(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("timeout", "20"));
        broker.expect_log("signing keys were fetched");
        let login = |number: usize| {
            let name = format!("device-{number}");
            device(&tenant, &name, json!([]));
            let connect = ConnectPacket::new(Protocol::V5, &name).login(&name, "pass");
            assert_eq!(answer(&broker, &connect), None, "{number}: {}", broker.log());
        };
        (0..10).for_each(login);
        let asked = tenant.requests_to(Endpoint::Token);
        let connections = |asked: &[Recorded]| asked.iter().map(|one| one.connection).collect::<HashSet<_>>();
        // The next login may come before the worker has given the connection back.
        assert!(connections(&asked).len() < 5, "{:?}", connections(&asked));

        for number in 10..15 {
            tenant.hang_up();
            login(number);
        }
        let all = tenant.requests_to(Endpoint::Token);
        let users: HashSet<_> = all.iter().map(|one| one.field("username")).collect();
        assert_eq!((all.len(), users.len()), (15, 15), "one request for each login");
        assert_eq!(connections(&all[10..]).len(), 5);
    }

    /// A tenant that closes a kept connection when it has read the request, without a response, has the password:
    /// it is not sent again.
    fn a_password_is_not_sent_twice_over_kept_connections(version) {
        let tenant = tenant_with_another_device();
        let broker = broker(version, &options(&tenant).with("timeout", "20"));
        before(&broker, &tenant);
        for behaviour in [Behaviour::Close, Behaviour::ResetConnection] {
            let what = format!("{behaviour:?}");
            let asked = tenant.count(Endpoint::Token);
            tenant.once(Endpoint::Token, behaviour);
            assert_eq!(answer(&broker, &unknown("lost")), expected_refusal(version, Protocol::V5, 0x88), "{what}");
            assert_eq!(tenant.count(Endpoint::Token), asked + 1, "{what}");
        }
    }

    /// Connections fail before TLS, as with a firewall or a broken load balancer.
    fn failed_connections_are_temporary_refusals(version) {
        for behaviour in [
            Behaviour::Hang,
            Behaviour::ResetConnection,
            Behaviour::Close,
            Behaviour::Garbage(b"HTTP/1.0 400 Bad Request\r\n\r\n".to_vec()),
        ] {
            let tenant = tenant_with_another_device();
            let broker = broker(version, &options(&tenant));
            let mut connected = before(&broker, &tenant);
            let asked = (tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks));
            let what = format!("{behaviour:?}");
            tenant.on(Endpoint::Connection, behaviour);
            tenant.hang_up();
            check_new_login_is_refused(version, &broker, "during", "");
            check_tenant_independent_logins(&broker, &tenant, &mut connected);
            assert_eq!((tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks)), asked, "{what}");
            tenant.behave();
            assert!(retry_until_admitted(&broker, &unknown("after")), "{what}: {}", broker.log());
        }
    }

    /// The tenant's port is closed, and later open again.
    fn a_tenant_can_go_away_and_come_back(version) {
        let tenant = tenant_with_another_device();
        let broker = broker(version, &options(&tenant));
        let mut connected = before(&broker, &tenant);
        tenant.stop_listening();
        check_new_login_is_refused(version, &broker, "during", "could not be reached");
        check_tenant_independent_logins(&broker, &tenant, &mut connected);
        tenant.listen_again().unwrap();
        assert!(retry_until_admitted(&broker, &unknown("after")));
    }

    /// Faults of a request for keys. The last good keys stay in use.
    fn failed_key_requests_keep_the_last_good_keys(version) {
        let tenant = tenant();
        for behaviour in [
            Behaviour::Hang,
            Behaviour::SlowBody(Duration::from_millis(50)),
            Behaviour::ResetConnection,
            Behaviour::Close,
            Behaviour::TruncatedBody,
            Behaviour::RateLimited { retry_after: Some(60) },
            Behaviour::json(500, "{}"),
        ] {
            let what = format!("{behaviour:?}");
            // One broker for each case: the same fault is logged once.
            let broker = broker(version, &PluginOptions::tokens(&tenant).with("timeout", "1"));
            broker.expect_log("signing keys were fetched");
            tenant.on(Endpoint::Jwks, behaviour);
            broker.reload();
            let line = broker.expect_log("signing keys could not be fetched");
            assert!(line.contains("last good ones stay in use"), "{what}: {line}");
            raw(&broker, &tenant, DEVICE, "next", Protocol::V5);
            tenant.behave();
        }
    }

    /// A gigabyte in response to a login and to a request for keys: only a little of it is ever in memory.
    fn a_gigabyte_response_is_not_buffered(version) {
        let tenant = tenant_with_another_device();
        let heap = Heap::new().unwrap();
        let broker = heap.watch(builder(version, &options(&tenant).with("timeout", "20"))).start().unwrap();
        let mut connected = before(&broker, &tenant);
        let peak = heap.now().peak;
        for endpoint in [Endpoint::Token, Endpoint::Jwks] {
            tenant.on(endpoint, Behaviour::HugeBody);
        }
        check_new_login_is_refused(version, &broker, "during", "answered with more than");
        check_tenant_independent_logins(&broker, &tenant, &mut connected);
        let more = heap.now().peak - peak;
        assert!(more < 4 << 20, "{more} bytes");
    }

    /// The tenant's edge gets a new certificate. One of the same authority is accepted; one of another
    /// authority is refused, until the tenant has a trusted one again.
    fn a_tenant_certificate_of_another_authority_is_refused(version) {
        let names = ["localhost", "127.0.0.1"];
        let tenant = tenant_with_another_device();
        let broker = broker(version, &options(&tenant));
        let mut connected = before(&broker, &tenant);

        tenant.use_certificate(&tenant.authority().issue(&names));
        let mark = broker.log_mark();
        tenant.forget_requests();
        broker.reload();
        assert!(tenant.wait_for(Endpoint::Jwks, 1, PATIENCE), "the keys are fetched through it");
        assert_eq!(answer(&broker, &unknown("same-authority")), None, "{}", broker.log());

        tenant.use_certificate(&Authority::new("another authority").issue(&names));
        tenant.forget_requests();
        device(&tenant, OTHER, json!(["temperature"]));
        tenant.change_device(OTHER, |device| device.password = "new".into());
        let new = ConnectPacket::new(Protocol::V5, "another-authority").login(OTHER, "new");
        assert_eq!(answer(&broker, &new), expected_refusal(version, Protocol::V5, 0x88));
        let line = expect_refusal(&broker, "'another-authority'", "tenant-unreachable");
        assert!(line.contains("could not be trusted"), "{line}");
        broker.reload();
        let line = broker.wait_for_log_after(mark, "signing keys could not be fetched", PATIENCE).unwrap();
        assert!(line.contains("could not be trusted") && line.contains("last good ones stay in use"), "{line}");
        check_tenant_independent_logins(&broker, &tenant, &mut connected);
        assert_eq!((tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks)), (0, 0), "it was told nothing");

        tenant.use_certificate(&tenant.authority().issue(&names));
        assert!(retry_until_admitted(&broker, &new), "{}", broker.log());
    }
}
