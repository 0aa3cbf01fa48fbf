//! `login` against the stand-in tenant: what a device is told, what its token says, and what that grants.

mod common;

use serde_json::json;

use common::{Conf, Ran, auth0};
use testbed::tenant::{
    AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Device, DeviceState, Endpoint,
    PASSWORD, Tenant,
};

/// Writes a configuration for a tenant, with further options.
fn configure(tenant: &Tenant, further: &str) -> Conf {
    let conf = Conf::new();
    let secret = private(&conf, "secret", CLIENT_SECRET);
    private(&conf, "password", PASSWORD);
    conf.configure(&format!(
        "plugin_opt_domain {}\nplugin_opt_ca_file {}\nplugin_opt_audience {AUDIENCE}\n\
         plugin_opt_client_id {CLIENT_ID}\nplugin_opt_client_secret_file {secret}\n\
         plugin_opt_connection {CONNECTION}\n{further}",
        tenant.domain(),
        tenant.ca_file().display(),
    ));
    conf
}

fn private(conf: &Conf, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = conf.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn with_password(conf: &Conf, further: &[&str]) -> Ran {
    let file = conf.at("password");
    let who = [
        "login",
        conf.path(),
        "--username",
        DEVICE,
        "--password-file",
        file.to_str().unwrap(),
    ];
    auth0(&[&who, further].concat())
}

fn with_token(conf: &Conf, token: &str, further: &[&str]) -> Ran {
    let file = conf.write("token", token);
    let who = ["login", conf.path(), "--token", &file];
    auth0(&[&who, further].concat())
}

#[test]
fn a_device_with_a_password_sees_its_claims_its_rights_and_their_end() {
    let tenant = Tenant::start();
    let conf = configure(&tenant, "");
    let ran = with_password(&conf, &[]);
    ran.exits(0)
        .says("The device is let in.")
        .says("user name for the broker: 'thermostat-1a'")
        .says("client IDs that it may use: every one")
        .says("(for 24 h)")
        .says("gty")
        .says("claim 'topics', entry 1: allows 'temperature'")
        .complains("This signs the user 'thermostat-1a' in")
        .never_says("eyJ");
    assert_eq!(tenant.count(Endpoint::Token), 1);
    let json = with_password(&conf, &["--json"]).exits(0).json();
    assert_eq!(json["claims"]["iss"], json!(tenant.issuer()));
    assert_eq!(json["rules"][0]["filter"], "temperature");
    assert_eq!(json["rules"][0]["applies"], true);
    assert_eq!(json["client_ids"], json!(null));
}

#[test]
fn a_refused_password_is_explained_as_in_the_log() {
    for (state, reason) in [
        (DeviceState::Blocked, "[login-blocked]"),
        (DeviceState::MfaRequired, "[login-mfa]"),
        (DeviceState::Denied("disabled".into()), "[login-denied]"),
    ] {
        let tenant = Tenant::start();
        tenant.change_device(DEVICE, |device| device.state = state);
        let conf = configure(&tenant, "");
        with_password(&conf, &[])
            .exits(1)
            .says(reason)
            .says("fix: ")
            .says("meaning: ");
    }
    let tenant = Tenant::start();
    let conf = configure(&tenant, "");
    private(&conf, "password", "wrong");
    let ran = with_password(&conf, &[]).exits(1).says("[login-refused]");
    ran.says("134 (0x86, Bad User Name or Password)");
    // The tenant's fault, and not the device's.
    tenant.stop_listening();
    with_password(&conf, &[])
        .exits(3)
        .says("[tenant-unreachable]");
}

#[test]
fn a_token_that_is_refused_is_shown_all_the_same() {
    let tenant = Tenant::start();
    let conf = configure(&tenant, "");
    let expired = tenant.mint(DEVICE).lifetime(-60).sign();
    with_token(&conf, &expired, &[])
        .exits(1)
        .says("[token-expired]")
        .says("nobody has verified it")
        .says(&format!("\"{AUDIENCE}\""))
        .complains("The token is sent nowhere");
    let id_token = tenant.id_token(DEVICE);
    with_token(&conf, &id_token, &[])
        .exits(1)
        .says("[token-audience]");
    with_token(&conf, "opaque", &[]).exits(1);
    assert_eq!(tenant.count(Endpoint::Token), 0);
}

#[test]
fn a_token_that_is_bound_to_client_ids_names_them() {
    let tenant = Tenant::start();
    let conf = configure(&tenant, "plugin_opt_client_id_claim device_id\n");
    let bound = tenant
        .mint(DEVICE)
        .claim("device_id", json!(["pump-1", "pump-2"]))
        .sign();
    let said = "client IDs that it may use: 'pump-1' or 'pump-2'";
    with_token(&conf, &bound, &[]).exits(0).says(said);
    with_token(&conf, &bound, &["--client-id", "pump-2"])
        .exits(0)
        .says(said);
    with_token(&conf, &bound, &["--client-id", "pump-3"])
        .exits(1)
        .says("[client-id]")
        .says("'pump-1' or 'pump-2'");
    // A password is sent once, although the client ID is found out on the way.
    tenant.change_device(DEVICE, |device| device.claims.set("device_id", "pump-1"));
    with_password(&conf, &[]).exits(0).says("'pump-1'");
    assert_eq!(tenant.count(Endpoint::Token), 1);
    let conf = configure(
        &tenant,
        "plugin_opt_client_id_claim device_id\nplugin_opt_login_cache 0\n",
    );
    with_password(&conf, &[]).exits(1).says("'pump-1'");
    assert_eq!(tenant.count(Endpoint::Token), 2);
}

#[test]
fn rules_of_the_policy_file_are_shown_with_what_is_in_their_way() {
    let tenant = Tenant::start();
    let beside = Conf::new();
    let policy = beside.write(
        "policy.toml",
        "roles_claim = \"roles\"\n[[rule]]\nname = \"its own site\"\nallow = { both = [\"site/${site}/#\"] }\n\
         [[rule]]\nname = \"gardeners\"\nwhen = { role = \"gardener\" }\nallow = { publish = [\"valves/#\"] }\n\
         [[rule]]\nname = \"no news\"\ndeny = { subscribe = [\"news/#\"] }\n",
    );
    let option = format!("plugin_opt_policy_file {policy}\n");
    let conf = configure(&tenant, &option);
    let token = tenant.mint(DEVICE).claim("site", "north").sign();
    let ran = with_token(&conf, &token, &[]).exits(0);
    ran.says("rule 'its own site' allows 'site/${site}/#', here 'site/north/#'")
        .says("rule 'no news' denies 'news/#'")
        .says("What does not:")
        .says("rule 'gardeners' allows 'valves/#'");
    let json = with_token(&conf, &token, &["--json"]).exits(0).json();
    let rules = json["rules"].as_array().unwrap();
    let gardeners = rules
        .iter()
        .find(|rule| rule["name"] == "gardeners")
        .unwrap();
    assert_eq!(gardeners["applies"], false);
    assert_eq!(gardeners["line"], 5);
}

#[test]
fn no_rights_and_rights_of_others_are_said() {
    let tenant = Tenant::builder()
        .device(Device::new(DEVICE, PASSWORD))
        .start()
        .unwrap();
    let conf = configure(&tenant, "");
    with_password(&conf, &[])
        .exits(0)
        .says("No rule applies to it")
        .says("[not-granted]");
    let conf = configure(&tenant, "plugin_opt_acl defer\n");
    with_password(&conf, &[]).exits(0).says("Others decide");
}

#[test]
fn offline_the_tenant_is_left_alone() {
    let tenant = Tenant::start();
    let beside = Conf::new();
    let keys = beside.write("keys.json", tenant.jwks().to_string());
    let conf = configure(&tenant, &format!("plugin_opt_jwks_file {keys}\n"));
    with_token(&conf, &tenant.token(DEVICE), &["--offline"])
        .exits(0)
        .says("temperature");
    with_token(&conf, &tenant.token(DEVICE), &[]).exits(0);
    assert_eq!(tenant.count(Endpoint::Connection), 0);
}

#[test]
fn who_signs_in_has_to_be_said() {
    let tenant = Tenant::start();
    let conf = configure(&tenant, "");
    auth0(&["login", conf.path()])
        .exits(3)
        .complains("--token FILE");
    auth0(&[
        "login",
        conf.path(),
        "--username",
        DEVICE,
        "--password",
        "x",
    ])
    .exits(2);
}
