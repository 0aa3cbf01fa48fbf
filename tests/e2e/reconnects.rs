//! A thousand devices reconnect at once, as after a power cut: with tokens, with cached passwords, and with
//! passwords that are not cached. Two other clients exchange messages all the time.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::Mosquitto,
    clients::{
        Protocol,
        raw::{self, ConnectPacket},
    },
    crowd::Crowd,
    measure::{allow_open_files, in_parallel},
    tenant::{DEVICE, Endpoint, Tenant},
};

use crate::{helpers::*, on_each_broker};

const DEVICES: usize = 1000;

/// How long all devices together may take. Only a failing test waits that long.
const ALL_IN_WITHIN: Duration = Duration::from_secs(240);

/// Two clients that exchange messages, which shows that the broker is alive.
struct TalkingPair {
    publisher: raw::RawClient,
    subscriber: raw::RawClient,
}

impl TalkingPair {
    fn new(broker: &Mosquitto, tenant: &Tenant) -> Self {
        let publisher = raw(broker, tenant, DEVICE, "publisher", Protocol::V311);
        let mut subscriber = raw(broker, tenant, WATCHER, "subscriber", Protocol::V311);
        assert_eq!(subscriber.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        Self {
            publisher,
            subscriber,
        }
    }

    /// Exchanges messages while the devices connect, and calls a check after every message.
    fn talk_during<T: Send>(
        &mut self,
        mut look: impl FnMut(),
        crowd: impl FnOnce() -> T + Send,
    ) -> T {
        thread::scope(|scope| {
            let crowd = scope.spawn(crowd);
            let mut word = 0;
            while !crowd.is_finished() || word == 0 {
                word += 1;
                let text = word.to_string();
                assert_eq!(self.publisher.publish("temperature", &text, 1), Ok(0));
                let heard = self.subscriber.next_message(PATIENCE);
                assert_eq!(heard.map(|message| message.text()), Ok(text));
                look();
                // One message a millisecond: enough to notice a gap, and little load.
                thread::sleep(Duration::from_millis(1));
            }
            crowd.join().expect("no panic")
        })
    }
}

fn start(version: testbed::broker::Version, options: &PluginOptions) -> Mosquitto {
    allow_open_files(8 * DEVICES as u64).unwrap();
    let broker = builder(version, options).quiet().start();
    let broker = broker.unwrap_or_else(|error| panic!("{error}"));
    broker.expect_log("signing keys were fetched");
    broker
}

on_each_broker! {
    /// Tokens need no request to the tenant, which may be unreachable. All devices are admitted at once.
    fn a_thousand_devices_with_tokens_are_admitted_without_the_tenant(version) {
        let tenant = tenant();
        let broker = start(version, &PluginOptions::tokens(&tenant));
        let mut pair = TalkingPair::new(&broker, &tenant);
        let connects: Vec<ConnectPacket> = in_parallel(DEVICES, |i| {
            let token = tenant.mint(DEVICE).claim("sub", format!("auth0|{i}")).sign();
            token_connect(Protocol::V311, &format!("c{i}"), &token)
        });
        tenant.stop_listening();
        for _ in 0..3 {
            let connect = || Crowd::connect_at_once(broker.port(), connects.iter().cloned());
            let (crowd, refused) = pair.talk_during(|| (), connect);
            assert_eq!(refused, [], "{}", broker.log());
            // All connections are closed at once, without a DISCONNECT.
            drop(crowd);
        }
        let mut one = raw::RawClient::connect(broker.port(), &connects[7]).unwrap();
        assert_eq!(one.publish("temperature", "1", 1), Ok(0));
        assert_eq!(one.subscribe(&[("secret", 1)]), Ok(vec![0x80]));
        assert!(broker.stop().status.unwrap().success());
    }

    /// Passwords need one request each, at most at the permitted rate. Refused devices try again, and in the
    /// end all are admitted. The next time the tenant is unreachable, and none of them needs it.
    fn a_thousand_devices_with_passwords_are_all_admitted(version) {
        const RATE: usize = 10;
        let tenant = tenant();
        for i in 0..DEVICES {
            device(&tenant, &format!("d{i}"), json!(["temperature"]));
        }
        let connects: Vec<ConnectPacket> = (0..DEVICES)
            .map(|i| ConnectPacket::new(Protocol::V311, &format!("c{i}")).login(format!("d{i}"), "pass"))
            .collect();
        let options = PluginOptions::both(&tenant)
            .without("login_wait")
            .without("stall_budget")
            .without("login_cache")
            // These machines are slow at times, and this test is not about the timeout.
            .with("timeout", "30")
            .with("login_rate", &RATE.to_string());
        let began = Instant::now();
        let broker = start(version, &options);
        let mut pair = TalkingPair::new(&broker, &tenant);

        // A minute's worth at once, and what is gained meanwhile.
        let rate_holds = || {
            let asked = tenant.count(Endpoint::Token);
            let allowed = 60 * RATE + RATE * (began.elapsed().as_secs() as usize + 1);
            assert!(asked <= allowed, "{asked} questions, {allowed} allowed");
        };
        let crowd = pair.talk_during(rate_holds, || {
            let mut outside: Vec<usize> = (0..DEVICES).collect();
            let mut inside = Crowd::default();
            while !outside.is_empty() {
                assert!(began.elapsed() < ALL_IN_WITHIN, "{} are not in", outside.len());
                let (came_in, refused) =
                    Crowd::connect_at_once(broker.port(), outside.iter().map(|i| connects[*i].clone()));
                inside.join(came_in);
                outside = refused.into_iter().map(|(number, _)| outside[number]).collect();
                // As a device would, with a short delay.
                thread::sleep(Duration::from_millis(50));
            }
            inside
        });
        assert_eq!(crowd.len(), DEVICES);
        assert_eq!(tenant.count(Endpoint::Token), DEVICES, "one question each");
        for lockout in ["login-backoff", "login-locked", "login-refused"] {
            assert!(!broker.log().contains(lockout), "{}", broker.log());
        }
        expect_refusal(&broker, "", "login-rate");
        drop(crowd);

        tenant.stop_listening();
        for _ in 0..3 {
            let connect = || Crowd::connect_at_once(broker.port(), connects.iter().cloned());
            let (crowd, refused) = pair.talk_during(|| (), connect);
            assert_eq!((crowd.len(), refused.len()), (DEVICES, 0), "{}", broker.log());
        }
        assert_eq!(tenant.count(Endpoint::Token), DEVICES);
        let mut one = raw::RawClient::connect(broker.port(), &connects[7]).unwrap();
        assert_eq!(one.publish("temperature", "1", 1), Ok(0));
        assert_eq!(one.subscribe(&[("secret", 1)]), Ok(vec![0x80]));
        assert!(broker.stop().status.unwrap().success());
    }
}
