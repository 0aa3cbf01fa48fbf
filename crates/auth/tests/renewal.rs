//! Renewal of the rights of a client that is in, without a broker.

mod common;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use auth::{
    client::{Client, ClientKey},
    clock::{self, Unix},
    engine::{Access, Action, AuthPacket, ExchangeStep, Renewal, Step},
    jwt::{jwks::KeySet, jwks_cache::FetchSchedule},
    log::Log,
    policy_file::BrokerFeatures,
    refusal::Reason,
    sessions::{AfterDisconnect, Origin},
};
use common::TestInstance;
use serde_json::{Value, json};
use testbed::{
    signing::{Alg, now, shared_key},
    tenant::{DEVICE, Tenant},
};

const ISSUER: &str = "https://t.example/";
const AUDIENCE: &str = "https://mqtt.example/";

/// A client as the broker describes it.
const PUMP: Client<&str> = Client {
    id: "pump",
    username: Some("u"),
    address: Some("192.0.2.1"),
    port: None,
    certificate: None,
};

/// Returns an instance with these options, and its log. It cannot read its configuration again.
fn instance(options: &[(&str, &str)]) -> (TestInstance, Log) {
    let keys = tempfile::NamedTempFile::new().unwrap();
    instance_with(keys.path(), options)
}

/// The same with its keys in this file.
fn instance_with(keys: &Path, options: &[(&str, &str)]) -> (TestInstance, Log) {
    fs::write(keys, json!({"keys": [shared_key(0).jwk()]}).to_string()).unwrap();
    let always = [
        ("issuer", ISSUER),
        ("audience", AUDIENCE),
        ("leeway", "0"),
        ("expiry_jitter", "0"),
        ("jwks_file", keys.to_str().unwrap()),
    ];
    let log = Log::default();
    let all = [&always, options].concat();
    let mut instance = common::instance(&all, FetchSchedule::default(), log.clone());
    let features = BrokerFeatures {
        removes_subscriptions: true,
        ..BrokerFeatures::default()
    };
    instance
        .engine
        .start(&mut instance.common, features)
        .unwrap();
    (instance, log)
}

/// Returns a token of the account `u`, with other claims where these are given.
fn token(claims: &Value) -> String {
    let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": now() + 3600});
    let members = all.as_object_mut().unwrap();
    members.extend(claims.as_object().unwrap().clone());
    let header = json!({"alg": "RS256", "kid": shared_key(0).kid()});
    shared_key(0).sign(Alg::Rs256, header, all)
}

fn renew(instance: &mut TestInstance, token: &str) -> Result<Unix, Reason> {
    renew_at(instance, token, clock::now())
}

#[track_caller]
fn renew_at(instance: &mut TestInstance, token: &str, now: Unix) -> Result<Unix, Reason> {
    let (engine, common) = (&mut instance.engine, &mut instance.common);
    match engine.renew(common, ClientKey(1), &PUMP, token.as_bytes(), now) {
        Renewal::Renewed { until } => Ok(until),
        Renewal::Refused(refusal) => Err(refusal.reason),
        Renewal::Wait(_) => panic!("the keys are here"),
    }
}

fn may(instance: &mut TestInstance, action: Action, topic: &str, now: u64) -> bool {
    let access = Access {
        key: ClientKey(1),
        client: PUMP,
        action,
        topic: topic.as_bytes(),
        qos: 0,
        retain: false,
        payload: 0,
    };
    instance.authorize(&access, Unix(now)).allows()
}

fn may_publish(instance: &mut TestInstance, topic: &str) -> bool {
    may(instance, Action::Publish, topic, now())
}

