//! Several instances: the plugin at more than one line of mosquitto.conf.

use std::time::{Duration, Instant};

use fake_broker::{
    AclAccess, ClientSpec, Event, INVAL, SUCCESS, allowed, alone, plugin_threads, wait_for_threads,
};
use serde_json::json;
use testbed::tenant::{DEVICE, Endpoint, Tenant};

use super::{GRANTED, LONGEST_TIMEOUT, RELEASE, broker, credentials, options, patience};

#[test]
fn identical_instances_work_once() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        broker.init(&options(&tenant)).expect("the first");
        broker.init(&options(&tenant)).expect("the second");
        // 2.0 identifies a callback by its function, 2.1 also by its plugin line.
        let expected = if RELEASE.is_2_1() { 2 } else { 1 };
        assert_eq!(broker.registered(Event::BasicAuth), expected);
        let told = broker.lines_with("named twice with the same options");
        assert_eq!(told, 2 - expected);

        broker.run_until_said("signing keys were fetched");
        let spec = ClientSpec::new("a")
            .token(tenant.token(DEVICE))
            .will(GRANTED);
        let (client, code) = broker.connect_new(&spec);
        assert_eq!(code, SUCCESS);
        assert!(broker.allows(client, AclAccess::Write, GRANTED));
        broker.disconnect(client);
        broker.tick();
        broker.reuse(client, &spec);
        assert!(!broker.allows(client, AclAccess::Write, GRANTED));

        assert_eq!((tenant.count(Endpoint::Jwks), plugin_threads()), (1, 1));
        broker.cleanup();
        wait_for_threads(1);
        broker.cleanup();
        assert_eq!(plugin_threads(), 0);
    });
}

#[test]
fn different_instances_are_refused_where_only_one_would_be_called() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        broker.init(&options(&tenant)).expect("the first");
        broker.run_until_said("signing keys were fetched");
        let second = broker.init(&credentials(&tenant).with("login_workers", "1"));
        if RELEASE.is_2_1() {
            assert_eq!(second, Ok(()));
            // Two that fetch keys, and one for logins.
            wait_for_threads(3);
        } else {
            assert_eq!(second, Err(INVAL));
            assert_eq!(broker.lines_with("give both lines the same options"), 1);
            assert_eq!(broker.lines_with("set per_listener_settings true"), 1);
            // The broker exits now without cleaning up either instance: no thread may go on.
            wait_for_threads(0);
        }
        let spec = ClientSpec::new("a").token(tenant.token(DEVICE));
        assert_eq!(
            broker.connect_new(&spec).1,
            SUCCESS,
            "the first still answers"
        );
    });
}

#[test]
fn listeners_with_the_same_options_share_one_fetcher_and_the_sessions() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        for listener in 0..3 {
            broker
                .init_for(listener, &options(&tenant))
                .expect("it starts");
        }
        broker.run_until_said("signing keys were fetched");
        assert_eq!((tenant.count(Endpoint::Jwks), plugin_threads()), (1, 1));
        assert_eq!(broker.lines_with("signing keys were fetched"), 1);

        // A takeover from one listener to another.
        let spec = ClientSpec::new("a")
            .token(tenant.token(DEVICE))
            .will(GRANTED);
        let (first, code) = broker.connect_new(&spec.clone().listener(1));
        assert_eq!(code, SUCCESS);
        let (second, code) = broker.connect_new(&spec.clone().listener(2));
        assert_eq!(code, SUCCESS);
        broker.tick();
        assert!(broker.allows(second, AclAccess::Write, GRANTED));
        broker.reuse(first, &spec);
        assert!(!broker.allows(first, AclAccess::Write, GRANTED));
        // One instance stops, and the others keep everything.
        broker.cleanup();
        assert!(broker.allows(second, AclAccess::Write, GRANTED));
        wait_for_threads(1);
    });
}

#[test]
fn listeners_with_other_options_have_rules_of_their_own() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        let other = options(&tenant).instead("audience", "https://other.example/");
        broker.init_for(0, &options(&tenant)).expect("it starts");
        broker.init_for(1, &other).expect("it starts");
        wait_for_threads(2);
        assert!(tenant.wait_for(Endpoint::Jwks, 2, patience()));
        // 2.0.11 ticks only the first instance, and the second's lines wait for an event.
        broker.run_until("both have keys", |broker| {
            broker.reload();
            broker.lines_with("signing keys were fetched") == 2
        });

        let token = tenant.token(DEVICE);
        let (here, code) = broker.connect_new(&ClientSpec::new("a").token(token.as_str()));
        assert_eq!(code, SUCCESS);
        let (there, code) = broker.connect_new(&ClientSpec::new("a").token(token).listener(1));
        assert_ne!(code, SUCCESS);
        assert_eq!(broker.lines_with("[token-audience]"), 1);
        assert!(!broker.allows(there, AclAccess::Write, GRANTED));
        assert!(broker.allows(here, AclAccess::Write, GRANTED));
    });
}

#[test]
fn the_same_subject_of_two_tenants_is_two_accounts() {
    alone(|| {
        let (tenants, mut broker) = ([Tenant::start(), Tenant::start()], broker());
        for (listener, tenant) in (0..).zip(&tenants) {
            broker
                .init_for(listener, &options(tenant))
                .expect("it starts");
        }
        broker.run_until("both have keys", |broker| {
            broker.reload();
            broker.lines_with("signing keys were fetched") == 2
        });
        let spec = |number: usize| {
            let token = tenants[number].mint(DEVICE).claim("sub", json!("same"));
            ClientSpec::new("a")
                .token(token.sign())
                .listener(number as i32)
                .kept()
        };
        let (first, code) = broker.connect_new(&spec(0));
        assert_eq!(code, SUCCESS, "{:#?}", broker.log());
        assert_ne!(broker.connect_new(&spec(1)).1, SUCCESS, "it is connected");
        assert_eq!(broker.lines_with("[client-id-held]"), 1);
        broker.disconnect(first);
        broker.tick();
        assert_ne!(
            broker.connect_new(&spec(1)).1,
            SUCCESS,
            "its session is kept"
        );
        assert_eq!(broker.connect_new(&spec(0)).1, SUCCESS);
    });
}

#[test]
fn a_second_start_does_not_wait_for_a_hanging_tenant() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        tenant.on(Endpoint::Jwks, testbed::tenant::Behaviour::Hang);
        // A start that waited would take as long as a request may.
        let limit = allowed(Duration::from_secs(1)).min(LONGEST_TIMEOUT);
        let options = options(&tenant).instead("timeout", limit.as_secs().to_string());
        let started = Instant::now();
        broker.init_for(0, &options).expect("it starts");
        broker.init_for(1, &options).expect("it starts");
        let took = started.elapsed();
        assert!(took < limit, "{took:?}");
        // This ends the request, for which the thread that is left behind would wait.
        drop(tenant);
    });
}
