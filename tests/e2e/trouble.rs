//! The way to the tenant is broken: names that cannot be resolved, connections that end before a word
//! is said, certificates that change. What needs no tenant goes on, and a clear line says what is wrong.

use std::time::Duration;

use serde_json::json;
use testbed::{
    broker::{Broker, Version},
    clients::{Protocol, raw, raw::Connect},
    heap::Heap,
    names::{Fault, Names},
    pki::Authority,
    tenant::{Behaviour, DEVICE, Endpoint, PASSWORD, Tenant},
};

use crate::{on_each_broker, setting::*};

const OTHER: &str = "other";

/// As an operator has it, and impatient: waits for a broken tenant are waited out here.
fn options(tenant: &Tenant) -> Options {
    Options::both(tenant)
        .without("login_cache")
        .with("timeout", "1")
}

fn tenant_with_another_device() -> Tenant {
    let tenant = tenant();
    device(&tenant, OTHER, json!(["temperature"]));
    tenant
}

fn known() -> Connect {
    Connect::new(Protocol::V5, "known").login(DEVICE, PASSWORD)
}

fn unknown(client_id: &str) -> Connect {
    Connect::new(Protocol::V5, client_id).login(OTHER, "pass")
}

/// A device that has signed in with its password before, and one that will stay.
fn before(broker: &Broker, tenant: &Tenant) -> raw::Client {
    broker.expect_log("signing keys are here");
    assert_eq!(answer(broker, &known()), None, "{}", broker.log());
    raw(broker, tenant, DEVICE, "connected", Protocol::V5)
}

/// Whatever is wrong with the tenant: who is in stays in, tokens of known keys are let in, and so are
/// passwords that were good before.
#[track_caller]
fn what_needs_no_tenant_goes_on(broker: &Broker, tenant: &Tenant, connected: &mut raw::Client) {
    assert!(connected.publish("temperature", "1", 1).unwrap() < 0x80);
    raw(broker, tenant, DEVICE, "by-token", Protocol::V5);
    assert_eq!(answer(broker, &known()), None, "{}", broker.log());
}

