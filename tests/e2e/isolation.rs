//! What the tenant counts against one device does not affect others: limits of an address, wrong passwords of
//! an attacker, refusals of an account. All devices have addresses of their own.

use serde_json::json;
use testbed::{
    addresses::Addresses,
    broker::{Listener, Mosquitto, Version},
    clients::{Protocol, raw::ConnectPacket, websocket},
    tenant::{Behaviour, DEVICE, Device, DeviceState, Endpoint, PASSWORD},
};

use crate::{helpers::*, on_each_broker, waiting::login};

/// The last byte of the device's address, and of an attacker's.
const HOME: u8 = 7;
const STRANGER: u8 = 66;

/// Starts a broker that asks the tenant each time, and sees each client at its own address.
fn with_addresses(version: Version, options: &PluginOptions) -> Mosquitto {
    let addresses = Addresses::new().unwrap();
    let broker = addresses.of(builder(version, options)).start();
    broker.unwrap_or_else(|e| panic!("{version}: {e}"))
}

/// The same with a second listener, for websockets.
fn with_websockets(version: Version, options: &PluginOptions) -> Mosquitto {
    let builder = builder(version, options)
        .listener(Listener::tcp())
        .listener(Listener::tcp().config("protocol websockets"));
    let broker = Addresses::new().unwrap().of(builder).start();
    broker.unwrap_or_else(|e| panic!("{version}: {e}"))
}

fn forwarded(address: &str) -> String {
    format!("X-Forwarded-For: {address}")
}

fn right() -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, "device").login(DEVICE, PASSWORD)
}

fn guess(number: usize) -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, "stranger").login(DEVICE, format!("guess {number}"))
}

/// Header lines that say that this address has used up its limit.
fn used_up() -> Vec<(String, String)> {
    let reset = auth::clock::now().plus(864).0;
    vec![
        ("X-RateLimit-Remaining".into(), "0".into()),
        ("X-RateLimit-Reset".into(), reset.to_string()),
    ]
}

fn throttled(version: Version) -> Option<testbed::clients::raw::ConnectRefusal> {
    expected_refusal(version, Protocol::V5, 0x89)
}

