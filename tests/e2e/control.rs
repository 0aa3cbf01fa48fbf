//! Administration on `$CONTROL/auth0/v1`, and who may use it.

use std::{
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use serde_json::{Value, json};
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient, Will},
    },
    tenant::{DEVICE, Endpoint, PASSWORD, Tenant},
};

use crate::{helpers::*, on_each_broker};

const COMMANDS: &str = "$CONTROL/auth0/v1";
const ANSWERS: &str = "$CONTROL/auth0/v1/response";
const RENEW: &str = "$CONTROL/auth0/v1/renew";
const RENEWED: &str = "$CONTROL/auth0/v1/renew/response";

/// The permission that the tests give administrators.
pub const ADMIN: &str = "mqtt:admin";

/// Token mode with administrators.
fn options(tenant: &Tenant) -> PluginOptions {
    PluginOptions::tokens(tenant).with("admin_permission", ADMIN)
}

/// Connects an administrator, who has no other rights.
pub fn administrator(broker: &Mosquitto, tenant: &Tenant, protocol: Protocol) -> RawClient {
    let token = tenant.mint(WATCHER).claim("topics", json!([]));
    let token = token.claim("permissions", json!([ADMIN])).sign();
    let connect = token_connect(protocol, "admin", &token);
    RawClient::connect(broker.port(), &connect)
        .unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()))
}

/// Sends a command, and returns what is in `responses` of the answer.
#[track_caller]
pub fn command(admin: &mut RawClient, command: Value) -> Value {
    let answer = request(admin, json!({"commands": [command]}).to_string());
    answer["responses"][0].clone()
}