#[test]
fn new_rights_hold_at_once_and_to_their_own_end() {
    let (mut instance, _) = instance(&[]);
    let end = now() + 100;
    let old = token(&json!({"topics": ["old/#"], "exp": end}));
    common::let_in(&mut instance, "pump", &old);
    assert!(may_publish(&mut instance, "old/1") && !may_publish(&mut instance, "new/1"));

    let later = now() + 5000;
    let new = token(&json!({"topics": ["new/#"], "exp": later}));
    assert_eq!(renew(&mut instance, &new), Ok(Unix(later)));
    for action in [Action::Publish, Action::Receive, Action::Subscribe] {
        assert!(may(&mut instance, action, "new/1", now()), "{action:?}");
        assert!(!may(&mut instance, action, "old/1", now()), "{action:?}");
    }
    let engine = &mut instance.engine;
    assert!(
        engine
            .expire(&mut instance.common, Unix(end + 1))
            .is_empty()
    );
    assert!(may(&mut instance, Action::Publish, "new/1", end + 1));

    // A shorter one counts, too.
    let shorter = now() + 50;
    let new = token(&json!({"topics": ["new/#"], "exp": shorter}));
    assert_eq!(renew(&mut instance, &new), Ok(Unix(shorter)));
    let engine = &mut instance.engine;
    let ended = engine.expire(&mut instance.common, Unix(shorter));
    assert_eq!(ended.len(), 1);
    assert!(!may(&mut instance, Action::Publish, "new/1", shorter));
    // And ends once.
    let engine = &mut instance.engine;
    let twice = engine.expire(&mut instance.common, Unix(later + 1));
    assert!(twice.is_empty());
}

#[test]
fn a_renewal_that_fails_changes_nothing() {
    let options = [("client_id_claim", "id"), ("username_claim", "name")];
    let (mut instance, log) = instance(&options);
    let claims = |change: Value| {
        let mut all = json!({"topics": ["old/#"], "name": "u", "id": ["pump", "fan"]});
        let members = all.as_object_mut().unwrap();
        members.extend(change.as_object().unwrap().clone());
        token(&all)
    };
    let end = now() + 100;
    common::let_in(&mut instance, "pump", &claims(json!({"exp": end})));
    for (change, reason) in [
        (json!({"sub": "v"}), Reason::RenewalAccount),
        (
            json!({"iss": "https://other.example/"}),
            Reason::TokenIssuer,
        ),
        (json!({"name": "v"}), Reason::RenewalAccount),
        (json!({"name": 7}), Reason::TokenUsername),
        (json!({"id": "fan"}), Reason::ClientId),
        (json!({"exp": now() - 1000}), Reason::TokenExpired),
        (json!({"topics": "a/#/b"}), Reason::TokenTopics),
    ] {
        let text = change.to_string();
        assert_eq!(renew(&mut instance, &claims(change)), Err(reason), "{text}");
        let lines = log.take();
        match &lines[..] {
            [(_, line)] => {
                let head = format!("refused renewal [{}] of", reason.code());
                assert!(line.starts_with(&head) && line.contains("fix: "), "{line}");
            }
            // Another user name counts as a repeat of another account.
            _ => assert!(text.contains("name") && lines.is_empty(), "{lines:?}"),
        }
        assert!(may_publish(&mut instance, "old/1"), "{text}");
    }
    let whole = claims(json!({}));
    for (sent, reason) in [
        (format!("Bearer {whole}"), Reason::TokenWrapped),
        (whole[..whole.len() - 9].to_owned(), Reason::TokenMalformed),
        ("opaque".to_owned(), Reason::TokenMalformed),
        (String::new(), Reason::TokenMalformed),
    ] {
        assert_eq!(renew(&mut instance, &sent), Err(reason), "{sent:.10}");
    }
    let engine = &mut instance.engine;
    let ended = engine.expire(&mut instance.common, Unix(end));
    assert_eq!(ended.len(), 1, "the old end counts");
}

