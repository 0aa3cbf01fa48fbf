//! SIGHUP without a broker: what is read again, what depends on it, and what stays if something is wrong.

mod common;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use auth::{
    client::{Client, ClientKey},
    clock,
    config::options::{self, Reread},
    engine::{Access, Action, Connect, Step},
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    policy_file::BrokerFeatures,
    refusal::Reason,
};
use common::TestInstance;
use serde_json::json;
use testbed::tenant::{
    AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, Endpoint, ResponseGate, Tenant,
};

const PATIENCE: Duration = Duration::from_secs(20);
const DEVICE: &str = "sensor";
const PASSWORD: &str = "device-Password";

/// A tenant, a folder with the files that options name, and an instance that has read them.
struct Scene {
    tenant: Tenant,
    folder: tempfile::TempDir,
    /// The options in `config_file`.
    options: Vec<(&'static str, String)>,
    instance: TestInstance,
    /// The user names of the clients that came in, by their keys.
    usernames: HashMap<usize, String>,
    log: Log,
}

impl Scene {
    /// An instance with keys from a file.
    fn offline(options: &[(&'static str, &str)]) -> Self {
        Self::new("jwks_file", options)
    }

    /// An instance that asks the tenant about passwords.
    fn online(options: &[(&'static str, &str)]) -> Self {
        let credentials = [
            ("client_id", CLIENT_ID),
            ("client_secret_file", "secret"),
            ("connection", CONNECTION),
        ];
        Self::new("domain", &[&credentials, options].concat())
    }

    fn new(keys: &str, options: &[(&'static str, &str)]) -> Self {
        let device = testbed::tenant::Device::new(DEVICE, PASSWORD).topics(json!(["old"]));
        let tenant = Tenant::builder().device(device).start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut all = vec![
            ("audience", AUDIENCE.to_owned()),
            ("ca_file", path("ca.pem")),
        ];
        match keys {
            "jwks_file" => all.extend([
                ("issuer", tenant.issuer().to_owned()),
                ("jwks_file", path("keys.json")),
            ]),
            "discovery" => all.push(("issuer", tenant.issuer().to_owned())),
            _ => all.push(("domain", tenant.domain().to_owned())),
        }
        for (name, value) in options {
            let is_file = name.ends_with("_file");
            all.retain(|(other, _)| other != name);
            all.push((
                *name,
                if is_file {
                    path(value)
                } else {
                    (*value).to_owned()
                },
            ));
        }
        write(folder.path().join("keys.json"), &tenant.jwks().to_string());
        write(folder.path().join("secret"), CLIENT_SECRET);
        write(folder.path().join("policy.toml"), "");
        let ca = fs::read_to_string(tenant.ca_file()).unwrap();
        write(folder.path().join("ca.pem"), &ca);
        write(folder.path().join("auth0.toml"), &toml(&all));
        let log = Log::default();
        let lines = [("config_file", path("auth0.toml"))];
        let lines = lines.each_ref().map(|(name, value)| (*name, &**value));
        let mut instance = common::instance(&lines, FetchSchedule::default(), log.clone());
        instance
            .engine
            .start(&mut instance.common, BrokerFeatures::default())
            .unwrap();
        let began = Instant::now();
        while instance.engine.keys().current().is_empty() {
            assert!(began.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        Self {
            tenant,
            folder,
            options: all,
            instance,
            usernames: HashMap::new(),
            log,
        }
    }

    /// Changes options in `config_file`: an empty value removes one.
    fn set(&mut self, changes: &[(&'static str, &str)]) {
        for (name, value) in changes {
            self.options.retain(|(other, _)| other != name);
            if !value.is_empty() {
                self.options.push((name, (*value).to_owned()));
            }
        }
        self.write("auth0.toml", &toml(&self.options));
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        write(self.folder.path().join(name), text)
    }

    /// Reloads as with a broker that does not tick, and expects one line with these parts. Returns all lines.
    #[track_caller]
    fn reload(&mut self, parts: &[&str]) -> Vec<String> {
        self.log.take();
        let TestInstance { engine, common } = &mut self.instance;
        engine.reload(common, false);
        let all = self.log.take().into_iter().map(|(_, line)| line);
        let all: Vec<_> = all.collect();
        let lines = all.iter().filter(|line| line.contains("generation"));
        let [line] = lines.collect::<Vec<_>>()[..] else {
            panic!("one line: {all:?}")
        };
        for part in parts {
            assert!(line.contains(part), "{line} lacks {part}");
        }
        all
    }

    /// Returns whether the client comes in with a token, or why not.
    fn token(&mut self, key: usize, token: &str) -> Result<String, Reason> {
        let connect = Connect {
            key: ClientKey(key),
            ..common::connect("c", token)
        };
        self.sign_in(&connect)
    }

    fn password(&mut self, key: usize) -> Result<String, Reason> {
        let connect = login(key);
        self.sign_in(&connect)
    }

    fn sign_in(&mut self, connect: &Connect) -> Result<String, Reason> {
        let admission = match self.instance.authenticate(connect, clock::now()) {
            Step::Admit(admission) => admission,
            Step::Refuse(refusal) => return Err(refusal.reason),
            Step::Wait(wait) => {
                let TestInstance { engine, common } = &mut self.instance;
                let admission = engine.wait(common, wait, clock::now);
                admission.map_err(|refusal| refusal.reason)?
            }
            Step::Keep | Step::Defer => panic!("nobody was in"),
        };
        let username = admission.username().to_owned();
        let admitted = self.instance.common.admit(admission);
        self.instance.common.confirm(admitted);
        self.usernames.insert(connect.key.0, username.clone());
        Ok(username)
    }

    fn may_publish(&mut self, key: usize, topic: &str) -> bool {
        let access = Access {
            key: ClientKey(key),
            client: Client {
                id: "c",
                username: self.usernames.get(&key).map(String::as_str),
                address: Some("192.0.2.1"),
                ..Client::default()
            },
            action: Action::Publish,
            topic: topic.as_bytes(),
            qos: 0,
            retain: false,
            payload: 0,
        };
        self.instance.authorize(&access, clock::now()).allows()
    }

    fn asked(&self) -> usize {
        self.tenant.count(Endpoint::Token)
    }
}

fn login(key: usize) -> Connect<'static> {
    let mut connect = common::connect("c", PASSWORD);
    connect.key = ClientKey(key);
    connect.client.username = Some(DEVICE);
    connect
}

fn toml(options: &[(&str, String)]) -> String {
    let lines = options.iter();
    lines
        .map(|(name, value)| format!("{name} = \"{value}\"\n"))
        .collect()
}

fn write(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// What is remembered about a token while the shadow policy cannot be read has the claims that it asks for later.
#[test]
fn a_shadow_policy_that_is_corrected_knows_the_claims() {
    let mut scene = Scene::offline(&[]);
    let path = scene.write("shadow.toml", "[[rule]]\n");
    scene.set(&[("shadow_policy", path.to_str().unwrap())]);
    let lines = scene.reload(&["generation 2 is in force"]);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("option shadow_policy")),
        "{lines:?}"
    );
    let mint = scene.tenant.mint(DEVICE).claim("topics", json!(["old"]));
    let token = mint.claim("site", "a").sign();
    scene.token(1, &token).unwrap();
    let rules = "[[rule]]\nname = \"site\"\nallow.both = \"${site}/#\"";
    scene.write("shadow.toml", rules);
    scene.reload(&["generation 3 is in force: changed are shadow_policy"]);
    scene.token(2, &token).unwrap();
    assert!(!scene.may_publish(2, "a/1"));
    let counts = scene.instance.engine.shadow_counts().unwrap();
    assert_eq!((counts.would_allow, counts.would_deny), (1, 0));
}

#[test]
fn a_changed_option_applies_to_the_next_sign_in_and_not_to_sessions() {
    let mut scene = Scene::offline(&[]);
    let mint = scene.tenant.mint(DEVICE).claim("topics", json!(["old"]));
    let token = mint.claim("more", json!(["new"])).claim("name", "n").sign();
    let sub = scene.tenant.device(DEVICE).unwrap().user_id;
    assert_eq!(scene.token(1, &token), Ok(sub));
    scene.reload(&["configuration generation 1 is in force: nothing has changed"]);

    scene.set(&[("topics_claim", "more"), ("username_claim", "name")]);
    scene.reload(&["generation 2 is in force: changed are topics_claim, username_claim"]);
    assert!(scene.may_publish(1, "old") && !scene.may_publish(1, "new"));
    assert_eq!(scene.token(2, &token), Ok("n".into()), "not from memory");
    assert!(scene.may_publish(2, "new") && !scene.may_publish(2, "old"));

    scene.set(&[("audience", "https://another.example/")]);
    scene.reload(&["generation 3 is in force: changed are audience"]);
    assert_eq!(scene.token(3, &token), Err(Reason::TokenAudience));
    assert!(scene.may_publish(2, "new"), "who is in stays in");
}

/// Whatever is wrong, the line says where and how to fix it, everything stays as it was, and the next SIGHUP takes
/// what is fixed.
#[test]
fn a_mistake_anywhere_changes_nothing() {
    let mut scene = Scene::offline(&[
        ("policy_file", "policy.toml"),
        ("client_id", "a"),
        ("client_secret_file", "secret"),
    ]);
    let token = scene.tenant.mint(DEVICE).claim("name", "n").sign();
    let sub = scene.tenant.device(DEVICE).unwrap().user_id;
    let toml = scene.folder.path().join("auth0.toml");
    let ca = fs::read_to_string(scene.tenant.ca_file()).unwrap();
    let keys = scene.tenant.jwks().to_string();
    // A change that must not apply.
    scene.set(&[("username_claim", "name")]);
    let good = fs::read_to_string(&toml).unwrap();
    let lines = good.lines().count();
    let at = |line: usize| format!(", line {line} of '{}': ", toml.display());
    for (file, bad, parts) in [
        (
            "auth0.toml",
            format!("{good}leeway = \"x\"\n"),
            vec!["option leeway, value 'x'".to_owned(), at(lines + 1)],
        ),
        (
            "auth0.toml",
            format!("{good}lee_way = 3\n"),
            vec![
                "option 'lee_way'".to_owned(),
                at(lines + 1),
                "did you mean leeway".to_owned(),
            ],
        ),
        (
            "auth0.toml",
            format!("{good}leeway = \"3\n"),
            vec![format!("line {} is not good TOML", lines + 1)],
        ),
        (
            "auth0.toml",
            format!("{good}leeway = true\n"),
            vec![format!("line {}: its option 'leeway'", lines + 1)],
        ),
        (
            "auth0.toml",
            String::new(),
            vec!["option domain is missing".to_owned()],
        ),
        (
            "secret",
            String::new(),
            vec![
                "option client_secret_file".to_owned(),
                "is empty".to_owned(),
            ],
        ),
        (
            "policy.toml",
            "[[rule]]\nname = \"x\"\nalow.both = \"a\"".to_owned(),
            vec![
                "option policy_file".to_owned(),
                "line 3, rule 'x'".to_owned(),
            ],
        ),
        (
            "ca.pem",
            ca[..ca.len() / 2].to_owned(),
            vec!["option ca_file".to_owned()],
        ),
        (
            "keys.json",
            keys[..keys.len() / 2].to_owned(),
            vec!["option jwks_file".to_owned()],
        ),
    ] {
        let path = scene.folder.path().join(file);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, bad).unwrap();
        let mut all: Vec<&str> = parts.iter().map(String::as_str).collect();
        all.push("; configuration generation 1 stays in force");
        scene.reload(&all);
        assert_eq!(scene.token(1, &token).as_ref(), Ok(&sub), "{file}");
        fs::write(&path, before).unwrap();
    }
    for (file, mode) in [("secret", 0o644), ("policy.toml", 0o646)] {
        let path = scene.folder.path().join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        scene.reload(&["chmod", "generation 1 stays in force"]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    scene.reload(&["generation 2 is in force: changed are username_claim"]);
    assert_eq!(scene.token(1, &token), Ok("n".into()));
}

#[test]
fn what_takes_a_restart_says_so_and_holds_everything_back() {
    let mut scene = Scene::offline(&[]);
    let restart = "takes a restart; fix: restart the broker, or change that back and reload; configuration \
                   generation 1 stays in force";
    let issuer = scene.tenant.issuer().to_owned();
    for (changes, names) in [
        (vec![("on_other", "defer"), ("leeway", "1")], "on_other"),
        (
            vec![("acl", "defer"), ("on_other", "defer")],
            "on_other, acl",
        ),
        (vec![("domain", "another.example")], "domain"),
        (vec![("issuer", "https://another.example/")], "issuer"),
        (vec![("jwks_file", "")], "jwks_file"),
    ] {
        let before = scene.options.clone();
        scene.set(&changes);
        scene.reload(&[&format!(
            "the configuration has changed in {names}, which {restart}"
        )]);
        scene.options = before;
    }
    // A further issuer is no other tenant.
    scene.set(&[("issuer", &format!("{issuer},https://another.example/"))]);
    scene.reload(&["generation 2 is in force: changed are issuer"]);
}

/// Who else decides in the broker, and where state is kept, is settled at the start.
#[test]
fn few_options_take_a_restart() {
    for name in ["domain", "state_dir", "on_other", "acl"] {
        let option = options::find(name).unwrap();
        assert_eq!(option.reread, Reread::Restart, "{name}");
    }
}

/// The rules of a policy file reach who is in, also where the option is new or gone. Who was in before there was a
/// policy file keeps the rights of the token.
#[test]
fn a_policy_file_comes_and_goes() {
    let mut scene = Scene::offline(&[]);
    let token = scene
        .tenant
        .mint(DEVICE)
        .claim("topics", json!(["old"]))
        .sign();
    assert!(scene.token(1, &token).is_ok());
    let policy = scene.write(
        "policy.toml",
        "[[rule]]\nname = \"x\"\ndeny.both = \"old\"\n",
    );
    scene.set(&[("policy_file", policy.to_str().unwrap())]);
    scene.reload(&["2 is in force: changed are policy_file (the policy file has 1 rules)"]);
    assert!(
        scene.may_publish(1, "old"),
        "it keeps what its token grants"
    );
    assert!(scene.token(2, &token).is_ok());
    assert!(!scene.may_publish(2, "old"));
    scene.write("policy.toml", "");
    scene.reload(&["3 is in force: changed are policy_file (the policy file has 0 rules)"]);
    assert!(scene.may_publish(2, "old"));
    scene.write(
        "policy.toml",
        "[[rule]]\nname = \"x\"\nallow.both = \"new\"\n",
    );
    scene.reload(&["4 is in force"]);
    assert!(scene.may_publish(2, "new"));
    scene.set(&[("policy_file", "")]);
    scene.reload(&["5 is in force: changed are policy_file"]);
    assert!(!scene.may_publish(2, "new") && scene.may_publish(2, "old"));
    scene.reload(&["5 is in force: nothing has changed"]);
}

/// Good logins are remembered over a SIGHUP, until the secret or what is asked for is another one.
/// A new requirement is for those who sign in from then on, also with a token that was verified before.
#[test]
fn a_new_requirement_ends_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let policy = write(folder.path().join("policy.toml"), "");
    let mut scene = Scene::offline(&[("policy_file", policy.to_str().unwrap())]);
    let token = scene
        .tenant
        .mint(DEVICE)
        .claim("topics", json!(["a"]))
        .sign();
    assert!(scene.token(1, &token).is_ok());
    let required = "[[require]]\nname = \"x\"\nthat.claim = { name = \"site\", is = \"north\" }\nmessage = \"y\"\n";
    write(policy.clone(), required);
    scene.reload(&["(the policy file has 0 rules and 1 requirements)"]);
    assert!(scene.may_publish(1, "a"));
    assert_eq!(scene.token(2, &token), Err(Reason::ClaimRequired));
    write(policy, "");
    scene.reload(&["3 is in force"]);
    assert!(scene.token(2, &token).is_ok() && scene.may_publish(2, "a"));
}

#[test]
fn a_remembered_login_is_forgotten_where_it_may_be_wrong() {
    let mut scene = Scene::online(&[]);
    assert!(scene.password(1).is_ok() && scene.password(2).is_ok());
    assert_eq!(scene.asked(), 1);
    scene.reload(&["nothing has changed"]);
    scene.set(&[
        ("timeout", "10"),
        ("login_workers", "2"),
        ("login_rate", "20"),
    ]);
    scene.reload(&["changed are timeout, login_workers, login_rate"]);
    assert!(scene.password(3).is_ok());
    assert_eq!(scene.asked(), 1, "that matters to no login");

    scene
        .tenant
        .configure(|tenant| tenant.client_secret = "another".repeat(8));
    scene.write("secret", &"another".repeat(8));
    scene.reload(&["3 is in force: changed are client_secret_file"]);
    assert!(scene.password(4).is_ok());
    assert_eq!(scene.asked(), 2);

    // Credentials mode is switched off and on.
    scene.set(&[
        ("client_id", ""),
        ("client_secret_file", ""),
        ("connection", ""),
    ]);
    scene.reload(&["changed are client_id, client_secret_file, connection"]);
    assert_eq!(scene.password(5), Err(Reason::CredentialsOff));
    let secret = scene.folder.path().join("secret");
    scene.set(&[
        ("client_id", CLIENT_ID),
        ("client_secret_file", secret.to_str().unwrap()),
        ("connection", "nobody"),
    ]);
    scene.reload(&["5 is in force"]);
    assert!(scene.password(6).is_err(), "nobody is in that connection");
    assert_eq!(scene.asked(), 3);
}

/// The tenant is asked while SIGHUP comes. The answer counts if it can, and is not remembered.
#[test]
fn an_answer_to_older_options_counts_once_or_not_at_all() {
    for (option, value, counts) in [
        ("scope", "openid profile", true),
        ("leeway", "1", true),
        ("audience", "https://another.example/", false),
        ("client_id", "another", true),
    ] {
        let mut scene = Scene::online(&[]);
        let gate = ResponseGate::new();
        scene
            .tenant
            .once(Endpoint::Token, Behaviour::Gate(gate.clone()));
        let TestInstance { engine, common } = &mut scene.instance;
        let Step::Wait(wait) = engine.authenticate(common, &login(1), clock::now()) else {
            panic!("the tenant is asked")
        };
        engine.delay(common, wait, clock::now()).unwrap();
        assert!(gate.wait_for(1, PATIENCE));
        scene.set(&[(option, value)]);
        scene.reload(&["2 is in force"]);
        gate.open();
        let began = Instant::now();
        let TestInstance { engine, common } = &mut scene.instance;
        let answer = loop {
            if let Some(answer) = engine.collect(common, clock::now()).pop() {
                break answer;
            }
            assert!(began.elapsed() < PATIENCE);
            std::thread::yield_now();
        };
        assert_eq!(answer.admission.is_some(), counts, "{option}");
        let lines = scene.log.take();
        let told = lines
            .iter()
            .filter(|(_, line)| line.contains("[login-pending]"));
        assert_eq!(told.count(), usize::from(!counts), "{option}: {lines:?}");
        drop(answer);
        let _ = scene.password(2);
        assert_eq!(scene.asked(), 2, "{option}: it is not remembered");
    }
}

/// A secret that the tenant has replaced makes it refuse the application. After SIGHUP that proves nothing any more.
#[test]
fn a_late_refusal_of_the_old_secret_locks_nobody_out() {
    let mut scene = Scene::online(&[]);
    scene
        .tenant
        .configure(|tenant| tenant.client_secret = "another".repeat(8));
    let gate = ResponseGate::new();
    scene
        .tenant
        .once(Endpoint::Token, Behaviour::Gate(gate.clone()));
    let TestInstance { engine, common } = &mut scene.instance;
    let Step::Wait(wait) = engine.authenticate(common, &login(1), clock::now()) else {
        panic!("the tenant is asked")
    };
    engine.delay(common, wait, clock::now()).unwrap();
    assert!(gate.wait_for(1, PATIENCE));
    scene.write("secret", &"another".repeat(8));
    scene.reload(&["2 is in force"]);
    gate.open();
    let began = Instant::now();
    let TestInstance { engine, common } = &mut scene.instance;
    while engine.collect(common, clock::now()).is_empty() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert!(scene.password(2).is_ok(), "{:?}", scene.log.take());
}

/// The endpoints are discovered again. If that fails, those that were found before stay in use.
#[test]
fn the_endpoints_are_discovered_again() {
    let mut scene = Scene::new("discovery", &[]);
    assert_eq!(scene.tenant.count(Endpoint::Discovery), 1);
    let jwks = scene.tenant.count(Endpoint::Jwks);
    scene.tenant.once(Endpoint::Discovery, Behaviour::Html(503));
    // The line may be there before the reload ends.
    let mut lines = scene.reload(&["nothing has changed"]);
    assert!(scene.tenant.wait_for(Endpoint::Jwks, jwks + 1, PATIENCE));
    assert_eq!(scene.tenant.count(Endpoint::Discovery), 2);
    lines.extend(scene.log.take().into_iter().map(|(_, line)| line));
    let told = |line: &String| line.contains("those that were discovered before stay in use");
    assert!(lines.iter().any(told), "{lines:?}");
    scene.set(&[("timeout", "10")]);
    scene.reload(&["2 is in force"]);
    assert!(scene.tenant.wait_for(Endpoint::Discovery, 3, PATIENCE));
    assert!(scene.tenant.wait_for(Endpoint::Jwks, jwks + 2, PATIENCE));
}
