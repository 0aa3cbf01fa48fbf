//! Tests of restored sessions: those whose rights are made at ticks get the same as those that are asked about first.

use std::{fs, path::Path};

use serde_json::json;
use testbed::signing::shared_key;

use super::*;
use crate::{
    account::Account,
    config::Config,
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    policy_file::BrokerFeatures,
    saved_sessions::{SavedClaims, SessionToSave},
    state_dir::StateDir,
    threads,
};
use acl::interner::Interner;

const NOW: Unix = Unix(2_000_000_000);
const TOPICS: [&str; 6] = ["a", "b", "secret", "site/1/x", "site/2/x", "own/dev-007"];
const DEVICES: usize = 300;
const AT_A_TICK: usize = 100;

/// An instance after a restart of its broker, which restored a session for each device.
struct Rig {
    folder: tempfile::TempDir,
    engine: Engine,
    common: Common,
}

/// A client that is away.
#[derive(Clone, Copy)]
struct Away<'a> {
    client_id: &'a str,
    username: &'a str,
}

impl ClientView for Away<'_> {
    fn client_id(&self) -> &[u8] {
        self.client_id.as_bytes()
    }

    fn username(&self) -> Option<&[u8]> {
        Some(self.username.as_bytes())
    }

    fn is_connected(&self) -> bool {
        false
    }

    fn is_restored(&self) -> bool {
        true
    }
}

fn client_id(number: usize) -> String {
    format!("dev-{number:03}")
}

/// Saves a session for each device. Of five, each has another kind of claims, and one has ended.
fn save(folder: &Path) {
    let mut sessions = SavedSessions::default();
    let dir = StateDir::open(folder).unwrap();
    sessions.open(&dir, threads::plain, &Log::default());
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for number in 0..DEVICES {
        let claims = match number % 5 {
            0 => json!({"topics": ["a"], "others": ["b"]}),
            1 => json!({"topics": ["a"], "others": ["b"], "site": (number % 3).to_string()}),
            2 => json!({"topics": [format!("own/{}", client_id(number))], "others": []}),
            3 => json!({"topics": "not a list", "others": ["b"]}),
            _ => json!({"topics": ["#"], "others": ["#"]}),
        };
        let account = Account {
            issuer: "https://t.example/".into(),
            subject: format!("auth0|{number}").into(),
        };
        let counting = names(&["topics", "others", "permissions", "roles", "scope"]);
        let picked = SavedClaims::pick(
            claims.as_object().unwrap(),
            &account,
            counting,
            names(&["site"]),
            &mut Interner::default(),
        );
        let until = match number % 10 {
            9 => Unix(NOW.0 - 100),
            _ => Unix(NOW.0 + 1000),
        };
        let to_save = SessionToSave::new(
            &picked,
            &Arc::clone(&account.subject),
            &account,
            until,
            None,
            (None, None, None),
        );
        sessions.save(&client_id(number).into(), to_save);
    }
    sessions.finish();
}

impl Rig {
    fn new(more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path());
        fs::write(
            folder.path().join("keys.json"),
            json!({"keys": [shared_key(0).jwk()]}).to_string(),
        )
        .unwrap();
        let mut rig = Self::started(folder, more);
        rig.engine
            .start(&mut rig.common, BrokerFeatures::default())
            .unwrap();
        rig
    }

    fn started(folder: tempfile::TempDir, more: &[(&str, &str)]) -> Self {
        write_options(folder.path(), more);
        let file = folder.path().join("auth0.toml").display().to_string();
        let mut common = Common::default();
        let engine = Engine::new(
            Config::read(vec![("config_file".to_owned(), file)]).unwrap(),
            FetchSchedule::default(),
            Log::default(),
            threads::plain,
            &mut common,
        );
        Self {
            folder,
            engine: engine.unwrap(),
            common,
        }
    }

    /// Makes the rights of some sessions. Returns how many these were.
    fn tick(&mut self) -> usize {
        let mut made = 0;
        while made < AT_A_TICK
            && let Some(client_id) = self.common.next_saved()
        {
            self.make_ready(&client_id);
            made += 1;
        }
        made
    }

    fn make_ready(&mut self, client_id: &str) {
        let (key, username) = key_and_username(client_id);
        let client = Away {
            client_id,
            username: &username,
        };
        self.engine.make_ready(&mut self.common, key, &client, NOW);
    }

    /// Whether the rights of a session are there.
    fn is_ready(&self, number: usize) -> bool {
        self.common.sessions.is_ready(&client_id(number))
    }

    /// Returns what is queued for each device.
    fn queued(&mut self) -> Vec<Vec<&'static str>> {
        let one = |rig: &mut Self, number| {
            let client_id = client_id(number);
            let (key, username) = key_and_username(&client_id);
            let mut topics = TOPICS.to_vec();
            topics.retain(|topic| {
                let access = Access {
                    key,
                    client: Away {
                        client_id: &client_id,
                        username: &username,
                    },
                    action: Action::Receive,
                    topic: topic.as_bytes(),
                    qos: 1,
                    retain: false,
                    payload: 0,
                };
                rig.engine.authorize(&mut rig.common, &access, NOW).allows()
            });
            topics
        };
        (0..DEVICES).map(|number| one(self, number)).collect()
    }

    /// Reloads with other options and rules.
    fn reload(&mut self, more: &[(&str, &str)], rules: &str) {
        write_options(self.folder.path(), more);
        fs::write(self.folder.path().join("policy.toml"), rules).unwrap();
        let before = self.engine.generation;
        self.engine.reload(&mut self.common, false);
        assert_eq!(self.engine.generation, before + 1);
    }
}

