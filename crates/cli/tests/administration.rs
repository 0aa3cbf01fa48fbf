//! `sessions`, `kick`, `forget`, `release` and `refresh-keys`, with real brokers.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    tenant::{
        AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Device, Endpoint, PASSWORD, Tenant,
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the tool said, and its exit code.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: i32,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

fn tool(arguments: &[&str]) -> Said {
    let done = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"))
        .args(arguments)
        .output()
        .unwrap();
    Said {
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
        code: done.status.code().unwrap(),
    }
}

/// A broker with a socket, and what it needs.
struct Place {
    tenant: Tenant,
    broker: Mosquitto,
    conf: String,
    _state: tempfile::TempDir,
}

impl Place {
    fn new(version: Version) -> Self {
        let (tenant, state) = (Tenant::start(), tempfile::tempdir().unwrap());
        let options = [
            ("domain", tenant.domain()),
            ("ca_file", tenant.ca_file().to_str().unwrap()),
            ("audience", AUDIENCE),
            ("client_id", CLIENT_ID),
            ("client_secret", CLIENT_SECRET),
            ("connection", CONNECTION),
            ("login_cache", "3600"),
            ("login_wait", "20"),
            ("stall_budget", "100"),
            ("state_dir", state.path().to_str().unwrap()),
        ];
        let builder = Mosquitto::builder(version).plugin(testbed::plugin::file(), &options);
        let broker = builder.start().unwrap_or_else(|e| panic!("{version}: {e}"));
        broker.expect_log("administrators on this machine can command");
        let conf = broker.folder().join("mosquitto.conf");
        assert!(conf.exists(), "{}", conf.display());
        Self {
            tenant,
            broker,
            conf: conf.to_str().unwrap().to_owned(),
            _state: state,
        }
    }

    /// Runs a command against this broker.
    fn tool(&self, arguments: &[&str]) -> Said {
        tool(&[arguments, &["--conf", &self.conf]].concat())
    }

    fn connect(&self, device: &str, client_id: &str, clean: bool) -> RawClient {
        let mut connect =
            ConnectPacket::new(Protocol::V311, client_id).login("JWT", self.tenant.token(device));
        connect.clean = clean;
        RawClient::connect(self.broker.port(), &connect)
            .unwrap_or_else(|e| panic!("{e:?}\n{}", self.broker.log()))
    }
}

fn client_ids(sessions: &Value) -> Vec<&str> {
    let list = sessions["sessions"].as_array().unwrap().iter();
    list.map(|session| session["clientId"].as_str().unwrap())
        .collect()
}

fn on_each_broker(test: fn(&Place)) {
    for version in [Version::V2_0_11, Version::V2_0_21, Version::V2_1_2] {
        eprintln!("on {version}");
        test(&Place::new(version));
    }
}

#[test]
fn sessions_are_listed_as_a_table_and_as_json() {
    on_each_broker(|place| {
        let _clients = ["pump-1", "pump-2", "valve"].map(|id| place.connect(DEVICE, id, true));
        let said = place.tool(&["sessions"]);
        assert_eq!(said.code, 0, "{said:?}");
        let lines: Vec<_> = said.out.lines().collect();
        assert_eq!(lines.len(), 4, "{said:?}");
        assert!(lines[0].starts_with("CLIENT ID  USER NAME"), "{said:?}");
        assert!(
            lines[1].starts_with("pump-1 ") && lines[1].contains(" connected "),
            "{said:?}"
        );
        assert!(lines[1].ends_with(" UTC"), "{said:?}");
        let of_pumps = place
            .tool(&["sessions", "--prefix", "pump-", "--json"])
            .json();
        assert_eq!(client_ids(&of_pumps), ["pump-1", "pump-2"]);
        let subject = of_pumps["sessions"][0]["subject"].as_str().unwrap();
        let (issuer, json) = (place.tenant.issuer(), "--json");
        let own = place.tool(&["sessions", "--subject", subject, "--issuer", issuer, json]);
        assert_eq!(client_ids(&own.json()).len(), 3);
        let none = place.tool(&["sessions", "--client-id", "nobody"]);
        assert_eq!(
            (none.code, none.out.as_str()),
            (1, "There is no such session.\n")
        );
    });
}