#[test]
fn only_a_session_whose_rights_have_not_ended_is_renewed() {
    let (mut instance, _) = instance(&[]);
    let new = token(&json!({"topics": ["a"]}));
    let stranger = renew(&mut instance, &new);
    assert_eq!(stranger, Err(Reason::RenewalTooLate), "nobody is in");

    let end = now() + 100;
    let old = token(&json!({"exp": end, "topics": ["a"]}));
    common::let_in(&mut instance, "pump", &old);
    let late = renew_at(&mut instance, &new, Unix(end));
    assert_eq!(late, Err(Reason::RenewalTooLate));

    let (engine, common) = (&mut instance.engine, &mut instance.common);
    let kept = AfterDisconnect::Kept;
    engine.leave(common, ClientKey(1), kept, clock::now());
    let gone = renew(&mut instance, &new);
    assert_eq!(gone, Err(Reason::RenewalTooLate), "it is gone");
}

#[test]
fn a_client_that_stays_is_denied_until_it_renews() {
    let (mut instance, log) = instance(&[("on_expiry", "deny")]);
    let start = now();
    let good_until = |end: u64| token(&json!({"topics": ["a"], "exp": end}));
    common::let_in(&mut instance, "pump", &good_until(start + 100));
    let expire = |instance: &mut TestInstance, now| {
        let ended = instance.engine.expire(&mut instance.common, Unix(now));
        assert!(ended.is_empty(), "it stays");
        let lines = log.take().into_iter();
        let lines = lines.filter(|(_, line)| line.contains("denying everything to 'pump'"));
        lines.count()
    };
    for end in [start + 100, start + 200] {
        assert_eq!(expire(&mut instance, end - 1), 0);
        assert!(may(&mut instance, Action::Publish, "a", end - 1));
        assert_eq!(expire(&mut instance, end), 1);
        for action in [Action::Publish, Action::Receive, Action::Subscribe] {
            assert!(!may(&mut instance, action, "a", end), "{action:?}");
        }
        assert!(may(&mut instance, Action::Unsubscribe, "a", end));
        assert_eq!(expire(&mut instance, end), 0, "one line");
        let new = good_until(end + 100);
        let renewed = renew_at(&mut instance, &new, Unix(end));
        assert_eq!(renewed, Ok(Unix(end + 100)));
        assert!(may(&mut instance, Action::Publish, "a", end));
    }
}

#[test]
fn a_renewed_session_is_warned_of_its_new_end() {
    let (mut instance, _) = instance(&[("expiry_warning", "10")]);
    let (end, later) = (now() + 100, now() + 1000);
    let old = token(&json!({"exp": end, "topics": ["a"]}));
    common::let_in(&mut instance, "pump", &old);
    let warned = |instance: &mut TestInstance, now| {
        let warnings = instance.engine.warnings(&mut instance.common, Unix(now));
        let payloads = warnings.into_iter().map(|one| one.payload);
        payloads.collect::<Vec<_>>()
    };
    let payload = |end: u64, left: u64| format!(r#"{{"expires_at":{end},"expires_in":{left}}}"#);
    assert!(warned(&mut instance, end - 11).is_empty());
    assert_eq!(warned(&mut instance, end - 10), [payload(end, 10)]);
    let new = token(&json!({"exp": later, "topics": ["a"]}));
    renew(&mut instance, &new).unwrap();
    assert!(warned(&mut instance, end + 10).is_empty());
    assert_eq!(warned(&mut instance, later - 9), [payload(later, 9)]);
    assert!(warned(&mut instance, later - 9).is_empty());
}

/// On SIGHUP the broker presents the password of the CONNECT again.
#[test]
fn a_renewed_session_stays_on_a_recheck() {
    let (mut instance, _) = instance(&[]);
    let end = now() + 100;
    let old = token(&json!({"exp": end, "topics": ["a"]}));
    common::let_in(&mut instance, "pump", &old);
    renew(&mut instance, &token(&json!({"topics": ["a"]}))).unwrap();
    let mut connect = common::connect("pump", &old);
    connect.client.username = Some("u");
    connect.origin = Origin::Recheck { may_refuse: true };
    let step = instance.authenticate(&connect, Unix(end + 10));
    assert!(matches!(step, auth::engine::Step::Keep));
}

/// Rules may ask for the address, which the broker tells again.
#[test]
fn the_policy_file_is_applied_to_the_new_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rule = r#"
        [[rule]]
        name = "here"
        when = { network = "192.0.2.0/24", claim = { name = "role", is = "chief" } }
        allow.both = "chief/#"
    "#;
    fs::write(file.path(), rule).unwrap();
    let (mut instance, _) = instance(&[("policy_file", file.path().to_str().unwrap())]);
    common::let_in(&mut instance, "pump", &token(&json!({"topics": ["a"]})));
    assert!(!may_publish(&mut instance, "chief/1"));
    let new = token(&json!({"topics": ["a"], "role": "chief"}));
    renew(&mut instance, &new).unwrap();
    assert!(may_publish(&mut instance, "chief/1"));
}

