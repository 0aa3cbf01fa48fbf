//! `mosquitto-auth0 test` and `lint`, as an operator runs them.

mod common;

use common::{Conf, auth0};
use testbed::tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, PASSWORD, Tenant};

fn conf(policy: &str, more: &str) -> Conf {
    let conf = Conf::new();
    let policy = conf.write("policy.toml", policy);
    conf.configure(&format!(
        "plugin_opt_issuer https://t.example/\nplugin_opt_audience a\nplugin_opt_policy_file {policy}\n{more}"
    ));
    conf
}

const POLICY: &str = "[[rule]]\nname = \"own\"\nallow.both = \"dev/%c/#\"\n\n\
                      [[rule]]\nname = \"night\"\nwhen.time = \"22:00-06:00\"\nallow.publish = \"door\"\n";

#[test]
fn expectations_that_are_met_end_with_0_and_others_are_explained() {
    let conf = conf(POLICY, "");
    conf.write(
        "claims.json",
        r#"{"sub": "u", "permissions": ["publish:a"]}"#,
    );
    let met = conf.write(
        "met.toml",
        "[[device]]\nname = 'pump-1'\nclaims = { sub = 'u' }\nat = 2026-03-01T12:00:00Z\n\
         may = ['publish dev/pump-1/x', 'subscribe --qos 1 dev/pump-1/#']\n\
         may_not = ['publish dev/pump-2/x', 'publish door']\n\n\
         [[device]]\nclaims = 'claims.json'\nat = 2026-03-01T23:00:00Z\nmay = ['publish door', 'publish a']\n\n\
         [[device]]\nclaims = { sub = 'u', aud = 'other' }\nlet_in = false\n",
    );
    let test = |file: &str| auth0(&["test", file, "--conf", conf.path(), "--offline"]);
    test(&met)
        .exits(0)
        .says("Met: 9 expectations of 3 devices.");
    let unmet = conf.write(
        "unmet.toml",
        "[[device]]\nname = 'pump-1'\nclaims = { sub = 'u' }\nmay = [\n'publish dev/pump-2/x',\n'publish dev/pump-1/x']\n\
         may_not = ['receive dev/pump-1/x']\n[[device]]\nname = 'x'\nclaims = { sub = '' }\n",
    );
    test(&unmet)
        .exits(1)
        .says("unmet.toml:5: 'pump-1' may not publish dev/pump-2/x")
        .says("policy.toml:1: rule 'own' allows 'dev/%c/#'")
        .says("unmet.toml:7: 'pump-1' may receive dev/pump-1/x")
        .says("unmet.toml:8: 'x' is not let in: [token-")
        .says("Not met: 3, out of 5 expectations of 2 devices.");
    let json = auth0(&["test", &unmet, "--conf", conf.path(), "--offline", "--json"]).json();
    assert_eq!(
        json["failed"][0]["answer"]["question"],
        "publish dev/pump-2/x"
    );
    assert_eq!(json["failed"][0]["expected"], true);
    assert_eq!(json["failed"][1]["expected"], false);
    assert_eq!(json["expectations"], 5);
    let one = conf.write("one.toml", "[[device]]\nclaims = { sub = 'u' }\n");
    test(&one).exits(0).says("Met: 1 expectation of 1 device.");
    let wrong = conf.write("wrong.toml", "[[device]]\nclaims = {}\nmay = ['x']\n");
    test(&wrong)
        .exits(3)
        .complains("wrong.toml:3: 'x' is no question");
}

/// An expectation of which nobody knows whether it is met is not met.
#[test]
fn what_nobody_answers_meets_no_expectation() {
    let tests = |options: &str, let_in: bool, line: &str| {
        let conf = Conf::new();
        conf.configure(&format!(
            "plugin_opt_issuer https://t.example/\nplugin_opt_audience a\n{options}"
        ));
        // {"alg":"RS256","kid":"k"}, {} and no signature that could be verified.
        conf.write("token", "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.c2ln");
        let file = conf.write(
            "expected.toml",
            format!("[[device]]\nname = 'd'\nlet_in = {let_in}\n{line}\n"),
        );
        auth0(&["test", &file, "--conf", conf.path(), "--offline"])
    };
    for let_in in [true, false] {
        tests("", let_in, "token_file = 'token'")
            .exits(3)
            .says("expected.toml:1: whether 'd' is let in is unknown: [keys-unavailable]")
            .says("Unknown: 1, out of 1 expectation of 1 device.");
    }
    let others = "claims = { sub = 'u' }\nmay_not = ['publish a']";
    tests("plugin_opt_acl defer\n", true, others)
        .exits(3)
        .says("expected.toml:5: whether 'd' may publish a is unknown");
}

#[test]
fn devices_of_one_file_do_not_influence_each_other() {
    let conf = conf(POLICY, "");
    let file = conf.write(
        "same.toml",
        "[[device]]\nclient_id = 'pump'\nclaims = { sub = 'u' }\n\
         [[device]]\nclient_id = 'pump'\nclaims = { sub = 'v' }\n",
    );
    auth0(&["test", &file, "--conf", conf.path(), "--offline"]).exits(0);
}

