//! `tenant export`: the files, read by the tools that they are for where these are installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

const POLICY: &str = r#"
roles_claim = "https://mqtt.example/roles"

[[rule]]
name = "gardeners water"
when = { role = ["gardener", "head ${gardener}"] }
allow = { both = ["valves/#"] }

[[rule]]
name = "those who may read reports"
when = { permission = "read:reports" }
allow = { subscribe = ["reports/#"] }
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
        let conf = format!("plugin /usr/lib/mosquitto_auth0.so\n{options}\n");
        fs::write(folder.path().join("mosquitto.conf"), conf).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"));
        command
            .args(["tenant", "export"])
            .arg(self.path("mosquitto.conf"));
        command.arg("--to").arg(self.path("tenant")).args(more);
        command.output().unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path("tenant").join(name)).unwrap()
    }
}

/// Everything that can be in the files.
fn everything(folder: &Path) -> String {
    [
        "plugin_opt_domain example.eu.auth0.com",
        "plugin_opt_audience https://mqtt.example/,https://other.example/",
        "plugin_opt_client_id abc",
        "plugin_opt_client_secret_file /etc/mosquitto/auth0.secret",
        "plugin_opt_connection Thermostats",
        "plugin_opt_client_id_claim https://mqtt.example/device_id",
        "plugin_opt_admin_permission mqtt:admin",
        &format!(
            "plugin_opt_policy_file {}",
            folder.join("policy.toml").display()
        ),
    ]
    .join("\n")
}

fn full() -> Place {
    let place = Place::new("");
    let options = everything(place.folder.path());
    fs::write(
        place.path("mosquitto.conf"),
        format!("plugin /usr/lib/mosquitto_auth0.so\n{options}\n"),
    )
    .unwrap();
    place
}

/// Returns what a program of another language makes of a text, or `None` where it is not installed.
fn read_by(program: &str, arguments: &[&str], text: &str) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if error.contains("No module named") {
        return None;
    }
    assert!(output.status.success(), "{program}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_same_configuration_yields_the_same_files() {
    let place = full();
    assert_eq!(
        place.export(&["--check"]).status.code(),
        Some(1),
        "there is none yet"
    );
    assert_eq!(place.export(&[]).status.code(), Some(0));
    let before = ["tenant.yaml", "main.tf", "actions/mqtt-claims.js"].map(|name| place.text(name));
    assert_eq!(place.export(&["--check"]).status.code(), Some(0));
    assert_eq!(place.export(&[]).status.code(), Some(0));
    assert_eq!(
        before,
        ["tenant.yaml", "main.tf", "actions/mqtt-claims.js"].map(|name| place.text(name))
    );

    let policy = POLICY.replace("read:reports", "read:secrets");
    fs::write(place.path("policy.toml"), policy).unwrap();
    let checked = place.export(&["--check"]);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(
        said.contains("main.tf differs") && said.contains("mqtt-claims.js is up to date"),
        "{said}"
    );
    assert_eq!(before[1], place.text("main.tf"), "nothing is written");
}

/// An import must not take the private key away from an application that has one.
#[test]
fn an_application_with_a_private_key_keeps_it() {
    let start = "plugin_opt_domain d\nplugin_opt_audience a\nplugin_opt_client_id c\n";
    let exported = |more: &str| {
        let place = Place::new(&format!("{start}{more}"));
        place.export(&[]);
        (place.text("tenant.yaml"), place.text("main.tf"))
    };
    let (yaml, terraform) = exported("plugin_opt_client_secret_file /s");
    assert!(yaml.contains("token_endpoint_auth_method: \"client_secret_post\""));
    assert!(terraform.contains("authentication_method = \"client_secret_post\""));
    let (yaml, _) = exported("plugin_opt_token_endpoint_auth_method client_secret_basic");
    assert!(yaml.contains("token_endpoint_auth_method: \"client_secret_basic\""));
    let (yaml, terraform) = exported(
        "plugin_opt_client_assertion_key_file /k\nplugin_opt_client_assertion_algorithm PS256",
    );
    assert!(!yaml.contains("client_secret"), "{yaml}");
    assert!(yaml.contains("private_key_jwt (PS256)"), "{yaml}");
    assert!(!terraform.contains("client_secret"), "{terraform}");
    for piece in [
        "authentication_method = \"private_key_jwt\"",
        "algorithm       = \"PS256\"",
        "pem             = file(\"${path.module}/mqtt-broker.pub.pem\")",
    ] {
        assert!(terraform.contains(piece), "{terraform}");
    }
    read_by("terraform", &["fmt", "-check", "-"], &terraform);
    let read = "import sys, yaml; yaml.safe_load(sys.stdin)";
    read_by("python3", &["-c", read], &yaml);
}

