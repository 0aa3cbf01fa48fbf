//! Renewal by publishing: a device publishes its new token to `$CONTROL/auth0/v1/renew` and stays connected.

use std::time::Instant;

use serde_json::{Value, json};
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{RawClient, Will},
    },
    signing::now,
    tenant::{Behaviour, DEVICE, Endpoint, ResponseGate, Tenant},
};

use crate::{helpers::*, on_each_broker};

const RENEW: &str = "$CONTROL/auth0/v1/renew";
const RENEWED: &str = "$CONTROL/auth0/v1/renew/response";

/// Returns a token of the usual device with these topics, that expires in so many seconds.
fn token(tenant: &Tenant, topics: Value, seconds: i64) -> String {
    let topics = tenant.mint(DEVICE).claim("topics", topics);
    topics
        .claim("exp", now().saturating_add_signed(seconds))
        .sign()
}

/// Options with which rights end when the token says so.
fn options(tenant: &Tenant) -> PluginOptions {
    let options = PluginOptions::tokens(tenant).with("leeway", "0");
    options
        .with("expiry_jitter", "0")
        .with("topics_claim", "topics")
}

/// Connects the usual device with this token.
#[track_caller]
fn device(broker: &Mosquitto, protocol: Protocol, id: &str, token: &str) -> RawClient {
    RawClient::connect(broker.port(), &token_connect(protocol, id, token))
        .unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()))
}

/// Publishes a message that renews, and returns the answer.
#[track_caller]
pub fn renew(client: &mut RawClient, message: impl AsRef<[u8]>) -> Value {
    assert!(client.publish(RENEW, message, 1).unwrap() < 0x80);
    renewed(client)
}

