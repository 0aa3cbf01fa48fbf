//! What the tests of the policy alone share: one with options, and a CONNECT that brings a token.

#![allow(dead_code, reason = "each test uses a part")]

use auth::{
    clock,
    config::Config,
    keys::store::Pace,
    log::Log,
    policy::{Common, Connect, Policy, Step},
    sessions::Client,
    threads,
};

/// A policy with these options, which asks nobody yet.
#[track_caller]
pub fn policy(options: &[(&str, &str)], pace: Pace, log: Log) -> Policy {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let config = Config::read(options.iter().map(owned).collect()).unwrap();
    let common = Common::default();
    Policy::new(config, pace, log, threads::plain, &common).unwrap()
}

/// A CONNECT that brings a token.
pub fn connect<'a>(client_id: &'a str, token: &'a str) -> Connect<'a> {
    Connect {
        client: Client(1),
        client_id,
        username: Some("JWT"),
        password: Some(token.as_bytes()),
        address: Some("192.0.2.1"),
        unverified_address: false,
        port: None,
        certificate: None,
        id_is_free: false,
        again: false,
        restored: false,
        rechecked: false,
    }
}

/// Lets a client in with a token that is good.
#[track_caller]
pub fn let_in(policy: &Policy, client_id: &str, token: &str) {
    match policy.authenticate(&connect(client_id, token), clock::now()) {
        Step::Admit(admission) => drop(policy.admit(admission)),
        Step::Refuse(refusal) => panic!("{refusal}"),
        _ => panic!("the keys are here"),
    }
}