/// Sends a request, and returns the answer.
#[track_caller]
fn request(admin: &mut RawClient, request: String) -> Value {
    assert!(admin.publish(COMMANDS, request, 1).unwrap() < 0x80);
    let answer = admin.next_message(PATIENCE).unwrap();
    assert_eq!(answer.topic, ANSWERS);
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Returns the client IDs in a list.
fn listed(response: &Value) -> Vec<String> {
    let sessions = response["data"]["sessions"].as_array();
    let sessions = sessions.unwrap_or_else(|| panic!("{response}")).iter();
    sessions
        .map(|session| session["clientId"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns a CONNECT with which the device leaves a session that the broker keeps.
fn durable(tenant: &Tenant, device: &str, client_id: &str) -> ConnectPacket {
    let mut connect = token_connect(Protocol::V311, client_id, &tenant.token(device));
    connect.clean = false;
    connect
}

/// Waits until a session is listed as away.
pub fn wait_until_away(admin: &mut RawClient, client_id: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let list = command(
            admin,
            json!({"command": "listSessions", "clientId": client_id}),
        );
        if list["data"]["sessions"][0]["connected"] == json!(false) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{list}");
    }
}

on_each_broker! {
    /// Every protocol has the same answers, which go to the administrator alone.
    fn an_administrator_lists_sessions_in_pages(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let connect = |id: &&str| raw(&broker, &tenant, DEVICE, id, Protocol::V5);
        let mut devices: Vec<_> = ["a", "b", "c"].iter().map(connect).collect();
        // It may subscribe, and hears nothing.
        assert_eq!(devices[0].subscribe(&[("$CONTROL/auth0/#", 1)]), Ok(vec![1]));
        for protocol in [Protocol::V31, Protocol::V311, Protocol::V5] {
            let mut admin = administrator(&broker, &tenant, protocol);
            let first = command(&mut admin, json!({"command": "listSessions", "count": 2, "correlationData": "7"}));
            assert_eq!(first["correlationData"], "7");
            assert_eq!(listed(&first), ["a", "admin"]);
            let cursor = &first["data"]["cursor"];
            let second = command(&mut admin, json!({"command": "listSessions", "cursor": cursor}));
            assert_eq!(listed(&second), ["b", "c"]);
            assert_eq!(second["data"].get("cursor"), None);
            let session = &second["data"]["sessions"][0];
            assert_eq!((&session["username"], &session["connected"]), (&session["subject"], &json!(true)));
            assert!(session["until"].as_u64().unwrap() > testbed::signing::now(), "{session}");
            let subject = &session["subject"];
            let own = command(&mut admin, json!({"command": "listSessions", "subject": subject}));
            assert_eq!(listed(&own), ["a", "b", "c"]);
        }
        assert!(devices[0].messages_before_pong().unwrap().is_empty());
        assert!(broker.wait_for_log("): list of sessions of subject", PATIENCE).is_some());
    }

    /// The rights that an administrator's session had before a restart are made again, also these.
    fn an_administrator_is_one_after_a_restart(version) {
        let tenant = tenant();
        let state = tempfile::tempdir().unwrap();
        let options = options(&tenant).with("state_dir", state.path().to_str().unwrap());
        let broker = builder(version, &options).persistence(true).start().unwrap();
        let token = tenant.mint(WATCHER).claim("topics", json!(["#"]));
        let token = token.claim("permissions", json!([ADMIN])).sign();
        let mut connect = token_connect(Protocol::V311, "admin", &token);
        connect.clean = false;
        let mut admin = RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(admin.subscribe(&[("a/#", 1)]), Ok(vec![1]));
        crate::sessions::leave(&broker, admin, "admin");

        let broker = broker.restart().unwrap();
        with_token(&broker, &tenant, WATCHER).qos(1).publish("a/b", "queued").expect_success();
        let mut admin = RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(admin.next_message(PATIENCE).unwrap().text(), "queued");
        let list = command(&mut admin, json!({"command": "listSessions"}));
        assert_eq!(listed(&list), ["admin"], "{list}");
    }

    /// A client that is kicked may come back at once. Clients that are away are left alone.
    fn an_administrator_kicks_clients(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let mut admin = administrator(&broker, &tenant, Protocol::V5);
        let mut seen = with_token(&broker, &tenant, WATCHER).qos(1).subscribe(&["temperature"]).subscribed();
        let mut connect = token_connect(Protocol::V5, "one", &tenant.token(DEVICE));
        connect.will = Some(Will { topic: "temperature".into(), payload: b"kicked".to_vec(), qos: 1, ..Will::default() });
        let mut one = RawClient::connect(broker.port(), &connect).unwrap();
        let done = command(&mut admin, json!({"command": "kick", "clientId": "one"}));
        assert_eq!(done["data"]["clients"], 1, "{done}");
        // 0x98 Administrative action
        assert_eq!(one.wait_end(PATIENCE), Ok(Some(0x98)));
        assert_eq!(seen.expect_message().text(), "kicked");
        assert!(broker.wait_for_log("kick of client 'one': 1 client is disconnected", PATIENCE).is_some());

        let connect = |id: &&str| raw(&broker, &tenant, DEVICE, id, Protocol::V311);
        let mut both: Vec<_> = ["one", "two"].iter().map(connect).collect();
        let away = durable(&tenant, DEVICE, "three");
        RawClient::connect(broker.port(), &away).unwrap().disconnect(0);
        wait_until_away(&mut admin, "three");
        let list = command(&mut admin, json!({"command": "listSessions", "clientId": "one"}));
        let subject = &list["data"]["sessions"][0]["subject"];
        let done = command(&mut admin, json!({"command": "kick", "subject": subject}));
        assert_eq!(done["data"]["clients"], 2, "{done}");
        for client in &mut both {
            assert!(client.wait_end(PATIENCE).is_ok());
        }
        for id in ["one", "three"] {
            let why = command(&mut admin, json!({"command": "kick", "clientId": id}));
            assert!(why["error"].as_str().unwrap().contains("no client is connected"), "{why}");
        }
        assert!(RawClient::connect(broker.port(), &away).unwrap().session_present);
    }

    /// A device was replaced, and the new one has another account. It gets the session, and of what is queued in it
    /// only what its own token grants.
    fn a_released_client_id_is_free_for_another_account(version) {
        let tenant = tenant();
        device(&tenant, "old", json!(["shared/#", "secret"]));
        device(&tenant, "new", json!(["shared/#"]));
        let broker = broker(version, &options(&tenant));
        let mut admin = administrator(&broker, &tenant, Protocol::V311);
        let connect = durable(&tenant, "old", "pump");
        let mut old = RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(old.subscribe(&[("shared/#", 1), ("secret", 1)]), Ok(vec![1, 1]));
        let held = command(&mut admin, json!({"command": "releaseClientId", "clientId": "pump"}));
        assert!(held["error"].as_str().unwrap().contains("is connected"), "{held}");
        old.disconnect(0);
        wait_until_away(&mut admin, "pump");
        let new = durable(&tenant, "new", "pump");
        assert!(answer(&broker, &new).is_some());
        expect_refusal(&broker, "'pump'", "client-id-held");

        let done = command(&mut admin, json!({"command": "releaseClientId", "clientId": "pump"}));
        assert_eq!(done["data"], json!({"known": true}));
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V311);
        for topic in ["secret", "shared/1"] {
            watcher.publish(topic, topic, 1).unwrap();
        }
        let mut client = RawClient::connect(broker.port(), &new).unwrap();
        assert_eq!(client.next_message(PATIENCE).unwrap().text(), "shared/1");
        watcher.publish("secret", "now", 1).unwrap();
        assert!(client.messages_before_pong().unwrap().is_empty());
        // It belongs to the new account now.
        assert!(answer(&broker, &connect).is_some());
        let none = command(&mut admin, json!({"command": "releaseClientId", "clientId": "nobody"}));
        assert_eq!(none["data"], json!({"known": false}));
    }

    /// The tenant is asked again about a login that was forgotten.
    fn an_administrator_forgets_logins(version) {
        let tenant = tenant();
        let options = PluginOptions::both(&tenant).with("admin_permission", ADMIN).with("login_cache", "3600");
        let broker = broker(version, &options);
        let mut admin = administrator(&broker, &tenant, Protocol::V5);
        let login = ConnectPacket::new(Protocol::V5, "d").login(DEVICE, PASSWORD);
        for _ in 0..2 {
            RawClient::connect(broker.port(), &login).unwrap().disconnect(0);
        }
        assert_eq!(tenant.count(Endpoint::Token), 1);
        let done = command(&mut admin, json!({"command": "forgetLogin", "username": DEVICE.to_uppercase()}));
        assert_eq!(done["data"], json!({"logins": 1, "tokens": 0}));
        RawClient::connect(broker.port(), &login).unwrap().disconnect(0);
        assert_eq!(tenant.count(Endpoint::Token), 2);
    }

    /// The tenant's new key is known before a device comes with it.
    fn an_administrator_refreshes_the_keys(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let mut admin = administrator(&broker, &tenant, Protocol::V5);
        let fetched = tenant.count(Endpoint::Jwks);
        let mark = broker.log_mark();
        tenant.rotate_unannounced();
        let done = command(&mut admin, json!({"command": "refreshKeys"}));
        assert_eq!(done["data"], json!({}));
        assert!(broker.wait_for_log_after(mark, "signing keys were fetched", PATIENCE).is_some());
        assert_eq!(tenant.count(Endpoint::Jwks), fetched + 1);
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "d", &tenant.token(DEVICE))), None);
    }

    /// What cannot be read is answered with the member and the fix, and the rest of the request is executed.
    fn mistakes_are_answered_with_the_fix(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let mut admin = administrator(&broker, &tenant, Protocol::V5);
        for (text, why) in [
            ("", "cannot be read"),
            ("kick", "cannot be read"),
            ("{}", "member commands is missing"),
            (&"x".repeat(200_000), "has 200000 bytes"),
        ] {
            let answer = request(&mut admin, text.into());
            let error = answer["responses"][0]["error"].as_str().unwrap();
            assert!(error.contains(why) && error.contains("; fix: "), "{error}");
        }
        let answer = request(&mut admin, json!({"commands": [
            {"command": "kick", "clientid": "d", "correlationData": "1"},
            {"command": "listSessions", "clientId": "admin", "correlationData": "2"},
        ]}).to_string());
        assert_eq!(answer["responses"][0]["error"], "member 'clientid' is unknown; fix: use clientId, subject, issuer");
        assert_eq!(listed(&answer["responses"][1]), ["admin"]);
    }

    /// The permission comes and goes with the token: at once, when the client renews.
    fn an_administrator_is_one_as_long_as_the_token_says(version) {
        let tenant = tenant();
        let broker = broker(version, &options(&tenant));
        let token = |permissions: Value| tenant.mint(DEVICE).claim("permissions", permissions).sign();
        let connect = token_connect(Protocol::V5, "ops", &token(json!([])));
        let mut client = RawClient::connect(broker.port(), &connect).unwrap();
        let list = json!({"commands": [{"command": "listSessions"}]}).to_string();
        assert_eq!(client.publish(COMMANDS, &list, 1), Ok(0x87));
        for (permissions, is_one) in [(json!([ADMIN]), true), (json!(["other"]), false)] {
            client.publish(RENEW, token(permissions), 1).unwrap();
            assert_eq!(client.next_message(PATIENCE).unwrap().topic, RENEWED);
            assert_eq!(client.publish(COMMANDS, &list, 1).unwrap() < 0x80, is_one);
            if is_one {
                assert_eq!(client.next_message(PATIENCE).unwrap().topic, ANSWERS);
            }
        }
    }

    /// Neither an ordinary token nor a rule makes an administrator, nor does the permission without the option.
    fn nobody_else_administers(version) {
        let tenant = tenant();
        device(&tenant, "greedy", json!(["#", "$CONTROL/#", COMMANDS, RENEW]));
        let broker = broker(version, &options(&tenant));
        let mut victim = raw(&broker, &tenant, DEVICE, "victim", Protocol::V311);
        let kick = json!({"commands": [{"command": "kick", "clientId": "victim"}]}).to_string();
        let mut greedy = raw(&broker, &tenant, "greedy", "greedy", Protocol::V5);
        for topic in [COMMANDS, ANSWERS, RENEWED, "$CONTROL/auth0/v1/", "$CONTROL/auth0"] {
            assert_eq!(greedy.publish(topic, &kick, 1), Ok(0x87), "{topic}");
        }
        expect_refusal(&broker, "'greedy'", "control-topic");
        let mut will = token_connect(Protocol::V311, "will", &tenant.token("greedy"));
        let payload = kick.clone().into_bytes();
        will.will = Some(Will { topic: COMMANDS.into(), payload, qos: 1, ..Will::default() });
        // Later brokers refuse such a will.
        if let Ok(client) = RawClient::connect(broker.port(), &will) {
            client.abort();
        }
        assert!(greedy.messages_before_pong().unwrap().is_empty());
        victim.ping().unwrap();
        drop(broker);

        let broker = crate::helpers::broker(version, &PluginOptions::tokens(&tenant));
        let mut admin = administrator(&broker, &tenant, Protocol::V5);
        assert_eq!(admin.publish(COMMANDS, &kick, 1), Ok(0x87));
        assert!(admin.messages_before_pong().unwrap().is_empty());
    }

    /// Where the broker's own files decide about topics, the plugin still decides about its own.
    fn others_decide_nothing_about_control_topics(version) {
        let tenant = tenant();
        let builder = builder(version, &options(&tenant).with("acl", "defer").with("on_other", "defer"));
        let (acl, passwords) = (builder.folder().join("acl"), builder.folder().join("passwords"));
        let everything = "topic readwrite $CONTROL/#\ntopic readwrite #\n";
        let subject = tenant.mint(DEVICE).claim_members().get("sub").cloned().unwrap();
        let users = format!("user local\n{everything}user {}\n{everything}", subject.as_str().unwrap());
        std::fs::write(&acl, users).unwrap();
        let made = std::process::Command::new(version.program("mosquitto_passwd").unwrap())
            .args(["-b", "-c"])
            .args([passwords.as_os_str(), "local".as_ref(), "secret".as_ref()])
            .status();
        assert!(made.unwrap().success());
        let files = format!("password_file {}\nacl_file {}", passwords.display(), acl.display());
        let broker = builder.config(files).start().unwrap();
        let kick = json!({"commands": [{"command": "kick", "clientId": "admin"}]}).to_string();
        let mut admin = administrator(&broker, &tenant, Protocol::V5);
        let local = ConnectPacket::new(Protocol::V5, "local").login("local", "secret");
        let mut local = RawClient::connect(broker.port(), &local).unwrap();
        let mut ordinary = raw(&broker, &tenant, DEVICE, "ordinary", Protocol::V5);
        for client in [&mut local, &mut ordinary] {
            assert_eq!(client.publish(COMMANDS, &kick, 1), Ok(0x87));
        }
        assert!(ordinary.publish("a", "1", 1).unwrap() < 0x80, "the acl_file grants it");
        assert_eq!(listed(&command(&mut admin, json!({"command": "listSessions"}))), ["admin", "ordinary"]);
    }
}

