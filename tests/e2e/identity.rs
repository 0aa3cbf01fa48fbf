//! Whose a client id is, and who is none of ours.

use std::fs;

use serde_json::json;
use testbed::{
    broker::{Broker, Listener},
    clients::{
        Protocol,
        raw::{self, Connect, Refusal},
    },
    tenant::{DEVICE, Endpoint, Tenant},
};

use crate::{on_each_broker, setting::*};

/// A CONNECT that keeps its session.
fn kept(client_id: &str, token: &str) -> Connect {
    let mut connect = token_connect(Protocol::V311, client_id, token);
    connect.clean = false;
    connect
}

/// A broker whose own files know a user of theirs, with a topic of its own.
fn with_files(version: testbed::broker::Version, options: &Options, tenant: &Tenant) -> Broker {
    let builder = builder(version, options);
    let folder = builder.folder().to_owned();
    let acl = folder.join("acl");
    let sub = tenant
        .mint(DEVICE)
        .claim_members()
        .get("sub")
        .and_then(|sub| sub.as_str().map(str::to_owned))
        .unwrap();
    fs::write(
        &acl,
        format!("user meter\ntopic readwrite meter/#\nuser {sub}\ntopic readwrite broker/#\n"),
    )
    .unwrap();
    let passwords = folder.join("passwords");
    let made = std::process::Command::new(version.program("mosquitto_passwd").unwrap())
        .args(["-b", "-c"])
        .args([passwords.as_os_str(), "meter".as_ref(), "secret".as_ref()])
        .status()
        .unwrap();
    assert!(made.success());
    builder
        .config(format!("password_file {}", passwords.display()))
        .config(format!("acl_file {}", acl.display()))
        .start()
        .unwrap_or_else(|e| panic!("{version}: {}", e.log))
}

