//! Several issuers beside each other: a token is accepted exactly if the one issuer that it names accepts it alone.

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use auth::{
    client::ClientKey,
    clock,
    config::Config,
    engine::{Action, Connect, Step},
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    policy_file::BrokerFeatures,
    refusal::Reason,
};
use common::TestInstance;
use serde_json::json;
use testbed::{
    signing::Alg,
    tenant::{Behaviour, DEVICE, Endpoint, PASSWORD, Tenant},
};

/// An issuer in a configuration, with keys of its own.
struct Issuer {
    tenant: Tenant,
    audience: &'static str,
    /// Further lines of its table.
    lines: &'static str,
}

/// The file of options.
const OPTIONS: &str = "auth0.toml";

const FOREIGN: &str = "https://foreign.example/";

/// Issuers that differ in all that a token is verified with.
fn issuers() -> Vec<Issuer> {
    let lines = [
        "",
        "algorithms = ['PS256']\nusername_claim = 'name'",
        "algorithms = ['RS256', 'PS256']\nclient_id_claim = 'device'\nusername_prefix = 'b-'",
    ];
    let audiences = [
        "https://a.example/",
        "https://b.example/",
        "https://b.example/",
    ];
    let lines = lines.into_iter().zip(audiences);
    lines
        .map(|(lines, audience)| Issuer {
            tenant: Tenant::builder().fresh_keys().start().unwrap(),
            audience,
            lines,
        })
        .collect()
}

impl Issuer {
    /// Returns its table. The keys are in a file, so that nothing is fetched.
    fn table(&self, folder: &Path) -> String {
        let keys = folder.join(format!("{}.json", self.tenant.port()));
        let mut set = self.tenant.jwks();
        for key in set["keys"].as_array_mut().unwrap() {
            // It is for every algorithm of its kind.
            key.as_object_mut().unwrap().remove("alg");
        }
        fs::write(&keys, set.to_string()).unwrap();
        let (issuer, audience, lines) = (self.tenant.issuer(), self.audience, self.lines);
        let keys = keys.display();
        format!(
            "[[issuer]]\nissuer = '{issuer}'\naudience = '{audience}'\njwks_file = '{keys}'\n{lines}\n"
        )
    }
}

fn write_secret(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Returns an instance with this file of options.
fn instance(folder: &Path, options: &str) -> TestInstance {
    let path = folder.join(OPTIONS);
    fs::write(&path, options).unwrap();
    let path = path.to_str().unwrap();
    let mut instance = common::instance(
        &[("config_file", path)],
        FetchSchedule::default(),
        Log::default(),
    );
    let TestInstance { engine, common } = &mut instance;
    engine.start(common, BrokerFeatures::default()).unwrap();
    instance
}

/// Returns the user name of a client with this token, or why it is refused.
fn sign_in(instance: &mut TestInstance, token: &str) -> Result<String, Reason> {
    match instance.authenticate(&common::connect("d-1", token), clock::now()) {
        Step::Admit(admission) => Ok(admission.username().to_owned()),
        Step::Refuse(refusal) => Err(refusal.reason),
        Step::Wait(_) => panic!("the keys are in files"),
        Step::Keep | Step::Defer => panic!("nobody was in"),
    }
}

#[test]
fn accepts_exactly_what_the_issuer_accepts_alone_that_the_token_names() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers();
    let tables: Vec<_> = issuers.iter().map(|one| one.table(folder.path())).collect();
    let mut alone: Vec<_> = tables
        .iter()
        .map(|one| instance(folder.path(), one))
        .collect();
    let mut together = instance(folder.path(), &tables.concat());
    let mut accepted = 0;
    for signer in &issuers {
        for (place, named) in issuers.iter().enumerate() {
            for audience in ["https://a.example/", "https://b.example/"] {
                for alg in [Alg::Rs256, Alg::Ps256] {
                    for (name, device) in [("n-1", "d-1"), ("", "d-1"), ("n-1", "d-2")] {
                        let token = signer.tenant.mint(DEVICE).alg(alg);
                        let token = token
                            .claim("iss", named.tenant.issuer())
                            .claim("aud", audience)
                            .claim("name", name)
                            .claim("device", device)
                            .sign();
                        let expected = sign_in(&mut alone[place], &token);
                        accepted += usize::from(expected.is_ok());
                        // The second time the token is in the cache.
                        for _ in 0..2 {
                            assert_eq!(sign_in(&mut together, &token), expected);
                        }
                    }
                }
            }
        }
    }
    assert_eq!(
        accepted,
        3 + 2 + 2 * 2,
        "the accepted ones are few but there"
    );
}

