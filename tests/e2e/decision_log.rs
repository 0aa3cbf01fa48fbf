//! The decision log and the shadow policy.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use auth::{
    decision_log::record::{DecisionPath, DecisionRecord, TokenId},
    secret::sha256,
};
use serde_json::json;
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    tenant::{DEVICE, Tenant},
};

use crate::{helpers::*, on_each_broker};

fn connect(broker: &Mosquitto, connect: &ConnectPacket) -> RawClient {
    let client = RawClient::connect(broker.port(), connect);
    client.unwrap_or_else(|e| panic!("{e:?}\n{}", broker.log()))
}

/// A broker with a decision log and, perhaps, policies.
struct Scene {
    tenant: Tenant,
    broker: Mosquitto,
    log: PathBuf,
    folder: PathBuf,
}

impl Scene {
    fn new(version: Version, policies: &[(&str, &str)], options: &[(&str, &str)]) -> Self {
        let tenant = tenant();
        let builder = Mosquitto::builder(version);
        let folder = builder.folder().to_owned();
        let log = folder.join("decisions.json");
        let mut all = PluginOptions::tokens(&tenant)
            .with("leeway", "0")
            .with("decision_log", log.to_str().unwrap());
        for (option, rules) in policies {
            let file = folder.join(format!("{option}.toml"));
            fs::write(&file, rules).unwrap();
            all = all.with(option, file.to_str().unwrap());
        }
        for (name, value) in options {
            all = all.with(name, value);
        }
        let broker = builder.plugin(plugin(), &all.pairs()).start();
        let broker = broker.unwrap_or_else(|e| panic!("{version}: {e}"));
        Self {
            tenant,
            broker,
            log,
            folder,
        }
    }