/// Writes the file with all options. `policy_file` stands for the file of that name in the folder.
fn write_options(folder: &Path, more: &[(&str, &str)]) {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut text = format!(
        "issuer = 'https://t.example/'\naudience = 'https://mqtt.example/'\njwks_file = '{}'\nstate_dir = '{}'\n",
        path("keys.json"),
        path(""),
    );
    for (name, value) in more {
        let value = match *name {
            "policy_file" => path("policy.toml"),
            _ => (*value).to_owned(),
        };
        text += &format!("{name} = '{value}'\n");
    }
    fs::write(folder.join("auth0.toml"), text).unwrap();
    let policy = folder.join("policy.toml");
    if !policy.exists() {
        fs::write(policy, "").unwrap();
    }
}

fn key_and_username(client_id: &str) -> (ClientKey, String) {
    let number: usize = client_id.strip_prefix("dev-").unwrap().parse().unwrap();
    (ClientKey(0x1000 + 64 * number), format!("auth0|{number}"))
}

const SITES: &str = "[[rule]]\nname = \"secret\"\ndeny.both = \"secret\"\n\
                     [[rule]]\nname = \"sites\"\nallow.both = \"site/${site}/#\"\n";
const TIER: &str = "[[rule]]\nname = \"gold\"\nwhen = { claim = { name = \"tier\", is = \"gold\" } }\n\
                    deny.both = \"a\"\n";
const NIGHT: &str =
    "[[rule]]\nname = \"night\"\ndeny.both = \"b\"\nwhen = { time = \"03:00-04:00\" }\n";

/// Options, and the rules of the policy file.
type Configuration = (&'static [(&'static str, &'static str)], &'static str);

/// Each pair of configurations to begin with, and to change to.
fn changes() -> Vec<[Configuration; 2]> {
    let with: &[_] = &[("policy_file", ""), ("offline_grace", "0")];
    let others: &[_] = &[("policy_file", ""), ("topics_claim", "others")];
    let none: &[_] = &[("offline_grace", "50")];
    vec![
        [(with, ""), (with, SITES)],
        [(with, SITES), (others, SITES)],
        [(none, ""), (with, SITES)],
        [(with, SITES), (none, "")],
        [(with, SITES), (with, TIER)],
        [(with, TIER), (with, NIGHT)],
        [(others, TIER), (with, SITES)],
    ]
}

#[test]
fn after_a_number_of_ticks_all_restored_sessions_are_ready() {
    let mut rig = Rig::new(&[]);
    assert!((0..DEVICES).all(|number| !rig.is_ready(number)));
    let mut made = 0;
    loop {
        match rig.tick() {
            0 => break,
            some => made += some,
        }
    }
    assert_eq!(made, DEVICES, "each is looked at once");
    assert!((0..DEVICES).all(|number| rig.is_ready(number)));
    assert_eq!(rig.common.sessions.count(), (0, DEVICES as u64));
}

