//! A thousand devices that reconnect at once, as after a power cut: with tokens, with passwords that
//! are remembered, and with passwords that nobody knows here. Two others talk all the while.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::Broker,
    clients::{
        Protocol,
        raw::{self, Connect},
    },
    crowd::Crowd,
    measure::{allow_open_files, in_parallel},
    tenant::{DEVICE, Endpoint, Tenant},
};

use crate::{on_each_broker, setting::*};

const DEVICES: usize = 1000;

/// How long the whole crowd may take. Only a test that fails waits that long.
const ALL_IN_WITHIN: Duration = Duration::from_secs(240);

/// Two that talk: the broker is alive.
struct Pair {
    publisher: raw::Client,
    subscriber: raw::Client,
}

impl Pair {
    fn new(broker: &Broker, tenant: &Tenant) -> Self {
        let publisher = raw(broker, tenant, DEVICE, "publisher", Protocol::V311);
        let mut subscriber = raw(broker, tenant, WATCHER, "subscriber", Protocol::V311);
        assert_eq!(subscriber.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        Self {
            publisher,
            subscriber,
        }
    }

    /// Talks for as long as the crowd takes, and looks at something after every word.
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
                // A word a millisecond: they are to be heard, not to be the load.
                thread::sleep(Duration::from_millis(1));
            }
            crowd.join().expect("no panic")
        })
    }
}

fn start(version: testbed::broker::Version, options: &Options) -> Broker {
    allow_open_files(8 * DEVICES as u64).unwrap();
    let broker = builder(version, options).quiet().start();
    let broker = broker.unwrap_or_else(|error| panic!("{error}"));
    broker.expect_log("signing keys are here");
    broker
}

on_each_broker! {
    /// With tokens nobody is asked, so that the tenant may as well be away; and everybody is in at once.
    fn a_thousand_with_tokens(version) {
        let tenant = tenant();
        let broker = start(version, &Options::tokens(&tenant));
        let mut pair = Pair::new(&broker, &tenant);
        let connects: Vec<Connect> = in_parallel(DEVICES, |i| {
            let token = tenant.mint(DEVICE).claim("sub", format!("auth0|{i}")).sign();
            token_connect(Protocol::V311, &format!("c{i}"), &token)
        });
        tenant.stop_listening();
        for _ in 0..3 {
            let (crowd, refused) = pair.talk_during(|| (), || Crowd::rush(broker.port(), connects.iter().cloned()));
            assert_eq!(refused, [], "{}", broker.log());
            // And gone again without a word, all at once.
            drop(crowd);
        }
        let mut one = raw::Client::connect(broker.port(), &connects[7]).unwrap();
        assert_eq!(one.publish("temperature", "1", 1), Ok(0));
        assert_eq!(one.subscribe(&[("secret", 1)]), Ok(vec![0x80]));
        assert!(broker.stop().status.unwrap().success());
    }

    /// With passwords the tenant is asked about each, and no faster than it allows. Whoever is turned
    /// away tries again, and in the end everybody is in. The next time the tenant is away, and nobody
    /// needs it.
    fn a_thousand_with_passwords(version) {
        const RATE: usize = 10;
        let tenant = tenant();
        for i in 0..DEVICES {
            device(&tenant, &format!("d{i}"), json!(["temperature"]));
        }
        let connects: Vec<Connect> = (0..DEVICES)
            .map(|i| Connect::new(Protocol::V311, &format!("c{i}")).login(format!("d{i}"), "pass"))
            .collect();
        let options = Options::both(&tenant)
            .without("login_wait")
            .without("stall_budget")
            .without("login_cache")
            // These machines are slow at times, and what is tested is not the timeout.
            .with("timeout", "30")
            .with("login_rate", &RATE.to_string());
        let began = Instant::now();
        let broker = start(version, &options);
        let mut pair = Pair::new(&broker, &tenant);

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
                    Crowd::rush(broker.port(), outside.iter().map(|i| connects[*i].clone()));
                inside.join(came_in);
                outside = refused.into_iter().map(|(number, _)| outside[number]).collect();
                // As a device would, if a little hastily.
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
            let (crowd, refused) = pair.talk_during(|| (), || Crowd::rush(broker.port(), connects.iter().cloned()));
            assert_eq!((crowd.len(), refused.len()), (DEVICES, 0), "{}", broker.log());
        }
        assert_eq!(tenant.count(Endpoint::Token), DEVICES);
        let mut one = raw::Client::connect(broker.port(), &connects[7]).unwrap();
        assert_eq!(one.publish("temperature", "1", 1), Ok(0));
        assert_eq!(one.subscribe(&[("secret", 1)]), Ok(vec![0x80]));
        assert!(broker.stop().status.unwrap().success());
    }
}
