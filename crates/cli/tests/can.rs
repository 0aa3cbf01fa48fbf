//! `mosquitto-auth0 can`, as an operator runs it.

mod common;

use common::{Conf, auth0};
use serde_json::json;
use testbed::signing::{Alg, now, shared_key};

const POLICY: &str = "[[rule]]\nname = \"own\"\nallow.both = \"dev/%c/#\"\n\n\
                      [[rule]]\nname = \"keepers\"\nwhen.permission = \"keep\"\nallow.subscribe = \"zoo/#\"\n";

/// Returns a configuration with a policy file and a file of keys.
fn conf() -> Conf {
    let conf = Conf::new();
    let policy = conf.write("policy.toml", POLICY);
    let keys = conf.write(
        "keys.json",
        json!({"keys": [shared_key(0).jwk()]}).to_string(),
    );
    conf.configure(&format!(
        "plugin_opt_issuer https://t.example/\nplugin_opt_audience https://mqtt.example/\n\
         plugin_opt_jwks_file {keys}\nplugin_opt_policy_file {policy}\n"
    ));
    conf
}

fn token(claims: serde_json::Value) -> String {
    let mut all = json!({"iss": "https://t.example/", "aud": "https://mqtt.example/", "sub": "u", "exp": now() + 3600});
    let members = all.as_object_mut().unwrap();
    members.extend(claims.as_object().unwrap().clone());
    let header = json!({"alg": "RS256", "kid": shared_key(0).kid()});
    shared_key(0).sign(Alg::Rs256, header, all)
}

#[test]
fn a_verified_token_is_allowed_or_denied_by_the_exit_code() {
    let conf = conf();
    let token = conf.write("token", token(json!({"permissions": ["publish:a/b"]})));
    let can = |words: &[&str]| {
        let mut all = vec!["can", conf.path(), "--token", &token, "--client-id", "pump"];
        all.extend(words);
        auth0(&all)
    };
    can(&["publish", "a/b"]).exits(0).says("allow  publish a/b");
    can(&["publish", "dev/pump/x"]).exits(0);
    can(&["publish", "dev/pomp/x", "--explain"])
        .exits(1)
        .says("deny   publish dev/pomp/x")
        .says("no rule applies")
        .says("policy.toml:1: rule 'own' allows 'dev/%c/#'")
        .says("but level 2 is 'pomp', and 'pump' in its filter");
    can(&["subscribe", "zoo/#", "--explain"])
        .exits(1)
        .says("policy.toml:5: rule 'keepers' allows 'zoo/#'")
        .says("but its claim 'permissions' does not have 'keep'");
    can(&["publish", "$SYS/x", "--explain"])
        .exits(1)
        .says("the broker itself");
    let shown = can(&["publish", "a/b", "--json"]).exits(0).json();
    assert_eq!(shown["verified"], true);
    assert_eq!(shown["answers"][0]["decision"], "allow");
    assert_eq!(shown["answers"][0]["rule"]["claim"], "permissions");
    can(&["publish", "a/b", "--at", "2020-01-01T00:00:00Z"]).exits(0);
    can(&["publish", "a/b", "--at", &(now() + 7200).to_string()])
        .exits(1)
        .says("[token-expired]");
}

