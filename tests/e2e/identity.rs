//! Who may use a client ID, and clients that other authentication admits.

use std::{fs, path::PathBuf};

use serde_json::json;
use testbed::{
    broker::{Listener, Mosquitto, Version},
    clients::{
        Protocol,
        raw::{self, ConnectPacket, ConnectRefusal},
    },
    tenant::{DEVICE, Device, Endpoint, PASSWORD, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// Returns a CONNECT that keeps its session.
fn kept(client_id: &str, token: &str) -> ConnectPacket {
    let mut connect = token_connect(Protocol::V311, client_id, token);
    connect.clean = false;
    connect
}

/// Starts a broker whose own files have a user with a topic.
fn with_files(version: Version, options: &PluginOptions, tenant: &Tenant) -> Mosquitto {
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
        .unwrap_or_else(|e| panic!("{version}: {e}"))
}

on_each_broker! {
    /// The client ID is the one that the token names, or the client is refused.
    fn a_token_admits_only_the_client_id_of_its_claim(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("client_id_claim", "https://mqtt.example/device"));
        let token = tenant.mint(DEVICE).claim("https://mqtt.example/device", json!("pump-1")).sign();
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "pump-1", &token)), None);
        let other = token_connect(Protocol::V5, "pump-2", &token);
        assert_eq!(answer(&broker, &other), expected_refusal(version, Protocol::V5, 0x87));
        let line = expect_refusal(&broker, "'pump-2'", "client-id");
        assert!(line.contains("for the client ID 'pump-1'"), "{line}");
        let without = token_connect(Protocol::V5, "pump-1", &tenant.token(DEVICE));
        assert!(answer(&broker, &without).is_some());
        assert!(broker.expect_log("is missing").contains("https://mqtt.example/device"));
    }

    fn a_token_admits_only_the_client_id_of_the_template(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant).with("client_id_template", "device-${name}"));
        let token = tenant.mint(DEVICE).claim("name", json!("7")).sign();
        assert_eq!(answer(&broker, &token_connect(Protocol::V311, "device-7", &token)), None);
        for other in ["device-8", "device-", "7"] {
            assert!(answer(&broker, &token_connect(Protocol::V311, other, &token)).is_some());
        }
        // A value that contains a wildcard.
        let evil = tenant.mint(DEVICE).claim("name", json!("7/#")).sign();
        assert!(answer(&broker, &token_connect(Protocol::V311, "device-7/#", &evil)).is_some());
    }

    /// A valid token of another account neither disconnects a client nor gets its queued messages.
    fn a_client_id_belongs_to_its_account(version) {
        let tenant = tenant();
        device(&tenant, "thief", json!(["#"]));
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let owner = tenant.token(DEVICE);
        let theirs = tenant.token("thief");
        let mut first = raw::RawClient::connect(broker.port(), &kept("meter", &owner)).unwrap();
        assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        assert_eq!(answer(&broker, &kept("meter", &theirs)), Some(ConnectRefusal::Code(5)));
        expect_refusal(&broker, "'meter'", "client-id-held");
        assert_eq!(first.publish("config", "still here", 1), Ok(0));

        first.disconnect(0);
        let mut publisher = raw(&broker, &tenant, WATCHER, "publisher", Protocol::V311);
        assert_eq!(publisher.publish("temperature", "for the owner", 1), Ok(0));
        assert_eq!(answer(&broker, &kept("meter", &theirs)), Some(ConnectRefusal::Code(5)));
        // A clean session of the other account would discard the queue.
        assert!(answer(&broker, &token_connect(Protocol::V311, "meter", &theirs)).is_some());
        let mut again = raw::RawClient::connect(broker.port(), &kept("meter", &tenant.token(DEVICE))).unwrap();
        assert_eq!(again.next_message(PATIENCE).unwrap().text(), "for the owner");

        // The owner releases the client ID.
        again.disconnect(0);
        let last = raw::RawClient::connect(broker.port(), &token_connect(Protocol::V311, "meter", &owner)).unwrap();
        last.disconnect(0);
        assert!(retry_until_admitted(&broker, &kept("meter", &theirs)));
    }

    /// A client ID belongs to the whole broker: another listener with other options is no way around.
    fn a_client_id_belongs_to_its_account_on_all_listeners(version) {
        let tenant = tenant();
        device(&tenant, "thief", json!(["#"]));
        let listener = |options: PluginOptions| Listener::tcp().plugin(plugin(), &options.pairs());
        let broker = Mosquitto::builder(version)
            .per_listener_settings(true)
            .listener(listener(PluginOptions::tokens(&tenant)))
            .listener(listener(PluginOptions::tokens(&tenant).with("rights", "topics")))
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        let [here, there] = broker.ports() else { panic!("two listeners") };
        let (owner, theirs) = (tenant.token(DEVICE), tenant.token("thief"));
        let mut first = raw::RawClient::connect(*here, &kept("meter", &owner)).unwrap();
        assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let refused = raw::RawClient::connect(*there, &kept("meter", &theirs)).err();
        assert_eq!(refused, Some(ConnectRefusal::Code(5)));
        assert_eq!(first.publish("config", "still here", 1), Ok(0));
        first.disconnect(0);
        let refused = raw::RawClient::connect(*there, &kept("meter", &theirs)).err();
        assert_eq!(refused, Some(ConnectRefusal::Code(5)), "its session is kept");
        assert!(raw::RawClient::connect(*there, &kept("meter", &owner)).is_ok(), "it may use either");
    }

    /// Two tenants may use the same subject for two accounts: neither gets the other's queued messages.
    fn the_same_subject_of_two_tenants_is_two_accounts(version) {
        let tenants = [tenant(), tenant()];
        let [here, there] = &tenants;
        let listener = |tenant| Listener::tcp().plugin(plugin(), &PluginOptions::tokens(tenant).pairs());
        let broker = Mosquitto::builder(version)
            .per_listener_settings(true)
            .listener(listener(here))
            .listener(listener(there))
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        let [port, other_port] = broker.ports() else { panic!("two listeners") };
        let token = |tenant: &Tenant| tenant.mint(DEVICE).claim("sub", json!("same")).sign();
        let (ours, theirs) = (kept("meter", &token(here)), kept("meter", &token(there)));
        let mut first = raw::RawClient::connect(*port, &ours).unwrap();
        assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        let refused = |connect| raw::RawClient::connect(*other_port, connect).err();
        assert_eq!(refused(&theirs), Some(ConnectRefusal::Code(5)));
        expect_refusal(&broker, "'meter'", "client-id-held");
        first.disconnect(0);
        let watcher = token_connect(Protocol::V311, "publisher", &here.token(WATCHER));
        let mut publisher = raw::RawClient::connect(*port, &watcher).unwrap();
        assert_eq!(publisher.publish("temperature", "for the first", 1), Ok(0));
        assert_eq!(refused(&theirs), Some(ConnectRefusal::Code(5)), "its session is kept");
        let mut first = raw::RawClient::connect(*port, &ours).unwrap();
        // 2.0.21 with settings per listener queues nothing for an absent client (lib/net_mosq.c).
        if version != testbed::broker::Version::V2_0_21 {
            assert_eq!(first.next_message(PATIENCE).unwrap().text(), "for the first");
        }
    }

    /// With `on_other defer`, clients that others admit cannot take a client ID of ours, connected or kept,
    /// and vice versa.
    fn deferred_and_own_clients_cannot_take_each_others_client_ids(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant).with("on_other", "defer");
        let broker = with_files(version, &options, &tenant);
        let theirs = |id: &str| ConnectPacket::new(Protocol::V311, id).login("meter", "secret");
        let token = tenant.token(DEVICE);
        let mut ours = raw::RawClient::connect(broker.port(), &kept("pump", &token)).unwrap();
        assert_eq!(ours.subscribe(&[("temperature", 1)]), Ok(vec![1]));
        assert_eq!(answer(&broker, &theirs("pump")), Some(ConnectRefusal::Code(5)));
        expect_refusal(&broker, "'pump'", "client-id-held");
        ours.disconnect(0);
        let mut publisher = raw(&broker, &tenant, WATCHER, "publisher", Protocol::V311);
        assert_eq!(publisher.publish("temperature", "for ours", 1), Ok(0));
        assert_eq!(answer(&broker, &theirs("pump")), Some(ConnectRefusal::Code(5)), "it is kept");
        let mut ours = raw::RawClient::connect(broker.port(), &kept("pump", &token)).unwrap();
        assert_eq!(ours.next_message(PATIENCE).unwrap().text(), "for ours");

        let mut meter = raw::RawClient::connect(broker.port(), &theirs("meter")).unwrap();
        assert_eq!(answer(&broker, &kept("meter", &token)), Some(ConnectRefusal::Code(5)));
        assert_eq!(meter.subscribe(&[("meter/#", 1)]), Ok(vec![1]), "it is still there");
        meter.disconnect(0);
        assert!(retry_until_admitted(&broker, &kept("meter", &token)));
    }

    /// On SIGHUP, 2.0 asks about every client again as if it connected, and with settings per listener 2.0.11
    /// never reports the end. A client that connects then is still treated as one that connects.
    fn a_connect_during_a_recheck_is_treated_as_a_connect(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant);
        for per_listener in [false, true] {
            let listener = Listener::tcp().plugin(plugin(), &options.pairs());
            let broker = Mosquitto::builder(version).per_listener_settings(per_listener).listener(listener);
            let broker = broker.start().unwrap_or_else(|error| panic!("{error}"));
            let mut first = raw(&broker, &tenant, DEVICE, "first", Protocol::V311);
            broker.reload();
            assert_eq!(first.ping(), Ok(()));
            for protocol in [Protocol::V311, Protocol::V5] {
                let mut nobody = ConnectPacket::new(protocol, "nobody");
                assert!(answer(&broker, &nobody).is_some());
                nobody.username = Some(b"nobody".to_vec());
                assert!(answer(&broker, &nobody).is_some());
                let wrong = nobody.login("nobody", "a guess");
                assert!(answer(&broker, &wrong).is_some());
            }
            assert_eq!(first.ping(), Ok(()));
        }
    }

    /// On SIGHUP the broker asks about every client again, which does not change who has which client ID.
    fn deferred_clients_keep_their_client_id_after_a_reload(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant).with("on_other", "defer");
        let broker = with_files(version, &options, &tenant);
        let theirs = ConnectPacket::new(Protocol::V311, "panel").login("meter", "secret");
        let mut theirs = raw::RawClient::connect(broker.port(), &theirs).unwrap();
        let ours = token_connect(Protocol::V311, "panel", &tenant.token(DEVICE));
        for _ in 0..3 {
            assert_eq!(answer(&broker, &ours), Some(ConnectRefusal::Code(5)));
            assert_eq!(theirs.ping(), Ok(()));
            broker.reload();
            assert_eq!(theirs.ping(), Ok(()));
        }
        theirs.disconnect(0);
        assert!(retry_until_admitted(&broker, &ours));
    }

    /// An MQTT 5 client that disconnects without a session releases its client ID.
    fn an_mqtt5_client_without_a_session_releases_its_client_id(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["#"]));
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let v5 = |name: &str| token_connect(Protocol::V5, "meter", &tenant.token(name));
        let first = raw::RawClient::connect(broker.port(), &v5(DEVICE)).unwrap();
        assert!(answer(&broker, &v5("other")).is_some());
        first.disconnect(0);
        assert!(retry_until_admitted(&broker, &v5("other")));
    }

    /// No broker reports the end of an expired session. 2.0 does not report its sessions either, until SIGHUP
    /// makes it ask about all of them.
    fn an_expired_session_releases_its_client_id(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["#"]));
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let _witness = raw(&broker, &tenant, WATCHER, "witness", Protocol::V5);
        let v5 = |id: &str, name: &str, seconds: u32| {
            let mut connect = token_connect(Protocol::V5, id, &tenant.token(name));
            let expiry = raw::property::SESSION_EXPIRY_INTERVAL;
            connect.properties = raw::Properties::new().u32(expiry, seconds);
            connect
        };
        for (id, seconds) in [("sleeper", 3600), ("meter", 1)] {
            let mut first = raw::RawClient::connect(broker.port(), &v5(id, DEVICE, seconds)).unwrap();
            assert_eq!(first.subscribe(&[("temperature", 1)]), Ok(vec![1]));
            first.disconnect(0);
        }
        broker.expect_log("Expiring client meter");
        let another = v5("meter", "other", 0);
        // If the new connection gets the memory of the expired session, the plugin knows that the session has
        // ended.
        if !version.can_delay_logins() && answer(&broker, &another).is_some() {
            broker.reload();
        }
        assert!(retry_until_admitted(&broker, &another));
        assert!(answer(&broker, &v5("sleeper", "other", 0)).is_some(), "that one is kept");
    }

    fn takeover_by_another_account_can_be_allowed(version) {
        let tenant = tenant();
        device(&tenant, "other", json!(["#"]));
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("takeover", "any"));
        let mut first = raw::RawClient::connect(broker.port(), &kept("meter", &tenant.token(DEVICE))).unwrap();
        assert_eq!(answer(&broker, &kept("meter", &tenant.token("other"))), None);
        assert!(first.wait_end(PATIENCE).is_ok());
    }

    /// With `acl defer` the broker decides by user name. A prefix keeps a token from being taken for a local
    /// user; without a prefix the log warns.
    fn a_token_cannot_impersonate_a_local_user(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant).with("acl", "defer").with("username_claim", "name");
        let token = tenant.mint(DEVICE).claim("name", json!("meter")).sign();
        let connect = token_connect(Protocol::V5, "ours", &token);
        let may_publish = |broker: &Mosquitto| {
            let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
            client.publish("meter/1", "x", 1).unwrap() < 0x80
        };
        let broker = with_files(version, &options, &tenant);
        assert!(may_publish(&broker), "as their meter may");
        let warning = broker.expect_log("the broker has users of its own, such as 'meter'");
        assert!(warning.contains("set username_prefix"), "{warning}");

        let broker = with_files(version, &options.with("username_prefix", "auth0:"), &tenant);
        assert!(!may_publish(&broker));
        broker.expect_log("auth0:meter");
        assert!(!broker.log().contains("users of its own"));
    }

    /// Clients from before the plugin keep using the broker's own files, beside ours.
    fn other_clients_are_deferred_to_the_broker(version) {
        let tenant = tenant();
        let broker = with_files(version, &PluginOptions::tokens(&tenant).with("on_other", "defer"), &tenant);
        let meter = |password| ConnectPacket::new(Protocol::V311, "meter").login("meter", password);
        assert!(answer(&broker, &meter("wrong")).is_some());
        assert!(answer(&broker, &ConnectPacket::new(Protocol::V311, "nobody")).is_some());
        let mut theirs = raw::RawClient::connect(broker.port(), &meter("secret")).unwrap();
        assert_eq!(theirs.subscribe(&[("meter/#", 1)]), Ok(vec![1]));
        assert_eq!(theirs.publish("meter/1", "by the acl_file", 1), Ok(0));
        assert_eq!(theirs.next_message(PATIENCE).unwrap().text(), "by the acl_file");

        // For our clients the acl_file grants nothing.
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

    /// With passwords, the users of `password_file` are left to the broker, and the tenant never sees theirs.
    fn passwords_of_local_users_are_left_to_the_broker(version) {
        let tenant = tenant();
        tenant.add_device(Device::new("meter", "of the tenant").topics(json!(["#"])));
        let options = PluginOptions::both(&tenant).with("on_other", "defer");
        let broker = with_files(version, &options, &tenant);
        let meter = |password| ConnectPacket::new(Protocol::V311, "meter").login("meter", password);
        let mut local = raw::RawClient::connect(broker.port(), &meter("secret")).unwrap();
        assert_eq!(local.subscribe(&[("meter/#", 1)]), Ok(vec![1]), "by the acl_file");
        for wrong in ["wrong", "of the tenant"] {
            assert_eq!(answer(&broker, &meter(wrong)), Some(ConnectRefusal::Code(5)));
        }
        assert_eq!(answer(&broker, &ConnectPacket::new(Protocol::V311, "nobody")), Some(ConnectRefusal::Code(5)));
        assert_eq!(tenant.count(Endpoint::Token), 0, "the tenant was not asked");

        let login = |name: &str, password| {
            ConnectPacket::new(Protocol::V311, &format!("of {name}")).login(name, password)
        };
        assert!(retry_until_admitted(&broker, &login(DEVICE, PASSWORD)), "others are the tenant's");
        assert_eq!(answer(&broker, &login("METER", "secret")), Some(ConnectRefusal::Code(5)), "another name");

        let away = |clean| {
            let mut connect = ConnectPacket::new(Protocol::V311, "away").login("meter", "secret");
            connect.clean = clean;
            connect
        };
        let mut kept = raw::RawClient::connect(broker.port(), &away(false)).unwrap();
        assert_eq!(kept.subscribe(&[("meter/#", 1)]), Ok(vec![1]));
        kept.disconnect(0);

        // On SIGHUP the broker reads its file again, and so does the plugin.
        broker.reload();
        assert_eq!(local.ping(), Ok(()));
        let passwords = broker.folder().join("passwords");
        let users = fs::read_to_string(&passwords).unwrap();
        fs::write(&passwords, users.replace("meter:", "meter-2:")).unwrap();
        broker.reload();
        assert_eq!(answer(&broker, &login("meter-2", "secret")), None, "a new local user");
        assert!(retry_until_admitted(&broker, &login("meter", "of the tenant")), "no local user any more");
        let asked = tenant.requests_to(Endpoint::Token);
        let names: Vec<_> = asked.iter().filter_map(|request| request.field("username")).collect();
        assert_eq!(names, [DEVICE, "METER", "meter"]);
    }

    /// If the file is gone at SIGHUP, its users stay the broker's, and the log says so.
    fn local_users_stay_known_if_their_file_is_gone(version) {
        let tenant = tenant();
        let options = PluginOptions::both(&tenant).with("on_other", "defer");
        let broker = with_files(version, &options, &tenant);
        fs::remove_file(broker.folder().join("passwords")).unwrap();
        broker.sighup();
        let line = broker.expect_log("passwords' cannot be read");
        assert!(line.contains("The users that it had (1) stay the broker's"), "{line}");
        // 2.1 itself ends when it cannot read the file again.
        if !version.can_delay_logins() {
            let _ = answer(&broker, &ConnectPacket::new(Protocol::V311, "meter").login("meter", "secret"));
            assert_eq!(tenant.count(Endpoint::Token), 0, "the tenant was not asked");
        }
    }

    /// Without `on_other defer`, there are no clients but those of the tenant.
    fn local_users_are_refused_if_nobody_is_left_to_others(version) {
        let tenant = tenant();
        let broker = with_files(version, &PluginOptions::both(&tenant), &tenant);
        let local = ConnectPacket::new(Protocol::V311, "meter").login("meter", "secret");
        assert_eq!(answer(&broker, &local), Some(ConnectRefusal::Code(5)));
        expect_refusal(&broker, "'meter'", "login-refused");
        assert_eq!(tenant.count(Endpoint::Token), 1);
    }

    /// The plugin authenticates devices, and the broker's acl_file authorizes them.
    fn acl_defer_uses_the_brokers_acl_file(version) {
        let tenant = tenant();
        let broker = with_files(version, &PluginOptions::tokens(&tenant).with("acl", "defer"), &tenant);
        let mut ours = raw(&broker, &tenant, DEVICE, "ours", Protocol::V5);
        assert!(ours.publish("broker/x", "1", 1).unwrap() < 0x80);
        assert_eq!(ours.publish("temperature", "1", 1), Ok(0x87), "its token says so, and is not asked");
        let meter = ConnectPacket::new(Protocol::V311, "meter").login("meter", "secret");
        assert!(answer(&broker, &meter).is_some(), "others are refused all the same");
    }

    /// With `acl defer` and no other authorization, nothing is allowed.
    fn acl_defer_without_other_authorization_denies(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("acl", "defer"));
        let mut ours = raw(&broker, &tenant, DEVICE, "ours", Protocol::V5);
        assert_eq!(ours.publish("temperature", "1", 1), Ok(0x87));
    }
}

