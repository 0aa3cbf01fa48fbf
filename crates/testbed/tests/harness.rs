//! Tests of the test bed with each real broker and without a plugin, so that a failing test of the plugin
//! points at the plugin.

use std::fs;
use std::time::{Duration, Instant};

use testbed::broker::{Listener, Mosquitto, MosquittoBuilder, PATIENCE, Signal, Version};
use testbed::clients::raw::{
    self, ConnectPacket, ConnectRefusal, End, Packet, Properties, Will, property,
};
use testbed::clients::{MosquittoClient, Protocol};
use testbed::pki::Authority;

const NOW: Duration = Duration::ZERO;
const CURRENT: [Protocol; 2] = [Protocol::V311, Protocol::V5];

/// Runs the test for each release. All of them must be installed: a release that is silently skipped is not
/// tested.
macro_rules! for_each_release {
    ($($(#[$meta:meta])* fn $name:ident($version:ident) $body:block)*) => {$(
        mod $name {
            use super::*;
            $(#[$meta])*
            fn test($version: Version) $body
            #[test] fn on_2_0_11() { test(Version::V2_0_11); }
            #[test] fn on_2_0_21() { test(Version::V2_0_21); }
            #[test] fn on_2_1_2() { test(Version::V2_1_2); }
        }
    )*};
}

fn open(version: Version) -> MosquittoBuilder {
    Mosquitto::builder(version).allow_anonymous(true)
}

for_each_release! {
    fn states_its_release(version) {
        assert_eq!(version.release().unwrap(), version.name());
        assert!(Version::installed().contains(&version));
        let system = Version::system(version.program("mosquitto").unwrap());
        assert_eq!(system.release().unwrap(), version.name());
        assert_eq!(system.can_delay_logins(), version.can_delay_logins());
        assert_eq!(system.program("mosquitto_pub"), version.program("mosquitto_pub"));
    }

    fn starts_and_stops(version) {
        let mut broker = open(version).start().unwrap();
        assert!(broker.is_running());
        let folder = broker.folder().to_owned();
        assert!(folder.join("mosquitto.conf").exists());
        broker.expect_log(&format!("mosquitto version {version} running"));
        let pid = broker.pid();
        let stopped = broker.stop();
        assert_eq!(stopped.status.unwrap().code(), Some(0), "{}", stopped.log);
        assert!(stopped.log.contains(&format!("mosquitto version {version} terminating")), "{}", stopped.log);
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
        assert!(!folder.exists());
    }

    fn dropping_ends_it(version) {
        let broker = open(version).start().unwrap();
        let (pid, port) = (broker.pid(), broker.port());
        drop(broker);
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    fn a_signal_ends_it_without_a_call(version) {
        let mut broker = open(version).start().unwrap();
        assert!(broker.wait_for_exit(NOW).is_none());
        broker.signal(Signal::TERM);
        let stopped = broker.wait_for_exit(PATIENCE).unwrap();
        assert!(stopped.status.unwrap().success());
        // No writer is left, so this returns before its timeout.
        let before = Instant::now();
        assert_eq!(broker.wait_for_log("no such line", PATIENCE), None);
        assert!(before.elapsed() < PATIENCE / 2);
    }

    fn refuses_a_bad_line_and_says_so(version) {
        let failed = open(version).config("no_such_option 1").start_expecting_failure();
        assert_eq!(failed.status.code(), Some(3));
        assert!(failed.log.contains("Unknown configuration variable"), "{}", failed.log);

        let error = open(version).daemon(true).config("no_such_option 1").start().unwrap_err();
        assert!(error.to_string().contains("no_such_option"), "{error}");
    }

    fn refuses_a_plugin_that_is_not_there(version) {
        for daemon in [false, true] {
            let builder = open(version).daemon(daemon).plugin("/no/such/plugin.so", &[("name", "value")]);
            let failed = builder.start_expecting_failure();
            assert!(failed.log.contains("/no/such/plugin.so"), "daemon: {daemon}\n{}", failed.log);
        }
    }

    fn listens_where_it_is_told_to(version) {
        let broker = open(version)
            .listener(Listener::tcp())
            .listener(Listener::unix())
            .listener(Listener::tcp())
            .start()
            .unwrap();
        assert_eq!((broker.ports().len(), broker.sockets().len()), (2, 1));
        let client = MosquittoClient::of(&broker);
        let mut subscription = client.subscribe(&["#"]).subscribed();
        client.clone().port(broker.ports()[1]).publish("a", "second").expect_success();
        client.unix(&broker.sockets()[0]).publish("a", "unix").expect_success();
        assert_eq!(subscription.expect_message().text(), "second");
        assert_eq!(subscription.expect_message().text(), "unix");
    }

    fn speaks_tls(version) {
        let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
        let builder = open(version);
        let file = |name: &str, content: &str| {
            let path = builder.folder().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let (ca, other_ca) = (file("ca.pem", authority.pem()), file("other.pem", stranger.pem()));
        let server = authority.issue(&["localhost", "127.0.0.1"]);
        let server = (file("server.pem", &server.cert_pem), file("server.key", &server.key_pem));
        let device = authority.issue_client("device");
        let device = (file("device.pem", &device.cert_pem), file("device.key", &device.key_pem));
        let broker = builder
            .listener(Listener::tls(&server.0, &server.1))
            .listener(Listener::tls(&server.0, &server.1).client_ca(&ca))
            .start()
            .unwrap();

        let client = MosquittoClient::of(&broker);
        let trusting = client.clone().ca_file(&ca);
        trusting.publish("a", "b").expect_success();
        trusting.clone().host("localhost").publish("a", "b").expect_success();
        assert!(!client.ca_file(&other_ca).publish("a", "b").success());

        let trusting = trusting.port(broker.ports()[1]);
        assert!(!trusting.publish("a", "b").success());
        trusting.certificate(&device.0, &device.1).publish("a", "b").expect_success();
    }

    fn each_listener_may_have_its_own_settings(version) {
        let mut builder = Mosquitto::builder(version).per_listener_settings(true);
        builder = builder.listener(Listener::tcp().config("allow_anonymous true"));
        let broker = builder.listener(Listener::tcp().config("allow_anonymous false")).start().unwrap();
        let connect = ConnectPacket::new(Protocol::V311, "c");
        assert!(raw::RawClient::connect(broker.ports()[0], &connect).is_ok());
        assert_eq!(raw::RawClient::connect(broker.ports()[1], &connect).err(), Some(ConnectRefusal::Code(5)));
    }

    fn runs_as_a_daemon(version) {
        let mut broker = open(version).daemon(true).start().unwrap();
        assert!(broker.is_running());
        let pid_file = fs::read_to_string(broker.folder().join("mosquitto.pid")).unwrap();
        assert_eq!(pid_file.trim(), broker.pid().to_string());
        MosquittoClient::of(&broker).id("to-a-daemon").publish("a", "b").expect_success();
        broker.expect_log("to-a-daemon");
        let stopped = broker.stop();
        assert!(stopped.log.contains("terminating"), "{}", stopped.log);

        let dropped = open(version).daemon(true).start().unwrap();
        let port = dropped.port();
        drop(dropped);
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    fn reloads_and_restarts(version) {
        let broker = open(version).persistence(true).start().unwrap();
        broker.reload();
        broker.reload();
        let port = broker.port();
        let client = MosquittoClient::of(&broker).qos(1);
        client.clone().retain(true).publish("kept", "retained").expect_success();
        client.clone().id("sleeper").keep_session().subscribe(&["later"]).subscribed().stop().expect_success();
        let broker = broker.restart().unwrap();
        assert_eq!(broker.port(), port);
        client.publish("later", "queued").expect_success();
        let mut subscription = client.id("sleeper").keep_session().subscribe(&["kept"]);
        let both = [subscription.expect_message(), subscription.expect_message()];
        assert!(both.iter().any(|message| message.text() == "queued" && !message.retain), "{both:?}");
        assert!(both.iter().any(|message| message.text() == "retained" && message.retain), "{both:?}");
    }

    fn carries_messages(version) {
        let broker = open(version).start().unwrap();
        for protocol in CURRENT {
            for qos in [0, 1, 2] {
                let client = MosquittoClient::of(&broker).protocol(protocol).qos(qos);
                let mut subscription = client.subscribe(&["a/+", "b/#"]);
                assert_eq!(subscription.wait_subscribed().unwrap(), [qos, qos]);
                for (topic, payload) in [("a/1", "text"), ("b", ""), ("b/c d", "\0\u{ff}\n MESSAGE")] {
                    client.publish(topic, payload).expect_success();
                    let message = subscription.expect_message();
                    assert_eq!((message.topic.as_str(), message.text().as_str()), (topic, payload));
                    assert_eq!((message.qos, message.retain), (qos, false));
                }
                assert_eq!(subscription.wait_message(NOW), None);
                assert_eq!(subscription.messages().len(), 3);
                subscription.stop().expect_success();
            }
        }
        let large = "x".repeat(300_000);
        let mut subscription = MosquittoClient::of(&broker).subscribe(&["large"]).subscribed();
        MosquittoClient::of(&broker).publish("large", &large).expect_success();
        assert_eq!(subscription.expect_message().text(), large);
    }

    fn keeps_retained_messages(version) {
        let broker = open(version).start().unwrap();
        for protocol in CURRENT {
            let client = MosquittoClient::of(&broker).protocol(protocol).retain(true);
            client.publish("state", "on").expect_success();
            let mut subscription = client.subscribe(&["state"]);
            let message = subscription.expect_message();
            assert_eq!((message.text().as_str(), message.retain), ("on", true));
            client.publish("state", "").expect_success();
        }
    }

    fn publishes_wills(version) {
        let broker = open(version).start().unwrap();
        for protocol in CURRENT {
            let watcher = MosquittoClient::of(&broker).protocol(protocol).qos(1);
            let mut subscription = watcher.subscribe(&["will", "end"]).subscribed();
            let mortal = watcher.clone().will("will", "gone", 1, false).subscribe(&["x"]).subscribed();
            mortal.kill();
            let message = subscription.expect_message();
            assert_eq!((message.topic.as_str(), message.text().as_str()), ("will", "gone"));
            // A client that disconnects has no will.
            let id = format!("polite-{protocol:?}");
            let will = Will { topic: "will".into(), qos: 1, ..Will::default() };
            let connect = ConnectPacket { will: Some(will), ..ConnectPacket::new(protocol, &id) };
            let mut polite = raw::RawClient::connect(broker.port(), &connect).unwrap();
            polite.ping().unwrap();
            polite.disconnect(0);
            broker.expect_log(&format!("Received DISCONNECT from {id}"));
            assert_eq!(subscription.messages_before(&watcher, "end"), []);
        }
    }

    fn absence_of_a_message_can_be_shown(version) {
        let broker = open(version).start().unwrap();
        let client = MosquittoClient::of(&broker).qos(1);
        let mut subscription = client.subscribe(&["wanted/#"]).subscribed();
        client.publish("unwanted", "1").expect_success();
        assert_eq!(subscription.messages_before(&client, "wanted/end"), []);
        client.publish("wanted", "2").expect_success();
        let before = subscription.messages_before(&client, "wanted/end");
        assert_eq!(before.iter().map(|message| message.text()).collect::<Vec<_>>(), ["2"]);

        let mut raw = raw::RawClient::connect(broker.port(), &ConnectPacket::new(Protocol::V5, "raw")).unwrap();
        assert_eq!(raw.subscribe(&[("wanted", 1)]).unwrap(), [1]);
        client.publish("unwanted", "3").expect_success();
        assert_eq!(raw.messages_before_pong().unwrap(), []);
        client.publish("wanted", "4").expect_success();
        let before = raw.messages_before_pong().unwrap();
        assert_eq!(before.iter().map(|message| message.text()).collect::<Vec<_>>(), ["4"]);
        assert_eq!(raw.next_message(NOW), Err(End::Silent));
    }

    fn reports_refusals(version) {
        let broker = Mosquitto::builder(version).allow_anonymous(false).start().unwrap();
        for (protocol, code) in [(Protocol::V31, 5), (Protocol::V311, 5), (Protocol::V5, 0x87)] {
            let client = MosquittoClient::of(&broker).id("c").protocol(protocol).username("u").password("p");
            assert_eq!(client.publish("a", "b").code(), Some(code.into()));
            let ended = client.subscribe(&["a"]).wait_subscribed().unwrap_err();
            assert_eq!(ended.code(), Some(code.into()));
            let connect = ConnectPacket::new(protocol, "c").login("u", "p");
            assert_eq!(raw::RawClient::connect(broker.port(), &connect).err(), Some(ConnectRefusal::Code(code)));
        }
    }

    fn raw_client_sees_every_reason_code(version) {
        let acl = "topic readwrite mine/#\n";
        let builder = open(version);
        let file = builder.folder().join("acl");
        fs::write(&file, acl).unwrap();
        let broker = builder.config(format!("acl_file {}", file.display())).start().unwrap();
        for (protocol, denied) in [(Protocol::V311, 0), (Protocol::V5, 0x87)] {
            let mut client = raw::RawClient::connect(broker.port(), &ConnectPacket::new(protocol, "raw")).unwrap();
            let granted = client.subscribe(&[("mine/#", 2), ("other", 1), ("mine/0", 0)]).unwrap();
            assert_eq!(granted.len(), 3);
            assert_eq!((granted[0], granted[2]), (2, 0));
            for qos in [0, 1, 2] {
                assert_eq!(client.publish("mine/1", [qos; 3], qos), Ok(0));
                let message = client.next_message(PATIENCE).unwrap();
                assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("mine/1", [qos; 3].as_slice()));
                assert_eq!(message.qos, qos);
                let expected = if qos == 0 { 0 } else { denied };
                assert_eq!(client.publish("other", "", qos), Ok(expected));
            }
            let unsubscribed = client.unsubscribe(&["mine/#", "never"]).unwrap();
            assert_eq!(unsubscribed, if protocol == Protocol::V5 { vec![0, 0x11] } else { vec![] });
            assert_eq!(client.messages_before_pong().unwrap(), []);
            client.disconnect(0);
        }
    }

    fn raw_client_sends_any_bytes(version) {
        let broker = open(version).start().unwrap();
        let connect = |protocol| ConnectPacket::new(protocol, "raw");
        for protocol in CURRENT {
            // The broker reads packets of any length correctly; it does not check passwords here.
            let longest = vec![b'x'; 65_535];
            assert!(raw::RawClient::connect(broker.port(), &connect(protocol).login("u", &longest)).is_ok());
            assert!(raw::RawClient::connect(broker.port(), &connect(protocol).login("u", "a\0b")).is_ok());
            // A user name must be text.
            let refused = raw::RawClient::connect(broker.port(), &connect(protocol).login("a\0b", "p")).err();
            assert!(refused.is_some());
        }
        let mut nonsense = raw::RawClient::open(broker.port(), Protocol::V311);
        nonsense.send(&[0xff; 16]);
        assert_eq!(nonsense.read(PATIENCE), Err(End::Closed));
    }

    fn raw_wills_have_properties(version) {
        let broker = open(version).start().unwrap();
        let mut watcher = raw::RawClient::connect(broker.port(), &ConnectPacket::new(Protocol::V5, "watcher")).unwrap();
        watcher.subscribe(&[("will", 1)]).unwrap();
        let will = Will {
            topic: "will".into(),
            payload: b"gone".into(),
            qos: 1,
            properties: Properties::new().u32(property::WILL_DELAY_INTERVAL, 0).user("k", "v"),
            ..Will::default()
        };
        let connect = ConnectPacket {
            properties: Properties::new().u32(property::SESSION_EXPIRY_INTERVAL, 100),
            will: Some(will),
            clean: false,
            ..ConnectPacket::new(Protocol::V5, "mortal")
        };
        let mortal = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(!mortal.session_present);
        mortal.abort();
        assert_eq!(watcher.next_message(PATIENCE).unwrap().text(), "gone");

        let mut again = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert!(again.session_present);
        // A session takeover: 2.0.21 and later tell the old client why, 2.0.11 does not.
        let taken = raw::RawClient::connect(broker.port(), &connect).unwrap();
        let told = if version == Version::V2_0_11 { None } else { Some(0x8e) };
        assert_eq!(again.wait_end(PATIENCE), Ok(told));
        taken.disconnect(4);
        assert_eq!(watcher.next_message(PATIENCE).unwrap().text(), "gone");
    }

    fn raw_authenticates_in_steps(version) {
        let broker = open(version).start().unwrap();
        let properties = Properties::new().bytes(property::AUTHENTICATION_METHOD, "none");
        let connect = ConnectPacket { properties, ..ConnectPacket::new(Protocol::V5, "raw") };
        // No plugin knows the method.
        assert_eq!(raw::RawClient::connect(broker.port(), &connect).err(), Some(ConnectRefusal::Code(0x8c)));
        let mut client = raw::RawClient::connect(broker.port(), &ConnectPacket::new(Protocol::V5, "raw")).unwrap();
        assert!(!client.properties.0.is_empty());
        client.auth(0x19, &Properties::new().bytes(property::AUTHENTICATION_METHOD, "none"));
        let answer = client.read(PATIENCE);
        assert!(matches!(answer, Ok(Packet::Disconnect(0x82)) | Err(End::Closed)), "{answer:?}");
    }
}

#[test]
fn a_missing_broker_is_named_with_the_fix() {
    let error = Mosquitto::builder(Version::system("/no/such/mosquitto"))
        .start()
        .unwrap_err();
    assert!(error.status.is_none());
    assert!(error.to_string().contains("/no/such/mosquitto"), "{error}");
}

#[test]
fn many_brokers_at_once_find_ports() {
    let brokers: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..12)
            .map(|number| {
                let version = Version::ALL[number % 3];
                scope.spawn(move || {
                    open(version)
                        .listener(Listener::tcp())
                        .listener(Listener::tcp())
                        .start()
                })
            })
            .collect();
        starting
            .into_iter()
            .map(|one| one.join().unwrap().unwrap())
            .collect()
    });
    let mut ports: Vec<u16> = brokers
        .iter()
        .flat_map(|broker| broker.ports().to_vec())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 24);
}
