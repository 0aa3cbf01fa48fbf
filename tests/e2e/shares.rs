//! Fair sharing: whatever junk comes, from one address or from many, returning devices are admitted.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket},
    },
    crowd::Flood,
    measure::{allow_open_files, in_parallel},
    tenant::{Behaviour, DEVICE, Endpoint, PASSWORD, ResponseGate, Tenant},
};

use crate::{
    helpers::*,
    on_each_broker,
    waiting::{login, options},
};

/// The interval between a device's tries. It is longer on 2.0, where only the number of tries counts.
fn retry(version: Version) -> Duration {
    Duration::from_millis(if version.can_delay_logins() {
        500
    } else {
        1000
    })
}

/// Devices at different addresses that have all signed in before.
struct Fleet {
    tenant: Tenant,
    broker: Mosquitto,
    connects: Vec<ConnectPacket>,
}

impl Fleet {
    /// Creates the devices. No logins are cached, so the tenant is asked each time.
    fn new(
        version: Version,
        protocol: Protocol,
        devices: usize,
        options: impl Fn(PluginOptions) -> PluginOptions,
    ) -> Self {
        allow_open_files(4096).unwrap();
        let tenant = tenant();
        // The addresses are local, so the tenant sees one address for all of them, and would stop the flood
        // itself.
        tenant.configure(|settings| settings.suspicious_ip_budget = None);
        for i in 0..devices {
            device(&tenant, &format!("d{i}"), json!(["temperature"]));
        }
        let all = options(self::options(&tenant).with("login_cache", "0"));
        let broker = builder(version, &all).quiet().start();
        let broker = broker.unwrap_or_else(|error| panic!("{error}"));
        broker.expect_log("signing keys were fetched");
        let connects: Vec<_> = (0..devices)
            .map(|i| login(protocol, &format!("c{i}"), &format!("d{i}")))
            .collect();
        let fleet = Self {
            tenant,
            broker,
            connects,
        };
        for device in 0..devices {
            let deadline = Instant::now() + PATIENCE;
            while !fleet.comes_in(device) {
                assert!(Instant::now() < deadline, "{}", fleet.broker.log());
            }
        }
        fleet
    }

    /// One try of a device from its own address.
    fn comes_in(&self, device: usize) -> bool {
        answer_from(100 + device as u8, &self.broker, &self.connects[device]).is_none()
    }
}

fn addresses(number: usize) -> Vec<Ipv4Addr> {
    let address = |i: usize| Ipv4Addr::new(127, 66, (i / 250) as u8, (1 + i % 250) as u8);
    (0..number).map(address).collect()
}