#[test]
fn a_requirement_that_is_not_met_is_the_answer() {
    let conf = conf();
    conf.write(
        "policy.toml",
        format!(
            "{POLICY}\n[[require]]\nname = \"e-mail\"\nthat.claim = {{ name = \"email_verified\", is = true }}\n\
             message = \"confirm your e-mail address first\"\n"
        ),
    );
    let asked = |claims: &str| {
        let claims = conf.write("claims", claims);
        auth0(&[
            "can",
            conf.path(),
            "--claims",
            &claims,
            "--client-id",
            "pump",
            "publish",
            "dev/pump/x",
        ])
    };
    asked(r#"{"sub": "u"}"#)
        .exits(1)
        .says("[claim-required]")
        .says("requirement 'e-mail', because its claim 'email_verified' is not 'true': confirm your e-mail address first");
    asked(r#"{"sub": "u", "email_verified": true}"#).exits(0);
}

#[test]
fn claims_stand_for_a_token_and_are_said_to_be_unverified() {
    let conf = conf();
    let claims = conf.write("claims", r#"{"sub": "u", "permissions": ["keep"]}"#);
    let can = |words: &[&str]| {
        let mut all = vec!["can", conf.path(), "--claims", &claims];
        all.extend(words);
        auth0(&all)
    };
    can(&["receive", "zoo/1"])
        .exits(0)
        .says("Nobody has verified these claims.");
    let questions = conf.write(
        "questions",
        "# One a line.\n  # And this is none.\nsubscribe --qos 1 zoo/#\n\npublish zoo/1\n",
    );
    can(&["--questions", &questions])
        .exits(1)
        .says("allow  subscribe --qos 1 zoo/#")
        .says("deny   publish zoo/1");
    can(&["--questions", &questions, "--qos", "1"]).exits(2);
    let empty = conf.write("empty", "# Nothing.\n");
    can(&["--questions", &empty])
        .exits(3)
        .complains("asks nothing");
    can(&["publish", "zoo/1", "--at", "18446744073709551615"])
        .exits(2)
        .complains("after the year 9999");
    let wrong = conf.write("claims", r#"{"sub": "u", "aud": "https://other/"}"#);
    auth0(&["can", conf.path(), "--claims", &wrong, "publish", "a"])
        .exits(1)
        .says("[token-audience]");
}

#[test]
fn a_question_that_cannot_be_answered_has_an_exit_code_of_its_own() {
    let conf = conf();
    auth0(&["can", conf.path(), "publish", "a"])
        .exits(3)
        .complains("nothing says who the device is");
    let claims = conf.write("claims", "[]");
    auth0(&["can", conf.path(), "--claims", &claims, "publish", "a"])
        .exits(3)
        .complains("is not a JSON object");
    auth0(&["can", conf.path(), "--claims", &claims, "--qos", "3"]).exits(2);
    auth0(&["can", conf.path(), "--claims", &claims])
        .exits(3)
        .complains("nothing is asked");
    conf.configure("plugin_opt_domain t.example\n");
    auth0(&["can", conf.path(), "--claims", &claims, "publish", "a"])
        .exits(3)
        .complains("audience is missing");
}

/// Each listener may have an instance of its own, and the broker puts a mount point in front of topics.
#[test]
fn the_port_says_which_rules_count() {
    let conf = Conf::new();
    let claims = conf.write("claims", r#"{"sub": "u"}"#);
    let policy = conf.write(
        "policy.toml",
        "[[rule]]\nname = \"n\"\nallow.both = \"north/a\"\n",
    );
    let plugin = "plugin /usr/lib/libmosquitto_auth0.so\nplugin_opt_issuer https://t.example/\n\
                  plugin_opt_audience a\n";
    conf.write(
        "mosquitto.conf",
        format!(
            "per_listener_settings true\nlistener 1883\nmount_point north/\n{plugin}plugin_opt_policy_file {policy}\n\
             listener 1884\n{plugin}listener 1885\n"
        ),
    );
    let can = |port: &str| {
        auth0(&[
            "can",
            conf.path(),
            "--claims",
            &claims,
            "--offline",
            "--port",
            port,
            "publish",
            "a",
        ])
    };
    can("1883").exits(0);
    can("1884").exits(1);
    can("1885").exits(3).complains("does not have the plugin");
    can("1886")
        .exits(3)
        .complains("no listener has the port 1886");
}

/// The plugin may stand above the listeners, and serve all of them.
#[test]
fn without_a_port_the_mount_point_is_that_of_every_listener() {
    let conf = Conf::new();
    let claims = conf.write(
        "claims",
        r#"{"sub": "u", "permissions": ["publish:north/a"]}"#,
    );
    let can = |listeners: &str, more: &[&str]| {
        let plugin = "plugin /usr/lib/mosquitto_auth0.so\nplugin_opt_issuer https://t.example/\n\
                      plugin_opt_audience a\n";
        conf.write("mosquitto.conf", format!("{plugin}{listeners}"));
        let who = ["can", conf.path(), "--claims", &claims, "--offline"];
        auth0(&[&who, more, &["publish", "a"]].concat())
    };
    can("listener 1883\nmount_point north/\n", &[]).exits(0);
    let two = "listener 1883\nmount_point north/\nlistener 1884\n";
    can(two, &[]).exits(3).complains("--port PORT");
    can(two, &["--port", "1883"]).exits(0);
    can(two, &["--port", "1884"]).exits(1);
}

#[test]
fn an_instance_that_is_not_looked_at_is_named() {
    let conf = Conf::new();
    let claims = conf.write("claims", r#"{"sub": "u"}"#);
    let plugin = "plugin /usr/lib/mosquitto_auth0.so\nplugin_opt_issuer https://t.example/\nplugin_opt_audience";
    conf.write(
        "mosquitto.conf",
        format!(
            "per_listener_settings true\nlistener 1883\n{plugin} a\nlistener 1884\n{plugin} b\n"
        ),
    );
    let said = "mosquitto.conf:3, and not about";
    let can = ["can", conf.path(), "--claims", &claims, "--offline"];
    auth0(&[&can[..], &["publish", "a"]].concat()).complains(said);
    auth0(&["lint", conf.path()]).complains(said);
    auth0(&["doctor", conf.path(), "--offline"]).complains(said);
}

/// Rules may ask for the certificate that a device shows.
#[test]
fn a_certificate_is_read_from_a_file_and_counts() {
    let shown = testbed::pki::Authority::new("pump-1");
    let der = shown.der().to_vec();
    let print: String = auth::secret::sha256(&der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let conf = Conf::new();
    let policy = conf.write(
        "policy.toml",
        format!("[[rule]]\nname = \"shown\"\nwhen.certificate = \"{print}\"\nallow.both = \"a\"\n"),
    );
    conf.configure(&format!(
        "plugin_opt_issuer https://t.example/\nplugin_opt_audience a\nplugin_opt_policy_file {policy}\n"
    ));
    let claims = conf.write("claims", r#"{"sub": "u"}"#);
    let pem = conf.write("device.pem", shown.pem());
    let der = conf.write("device.der", der);
    let key = conf.write(
        "key.pem",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let run = |command: &str, more: &[&str]| {
        let who = [command, conf.path(), "--claims", &claims, "--offline"];
        auth0(&[&who, more].concat())
    };
    run("can", &["publish", "a"]).exits(1);
    for file in [&pem, &der] {
        run("can", &["--certificate", file, "publish", "a"]).exits(0);
        run("login", &["--certificate", file])
            .exits(0)
            .says("rule 'shown' allows 'a'")
            .never_says("What does not");
    }
    run("can", &["--certificate", &key, "publish", "a"])
        .exits(3)
        .complains("key.pem holds no certificate");
    let device = "[[device]]\nclaims = { sub = 'u' }\n";
    let file = conf.write(
        "expected.toml",
        format!("{device}may_not = ['publish a']\n{device}certificate = 'device.pem'\nmay = ['publish a']\n"),
    );
    auth0(&["test", &file, "--conf", conf.path(), "--offline"]).exits(0);
}

/// `doctor` and `lint` look at the instance of the listener that is named.
#[test]
fn the_port_says_which_instance_is_examined() {
    let conf = Conf::new();
    let hidden = "[[rule]]\nname = \"n\"\nallow.both = \"a\"\n".repeat(2);
    let policy = conf.write("policy.toml", hidden.replacen("\"n\"", "\"m\"", 1));
    let plugin =
        "plugin /usr/lib/mosquitto_auth0.so\nplugin_opt_audience a\nplugin_opt_issuer https://";
    conf.write(
        "mosquitto.conf",
        format!(
            "per_listener_settings true\nlistener 1883\n{plugin}one.example/\nlistener 1884\n\
             {plugin}two.example/\nplugin_opt_policy_file {policy}\n"
        ),
    );
    let lint = |port: &str| auth0(&["lint", conf.path(), "--port", port]);
    lint("1883").says("There is no policy file");
    lint("1884").says("policy.toml:4: rule 'n'");
    lint("1885")
        .exits(3)
        .complains("no listener has the port 1885");
    let doctor =
        |port: &str| auth0(&["doctor", conf.path(), "--offline", "--json", "--port", port]);
    doctor("1883").says("one.example").never_says("two.example");
    doctor("1884").says("two.example").never_says("one.example");
    doctor("1885").exits(3);
}

/// The broker knows its users' passwords, and the tenant is not asked about them.
#[test]
fn users_of_the_broker_are_left_to_it() {
    let conf = Conf::new();
    let users = conf.write("users", "meter:$7$x\n");
    conf.configure(&format!(
        "plugin_opt_issuer https://t.invalid/\nplugin_opt_audience a\nplugin_opt_client_id c\n\
         plugin_opt_client_secret s\nplugin_opt_on_other defer\npassword_file {users}\n"
    ));
    let password = conf.write("password", "secret");
    let login = |name: &str| {
        let who = ["--username", name, "--password-file", &password];
        auth0(&[&["login", conf.path()], &who[..]].concat())
    };
    login("meter").exits(3).says("others decide");
    login("thermostat").never_says("others decide");
    // It might be a local user's.
    std::fs::remove_file(&users).unwrap();
    login("meter").exits(3).complains("users cannot be read");
}

/// Nothing is asked of a tenant without a client ID, and others may know the user.
#[test]
fn who_signs_in_elsewhere_is_left_to_others() {
    let conf = Conf::new();
    conf.configure(
        "plugin_opt_issuer https://t.example/\nplugin_opt_audience a\nplugin_opt_on_other defer\n",
    );
    let password = conf.write("password", "secret");
    let who = ["--username", "u", "--password-file", &password, "--offline"];
    let said = "others decide: `on_other` is `defer`";
    auth0(&[&["can", conf.path()], &who[..], &["publish", "a"]].concat())
        .exits(3)
        .says(said)
        .says("defer  publish a");
    auth0(&[&["login", conf.path()], &who[..]].concat())
        .exits(3)
        .says(said);
}