/// Returns the next answer.
#[track_caller]
fn renewed(client: &mut RawClient) -> Value {
    let answer = client.next_message(PATIENCE).unwrap();
    assert_eq!(answer.topic, RENEWED);
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Whether the client may publish to a topic: a watcher receives what it does.
fn may_publish(client: &mut RawClient, seen: &mut RawClient, topic: &str) -> bool {
    client.publish(topic, "?", 1).unwrap();
    client.ping().unwrap();
    !seen.messages_before_pong().unwrap().is_empty()
}

/// Pings until this time has passed.
fn wait_until(client: &mut RawClient, time: u64) {
    let deadline = Instant::now() + PATIENCE;
    while now() < time {
        client.ping().unwrap();
        assert!(Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The new rights hold at once, in both directions, and the new expiry counts. The answer goes to the device alone.
fn renews(version: Version, broker: &Mosquitto, tenant: &Tenant, protocol: Protocol) {
    let mut watcher = raw(broker, tenant, WATCHER, "watcher", Protocol::V311);
    assert_eq!(
        watcher.subscribe(&[("a", 1), ("b", 1), ("$CONTROL/auth0/#", 1)]),
        Ok(vec![1; 3])
    );
    let ends = now() + 4;
    let mut client = device(broker, protocol, "renews", &token(tenant, json!(["a"]), 4));
    assert!(may_publish(&mut client, &mut watcher, "a"));
    assert!(!may_publish(&mut client, &mut watcher, "b"));

    let new = token(tenant, json!(["b"]), 3600);
    let answer = renew(
        &mut client,
        json!({"token": new, "correlationData": "42"}).to_string(),
    );
    assert_eq!(
        (&answer["result"], &answer["correlationData"]),
        (&json!("renewed"), &json!("42")),
        "{answer}"
    );
    let (until, seconds) = (
        answer["expires_at"].as_u64().unwrap(),
        answer["expires_in"].as_u64().unwrap(),
    );
    assert!(
        until > now() + 3000 && seconds > 3000 && seconds <= 3600,
        "{answer}"
    );
    assert!(
        !may_publish(&mut client, &mut watcher, "a"),
        "{version} {protocol:?}"
    );
    assert!(may_publish(&mut client, &mut watcher, "b"));

    // The token alone does it as well.
    let newer = token(tenant, json!(["a", "b"]), 3600);
    assert_eq!(renew(&mut client, newer)["result"], "renewed");
    wait_until(&mut client, ends + 2);
    assert!(may_publish(&mut client, &mut watcher, "a"));
}

on_each_broker! {
    fn a_device_renews_with_every_version_of_mqtt(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        for protocol in [Protocol::V31, Protocol::V311, Protocol::V5] {
            renews(version, &broker, &tenant, protocol);
        }
        assert!(!broker.log().contains("[rights-expired]"), "{}", broker.log());
    }

    /// 2.0.11 has no ticks then. 2.1 calls the instance that registered first, for the clients of all.
    fn a_device_renews_where_each_listener_has_its_own_options(version) {
        let (tenant, other) = (tenant(), tenant());
        let broker = broker_with_listeners(version, &[options(&other), options(&tenant)]);
        let connect = token_connect(Protocol::V5, "d", &token(&tenant, json!(["a"]), 60));
        let mut client = RawClient::connect(broker.ports()[1], &connect).unwrap();
        assert_eq!(renew(&mut client, token(&tenant, json!(["b"]), 600))["result"], "renewed");
        assert!(client.publish("b", "1", 1).unwrap() < 0x80);
        assert_eq!(client.publish("a", "1", 1), Ok(0x87));
        let foreign = renew(&mut client, token(&other, json!(["c"]), 600));
        assert_eq!(foreign["result"], "refused", "{foreign}");
        assert_eq!(client.publish("c", "1", 1), Ok(0x87));
        assert!(client.publish("b", "1", 1).unwrap() < 0x80);
    }

    /// However the device signed in: what the new token does not cover is no longer delivered, and where the broker
    /// removes subscriptions, it does not come back with the next token either.
    fn a_subscription_that_the_new_token_does_not_cover_is_removed(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        for protocol in [Protocol::V311, Protocol::V5] {
            let old = || token(&tenant, json!(["old/#", "both"]), 3600);
            let mut client = device(&broker, protocol, "d", &old());
            assert_eq!(client.subscribe(&[("old/#", 1), ("both", 1)]), Ok(vec![1, 1]));
            assert_eq!(renew(&mut client, token(&tenant, json!(["both"]), 3600))["result"], "renewed");
            watcher.publish("old/1", "denied", 1).unwrap();
            watcher.publish("both", "covered", 1).unwrap();
            assert_eq!(client.next_message(PATIENCE).unwrap().text(), "covered");
            // 2.1 removes it at a tick.
            let tick = Instant::now() + std::time::Duration::from_secs(2);
            while Instant::now() < tick {
                client.ping().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            assert_eq!(renew(&mut client, old())["result"], "renewed");
            watcher.publish("old/1", "again", 1).unwrap();
            watcher.publish("both", "last", 1).unwrap();
            let mut seen = Vec::new();
            while seen.last().is_none_or(|text| text != "last") {
                seen.push(client.next_message(PATIENCE).unwrap().text());
            }
            let expected: &[&str] = match version.can_delay_logins() {
                true => &["last"],
                false => &["again", "last"],
            };
            assert_eq!(seen, expected, "{protocol:?}");
            client.disconnect(0);
        }
    }

    /// Where a device stays although its token has expired, a new token gives it rights again.
    fn a_device_that_stays_is_granted_rights_again(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant).with("on_expiry", "deny"));
        let ends = now() + 2;
        let mut client = device(&broker, Protocol::V5, "d", &token(&tenant, json!(["a"]), 2));
        wait_until(&mut client, ends + 1);
        assert_eq!(client.publish("a", "1", 1), Ok(0x87));
        assert_eq!(renew(&mut client, token(&tenant, json!(["a"]), 600))["result"], "renewed");
        assert!(client.publish("a", "1", 1).unwrap() < 0x80);
    }

    /// The answer names the reason, and the device keeps what it has.
    fn a_renewal_that_fails_changes_nothing(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let mut client = device(&broker, Protocol::V5, "d", &token(&tenant, json!(["a"]), 600));
        let whole = json!({"access_token": token(&tenant, json!(["b"]), 600), "token_type": "Bearer"}).to_string();
        for (message, reason) in [
            (tenant.token(WATCHER), "renewal-account"),
            (token(&tenant, json!(["b"]), -10), "token-expired"),
            (token(&tenant, json!(["b/#/c"]), 600), "token-topics"),
            (format!("{}x", token(&tenant, json!(["b"]), 600)), "token-malformed"),
            ("no token".into(), "token-malformed"),
            (String::new(), "token-malformed"),
            (r#"{"tokn":"x"}"#.into(), "renewal-message"),
            (whole, "token-wrapped"),
        ] {
            let answer = renew(&mut client, &message);
            assert_eq!((&answer["result"], &answer["reason"]), (&json!("refused"), &json!(reason)), "{answer}");
            let error = answer["error"].as_str().unwrap();
            assert!(error.contains("; fix: "), "{error}");
            assert!(message.len() < 20 || !error.contains(&message[message.len() / 2..]), "{error}");
            assert!(answer["expires_in"].as_u64().unwrap() > 500, "{answer}");
        }
        assert!(client.publish("a", "1", 1).unwrap() < 0x80);
        assert_eq!(client.publish("b", "1", 1), Ok(0x87));
    }

    /// A device that sends junk a thousand times is told ten times what is wrong with it, and has one line in the log.
    fn a_flood_of_renewals_costs_little(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let mut client = device(&broker, Protocol::V5, "flood", &token(&tenant, json!(["a"]), 600));
        let mut other = device(&broker, Protocol::V5, "other", &token(&tenant, json!(["a"]), 600));
        for _ in 0..1000 {
            client.publish(RENEW, "junk", 0).unwrap();
        }
        let answers = client.messages_before_pong().unwrap();
        let reasons: Vec<Value> = answers.iter().map(|one| serde_json::from_slice(&one.payload).unwrap()).collect();
        let of = |reason| reasons.iter().filter(|answer| answer["reason"] == json!(reason)).count();
        // The ten seconds may be over meanwhile.
        assert!((10..=20).contains(&of("token-malformed")), "{}", reasons.len());
        assert!((1..=2).contains(&of("renewal-rate")), "{}", reasons.len());
        let lines = broker.log();
        let lines = |reason: &str| lines.lines().filter(|line| line.contains(reason)).count();
        assert!(lines("[token-malformed]") <= 1 && lines("[renewal-rate]") <= 1, "{}", broker.log());
        assert_eq!(renew(&mut other, token(&tenant, json!(["a"]), 600))["result"], "renewed");
        assert!(client.publish("a", "1", 1).unwrap() < 0x80);
    }

    /// A token with a new key waits until the tenant's keys are here. Nobody else waits, and a device that has gone
    /// meanwhile gets nothing.
    fn a_renewal_waits_for_the_key_alone(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        broker.expect_log("signing keys were fetched");
        let old = token(&tenant, json!(["a"]), 600);
        let [mut client, mut gone] = ["d", "gone"].map(|id| device(&broker, Protocol::V5, id, &old));
        let mut other = device(&broker, Protocol::V311, "other", &old);
        tenant.rotate_unannounced();
        let gate = ResponseGate::new();
        tenant.once(Endpoint::Jwks, Behaviour::Gate(gate.clone()));
        broker.reload();
        assert!(gate.wait_for(1, PATIENCE));
        let new = token(&tenant, json!(["b"]), 600);
        for client in [&mut client, &mut gone] {
            client.publish(RENEW, &new, 0).unwrap();
            client.ping().unwrap();
        }
        gone.disconnect(0);
        other.ping().unwrap();
        assert!(client.publish("a", "1", 1).unwrap() < 0x80, "it keeps what it has");
        assert!(client.messages_before_pong().unwrap().is_empty());
        gate.open();
        assert_eq!(renewed(&mut client)["result"], "renewed");
        assert!(client.publish("b", "1", 1).unwrap() < 0x80);
        assert_eq!(client.publish("a", "1", 1), Ok(0x87));
        // The next one under the client ID is not told what another session asked.
        let mut again = device(&broker, Protocol::V5, "gone", &new);
        assert!(again.messages_before_pong().unwrap().is_empty());
    }

    /// A token in a will reaches nobody, whatever others are subscribed to.
    fn a_token_in_a_will_is_seen_by_nobody(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let everything = token(&tenant, json!(["#", "$CONTROL/#", "$CONTROL/auth0/#"]), 600);
        let mut curious = device(&broker, Protocol::V5, "curious", &everything);
        assert_eq!(curious.subscribe(&[("$CONTROL/#", 1), ("#", 1)]), Ok(vec![1, 1]));
        let mut connect = token_connect(Protocol::V311, "will", &token(&tenant, json!(["a"]), 600));
        connect.will = Some(Will { topic: RENEW.into(), payload: b"token".to_vec(), qos: 1, ..Will::default() });
        // 2.0.16 and later refuse such a will.
        if let Ok(mut client) = RawClient::connect(broker.port(), &connect) {
            // A takeover sends the will while its client still counts as connected.
            let mut newer = RawClient::connect(broker.port(), &connect).unwrap();
            assert!(client.wait_end(PATIENCE).is_ok());
            newer.ping().unwrap();
            newer.abort();
        }
        let mut last = device(&broker, Protocol::V5, "last", &token(&tenant, json!(["a"]), 600));
        assert!(last.publish("a", "last", 1).unwrap() < 0x80);
        assert_eq!(curious.next_message(PATIENCE).unwrap().text(), "last");
    }
}

/// Where nothing ticks, a token with a new key is refused at once, and accepted when the device tries again.
#[test]
fn a_new_key_takes_a_second_try_where_the_broker_does_not_tick() {
    let tenant = tenant();
    let broker = broker_with_listeners(Version::V2_0_11, &[options(&tenant)]);
    let mut client = device(
        &broker,
        Protocol::V311,
        "d",
        &token(&tenant, json!(["a"]), 600),
    );
    tenant.rotate_unannounced();
    let gate = ResponseGate::new();
    tenant.once(Endpoint::Jwks, Behaviour::Gate(gate.clone()));
    broker.reload();
    assert!(gate.wait_for(1, PATIENCE));
    let new = token(&tenant, json!(["b"]), 600);
    let answer = renew(&mut client, &new);
    assert_eq!(answer["reason"], "token-key-pending", "{answer}");
    gate.open();
    let deadline = Instant::now() + PATIENCE;
    // Each answer may be the last within ten seconds.
    while renew(&mut client, &new)["result"] != "renewed" {
        assert!(Instant::now() < deadline, "{}", broker.log());
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
}