/// On 2.1 only the first instance's callback is called. Each administrator has to do with the clients of one instance.
#[test]
fn an_administrator_sees_the_clients_of_one_instance() {
    for version in [Version::V2_0_11, Version::V2_0_21, Version::V2_1_2] {
        let (tenant, other) = (tenant(), tenant());
        let broker = broker_with_listeners(version, &[options(&tenant), options(&other)]);
        let ports = broker.ports();
        let connect = |tenant: &Tenant, port: u16, id: &str, permissions: Value| {
            let token = tenant.mint(DEVICE).claim("permissions", permissions).sign();
            RawClient::connect(port, &token_connect(Protocol::V5, id, &token)).unwrap()
        };
        let mut clients = Vec::new();
        for (tenant, port, name) in [(&tenant, ports[0], "a"), (&other, ports[1], "b")] {
            clients.push(connect(tenant, port, &format!("{name}-device"), json!([])));
            let mut admin = connect(tenant, port, &format!("{name}-admin"), json!([ADMIN]));
            let own = command(&mut admin, json!({"command": "listSessions"}));
            assert_eq!(
                listed(&own),
                [format!("{name}-admin"), format!("{name}-device")],
                "{version}"
            );
            let foreign = command(
                &mut admin,
                json!({"command": "kick", "clientId": "a-device"}),
            );
            let ticks = version != Version::V2_0_11;
            let expected = name == "a" && ticks;
            assert_eq!(
                foreign.get("data").is_some(),
                expected,
                "{version}: {foreign}"
            );
        }
    }
}

