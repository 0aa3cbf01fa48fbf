//! Tests that set the broker's wall clock while it runs: forward and back, by seconds, hours and 400 days.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket, ConnectRefusal},
    },
    signing::now,
    tenant::{Behaviour, DEVICE, Endpoint, ResponseGate, Tenant},
    wall::WallClock,
};

use crate::{
    helpers::*,
    on_each_broker,
    waiting::{login, options, send_connect},
};

const HOUR: f64 = 3600.0;
const DAYS: f64 = 400.0 * 86_400.0;

/// By how many seconds the clock is wrong, in order: each way, and back to the right time.
const SETTINGS: [f64; 13] = [
    1.5, 0.0, 5.0, 0.0, -5.0, 0.0, HOUR, 0.0, -HOUR, 0.0, DAYS, 0.0, -DAYS,
];

/// The longest wait for what must happen although the clock was set. It is far shorter than the time by which
/// the clock was set.
const SOON: Duration = Duration::from_secs(10);

fn broker_with(wall: &WallClock, version: Version, options: &PluginOptions) -> Mosquitto {
    let broker = wall.of(builder(version, options)).start();
    let broker = broker.unwrap_or_else(|e| panic!("{version}: {e}"));
    broker.expect_log("signing keys were fetched");
    broker
}

/// Sets the clock of the tenant and of the devices to be wrong by `seconds`.
fn set_others(tenant: &Tenant, seconds: f64) {
    tenant.configure(|settings| settings.clock_offset = seconds as i64);
}

/// Connects a device before the clock is set. It asks for no keep-alive: 2.0.20 and 2.0.21 measure that by
/// the wall clock, and disconnect every client when it is set forward.
fn old(broker: &Mosquitto, tenant: &Tenant) -> raw::RawClient {
    let mut connect = token_connect(Protocol::V5, "old", &tenant.token(DEVICE));
    connect.keepalive = 0;
    raw::RawClient::connect(broker.port(), &connect).unwrap()
}

/// Checks that the client is connected and has its rights, for long enough that the plugin has read the new
/// time.
#[track_caller]
fn stays(client: &mut raw::RawClient, what: &str) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(250) {
        let answer = client.publish("temperature", "1", 1);
        assert!(answer.is_ok_and(|code| code < 0x80), "{what}: {answer:?}");
    }
}