#[test]
fn refuses_a_token_that_names_no_issuer_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers();
    let tables: Vec<_> = issuers.iter().map(|one| one.table(folder.path())).collect();
    let mut instance = instance(folder.path(), &tables.concat());
    let token = || {
        issuers[0]
            .tenant
            .mint(DEVICE)
            .claim("aud", issuers[0].audience)
    };
    let foreign = token().claim("iss", FOREIGN).sign();
    let Step::Refuse(refusal) =
        instance.authenticate(&common::connect("d-1", &foreign), clock::now())
    else {
        panic!("it names none")
    };
    let line = refusal.to_string();
    assert_eq!(refusal.reason, Reason::TokenIssuer);
    assert!(line.contains(FOREIGN), "{line}");
    for (token, reason) in [
        (token().without("iss"), Reason::TokenClaims),
        (
            token().claim("iss", json!([issuers[0].tenant.issuer()])),
            Reason::TokenClaims,
        ),
        (token().repeat_claim("iss", FOREIGN), Reason::TokenDouble),
    ] {
        assert_eq!(sign_in(&mut instance, &token.sign()), Err(reason));
    }
    assert_eq!(
        sign_in(&mut instance, "eyJhbGciOiJSUzI1NiJ9.e30.AA"),
        Err(Reason::TokenClaims)
    );
}

/// The same `sub` at two issuers is two accounts.
#[test]
fn an_account_of_one_issuer_cannot_take_a_client_id_of_another_ones() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers();
    let issuers = [&issuers[0], &issuers[2]];
    let tables: Vec<_> = issuers.iter().map(|one| one.table(folder.path())).collect();
    let mut instance = instance(folder.path(), &tables.concat());
    let [first, second] = issuers.map(|one| {
        let token = one.tenant.mint(DEVICE).claim("aud", one.audience);
        token.claim("sub", "same").claim("device", "d-1").sign()
    });
    common::let_in(&mut instance, "d-1", &first);
    let mut connect = common::connect("d-1", &second);
    connect.key = ClientKey(2);
    match instance.authenticate(&connect, clock::now()) {
        Step::Refuse(refusal) => assert_eq!(refusal.reason, Reason::ClientIdHeld),
        _ => panic!("another account has it"),
    }
    connect.password = Some(first.as_bytes());
    let step = instance.authenticate(&connect, clock::now());
    assert!(matches!(step, Step::Admit(_)));
}