on_each_broker! {
    /// The client id is what the token says, or the device does not come in.
    fn a_client_id_from_a_claim(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant).with("client_id_claim", "https://mqtt.example/device"));
        let token = tenant.mint(DEVICE).claim("https://mqtt.example/device", json!("pump-1")).sign();
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "pump-1", &token)), None);
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "pump-2", &token)), told(version, Protocol::V5, 0x87));
        let line = expect_refusal(&broker, "'pump-2'", "client-id");
        assert!(line.contains("for the client id 'pump-1'"), "{line}");
        let without = token_connect(Protocol::V5, "pump-1", &tenant.token(DEVICE));
        assert!(answer(&broker, &without).is_some());
        assert!(broker.expect_log("is missing").contains("https://mqtt.example/device"));
    }

    fn a_client_id_from_a_template(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::both(&tenant).with("client_id_template", "device-${name}"));
        let token = tenant.mint(DEVICE).claim("name", json!("7")).sign();
        assert_eq!(answer(&broker, &token_connect(Protocol::V311, "device-7", &token)), None);
        for other in ["device-8", "device-", "7"] {
            assert!(answer(&broker, &token_connect(Protocol::V311, other, &token)).is_some());
        }
        // A value that would be more than a name.
        let evil = tenant.mint(DEVICE).claim("name", json!("7/#")).sign();
        assert!(answer(&broker, &token_connect(Protocol::V311, "device-7/#", &evil)).is_some());
    }

    /// Somebody else's good token neither disconnects a client, nor gets what waits for it.
    fn a_client_id_is_held(version) {
        let tenant = tenant();
        device(&tenant, "thief", json!(["#"]));
        let broker = broker(version, &Options::tokens(&tenant));
        let owner = tenant.token(DEVICE);
        let theirs = tenant.token("thief");
        let mut first = raw::Client::connect(broker.port(), &kept("meter", &owner)).unwrap();
        assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        assert_eq!(answer(&broker, &kept("meter", &theirs)), Some(Refusal::Code(5)));
        expect_refusal(&broker, "'meter'", "client-id-held");
        assert_eq!(first.publish("config", "still here", 1), Ok(0));

        first.disconnect(0);
        let mut publisher = raw(&broker, &tenant, WATCHER, "publisher", Protocol::V311);
        assert_eq!(publisher.publish("temperature", "for the owner", 1), Ok(0));
        assert_eq!(answer(&broker, &kept("meter", &theirs)), Some(Refusal::Code(5)));
        // A clean session of the stranger's would throw the queue away.
        assert!(answer(&broker, &token_connect(Protocol::V311, "meter", &theirs)).is_some());
        let mut again = raw::Client::connect(broker.port(), &kept("meter", &tenant.token(DEVICE))).unwrap();
        assert_eq!(again.next_message(PATIENCE).unwrap().text(), "for the owner");

        // The owner gives it up.
        again.disconnect(0);
        let last = raw::Client::connect(broker.port(), &token_connect(Protocol::V311, "meter", &owner)).unwrap();
        last.disconnect(0);
        assert!(tries_until_let_in(&broker, &kept("meter", &theirs)));
    }

    /// A client id is the whole broker's: another listener, with other options, gives nobody a way round.
    fn a_client_id_is_held_across_listeners(version) {
        let tenant = tenant();
        device(&tenant, "thief", json!(["#"]));
        let listener = |options: Options| Listener::tcp().plugin(plugin(), &options.pairs());
        let broker = Broker::builder(version)
            .per_listener_settings(true)
            .listener(listener(Options::tokens(&tenant)))
            .listener(listener(Options::tokens(&tenant).with("rights", "topics")))
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        let [here, there] = broker.ports() else { panic!("two listeners") };
        let (owner, theirs) = (tenant.token(DEVICE), tenant.token("thief"));
        let mut first = raw::Client::connect(*here, &kept("meter", &owner)).unwrap();
        assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let refused = raw::Client::connect(*there, &kept("meter", &theirs)).err();
        assert_eq!(refused, Some(Refusal::Code(5)));
        assert_eq!(first.publish("config", "still here", 1), Ok(0));
        first.disconnect(0);
        let refused = raw::Client::connect(*there, &kept("meter", &theirs)).err();
        assert_eq!(refused, Some(Refusal::Code(5)), "its session is kept");
        assert!(raw::Client::connect(*there, &kept("meter", &owner)).is_ok(), "it may use either");
    }

    /// Two tenants may call two subjects the same: neither gets what waits for the other.
    fn the_same_subject_of_two_tenants_is_two_accounts(version) {
        let tenants = [tenant(), tenant()];
        let [here, there] = &tenants;
        let listener = |tenant| Listener::tcp().plugin(plugin(), &Options::tokens(tenant).pairs());
        let broker = Broker::builder(version)
            .per_listener_settings(true)
            .listener(listener(here))
            .listener(listener(there))
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        let [port, other_port] = broker.ports() else { panic!("two listeners") };
        let token = |tenant: &Tenant| tenant.mint(DEVICE).claim("sub", json!("same")).sign();
        let (ours, theirs) = (kept("meter", &token(here)), kept("meter", &token(there)));
        let mut first = raw::Client::connect(*port, &ours).unwrap();
        assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let refused = |connect| raw::Client::connect(*other_port, connect).err();
        assert_eq!(refused(&theirs), Some(Refusal::Code(5)));
        expect_refusal(&broker, "'meter'", "client-id-held");
        first.disconnect(0);
        let watcher = token_connect(Protocol::V311, "publisher", &here.token(WATCHER));
        let mut publisher = raw::Client::connect(*port, &watcher).unwrap();
        assert_eq!(publisher.publish("temperature", "for the first", 1), Ok(0));
        assert_eq!(refused(&theirs), Some(Refusal::Code(5)), "its session is kept");
        let mut first = raw::Client::connect(*port, &ours).unwrap();
        // 2.0.21 with listeners of their own queues nothing for a client that is away (lib/net_mosq.c).
        if version != testbed::broker::Version::V2_0_21 {
            assert_eq!(first.next_message(PATIENCE).unwrap().text(), "for the first");
        }
    }

    /// With `on_other defer`: whom others let in takes no client id of ours, connected or kept, and the
    /// other way round.
    fn others_and_ours_do_not_take_each_other_s_client_ids(version) {
        let tenant = tenant();
        let options = Options::tokens(&tenant).with("on_other", "defer");
        let broker = with_files(version, &options, &tenant);
        let theirs = |id: &str| Connect::new(Protocol::V311, id).login("meter", "secret");
        let token = tenant.token(DEVICE);
        let mut ours = raw::Client::connect(broker.port(), &kept("pump", &token)).unwrap();
        assert_eq!(ours.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        assert_eq!(answer(&broker, &theirs("pump")), Some(Refusal::Code(5)));
        expect_refusal(&broker, "'pump'", "client-id-held");
        ours.disconnect(0);
        let mut publisher = raw(&broker, &tenant, WATCHER, "publisher", Protocol::V311);
        assert_eq!(publisher.publish("temperature", "for ours", 1), Ok(0));
        assert_eq!(answer(&broker, &theirs("pump")), Some(Refusal::Code(5)), "it is kept");
        let mut ours = raw::Client::connect(broker.port(), &kept("pump", &token)).unwrap();
        assert_eq!(ours.next_message(PATIENCE).unwrap().text(), "for ours");

        let mut meter = raw::Client::connect(broker.port(), &theirs("meter")).unwrap();
        assert_eq!(answer(&broker, &kept("meter", &token)), Some(Refusal::Code(5)));
        assert_eq!(meter.subscribe(&[("meter/#", 1)]), Ok(vec![1]), "it is still there");
        meter.disconnect(0);
        assert!(tries_until_let_in(&broker, &kept("meter", &token)));
    }

    /// On SIGHUP 2.0 asks about everybody again in the words of a CONNECT, and with settings per listener 2.0.11 never
    /// says that it is done. Who connects then is still one who connects.
    fn a_connect_after_a_reload_is_a_connect(version) {
        let tenant = tenant();
        let options = Options::tokens(&tenant);
        for per_listener in [false, true] {
            let listener = Listener::tcp().plugin(plugin(), &options.pairs());
            let broker = Broker::builder(version).per_listener_settings(per_listener).listener(listener);
            let broker = broker.start().unwrap_or_else(|error| panic!("{error}"));
            let mut first = raw(&broker, &tenant, DEVICE, "first", Protocol::V311);
            broker.reload();
            assert_eq!(first.ping(), Ok(()));
            for protocol in [Protocol::V311, Protocol::V5] {
                let mut nobody = Connect::new(protocol, "nobody");
                assert!(answer(&broker, &nobody).is_some());
                nobody.username = Some(b"nobody".to_vec());
                assert!(answer(&broker, &nobody).is_some());
                let wrong = nobody.login("nobody", "a guess");
                assert!(answer(&broker, &wrong).is_some());
            }
            assert_eq!(first.ping(), Ok(()));
        }
    }

    /// SIGHUP has the broker ask about everybody again, and changes nothing in who has which client id.
    fn whom_others_let_in_has_its_client_id_after_a_reload(version) {
        let tenant = tenant();
        let options = Options::tokens(&tenant).with("on_other", "defer");
        let broker = with_files(version, &options, &tenant);
        let theirs = Connect::new(Protocol::V311, "panel").login("meter", "secret");
        let mut theirs = raw::Client::connect(broker.port(), &theirs).unwrap();
        let ours = token_connect(Protocol::V311, "panel", &tenant.token(DEVICE));
        for _ in 0..3 {
            assert_eq!(answer(&broker, &ours), Some(Refusal::Code(5)));
            assert_eq!(theirs.ping(), Ok(()));
            broker.reload();
            assert_eq!(theirs.ping(), Ok(()));
        }
        theirs.disconnect(0);
        assert!(tries_until_let_in(&broker, &ours));
    }

    /// An MQTT 5 client that has gone, and left nothing to come back for, holds its client id no longer.
    fn an_mqtt5_client_gives_its_client_id_up(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["#"]));
        let broker = broker(version, &Options::tokens(&tenant));
        let v5 = |name: &str| token_connect(Protocol::V5, "meter", &tenant.token(name));
        let first = raw::Client::connect(broker.port(), &v5(DEVICE)).unwrap();
        assert!(answer(&broker, &v5("other")).is_some());
        first.disconnect(0);
        assert!(tries_until_let_in(&broker, &v5("other")));
    }

    /// No broker tells of the end of a session that expires, and 2.0 does not tell what it has either, until
    /// SIGHUP has it ask about all that it has.
    fn an_expired_session_gives_its_client_id_up(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["#"]));
        let broker = broker(version, &Options::tokens(&tenant));
        let _witness = raw(&broker, &tenant, WATCHER, "witness", Protocol::V5);
        let v5 = |id: &str, name: &str, seconds: u32| {
            let mut connect = token_connect(Protocol::V5, id, &tenant.token(name));
            let expiry = raw::property::SESSION_EXPIRY_INTERVAL;
            connect.properties = raw::Properties::new().u32(expiry, seconds);
            connect
        };
        for (id, seconds) in [("sleeper", 3600), ("meter", 1)] {
            let mut first = raw::Client::connect(broker.port(), &v5(id, DEVICE, seconds)).unwrap();
            assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
            first.disconnect(0);
        }
        broker.expect_log("Expiring client meter");
        let another = v5("meter", "other", 0);
        // Where the new connection takes the memory of the expired session, that shows that the session has gone.
        if !version.can_delay_logins() && answer(&broker, &another).is_some() {
            broker.reload();
        }
        assert!(tries_until_let_in(&broker, &another));
        assert!(answer(&broker, &v5("sleeper", "other", 0)).is_some(), "that one is kept");
    }

    fn a_takeover_by_anybody_where_the_operator_wants_it(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["#"]));
        let broker = broker(version, &Options::tokens(&tenant).with("takeover", "any"));
        let mut first = raw::Client::connect(broker.port(), &kept("meter", &tenant.token(DEVICE))).unwrap();
        assert_eq!(answer(&broker, &kept("meter", &tenant.token("other"))), None);
        assert!(first.wait_end(PATIENCE).is_ok());
    }

    /// With `acl defer` the broker decides by user name: a prefix keeps a token from being taken for a user
    /// of the broker's, and without it the log warns.
    fn a_token_that_names_a_local_user(version) {
        let tenant = tenant();
        let options = Options::tokens(&tenant).with("acl", "defer").with("username_claim", "name");
        let token = tenant.mint(DEVICE).claim("name", json!("meter")).sign();
        let connect = token_connect(Protocol::V5, "ours", &token);
        let may_publish = |broker: &Broker| {
            let mut client = raw::Client::connect(broker.port(), &connect).unwrap();
            client.publish("meter/1", "x", 1).unwrap() < 0x80
        };
        let broker = with_files(version, &options, &tenant);
        assert!(may_publish(&broker), "as their meter may");
        let warning = broker.expect_log("the broker has users of its own, such as 'meter'");
        assert!(warning.contains("set username_prefix"), "{warning}");

        let broker = with_files(version, &options.with("username_prefix", "auth0:"), &tenant);
        assert!(!may_publish(&broker));
        assert!(broker.log().contains("auth0:meter"));
        assert!(!broker.log().contains("users of its own"));
    }

    /// Clients that were there before the plugin go on with the broker's own files, beside ours.
    fn others_are_left_to_the_broker(version) {
        let tenant = tenant();
        let broker = with_files(version, &Options::tokens(&tenant).with("on_other", "defer"), &tenant);
        let meter = |password| Connect::new(Protocol::V311, "meter").login("meter", password);
        assert!(answer(&broker, &meter("wrong")).is_some());
        assert!(answer(&broker, &Connect::new(Protocol::V311, "nobody")).is_some());
        let mut theirs = raw::Client::connect(broker.port(), &meter("secret")).unwrap();
        assert_eq!(theirs.subscribe(&[("meter/#", 1)]), Ok(vec![1]));
        assert_eq!(theirs.publish("meter/1", "by the acl_file", 1), Ok(0));
        assert_eq!(theirs.next_message(PATIENCE).unwrap().text(), "by the acl_file");

        // Ours are ours: the acl_file gives them nothing.
        let mut ours = raw(&broker, &tenant, DEVICE, "ours", Protocol::V5);
        assert!(ours.publish("temperature", "1", 1).unwrap() < 0x80);
        assert_eq!(ours.publish("broker/x", "1", 1), Ok(0x87));
        assert_eq!(ours.publish("meter/1", "1", 1), Ok(0x87));
        broker.reload();
        assert_eq!(theirs.publish("meter/1", "after SIGHUP", 1), Ok(0));
        assert_eq!(theirs.next_message(PATIENCE).unwrap().text(), "after SIGHUP");
        let bad = token_connect(Protocol::V311, "meter", "eyJhbGciOiJub25lIn0.e30.");
        assert!(answer(&broker, &bad).is_some(), "a bad token is refused, and not left to anybody");
    }

    /// With passwords: the tenant judges every one, and only who has none is left to others.
    fn passwords_are_the_tenant_s_to_judge_before_others_are_asked(version) {
        let tenant = tenant();
        let options = Options::both(&tenant).with("on_other", "defer");
        let broker = with_files(version, &options, &tenant);
        let local = Connect::new(Protocol::V311, "meter").login("meter", "secret");
        assert_eq!(answer(&broker, &local), Some(Refusal::Code(5)));
        expect_refusal(&broker, "'meter'", "login-refused");
        assert_eq!(tenant.requests_to(Endpoint::Token).len(), 1);
        assert!(answer(&broker, &Connect::new(Protocol::V311, "nobody")).is_some());
        let log = broker.log();
        assert!(!log.contains("[no-password]"), "who has none is left to others, who say no: {log}");
    }

    /// The plugin lets devices in, and the broker's acl_file says what they may do.
    fn messages_are_left_to_the_broker(version) {
        let tenant = tenant();
        let broker = with_files(version, &Options::tokens(&tenant).with("acl", "defer"), &tenant);
        let mut ours = raw(&broker, &tenant, DEVICE, "ours", Protocol::V5);
        assert!(ours.publish("broker/x", "1", 1).unwrap() < 0x80);
        assert_eq!(ours.publish("temperature", "1", 1), Ok(0x87), "its token says so, and is not asked");
        let meter = Connect::new(Protocol::V311, "meter").login("meter", "secret");
        assert!(answer(&broker, &meter).is_some(), "others are refused all the same");
    }

    /// With `acl defer` and nobody to defer to, nothing is allowed.
    fn messages_left_to_nobody_are_denied(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant).with("acl", "defer"));
        let mut ours = raw(&broker, &tenant, DEVICE, "ours", Protocol::V5);
        assert_eq!(ours.publish("temperature", "1", 1), Ok(0x87));
    }
}