#[test]
fn suspicious_rules_are_found_with_their_lines() {
    let rules = "[[rule]]\nname = \"all\"\nallow.both = \"x/#\"\n[[rule]]\nname = \"secret\"\ndeny.both = \"x/secret\"\n\
                 [[rule]]\nname = \"port\"\nwhen.port = 8883\nallow.both = \"y\"\n";
    let conf = conf(rules, "");
    let lint = |words: &[&str]| auth0(&[&["lint"], words].concat());
    lint(&[conf.path()])
        .exits(1)
        .says("policy.toml:4: rule 'secret' never decides: rule 'all' (line 1) comes first and covers it")
        .says("policy.toml:7: rule 'port' is for port 8883, and there is no such listener");
    let required = conf.write(
        "required.toml",
        "[[require]]\nname = \"tls\"\nwhen.client_id = \"a*\"\nthat.port = 8883\nmessage = \"use TLS\"\n",
    );
    lint(&[conf.path(), "--policy-file", &required])
        .exits(1)
        .says("required.toml:1: requirement 'tls' depends on the client ID")
        .says("requirement 'tls' is for port 8883, and there is no such listener")
        .says("no device that it concerns can sign in");
    let file = conf.write("other.toml", POLICY);
    lint(&[conf.path(), "--policy-file", &file])
        .exits(1)
        .says("rule 'own' depends on the client ID");
    // Without a configuration nobody knows whether client IDs are bound.
    lint(&["/gone.conf", "--policy-file", &file])
        .exits(0)
        .says("Nothing is suspicious");
    let conf = self::conf(POLICY, "plugin_opt_client_id_claim device\n");
    lint(&[conf.path()]).exits(0).says("Nothing is suspicious");
}

/// Wrong passwords of one device must not count against the next one, and no login is remembered for it.
#[test]
fn the_order_of_devices_does_not_matter() {
    use std::os::unix::fs::PermissionsExt;
    let tenant = Tenant::start();
    let conf = Conf::new();
    let [secret, right, wrong] = [
        ("secret", CLIENT_SECRET),
        ("right", PASSWORD),
        ("wrong", "x"),
    ]
    .map(|(name, text)| {
        let path = conf.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    });
    conf.configure(&format!(
        "plugin_opt_domain {}\nplugin_opt_ca_file {}\nplugin_opt_audience {AUDIENCE}\n\
         plugin_opt_client_id {CLIENT_ID}\nplugin_opt_client_secret_file {secret}\n\
         plugin_opt_connection {CONNECTION}\n",
        tenant.domain(),
        tenant.ca_file().display(),
    ));
    let device = |password: &str, let_in: bool| {
        format!(
            "[[device]]\nclient_id = 'd'\nusername = '{DEVICE}'\npassword_file = '{password}'\nlet_in = {let_in}\n"
        )
    };
    let wrong = device(&wrong, false).repeat(3);
    let right = device(&right, true);
    for order in [[&right, &wrong], [&wrong, &right]] {
        let file = conf.write("order.toml", order.map(String::as_str).concat());
        auth0(&["test", &file, "--conf", conf.path()])
            .exits(0)
            .says("Met: 4 expectations of 4 devices.");
    }
}

/// Each issuer may have a policy file of its own.
#[test]
fn rules_of_an_issuer_are_looked_at_in_its_own_file() {
    let conf = Conf::new();
    conf.write(
        "shared.toml",
        "[[rule]]\nname = \"shared\"\ndeny.both = \"x\"\n",
    );
    let own = conf.write(
        "own.toml",
        "# Two rules.\n[[rule]]\nname = \"own\"\ndeny.both = \"x\"\n\
         [[rule]]\nname = \"twice\"\ndeny.both = \"x\"\n",
    );
    let shared = conf.at("shared.toml");
    let more = conf.write(
        "more.toml",
        format!(
            "[[issuer]]\nissuer = 'https://b.example/'\naudience = 'b'\npolicy_file = '{own}'\n"
        ),
    );
    conf.configure(&format!(
        "plugin_opt_issuer https://a.example/\nplugin_opt_audience a\n\
         plugin_opt_policy_file {}\nplugin_opt_config_file {more}\n",
        shared.display()
    ));
    let device = |issuer: &str| {
        format!(
            "[[device]]\nclaims = {{ sub = 'u', iss = 'https://{issuer}.example/' }}\nmay = ['publish x']\n"
        )
    };
    let file = conf.write("expected.toml", device("a") + &device("b"));
    auth0(&["test", &file, "--conf", conf.path(), "--offline"])
        .exits(1)
        .says("shared.toml:1")
        .says("own.toml:2");
    auth0(&["lint", conf.path()])
        .exits(0)
        .says("own.toml:5: rule 'twice'");
    let json = auth0(&["lint", conf.path(), "--json"]).json();
    assert_eq!(json["files"].as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!(json["findings"][0]["file"], own, "{json}");
}
