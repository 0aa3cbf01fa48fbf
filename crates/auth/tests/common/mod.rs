//! Helpers of the tests of sign-in without a broker: an instance with options, and a CONNECT with a token.

#![allow(dead_code, reason = "each test uses a part")]

use std::time::{Duration, Instant};

use auth::{
    client::{Client, ClientKey, ClientView},
    clock::{self, Unix},
    config::Config,
    engine::{Access, Action, Common, Connect, Decision, Engine, Step},
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    policy_file::BrokerFeatures,
    sessions::Origin,
    sign_in::Presented,
    threads,
};
use testbed::tenant::{AUDIENCE, Tenant};

/// The only instance in its broker.
pub(crate) struct TestInstance {
    pub engine: Engine,
    pub common: Common,
}

impl TestInstance {
    pub(crate) fn authenticate(&mut self, connect: &Connect, now: Unix) -> Step {
        self.engine.authenticate(&mut self.common, connect, now)
    }

    pub(crate) fn authorize(
        &mut self,
        access: &Access<impl ClientView + Copy>,
        now: Unix,
    ) -> Decision {
        self.engine.authorize(&mut self.common, access, now)
    }
}

/// An instance that has the keys of this tenant, and may fetch them again at any time.
pub(crate) fn instance_of(tenant: &Tenant, more: &[(&str, &str)]) -> TestInstance {
    let ca_file = tenant.ca_file().to_str().unwrap();
    let mut options = vec![
        ("domain", tenant.domain()),
        ("audience", AUDIENCE),
        ("ca_file", ca_file),
    ];
    options.extend(more);
    let pace = FetchSchedule {
        refresh: Duration::from_secs(3600),
        cool_down: Duration::ZERO,
        ..FetchSchedule::default()
    };
    let mut instance = instance(&options, pace, Log::default());
    let TestInstance { engine, common } = &mut instance;
    engine.start(common, BrokerFeatures::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while instance.engine.keys().current().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    instance
}

/// An instance with these options, which asks nobody yet.
#[track_caller]
pub(crate) fn instance(options: &[(&str, &str)], pace: FetchSchedule, log: Log) -> TestInstance {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let config = Config::read(options.iter().map(owned).collect()).unwrap();
    let mut common = Common::default();
    let engine = Engine::new(config, pace, log, threads::plain, &mut common).unwrap();
    TestInstance { engine, common }
}

/// Returns an access by the client that this CONNECT let in under this username.
pub(crate) fn access<'a>(
    connect: &Connect<'a>,
    username: &'a str,
    action: Action,
    topic: &'a str,
) -> Access<'a, Client<&'a str>> {
    Access {
        key: connect.key,
        client: Client {
            username: Some(username),
            ..connect.client
        },
        action,
        topic: topic.as_bytes(),
        qos: 0,
        retain: false,
        payload: 0,
    }
}

/// Returns a CONNECT with a token.
pub(crate) fn connect<'a>(client_id: &'a str, token: &'a str) -> Connect<'a> {
    Connect {
        key: ClientKey(1),
        client: Client {
            id: client_id,
            username: Some("JWT"),
            address: Some("192.0.2.1"),
            ..Client::default()
        },
        password: Some(token.as_bytes()),
        unverified_address: false,
        origin: Origin::Connect,
        id_is_free: false,
        presented: Presented::Password,
        restored_for: None,
        ends_with_connection: false,
    }
}

/// Admits a client with a valid token.
#[track_caller]
pub(crate) fn let_in(instance: &mut TestInstance, client_id: &str, token: &str) {
    match instance.authenticate(&connect(client_id, token), clock::now()) {
        Step::Admit(admission) => drop(instance.common.admit(admission)),
        Step::Refuse(refusal) => panic!("{refusal}"),
        _ => panic!("the keys are here"),
    }
}