/// The Deploy CLI replaces the permissions of an API and of a role by what is listed, and by nothing.
#[test]
fn an_import_takes_nothing_away_that_the_configuration_does_not_mention() {
    let place = Place::new("plugin_opt_domain d\nplugin_opt_audience a");
    place.export(&[]);
    let yaml = place.text("tenant.yaml");
    assert!(
        !yaml.contains("scopes:") && !yaml.contains("roles:"),
        "{yaml}"
    );

    let place = full();
    place.export(&[]);
    let (yaml, terraform) = (place.text("tenant.yaml"), place.text("main.tf"));
    assert!(yaml.contains("# An import replaces the permissions"));
    assert!(!yaml.contains("name: \"gardener\"") && !yaml.contains("permissions: []"));
    assert!(!terraform.contains("\"gardener\""), "{terraform}");
    for adds in ["auth0_resource_server_scope", "auth0_role_permission"] {
        assert!(terraform.contains(&format!("resource \"{adds}\" ")));
    }
}

#[test]
fn the_deploy_cli_is_told_what_the_configuration_needs() {
    let place = full();
    place.export(&["--roles"]);
    let script = "import sys, json, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let Some(read) = read_by("python3", &["-c", script], &place.text("tenant.yaml")) else {
        eprintln!("python3-yaml is not installed: tenant.yaml is not checked");
        return;
    };
    let tenant: Value = serde_json::from_str(&read).unwrap();
    let api = &tenant["resourceServers"][0];
    assert_eq!(api["identifier"], "https://mqtt.example/");
    let scopes: Vec<_> = api["scopes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|scope| scope["value"].clone())
        .collect();
    assert_eq!(scopes, [json!("mqtt:admin"), json!("read:reports")]);
    let grants = &tenant["clients"][0]["grant_types"];
    assert_eq!(
        *grants,
        json!(["http://auth0.com/oauth/grant-type/password-realm"])
    );
    let roles: Vec<_> = tenant["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["name"].clone())
        .collect();
    assert_eq!(
        roles,
        [
            json!("gardener"),
            json!("head ${gardener}"),
            json!("mqtt-administrators")
        ]
    );
    assert_eq!(
        tenant["roles"][2]["permissions"][0]["permission_name"],
        "mqtt:admin"
    );
    let code = tenant["actions"][0]["code"].as_str().unwrap();
    assert!(place.path("tenant").join(code).exists());
    assert_eq!(
        tenant["triggers"]["post-login"][0]["action_name"],
        tenant["actions"][0]["name"]
    );
}

#[test]
fn terraform_reads_its_file_and_would_format_it_so() {
    for place in [
        full(),
        Place::new("plugin_opt_domain d\nplugin_opt_audience a\nplugin_opt_client_id c"),
    ] {
        place.export(&[]);
        let text = place.text("main.tf");
        match read_by("terraform", &["fmt", "-"], &text) {
            Some(formatted) => assert_eq!(text, formatted),
            None => eprintln!("terraform is not installed: main.tf is not checked"),
        }
    }
    let place = full();
    place.export(&["--roles"]);
    assert!(
        place.text("main.tf").contains("\"head $${gardener}\""),
        "a text is no template"
    );
}

/// Runs the Action as Auth0 does.
#[test]
fn the_action_puts_the_claims_into_both_tokens() {
    let place = full();
    place.export(&[]);
    let script = r#"
const tokens = { access: {}, id: {} };
const set = (claims) => ({ setCustomClaim: (name, value) => { claims[name] = value; } });
const api = { accessToken: set(tokens.access), idToken: set(tokens.id) };
const event = {
  user: { app_metadata: { topics: ["a/#"] } },
  authorization: { roles: ["gardener"] },
};
exports.onExecutePostLogin(event, api).then(() => console.log(JSON.stringify(tokens)));
"#;
    let program = place.text("actions/mqtt-claims.js") + script;
    let Some(said) = read_by("node", &["-"], &program) else {
        eprintln!("node is not installed: the Action is not run");
        return;
    };
    let tokens: Value = serde_json::from_str(&said).unwrap();
    let claims = json!({ "topics": ["a/#"], "https://mqtt.example/roles": ["gardener"] });
    assert_eq!(
        tokens,
        json!({ "access": claims, "id": claims }),
        "a device without client_id has no such claim"
    );
}

#[test]
fn a_configuration_that_cannot_be_exported_is_named() {
    let place = Place::new("plugin_opt_domain d");
    let said = place.export(&[]);
    assert_eq!(said.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&said.stderr).contains("audience is missing"));
    let place = full();
    fs::write(place.path("policy.toml"), "[[rule]]\nallow = 7\n").unwrap();
    assert_eq!(place.export(&[]).status.code(), Some(3));
}