/// Ten known devices come back while attackers send 300 CONNECTs a second.
fn through_a_flood(version: Version, from: usize) {
    const STRANGERS: usize = 300;
    let fleet = Fleet::new(version, Protocol::V311, 10, |options| options);
    fleet.tenant.on(
        Endpoint::Token,
        Behaviour::Delay(Duration::from_millis(300)),
    );
    let asked = fleet.tenant.count(Endpoint::Token);
    let flood = Flood::start(
        fleet.broker.port(),
        STRANGERS,
        addresses(from),
        Protocol::V311,
    );
    // Until the attackers have used up their share.
    let deadline = Instant::now() + 3 * PATIENCE;
    while !fleet.broker.log().contains("[login-rate]") {
        assert!(
            Instant::now() < deadline,
            "{} sent\n{}",
            flood.sent(),
            fleet.broker.log()
        );
        thread::sleep(Duration::from_millis(100));
    }
    let junk = fleet.tenant.count(Endpoint::Token) - asked;

    let began = Instant::now();
    let tries: Vec<(usize, Duration)> = in_parallel(10, |device| {
        for tries in 1.. {
            let next = Instant::now() + retry(version);
            if fleet.comes_in(device) || began.elapsed() > PATIENCE {
                return (tries, began.elapsed());
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        unreachable!("it tries for ever")
    });
    let most = tries.iter().map(|(tries, _)| *tries).max().unwrap();
    let longest = tries.iter().map(|(_, time)| *time).max().unwrap();
    println!(
        "figures: {version}, {from} addresses: {} CONNECTs, {junk} questions of strangers; ten of ten in after {most} tries, {longest:?}",
        flood.sent()
    );
    if version.can_delay_logins() {
        assert!(
            longest < Duration::from_secs(5),
            "{tries:?}\n{}",
            fleet.broker.log()
        );
    } else {
        assert!(most <= 3, "{tries:?}\n{}", fleet.broker.log());
    }
}

/// Returns spellings of one user name that Auth0 considers equal.
fn spellings(name: &str, number: usize) -> Vec<String> {
    let spelling = |bits: usize| {
        let letters = name.char_indices();
        letters
            .map(|(i, letter)| match bits >> i & 1 {
                1 => letter.to_ascii_uppercase(),
                _ => letter,
            })
            .collect()
    };
    (0..number).map(spelling).collect()
}

/// Sends these CONNECTs from one address, a hundred a second, while `other` runs.
fn while_sending<T>(
    host: u8,
    broker: &Mosquitto,
    connects: &[ConnectPacket],
    other: impl FnOnce() -> T,
) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = VecDeque::new();
            for connect in connects.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let mut client = raw::RawClient::open_from(host, broker.port(), connect.protocol);
                client.send(&connect.packet());
                open.push_back(client);
                if open.len() > 100 {
                    open.pop_front();
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        let _stop = Stop(&over);
        other()
    })
}

/// Stops the flood, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client at the address of a known device sends these CONNECTs all the time. A new device at another
/// address is admitted, and so is a known one.
fn beside_a_known_address(fleet: &Fleet, connects: &[ConnectPacket]) {
    device(&fleet.tenant, "new", json!(["temperature"]));
    let new = login(Protocol::V311, "new", "new");
    while_sending(100, &fleet.broker, connects, || {
        let deadline = Instant::now() + 3 * PATIENCE;
        while !fleet.broker.log().contains("[login-rate]") {
            assert!(Instant::now() < deadline, "{}", fleet.broker.log());
            thread::sleep(Duration::from_millis(100));
        }
        let in_time = |comes_in: &dyn Fn() -> bool| {
            let deadline = Instant::now() + PATIENCE;
            std::iter::repeat_with(|| {
                thread::sleep(Duration::from_millis(500));
                comes_in()
            })
            .take_while(|_| Instant::now() < deadline)
            .any(|came_in| came_in)
        };
        assert!(in_time(&|| fleet.comes_in(1)), "{}", fleet.broker.log());
        let new = || answer_from(150, &fleet.broker, &new).is_none();
        assert!(in_time(&new), "{}", fleet.broker.log());
    });
}

