//! Cleanup: after a successful start, a failed one, or none; and no thread goes on afterwards.

use std::{
    fs,
    time::{Duration, Instant},
};

use fake_broker::{
    AclAccess, ClientSpec, Event, INVAL, Release, SUCCESS, alone, plugin_threads, wait_for_threads,
};
use testbed::{
    plugin,
    tenant::{Behaviour, DEVICE, Endpoint, Tenant},
};

use super::{GRANTED, RELEASE, broker, options, patience};

#[test]
fn cleanup_without_a_start_does_nothing() {
    alone(|| {
        let broker = broker();
        assert_eq!(broker.cleanup_nothing(), SUCCESS);
        assert_eq!(broker.cleanup_nothing(), SUCCESS);
    });
}

#[test]
fn after_a_failed_start_nothing_is_left_to_clean_up() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        // 2.1 cleans up by itself, with the NULL that a failed start left.
        assert_eq!(
            broker.init(&options(&tenant).instead("timeout", "never")),
            Err(INVAL)
        );
        assert_eq!(broker.cleanup_nothing(), SUCCESS);
        assert_eq!(plugin_threads(), 0);
        assert_eq!(tenant.count(Endpoint::Connection), 0);
        broker
            .init(&options(&tenant))
            .expect("a good start afterwards");
    });
}

#[test]
fn a_start_without_a_needed_event_leaves_no_thread() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        for event in [
            Event::BasicAuth,
            Event::AclCheck,
            Event::Disconnect,
            Event::Tick,
            Event::Reload,
        ] {
            broker.forget_log();
            broker.forget_callbacks();
            broker.refuse_event(event);
            assert_eq!(broker.init(&options(&tenant)), Err(INVAL), "{event:?}");
            assert_eq!(
                broker.lines_with("the broker does not start"),
                1,
                "{event:?}"
            );
            assert_eq!(plugin_threads(), 0, "{event:?}");
        }
        assert_eq!(tenant.count(Endpoint::Connection), 0);
    });
}

#[test]
fn a_start_that_failed_late_leaves_no_callback() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        // A session that was restored before plugins are loaded, and that reads the log.
        let reader = broker.restored("reader", "somebody", "$SYS/broker/log/#");
        broker.log_to_topic();
        broker.refuse_event(Event::Reload);
        assert_eq!(broker.init(&options(&tenant)), Err(INVAL));
        // The broker still logs, and each line causes an ACL check.
        for _ in 0..10 {
            assert!(!broker.allows(reader, AclAccess::Read, "$SYS/broker/log/N"));
        }
        assert_eq!(plugin_threads(), 0);
    });
}

#[test]
fn after_a_new_start_nobody_is_known() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        let mut before = None;
        for round in 1..=3 {
            broker.init(&options(&tenant)).expect("it starts");
            broker.run_until_said("signing keys were fetched");
            let fetches = tenant.count(Endpoint::Jwks);
            assert_eq!(fetches, round, "{:#?}", broker.log());
            // The HTTP client's thread for the name lookup may still be ending.
            wait_for_threads(1);
            if let Some(client) = before {
                let known = broker.allows(client, AclAccess::Write, GRANTED);
                assert!(!known, "a new start knows nobody");
            }
            let spec = ClientSpec::new(format!("a{round}")).token(tenant.token(DEVICE));
            let (client, code) = broker.connect_new(&spec);
            assert_eq!(code, SUCCESS);
            assert!(broker.allows(client, AclAccess::Write, GRANTED));
            before = Some(client);
            broker.cleanup();
            assert_eq!(plugin_threads(), 0);
            broker.forget_callbacks();
            broker.forget_log();
        }
    });
}

#[test]
fn a_hanging_tenant_does_not_delay_a_stop() {
    alone(|| {
        for endpoint in [Endpoint::Jwks, Endpoint::Connection] {
            let (tenant, mut broker) = (Tenant::start(), broker());
            tenant.on(endpoint, Behaviour::Hang);
            let options = options(&tenant).instead("timeout", "60");
            broker.init(&options).expect("it starts");
            assert!(tenant.wait_for(endpoint, 1, patience()));
            wait_for_threads(1);
            let started = Instant::now();
            broker.cleanup();
            // A stop takes less than a second. The rest allows for a slow machine.
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{:?}",
                started.elapsed()
            );
            broker.forget_callbacks();
            // The thread that waits for the tenant is left behind. It ends when the tenant closes the
            // connection.
            drop(tenant);
            wait_for_threads(0);
        }
    });
}

#[test]
fn the_code_stays_mapped_after_unloading() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        broker.init(&options(&tenant)).expect("it starts");
        broker.cleanup();
        assert!(
            broker.unload(plugin::file()),
            "a late resolver thread would return into nothing"
        );
    });
}

/// Whether this thread, which is the broker's, has SIGHUP blocked.
fn is_sighup_blocked() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").expect("Linux says it here");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("a mask");
    mask & (1 << (libc::SIGHUP - 1)) != 0
}

#[test]
fn sighup_is_blocked_while_the_plugin_is_loaded() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        let on_2_1 = RELEASE == Release::V2_1_2;
        for _ in 0..2 {
            let wrong = options(&tenant).with("audiance", "x");
            assert_eq!(broker.init(&wrong), Err(INVAL));
            assert!(!is_sighup_blocked(), "it did not start");
            broker.init_for(0, &options(&tenant)).expect("it starts");
            assert_eq!(is_sighup_blocked(), on_2_1);
            broker.init_for(1, &options(&tenant)).expect("it starts");
            broker.tick();
            assert_eq!(is_sighup_blocked(), on_2_1);
            broker.cleanup();
            assert_eq!(is_sighup_blocked(), on_2_1, "one of two is there");
            broker.cleanup();
            broker.forget_callbacks();
            assert!(!is_sighup_blocked(), "as it was");
        }
    });
}

#[test]
fn plugin_threads_receive_no_signals() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        broker.init(&options(&tenant)).expect("it starts");
        wait_for_threads(1);
        let tasks = fs::read_dir("/proc/self/task").expect("Linux lists the threads here");
        let mut found = 0;
        for task in tasks {
            let status = task.expect("a thread").path().join("status");
            let status = fs::read_to_string(status).unwrap_or_default();
            let field = |name: &str| {
                let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
                lines
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches(':')
                    .trim()
                    .to_owned()
            };
            if !field("Name").starts_with("auth0-") {
                continue;
            }
            found += 1;
            let blocked = u64::from_str_radix(&field("SigBlk"), 16).expect("a mask");
            for signal in [
                libc::SIGHUP,
                libc::SIGINT,
                libc::SIGTERM,
                libc::SIGUSR1,
                libc::SIGUSR2,
                libc::SIGPIPE,
                libc::SIGRTMIN(),
            ] {
                assert!(
                    blocked & (1 << (signal - 1)) != 0,
                    "signal {signal}: {blocked:x}"
                );
            }
        }
        // A thread that does a DNS lookup inherits the name of the thread that started it.
        assert!(found >= 1);
    });
}
