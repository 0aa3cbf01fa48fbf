//! Stories that the fake broker plays with the plugin, by subject.

mod client_ids;
mod clock;
mod codes;
mod control;
mod crowds;
mod exits;
mod expiry;
mod extended_auth;
mod instances;
mod metrics;
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
mod walks;

use std::time::{Duration, Instant};

use fake_broker::{AclAccess, ClientSpec, FakeBroker, FakeClient, InitOptions, SUCCESS, allowed};
use testbed::{
    scratch::Scratch,
    tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, PASSWORD, Tenant},
};

use crate::{RELEASE, broker};

/// A topic that each tenant's device may publish and subscribe to: [`testbed::tenant::Device::default`].
const GRANTED: &str = "temperature";
/// Another topic that it may use.
const ALSO_GRANTED: &str = "config";
/// A topic that no device may use.
const FORBIDDEN: &str = "forbidden";

/// How long to wait for an expected event, on a machine that is not slower than usual.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most that the option `timeout` may be.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait for an expected event.
fn patience() -> Duration {
    allowed(PATIENCE)
}

/// Token mode, with keys from the tenant.
fn options(tenant: &Tenant) -> InitOptions {
    // The plugin's default. On a slow machine a request would fail, and the next one comes when nobody expects it.
    let timeout = allowed(Duration::from_secs(5)).min(LONGEST_TIMEOUT);
    InitOptions::new()
        .with("timeout", timeout.as_secs().to_string())
        .with("domain", tenant.domain())
        .with("ca_file", tenant.ca_file().as_os_str().as_encoded_bytes())
        .with("audience", AUDIENCE)
}

/// Token mode and credentials mode.
fn credentials(tenant: &Tenant) -> InitOptions {
    options(tenant)
        .with("client_id", CLIENT_ID)
        .with("client_secret", CLIENT_SECRET)
        .with("connection", CONNECTION)
        // Stories with these options are about the tenant's requests and responses. The budget for waiting
        // and the caches have stories of their own.
        .with("login_wait", "20")
        .with("stall_budget", "100")
        .with("login_cache", "0")
}

/// Token mode with keys from a file: nothing happens in the background.
fn offline(tenant: &Tenant, scratch: &Scratch) -> InitOptions {
    let keys = tenant.jwks().to_string();
    let file = scratch.write("jwks.json", keys).expect("a file");
    options(tenant).with("jwks_file", file.as_os_str().as_encoded_bytes())
}

/// Returns a client with the device's user name and password.
fn login(id: &str) -> ClientSpec {
    ClientSpec::new(id).username(DEVICE).password(PASSWORD)
}

fn scratch() -> Scratch {
    Scratch::new("fake-broker").expect("a temporary directory")
}

/// A broker with one running plugin, and its tenant. They are dropped in this order.
struct Scene {
    broker: FakeBroker,
    tenant: Tenant,
    _scratch: Scratch,
    refusals: u8,
}

impl Scene {
    /// Starts with keys from a file: in token mode nothing is requested from the tenant.
    fn quiet() -> Self {
        Self::quiet_with(|options| options)
    }

    fn quiet_with(change: impl FnOnce(InitOptions) -> InitOptions) -> Self {
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

    /// Starts with keys from the tenant, and waits for them.
    fn live(options: impl FnOnce(&Tenant) -> InitOptions) -> Self {
        let (tenant, mut broker) = (Tenant::start(), broker());
        assert_eq!(
            broker.init(&options(&tenant)),
            Ok(()),
            "{:#?}",
            broker.log()
        );
        broker.run_until_said("signing keys were fetched");
        broker.forget_log();
        broker.asked();
        Self {
            broker,
            tenant,
            _scratch: scratch(),
            refusals: 0,
        }
    }

    /// Returns a client with a valid token.
    fn device(&self, id: &str) -> ClientSpec {
        ClientSpec::new(id).token(self.tenant.token(DEVICE))
    }

    /// Connects a client, which must be admitted.
    fn connected(&mut self, spec: &ClientSpec) -> FakeClient {
        let (client, code) = self.broker.connect_new(spec);
        assert_eq!(code, SUCCESS, "{:#?}", self.broker.log());
        client
    }

    /// Connects a client, which must be refused with this code and one log line with this reason. Each call
    /// uses another address, because a repetition from the same one would only be counted.
    #[track_caller]
    fn refused(&mut self, spec: &ClientSpec, code: i32, reason: &str) {
        self.refusals += 1;
        let spec = spec
            .clone()
            .address(&format!("198.51.100.{}", self.refusals));
        let (client, answer) = self.broker.connect_new(&spec);
        self.was_refused(client, answer, code, reason);
    }

    #[track_caller]
    fn was_refused(&mut self, client: FakeClient, answer: i32, code: i32, reason: &str) {
        assert_eq!(answer, RELEASE.refusal(code), "{:#?}", self.broker.log());
        assert_eq!(
            self.broker.lines_with(reason),
            1,
            "{reason}: {:#?}",
            self.broker.log()
        );
        self.broker.forget_log();
        // The broker would ask about its will now.
        for access in [AclAccess::Read, AclAccess::Write, AclAccess::Subscribe] {
            assert!(!self.broker.allows(client, access, GRANTED), "{access:?}");
        }
        self.broker.asked();
        self.broker.tick();
        self.broker.forget_log();
    }
}

/// Waits until the wall clock has reached this time.
fn wait_until_time_is(seconds: u64) {
    let started = Instant::now();
    while testbed::signing::now() < seconds {
        assert!(started.elapsed() < patience(), "the clock stands still");
        std::thread::sleep(Duration::from_millis(10));
    }
}