/// A token with an unknown key waits for one fetch, and nobody waits with it.
/// A requirement is checked where an identity becomes a session or renews one. It changes nothing about rights.
#[test]
fn a_requirement_is_checked_at_a_sign_in_and_at_a_renewal() {
    let policy = tempfile::NamedTempFile::new().unwrap();
    let required = "[[require]]\nname = \"site\"\nthat.claim = { name = \"site\", is = \"north\" }\n\
                    message = \"only the north is served here\"\n";
    fs::write(policy.path(), required).unwrap();
    let (mut instance, _) = instance(&[("policy_file", policy.path().to_str().unwrap())]);
    let of_site = |site: &str| token(&json!({"topics": ["a"], "site": site}));
    let south = of_site("south");
    match instance.authenticate(&common::connect("pump", &south), clock::now()) {
        Step::Refuse(refusal) => {
            assert_eq!(refusal.reason, Reason::ClaimRequired);
            let said = refusal.to_string();
            let part = "the requirement 'site', because its claim 'site' is not '\"north\"': only the north is served here";
            assert!(said.contains(part), "{said}");
        }
        _ => panic!("it does not meet the requirement"),
    }
    common::let_in(&mut instance, "pump", &of_site("north"));
    assert!(may_publish(&mut instance, "a") && !may_publish(&mut instance, "b"));
    assert_eq!(renew(&mut instance, &south), Err(Reason::ClaimRequired));
    assert!(may_publish(&mut instance, "a"), "it keeps what it has");
    assert!(renew(&mut instance, &of_site("north")).is_ok());
}