#[test]
fn an_issuer_has_the_common_policy_file_or_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers();
    let policy = |name: &str, topic: &str| {
        let path = folder.path().join(name);
        let rule = format!("[[rule]]\nname = 'all'\nallow = {{ subscribe = ['{topic}'] }}\n");
        fs::write(&path, rule).unwrap();
        format!("policy_file = '{}'\n", path.display())
    };
    let common_one = policy("common.toml", "common");
    let own = policy("own.toml", "own");
    let tables = [
        issuers[0].table(folder.path()),
        issuers[2].table(folder.path()) + &own,
    ];
    let options = common_one.clone() + &tables.concat();
    let mut instance = instance(folder.path(), &options);
    let may = |instance: &mut TestInstance, issuer: &Issuer, topic: &str| {
        let token = issuer.tenant.mint(DEVICE).claim("aud", issuer.audience);
        let token = token.claim("device", "d-1").claim("sub", "x").sign();
        common::let_in(instance, "d-1", &token);
        let connect = common::connect("d-1", &token);
        let username = match issuer.lines.contains("b-") {
            true => "b-x",
            false => "x",
        };
        let access = common::access(&connect, username, Action::Subscribe, topic);
        let may = instance.authorize(&access, clock::now()).allows();
        instance.common.forget(ClientKey(1));
        may
    };
    let both = [&issuers[0], &issuers[2]];
    let granted = |instance: &mut TestInstance, topic| both.map(|one| may(instance, one, topic));
    assert_eq!(granted(&mut instance, "common"), [true, false]);
    assert_eq!(granted(&mut instance, "own"), [false, true]);

    // SIGHUP reads both again.
    policy("common.toml", "newer");
    policy("own.toml", "own-newer");
    instance.engine.reload(&mut instance.common, false);
    assert_eq!(granted(&mut instance, "newer"), [true, false]);
    assert_eq!(granted(&mut instance, "own-newer"), [false, true]);
    assert_eq!(granted(&mut instance, "own"), [false, false]);

    // Without its own the second issuer has the common one again, and without any there are no rules.
    let path = folder.path().join(OPTIONS);
    fs::write(&path, options.replace(&own, "")).unwrap();
    instance.engine.reload(&mut instance.common, false);
    assert_eq!(granted(&mut instance, "newer"), [true, true]);
    fs::write(&path, options.replace(&own, "").replace(&common_one, "")).unwrap();
    instance.engine.reload(&mut instance.common, false);
    assert_eq!(granted(&mut instance, "newer"), [false, false]);
}

/// Where there is no common policy file, the rights of who is in lose the rules of one that is gone.
#[test]
fn rules_of_an_own_policy_file_that_is_gone_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers();
    let policy = folder.path().join("own.toml");
    let text = "[[rule]]\nname = 'all'\nallow = { subscribe = ['own'] }\n";
    fs::write(&policy, text).unwrap();
    let own = format!("policy_file = '{}'\n", policy.display());
    let table = issuers[0].table(folder.path());
    let mut instance = instance(folder.path(), &(table.clone() + &own));
    let token = issuers[0]
        .tenant
        .mint(DEVICE)
        .claim("aud", issuers[0].audience);
    common::let_in(&mut instance, "d-1", &token.claim("sub", "x").sign());
    let may = |instance: &mut TestInstance| {
        let connect = common::connect("d-1", "");
        let access = common::access(&connect, "x", Action::Subscribe, "own");
        instance.authorize(&access, clock::now()).allows()
    };
    assert!(may(&mut instance));
    let path = folder.path().join(OPTIONS);
    fs::write(path, table).unwrap();
    instance.engine.reload(&mut instance.common, false);
    assert!(!may(&mut instance));
}

/// Tokens of an issuer that hangs wait for its keys. Those of the other one do not.
#[test]
fn an_issuer_that_is_down_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers();
    let down = &issuers[0];
    down.tenant.on(Endpoint::Jwks, Behaviour::Hang);
    let ca_file = down.tenant.ca_file().display();
    let (domain, audience) = (down.tenant.domain(), down.audience);
    let options = format!(
        "domain = '{domain}'\naudience = '{audience}'\nca_file = '{ca_file}'\n{}",
        issuers[2].table(folder.path())
    );
    let mut instance = instance(folder.path(), &options);
    let token = |issuer: &Issuer| {
        let token = issuer.tenant.mint(DEVICE).claim("aud", issuer.audience);
        token.claim("device", "d-1").sign()
    };
    let waiting = token(down);
    let connect: Connect = common::connect("d-1", &waiting);
    let Step::Wait(wait) = instance.authenticate(&connect, clock::now()) else {
        panic!("its keys are not here")
    };
    let (engine, shared) = (&mut instance.engine, &mut instance.common);
    engine.delay(shared, wait, clock::now()).unwrap();
    assert!(sign_in(&mut instance, &token(&issuers[2])).is_ok());
    // A key that the good issuer does not know is no reason to wait for the other one.
    let unknown = issuers[2]
        .tenant
        .mint(DEVICE)
        .claim("aud", issuers[2].audience);
    let unknown = unknown.header("kid", "unknown").sign();
    assert_eq!(
        sign_in(&mut instance, &unknown),
        Err(Reason::TokenKeyUnknown)
    );
}

