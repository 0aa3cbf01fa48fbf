//! Topics: what is not granted is denied, on every path that a message can take.

use serde_json::json;
use testbed::{
    clients::{
        Protocol,
        raw::{self, End, Will},
    },
    tenant::DEVICE,
};

use crate::{helpers::*, on_each_broker};

on_each_broker! {
    /// With QoS 0, 1 and 2 and with MQTT 3.1.1 and 5, nothing is delivered, no client is disconnected, and
    /// MQTT 5 reports the reason.
    fn a_denied_publish_is_dropped(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        for protocol in [Protocol::V311, Protocol::V5] {
            let watcher = with_token(&broker, &tenant, WATCHER).protocol(protocol).qos(2);
            let mut seen = watcher.subscribe(&["#"]).subscribed();
            let mut device = raw(&broker, &tenant, DEVICE, "device", protocol);
            let denied = if protocol == Protocol::V5 { 0x87 } else { 0 };
            for qos in 0..=2 {
                for topic in ["secret", "temperature/x", "Temperature", "config2", "$SYS/x", "$CONTROL/x"] {
                    let code = device.publish(topic, "no", qos).unwrap();
                    assert_eq!(code, if qos == 0 { 0 } else { denied }, "{protocol:?} {qos} {topic}");
                }
            }
            for qos in 0..=2 {
                device.publish("temperature", format!("yes{qos}"), qos).unwrap();
                assert_eq!(seen.expect_message().text(), format!("yes{qos}"));
            }
            assert_eq!(seen.messages().len(), 3);
        }
        let line = expect_refusal(&broker, "'device'", "not-granted");
        assert!(line.contains("refused PUBLISH") && line.contains("'secret'"), "{line}");
    }

    /// mosquitto_pub, as an operator would try it.
    fn mosquitto_pub_reports_a_denial_where_mqtt_allows(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let device = with_token(&broker, &tenant, DEVICE).id("pub");
        device.clone().protocol(Protocol::V311).qos(1).publish("secret", "x").expect_success();
        let outcome = device.protocol(Protocol::V5).qos(1).publish("secret", "x");
        assert!(format!("{outcome:?}").contains("Not authorized"), "{outcome:?}");
        expect_refusal(&broker, "'pub'", "not-granted");
    }

    /// A subscription is granted only if rules cover the whole filter.
    fn a_subscription_must_be_covered(version) {
        let tenant = tenant();
        device(&tenant, "wild", json!(["a/+", "b/#", "c"]));
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        for (protocol, denied) in [(Protocol::V311, 0x80), (Protocol::V5, 0x87)] {
            let mut client = raw(&broker, &tenant, "wild", "wild", protocol);
            for (filter, granted) in [
                ("a/x", true),
                ("a/+", true),
                ("a/#", false),
                ("+/x", false),
                ("b", true),
                ("b/+/y/#", true),
                ("c", true),
                ("c/#", false),
                ("#", false),
                ("+", false),
                ("d", false),
                ("$SYS/#", false),
                ("$share/g/a/+", true),
                ("$share/g/a/#", false),
                ("$share/a/d", false),
            ] {
                let code = client.subscribe(&[(filter, 1)]).unwrap()[0];
                assert_eq!(code, if granted { 1 } else { denied }, "{protocol:?} {filter}");
            }
        }
        assert!(expect_refusal(&broker, "'wild'", "not-granted").contains("refused SUBSCRIBE"));
    }

    /// `#` matches everything except the broker's own topics, which must be named.
    fn the_hash_filter_excludes_sys_topics(version) {
        let tenant = tenant();
        device(&tenant, "monitor", json!(["#", "$SYS/broker/version"]));
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut client = raw(&broker, &tenant, "monitor", "monitor", Protocol::V5);
        assert_eq!(client.subscribe(&[("#", 0), ("$SYS/#", 0), ("$SYS/broker/version", 0)]), Ok(vec![0, 0x87, 0]));
        let message = client.next_message(PATIENCE).unwrap();
        assert_eq!(message.topic, "$SYS/broker/version");
    }

    /// A client that kept its session with a wider subscription gets only messages that its new rights cover.
    fn every_delivery_is_checked(version) {
        let tenant = tenant();
        device(&tenant, "shrinking", json!(["a/#"]));
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut connect = token_connect(Protocol::V311, "kept", &tenant.token("shrinking"));
        connect.clean = false;
        let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(client.subscribe(&[("a/#", 1)]), Ok(vec![1]));
        client.disconnect(0);

        tenant.change_device("shrinking", |d| d.topics = Some(json!(["a/b"])));
        connect.password = Some(tenant.token("shrinking").into_bytes());
        let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(client.session_present);
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        watcher.publish("a/c", "no", 1).unwrap();
        watcher.publish("a/b", "yes", 1).unwrap();
        let message = client.next_message(PATIENCE).unwrap();
        assert_eq!((message.topic.as_str(), message.text().as_str()), ("a/b", "yes"));
        assert!(expect_refusal(&broker, "'kept'", "not-granted").contains("refused delivery"));
    }

    fn a_retained_message_is_only_sent_where_it_is_allowed(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let watcher = with_token(&broker, &tenant, WATCHER).qos(1).retain(true);
        watcher.publish("config", "kept").expect_success();
        watcher.publish("secret", "kept").expect_success();
        let mut device = raw(&broker, &tenant, DEVICE, "device", Protocol::V5);
        assert_eq!(device.publish_with("secret", "overwritten", 1, true, &raw::Properties::new()), Ok(0x87));
        assert_eq!(device.subscribe(&[("secret", 1)]), Ok(vec![0x87]));
        assert_eq!(device.subscribe(&[("config", 1)]), Ok(vec![1]));
        let message = device.next_message(PATIENCE).unwrap();
        assert_eq!((message.topic.as_str(), message.text().as_str(), message.retain), ("config", "kept", true));
        assert_eq!(device.messages_before_pong(), Ok(vec![]));
        let mut watching = with_token(&broker, &tenant, WATCHER).subscribe(&["secret"]).subscribed();
        assert_eq!(watching.expect_message().text(), "kept");
    }

    /// With `check_retain_source` the broker asks about the publisher of a retained message, who may have
    /// disconnected.
    fn the_publisher_of_a_retained_message_is_checked(version) {
        let tenant = tenant();
        let broker = builder(version, &PluginOptions::tokens(&tenant)).config("check_retain_source true").start().unwrap();
        let mut here = raw(&broker, &tenant, DEVICE, "here", Protocol::V311);
        here.publish_with("temperature", "20.5", 1, true, &raw::Properties::new()).unwrap();
        let mut watching = with_token(&broker, &tenant, WATCHER).subscribe(&["temperature"]).subscribed();
        assert_eq!(watching.expect_message().text(), "20.5");
    }

    /// After a restart nobody knows what the publisher of a retained message may do. With `check_retain_source` the
    /// message is hidden until the publisher has signed in again, with a token that allows it. Without, it is sent.
    fn a_retained_message_is_hidden_after_a_restart_until_its_publisher_is_back(version) {
        let tenant = tenant();
        for checked in [true, false] {
            let options = PluginOptions::tokens(&tenant);
            let broker = builder(version, &options).persistence(true).config(format!("check_retain_source {checked}"));
            let broker = broker.start().unwrap();
            let mut here = raw(&broker, &tenant, DEVICE, "here", Protocol::V311);
            here.publish_with("temperature", "20.5", 1, true, &raw::Properties::new()).unwrap();
            let broker = broker.restart().unwrap();
            let retained = |id: &str| {
                let mut watcher = raw(&broker, &tenant, WATCHER, id, Protocol::V5);
                watcher.subscribe(&[("temperature", 1)]).unwrap();
                let messages = watcher.messages_before_pong().unwrap();
                messages.into_iter().map(|message| message.text()).collect::<Vec<_>>()
            };
            let all: &[&str] = &["20.5"];
            let hidden = if checked { &[] } else { all };
            assert_eq!(retained("nobody-is-back"), hidden, "{checked}");
            let narrow = tenant.mint(DEVICE).claim("topics", json!(["config"])).sign();
            let narrow = token_connect(Protocol::V311, "here", &narrow);
            let mut narrow = raw::RawClient::connect(broker.port(), &narrow).unwrap();
            assert_eq!(retained("with-fewer-rights"), hidden, "{checked}");
            let mut back = raw(&broker, &tenant, DEVICE, "here", Protocol::V311);
            assert!(narrow.wait_end(PATIENCE).is_ok());
            assert_eq!(retained("publisher-is-back"), all, "{checked}");
            assert!(back.ping().is_ok());
        }
    }

    /// The broker asks about a will only when it sends it, after the client has gone.
    fn a_will_is_only_sent_where_publishing_is_allowed(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["#"]).subscribed();
        for protocol in [Protocol::V311, Protocol::V5] {
            for (topic, granted) in [("secret", false), ("temperature", true)] {
                let mut connect = token_connect(protocol, "willing", &tenant.token(DEVICE));
                connect.will = Some(Will { topic: topic.into(), payload: b"gone".to_vec(), qos: 1, ..Will::default() });
                raw::RawClient::connect(broker.port(), &connect).unwrap().abort();
                if granted {
                    let message = seen.expect_message();
                    assert_eq!((message.topic.as_str(), message.text().as_str()), ("temperature", "gone"));
                }
            }
        }
        assert_eq!(seen.messages().len(), 2, "the wills on `secret` were not sent");
        assert!(expect_refusal(&broker, "'willing'", "not-granted").contains("'secret'"));
    }

    /// Unsubscribing is always allowed.
    fn unsubscribing_is_always_allowed(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut device = raw(&broker, &tenant, DEVICE, "device", Protocol::V5);
        assert_eq!(device.subscribe(&[("config", 0)]), Ok(vec![0]));
        assert_eq!(device.unsubscribe(&["config", "secret"]), Ok(vec![0, 0x11]));
    }

    /// A device in a loop does not fill the log.
    fn refusals_are_logged_once(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut device = raw(&broker, &tenant, DEVICE, "loop", Protocol::V5);
        for _ in 0..200 {
            device.publish("secret", "no", 1).unwrap();
        }
        for i in 0..50 {
            device.publish(&format!("secret/{i}"), "no", 1).unwrap();
        }
        assert!(broker.wait_for_log("further refusals of 'loop' are not logged", PATIENCE).is_some());
        assert_eq!(broker.log().matches("[not-granted]").count(), 16);
        assert_eq!(device.wait_end(std::time::Duration::ZERO), Err(End::Silent), "it is still connected");
    }
}