#[test]
fn rights_that_are_made_at_ticks_are_those_of_the_first_question() {
    for [(options, rules), (later, later_rules)] in changes() {
        let rig = || {
            let mut rig = Rig::new(options);
            fs::write(rig.folder.path().join("policy.toml"), rules).unwrap();
            rig.engine.reload(&mut rig.common, false);
            rig
        };
        let (mut asked, mut ready) = (rig(), rig());
        while ready.tick() > 0 {}
        let before = asked.queued();
        let are = |queued: &[Vec<_>], expected: &[Vec<_>]| queued == expected;
        assert!(are(&ready.queued(), &before), "{options:?} {rules}");

        // Once more: some were asked about before the reload, some are ready, and some are made after it.
        let (mut fresh, mut mixed) = (rig(), rig());
        mixed.tick();
        asked.reload(later, later_rules);
        ready.reload(later, later_rules);
        fresh.reload(later, later_rules);
        mixed.reload(later, later_rules);
        mixed.tick();
        let after = fresh.queued();
        assert!(!are(&after, &before), "{later:?} {later_rules}");
        assert!(are(&mixed.queued(), &after), "{later:?} {later_rules}");
        assert!(are(&asked.queued(), &after), "{later:?} {later_rules}");
        assert!(are(&ready.queued(), &after), "{later:?} {later_rules}");
        while mixed.tick() > 0 {}
        assert!(are(&mixed.queued(), &after), "{later:?} {later_rules}");
    }
}

/// A reload that changes nothing makes nothing again.
#[test]
fn rights_are_made_again_when_something_has_changed() {
    let mut rig = Rig::new(&[]);
    while rig.tick() > 0 {}
    rig.engine.reload(&mut rig.common, false);
    assert!(rig.tick() == 0 && rig.is_ready(0));
    rig.reload(&[("topics_claim", "others")], "");
    assert!(!rig.is_ready(0));
    while rig.tick() > 0 {}
    assert!((0..DEVICES).all(|number| rig.is_ready(number)));
    assert_eq!(rig.common.sessions.count(), (0, DEVICES as u64));
}

/// With several instances nobody knows which one the broker asks first.
#[test]
fn a_released_session_keeps_its_rights_over_a_reload() {
    let mut rig = Rig::new(&[]);
    while rig.tick() > 0 {}
    assert_eq!(rig.queued()[0], ["a"]);
    rig.common.sessions.release("dev-000");
    rig.common.saved.release("dev-000");
    rig.reload(&[("topics_claim", "others")], "");
    assert_eq!(rig.queued()[0], ["a"]);
    assert_eq!(rig.queued()[1], ["b"], "what is saved counts anew");
}

#[test]
fn a_session_that_the_broker_does_not_have_is_forgotten_with_its_rights() {
    let mut rig = Rig::new(&[]);
    while rig.tick() > 0 {}
    rig.common.forget_saved(&client_id(0).into());
    assert!(!rig.common.sessions.has_id("dev-000"));
    assert_eq!(rig.common.sessions.count(), (0, DEVICES as u64 - 1));
}

#[test]
fn several_instances_wait_for_the_question() {
    let mut rig = Rig::new(&[]);
    rig.common.new_instance();
    while rig.tick() > 0 {}
    assert!((0..DEVICES).all(|number| !rig.is_ready(number)));
    assert_eq!(rig.queued()[0], ["a"]);
}

/// Whoever came back in the meantime keeps the rights of its own credential.
#[test]
fn a_client_that_is_back_is_left_alone() {
    let mut rig = Rig::new(&[]);
    let account = rig.common.saved.get("dev-000").unwrap().account();
    let (key, username) = key_and_username("dev-000");
    let away = Away {
        client_id: "dev-000",
        username: &username,
    };
    let mut session = rig
        .engine
        .saved_session(&rig.common, &away, NOW)
        .expect("it is saved");
    session.rights = Rights::default();
    assert_eq!(session.account, account);
    rig.common.sessions.admit(ClientKey(8), session);
    while rig.tick() > 0 {}
    let found = rig.common.sessions.find("dev-000").unwrap();
    assert!(found.connected && found.key == ClientKey(8) && key != found.key);
}

/// Rights that ended because the key was revoked do not come back when they are made again.
#[test]
fn rights_that_have_ended_stay_ended() {
    let mut rig = Rig::new(&[("offline_grace", "0")]);
    while rig.tick() > 0 {}
    let keys = [Ending::default().signing_key];
    let ended = Unix(NOW.0 - 10);
    rig.common
        .sessions
        .end_admitted_by(rig.engine.id, &keys, ended);
    rig.reload(&[("offline_grace", "5")], "");
    while rig.tick() > 0 {}
    assert_eq!(
        rig.common.sessions.find("dev-000").unwrap().session.until,
        ended
    );
    assert!(rig.queued().iter().all(Vec::is_empty));
}