#[test]
fn a_password_goes_to_the_issuer_with_the_application() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers();
    let secret = folder.path().join("secret");
    write_secret(&secret, &issuers[0].tenant.settings().client_secret);
    let asked = &issuers[0].tenant;
    let table = format!(
        "[[issuer]]\ndomain = '{}'\naudience = '{}'\nca_file = '{}'\nclient_id = '{}'\nclient_secret_file = '{}'\n",
        asked.domain(),
        testbed::tenant::AUDIENCE,
        asked.ca_file().display(),
        asked.settings().client_id,
        secret.display(),
    );
    let options = issuers[2].table(folder.path()) + &table;
    let mut instance = instance(folder.path(), &options);
    let mut connect = common::connect("d-1", PASSWORD);
    connect.client.username = Some(DEVICE);
    let Step::Wait(wait) = instance.authenticate(&connect, clock::now()) else {
        panic!("the tenant has to be asked")
    };
    assert!(wait.is_login());
    let (engine, shared) = (&mut instance.engine, &mut instance.common);
    let admitted = engine.wait(shared, wait, clock::now);
    let refusal = admitted
        .map(|one| one.username().to_owned())
        .map_err(|why| why.to_string());
    assert_eq!(refusal, Ok(DEVICE.into()));
    assert_eq!(asked.count(Endpoint::Token), 1);
    assert_eq!(issuers[2].tenant.requests().len(), 0);
}

#[test]
fn a_wrong_table_is_a_mistake_that_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(OPTIONS);
    let mistake = |options: &str| {
        fs::write(&path, options).unwrap();
        let options = vec![("config_file".into(), path.display().to_string())];
        Config::read(options).unwrap_err().to_string()
    };
    let table = "[[issuer]]\nissuer = 'https://a.example/'\naudience = 'a'\n";
    let other = "[[issuer]]\ndomain = 'b.example'\naudience = 'b'\n";
    for (options, line, text) in [
        (
            format!("{table}{table}"),
            5,
            "option issuer, value 'https://a.example/'",
        ),
        (
            format!("{other}[[issuer]]\nissuer = 'https://b.example/'\naudience='x'\n"),
            5,
            "same iss",
        ),
        (
            format!("{table}{other}leeway = 5\n"),
            7,
            "about the whole broker",
        ),
        (
            format!("{table}[[issuer]]\ndomain = 'c.example'\n"),
            4,
            "option audience is missing",
        ),
        (
            format!("{table}{other}client_id = 'c'\n"),
            4,
            "option client_secret_file is missing",
        ),
        (
            format!("{table}{other}audiense = 'c'\n"),
            7,
            "did you mean audience?",
        ),
        (
            format!("audience = 'x'\n{table}"),
            1,
            "there are only [[issuer]] tables",
        ),
        (
            format!("{table}{other}username_prefix = 'a/b'\n"),
            7,
            "option username_prefix",
        ),
    ] {
        let why = mistake(&options);
        assert!(
            why.contains(text) && why.contains(&format!("line {line} ")),
            "{options}\n{why}"
        );
    }
    let one = "[issuer]\nissuer = 'https://a.example/'\naudience = 'a'\n";
    assert!(mistake(one).contains("[[issuer]]"), "{}", mistake(one));
}

#[test]
fn two_issuers_cannot_both_check_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    write_secret(&secret, "a secret");
    let secret = secret.display();
    let table = |domain: &str| {
        format!(
            "[[issuer]]\ndomain = '{domain}'\naudience = 'a'\nclient_id = 'c-{domain}'\nclient_secret_file = '{secret}'\n"
        )
    };
    let path = folder.path().join(OPTIONS);
    fs::write(&path, table("a.example") + &table("b.example")).unwrap();
    let options = vec![("config_file".into(), path.display().to_string())];
    let why = Config::read(options).unwrap_err().to_string();
    assert!(
        why.contains("'c-b.example'") && why.contains("one issuer only"),
        "{why}"
    );
}