/// A new password is refused as "try again later", with a line that holds `why`; and the keys stay.
#[track_caller]
fn what_needs_the_tenant_is_told(version: Version, broker: &Broker, client_id: &str, why: &str) {
    let mark = broker.log_mark();
    assert_eq!(
        answer(broker, &unknown(client_id)),
        told(version, Protocol::V5, 0x88),
        "{}",
        broker.log()
    );
    // Lines about what concerns everybody come once a minute, so the first is it.
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
    /// DNS fails in each of its ways, while devices are in.
    fn names_that_cannot_be_resolved(version) {
        for (fault, why) in [
            (Fault::Unknown, "could not be reached"),
            (Fault::NoServer, "could not be reached"),
            (Fault::Hang, "did not answer"),
        ] {
            let tenant = tenant_with_another_device();
            let names = Names::new().unwrap();
            let broker = names.of(builder(version, &options(&tenant))).start().unwrap();
            let mut connected = before(&broker, &tenant);
            let asked = (tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks));
            names.fail(fault);
            what_needs_the_tenant_is_told(version, &broker, "during", why);
            what_needs_no_tenant_goes_on(&broker, &tenant, &mut connected);
            assert_eq!((tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks)), asked, "{fault:?}");
            names.behave();
            assert!(tries_until_let_in(&broker, &unknown("after")), "{fault:?}: {}", broker.log());
            assert!(broker.stop().status.unwrap().success(), "{fault:?}");
        }
    }

    /// A name that is wrong from the start, as after a slip of the pen: the broker runs, and says so.
    fn a_domain_that_does_not_exist(version) {
        let tenant = tenant_with_another_device();
        let names = Names::new().unwrap();
        names.fail(Fault::Unknown);
        let options = options(&tenant).with("domain", "no-such-tenant.invalid");
        let broker = names.of(builder(version, &options)).start().unwrap();
        assert_eq!(answer(&broker, &unknown("by-password")), told(version, Protocol::V5, 0x88));
        let line = expect_refusal(&broker, "'by-password'", "tenant-unreachable");
        assert!(line.contains("lookup"), "{line}");
        let line = broker.expect_log("signing keys could not be fetched");
        assert!(line.contains("no-such-tenant.invalid") && line.contains("lookup"), "{line}");
        let token = tenant.mint(DEVICE).claim("iss", "https://no-such-tenant.invalid/").sign();
        let by_token = token_connect(Protocol::V5, "by-token", &token);
        assert_eq!(answer(&broker, &by_token), told(version, Protocol::V5, 0x88));
        expect_refusal(&broker, "'by-token'", "keys-unavailable");
        broker.reload();
        assert!(broker.stop().status.unwrap().success());

        // With the keys in a file nobody needs the name.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, tenant.jwks().to_string()).unwrap();
        let broker = names.of(builder(version, &options.with("jwks_file", file.to_str().unwrap()))).start().unwrap();
        assert_eq!(answer(&broker, &by_token), None, "{}", broker.log());
        assert_eq!(answer(&broker, &unknown("by-password")), told(version, Protocol::V5, 0x88));
    }

    /// The broker is stopped while a name is being looked up: it ends, and ends well, whenever the
    /// answer comes.
    fn shutdown_while_a_name_is_looked_up(version) {
        for answered in [false, true] {
            let tenant = tenant_with_another_device();
            let names = Names::new().unwrap();
            let broker = names.of(builder(version, &options(&tenant).with("login_wait", "0"))).start().unwrap();
            broker.expect_log("signing keys are here");
            names.fail(Fault::Hang);
            broker.reload();
            let mut waiting = raw::Client::open(broker.port(), Protocol::V311);
            let mut connect = unknown("waiting");
            connect.protocol = Protocol::V311;
            waiting.send(&connect.packet());
            raw(&broker, &tenant, DEVICE, "later", Protocol::V311).ping().unwrap();
            if answered {
                broker.signal(testbed::broker::Signal::TERM);
                names.behave();
            }
            assert!(broker.stop().status.unwrap().success(), "answered: {answered}");
        }
    }

    /// Connections that come to nothing before TLS does, as with a firewall or a broken balancer.
    fn connections_that_come_to_nothing(version) {
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
            what_needs_the_tenant_is_told(version, &broker, "during", "");
            what_needs_no_tenant_goes_on(&broker, &tenant, &mut connected);
            assert_eq!((tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks)), asked, "{what}");
            tenant.behave();
            assert!(tries_until_let_in(&broker, &unknown("after")), "{what}: {}", broker.log());
        }
    }

    /// Nobody listens any more, and then somebody does.
    fn a_tenant_that_is_gone_for_a_while(version) {
        let tenant = tenant_with_another_device();
        let broker = broker(version, &options(&tenant));
        let mut connected = before(&broker, &tenant);
        tenant.stop_listening();
        what_needs_the_tenant_is_told(version, &broker, "during", "could not be reached");
        what_needs_no_tenant_goes_on(&broker, &tenant, &mut connected);
        tenant.listen_again().unwrap();
        assert!(tries_until_let_in(&broker, &unknown("after")));
    }

    /// What the tenant may do to a request for its keys, each with the last good ones in use.
    fn keys_that_cannot_be_fetched(version) {
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
            // A broker for each: the same trouble is told once.
            let broker = broker(version, &Options::tokens(&tenant).with("timeout", "1"));
            broker.expect_log("signing keys are here");
            tenant.on(Endpoint::Jwks, behaviour);
            broker.reload();
            let line = broker.expect_log("signing keys could not be fetched");
            assert!(line.contains("last good ones stay in use"), "{what}: {line}");
            raw(&broker, &tenant, DEVICE, "next", Protocol::V5);
            tenant.behave();
        }
    }

    /// A gigabyte, to a login and to the request for keys: nobody ever holds more than a little of it.
    fn a_gigabyte_is_not_taken_in(version) {
        let tenant = tenant_with_another_device();
        let heap = Heap::new().unwrap();
        let broker = heap.watch(builder(version, &options(&tenant).with("timeout", "20"))).start().unwrap();
        let mut connected = before(&broker, &tenant);
        let peak = heap.now().peak;
        for endpoint in [Endpoint::Token, Endpoint::Jwks] {
            tenant.on(endpoint, Behaviour::HugeBody);
        }
        what_needs_the_tenant_is_told(version, &broker, "during", "answered with more than");
        what_needs_no_tenant_goes_on(&broker, &tenant, &mut connected);
        let more = heap.now().peak - peak;
        assert!(more < 4 << 20, "{more} bytes");
    }

    /// The tenant's edge gets a new certificate: of the same authority nobody notices, and of another
    /// it is not the tenant any more, until it has one again that is.
    fn a_tenant_that_changes_its_certificate(version) {
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
        let new = Connect::new(Protocol::V5, "another-authority").login(OTHER, "new");
        assert_eq!(answer(&broker, &new), told(version, Protocol::V5, 0x88));
        let line = expect_refusal(&broker, "'another-authority'", "tenant-unreachable");
        assert!(line.contains("could not be trusted"), "{line}");
        broker.reload();
        let line = broker.wait_for_log_after(mark, "signing keys could not be fetched", PATIENCE).unwrap();
        assert!(line.contains("could not be trusted") && line.contains("last good ones stay in use"), "{line}");
        what_needs_no_tenant_goes_on(&broker, &tenant, &mut connected);
        assert_eq!((tenant.count(Endpoint::Token), tenant.count(Endpoint::Jwks)), (0, 0), "it was told nothing");

        tenant.use_certificate(&tenant.authority().issue(&names));
        assert!(tries_until_let_in(&broker, &new), "{}", broker.log());
    }
}
