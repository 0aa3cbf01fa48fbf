//! Plays the article's story with mosquitto_pub and mosquitto_sub: a thermostat signs in, publishes its
//! temperature, reads its configuration, and is refused other topics. After each refusal the demo shows the
//! line of the broker's log that gives the reason.
//!
//!     demo [--stay] [--broker 2.0.11|2.0.21|2.1.2] [--plugin FILE]
//!
//! The demo exits with status 0 if everything happens as described. With `--stay` nothing is played: tenant
//! and broker run until you press Enter, and the demo prints commands to try.

use std::io::{BufRead, stdin};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testbed::broker::{Mosquitto, Version};
use testbed::clients::MosquittoClient;
use testbed::stage::{CONTROL_ROOM, CONTROL_ROOM_PASSWORD, Stage};
use testbed::tenant::{DEVICE, PASSWORD};

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("\nNot everything went as told: see the lines marked with !!");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "\
usage: demo [--stay] [--broker VERSION] [--plugin FILE]
  --stay     go on after the story, with commands to paste, until Ctrl-C
  --broker   2.0.11, 2.0.21 or 2.1.2
  --plugin   another build of the plugin";

fn run() -> Result<bool, String> {
    let mut version = Version::V2_0_21;
    let mut stay = false;
    // Cargo puts both into target/PROFILE/.
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut plugin = program.with_file_name("libmosquitto_auth0.so");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--stay" => stay = true,
            "--plugin" => plugin = PathBuf::from(value()?),
            "--broker" => version = Version::named(&value()?)?,
            "--help" => {
                println!("{USAGE}");
                return Ok(true);
            }
            _ => return Err(format!("unknown argument {argument}\n{USAGE}")),
        }
    }
    // The broker runs in a folder of its own, so the path has to be absolute.
    let plugin = plugin
        .canonicalize()
        .map_err(|error| format!("{}: {error}; run `cargo build --lib`", plugin.display()))?;

    println!(
        "Starting a local tenant and Mosquitto {} with the plugin ...",
        version.name()
    );
    let stage = Stage::set(version, &plugin)?;
    println!("\nThe tenant is https://{}/.", stage.tenant.domain());
    if stay {
        // Without it, the files that these lines name are gone before anybody could use the lines.
        println!("In mosquitto.conf:\n");
        for line in stage.plugin_lines.lines() {
            println!("    {line}");
        }
        by_hand(&stage);
        return Ok(true);
    }
    let mut story = Story { stage, good: true };
    story.play();
    let good = story.good;
    println!("\nStopping broker and tenant.");
    drop(story);
    println!("To play by hand, with both of them kept running:  target/debug/demo --stay");
    Ok(good)
}

struct Story {
    stage: Stage,
    good: bool,
}

impl Story {
    /// Plays all scenes. They are in one function, however long, so that the story can be read from top to bottom.
    fn play(&mut self) {
        let token = self.stage.tenant.token(DEVICE);
        let expired = self.stage.tenant.mint(DEVICE).lifetime(-3600).sign();
        let control = self
            .stage
            .client(CONTROL_ROOM, CONTROL_ROOM_PASSWORD)
            .qos(1);
        let mut seen = control
            .clone()
            .id("control-room")
            .subscribe(&["temperature"])
            .subscribed();

        self.scene("thermostat-1a signs in with its password and publishes its temperature");
        let by_password = self.stage.client(DEVICE, PASSWORD).id("thermostat").qos(1);
        self.say("mosquitto_pub -u thermostat-1a -P ... -t temperature -m 20.5");
        by_password.publish("temperature", "20.5");
        let heard = seen.wait_message(PATIENCE).map(|message| message.text());
        self.expect(
            heard.as_deref() == Some("20.5"),
            "the control room reads 20.5",
        );

        self.scene("the same with a token: user name JWT, the token as the password");
        let by_token = self.stage.client("JWT", &token).id("thermostat").qos(1);
        self.say("mosquitto_pub -u JWT -P eyJ... -t temperature -m 20.7");
        by_token.publish("temperature", "20.7");
        let heard = seen.wait_message(PATIENCE).map(|message| message.text());
        self.expect(
            heard.as_deref() == Some("20.7"),
            "the control room reads 20.7",
        );

        self.scene("it reads its configuration");
        self.say("mosquitto_sub -u JWT -P eyJ... -t config");
        let mut config = by_token
            .clone()
            .id("thermostat-sub")
            .subscribe(&["config"])
            .subscribed();
        control.publish("config", "target 21");
        let heard = config.wait_message(PATIENCE).map(|message| message.text());
        self.expect(heard.as_deref() == Some("target 21"), "it reads: target 21");

        self.scene("it publishes where it may not");
        self.say("mosquitto_pub -u JWT -P eyJ... -t door/open -m now");
        self.refused_with("not-granted", || {
            by_token.publish("door/open", "now");
        });

        self.scene("it subscribes to everything");
        self.say("mosquitto_sub -u JWT -P eyJ... -t '#'");
        self.refused_with("not-granted", || {
            let mut everything = by_token.clone().id("curious").subscribe(&["#"]);
            let _ = everything.wait_subscribed();
        });

        self.refused_login(
            "somebody tries another password",
            "thermostat-1a -P guess",
            "login-refused",
            |stage| stage.client(DEVICE, "guess"),
        );
        self.refused_login(
            "a token of an hour ago",
            "JWT -P eyJ...",
            "token-expired",
            |stage| stage.client("JWT", &expired),
        );
        self.refused_login(
            "no password at all",
            "thermostat-1a",
            "no-password",
            |stage| {
                MosquittoClient::of(&stage.broker)
                    .host("localhost")
                    .ca_file(&stage.broker_ca)
                    .username(DEVICE)
            },
        );
    }