#[test]
fn clients_are_kicked_by_client_id_and_by_subject() {
    on_each_broker(|place| {
        let mut clients = ["one", "two", "three"].map(|id| place.connect(DEVICE, id, true));
        let said = place.tool(&["kick", "one", "nobody"]);
        assert_eq!(said.code, 1, "one of them is not there: {said:?}");
        assert!(
            said.out.contains("Client 'one' is disconnected.\n"),
            "{said:?}"
        );
        assert!(said.out.contains("no client is connected"), "{said:?}");
        assert!(clients[0].wait_end(PATIENCE).is_ok());
        clients[1].ping().unwrap();
        let sessions = place
            .tool(&["sessions", "--client-id", "two", "--json"])
            .json();
        let subject = sessions["sessions"][0]["subject"].as_str().unwrap();
        let said = place.tool(&["kick", "--subject", subject, "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(
            said.json(),
            json!({"results": [{"subject": subject, "clients": 2}]})
        );
        assert!(clients[2].wait_end(PATIENCE).is_ok());
    });
}

#[test]
fn logins_are_forgotten_client_ids_released_and_keys_refreshed() {
    on_each_broker(|place| {
        let login = ConnectPacket::new(Protocol::V5, "d").login(DEVICE, PASSWORD);
        for _ in 0..2 {
            RawClient::connect(place.broker.port(), &login)
                .unwrap()
                .disconnect(0);
        }
        assert_eq!(place.tenant.count(Endpoint::Token), 1);
        let said = place.tool(&["forget", DEVICE]);
        let expected = format!("1 login and 0 tokens of user '{DEVICE}' are forgotten.\n");
        assert_eq!((said.code, said.out), (0, expected));
        RawClient::connect(place.broker.port(), &login)
            .unwrap()
            .disconnect(0);
        assert_eq!(place.tenant.count(Endpoint::Token), 2);

        place
            .tenant
            .add_device(Device::new("new", "its password").topics(json!(["#"])));
        place.connect(DEVICE, "pump", false).disconnect(0);
        let mark = place.broker.log_mark();
        let connect =
            ConnectPacket::new(Protocol::V311, "pump").login("JWT", place.tenant.token("new"));
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let away = place.tool(&["sessions", "--client-id", "pump"]);
            if away.out.contains(" away ") {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{away:?}");
        }
        assert!(RawClient::connect(place.broker.port(), &connect).is_err());
        let said = place.tool(&["release", "pump"]);
        let expected = "Another account may have client ID 'pump' now.\n";
        assert_eq!((said.code, said.out.as_str()), (0, expected));
        RawClient::connect(place.broker.port(), &connect)
            .unwrap()
            .disconnect(0);

        let fetched = place.tenant.count(Endpoint::Jwks);
        assert_eq!(place.tool(&["refresh-keys"]).code, 0);
        assert!(place.tenant.wait_for(Endpoint::Jwks, fetched + 1, PATIENCE));
        let log = "an administrator on this machine: release of client ID 'pump'";
        assert!(
            place
                .broker
                .wait_for_log_after(mark, log, PATIENCE)
                .is_some(),
            "{}",
            place.broker.log()
        );
    });
}

/// Answers each request at this socket with one of these lines.
fn pretender(socket: &Path, answers: Vec<String>) -> std::thread::JoinHandle<Vec<Value>> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut stream = stream;
        let mut answer = |answer: String| {
            let request = lines.next().unwrap().unwrap();
            writeln!(stream, "{answer}").unwrap();
            serde_json::from_str(&request).unwrap()
        };
        answers.into_iter().map(&mut answer).collect()
    })
}

/// All pages are one list, and no client ID changes the terminal.
#[test]
fn pages_are_fetched_until_there_is_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let page = |ids: &[&str], cursor: Option<&str>| {
        let sessions: Vec<_> = ids
            .iter()
            .map(|id| json!({"clientId": id, "until": 1_800_000_000}))
            .collect();
        let mut data = json!({"sessions": sessions});
        if let Some(cursor) = cursor {
            data["cursor"] = cursor.into();
        }
        json!({"responses": [{"command": "listSessions", "data": data}]}).to_string()
    };
    let answers = vec![
        page(&["a", "b\u{1b}]0;"], Some("b")),
        page(&[], Some("c")),
        page(&["d"], None),
    ];
    let asked = pretender(&socket, answers);
    let said = tool(&["sessions", "--socket", socket.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out.lines().count(), 4, "{said:?}");
    assert!(
        said.out.contains("b\\u{1b}]0;") && said.out.contains("2027-01-15 08:00:00 UTC"),
        "{said:?}"
    );
    let cursors: Vec<_> = asked
        .join()
        .unwrap()
        .iter()
        .map(|r| r["commands"][0]["cursor"].clone())
        .collect();
    assert_eq!(cursors, [Value::Null, "b".into(), "c".into()]);
}