/// The users of dynamic-security are left to it, and the tenant never sees their passwords.
#[test]
fn passwords_of_users_of_dynamic_security_are_left_to_it() {
    let Some((version, theirs)) = dynamic_security() else {
        return;
    };
    let tenant = tenant();
    let options = PluginOptions::both(&tenant).with("on_other", "defer");
    let builder = Mosquitto::builder(version);
    let file = builder.folder().join("dynamic-security.json");
    let made = std::process::Command::new("mosquitto_ctrl")
        .args(["dynsec", "init"])
        .arg(&file)
        .args(["boss", "secret"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let builder = builder.plugin(plugin(), &options.pairs());
    let builder = builder.plugin(&theirs, &[("config_file", file.to_str().unwrap())]);
    let broker = builder.start().unwrap_or_else(|e| panic!("{e}"));
    let boss = |password| ConnectPacket::new(Protocol::V311, "boss").login("boss", password);
    assert_eq!(answer(&broker, &boss("secret")), None);
    assert!(answer(&broker, &boss("a guess")).is_some());
    assert_eq!(tenant.count(Endpoint::Token), 0);
    let device = ConnectPacket::new(Protocol::V311, "device").login(DEVICE, PASSWORD);
    assert!(retry_until_admitted(&broker, &device));
}

/// Returns the machine's broker with its dynamic-security, if they are installed: it is in no release of the tests.
fn dynamic_security() -> Option<(Version, PathBuf)> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let theirs = PathBuf::from(format!("/usr/lib/{triplet}/mosquitto_dynamic_security.so"));
    let version = Version::system("/usr/sbin/mosquitto");
    if version.program("mosquitto").is_err() || !theirs.exists() {
        eprintln!("left out: Mosquitto with dynamic-security is not installed here");
        return None;
    }
    Some((version, theirs))
}

/// Mosquitto's dynamic security plugin decides about rights, beside ours.
#[test]
fn acl_defer_works_with_dynamic_security() {
    let Some((version, theirs)) = dynamic_security() else {
        return;
    };
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
    let options = PluginOptions::tokens(&tenant).with("acl", "defer");
    // In either order of the plugins.
    for ours_first in [true, false] {
        let mut builder = Mosquitto::builder(version);
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
        let broker = builder.start().unwrap_or_else(|e| panic!("{e}"));
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