    fn refused_login(
        &mut self,
        what: &str,
        how: &str,
        code: &str,
        client: impl Fn(&Stage) -> MosquittoClient,
    ) {
        self.scene(what);
        self.say(&format!("mosquitto_pub -u {how} -t temperature -m 99"));
        let client = client(&self.stage).id("stranger");
        self.refused_with(code, || {
            client.publish("temperature", "99");
        });
    }

    /// Performs an action and shows the log line with which the broker explains the refusal.
    fn refused_with(&mut self, code: &str, action: impl FnOnce()) {
        let mark = self.stage.broker.log_mark();
        action();
        match self
            .stage
            .broker
            .wait_for_log_after(mark, &format!("[{code}]"), PATIENCE)
        {
            Some(line) => println!("   refused. The broker's log says:\n     {line}"),
            None => self.expect(false, &format!("the broker's log says [{code}]")),
        }
    }

    fn scene(&self, what: &str) {
        println!("\n-- {what}");
    }

    fn say(&self, command: &str) {
        println!("   $ {command}");
    }

    fn expect(&mut self, good: bool, what: &str) {
        println!("   {}{what}", if good { "" } else { "!! expected: " });
        self.good &= good;
    }
}

fn by_hand(stage: &Stage) {
    let port = stage.broker.port();
    let ca = stage.broker_ca.display();
    let folder = stage.broker.version().program("mosquitto_pub");
    let folder = folder
        .ok()
        .and_then(|program| program.parent().map(PathBuf::from))
        .unwrap_or_default();
    println!(
        "\nThe devices are {DEVICE} (topics temperature, config) and {CONTROL_ROOM} (everything)."
    );
    println!("In another terminal:\n");
    println!("  PATH={}:$PATH", folder.display());
    println!("  BROKER='-h localhost -p {port} --cafile {ca}'");
    println!("  TOKEN='{}'", stage.tenant.token(DEVICE));
    println!(
        "  mosquitto_sub $BROKER -u {CONTROL_ROOM} -P '{}' -t '#' -v &",
        CONTROL_ROOM_PASSWORD.replace('\'', r"'\''")
    );
    println!("  mosquitto_pub $BROKER -u {DEVICE} -P '{PASSWORD}' -t temperature -m 20.5");
    println!("  mosquitto_pub $BROKER -u JWT -P \"$TOKEN\" -t temperature -m 20.7");
    println!("  mosquitto_pub $BROKER -u JWT -P \"$TOKEN\" -t door/open -m now");
    println!("\nThe samples of device code (examples/) want:\n");
    println!(
        "  export MQTT_HOST=127.0.0.1 MQTT_PORT={port} MQTT_CA={ca} MQTT_USERNAME=JWT MQTT_PASSWORD=\"$TOKEN\""
    );
    println!("\nThe broker's log follows. Press Enter to stop.\n");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| follow(&stage.broker, &done));
        let _ = stdin().lock().lines().next();
        done.store(true, Ordering::Relaxed);
    });
}

fn follow(broker: &Mosquitto, done: &AtomicBool) {
    let mut shown = 0;
    while !done.load(Ordering::Relaxed) {
        // Every line contains a space, so this waits for any line. After a timeout the loop only checks
        // `done`.
        let _ = broker.wait_for_log_after(shown, " ", Duration::from_millis(200));
        let log = broker.log();
        for line in log.lines().skip(shown) {
            println!("  {line}");
        }
        shown = log.lines().count();
    }
}
