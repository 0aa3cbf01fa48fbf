//! Metrics: retained messages under `$SYS`, the file, and a Prometheus that scrapes it.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{
    broker::{Listener, Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    tenant::{DEVICE, PASSWORD, Tenant},
};

use crate::{helpers::*, on_each_broker};

const ALL: &str = "$SYS/broker/auth0/#";

/// A device that may read metrics.
const OPERATOR: &str = "operator";

fn tenant_with_operator() -> Tenant {
    let tenant = tenant();
    device(&tenant, OPERATOR, json!([ALL]));
    tenant
}

fn options(tenant: &Tenant) -> PluginOptions {
    PluginOptions::both(tenant).with("metrics_interval", "1")
}

/// Reads metrics until this one has this value. Returns all that were read.
fn read_until(reader: &mut RawClient, topic: &str, value: &str) -> HashMap<String, String> {
    let mut read = HashMap::new();
    let until = Instant::now() + PATIENCE;
    while read.get(topic).map(String::as_str) != Some(value) {
        assert!(Instant::now() < until, "no {topic} {value}: {read:#?}");
        let message = reader
            .next_message(PATIENCE)
            .unwrap_or_else(|e| panic!("{e:?}: {read:#?}"));
        let name = message.topic.strip_prefix("$SYS/broker/auth0/");
        let name = name.unwrap_or_else(|| panic!("{message:?}"));
        let text = String::from_utf8(message.payload.clone()).unwrap();
        read.insert(name.to_owned(), text);
    }
    read
}

fn subscribed(mut client: RawClient) -> RawClient {
    assert_eq!(client.subscribe(&[(ALL, 0)]), Ok(vec![0]));
    client
}

/// Waits until the file says this.
pub(crate) fn wait_for_line(path: &Path, line: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().any(|other| other == line) {
            return text;
        }
        assert!(Instant::now() < until, "no {line} in {text}");
        thread::sleep(Duration::from_millis(50));
    }
}

on_each_broker! {
    /// Whoever may read the topics finds the values at once, and gets each change.
    fn metrics_are_retained_and_topics_like_others(version) {
        let tenant = tenant_with_operator();
        let options = PluginOptions::tokens(&tenant).with("metrics_interval", "1");
        let builder = builder(version, &options.with("on_other", "defer"));
        let (acl, passwords) = (builder.folder().join("acl"), builder.folder().join("passwords"));
        fs::write(&acl, format!("user local\ntopic read {ALL}\n")).unwrap();
        let made = Command::new(version.program("mosquitto_passwd").unwrap())
            .args(["-b", "-c"])
            .args([passwords.as_os_str(), "local".as_ref(), "secret".as_ref()])
            .status();
        assert!(made.unwrap().success());
        let files = format!("password_file {}\nacl_file {}", passwords.display(), acl.display());
        let broker = builder.config(files).start().unwrap();
        let mut device = raw(&broker, &tenant, DEVICE, "device", Protocol::V311);
        let mut forged = tenant.token(DEVICE);
        forged.replace_range(forged.len() - 8.., "AAAAAAAA");
        assert!(answer(&broker, &token_connect(Protocol::V311, "bad", &forged)).is_some());

        let mut operator = subscribed(raw(&broker, &tenant, OPERATOR, "operator", Protocol::V5));
        let read = read_until(&mut operator, "sessions/connected", "2");
        assert_eq!(read.get("config/generation").map(String::as_str), Some("1"), "{read:#?}");
        // A user of the broker's own files, whom the plugin leaves to the broker.
        let local = ConnectPacket::new(Protocol::V311, "local").login("local", "secret");
        let mut local = subscribed(RawClient::connect(broker.port(), &local).unwrap());
        let read = read_until(&mut local, "logins/deferred", "1");
        assert_eq!(read.get("logins/admitted").map(String::as_str), Some("2"), "{read:#?}");
        assert_eq!(read.get("logins/refused/token-signature").map(String::as_str), Some("1"), "{read:#?}");
        assert_eq!(read.get("keys/number").map(String::as_str), Some("2"), "{read:#?}");
        assert!(read.contains_key("keys/age") && read.contains_key("tenant/login/seconds"), "{read:#?}");
        // A device without a right to them.
        let _ = device.subscribe(&[(ALL, 0)]);
        read_until(&mut operator, "decisions/refused/not-granted", "1");
        assert!(device.messages_before_pong().unwrap().is_empty());
        device.disconnect(0);
        read_until(&mut operator, "sessions/connected", "1");
    }

    /// The broker keeps nothing of them on disk, so no old value is left after a restart.
    fn a_restart_begins_at_zero(version) {
        let tenant = tenant_with_operator();
        let broker = builder(version, &options(&tenant)).persistence(true).start().unwrap();
        for round in 0..5 {
            raw(&broker, &tenant, DEVICE, &format!("d{round}"), Protocol::V311).disconnect(0);
        }
        let mut operator = subscribed(raw(&broker, &tenant, OPERATOR, "operator", Protocol::V311));
        read_until(&mut operator, "logins/admitted", "6");
        broker.save();
        drop(operator);
        let broker = broker.restart().unwrap();
        let mut operator = subscribed(raw(&broker, &tenant, OPERATOR, "operator", Protocol::V311));
        let message = loop {
            let message = operator.next_message(PATIENCE).unwrap();
            if message.topic.ends_with("/logins/admitted") {
                break message;
            }
        };
        assert_eq!(message.payload, b"1");
    }

    /// The file is there while the broker runs, and everybody may read it.
    fn a_file_for_prometheus_is_kept_up_to_date(version) {
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth0.prom");
        let broker = broker(version, &options(&tenant).with("metrics_file", path.to_str().unwrap()));
        let device = raw(&broker, &tenant, DEVICE, "device", Protocol::V311);
        let text = wait_for_line(&path, "mosquitto_auth0_sessions{state=\"connected\"} 1");
        assert!(text.contains("\nmosquitto_auth0_logins_total{outcome=\"admitted\",reason=\"none\"} 1\n"), "{text}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        drop(device);
        wait_for_line(&path, "mosquitto_auth0_sessions{state=\"connected\"} 0");
        broker.stop();
        assert!(!path.exists());
    }
}

/// Returns the head and the body of the response to a GET.
fn get(port: u16, target: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// 2.1 can serve the file itself, on a listener that the plugin does not guard. It names no content type, so a
/// Prometheus since 3.0 has to be told the format (`fallback_scrape_protocol`).
#[test]
fn the_http_api_of_the_broker_serves_the_file() {
    let Ok(version) = Version::named("2.1.2") else {
        return;
    };
    let tenant = tenant();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth0.prom");
    let options = options(&tenant).with("metrics_file", path.to_str().unwrap());
    let http = format!("protocol http_api\nhttp_dir {}", folder.path().display());
    let broker = Mosquitto::builder(version)
        .per_listener_settings(true)
        .listener(Listener::tcp().plugin(plugin(), &options.pairs()))
        .listener(Listener::tcp().config(http.clone() + "\nallow_anonymous true"))
        .start()
        .unwrap();
    let text = wait_for_line(&path, "mosquitto_auth0_config_generation 1");
    let (head, body) = get(broker.ports()[1], "/auth0.prom");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(!head.contains("content-type"), "{head}");
    assert_eq!(text.lines().next(), body.lines().next());
    drop(broker);

    // Where the plugin guards the listener, nobody gets it: the broker asks the plugin on another thread.
    let builder = builder(version, &options).listener(Listener::tcp());
    let broker = builder
        .listener(Listener::tcp().config(http))
        .start()
        .unwrap();
    wait_for_line(&path, "mosquitto_auth0_config_generation 1");
    let (head, _) = get(broker.ports()[1], "/auth0.prom");
    assert!(head.starts_with("http/1.1 401"), "{head}");
}

/// A process that ends with the test.
struct Prometheus {
    process: Child,
    port: u16,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts one that scrapes this port every second. Returns `None` where it is not installed.
    fn start(folder: &Path, scraped: u16) -> Option<Self> {
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: mosquitto\n    static_configs:\n      \
             - targets: ['127.0.0.1:{scraped}']\n"
        );
        fs::write(&config, text).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let this = Self { process, port };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "Prometheus does not start");
            thread::sleep(Duration::from_millis(100));
        }
        Some(this)
    }

    /// Returns how many numbers an expression gives.
    fn numbers(&self, expression: &str) -> usize {
        let encoded: String = expression.bytes().map(|b| format!("%{b:02X}")).collect();
        let (_, body) = get(self.port, &format!("/api/v1/query?query={encoded}"));
        let Some(start) = body.find('{') else {
            return 0;
        };
        let end = body.rfind('}').unwrap();
        let answer: Value = serde_json::from_str(&body[start..=end]).unwrap();
        assert!(
            answer["status"] == "success" || answer["errorType"] != "bad_data",
            "{expression}: {answer}"
        );
        let result = answer["data"]["result"].as_array();
        let values = result
            .into_iter()
            .flatten()
            .map(|series| &series["value"][1]);
        values.filter(|value| **value != "NaN").count()
    }
}