#[test]
fn a_renewal_with_a_new_key_waits_for_the_fetch_alone() {
    let tenant = Tenant::builder().fresh_keys().start().unwrap();
    let mut instance = common::instance_of(&tenant, &[("timeout", "5")]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let sub = tenant.device(DEVICE).unwrap().user_id;
    common::let_in(&mut instance, "pump", &tenant.token(DEVICE));
    tenant.rotate_unannounced();
    let new = tenant.token(DEVICE);
    let client = Client {
        username: Some(&*sub),
        ..PUMP
    };
    let (engine, common) = (&mut instance.engine, &mut instance.common);
    let key = ClientKey(1);
    let renewal = engine.renew(common, key, &client, new.as_bytes(), clock::now());
    let Renewal::Wait(wait) = renewal else {
        panic!("its key is unknown");
    };
    engine.delay_renewal(common, wait, clock::now()).unwrap();
    let ended = loop {
        assert!(Instant::now() < deadline);
        let answers = engine.collect(common, clock::now());
        assert!(answers.is_empty(), "no CONNECT waits");
        let ended = engine.finished_renewals(common, clock::now());
        if !ended.is_empty() {
            break ended;
        }
        std::thread::yield_now();
    };
    let [ended] = &ended[..] else {
        panic!("one renewal waited")
    };
    assert_eq!((ended.key, &*ended.client_id), (key, "pump"));
    assert!(ended.result.is_ok());
}

/// Between the verdict and the tick that applies it, the keys or the configuration may have changed.
#[test]
fn a_renewal_that_was_verified_under_other_keys_has_to_be_tried_again() {
    let tenant = Tenant::builder().fresh_keys().start().unwrap();
    let mut instance = common::instance_of(&tenant, &[("timeout", "20")]);
    let sub = tenant.device(DEVICE).unwrap().user_id;
    common::let_in(&mut instance, "pump", &tenant.token(DEVICE));
    tenant.rotate_unannounced();
    let new = tenant.token(DEVICE);
    let client = Client {
        username: Some(&*sub),
        ..PUMP
    };
    let (engine, common) = (&mut instance.engine, &mut instance.common);
    let renewal = engine.renew(common, ClientKey(1), &client, new.as_bytes(), clock::now());
    let Renewal::Wait(wait) = renewal else {
        panic!("its key is unknown");
    };
    engine.delay_renewal(common, wait, clock::now()).unwrap();
    verify(&mut instance);
    instance.engine.keys().replace(KeySet::default());
    let (engine, common) = (&mut instance.engine, &mut instance.common);
    let ended = engine.finished_renewals(common, clock::now());
    let reasons: Vec<_> = ended
        .into_iter()
        .map(|one| one.result.unwrap_err().reason)
        .collect();
    assert_eq!(reasons, [Reason::LoginPending]);
}

/// Begins or continues the exchange of a client with this AUTH packet.
fn exchange(instance: &mut TestInstance, sub: &str, token: &str, begins: bool) -> ExchangeStep {
    let packet = AuthPacket {
        key: ClientKey(1),
        client: Client {
            username: Some(sub),
            ..PUMP
        },
        method: Some("OAUTH2-JWT"),
        data: token.as_bytes(),
        unverified_address: false,
        is_connected: None,
        id_is_free: false,
        restored_for: None,
    };
    let (engine, common) = (&mut instance.engine, &mut instance.common);
    let now = clock::now();
    let step = match begins {
        true => engine.begin_exchange(common, &packet, now),
        false => engine.continue_exchange(common, &packet, now),
    };
    if let ExchangeStep::SignIn(presented) = &step {
        let connect = packet.connect(&presented.token, presented.presented.clone());
        match engine.authenticate(common, &connect, now) {
            Step::Admit(admission) => drop(common.admit(admission)),
            _ => panic!("the keys are here"),
        }
    }
    step
}

/// Waits until the keys are here that a client waits for, and its token is verified.
#[track_caller]
fn verify(instance: &mut TestInstance) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !instance.engine.has_finished_jobs() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let (engine, common) = (&mut instance.engine, &mut instance.common);
    assert!(engine.collect(common, clock::now()).is_empty());
}

/// The client asks for the verdict about its token when it likes, and the keys may be others by then.
#[test]
fn a_renewal_that_waited_counts_only_under_the_keys_of_the_moment() {
    let tenant = Tenant::builder().fresh_keys().start().unwrap();
    let sub = tenant.device(DEVICE).unwrap().user_id;
    let mut instance = common::instance_of(&tenant, &[("timeout", "20")]);
    let old = tenant.token(DEVICE);
    let step = exchange(&mut instance, &sub, &old, true);
    assert!(matches!(step, ExchangeStep::SignIn(_)));
    tenant.rotate_unannounced();
    let new = tenant.token(DEVICE);
    let step = exchange(&mut instance, &sub, &new, true);
    assert!(matches!(step, ExchangeStep::Continue(_)));
    verify(&mut instance);
    instance.engine.keys().replace(KeySet::default());
    let step = exchange(&mut instance, &sub, "", false);
    assert!(matches!(step, ExchangeStep::Continue(_)), "no key is good");
    verify(&mut instance);
    let step = exchange(&mut instance, &sub, "", false);
    assert!(matches!(step, ExchangeStep::Renewed));
}