/// The broker's own plugin for rights, beside ours. It comes with the broker's package and not with the
/// three releases of the tests, so it is tried with the broker that this machine has installed, if it has.
#[test]
fn messages_are_left_to_dynamic_security() {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let theirs =
        std::path::PathBuf::from(format!("/usr/lib/{triplet}/mosquitto_dynamic_security.so"));
    let version = testbed::broker::Version::system("/usr/sbin/mosquitto");
    if version.program("mosquitto").is_err() || !theirs.exists() {
        eprintln!("left out: Mosquitto with dynamic-security is not installed here");
        return;
    }
    let tenant = tenant();
    let sub = tenant.mint(DEVICE).claim_members().get("sub").cloned();
    let rights = json!({
        "defaultACLAccess": {"publishClientSend": false, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
        "clients": [{"username": sub, "roles": [{"rolename": "device"}]}],
        "roles": [{"rolename": "device", "acls": [
            {"acltype": "publishClientSend", "topic": "dynamic/#", "allow": true},
            {"acltype": "subscribePattern", "topic": "dynamic/#", "allow": true},
        ]}],
    });
    let options = Options::tokens(&tenant).with("acl", "defer");
    // Whichever the broker asks first.
    for ours_first in [true, false] {
        let mut builder = Broker::builder(version);
        let file = builder.folder().join("dynamic-security.json");
        fs::write(&file, rights.to_string()).unwrap();
        let theirs_with = [("config_file", file.to_str().unwrap())];
        if ours_first {
            builder = builder.plugin(plugin(), &options.pairs());
        }
        builder = builder.plugin(&theirs, &theirs_with);
        if !ours_first {
            builder = builder.plugin(plugin(), &options.pairs());
        }
        let broker = builder.start().unwrap_or_else(|e| panic!("{}", e.log));
        let mut ours = raw(&broker, &tenant, DEVICE, "ours", Protocol::V5);
        assert_eq!(ours.subscribe(&[("dynamic/#", 1)]), Ok(vec![1]));
        assert!(ours.publish("dynamic/x", "by their rights", 1).unwrap() < 0x80);
        assert_eq!(
            ours.next_message(PATIENCE).unwrap().text(),
            "by their rights"
        );
        assert_eq!(
            ours.publish("temperature", "1", 1),
            Ok(0x87),
            "its token says so, and is not asked"
        );
        let mut unknown = raw(&broker, &tenant, WATCHER, "unknown", Protocol::V5);
        assert_eq!(unknown.publish("dynamic/x", "1", 1), Ok(0x87));
        let bad = token_connect(Protocol::V5, "bad", "eyJhbGciOiJub25lIn0.e30.");
        assert!(answer(&broker, &bad).is_some());
    }
}
