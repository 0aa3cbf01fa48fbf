//! The stories, by what they are about.

mod clock;
mod codes;
mod crowds;
mod exits;
mod expiry;
mod instances;
mod names;
mod nulls;
mod order;
mod panics;
mod reentry;
mod repeats;
mod rights;
mod sighup;
mod start;
mod tenant;
mod texts;

use std::time::{Duration, Instant};

use fake_broker::{Access, Broker, Client, Options, SUCCESS, Spec};
use testbed::{
    scratch::Scratch,
    tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Tenant},
};

use crate::{RELEASE, broker};

/// What each tenant's device may publish and subscribe: [`testbed::tenant::Device::default`].
const GRANTED: &str = "temperature";
/// Another topic that it may use.
const ALSO_GRANTED: &str = "config";
/// A topic that nobody may use.
const FORBIDDEN: &str = "forbidden";

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Token mode, keys from the tenant.
fn options(tenant: &Tenant) -> Options {
    Options::new()
        .with("domain", tenant.domain())
        .with("ca_file", tenant.ca_file().as_os_str().as_encoded_bytes())
        .with("audience", AUDIENCE)
}

/// Token mode and credentials mode.
fn credentials(tenant: &Tenant) -> Options {
    options(tenant)
        .with("client_id", CLIENT_ID)
        .with("client_secret", CLIENT_SECRET)
        .with("connection", CONNECTION)
        // Each story is about what the tenant is asked and answers, not about how long a broker
        // stands still for it, nor about what is remembered.
        .with("login_wait", "20")
        .with("stall_budget", "100")
        .with("login_cache", "0")
}

/// Token mode, keys from a file: nothing that goes on in the background.
fn offline(tenant: &Tenant, scratch: &Scratch) -> Options {
    let keys = tenant.jwks().to_string();
    let file = scratch.write("jwks.json", keys).expect("a file");
    options(tenant).with("jwks_file", file.as_os_str().as_encoded_bytes())
}

fn scratch() -> Scratch {
    Scratch::new("fake-broker").expect("a temporary directory")
}

/// A broker with one plugin at work, and its tenant. Dropped in this order.
struct Scene {
    broker: Broker,
    tenant: Tenant,
    _scratch: Scratch,
    refusals: u8,
}

impl Scene {
    /// Keys from a file: nothing is asked of the tenant in token mode.
    fn quiet() -> Self {
        Self::quiet_with(|options| options)
    }

    fn quiet_with(change: impl FnOnce(Options) -> Options) -> Self {
        let (tenant, scratch, mut broker) = (Tenant::start(), scratch(), broker());
        let options = change(offline(&tenant, &scratch));
        assert_eq!(broker.init(&options), Ok(()), "{:#?}", broker.log());
        broker.asked();
        Self {
            broker,
            tenant,
            _scratch: scratch,
            refusals: 0,
        }
    }

    /// Keys from the tenant, and they are here.
    fn live(options: impl FnOnce(&Tenant) -> Options) -> Self {
        let (tenant, mut broker) = (Tenant::start(), broker());
        assert_eq!(
            broker.init(&options(&tenant)),
            Ok(()),
            "{:#?}",
            broker.log()
        );
        broker.run_until_said("signing keys are here");
        broker.forget_log();
        broker.asked();
        Self {
            broker,
            tenant,
            _scratch: scratch(),
            refusals: 0,
        }
    }

    /// A client with a good token.
    fn device(&self, id: &str) -> Spec {
        Spec::new(id).token(self.tenant.token(DEVICE))
    }

    /// Such a client, let in.
    fn connected(&mut self, spec: &Spec) -> Client {
        let (client, code) = self.broker.connect_new(spec);
        assert_eq!(code, SUCCESS, "{:#?}", self.broker.log());
        client
    }

    /// A CONNECT that is refused: with this code, and with one line that gives this reason. Each comes from
    /// another address, because a repetition from the same one would only be counted.
    #[track_caller]
    fn refused(&mut self, spec: &Spec, code: i32, reason: &str) {
        self.refusals += 1;
        let spec = spec
            .clone()
            .address(&format!("198.51.100.{}", self.refusals));
        let (client, answer) = self.broker.connect_new(&spec);
        self.was_refused(client, answer, code, reason);
    }

    #[track_caller]
    fn was_refused(&mut self, client: Client, answer: i32, code: i32, reason: &str) {
        assert_eq!(answer, RELEASE.refusal(code), "{:#?}", self.broker.log());
        assert_eq!(
            self.broker.lines_with(reason),
            1,
            "{reason}: {:#?}",
            self.broker.log()
        );
        self.broker.forget_log();
        // Its will would be asked about now.
        for access in [Access::Read, Access::Write, Access::Subscribe] {
            assert!(!self.broker.allows(client, access, GRANTED), "{access:?}");
        }
        self.broker.asked();
        self.broker.tick();
        self.broker.forget_log();
    }
}

/// Waits for the clock, which nothing else waits for.
fn wait_until_time_is(seconds: u64) {
    let started = Instant::now();
    while testbed::signing::now() < seconds {
        assert!(started.elapsed() < PATIENCE, "the clock stands still");
        std::thread::sleep(Duration::from_millis(10));
    }
}