#[test]
fn a_renewal_that_waited_ends_with_the_time_for_it() {
    let tenant = Tenant::builder().fresh_keys().start().unwrap();
    let sub = tenant.device(DEVICE).unwrap().user_id;
    let mut instance = common::instance_of(&tenant, &[("timeout", "1")]);
    let old = tenant.token(DEVICE);
    let step = exchange(&mut instance, &sub, &old, true);
    assert!(matches!(step, ExchangeStep::SignIn(_)));
    tenant.rotate_unannounced();
    let new = tenant.token(DEVICE);
    let step = exchange(&mut instance, &sub, &new, true);
    assert!(matches!(step, ExchangeStep::Continue(_)));
    verify(&mut instance);
    // The option `timeout` is one second, and began before this.
    let over = Instant::now() + Duration::from_secs(1);
    while Instant::now() <= over {
        std::thread::yield_now();
    }
    let step = exchange(&mut instance, &sub, "", false);
    assert!(matches!(step, ExchangeStep::Refuse { is_renewal: true }));
}

/// Signs a client in by a method with one token, has it subscribe, and renews its rights with another. Returns the
/// subscriptions that the next tick would remove. Before the tick it calls `meanwhile`.
fn uncovered(
    instance: &mut TestInstance,
    [old, new]: [&str; 2],
    meanwhile: impl FnOnce(&mut TestInstance),
) -> Vec<Box<str>> {
    let _ = exchange(instance, "u", old, true);
    assert!(may(instance, Action::Subscribe, "a/#", now()));
    let step = exchange(instance, "u", new, true);
    assert!(matches!(step, ExchangeStep::Renewed));
    meanwhile(instance);
    let (engine, common) = (&mut instance.engine, &mut instance.common);
    let uncovered = engine.take_uncovered(common, clock::now()).into_iter();
    uncovered.map(|(_, filter)| filter).collect()
}

#[test]
fn a_subscription_is_removed_only_if_the_rights_never_cover_it_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rule = |what: &str| {
        let rule = format!("[[rule]]\nname = \"r\"\n{what}\n");
        fs::write(file.path(), rule).unwrap();
    };
    let (granting, other) = (
        &*token(&json!({"topics": ["a/#"]})),
        &*token(&json!({"topics": ["b/#"]})),
    );
    let nothing = |_: &mut TestInstance| {};
    let (mut bare, _) = instance(&[]);
    common::let_in(&mut bare, "pump", granting);
    assert!(may(&mut bare, Action::Subscribe, "a/#", now()));
    renew(&mut bare, other).unwrap();
    let removed = bare.engine.take_uncovered(&mut bare.common, clock::now());
    assert_eq!(removed.len(), 1, "however the client signed in");

    let (mut bare, _) = instance(&[]);
    let removed = uncovered(&mut bare, [granting, other], nothing);
    assert_eq!(removed, ["a/#".into()]);
    let again = |instance: &mut TestInstance| assert!(renew(instance, granting).is_ok());
    let removed = uncovered(&mut bare, [granting, other], again);
    assert!(removed.is_empty(), "it is granted at the tick");
    renew(&mut bare, other).unwrap();
    let removed = bare.engine.take_uncovered(&mut bare.common, clock::now());
    assert_eq!(removed.len(), 1, "it was not forgotten");

    rule("allow.both = \"c/#\"");
    let options = [("policy_file", file.path().to_str().unwrap())];
    let keys = tempfile::NamedTempFile::new().unwrap();
    let (mut with_file, _) = instance_with(keys.path(), &options);
    let removed = uncovered(&mut with_file, [granting, other], nothing);
    assert_eq!(removed, ["a/#".into()]);
    let reload = |instance: &mut TestInstance| {
        rule("allow.both = \"a/#\"");
        instance.engine.reload(&mut instance.common, false);
    };
    let removed = uncovered(&mut with_file, [granting, other], reload);
    assert!(removed.is_empty(), "the new file grants it");

    // Closed for all of this test.
    let hour = (now() / 3600 + 12) % 24;
    rule(&format!(
        "allow.both = \"a/#\"\nwhen.time = \"{hour:02}:00-{hour:02}:30\""
    ));
    let (mut in_time, _) = instance(&options);
    let removed = uncovered(&mut in_time, [granting, other], nothing);
    assert!(removed.is_empty(), "the window opens later");
}
