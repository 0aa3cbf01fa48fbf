//! `token`, with the stand-in tenant and real brokers.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    signing::{SigningKey, peek},
    tenant::{
        AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, ClientAuth, DEVICE, Endpoint, Grant,
        ResponseGate, Tenant,
    },
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A tenant, and a folder for files and for what the tool keeps.
struct Place {
    tenant: Tenant,
    folder: tempfile::TempDir,
}

/// What the tool said, and its exit code.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: i32,
}

impl Place {
    fn new() -> Self {
        let tenant = Tenant::builder().settings(|settings| {
            settings
                .grants
                .extend([Grant::DeviceCode, Grant::RefreshToken]);
            settings.device_interval = 1;
        });
        let tenant = tenant.start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { tenant, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file that only its owner may read.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"));
        command.args(["token", "--domain", self.tenant.domain()]);
        command.args(["--audience", AUDIENCE, "--client-id", CLIENT_ID]);
        command
            .arg("--ca-file")
            .arg(self.tenant.ca_file())
            .args(arguments);
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn tool(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    fn cached(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("cache/mosquitto-auth0"));
        let paths = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect()
    }
}

fn said(output: std::process::Output) -> Said {
    Said {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

#[track_caller]
fn subject(token: &str) -> String {
    let (_, claims) = peek(token.trim_end()).expect("a token");
    claims["sub"].as_str().unwrap().to_owned()
}

#[test]
fn client_credentials_yield_a_token_that_is_kept() {
    let place = Place::new();
    let secret = place.file("secret", CLIENT_SECRET);
    let first = place.tool(&["--client-secret-file", &secret]);
    assert_eq!((first.code, first.err.as_str()), (0, ""), "{first:?}");
    assert_eq!(subject(&first.out), format!("{CLIENT_ID}@clients"));
    let second = place.tool(&["--client-secret-file", &secret]);
    assert_eq!(
        (second.out, place.tenant.count(Endpoint::Token)),
        (first.out.clone(), 1)
    );
    let cached = place.cached();
    assert_eq!(cached.len(), 1, "{cached:?}");
    assert_eq!(
        fs::metadata(&cached[0]).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let folder = cached[0].parent().unwrap();
    assert_eq!(
        fs::metadata(folder).unwrap().permissions().mode() & 0o777,
        0o700
    );

    let json: Value =
        serde_json::from_str(&place.tool(&["--client-secret-file", &secret, "--json"]).out)
            .unwrap();
    assert_eq!(json["access_token"], first.out.trim_end());
    assert!(json["expires_at"].as_u64().unwrap() > testbed::signing::now());
    assert_eq!(
        place
            .tool(&["--client-secret-file", &secret, "--fresh"])
            .code,
        0
    );
    assert_eq!(
        place
            .tool(&["--client-secret-file", &secret, "--no-cache"])
            .code,
        0
    );
    assert_eq!(place.tenant.count(Endpoint::Token), 3);

    // Almost at its end.
    place
        .tenant
        .configure(|settings| settings.access_token_lifetime = 1);
    place.tool(&["--client-secret-file", &secret, "--fresh"]);
    let kept = fs::read_to_string(&cached[0]).unwrap();
    let mut kept: Value = serde_json::from_str(&kept).unwrap();
    kept["issued_at"] = (kept["issued_at"].as_u64().unwrap() - 10).into();
    kept["expires_at"] = kept["issued_at"].clone();
    fs::write(&cached[0], kept.to_string()).unwrap();
    place.tool(&["--client-secret-file", &secret]);
    assert_eq!(place.tenant.count(Endpoint::Token), 5);
}

/// Neither its access token nor its refresh token is sent to another tenant.
#[test]
fn what_is_kept_for_another_purpose_counts_as_missing() {
    let (place, other) = (Place::new(), Place::new());
    let secret = place.file("secret", CLIENT_SECRET);
    let cache = place.path("kept");
    let arguments = ["--client-secret-file", &secret, "--cache", &cache];
    let first = place.tool(&arguments);
    assert_eq!(place.tool(&arguments).out, first.out);
    assert_eq!(place.tenant.count(Endpoint::Token), 1);
    let of_other = other.tool(&arguments);
    assert_eq!(of_other.code, 0, "{of_other:?}");
    assert_ne!(of_other.out, first.out);
    assert_eq!(other.tenant.count(Endpoint::Token), 1);
    place.tool(&[&arguments[..], &["--scope", "read:reports"]].concat());
    assert_eq!(place.tenant.count(Endpoint::Token), 2);
}

#[test]
fn a_file_cannot_be_kept_for_two_things() {
    let place = Place::new();
    let file = place.file("both", &place.tenant.refresh_token(DEVICE));
    let link = place.path("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for second in ["--cache", "--watch"] {
        let done = place.tool(&["--refresh-token-file", &file, second, &link]);
        assert!(
            done.code == 3 && done.err.contains("is named twice"),
            "{done:?}"
        );
    }
    let missing = place.path("missing");
    let done = place.tool(&["--cache", &missing, "--watch", &missing]);
    assert!(done.err.contains("is named twice"), "{done:?}");
    assert_eq!(place.tenant.count(Endpoint::Token), 0);
}

/// Only root may give a file to somebody else, and only root can try this.
#[test]
fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
    use std::os::unix::{fs::chown, process::CommandExt};
    const NOBODY: u32 = 65534;
    let place = Place::new();
    let (folder, cache) = (place.folder.path(), place.file("kept", ""));
    let secret = place.file("secret", CLIENT_SECRET);
    if chown(&secret, Some(NOBODY), Some(NOBODY)).is_err() {
        return;
    }
    chown(&cache, None, Some(NOBODY)).unwrap();
    fs::set_permissions(&cache, Permissions::from_mode(0o660)).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
    let mut command = place.command(&["--client-secret-file", &secret, "--cache", &cache]);
    let Ok(output) = command.uid(NOBODY).gid(NOBODY).output() else {
        eprintln!("the tool is where nobody else may run it: nothing is checked");
        return;
    };
    let done = said(output);
    assert!(
        done.code == 3 && done.err.contains("kept cannot be written"),
        "{done:?}"
    );
    let names = fs::read_dir(folder).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name());
    assert!(!names.any(|name| name.to_string_lossy().ends_with(".new")));
    assert_eq!(place.tenant.count(Endpoint::Token), 0);
}

#[test]
fn a_secret_comes_from_the_standard_input_and_from_no_public_file() {
    let place = Place::new();
    let mut child = place.command(&["--client-secret-file", "-", "--no-cache"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{CLIENT_SECRET}").unwrap();
    let done = said(child.wait_with_output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(place.cached().is_empty());
    let secret = place.file("secret", CLIENT_SECRET);
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    let done = place.tool(&["--client-secret-file", &secret]);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("chmod"), "{done:?}");
    assert!(!done.err.contains(CLIENT_SECRET));
}

#[test]
fn an_application_proves_who_it_is_with_its_private_key() {
    let place = Place::new();
    let key = SigningKey::generate("key-1");
    place.tenant.configure(|settings| {
        settings.client_auth = ClientAuth::PrivateKeyJwt;
        settings.client_jwk = Some(key.jwk());
    });
    let pem = place.file("key.pem", &key.private_pem());
    for algorithm in ["RS256", "RS384", "PS256"] {
        let arguments = [
            "--private-key-file",
            &pem,
            "--key-id",
            "key-1",
            "--algorithm",
            algorithm,
            "--fresh",
        ];
        // The published key names the algorithm that its tokens have.
        let mut jwk = key.jwk();
        jwk["alg"] = algorithm.into();
        place
            .tenant
            .configure(|settings| settings.client_jwk = Some(jwk));
        let done = place.tool(&arguments);
        assert_eq!(done.code, 0, "{algorithm}: {done:?}");
        assert_eq!(subject(&done.out), format!("{CLIENT_ID}@clients"));
    }
    let other = place.file("other.pem", &SigningKey::generate("key-1").private_pem());
    let done = place.tool(&["--private-key-file", &other, "--fresh"]);
    assert_eq!(done.code, 3);
    assert!(
        done.err.contains("'Unauthorized'") && done.err.contains("fix: check the client ID"),
        "{done:?}"
    );
    let none = place.file("none.pem", "no key");
    let done = place.tool(&["--private-key-file", &none]);
    assert!(done.err.contains("give a key in PEM"), "{done:?}");
}

/// Where the plugin's configuration says how the application sends its secret, the tool sends it so.
#[test]
fn the_secret_is_sent_as_the_configuration_says() {
    let place = Place::new();
    let secret = place.file("secret", CLIENT_SECRET);
    for (method, auth, other) in [
        ("client_secret_basic", ClientAuth::Basic, ClientAuth::Post),
        ("client_secret_post", ClientAuth::Post, ClientAuth::Basic),
    ] {
        let text = format!(
            "plugin /usr/lib/libmosquitto_auth0.so\nplugin_opt_domain {}\nplugin_opt_ca_file {}\n\
             plugin_opt_audience {AUDIENCE}\nplugin_opt_client_id {CLIENT_ID}\n\
             plugin_opt_token_endpoint_auth_method {method}\n",
            place.tenant.domain(),
            place.tenant.ca_file().display()
        );
        let conf = place.file("mosquitto.conf", &text);
        let mut tool = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"));
        tool.args(["token", "--no-cache", "--conf", &conf])
            .args(["--client-secret-file", &secret]);
        place
            .tenant
            .configure(|settings| settings.client_auth = auth);
        let done = said(tool.output().unwrap());
        assert_eq!(done.code, 0, "{method}: {done:?}");
        place
            .tenant
            .configure(|settings| settings.client_auth = other);
        assert_eq!(said(tool.output().unwrap()).code, 3, "{method}");
    }
}

#[test]
fn a_refresh_token_is_replaced_by_the_next_one() {
    let place = Place::new();
    let first = place.tenant.refresh_token(DEVICE);
    let file = place.file("refresh", &first);
    let secret = place.file("secret", CLIENT_SECRET);
    let arguments = [
        "--refresh-token-file",
        &file,
        "--client-secret-file",
        &secret,
        "--fresh",
    ];
    let mut seen = vec![first];
    for _ in 0..3 {
        let done = place.tool(&arguments);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(
            subject(&done.out),
            place.tenant.device(DEVICE).unwrap().user_id
        );
        let next = fs::read_to_string(&file).unwrap().trim().to_owned();
        assert!(!seen.contains(&next));
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        seen.push(next);
    }
    assert!(
        !fs::read_to_string(&place.cached()[0])
            .unwrap()
            .contains(seen.last().unwrap())
    );

    // Two at once do not use the same one twice, which the tenant would take for theft.
    let children: Vec<Child> = (0..4)
        .map(|_| place.command(&arguments).spawn().unwrap())
        .collect();
    for child in children {
        let done = said(child.wait_with_output().unwrap());
        assert_eq!(done.code, 0, "{done:?}");
    }
    // Somebody else uses one.
    fs::write(&file, &seen[0]).unwrap();
    let done = place.tool(&arguments);
    assert!(
        done.code == 3 && done.err.contains("fix: get a new refresh token"),
        "{done:?}"
    );

    // What cannot be kept is not asked for.
    let asked = place.tenant.count(Endpoint::Token);
    let gone = place.path("no/such/folder/refresh");
    let done = place.tool(&[
        "--refresh-token-file",
        &gone,
        "--client-secret-file",
        &secret,
    ]);
    assert!(
        done.code == 3 && done.err.contains("cannot be written"),
        "{done:?}"
    );
    assert_eq!(place.tenant.count(Endpoint::Token), asked);
}

/// Reads the code that a device flow shows.
fn user_code(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().expect("a line").unwrap();
    assert!(line.contains("/activate and enter the code "), "{line}");
    let complete = lines.next().unwrap().unwrap();
    let code = line.rsplit(' ').next().unwrap().to_owned();
    assert!(
        complete.ends_with(&format!("/activate?user_code={code}")),
        "{complete}"
    );
    // So that the pipe does not close.
    std::thread::spawn(move || lines.for_each(drop));
    code
}

/// A native application: it has no secret.
fn public(place: &Place) {
    place
        .tenant
        .configure(|settings| settings.client_auth = ClientAuth::None);
}

#[test]
fn a_person_signs_in_once_with_a_browser() {
    let place = Place::new();
    public(&place);
    let mut child = place.command(&[]).spawn().unwrap();
    let code = user_code(&mut child);
    assert!(
        place.tenant.wait_for(Endpoint::Token, 1, PATIENCE),
        "it polls"
    );
    place.tenant.once(Endpoint::Token, Behaviour::Html(502));
    place.tenant.once(
        Endpoint::Token,
        Behaviour::refusal(429, "slow_down", "You are polling too fast."),
    );
    place.tenant.approve(&code, DEVICE);
    let done = child.wait_with_output().unwrap();
    let first = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success());
    assert_eq!(
        subject(&first),
        place.tenant.device(DEVICE).unwrap().user_id
    );

    // The token is kept, and so is a refresh token: nobody has to sign in again.
    assert_eq!(place.tool(&[]).out, first);
    for _ in 0..2 {
        let again = place.tool(&["--fresh"]);
        assert_eq!((again.code, again.err.as_str()), (0, ""), "{again:?}");
    }
    assert_eq!(place.tenant.count(Endpoint::DeviceCode), 1);
    // A tenant that is down says nothing about the refresh token.
    place.tenant.once(Endpoint::Token, Behaviour::Html(503));
    let down = place.tool(&["--fresh"]);
    assert!(down.code == 3 && down.err.contains("503"), "{down:?}");
    assert_eq!(place.tenant.count(Endpoint::DeviceCode), 1);
    // The user is blocked: the refresh token is of no use, and somebody has to sign in.
    place.tenant.remove_device(DEVICE);
    let mut child = place.command(&["--fresh"]).spawn().unwrap();
    place.tenant.cancel(&user_code(&mut child));
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn nobody_signs_in() {
    let place = Place::new();
    public(&place);
    place
        .tenant
        .configure(|settings| settings.device_code_lifetime = 2);
    let done = place.tool(&["--no-cache"]);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("nobody has signed in"), "{done:?}");
}

#[test]
fn a_refusal_names_the_page_that_fixes_it() {
    let place = Place::new();
    let (secret, wrong) = (
        place.file("secret", CLIENT_SECRET),
        place.file("wrong", "another secret"),
    );
    let other = ["--audience", "https://other.example/"];
    for (arguments, what, fix) in [
        (
            vec!["--client-secret-file", &wrong],
            "'Unauthorized'",
            "Credentials",
        ),
        (
            [&["--client-secret-file", &secret][..], &other].concat(),
            "Service not found",
            "Applications > APIs",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"));
        let mut arguments = arguments;
        if !arguments.contains(&"--audience") {
            arguments.extend(["--audience", AUDIENCE]);
        }
        command.args([
            "token",
            "--domain",
            place.tenant.domain(),
            "--client-id",
            CLIENT_ID,
            "--no-cache",
        ]);
        let done = said(
            command
                .arg("--ca-file")
                .arg(place.tenant.ca_file())
                .args(arguments)
                .output()
                .unwrap(),
        );
        assert_eq!(done.code, 3);
        assert!(
            done.err.contains(what) && done.err.contains(fix),
            "{done:?}"
        );
    }
    place.tenant.configure(|settings| settings.grants.clear());
    let done = place.tool(&["--client-secret-file", &secret]);
    assert!(
        done.err.contains("Advanced Settings > Grant Types"),
        "{done:?}"
    );
    place.tenant.stop_listening();
    let done = place.tool(&["--client-secret-file", &secret]);
    assert!(done.err.contains("could not be reached"), "{done:?}");
    assert_eq!(place.tool(&["--grant", "client-credentials"]).code, 3);
    assert_eq!(place.tool(&["--no-cache", "--cache", "x"]).code, 2);
}

/// The tenant of the plugin's own configuration, and the token of an operator.
#[test]
fn a_broker_lets_the_token_in() {
    let place = Place::new();
    let options = [
        ("domain", place.tenant.domain()),
        ("ca_file", place.tenant.ca_file().to_str().unwrap()),
        ("audience", AUDIENCE),
        ("rights", "permissions"),
    ];
    let builder = Mosquitto::builder(Version::V2_1_2).plugin(testbed::plugin::file(), &options);
    let broker = builder.start().unwrap();
    let conf = broker.folder().join("mosquitto.conf");
    let secret = place.file("secret", CLIENT_SECRET);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"));
    command
        .args(["token", "--conf"])
        .arg(conf)
        .args(["--client-id", CLIENT_ID, "--no-cache"]);
    let done = said(
        command
            .args(["--client-secret-file", &secret])
            .output()
            .unwrap(),
    );
    assert_eq!(done.code, 0, "{done:?}");
    let connect = ConnectPacket::new(Protocol::V5, "ops").login("JWT", done.out.trim_end());
    RawClient::connect(broker.port(), &connect)
        .unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Ends the process when the test ends.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    /// Keeps this file fresh with tokens of the device.
    fn watch(&self, file: &Path, more: &[&str]) -> Watch {
        let mut command = self.watch_command(file, more);
        Watch(command.stderr(Stdio::inherit()).spawn().unwrap())
    }

    fn watch_command(&self, file: &Path, more: &[&str]) -> Command {
        let refresh = self.file("refresh", &self.tenant.refresh_token(DEVICE));
        let secret = self.file("secret", CLIENT_SECRET);
        let mut command = self.command(&[
            "--refresh-token-file",
            &refresh,
            "--client-secret-file",
            &secret,
        ]);
        command.arg("--watch").arg(file).args(more);
        command
    }
}

/// Also when the tenant is down for a while.
#[test]
fn a_watched_file_has_a_good_token_all_the_time() {
    let place = Place::new();
    place
        .tenant
        // A busy machine may take seconds for an answer. A token that ends by then would end the tool.
        .configure(|settings| settings.access_token_lifetime = 8);
    let file = place.folder.path().join("password");
    let ran = place.path("ran");
    let _watch = place.watch(&file, &["--on-change", &format!("echo >>{ran}")]);
    wait_until("a first token", || file.exists());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let first = fs::read_to_string(&file).unwrap();
    assert!(first.ends_with('\n') && peek(first.trim_end()).is_some());
    wait_until("a second token", || {
        fs::read_to_string(&file).unwrap() != first
    });
    wait_until("the command", || {
        fs::read_to_string(&ran).is_ok_and(|text| text.len() >= 2)
    });
    place.tenant.once(Endpoint::Token, Behaviour::Html(503));
    let asked = place.tenant.count(Endpoint::Token);
    assert!(
        place.tenant.wait_for(Endpoint::Token, asked + 2, PATIENCE),
        "it tries again"
    );
}

#[test]
fn a_watched_file_that_is_no_token_and_no_bridge_stays() {
    let place = Place::new();
    let text = "listener 1883\nallow_anonymous false\n";
    let file = place.file("mosquitto.conf", text);
    let done = place.watch_command(Path::new(&file), &[]).output();
    let done = said(done.unwrap());
    assert_eq!(done.code, 3);
    assert!(done.err.contains("has no connection line"), "{done:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(place.tenant.count(Endpoint::Token), 0);
}

#[test]
fn what_is_edited_while_the_tenant_is_asked_stays() {
    let place = Place::new();
    let file = place.file("bridge.conf", "connection up\nremote_password x\n");
    let gate = ResponseGate::new();
    place
        .tenant
        .once(Endpoint::Token, Behaviour::Gate(gate.clone()));
    let _watch = place.watch(Path::new(&file), &[]);
    assert!(gate.wait_for(1, PATIENCE));
    fs::write(&file, "connection up\nremote_password x\ntopic edited/#\n").unwrap();
    gate.open();
    let text = || fs::read_to_string(&file).unwrap();
    wait_until("a token", || !text().contains("remote_password x\n"));
    assert!(text().ends_with("\ntopic edited/#\n"), "{}", text());
}

/// As when the journal's disk is full.
#[test]
fn a_file_is_watched_without_an_error_output() {
    let place = Place::new();
    let (file, ran) = (place.path("password"), place.path("ran"));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let on_change = format!("echo >{ran}");
    let mut command = place.watch_command(Path::new(&file), &["--on-change", &on_change]);
    let _watch = Watch(command.stderr(full).spawn().unwrap());
    // The command is run after the new token was announced.
    wait_until("the command", || fs::exists(&ran).unwrap());
}

/// Writes a mosquitto.conf that bridges everything to this port, in a folder of its own.
fn bridge(place: &Place, port: u16, more: &str) -> PathBuf {
    let folder = place.folder.path().join("conf.d");
    fs::create_dir(&folder).unwrap();
    let text = format!(
        "connection up\naddress 127.0.0.1:{port}\nremote_clientid bridge\nremote_username JWT\nremote_password x\n\
         restart_timeout 1\nnotifications false\ntopic # out 1\n{more}"
    );
    let file = folder.join("bridge.conf");
    fs::write(&file, text).unwrap();
    // Root runs the broker here, so it may be for root alone.
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file
}

fn upstream(place: &Place) -> Mosquitto {
    place
        .tenant
        .change_device(DEVICE, |device| device.topics = Some(json!(["#"])));
    let options = [
        ("domain", place.tenant.domain()),
        ("ca_file", place.tenant.ca_file().to_str().unwrap()),
        ("audience", AUDIENCE),
    ];
    let builder = Mosquitto::builder(Version::V2_1_2).plugin(testbed::plugin::file(), &options);
    builder.start().unwrap()
}

fn downstream(version: Version, place: &Place) -> Mosquitto {
    let folder = place.folder.path().join("conf.d");
    let builder = Mosquitto::builder(version).allow_anonymous(true);
    let builder = builder.config(format!("include_dir {}", folder.display()));
    builder.start().unwrap_or_else(|e| panic!("{version}: {e}"))
}

/// 2.1 reads bridges again on SIGHUP.
#[test]
fn a_bridge_of_2_1_takes_the_new_password_on_sighup() {
    let place = Place::new();
    let upstream = upstream(&place);
    let file = bridge(&place, upstream.port(), "bridge_reload_type immediate\n");
    let downstream = downstream(Version::V2_1_2, &place);
    upstream.expect_log("refused CONNECT [");
    let mark = upstream.log_mark();
    let reload = format!("kill -HUP {}", downstream.pid());
    let _watch = place.watch(&file, &["--connection", "up", "--on-change", &reload]);
    let connected = upstream.wait_for_log_after(mark, "as bridge", PATIENCE);
    assert!(
        connected.is_some(),
        "{}\n{}",
        upstream.log(),
        downstream.log()
    );
}

/// 2.0 reads bridges when it starts.
#[test]
fn a_bridge_of_2_0_takes_the_new_password_at_a_restart() {
    for version in [Version::V2_0_11, Version::V2_0_21] {
        let place = Place::new();
        let upstream = upstream(&place);
        let file = bridge(&place, upstream.port(), "");
        let downstream = downstream(version, &place);
        upstream.expect_log("refused CONNECT [");
        let _watch = place.watch(&file, &[]);
        wait_until("a token", || {
            !fs::read_to_string(&file)
                .unwrap()
                .contains("remote_password x\n")
        });
        let mark = upstream.log_mark();
        let downstream = downstream.restart().unwrap();
        let connected = upstream.wait_for_log_after(mark, "as bridge", PATIENCE);
        assert!(
            connected.is_some(),
            "{}\n{}",
            upstream.log(),
            downstream.log()
        );
    }
}
