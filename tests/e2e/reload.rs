//! SIGHUP: the configuration is read again while devices are connected, sign in, and exchange messages.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    heap::Heap,
    pki::Authority,
    tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Endpoint, PASSWORD, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// What the tests change: a folder with `auth0.toml` and the secret.
struct Files(tempfile::TempDir);

impl Files {
    /// Both modes, with all options in a file.
    fn new(tenant: &Tenant) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("secret", CLIENT_SECRET);
        files.options(tenant, "");
        files
    }

    fn options(&self, tenant: &Tenant, more: &str) {
        let (domain, ca) = (tenant.domain(), tenant.ca_file().display());
        let secret = self.path("secret").display().to_string();
        let text = format!(
            "domain = \"{domain}\"\nca_file = \"{ca}\"\naudience = \"{AUDIENCE}\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret_file = \"{secret}\"\nconnection = \"{CONNECTION}\"\nlogin_wait = 20\nstall_budget = 100\n\
             login_rate = 1000\n{more}"
        );
        self.write("auth0.toml", &text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file as an operator should: no reader sees half of it.
    fn write(&self, name: &str, text: &str) {
        let new = secret_file(self.0.path(), "new", text.as_bytes());
        fs::rename(new, self.path(name)).unwrap();
    }

    fn line(&self) -> PluginOptions {
        PluginOptions(vec![]).with("config_file", self.path("auth0.toml").to_str().unwrap())
    }
}

fn login(client_id: &str) -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, client_id).login(DEVICE, PASSWORD)
}

/// Sends SIGHUP, and waits until the configuration is read.
#[track_caller]
fn reload(broker: &Mosquitto) -> String {
    let mark = broker.log_mark();
    broker.reload();
    let line = broker.wait_for_log_after(mark, "configuration generation", PATIENCE);
    line.unwrap_or_else(|| panic!("{}", broker.log()))
}