/// The broker takes sixteen commands at once.
#[test]
fn many_clients_are_kicked_in_several_requests() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let answer = |count: usize| {
        let response = json!({"command": "kick", "data": {"clients": 1}});
        json!({"responses": vec![response; count]}).to_string()
    };
    let asked = pretender(&socket, vec![answer(16), answer(4)]);
    let ids: Vec<_> = (0..20).map(|n| format!("d{n}")).collect();
    let mut arguments = vec!["kick", "--socket", socket.to_str().unwrap()];
    arguments.extend(ids.iter().map(String::as_str));
    let said = tool(&arguments);
    assert_eq!((said.code, said.out.lines().count()), (0, 20), "{said:?}");
    assert_eq!(asked.join().unwrap()[1]["commands"][3]["clientId"], "d19");
}

/// Each of these says what is wrong and what helps, and ends with 3.
#[test]
fn a_broker_that_cannot_be_asked_is_named_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    drop(UnixListener::bind(folder.path().join("killed")).unwrap());
    let conf = |name: &str, lines: &str| {
        fs::write(
            folder.path().join(name),
            format!("plugin /lib/libmosquitto_auth0.so\n{lines}\n"),
        )
        .unwrap();
        at(name)
    };
    let options = folder.path().join("options.toml");
    fs::write(
        &options,
        format!("state_dir = \"{}\"\n", folder.path().display()),
    )
    .unwrap();
    let without = conf("without.conf", "plugin_opt_domain t.eu.auth0.com");
    let misspelt = conf("misspelt.conf", "plugin_opt_state_dri /x");
    let in_file = conf(
        "in_file.conf",
        &format!("plugin_opt_config_file {}", options.display()),
    );
    fs::write(folder.path().join("other.conf"), "listener 1883\n").unwrap();
    for (place, path, what, fix) in [
        (
            "--socket",
            at("none"),
            "there is no socket",
            "fix: start the broker",
        ),
        (
            "--socket",
            at("killed"),
            "was killed",
            "fix: start the broker",
        ),
        (
            "--conf",
            without,
            "has no option state_dir",
            "fix: set plugin_opt_state_dir",
        ),
        ("--conf", misspelt, "state_dri", "state_dir"),
        (
            "--conf",
            in_file,
            "there is no socket",
            "fix: start the broker",
        ),
        (
            "--conf",
            at("other.conf"),
            "do not load mosquitto-auth0",
            "fix: name the file",
        ),
        (
            "--conf",
            at("gone.conf"),
            "gone.conf cannot be read",
            "run this with sudo",
        ),
    ] {
        let said = tool(&["sessions", place, &path]);
        assert_eq!((said.code, said.out.as_str()), (3, ""), "{said:?}");
        assert!(
            said.err.contains(what) && said.err.contains(fix),
            "{said:?}"
        );
        let said = tool(&["sessions", "--json", place, &path]);
        assert!(
            said.json()["error"].as_str().unwrap().contains(what),
            "{said:?}"
        );
    }
    assert_eq!(tool(&["kick"]).code, 2);
    assert_eq!(tool(&["kick", "a", "--subject", "b"]).code, 2);
}

/// A refusal is an answer, and no text of it changes the terminal.
#[test]
fn a_refusal_is_shown_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = json!({"responses": [{"error": "no\u{1b}]0;\nmore"}]}).to_string();
    for (name, command) in [("s", &["sessions"][..]), ("k", &["kick", "a"])] {
        let socket = folder.path().join(name);
        let asked = pretender(&socket, vec![refusal.clone()]);
        let said = tool(&[command, &["--socket", socket.to_str().unwrap()]].concat());
        let line = "Nothing was done: no\\u{1b}]0;\\nmore\n";
        assert_eq!((said.code, said.out.as_str()), (1, line), "{said:?}");
        asked.join().unwrap();
    }
}

/// What answers is no broker with the plugin.
#[test]
fn an_answer_that_is_none_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let asked = pretender(&socket, vec!["HTTP/1.1 400 Bad Request".into()]);
    let said = tool(&["sessions", "--socket", socket.to_str().unwrap()]);
    assert_eq!(said.code, 3);
    assert!(
        said.err.contains("is no answer of mosquitto-auth0"),
        "{said:?}"
    );
    asked.join().unwrap();
}