on_each_broker! {
    /// Devices sign in with passwords and with tokens, and connected devices stay connected.
    fn sign_ins_succeed_after_clock_changes(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let broker = broker_with(&wall, version, &options(&tenant));
        let mut old = old(&broker, &tenant);
        let mut slowest = Duration::ZERO;
        for (i, seconds) in SETTINGS.into_iter().enumerate() {
            let name = format!("d{i}");
            device(&tenant, &name, json!(["temperature"]));
            wall.set(seconds);
            set_others(&tenant, seconds);
            stays(&mut old, &format!("{seconds}"));
            for protocol in [Protocol::V311, Protocol::V5] {
                let began = Instant::now();
                assert!(retry_until_admitted(&broker, &login(protocol, &name, &name)), "{seconds}: {}", broker.log());
                slowest = slowest.max(began.elapsed());
            }
            let token = token_connect(Protocol::V5, "by-token", &tenant.token(DEVICE));
            assert_eq!(answer(&broker, &token), None, "{seconds}");
            let wrong = ConnectPacket::new(Protocol::V311, "wrong").login(&name, "wrong");
            assert_eq!(answer(&broker, &wrong), Some(ConnectRefusal::Code(5)), "{seconds}");
        }
        assert!(slowest < SOON, "{slowest:?}");
        assert!(broker.stop().status.unwrap().success());
    }

    /// Once a minute the log says which known devices had to come back, and why.
    fn a_minute_in_which_known_devices_were_refused_is_logged(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        device(&tenant, "meter", json!(["temperature"]));
        let broker = broker_with(&wall, version, &options(&tenant).with("login_cache", "0").with("stall_budget", "0"));
        let connect = login(Protocol::V5, "meter", "meter");
        assert!(retry_until_admitted(&broker, &connect));
        let gate = ResponseGate::new();
        tenant.on(Endpoint::Token, Behaviour::Gate(gate.clone()));
        assert!(answer(&broker, &connect).is_some());
        wall.set(61.0);
        broker.expect_log(
            "in the last minute 1 device that signed in before had to try again, and 0 devices whose user or address \
             is known ([login-pending] 1 times)",
        );
        gate.open();
    }

    /// A token with six seconds left gives rights for six seconds. Then its client is disconnected.
    fn clock_changes_do_not_change_when_rights_end(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let broker = broker_with(&wall, version, &options(&tenant).with("leeway", "0"));
        let mut old = old(&broker, &tenant);
        for seconds in [0.0, HOUR, -HOUR] {
            wall.set(seconds);
            stays(&mut old, "its token is good for a day");
            let at = now().saturating_add_signed(seconds as i64);
            let token = tenant.mint(DEVICE).claim("iat", at).claim("exp", at + 6).sign();
            let mut short = token_connect(Protocol::V311, "short", &token);
            short.keepalive = 0;
            let began = Instant::now();
            let mut short = raw::RawClient::connect(broker.port(), &short).unwrap();
            for wrong in [1.5, 0.0, 5.0, 0.0, HOUR, 0.0, DAYS, 0.0, -HOUR, -DAYS] {
                wall.set(seconds + wrong);
                stays(&mut short, &format!("{seconds} {wrong}"));
            }
            assert!(short.wait_end(SOON).is_ok(), "{seconds}: it still has rights");
            let lasted = began.elapsed();
            assert!((4.5..9.0).contains(&lasted.as_secs_f64()), "{seconds}: {lasted:?}");
            stays(&mut old, "its token is good for a day");
        }
        expect_refusal(&broker, "'short'", "rights-expired");
        broker.expect_log("the clock was set forward by");
    }

    /// A suspended machine sets no clock: a token's time goes on, and so does the time of the rights that it
    /// gave.
    fn rights_end_while_the_machine_sleeps(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let broker = broker_with(&wall, version, &options(&tenant).with("leeway", "0"));
        let mut old = old(&broker, &tenant);
        let mut ahead = 0.0;
        for (asleep, set) in [(HOUR, 0.0), (3.0 * HOUR, HOUR), (4.0 * HOUR, -HOUR)] {
            let at = now().saturating_add_signed(ahead as i64);
            let token = tenant.mint(DEVICE).claim("iat", at).claim("exp", at + 1800).sign();
            let mut short = token_connect(Protocol::V311, "short", &token);
            short.keepalive = 0;
            let mut short = raw::RawClient::connect(broker.port(), &short).unwrap();
            wall.set(set);
            stays(&mut short, "a clock that is set takes nothing from it");
            wall.sleep(asleep);
            assert!(short.wait_end(SOON).is_ok(), "{asleep} {set}: it still has rights");
            stays(&mut old, "its token is good for a day");
            ahead = asleep + set;
        }
        expect_refusal(&broker, "'short'", "rights-expired");
    }

    /// SIGHUP takes effect: the new policy file on disk is in force.
    fn reload_works_after_clock_changes(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let policy = testbed::scratch::Scratch::new("clock").unwrap();
        let path = policy.path().join("policy.toml");
        let write = |topic: &str| {
            fs::write(&path, format!("[[rule]]\nname = \"now\"\nallow.both = \"{topic}\"\n")).unwrap();
        };
        write("at/first");
        let options = options(&tenant).with("policy_file", path.to_str().unwrap());
        let broker = broker_with(&wall, version, &options);
        let mut old = old(&broker, &tenant);
        let mut slowest = Duration::ZERO;
        for (i, seconds) in SETTINGS.into_iter().enumerate() {
            wall.set(seconds);
            let topic = format!("now/{i}");
            write(&topic);
            assert_eq!(old.publish(&topic, "1", 1), Ok(0x87), "not yet");
            let began = Instant::now();
            broker.reload();
            slowest = slowest.max(began.elapsed());
            assert!(old.publish(&topic, "1", 1).unwrap() < 0x80, "{seconds}: {}", broker.log());
        }
        assert!(slowest < SOON, "{slowest:?}");
    }

    /// Times of the day follow the wall clock, also for topics that were allowed a moment ago.
    fn policy_file_times_follow_the_wall_clock(version) {
        let (wall, tenant) = (WallClock::new().unwrap(), tenant());
        let policy = testbed::scratch::Scratch::new("clock").unwrap();
        let hour = |ahead: u64| (now() / 3600 + ahead) % 24;
        // The window begins in six hours: it excludes now and twelve hours from now, whenever this test runs.
        let rule = format!(
            "time_zone = \"UTC\"\n[[rule]]\nname = \"later\"\nwhen.time = \"{:02}:00-{:02}:00\"\nallow.both = \"later\"\n",
            hour(5), hour(8)
        );
        let path = policy.write("policy.toml", rule).unwrap();
        let options = options(&tenant).with("policy_file", path.to_str().unwrap());
        let broker = broker_with(&wall, version, &options);
        let mut old = old(&broker, &tenant);
        for (hours, allowed) in [(0.0, false), (6.0, true), (12.0, false), (6.0, true), (0.0, false)] {
            let seconds = hours * HOUR;
            wall.set(seconds);
            stays(&mut old, "its rights of the token");
            for _ in 0..3 {
                assert_eq!(old.publish("later", "1", 1).unwrap() < 0x80, allowed, "{seconds}");
            }
        }
    }

    /// A client that waits for the tenant when the clock is set back gets its answer, and a SIGHUP that waits
    /// for that takes effect.
    fn waiting_clients_get_an_answer_after_clock_changes(version) {
        for (ahead, behind) in [(1.5, 0.0), (0.0, -HOUR), (DAYS, -DAYS)] {
            let (wall, tenant) = (WallClock::new().unwrap(), tenant());
            device(&tenant, "d0", json!(["temperature"]));
            let broker = broker_with(&wall, version, &options(&tenant).with("login_wait", "0"));
            let gate = ResponseGate::new();
            tenant.on(Endpoint::Token, Behaviour::Gate(gate.clone()));
            let mut old = old(&broker, &tenant);
            wall.set(ahead);
            set_others(&tenant, behind);
            stays(&mut old, "ahead");
            let connect = login(Protocol::V311, "c", "d0");
            let mut waits = send_connect(&broker, &connect);
            assert!(gate.wait_for(1, PATIENCE));
            wall.set(behind);
            stays(&mut old, "behind");
            let mark = broker.log_mark();
            broker.sighup();
            gate.open();
            let answered = waits.wait_connack(PATIENCE);
            match version.can_delay_logins() {
                true => assert_eq!(answered, Ok(())),
                false => assert_eq!(answered, Err(ConnectRefusal::Code(5))),
            }
            assert!(retry_until_admitted(&broker, &connect), "{}", broker.log());
            assert!(broker.wait_for_log_after(mark, "Reloading config", SOON).is_some(), "{}", broker.log());
        }
    }
}