/// Serves a file over HTTP, as the node exporter would, until the process ends. Returns the port.
fn serve(path: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let body = fs::read_to_string(&path).unwrap_or_default();
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
            let length = body.len();
            let _ = stream
                .write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
        }
    });
    port
}

/// Returns all expressions of the dashboard, for all brokers and a short interval.
fn expressions() -> Vec<String> {
    let dashboard = include_str!("../../docs/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| {
            let expression = target["expr"].as_str().unwrap();
            expression
                .replace("$__rate_interval", "20s")
                .replace("$instance", ".*")
        })
        .collect()
}

/// Every panel of the dashboard shows something for a broker that a real Prometheus scrapes.
#[test]
fn every_panel_of_the_dashboard_has_data() {
    let Some(version) = Version::installed().pop() else {
        return;
    };
    let tenant = tenant();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth0.prom");
    let Some(prometheus) = Prometheus::start(folder.path(), serve(path.clone())) else {
        return eprintln!("prometheus is not installed: the dashboard is not tried");
    };
    // Passwords are forgotten so soon that the tenant is asked again while Prometheus looks.
    let options = options(&tenant).with("login_cache", "5");
    let broker = broker(
        version,
        &options.with("metrics_file", path.to_str().unwrap()),
    );
    let mut missing = expressions();
    assert!(missing.len() > 20);
    let until = Instant::now() + 3 * PATIENCE;
    for round in 0.. {
        let good = ConnectPacket::new(Protocol::V311, &format!("d{round}")).login(DEVICE, PASSWORD);
        let mut device = RawClient::connect(broker.port(), &good).unwrap();
        let _ = device.publish("temperature", "1", 1);
        let _ = device.publish("forbidden", "1", 1);
        let nobody = ConnectPacket::new(Protocol::V311, "nobody");
        assert!(answer(&broker, &nobody).is_some());
        let with_token = raw(&broker, &tenant, DEVICE, "token", Protocol::V311);
        missing.retain(|expression| prometheus.numbers(expression) == 0);
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "no data: {missing:#?}");
        thread::sleep(Duration::from_millis(500));
        drop((device, with_token));
    }
}
