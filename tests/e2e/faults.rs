//! A machine that runs out of something. What other faults do is in the modules about them: `docs/evidence.md` has the
//! table.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use testbed::{
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    scarcity::{Threads, limit_files, open_files},
    tenant::{DEVICE, Endpoint, PASSWORD},
};

use crate::{
    helpers::*,
    on_each_broker,
    waiting::{pair, talk},
};

fn login(client_id: &str) -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, client_id).login(DEVICE, PASSWORD)
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

on_each_broker! {
    /// The broker has no descriptor left for a connection to the tenant, nor for a file. A sign-in that needs one is
    /// refused for now, a SIGHUP keeps what is in force, and nobody loses a right or gets one.
    fn without_descriptors_nothing_is_granted_and_nothing_lost(version) {
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.toml");
        fs::write(&policy, "").unwrap();
        // The tenant was never asked: a connection that is kept would do without a new descriptor.
        let keys = folder.path().join("jwks.json");
        fs::write(&keys, tenant.jwks().to_string()).unwrap();
        let options = PluginOptions::both(&tenant)
            .with("policy_file", policy.to_str().unwrap())
            .with("jwks_file", keys.to_str().unwrap());
        let broker = broker(version, &options);
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);
        fs::write(&policy, "[[rule]]\nname = \"all\"\nallow.both = \"#\"\n").unwrap();

        // A connection that the broker has accepted is there before.
        let before = open_files(broker.pid());
        let mut during = RawClient::open(broker.port(), Protocol::V5);
        wait_until("the broker accepts", || open_files(broker.pid()) > before);
        limit_files(&broker, Some(0));
        let asked = tenant.count(Endpoint::Token);
        during.send(&login("during").packet());
        assert_eq!(during.wait_connack(PATIENCE).err(), expected_refusal(version, Protocol::V5, 0x88));
        expect_refusal(&broker, "'during'", "tenant-unreachable");
        assert_eq!(tenant.count(Endpoint::Token), asked);
        talk(&mut publisher, &mut subscriber, "without descriptors");

        wait_until("the broker closes it", || open_files(broker.pid()) == before);
        limit_files(&broker, Some(0));
        let mark = broker.log_mark();
        broker.sighup();
        broker.wait_for_log_after(mark, "Reloading config", PATIENCE).expect("it reloads");
        talk(&mut publisher, &mut subscriber, "after a SIGHUP");
        // It would be allowed by the new file.
        assert_eq!(publisher.subscribe(&[("secret", 1)]).unwrap(), [0x80]);

        limit_files(&broker, None);
        assert!(retry_until_admitted(&broker, &login("after")), "{}", broker.log());
        broker.reload();
        talk(&mut publisher, &mut subscriber, "with descriptors");
        assert!(ended_well(&broker.stop()));
    }

    /// The system starts no more threads. A sign-in that needs one is refused for now, and what needs none works.
    fn without_threads_nothing_is_granted_and_nothing_lost(version) {
        let tenant = tenant();
        let threads = Threads::new().unwrap();
        let options = PluginOptions::both(&tenant).with("timeout", "1").with("login_wait", "1");
        let broker = threads.of(builder(version, &options)).start().unwrap();
        broker.expect_log("signing keys were fetched");
        let (mut publisher, mut subscriber) = pair(&broker, &tenant);

        threads.run_out();
        assert_ne!(answer(&broker, &login("during")), None);
        assert_eq!(tenant.count(Endpoint::Token), 0);
        raw(&broker, &tenant, DEVICE, "by-token", Protocol::V5);
        broker.reload();
        talk(&mut publisher, &mut subscriber, "without threads");

        threads.suffice();
        assert!(retry_until_admitted(&broker, &login("after")), "{}", broker.log());
        talk(&mut publisher, &mut subscriber, "with threads");
        assert!(ended_well(&broker.stop()));
    }

    /// A plugin that cannot fetch keys is no plugin: a broker that starts without threads does not start, and lets
    /// nobody in.
    fn without_threads_the_broker_does_not_start(version) {
        let tenant = tenant();
        let threads = Threads::new().unwrap();
        threads.run_out();
        let failed = threads.of(builder(version, &PluginOptions::tokens(&tenant))).start_expecting_failure();
        assert!(failed.log.contains("cannot start a thread"), "{}", failed.log);
    }
}
