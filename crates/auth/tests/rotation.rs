//! Tokens with unknown keys while the cool-down allows a fetch: the sign-in waits for one fetch, after which
//! it is admitted or refused for good. (The cool-down itself is tested in `jwt::jwks_cache` and `e2e`.)

mod common;

use std::time::{Duration, Instant};

use auth::{
    client::ClientKey,
    clock,
    engine::{Connect, Step},
    refusal::Reason,
};
use common::TestInstance;
use testbed::tenant::{DEVICE, Endpoint, Tenant};

/// Returns the result, and whether the sign-in had to wait.
fn sign_in(instance: &mut TestInstance, token: &str) -> (Result<String, Reason>, bool) {
    let connect = common::connect("c", token);
    let (result, waited) = match instance.authenticate(&connect, clock::now()) {
        Step::Wait(wait) => {
            let (engine, common) = (&mut instance.engine, &mut instance.common);
            (engine.wait(common, wait, clock::now), true)
        }
        Step::Admit(admission) => (Ok(admission), false),
        Step::Refuse(refusal) => (Err(refusal), false),
        Step::Keep | Step::Defer => panic!("nobody was in"),
    };
    let username = result.map(|admission| admission.username().to_owned());
    (username.map_err(|refusal| refusal.reason), waited)
}

#[test]
fn a_new_key_is_fetched_and_used() {
    let tenant = Tenant::builder().fresh_keys().start().unwrap();
    let sub = tenant.device(DEVICE).unwrap().user_id;
    let mut instance = common::instance_of(&tenant, &[]);
    let old = tenant.token(DEVICE);
    assert_eq!(sign_in(&mut instance, &old), (Ok(sub.clone()), false));

    tenant.rotate_unannounced();
    let new = tenant.token(DEVICE);
    assert_eq!(sign_in(&mut instance, &new), (Ok(sub.clone()), true));
    assert_eq!(tenant.count(Endpoint::Jwks), 2);
    assert_eq!(sign_in(&mut instance, &new), (Ok(sub.clone()), false));
    assert_eq!(
        sign_in(&mut instance, &old),
        (Ok(sub), false),
        "the previous key is good until it is revoked"
    );
    assert_eq!(tenant.count(Endpoint::Jwks), 2);

    tenant.revoke_previous();
    instance.engine.reload(&mut instance.common, false);
    let deadline = Instant::now() + Duration::from_secs(20);
    while sign_in(&mut instance, &old).0.is_ok() {
        assert!(
            Instant::now() < deadline,
            "a revoked key dies with the next fetch"
        );
    }
}

#[test]
fn a_made_up_key_is_fetched_once_and_refused() {
    let tenant = Tenant::start();
    let mut instance = common::instance_of(&tenant, &[]);
    let forged = tenant.mint(DEVICE).header("kid", "made-up").sign();
    assert_eq!(
        sign_in(&mut instance, &forged),
        (Err(Reason::TokenKeyUnknown), true)
    );
    assert_eq!(tenant.count(Endpoint::Jwks), 2);
}

/// Many sign-ins at once wait for the same fetch.
#[test]
fn simultaneous_sign_ins_share_one_fetch() {
    let tenant = Tenant::builder().fresh_keys().start().unwrap();
    let TestInstance { engine, common } = &mut common::instance_of(&tenant, &[]);
    tenant.rotate_unannounced();
    let gate = testbed::tenant::ResponseGate::new();
    tenant.once(
        Endpoint::Jwks,
        testbed::tenant::Behaviour::Gate(gate.clone()),
    );
    for i in 0..20 {
        let token = tenant.mint(DEVICE).claim("jti", i).sign();
        let client_id = format!("c{i}");
        let connect = Connect {
            key: ClientKey(1 + i),
            ..common::connect(&client_id, &token)
        };
        match engine.authenticate(common, &connect, clock::now()) {
            Step::Wait(wait) => assert!(engine.delay(common, wait, clock::now()).is_ok()),
            _ => panic!("its key is not here"),
        }
    }
    assert!(gate.wait_for(1, Duration::from_secs(20)));
    gate.open();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut answers = Vec::new();
    while answers.len() < 20 {
        assert!(Instant::now() < deadline);
        answers.extend(engine.collect(common, clock::now()));
        std::thread::yield_now();
    }
    assert!(answers.iter().all(|answer| answer.admission.is_some()));
    // One fetch for all that waited. Without a cool-down a late one may fetch again, but not each of twenty.
    assert!(
        tenant.count(Endpoint::Jwks) <= 3,
        "{}",
        tenant.count(Endpoint::Jwks)
    );
}