on_each_broker! {
    /// The tenant is told each device's address, and its limits for one do not affect the others.
    fn the_rate_limit_of_one_address_does_not_affect_others(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["temperature"]));
        let broker = with_addresses(version, &PluginOptions::both(&tenant));
        let other = login(Protocol::V5, "other", "other");

        tenant.once(Endpoint::Token, Behaviour::ExtraHeaders(used_up()));
        assert_eq!(answer_from(HOME, &broker, &right()), None, "its last");
        let address = Addresses::seen(HOME).to_string();
        let request = &tenant.requests_to(Endpoint::Token)[0];
        assert_eq!(request.header("auth0-forwarded-for"), Some(address.as_str()));
        assert_eq!(answer_from(HOME, &broker, &other), throttled(version), "nobody from there");
        assert!(expect_refusal(&broker, "'other'", "login-throttled").contains("from its address"));
        assert_eq!(tenant.count(Endpoint::Token), 1);
        assert_eq!(answer_from(8, &broker, &right()), None);

        // Suspicious IP throttling, with a time.
        let attempts = Behaviour::refusal(429, "too_many_attempts", "suspicious")
            .then(Behaviour::ExtraHeaders(vec![("Retry-After".into(), "3600".into())]));
        tenant.once(Endpoint::Token, attempts);
        assert!(answer_from(STRANGER, &broker, &login(Protocol::V5, "c", "nobody")).is_some());
        assert_eq!(answer_from(STRANGER, &broker, &other), throttled(version));
        assert_eq!(tenant.count(Endpoint::Token), 3);
        assert_eq!(answer_from(9, &broker, &other), None);
        assert_eq!(answer(&broker, &other), None, "nor the broker's own");

        // The tenant's own limit applies to all devices.
        tenant.once(Endpoint::Token, Behaviour::RateLimited { retry_after: Some(3600) });
        for host in [10, 11, 12] {
            assert_eq!(answer_from(host, &broker, &right()), throttled(version));
        }
        assert_eq!(tenant.count(Endpoint::Token), 6);
    }

    /// Without forwarded addresses all requests come from the broker's address, and its limit applies to all
    /// devices.
    fn the_rate_limit_of_the_brokers_address_affects_all_devices(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["temperature"]));
        let broker = broker(version, &PluginOptions::both(&tenant));
        tenant.once(Endpoint::Token, Behaviour::ExtraHeaders(used_up()));
        assert_eq!(answer(&broker, &right()), None);
        assert_eq!(answer(&broker, &login(Protocol::V5, "other", "other")), throttled(version));
        assert_eq!(tenant.count(Endpoint::Token), 1);
    }

    /// A header that a client sends does not change its address: it neither locks out the device at that
    /// address nor allows more guesses. (Debian builds 2.0.11 without websockets.)
    fn a_forged_forwarded_header_is_ignored(version) {
        if version == Version::V2_0_11 {
            return;
        }
        let tenant = tenant();
        let broker = with_websockets(version, &PluginOptions::both(&tenant));
        assert_eq!(answer_from(HOME, &broker, &right()), None);
        let guess_at = |address: &str, number| {
            let header = forwarded(address);
            let code = websocket::connect(broker.ports()[1], &[&header], &guess(number)).unwrap();
            assert_ne!(code, Some(0));
        };
        let victim = Addresses::seen(HOME).to_string();
        (0..5).for_each(|number| guess_at(&victim, number));
        assert_eq!(answer_from(HOME, &broker, &right()), None, "at its address");
        (0..60).for_each(|number| guess_at(&format!("198.51.100.{number}"), 100 + number));
        let requests = tenant.requests_to(Endpoint::Token);
        let guesses: Vec<_> = requests.iter().filter(|one| one.field("password") != Some(PASSWORD)).collect();
        assert!((3..=9).contains(&guesses.len()), "{}", guesses.len());
        assert!(guesses.iter().all(|one| one.header("auth0-forwarded-for").is_none()));
        let warned = broker.log().matches("X-Forwarded-For, which every client can write").count();
        assert_eq!(warned, usize::from(version == Version::V2_0_21));
    }

    /// On 2.0 the address that a listed proxy reports counts. The proxy's own address belongs to no client.
    fn a_trusted_proxys_header_is_used(version) {
        if version == Version::V2_0_11 {
            return;
        }
        let tenant = tenant();
        let proxy = Addresses::seen(9);
        let listed = format!("127.0.0.1,{proxy}");
        let broker = with_websockets(version, &PluginOptions::both(&tenant).with("trusted_proxies", &listed));
        let header = forwarded(&format!("198.51.100.1, {}, {proxy}", Addresses::seen(HOME)));
        let code = websocket::connect(broker.ports()[1], &[&header], &right()).unwrap();
        assert_eq!(code, Some(0));
        assert_eq!(answer_from(9, &broker, &right()), None);
        let requests = tenant.requests_to(Endpoint::Token);
        let told: Vec<_> = requests.iter().map(|one| one.header("auth0-forwarded-for")).collect();
        let seen = Addresses::seen(HOME).to_string();
        let through = (version == Version::V2_0_21).then_some(&*seen);
        assert_eq!(told, [through, None]);
    }

    /// An attacker who guesses passwords is slowed down, and the device with that user name is not.
    fn wrong_passwords_do_not_lock_the_device_out(version) {
        let tenant = tenant();
        let broker = with_addresses(version, &PluginOptions::both(&tenant));
        for host in [STRANGER, STRANGER + 1, STRANGER + 2] {
            for number in 0..20 {
                assert!(answer_from(host, &broker, &guess(100 * usize::from(host) + number)).is_some());
            }
        }
        let asked = tenant.count(Endpoint::Token);
        assert_eq!(asked, 8, "three from each, and no more than eight in all");
        expect_refusal(&broker, "'stranger'", "login-backoff");
        assert_eq!(answer_from(HOME, &broker, &right()), throttled(version), "nobody knows it there yet");
        broker.reload();
        assert_eq!(answer_from(HOME, &broker, &right()), None);

        for number in 0..20 {
            assert!(answer_from(STRANGER + 3, &broker, &guess(number)).is_some());
        }
        assert_eq!(tenant.count(Endpoint::Token), asked + 1 + 3);
        for _ in 0..3 {
            assert_eq!(answer_from(HOME, &broker, &right()), None, "at its usual address");
        }
    }

    /// Guesses whose responses are lost count: Auth0's lockout is not reached.
    fn a_lost_response_counts_as_a_wrong_password(version) {
        let lost = [
            Behaviour::ResetConnection,
            Behaviour::TruncatedBody,
            Behaviour::Hang,
            Behaviour::Html(504),
        ];
        for lost in lost {
            let tenant = tenant();
            let broker = broker(version, &PluginOptions::both(&tenant).with("timeout", "1"));
            let what = format!("{lost:?}");
            tenant.on(Endpoint::Token, lost);
            for number in 0..20 {
                assert!(answer(&broker, &guess(number)).is_some());
            }
            // As with wrong passwords. A timeout may reach the device before it is counted, and a busy
            // machine takes time.
            let asked = tenant.count(Endpoint::Token);
            assert!((3..=9).contains(&asked), "{what}: {asked}");
            tenant.behave();
            // Some of the responses are lost only now, and delay the device once more.
            let deadline = std::time::Instant::now() + PATIENCE;
            while answer(&broker, &right()).is_some() {
                assert!(std::time::Instant::now() < deadline, "{what}");
                broker.reload();
            }
        }
    }

    /// A password that was never sent is not a guess, however often this happens: the connection is refused,
    /// it is closed before the request, or the server is not the tenant.
    fn a_request_that_was_never_sent_does_not_count(version) {
        let names = ["localhost", "127.0.0.1"];
        let attacker = testbed::pki::Authority::new("somebody else").issue(&names);
        for what in ["nobody listens", "a reset", "another certificate"] {
            let tenant = tenant();
            let broker = broker(version, &PluginOptions::both(&tenant));
            broker.expect_log("signing keys were fetched");
            match what {
                "nobody listens" => tenant.stop_listening(),
                "a reset" => {
                    tenant.on(Endpoint::Connection, Behaviour::ResetConnection);
                    tenant.hang_up();
                }
                _ => tenant.use_certificate(&attacker),
            }
            for _ in 0..5 {
                assert!(answer(&broker, &right()).is_some(), "{what}");
            }
            tenant.behave();
            tenant.use_certificate(&tenant.authority().issue(&names));
            tenant.listen_again().unwrap();
            assert!(retry_until_admitted(&broker, &right()), "{what}");
            assert!(!broker.log().contains("login-backoff"), "{what}");
        }
    }

    /// A user that is refused with any password is not asked about at every CONNECT.
    fn a_refused_account_is_not_asked_about_at_every_connect(version) {
        let tenant = tenant();
        for state in [
            DeviceState::Blocked,
            DeviceState::Locked,
            DeviceState::MfaRequired,
            DeviceState::PasswordLeaked,
            DeviceState::RequiresVerification,
            DeviceState::Denied("disabled".into()),
        ] {
            let what = format!("{state:?}");
            tenant.forget_requests();
            let broker = broker(version, &PluginOptions::both(&tenant));
            tenant.add_device(Device::new("d", "pass").state(state));
            for password in ["pass", "pass", "another"] {
                let connect = ConnectPacket::new(Protocol::V5, "c").login("d", password);
                assert!(answer(&broker, &connect).is_some());
            }
            assert_eq!(tenant.count(Endpoint::Token), 1, "{what}");
            expect_refusal(&broker, "'c'", "login-backoff");
            assert_eq!(answer(&broker, &right()), None, "{what}: others are");
            tenant.add_device(Device::new("d", "pass").topics(json!(["temperature"])));
            broker.reload();
            let connect = login(Protocol::V5, "c", "d");
            for _ in 0..2 {
                assert_eq!(answer(&broker, &connect), None, "{what}: fixed, and a reload says so");
            }
        }
    }

    /// The tenant accepts the login, and its tokens are not usable: it is not asked at every CONNECT either.
    fn unusable_tokens_are_not_requested_at_every_connect(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        tenant.on(Endpoint::Token, Behaviour::json(200, json!({"access_token": "opaque"})));
        for _ in 0..3 {
            assert!(answer(&broker, &right()).is_some());
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
        tenant.behave();
        broker.reload();
        assert_eq!(answer(&broker, &right()), None);
    }

    /// A wrong client secret affects all clients: one of them checks whether it has been fixed.
    fn a_wrong_client_secret_is_tried_by_one_client_at_a_time(version) {
        let tenant = tenant();
        let secret = tenant.settings().client_secret;
        let broker = broker(version, &PluginOptions::both(&tenant));
        tenant.configure(|settings| settings.client_secret = "rotated".into());
        for i in 0..20 {
            let connect = login(Protocol::V5, &format!("c{i}"), &format!("d{i}"));
            assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, 0x88));
        }
        let asked = tenant.count(Endpoint::Token);
        assert!((1..4).contains(&asked), "{asked}");
        assert!(expect_refusal(&broker, "'c0'", "login-configuration").contains("client_secret_file"));
        tenant.configure(|settings| settings.client_secret = secret);
        assert!(retry_until_admitted(&broker, &right()));
    }
}