/// Sends requests through the socket in this folder, each on a line, and returns the answers.
fn locally(folder: &std::path::Path, requests: &[Value]) -> Vec<Value> {
    let mut socket = UnixStream::connect(folder.join("control.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for request in requests {
        writeln!(socket, "{request}").unwrap();
    }
    socket.shutdown(Shutdown::Write).unwrap();
    let answers = BufReader::new(socket).lines();
    answers
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect()
}

/// Returns token mode with this folder for state.
fn with_state(tenant: &Tenant, folder: &tempfile::TempDir) -> PluginOptions {
    PluginOptions::tokens(tenant).with("state_dir", folder.path().to_str().unwrap())
}

const OPEN: &str = "administrators on this machine can command";

on_each_broker! {
    /// Root and the broker's user need no token and no permission.
    fn commands_are_executed_through_the_socket(version) {
        let (tenant, folder) = (tenant(), tempfile::tempdir().unwrap());
        let broker = broker(version, &with_state(&tenant, &folder));
        broker.expect_log(OPEN);
        let mut device = raw(&broker, &tenant, DEVICE, "device", Protocol::V5);
        let one = |command: Value| json!({"commands": [command]});
        let answers = locally(folder.path(), &[
            one(json!({"command": "listSessions"})),
            one(json!({"command": "kick", "clientId": "device"})),
            one(json!({"command": "refreshKeys"})),
            json!({"commands": []}),
        ]);
        assert_eq!(answers.len(), 4);
        assert_eq!(listed(&answers[0]["responses"][0]), ["device"]);
        assert_eq!(answers[1]["responses"][0]["data"]["clients"], 1);
        assert_eq!(answers[2]["responses"][0]["data"], json!({}));
        assert!(answers[3]["responses"][0]["error"].as_str().unwrap().contains("commands is missing"));
        assert_eq!(device.wait_end(PATIENCE), Ok(Some(0x98)));
        broker.expect_log("an administrator on this machine: kick of client 'device': 1 client is disconnected");
        assert!(ended_well(&broker.stop()));
        assert!(!folder.path().join("control.sock").exists());
    }

    /// A killed broker leaves its socket behind. While a broker runs, a second one leaves that alone.
    fn the_socket_of_a_killed_broker_is_replaced(version) {
        let (tenant, folder) = (tenant(), tempfile::tempdir().unwrap());
        let options = with_state(&tenant, &folder);
        let first = broker(version, &options);
        first.expect_log(OPEN);
        let second = broker(version, &options);
        assert!(second.expect_log("another broker answers at").contains("fix: give each broker"));
        second.stop();
        let list = json!({"commands": [{"command": "listSessions"}]});
        assert_eq!(locally(folder.path(), std::slice::from_ref(&list)).len(), 1, "the first one answers");
        first.kill();
        assert!(folder.path().join("control.sock").exists());
        let third = broker(version, &options);
        third.expect_log(OPEN);
        assert_eq!(locally(folder.path(), &[list]).len(), 1);
    }
}

/// A client that is held up by the socket holds up nobody else, and the broker stops in time.
#[test]
fn the_broker_never_waits_for_the_socket() {
    let (tenant, folder) = (tenant(), tempfile::tempdir().unwrap());
    let broker = broker(Version::V2_1_2, &with_state(&tenant, &folder));
    broker.expect_log(OPEN);
    let mut slow = UnixStream::connect(folder.path().join("control.sock")).unwrap();
    slow.write_all(b"{\"commands\":").unwrap();
    let mut device = raw(&broker, &tenant, DEVICE, "device", Protocol::V5);
    device.ping().unwrap();
    let began = std::time::Instant::now();
    assert!(ended_well(&broker.stop()));
    assert!(began.elapsed() < PATIENCE / 2);
}