    /// Waits until the log has so many decisions with this action and this client ID, and returns them.
    #[track_caller]
    fn decisions(&self, path: DecisionPath, client_id: &str, least: usize) -> Vec<DecisionRecord> {
        let begun = Instant::now();
        loop {
            let mut records = records(&self.log);
            records.retain(|one| one.path == path && one.input.client_id == client_id);
            if records.len() >= least {
                return records;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{path:?} of {client_id}: {records:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn records(log: &Path) -> Vec<DecisionRecord> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| DecisionRecord::parse(line).unwrap_or_else(|why| panic!("{why:?}: {line}")))
        .collect()
}

const POLICY: &str = r#"
[[rule]]
name = "closed"
when.claim = { name = "role", is = "guest" }
deny.publish = "site/closed"

[[rule]]
name = "site"
allow.both = "site/#"
"#;

on_each_broker! {
    /// A sign-in and a refusal become lines with what is known about them, and a token is in none of them.
    fn sign_ins_and_denials_become_lines(version) {
        let scene = Scene::new(version, &[("policy_file", POLICY)], &[]);
        let (tenant, broker) = (&scene.tenant, &scene.broker);
        let token = tenant.mint(DEVICE).claim("role", json!("guest")).claim("email", json!("a@b.example")).sign();
        let mut client = connect(broker, &token_connect(Protocol::V5, "pump-1", &token));
        assert_eq!(client.publish("site/open", "x", 1).unwrap() & 0x80, 0);
        assert_ne!(client.publish("site/closed", "secret payload", 1).unwrap() & 0x80, 0);
        assert_ne!(client.publish("else\u{202e}where", "x", 1).unwrap() & 0x80, 0);
        let expired = tenant.mint(DEVICE).lifetime(-3600).sign();
        for _ in 0..3 {
            assert!(answer(broker, &token_connect(Protocol::V311, "late", &expired)).is_some());
        }
        let wrong = ConnectPacket::new(Protocol::V311, "typist").login("someone", "hunter2");
        assert!(answer(broker, &wrong).is_some());

        let admitted = &scene.decisions(DecisionPath::Connect, "pump-1", 1)[0];
        assert!(admitted.result.allowed && admitted.result.expires_at.is_some());
        assert_eq!(admitted.input.token_id, Some(TokenId::of(token.as_bytes())));
        assert_eq!(admitted.input.issuer.as_deref(), Some(tenant.issuer()));
        let device = tenant.device(DEVICE).unwrap().user_id;
        assert_eq!(admitted.input.username.as_ref(), Some(&device));
        assert_eq!(admitted.input.address.as_deref(), Some("127.0.0.1"));
        let claims = admitted.input.claims.as_ref().unwrap();
        assert_eq!(claims.present["role"], "guest");
        assert!(!claims.present.contains_key("email"), "no rule asks for it: {claims:?}");

        let denied = scene.decisions(DecisionPath::Publish, "pump-1", 2);
        assert_eq!(denied.len(), 2, "{denied:#?}");
        let closed = &denied[0];
        assert_eq!(closed.result.reason.as_deref(), Some("not-granted"));
        let rule = closed.result.rule.as_ref().unwrap();
        assert_eq!(rule.name.as_deref(), Some("closed"));
        assert!(rule.file.as_ref().unwrap().ends_with("policy_file.toml"));
        assert_eq!(rule.line, Some(2));
        assert_eq!(closed.input.session, admitted.input.session);
        let message = closed.input.message.as_ref().unwrap();
        assert_eq!((message.topic.as_str(), message.qos, message.retain, message.payload_bytes), ("site/closed", 1, false, 14));
        assert_eq!(denied[1].result.rule, None);

        let late = scene.decisions(DecisionPath::Connect, "late", 1);
        assert_eq!(late.len(), 1, "those that follow are counted for a minute");
        assert!(late.iter().all(|one| one.result.reason.as_deref() == Some("token-expired")));
        assert_eq!(late[0].input.token_id, Some(TokenId::of(expired.as_bytes())));
        assert!(late[0].input.subject.is_none(), "it is not verified");
        let typist = &scene.decisions(DecisionPath::Connect, "typist", 1)[0];
        assert_eq!((typist.input.token_id, typist.input.username.as_deref()), (None, Some("someone")));

        let mode = fs::metadata(&scene.log).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{mode:o}");
        let text = fs::read_to_string(&scene.log).unwrap();
        for secret in [token.as_str(), &token[token.len() - 40..], &expired[expired.len() - 40..], "hunter2", "secret payload"] {
            assert!(!text.contains(secret));
        }
        assert!(!text.contains('\u{202e}'), "it is escaped");
        assert_eq!(sha256(token.as_bytes())[..8], admitted.input.token_id.unwrap().0);
    }

    /// What logrotate does: the file is moved away, and SIGHUP begins another one. Each stands alone.
    fn sighup_opens_the_decision_log_again(version) {
        let scene = Scene::new(version, &[], &[]);
        let mut client = raw(&scene.broker, &scene.tenant, DEVICE, "pump-1", Protocol::V5);
        assert_ne!(client.publish("nowhere/1", "x", 1).unwrap() & 0x80, 0);
        scene.decisions(DecisionPath::Publish, "pump-1", 1);
        let moved = scene.folder.join("decisions.json.1");
        fs::rename(&scene.log, &moved).unwrap();
        scene.broker.reload();
        assert_ne!(client.publish("nowhere/2", "x", 1).unwrap() & 0x80, 0);
        let after = scene.decisions(DecisionPath::Publish, "pump-1", 1);
        assert!(after[0].input.claims.is_some());
        assert_eq!(records(&moved).len(), 2);
    }

    /// The shadow policy changes nothing, and each difference is told once and counted. SIGHUP reads it again.
    fn a_shadow_policy_only_tells(version) {
        let stricter = "[[rule]]\nname = \"open only\"\nallow.both = \"site/open\"\n\
                        [[rule]]\nname = \"new\"\nallow.publish = \"new/#\"\n";
        let scene = Scene::new(version, &[("policy_file", POLICY), ("shadow_policy", stricter)], &[]);
        scene.broker.expect_log("the shadow policy has 2 rules, which decide nothing");
        let token = scene.tenant.mint(DEVICE).claim("topics", json!([])).claim("role", json!("guest")).sign();
        let mut client = connect(&scene.broker, &token_connect(Protocol::V5, "pump-1", &token));
        for _ in 0..20 {
            assert_eq!(client.publish("site/1", "x", 1).unwrap() & 0x80, 0, "it is still allowed");
        }
        assert_eq!(client.publish("site/open", "x", 1).unwrap() & 0x80, 0);
        assert_ne!(client.publish("new/1", "x", 1).unwrap() & 0x80, 0, "it is still denied");
        scene.broker.expect_log("the shadow policy would deny the PUBLISH of 'pump-1' (user ");
        let log = scene.broker.log();
        assert_eq!(log.matches("the shadow policy would deny").count(), 1, "{log}");
        let line = "with the topic 'site/1', which is allowed: no rule covers it; more of these are counted";
        assert!(log.contains(line), "{log}");
        scene.broker.expect_log("with the topic 'new/1', which is denied: its rule 'new' decides");

        let records = scene.decisions(DecisionPath::Publish, "pump-1", 21);
        assert_eq!(records.len(), 21, "those that differ, and those that are denied");
        let differs = records[0].result.shadow.as_ref().unwrap();
        assert!(records[0].result.allowed && !differs.allowed);
        assert_eq!(records[0].result.rule.as_ref().unwrap().name.as_deref(), Some("site"));
        let new = records[20].result.shadow.as_ref().unwrap();
        assert!(new.allowed && new.rule.as_ref().unwrap().file.as_ref().unwrap().ends_with("shadow_policy.toml"));

        let file = scene.folder.join("shadow_policy.toml");
        fs::write(&file, POLICY).unwrap();
        scene.broker.reload();
        scene.broker.expect_log("changed are shadow_policy");
        assert_eq!(client.publish("site/2", "x", 1).unwrap() & 0x80, 0);
        fs::write(&file, "[[rule]]\n").unwrap();
        scene.broker.reload();
        let line = scene.broker.expect_log("it decides nothing, so everything else goes on without it");
        assert!(line.contains("option shadow_policy, value"), "{line}");
        let log = scene.broker.stop().log;
        assert!(log.contains("the shadow policy would deny 19 more within a minute"), "{log}");
    }

    /// With `all`, what is allowed is logged too, also what others receive.
    fn all_messages_can_be_logged(version) {
        let scene = Scene::new(version, &[("policy_file", POLICY)], &[("decision_log_messages", "all")]);
        let mut client = raw(&scene.broker, &scene.tenant, DEVICE, "pump-1", Protocol::V5);
        assert!(client.subscribe(&[("site/open", 0)]).is_ok());
        assert_eq!(client.publish("site/open", "x", 1).unwrap() & 0x80, 0);
        for path in [DecisionPath::Subscribe, DecisionPath::Publish, DecisionPath::Receive] {
            let record = &scene.decisions(path, "pump-1", 1)[0];
            assert!(record.result.allowed, "{record:#?}");
            assert_eq!(record.result.rule.as_ref().unwrap().name.as_deref(), Some("site"));
        }
    }

    /// A decision log that cannot be written stops the start, as the broker's own log does. A shadow policy with a
    /// mistake does not.
    fn a_decision_log_that_cannot_be_written_stops_the_start(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant);
        let failed = refused_start(version, &options.clone().with("decision_log", "/proc/none/log"));
        assert!(failed.log.contains("option decision_log, value '/proc/none/log': it cannot be written"), "{}", failed.log);
        let broker = broker(version, &options.with("shadow_policy", "/proc/none"));
        broker.expect_log("option shadow_policy, value '/proc/none': it cannot be read");
        raw(&broker, &tenant, DEVICE, "good", Protocol::V311).ping().unwrap();
    }
}