on_each_broker! {
    /// The client secret is rotated while devices are connected: they stay, and nobody is asked about. A secret file
    /// that is gone keeps the old secret, and the next SIGHUP takes the new one.
    fn a_client_secret_is_rotated(version) {
        let tenant = tenant();
        let files = Files::new(&tenant);
        let broker = broker(version, &files.line());
        let mut by_token = raw(&broker, &tenant, DEVICE, "by-token", Protocol::V5);
        let mut by_password = RawClient::connect(broker.port(), &login("by-password")).unwrap();
        assert_eq!(tenant.count(Endpoint::Token), 1);
        assert!(reload(&broker).contains("generation 1 is in force: nothing has changed"));
        assert_eq!(answer(&broker, &login("again")), None, "from memory");
        assert_eq!(tenant.count(Endpoint::Token), 1);

        let another = "another".repeat(8);
        tenant.configure(|tenant| tenant.client_secret = another.clone());
        fs::remove_file(files.path("secret")).unwrap();
        let line = reload(&broker);
        assert!(line.contains("option client_secret_file") && line.contains("generation 1 stays"), "{line}");
        assert_eq!(answer(&broker, &login("again")), None, "it is remembered under the old generation");
        files.write("secret", &another);
        let line = reload(&broker);
        assert!(line.ends_with("generation 2 is in force: changed are client_secret_file"), "{line}");
        assert_eq!(tenant.count(Endpoint::Token), 1);
        assert_eq!(answer(&broker, &login("again")), None);
        assert_eq!(tenant.count(Endpoint::Token), 2, "not from memory");
        for client in [&mut by_token, &mut by_password] {
            assert!(client.publish("temperature", "1", 1).unwrap() < 0x80);
        }
        assert!(!broker.log().contains("another"));
    }

    /// With a mistake in one place nothing of the rest applies, and a change that takes a restart says so.
    fn a_mistake_keeps_the_generation_whole(version) {
        let tenant = tenant();
        let files = Files::new(&tenant);
        let broker = broker(version, &files.line());
        let connect = token_connect(Protocol::V5, "c", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &connect), None);
        for (more, why) in [
            ("leeway = \"x\"\n", "option leeway, value 'x', line 11 of '"),
            ("on_other = \"defer\"\n", "the configuration has changed in on_other, which takes a restart; fix: "),
        ] {
            files.options(&tenant, &format!("algorithms = \"PS256\"\n{more}"));
            let line = reload(&broker);
            assert!(line.contains(why) && line.ends_with("; configuration generation 1 stays in force"), "{line}");
            assert_eq!(answer(&broker, &connect), None, "{more}");
        }
        files.options(&tenant, "algorithms = \"PS256\"\n");
        let line = reload(&broker);
        assert!(line.ends_with("generation 2 is in force: changed are algorithms"), "{line}");
        assert!(answer(&broker, &connect).is_some());
        expect_refusal(&broker, "'c'", "token-algorithm");
    }

    /// An authority that did not sign the tenant's certificate is a mistake, and the next file is not.
    fn a_ca_file_is_tried_before_it_is_in_force(version) {
        let tenant = tenant();
        let files = Files::new(&tenant);
        let good = fs::read_to_string(tenant.ca_file()).unwrap();
        files.write("ca.pem", &good);
        let ca = files.path("ca.pem").display().to_string();
        let text = fs::read_to_string(files.path("auth0.toml")).unwrap();
        files.write("auth0.toml", &text.replace(tenant.ca_file().to_str().unwrap(), &ca));
        let broker = broker(version, &files.line());
        broker.expect_log("signing keys were fetched");
        let wrong = Authority::new("another authority").pem().to_owned();
        files.write("ca.pem", &wrong);
        let line = reload(&broker);
        assert!(line.contains("option ca_file, value '") && line.contains("with it the tenant's certificate is not trusted"), "{line}");
        assert!(line.contains("generation 1 stays in force"), "{line}");
        assert_eq!(answer(&broker, &login("c")), None);
        files.write("ca.pem", &format!("{wrong}{good}"));
        let line = reload(&broker);
        assert!(line.ends_with("generation 2 is in force: changed are ca_file"), "{line}");
        device(&tenant, "another", json!([]));
        let connect = ConnectPacket::new(Protocol::V5, "another").login("another", "pass");
        assert_eq!(answer(&broker, &connect), None);
    }

    /// Two plugin lines with the same options are one instance, which tells of a reload once. Other options are another
    /// instance, which has a configuration of its own.
    fn each_instance_has_its_own_generations(version) {
        let tenant = tenant();
        let (one, two) = (Files::new(&tenant), Files::new(&tenant));
        let broker = broker_with_listeners(version, &[one.line(), one.line(), two.line()]);
        raw(&broker, &tenant, DEVICE, "c", Protocol::V5);
        one.options(&tenant, "leeway = 7\n");
        two.options(&tenant, "leeway = \"x\"\n");
        let mark = broker.log_mark();
        broker.reload();
        assert!(broker.wait_for_log_after(mark, "generation 1 stays in force", PATIENCE).is_some());
        assert!(broker.wait_for_log_after(mark, "generation 2 is in force: changed are leeway", PATIENCE).is_some());
        let log = broker.stop().log;
        let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(count("generation 1 stays in force"), 1, "{log}");
        assert_eq!(count("generation 2 is in force: changed"), 1, "{log}");
        // 2.0.11 with settings per listener does not tick, and so does not tell when a SIGHUP is over.
        let nothing = usize::from(version == Version::V2_0_11);
        assert_eq!(count("nothing has changed"), nothing, "{log}");
    }

    /// One SIGHUP after another, while devices sign in with tokens and passwords and exchange messages with QoS 1: no
    /// message is lost, nobody is disconnected, and the tenant is asked once about each password.
    fn sighup_after_sighup_loses_nothing(version) {
        const RELOADS: usize = 20;
        let tenant = tenant();
        let files = Files::new(&tenant);
        let policy = files.path("policy.toml");
        let with_policy = |rule: usize| {
            let rule = format!("[[rule]]\nname = \"{rule}\"\nallow.both = \"no/{rule}\"\n");
            files.write("policy.toml", &rule);
        };
        with_policy(0);
        files.options(&tenant, &format!("policy_file = \"{}\"\n", policy.display()));
        let broker = broker(version, &files.line());
        let mut subscriber = raw(&broker, &tenant, WATCHER, "subscriber", Protocol::V5);
        subscriber.subscribe(&[("temperature", 1)]).unwrap();
        let mut publisher = raw(&broker, &tenant, DEVICE, "publisher", Protocol::V311);
        let over = AtomicBool::new(false);
        let (sent, tokens, passwords) = thread::scope(|scope| {
            let sent = scope.spawn(|| {
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    assert!(publisher.publish("temperature", sent.to_string(), 1).unwrap() < 0x80);
                    sent += 1;
                }
                sent
            });
            let received = scope.spawn(|| {
                let mut received = 0;
                while let Ok(message) = subscriber.next_message(Duration::from_secs(2)) {
                    assert_eq!(message.text(), received.to_string());
                    received += 1;
                }
                received
            });
            let tokens = scope.spawn(|| {
                let mut tokens = 0;
                while !over.load(Ordering::Relaxed) {
                    let token = tenant.mint(DEVICE).claim("jti", tokens).sign();
                    let connect = token_connect(Protocol::V311, &format!("t{tokens}"), &token);
                    assert_eq!(answer(&broker, &connect), None, "{}", broker.log());
                    tokens += 1;
                }
                tokens
            });
            let passwords = scope.spawn(|| {
                let mut passwords = 0;
                while !over.load(Ordering::Relaxed) {
                    let name = format!("device-{passwords}");
                    device(&tenant, &name, json!(["temperature"]));
                    let connect = ConnectPacket::new(Protocol::V311, &name).login(&name, "pass");
                    assert!(retry_until_admitted(&broker, &connect), "{}", broker.log());
                    passwords += 1;
                }
                passwords
            });
            for round in 1..=RELOADS {
                with_policy(round % 2);
                let mark = broker.log_mark();
                broker.sighup();
                // 2.0 loses a SIGHUP that comes while it handles another one.
                broker.wait_for_log_after(mark, "Reloading config", PATIENCE).expect("it reloads");
                let line = broker.wait_for_log_after(mark, "configuration generation", PATIENCE);
                assert!(line.is_some_and(|line| line.contains("is in force")));
            }
            over.store(true, Ordering::Relaxed);
            let sent = sent.join().unwrap();
            assert_eq!(received.join().unwrap(), sent);
            (sent, tokens.join().unwrap(), passwords.join().unwrap())
        });
        assert!(sent >= RELOADS / 2 && tokens > 0 && passwords > 0, "{sent} {tokens} {passwords}");
        assert_eq!(tenant.count(Endpoint::Token), passwords, "each is asked about once");
        assert!(!broker.log().contains("refused "), "{}", broker.log());
    }

    /// A SIGHUP that comes while the broker acts on another one counts too: what a file says at the last SIGHUP is in
    /// force in the end. 2.0.11 with settings per listener loses it, and so does any 2.0 without the plugin.
    fn no_sighup_is_lost(version) {
        let tenant = tenant();
        let files = Files::new(&tenant);
        let policy = files.path("policy.toml").display().to_string();
        // As large as a file may be that SIGHUP waits for. It is read after the options.
        let rule = |i: usize| format!("[[rule]]\nname = \"{i}\"\nallow.both = \"{i}/%u/#\"\n");
        let rules: String = (0..350).map(rule).collect();
        assert!(rules.len() < 16_000);
        let write = |change: u32, scope: u32| {
            files.write("policy.toml", &format!("{rules}# {change}\n"));
            files.options(&tenant, &format!("policy_file = \"{policy}\"\nscope = \"openid a{scope}\"\n"));
        };
        write(0, 0);
        let broker = broker(version, &files.line());
        raw(&broker, &tenant, DEVICE, "c", Protocol::V5);
        // The second SIGHUP comes while the broker acts on the first one.
        for round in 1..=20 {
            let mark = broker.log_mark();
            write(round, round - 1);
            broker.sighup();
            broker.wait_for_log_after(mark, "Reloading config", PATIENCE).expect("it reloads");
            write(round, round);
            broker.sighup();
            let line = broker.wait_for_log_after(mark, "scope", PATIENCE);
            assert!(line.is_some(), "round {round}: {}", broker.log());
        }
    }

    /// What a generation leaves behind is freed.
    fn generations_leave_nothing_behind(version) {
        let tenant = tenant();
        let files = Files::new(&tenant);
        let rules = |i: usize| {
            let rule = |n: usize| format!("[[rule]]\nname = \"{n}\"\nallow.both = \"{i}/{n}/#\"\n");
            files.write("policy.toml", &(0..100).map(rule).collect::<String>());
        };
        rules(0);
        let policy = files.path("policy.toml").display().to_string();
        let options = |leeway: usize| {
            files.options(&tenant, &format!("policy_file = \"{policy}\"\nleeway = {leeway}\n"));
        };
        options(30);
        let heap = Heap::new().unwrap();
        let broker = heap.watch(builder(version, &files.line())).start().unwrap();
        let mut device = raw(&broker, &tenant, DEVICE, "c", Protocol::V5);
        let mut generation = 1;
        let mut next = |device: &mut RawClient| {
            generation += 1;
            rules(generation);
            options(generation);
            let line = reload(&broker);
            let expected = format!("generation {generation} is in force: changed are leeway, policy_file");
            assert!(line.contains(&expected), "{line}");
            assert!(device.publish("temperature", "1", 1).unwrap() < 0x80);
        };
        for _ in 0..10 {
            next(&mut device);
        }
        let before = heap.now().bytes;
        const MORE: usize = 40;
        for _ in 0..MORE {
            next(&mut device);
        }
        let grown = heap.now().bytes - before;
        // A hundred rules have more than 20 KB.
        assert!(grown < 100_000, "{grown} bytes in {MORE} generations");
    }
}

/// A FIFO, a folder or a file without end in place of a file is a mistake, and no broker waits for it.
#[test]
fn a_file_that_is_none_keeps_nobody_waiting() {
    for version in Version::ALL {
        let tenant = tenant();
        let files = Files::new(&tenant);
        let broker = broker(version, &files.line());
        let mut device = raw(&broker, &tenant, DEVICE, "c", Protocol::V5);
        let secret = files.path("secret");
        let replace = |put: &dyn Fn(&Path)| {
            fs::remove_file(&secret).unwrap();
            put(&secret);
        };
        replace(&|path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        });
        let line = reload(&broker);
        assert!(
            line.contains("option client_secret_file") && line.contains("1 stays"),
            "{line}"
        );
        replace(&|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap());
        let line = reload(&broker);
        assert!(
            line.contains("option client_secret_file") && line.contains("1 stays"),
            "{line}"
        );
        assert!(device.publish("temperature", "1", 1).unwrap() < 0x80);
    }
}
