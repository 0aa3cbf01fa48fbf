//! Runs the samples of device code in `examples/` with the demo's broker: with a password and with a token,
//! accepted and refused.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use testbed::{
    broker::{PATIENCE, Version},
    stage::{CONTROL_ROOM, CONTROL_ROOM_PASSWORD, Stage},
    tenant::{DEVICE, PASSWORD},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Returns a folder with the samples and their packages, so that the checkout stays unchanged.
fn install(language: &str, packages: impl FnOnce(&Path)) -> PathBuf {
    let folder = root().join("target/samples").join(language);
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(root().join("examples").join(language)).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
    packages(&folder);
    folder
}

static NODE: LazyLock<PathBuf> = LazyLock::new(|| {
    install("nodejs", |folder| {
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--silent"])
            .current_dir(folder));
    })
});

static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    install("python", |folder| {
        run(Command::new("python3")
            .args(["-m", "venv", ".venv"])
            .current_dir(folder));
        run(
            // Not pip itself: its script contains the path of its folder, which may have been moved.
            Command::new(".venv/bin/python")
                .args(["-m", "pip", "install", "--quiet", "-r", "requirements.txt"])
                .current_dir(folder),
        );
    })
});

#[derive(Clone, Copy)]
enum Language {
    Node,
    Python,
}

impl Language {
    fn sample(self, name: &str) -> Command {
        match self {
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(format!("{name}.js")).current_dir(&*NODE);
                command
            }
            Self::Python => {
                let mut command = Command::new(PYTHON.join(".venv/bin/python"));
                command.arg(format!("{name}.py")).current_dir(&*PYTHON);
                command
            }
        }
    }
}

fn as_device<'c>(
    command: &'c mut Command,
    stage: &Stage,
    username: &str,
    password: &str,
) -> &'c mut Command {
    command
        // By its address: for `localhost` Node.js 18 takes ::1 alone where the machine has that.
        .env("MQTT_HOST", "127.0.0.1")
        .env("MQTT_PORT", stage.broker.port().to_string())
        .env("MQTT_CA", &stage.broker_ca)
        .env("MQTT_USERNAME", username)
        .env("MQTT_PASSWORD", password)
}

fn stage(version: Version) -> Stage {
    Stage::set(version, testbed::plugin::file()).unwrap()
}

/// Plays the article's story with the samples.
fn play(language: Language, version: Version) {
    let stage = stage(version);
    let token = stage.tenant.token(DEVICE);
    let control = stage.client(CONTROL_ROOM, CONTROL_ROOM_PASSWORD).qos(1);
    for (username, password) in [(DEVICE, PASSWORD), ("JWT", token.as_str())] {
        let mut seen = control.subscribe(&["temperature"]).subscribed();
        let published = run(as_device(
            &mut language.sample("publisher"),
            &stage,
            username,
            password,
        ));
        assert!(
            String::from_utf8_lossy(&published.stdout).starts_with("published temperature "),
            "{published:?}"
        );
        seen.expect_message();

        let mut subscriber = language.sample("subscriber");
        let subscriber = as_device(&mut subscriber, &stage, username, password)
            .env("MQTT_COUNT", "1")
            .env("MQTT_CLIENT_ID", "reader");
        let mark = stage.broker.log_mark();
        let reading = subscriber
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(
            stage
                .broker
                .wait_for_log_after(mark, "SUBACK to reader", PATIENCE)
                .is_some(),
            "{}",
            stage.broker.log()
        );
        control.publish("config", "target 21").expect_success();
        let read = reading.wait_with_output().unwrap();
        assert!(read.status.success(), "{read:?}");
        assert_eq!(String::from_utf8_lossy(&read.stdout), "config target 21\n");
    }
}

/// After a refusal a sample exits with a status of its own and prints the reason.
fn refuse(language: Language, version: Version) {
    let stage = stage(version);
    let token = stage.tenant.token(DEVICE);
    for (sample, password, topic, status) in [
        ("publisher", "wrong", "temperature", 2),
        ("publisher", token.as_str(), "secret", 3),
        ("subscriber", token.as_str(), "secret", 3),
    ] {
        let username = if password == "wrong" { DEVICE } else { "JWT" };
        let mut command = language.sample(sample);
        let output = as_device(&mut command, &stage, username, password)
            .env("MQTT_TOPIC", topic)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{sample} {topic}: {output:?}"
        );
        assert!(!output.stderr.is_empty());
    }
}