on_each_broker! {
    /// One account is used for logins all the time, with many spellings of its user name.
    fn a_flooding_account_is_limited_by_its_address_share(version) {
        let fleet = Fleet::new(version, Protocol::V311, 2, |options| options);
        let names = spellings("thermostatic", 2000);
        names.iter().for_each(|name| device(&fleet.tenant, name, json!(["temperature"])));
        let connects: Vec<_> = (0..).zip(&names).map(|(i, name)| login(Protocol::V311, &format!("f{i}"), name)).collect();
        beside_a_known_address(&fleet, &connects);
    }

    /// Junk from behind the same address as a device.
    fn junk_from_a_known_address_does_not_starve_new_devices(version) {
        let fleet = Fleet::new(version, Protocol::V311, 2, |options| options);
        let junk = |i| login(Protocol::V311, &format!("f{i}"), &format!("junk {i}"));
        beside_a_known_address(&fleet, &(0..2000).map(junk).collect::<Vec<_>>());
    }

    fn known_devices_are_admitted_during_a_flood_from_one_address(version) {
        through_a_flood(version, 1);
    }

    fn known_devices_are_admitted_during_a_flood_from_two_hundred_addresses(version) {
        through_a_flood(version, 200);
    }

    /// Three junk logins a second, below `login_rate`. They may block the broker within their own share of
    /// the time, and the first try of each known device waits within the share that is reserved for it.
    fn a_trickle_of_junk_refuses_no_known_device(version) {
        const DEVICES: usize = 20;
        let fleet = Fleet::new(version, Protocol::V5, DEVICES, |options| options.with("stall_budget", "50"));
        fleet.tenant.on(Endpoint::Token, Behaviour::Delay(Duration::from_millis(200)));
        let flood = Flood::start(fleet.broker.port(), 3, addresses(1), Protocol::V5);
        // One window of the budget, so that only junk is left in it.
        let asked = fleet.tenant.count(Endpoint::Token);
        while fleet.tenant.count(Endpoint::Token) < asked + 33 {
            thread::sleep(Duration::from_millis(100));
        }
        for device in 0..DEVICES {
            let next = Instant::now() + Duration::from_secs(1);
            assert!(fleet.comes_in(device), "{device}: {}", fleet.broker.log());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        println!("figures: {version}: {DEVICES} of {DEVICES} first tries, {} of junk meanwhile", flood.sent());
    }

    /// The broker waits once for a credential: not when others join the request, and not when it comes again.
    fn the_broker_waits_once_for_a_credential(version) {
        let tenant = tenant();
        let gate = ResponseGate::new();
        tenant.on(Endpoint::Token, Behaviour::Gate(gate.clone()));
        let set = options(&tenant).with("stall_budget", "100").with("login_wait", "1").with("login_cache", "0");
        let broker = broker(version, &set.with("timeout", "4"));
        broker.expect_log("signing keys were fetched");
        let connect = |i: usize| ConnectPacket::new(Protocol::V5, &format!("c{i}")).login(DEVICE, PASSWORD);
        let began = Instant::now();
        assert_eq!(answer(&broker, &connect(0)), expected_refusal(version, Protocol::V5, 0x89));
        let first = began.elapsed();
        assert!(first >= Duration::from_secs(1), "{first:?}");
        let began = Instant::now();
        for i in 1..10 {
            assert_eq!(answer(&broker, &connect(i)), expected_refusal(version, Protocol::V5, 0x89));
        }
        let joined = began.elapsed();
        assert!(joined < Duration::from_secs(2), "nine join the question: {joined:?}");
        assert_eq!(tenant.count(Endpoint::Token), 1);
        gate.open();
        assert!(retry_until_admitted(&broker, &connect(0)));
    }

    /// An error of the tenant that one user causes pauses that user only: others are asked about at once.
    fn a_tenant_error_caused_by_one_user_pauses_that_user(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("stall_budget", "100"));
        tenant.on(Endpoint::Token, Behaviour::Html(502));
        let attacker = login(Protocol::V5, "c", "provokes");
        for _ in 0..20 {
            assert_eq!(answer(&broker, &attacker), expected_refusal(version, Protocol::V5, 0x88));
        }
        let asked = tenant.count(Endpoint::Token);
        assert!((5..9).contains(&asked), "{asked}");
        assert!(expect_refusal(&broker, "'c'", "tenant-answer").contains("502"));
        tenant.behave();
        let device = ConnectPacket::new(Protocol::V5, "device").login(DEVICE, PASSWORD);
        assert_eq!(answer(&broker, &device), None, "{}", broker.log());
    }

    /// All five devices of a site get a 502 within a moment. They are the only ones whose requests can show
    /// that the fault is over.
    fn a_small_site_recovers_soon_after_a_brief_fault(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        let connects: Vec<_> = (0..5).map(|i| login(Protocol::V5, &format!("c{i}"), &format!("d{i}"))).collect();
        for (i, connect) in connects.iter().enumerate() {
            device(&tenant, &format!("d{i}"), json!(["temperature"]));
            assert_eq!(answer(&broker, connect), None);
        }
        tenant.on(Endpoint::Token, Behaviour::Html(502));
        for connect in &connects {
            assert!(answer(&broker, connect).is_some());
        }
        tenant.behave();
        for connect in &connects {
            assert!(retry_until_admitted(&broker, connect), "{}", broker.log());
        }
    }
}