/// A token whose `iat` is in the future for the broker's clock is kept, and accepted later.
fn wait_for_an_early_token(language: Language, version: Version) {
    // First, because it may install packages.
    let mut command = language.sample("publisher");
    let stage = stage(version);
    // The broker allows for half a minute.
    let issued = testbed::signing::now() + 40;
    let token = stage.tenant.mint(DEVICE).claim("iat", issued).sign();
    let output = run(as_device(&mut command, &stage, "JWT", &token));
    assert!(stage.broker.log().contains("[token-not-yet]"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("trying again"), "{output:?}");
}

#[test]
fn node_waits_for_an_early_token() {
    wait_for_an_early_token(Language::Node, Version::V2_0_21);
    wait_for_an_early_token(Language::Node, Version::V2_1_2);
}

#[test]
fn python_waits_for_an_early_token() {
    wait_for_an_early_token(Language::Python, Version::V2_0_11);
    wait_for_an_early_token(Language::Python, Version::V2_1_2);
}

#[test]
fn node_plays_the_story() {
    play(Language::Node, Version::V2_0_21);
}

#[test]
fn node_prints_the_refusal() {
    refuse(Language::Node, Version::V2_1_2);
}

#[test]
fn python_plays_the_story() {
    play(Language::Python, Version::V2_0_11);
}

#[test]
fn python_prints_the_refusal() {
    refuse(Language::Python, Version::V2_1_2);
}

/// A device stays connected while its tokens change, and stops when one of another account is in the file.
fn renew(language: Language, version: Version) {
    let mut command = language.sample("renewing");
    let stage = stage(version);
    let folder = testbed::scratch::Scratch::new("renewing").unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, stage.tenant.token(DEVICE)).unwrap();
    let mut device = as_device(&mut command, &stage, "", "")
        .env("MQTT_TOKEN_FILE", &file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(device.stdout.take().unwrap()).lines();
    let mut says = |expected| assert_eq!(said.next().unwrap().unwrap(), expected);
    says("connected");
    for _ in 0..2 {
        let later = stage
            .tenant
            .mint(DEVICE)
            .lifetime(7200)
            .claim("jti", "other");
        std::fs::write(&file, later.sign()).unwrap();
        says("renewed");
        std::fs::write(&file, stage.tenant.token(DEVICE)).unwrap();
        says("renewed");
    }
    if version == Version::V2_0_11 && matches!(language, Language::Node) {
        // It does not say why it closes a connection, and the sample would come back.
        device.kill().unwrap();
        device.wait().unwrap();
        return;
    }
    std::fs::write(&file, stage.tenant.token(CONTROL_ROOM)).unwrap();
    let ended = device.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(stage.broker.log().contains("[renewal-account]"));
}

#[test]
fn node_renews_its_token() {
    for version in Version::ALL {
        renew(Language::Node, version);
    }
}

/// It signs in by an authentication method, and publishes its new tokens: paho knows no AUTH packet.
#[test]
fn python_renews_its_token() {
    for version in Version::ALL {
        renew(Language::Python, version);
    }
}

/// Runs the demo: the whole story, and its exit code.
#[test]
fn the_demo_succeeds() {
    for version in Version::ALL {
        let plugin = testbed::plugin::file();
        let mut command = Command::new(env!("CARGO"));
        command
            .args([
                "run",
                "--quiet",
                "-p",
                "testbed",
                "--bin",
                "demo",
                "--",
                "--broker",
                version.name(),
                "--plugin",
            ])
            .arg(plugin);
        let output = run(command.current_dir(root()));
        let text = String::from_utf8_lossy(&output.stdout);
        for code in [
            "not-granted",
            "login-refused",
            "token-expired",
            "no-password",
        ] {
            assert!(text.contains(&format!("[{code}]")), "{text}");
        }
        assert!(!text.contains("!!"), "{text}");
    }
}
