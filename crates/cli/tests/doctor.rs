//! `doctor` against the stand-in tenant: each trap that a tenant can set is recognised, and nothing is sent that was
//! not announced.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use auth::secret::sha256;
use serde_json::{Value, json};
use testbed::{
    http::date,
    pki::{Authority, Leaf},
    proxy::{ConnectProxy, ProxyConduct},
    scratch::Scratch,
    tenant::{
        AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, ClientAuth, DEVICE, Device,
        DeviceState, Endpoint, Grant, PASSWORD, Settings, Signing, Tenant, UnknownAudience,
    },
};

/// A mosquitto.conf beside a tenant, and the files that it names.
struct Site {
    tenant: Tenant,
    scratch: Scratch,
    options: Vec<(String, String)>,
}

/// What `doctor --json` said.
struct Said {
    exit: Option<i32>,
    json: Value,
    announced: String,
}

impl Said {
    /// Returns the findings with this severity.
    fn with(&self, severity: &str) -> Vec<&str> {
        let findings = self.json["findings"].as_array().unwrap().iter();
        findings
            .filter(|finding| finding["severity"] == severity)
            .map(|finding| finding["finding"].as_str().unwrap())
            .collect()
    }

    fn finding(&self, name: &str) -> &Value {
        let findings = self.json["findings"].as_array().unwrap().iter();
        let mut found = findings.filter(|finding| finding["finding"] == name);
        found
            .next()
            .unwrap_or_else(|| panic!("no finding {name} in {:#}", self.json))
    }
}

impl Site {
    fn new() -> Self {
        Self::of(Tenant::start())
    }

    /// Returns a site whose options are right.
    fn of(tenant: Tenant) -> Self {
        let scratch = Scratch::new("doctor").unwrap();
        let site = Self {
            options: Vec::new(),
            tenant,
            scratch,
        };
        let secret = site.file("secret", CLIENT_SECRET);
        let domain = site.tenant.domain().to_owned();
        let ca_file = site.tenant.ca_file().display().to_string();
        site.set("domain", &domain)
            .set("ca_file", &ca_file)
            .set("audience", AUDIENCE)
            .set("client_id", CLIENT_ID)
            .set("client_secret_file", secret.to_str().unwrap())
            .set("connection", CONNECTION)
    }

    /// Returns a site whose tenant has another setting.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(Tenant::builder().settings(change).start().unwrap())
    }

    fn set(self, name: &str, value: &str) -> Self {
        let mut site = self.without(name);
        site.options.push((name.to_owned(), value.to_owned()));
        site
    }

    fn without(mut self, name: &str) -> Self {
        self.options.retain(|(known, _)| known != name);
        self
    }

    /// Writes a file that nobody else may read.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let file = self.scratch.write(name, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    fn conf(&self) -> PathBuf {
        let options = self.options.iter();
        let lines = options.map(|(name, value)| format!("plugin_opt_{name} {value}\n"));
        let lines: String = lines.collect();
        self.file(
            "mosquitto.conf",
            &format!("plugin /usr/lib/libmosquitto_auth0.so\n{lines}"),
        )
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let conf = self.conf();
        let output = tool(&conf, &[&["--json"], arguments].concat(), &[]);
        let announced = String::from_utf8(output.stderr).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json = serde_json::from_str(&text);
        Said {
            exit: output.status.code(),
            json: json.unwrap_or_else(|why| panic!("{why}: {text} {announced}")),
            announced,
        }
    }

    /// Signs the device in.
    fn log_in(&self) -> Said {
        let password = self.file("password", PASSWORD);
        let password = password.to_str().unwrap();
        self.run(&["--username", DEVICE, "--password-file", password])
    }

    fn examine(&self, token: &str) -> Said {
        let token = self.file("token", token);
        self.run(&["--token", token.to_str().unwrap()])
    }
}

fn tool(conf: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mosquitto-auth0"));
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let words = arguments.iter().map(OsStr::new);
    command
        .arg("doctor")
        .arg(conf)
        .args(words)
        .output()
        .unwrap()
}

/// Checks that exactly this is wrong, and that each finding says what it means and how to fix it.
#[track_caller]
fn wrong(said: &Said, findings: &[&str]) {
    assert_eq!(said.with("wrong"), findings, "{:#}", said.json);
    assert_eq!(said.exit, Some(i32::from(!findings.is_empty())));
    for name in findings {
        let finding = said.finding(name);
        for part in ["seen", "means", "fix"] {
            assert!(finding[part].is_string(), "{name} has no {part}");
        }
    }
}

#[test]
fn nothing_is_wrong_with_a_tenant_that_is_set_up_as_the_readme_says() {
    let site = Site::new();
    for said in [
        site.run(&[]),
        site.run(&["--probe-login"]),
        site.log_in(),
        site.examine(&site.tenant.token(DEVICE)),
    ] {
        wrong(&said, &[]);
        assert_eq!(said.with("warning"), [""; 0], "{:#}", said.json);
    }
    let text = tool(&site.conf(), &["--probe-login"], &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.ends_with("Nothing is wrong.\n"), "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "colours only on a terminal: {text}"
    );
}

#[test]
fn what_is_sent_was_announced_and_no_device_is_locked_out() {
    let site = Site::new();
    let said = site.run(&[]);
    let requests = site.tenant.requests();
    let paths: Vec<_> = requests
        .iter()
        .map(|request| request.target.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "/.well-known/openid-configuration",
            "/.well-known/jwks.json",
            "/oauth/token"
        ]
    );
    for path in paths {
        assert!(said.announced.contains(path), "{}", said.announced);
    }
    let login = &requests[2];
    assert_eq!(
        (login.field("username"), login.field("password")),
        (None, None)
    );

    site.tenant.forget_requests();
    let said = site.run(&["--probe-login"]);
    let logins = site.tenant.requests_to(Endpoint::Token);
    assert_eq!(logins.len(), 3, "the application, and two logins of nobody");
    for login in &logins[1..] {
        let username = login.field("username").unwrap();
        assert!(
            username.starts_with("mosquitto-auth0-doctor-"),
            "{username}"
        );
        let address = login.header("auth0-forwarded-for").unwrap();
        assert!(said.announced.contains(address), "{}", said.announced);
    }
    // As often as an account may fail.
    for _ in 0..12 {
        wrong(&site.run(&["--probe-login"]), &[]);
    }
    wrong(&site.log_in(), &[]);
}

#[test]
fn offline_nothing_is_sent() {
    let site = Site::new();
    let said = site.run(&["--offline"]);
    wrong(&said, &[]);
    assert_eq!(site.tenant.count(Endpoint::Connection), 0);
    assert!(
        said.announced.contains("sends nothing"),
        "{}",
        said.announced
    );
    assert_eq!(said.with("right"), ["clock-plausible"]);
}

#[test]
fn offline_a_token_is_examined_with_the_keys_on_disk() {
    let site = Site::new();
    let examine = |site: &Site, token: &str| {
        let token = site.file("token", token);
        site.run(&["--offline", "--token", token.to_str().unwrap()])
    };
    let token = site.tenant.token(DEVICE);
    let said = examine(&site, &token);
    wrong(&said, &[]);
    let omitted = said.json["not_examined"][1].as_str().unwrap();
    assert!(omitted.contains("no keys are on disk"), "{omitted}");
    wrong(&examine(&site, "opaque"), &["opaque"]);

    let expired = site.tenant.mint(DEVICE).lifetime(-60).sign();
    let keys = site.file("keys.json", &site.tenant.jwks().to_string());
    let site = site.set("jwks_file", keys.to_str().unwrap());
    wrong(&examine(&site, &token), &[]);
    wrong(&examine(&site, &expired), &["token-refused"]);
    assert_eq!(site.tenant.count(Endpoint::Connection), 0);

    let mut saved = site.tenant.jwks();
    saved["tenant"] = json!(site.tenant.domain());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    saved["fetched"] = json!(now.as_secs());
    let domain = site.tenant.domain();
    let [a, b, c, d, ..] = sha256(domain.as_bytes());
    let hash = u32::from_be_bytes([a, b, c, d]);
    let name = format!("keys-{}-{hash:08x}.json", domain.replace(':', "_"));
    let folder = site.file(&name, &saved.to_string());
    let folder = folder.parent().unwrap().to_str().unwrap().to_owned();
    let site = site.without("jwks_file").set("state_dir", &folder);
    wrong(&examine(&site, &expired), &["token-refused"]);
}

/// It was not announced that the tenant's keys are fetched.
#[test]
fn keys_are_not_fetched_in_place_of_a_file_that_cannot_be_used() {
    let site = Site::new();
    let keys = site.file("keys.json", "no keys");
    let site = site.set("jwks_file", keys.to_str().unwrap());
    wrong(&site.run(&[]), &["configuration"]);
    assert_eq!(site.tenant.count(Endpoint::Jwks), 0);
}

#[test]
fn no_secret_is_shown() {
    let site = Site::new();
    let said = site.log_in();
    let all = format!("{}{}", said.json, said.announced);
    for secret in [CLIENT_SECRET, PASSWORD, "eyJ"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[test]
fn a_mistake_in_the_configuration_ends_it() {
    let site = Site::new().set("audiense", "x");
    let said = site.run(&[]);
    wrong(&said, &["configuration"]);
    assert_eq!(site.tenant.count(Endpoint::Connection), 0);
    assert!(
        said.finding("configuration")["seen"]
            .as_str()
            .unwrap()
            .contains("audience")
    );

    let site = Site::new();
    let not_pem = site.file("ca.pem", "no certificate");
    let site = site.set("ca_file", not_pem.to_str().unwrap());
    wrong(&site.run(&[]), &["configuration"]);
}

#[test]
fn a_tenant_that_cannot_be_reached_is_no_answer() {
    let gone = Site::new();
    gone.tenant.stop_listening();
    let unknown = Site::new().set("domain", "no-such-tenant.invalid");
    let hangs = Site::new().set("timeout", "1");
    hangs.tenant.on(Endpoint::Connection, Behaviour::Hang);
    let down = Site::new();
    down.tenant.on(Endpoint::Discovery, Behaviour::Html(503));
    let limited = Site::new();
    let behaviour = Behaviour::RateLimited { retry_after: None };
    limited.tenant.on(Endpoint::Discovery, behaviour);
    for (site, finding) in [
        (gone, "no-connection"),
        (unknown, "unknown-host"),
        (hangs, "no-connection"),
        (down, "busy"),
        (limited, "busy"),
    ] {
        let said = site.run(&["--probe-login"]);
        assert_eq!(said.with("unreached"), [finding], "{:#}", said.json);
        assert_eq!(said.exit, Some(3));
        assert_eq!(site.tenant.count(Endpoint::Token), 0);
    }
}

#[test]
fn a_proxy_is_used_that_the_configuration_names() {
    let names = Tenant::builder().names(&["tenant.invalid"]);
    let site = Site::of(names.start().unwrap());
    let proxy = ConnectProxy::start(ProxyConduct::TunnelFor("broker:x".to_owned()));
    let pair = site.file("proxy", "broker:x");
    let site = site
        .set("proxy", &proxy.url())
        .set("proxy_credentials_file", pair.to_str().unwrap());
    let said = site.log_in();
    wrong(&said, &[]);
    assert!(said.finding("proxy-used")["seen"].is_string());
    let address = proxy.url().replace("http://", "");
    let first = said.json["sends"][0].as_str().unwrap();
    assert_eq!(first, format!("a question to DNS: {address}"));
    let output = tool(
        &site.conf(),
        &["--json"],
        &[("HTTPS_PROXY", "http://127.0.0.1:9")],
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains("proxy-ignored"));

    for (conduct, finding, is_wrong) in [
        (
            ProxyConduct::TunnelFor("another:x".to_owned()),
            "proxy-credentials",
            true,
        ),
        (ProxyConduct::Status(403), "proxy-refuses", true),
        (ProxyConduct::Noise, "proxy-no-http", true),
        (ProxyConduct::Status(503), "proxy-unable", false),
    ] {
        proxy.conduct(conduct);
        let said = site.run(&[]);
        let severity = if is_wrong { "wrong" } else { "unreached" };
        assert_eq!(said.with(severity), [finding]);
        assert_eq!(said.exit, Some(if is_wrong { 1 } else { 3 }));
        assert!(said.finding(finding)["fix"].is_string());
    }
    for address in ["http://proxy.invalid:3128", "http://127.0.0.1:1"] {
        let site = Site::new().set("proxy", address);
        let said = site.run(&[]);
        assert_eq!(said.with("unreached"), ["proxy-unreachable"], "{address}");
        assert_eq!(said.exit, Some(3));
    }
}

#[test]
fn a_proxy_is_not_used() {
    let site = Site::new();
    let output = tool(
        &site.conf(),
        &["--json"],
        &[("HTTPS_PROXY", "http://127.0.0.1:9")],
    );
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{json:#}");
    assert!(json.to_string().contains("proxy-ignored"));
    let output = tool(&site.conf(), &["--json"], &[("HTTPS_PROXY", "")]);
    assert!(
        !String::from_utf8(output.stdout)
            .unwrap()
            .contains("proxy-ignored")
    );
}

#[test]
fn certificates_that_are_not_trusted_are_told_apart() {
    let site = Site::new();
    let authority = site.tenant.authority();
    for (leaf, finding) in [
        (
            authority.issue_expired(&["localhost"]),
            "certificate-expired",
        ),
        (authority.issue(&["other.example"]), "certificate-name"),
        (
            Authority::new("other").issue(&["localhost"]),
            "certificate-authority",
        ),
    ] {
        site.tenant.use_certificate(&leaf);
        wrong(&site.run(&[]), &[finding]);
    }
    let site = Site::new();
    site.tenant.on(
        Endpoint::Connection,
        Behaviour::Garbage(b"SSH-2.0-x\r\n".to_vec()),
    );
    wrong(&site.run(&[]), &["tls"]);

    // The public authorities, or none, which is a mistake in the configuration.
    let site = Site::new().without("ca_file");
    let said = site.run(&[]);
    let found = said.with("wrong");
    assert!(
        found == ["certificate-authority"] || found == ["configuration"],
        "{found:?}"
    );
}

/// What `openssl req -x509` makes is an authority's. It is refused as a server's certificate, also where it is trusted.
#[test]
fn the_certificate_of_an_authority_is_no_servers() {
    let site = Site::new();
    let ca_file = site.scratch.path().join("ca.pem");
    let site = site.set("ca_file", ca_file.to_str().unwrap());
    let show = |of_authority| {
        let leaf = Leaf::self_signed(&["localhost"], of_authority);
        site.tenant.use_certificate(&leaf);
        site.file("ca.pem", &leaf.cert_pem);
    };
    show(true);
    let said = site.run(&[]);
    wrong(&said, &["certificate-of-authority"]);
    let found = said.finding("certificate-of-authority").to_string();
    let names_the_fix = found.contains("CA:FALSE") && !found.contains("TLS 1.2");
    assert!(names_the_fix, "{found}");
    show(false);
    wrong(&site.run(&[]), &[]);
}

#[test]
fn clocks_are_compared() {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for (ahead, severity) in [
        (3600, "wrong"),
        (-3600, "wrong"),
        (20, "warning"),
        (0, "right"),
    ] {
        let site = Site::new();
        let text = date(now.saturating_add_signed(ahead));
        let headers = vec![("Date".to_owned(), text)];
        site.tenant
            .on(Endpoint::Discovery, Behaviour::ExtraHeaders(headers));
        let said = site.run(&[]);
        let name = if ahead == 0 {
            "clock-right"
        } else {
            "clock-off"
        };
        assert_eq!(said.finding(name)["severity"], severity, "{ahead}");
    }
    let site = Site::new();
    let conf = site.conf();
    let later = SystemTime::now() + Duration::from_secs(86_400);
    fs::File::options()
        .write(true)
        .open(&conf)
        .unwrap()
        .set_modified(later)
        .unwrap();
    let output = tool(&conf, &["--offline", "--json"], &[]);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("clock-behind-file")
    );
}

#[test]
fn issuers_are_compared_letter_by_letter() {
    let site = Site::new();
    let issuer = site.tenant.issuer().to_owned();
    let bare = issuer.trim_end_matches('/');
    let site = site.set("issuer", bare);
    wrong(&site.run(&[]), &["issuer-slash"]);
    let said = site.log_in();
    wrong(&said, &["issuer-slash", "token-refused"]);
    let site = site.without("domain");
    let said = site.run(&[]);
    wrong(&said, &["issuer-slash"]);
    let fix = said.finding("issuer-slash")["fix"].as_str().unwrap();
    assert!(
        fix.contains(&format!("plugin_opt_issuer {issuer}")),
        "{fix}"
    );
    wrong(&site.set("issuer", &issuer).run(&["--probe-login"]), &[]);

    // A custom domain: tokens have the domain that they were asked for under.
    let site = Site::new().set("issuer", "https://login.example/");
    wrong(&site.run(&[]), &["issuer-other"]);
}

#[test]
fn a_wrong_domain_and_other_servers_are_recognised() {
    let site = Site::new();
    let not_found = Behaviour::Status {
        code: 404,
        headers: vec![(
            "Content-Type".to_owned(),
            "text/plain; charset=utf-8".to_owned(),
        )],
        body: "Not Found".to_owned(),
    };
    site.tenant.on(Endpoint::Discovery, not_found);
    let said = site.run(&[]);
    assert_eq!(said.with("wrong"), ["no-such-tenant"]);

    let site = Site::new();
    let portal = Behaviour::Status {
        code: 200,
        headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
        body: "<html>Log in to the hotel's network</html>".to_owned(),
    };
    site.tenant.on(Endpoint::Discovery, portal);
    let said = site.run(&[]);
    wrong(&said, &["discovery-unusable"]);
    assert_eq!(said.with("warning"), ["not-auth0"]);
}

#[test]
fn key_sets_are_examined() {
    let site = Site::new();
    let good = site.tenant.jwks();
    let key = good["keys"][0].clone();
    let mut ps256 = key.clone();
    ps256["alg"] = json!("PS256");
    let mut twin = good["keys"][1].clone();
    twin["kid"] = key["kid"].clone();
    let mut elliptic = key.clone();
    elliptic["kty"] = json!("EC");
    let set = |keys: &[&Value]| {
        site.tenant.set_jwks(&json!({ "keys": keys }));
        site.run(&[])
    };
    wrong(&set(&[]), &["no-keys"]);
    wrong(&set(&[&elliptic]), &["no-keys"]);
    wrong(&set(&[&ps256]), &["keys-for-others"]);
    wrong(&set(&[&key, &twin]), &["no-keys"]);
    let mut third = good["keys"][1].clone();
    third["kid"] = json!("third");
    let said = set(&[&key, &twin, &third]);
    wrong(&said, &[]);
    assert_eq!(
        said.with("warning"),
        ["key-ignored"],
        "two keys with one name"
    );
    site.tenant.set_jwks_text("<html>");
    wrong(&site.run(&[]), &["no-keys"]);
    site.tenant.reset_jwks();
    site.tenant
        .configure(|settings| settings.alg_in_jwks = false);
    wrong(&site.run(&[]), &[]);
}

#[test]
fn the_traps_of_an_application_are_recognised_without_a_login() {
    let machine_only = |settings: &mut Settings| settings.grants = vec![Grant::ClientCredentials];
    let basic = |settings: &mut Settings| settings.client_auth = ClientAuth::Basic;
    let wrong_secret = Site::new();
    let secret = wrong_secret.file("other", "not-the-secret-of-the-application");
    for (site, finding) in [
        (Site::with(machine_only), "grant-off"),
        (Site::with(basic), "application-rejected"),
        (
            Site::new().set("client_id", "another-application"),
            "application-rejected",
        ),
        (
            wrong_secret.set("client_secret_file", secret.to_str().unwrap()),
            "application-rejected",
        ),
        (
            Site::with(|settings| settings.default_directory = None).without("connection"),
            "no-default-directory",
        ),
    ] {
        wrong(&site.run(&[]), &[finding]);
        let logins = site.tenant.requests_to(Endpoint::Token);
        assert!(logins.iter().all(|login| login.field("username").is_none()));
        // A login would not tell more, so none is tried.
        wrong(&site.run(&["--probe-login"]), &[finding]);
        assert_eq!(site.tenant.count(Endpoint::Token), 2);
    }
}

#[test]
fn the_traps_of_an_api_and_a_connection_take_a_login_of_nobody() {
    let not_found = |settings: &mut Settings| {
        settings.unknown_audience = UnknownAudience::ServiceNotFound;
    };
    let connections = |settings: &mut Settings| settings.connections.clear();
    for (site, finding) in [
        (
            Site::new().set("audience", "https://mqtt.example"),
            "audience-unknown",
        ),
        (
            Site::with(not_found).set("audience", "https://mqtt.example"),
            "audience-unknown",
        ),
        (Site::with(connections), "connection-off"),
        (
            Site::new().set("connection", "thermostats"),
            "connection-off",
        ),
    ] {
        let said = site.run(&[]);
        wrong(&said, &[]);
        assert!(
            said.json["not_examined"]
                .to_string()
                .contains("--probe-login")
        );
        wrong(&site.run(&["--probe-login"]), &[finding]);
    }
}

#[test]
fn attack_protection_is_seen_as_far_as_it_can_be() {
    let site = Site::new();
    let said = site.run(&["--probe-login"]);
    said.finding("address-trusted");
    let seen = said.finding("failures-allowed")["seen"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        seen.contains("100 failed logins in a day, and 99 are left"),
        "{seen}"
    );

    let ignores = Site::with(|settings| settings.trust_forwarded_ip = false);
    let said = ignores.run(&["--probe-login"]);
    wrong(&said, &[]);
    assert_eq!(said.with("warning"), ["address-ignored"]);
    let fix = said.finding("address-ignored")["fix"].as_str().unwrap();
    assert!(fix.contains("Trust Token Endpoint IP Header"), "{fix}");

    // A public application: Auth0 then ignores the header.
    let public = Site::with(|settings| settings.client_auth = ClientAuth::None);
    assert_eq!(
        public.run(&["--probe-login"]).with("warning"),
        ["address-ignored"]
    );

    let off = Site::with(|settings| settings.suspicious_ip_budget = None);
    off.run(&["--probe-login"]).finding("address-unseen");

    let used_up = Site::with(|settings| {
        settings.suspicious_ip_budget = Some(2);
        settings.trust_forwarded_ip = false;
    });
    wrong(&used_up.run(&["--probe-login"]), &["failures-used-up"]);
    wrong(&used_up.run(&["--probe-login"]), &["address-blocked"]);
}

#[test]
fn the_states_of_an_account_are_recognised() {
    for (state, reason) in [
        (DeviceState::Locked, "login-locked"),
        (DeviceState::Blocked, "login-blocked"),
        (DeviceState::MfaRequired, "login-mfa"),
        (DeviceState::PasswordLeaked, "login-leaked"),
        (DeviceState::RequiresVerification, "login-verification"),
        (
            DeviceState::Denied("device disabled".into()),
            "login-denied",
        ),
    ] {
        let site = Site::new();
        site.tenant
            .change_device(DEVICE, |device| device.state = state);
        let said = site.log_in();
        wrong(&said, &["account-refused"]);
        let means = said.finding("account-refused")["means"].as_str().unwrap();
        assert!(means.contains(reason), "{means}");
    }
    let site = Site::new();
    site.tenant
        .change_device(DEVICE, |device| device.password = "another".into());
    let said = site.log_in();
    wrong(&said, &["account-refused"]);
    assert!(
        said.finding("account-refused")["means"]
            .to_string()
            .contains("login-refused")
    );
    let mfa = Site::with(|settings| settings.mfa_status = 401);
    mfa.tenant
        .change_device(DEVICE, |device| device.state = DeviceState::MfaRequired);
    wrong(&mfa.log_in(), &["account-refused"]);
}

/// Every row of the table of errors in Auth0's documents and in the field, with its status and its text.
#[test]
fn every_error_of_the_token_endpoint_has_its_finding() {
    let long = "Your account has been blocked after multiple consecutive login attempts";
    let suspicious = "We have detected suspicious login behavior and further attempts will be blocked. Please contact \
                      the administrator.";
    let default = "Authorization server not configured with default connection.";
    for (status, error, description, finding) in [
        (
            403,
            "invalid_grant",
            "Wrong email or password.",
            "probe-right",
        ),
        (
            403,
            "invalid_grant",
            "Wrong phone number or verification code.",
            "probe-right",
        ),
        (
            403,
            "invalid_user_password",
            "Wrong email or password",
            "probe-right",
        ),
        (
            403,
            "mfa_required",
            "Multifactor authentication required",
            "account-refused",
        ),
        (
            401,
            "mfa_required",
            "Multifactor authentication required",
            "account-refused",
        ),
        (
            401,
            "password_leaked",
            "This login attempt has been blocked",
            "account-refused",
        ),
        (429, "too_many_attempts", long, "address-blocked"),
        (429, "too_many_attempts", suspicious, "address-blocked"),
        (403, "unauthorized", "user is blocked", "account-refused"),
        (403, "access_denied", "device disabled", "account-refused"),
        (
            403,
            "requires_verification",
            "Suspicious request",
            "account-refused",
        ),
        (403, "blocked_user", "", "account-refused"),
        (401, "access_denied", "Unauthorized", "application-rejected"),
        (
            401,
            "invalid_client",
            "Client authentication failed",
            "application-rejected",
        ),
        (
            403,
            "access_denied",
            "Service not enabled within domain: x",
            "audience-unknown",
        ),
        (
            403,
            "access_denied",
            "Service not found: x",
            "audience-unknown",
        ),
        (
            403,
            "access_denied",
            "Client has not been granted scopes: read:x",
            "not-authorized",
        ),
        (
            403,
            "access_denied",
            "Client is not authorized to access \"x\".",
            "not-authorized",
        ),
        (
            400,
            "invalid_request",
            "invalid audience specified for password grant exchange",
            "audience-unknown",
        ),
        (
            403,
            "unauthorized_client",
            "Grant type 'password' not allowed for the client.",
            "grant-off",
        ),
        (403, "unauthorized_client", "", "not-allowed"),
        (400, "unsupported_grant_type", "", "grant-off"),
        (400, "invalid_dpop_proof", "", "proof-asked"),
        (400, "use_dpop_nonce", "", "proof-asked"),
        (
            429,
            "too_many_requests",
            "Global limit has been reached",
            "rate-limited",
        ),
        (429, "access_denied", "Rate limit exceeded.", "rate-limited"),
        (400, "invalid_target", "", "audience-unknown"),
        (400, "invalid_scope", "", "unclear"),
    ] {
        let site = Site::new();
        site.tenant.once(Endpoint::Token, Behaviour::Normal);
        let refusal = Behaviour::refusal(status, error, description);
        site.tenant.on(Endpoint::Token, refusal);
        let said = site.run(&["--probe-login"]);
        said.finding(finding);
    }
    let site = Site::new().without("connection");
    site.tenant.on(
        Endpoint::Token,
        Behaviour::refusal(500, "server_error", default),
    );
    wrong(&site.run(&[]), &["no-default-directory"]);
    // Auth0's own fault has the same code.
    for behaviour in [
        Behaviour::refusal(500, "server_error", "Internal error"),
        Behaviour::Html(502),
        Behaviour::Html(520),
        Behaviour::Close,
    ] {
        let site = Site::new();
        site.tenant.on(Endpoint::Token, behaviour);
        let said = site.run(&[]);
        said.finding("tenant-failed");
        assert_eq!(said.exit, Some(3), "{:#}", said.json);
    }
}

#[test]
fn the_traps_of_tokens_are_recognised() {
    // No API in the request, so the access token is opaque and the ID token counts.
    let tokens = |site: &Site, access: &str, id: Option<&str>| {
        let mut body =
            json!({ "access_token": access, "expires_in": 86_400, "token_type": "Bearer" });
        if let Some(id) = id {
            body["id_token"] = json!(id);
        }
        site.tenant.once(Endpoint::Token, Behaviour::Normal);
        site.tenant
            .once(Endpoint::Token, Behaviour::json(200, body));
        site.log_in()
    };
    let site = Site::new();
    let opaque = "PPlGNh1wLQbJznsdLCx5XFb04ZPKzPxL";
    let id = site.tenant.id_token(DEVICE);
    let said = tokens(&site, opaque, Some(&id));
    wrong(&said, &[]);
    assert_eq!(said.with("warning"), ["opaque"]);
    wrong(&tokens(&site, opaque, None), &["opaque"]);
    wrong(&site.examine(opaque), &["opaque"]);

    let encrypted = Site::with(|settings| settings.encrypts_access_tokens = true);
    wrong(&encrypted.log_in(), &["encrypted"]);

    let mint = || site.tenant.mint(DEVICE);
    for (token, reason) in [
        (mint().lifetime(-60), "token-expired"),
        (mint().claim("iat", 9_999_999_999_u64), "token-not-yet"),
        (
            mint().claim("aud", "https://mqtt.example"),
            "token-audience",
        ),
        (site.tenant.mint_id_token(DEVICE), "token-audience"),
        (
            mint().claim("iss", site.tenant.issuer().trim_end_matches('/')),
            "token-issuer",
        ),
        (mint().claim("cnf", json!({ "jkt": "x" })), "token-bound"),
        (mint().without_header("kid"), "token-key-missing"),
        (mint().header("kid", "gone"), "token-key-unknown"),
    ] {
        let said = site.examine(&token.sign());
        wrong(&said, &["token-refused"]);
        let means = said.finding("token-refused")["means"].as_str().unwrap();
        assert!(means.contains(reason), "{means}");
    }
    let hs256 = Site::with(|settings| settings.access_token_signing = Signing::Hs256);
    wrong(&hs256.log_in(), &["token-refused"]);
}

#[test]
fn rights_in_a_token_are_examined() {
    let with = |device: Device| Site::of(Tenant::builder().device(device).start().unwrap());
    let device = || Device::new(DEVICE, PASSWORD);
    // No Action copies topics, and RBAC is off.
    let said = with(device()).log_in();
    wrong(&said, &["no-rights"]);
    let fix = said.finding("no-rights")["fix"].as_str().unwrap();
    assert!(fix.contains("Add Permissions in the Access Token"), "{fix}");
    // The Action uses another name than topics_claim.
    let said = Site::new()
        .set("topics_claim", "https://mqtt.example/topics")
        .log_in();
    wrong(&said, &["no-rights"]);
    // RBAC is on, and the user has no role.
    let mut nothing = device();
    nothing.claims.set("permissions", json!([]));
    wrong(&with(nothing).log_in(), &["empty-rights"]);
    let mut permitted = device();
    permitted
        .claims
        .set("permissions", json!(["publish:greenhouse/+/temperature"]));
    let said = with(permitted).log_in();
    wrong(&said, &[]);
    said.finding("rights");
    wrong(
        &with(device().topics(json!(["a/#/b"]))).log_in(),
        &["rights-wrong"],
    );
    // scope is everybody's without RBAC.
    let site = Site::with(|settings| settings.api_scopes = vec!["publish:a".into()]);
    let said = site.set("rights", "topics, scope").log_in();
    assert_eq!(
        said.with("warning"),
        ["scope-without-rbac"],
        "{:#}",
        said.json
    );
}

#[test]
fn devices_with_tokens_only_need_no_application() {
    let site = Site::new();
    let site = site
        .without("client_id")
        .without("client_secret_file")
        .without("connection");
    let said = site.run(&["--probe-login"]);
    wrong(&said, &[]);
    said.finding("tokens-only");
    assert_eq!(site.tenant.count(Endpoint::Token), 0);
}

#[test]
fn a_password_comes_from_a_prompt_or_a_file_only() {
    let site = Site::new();
    let output = tool(&site.conf(), &["--username", DEVICE], &[]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--password-file"), "{said}");
    assert_eq!(site.tenant.count(Endpoint::Connection), 0);
    let output = tool(
        &site.conf(),
        &["--username", DEVICE, "--password", "x"],
        &[],
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn another_provider_gets_no_advice_about_auth0() {
    let site = Site::new().without("connection").without("domain");
    let issuer = site.tenant.issuer().to_owned();
    let document = json!({
        "issuer": issuer,
        "jwks_uri": site.tenant.url(".well-known/jwks.json"),
        "token_endpoint": site.tenant.url("oauth/token"),
        "grant_types_supported": ["authorization_code"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    site.tenant
        .on(Endpoint::Discovery, Behaviour::json(200, &document));
    let refusal = Behaviour::refusal(401, "invalid_client", "unknown client");
    site.tenant.on(Endpoint::Token, refusal);
    let site = site.set("issuer", &issuer);
    let said = site.run(&[]);
    assert_eq!(
        said.with("warning"),
        [
            "algorithms-not-offered",
            "secret-not-offered",
            "passwords-not-offered"
        ]
    );
    wrong(&said, &["application-rejected"]);
    let text = said.json["findings"].to_string();
    assert!(!text.contains("Applications >"), "{text}");
    // Its document is another issuer's, or lacks what the plugin needs.
    let mut other = document.clone();
    other["issuer"] = json!("https://id.example/");
    site.tenant
        .on(Endpoint::Discovery, Behaviour::json(200, &other));
    let said = site.run(&[]);
    wrong(&said, &["issuer-other"]);
    let fix = said.finding("issuer-other")["fix"].as_str().unwrap();
    let address = site.tenant.url(".well-known/openid-configuration");
    assert!(
        fix.ends_with(&format!("and set `discovery_url` to '{address}'")),
        "{fix}"
    );
    let mut plain = document;
    plain["jwks_uri"] = json!("http://id.example/keys");
    site.tenant
        .on(Endpoint::Discovery, Behaviour::json(200, &plain));
    wrong(&site.run(&[]), &["discovery-unusable"]);
}

/// Each issuer is examined. A user is signed in where passwords are checked, and a token is examined by the issuer that
/// it names.
#[test]
fn each_of_several_issuers_is_examined() {
    let other = Tenant::builder().fresh_keys().start().unwrap();
    let site = Site::new();
    let table = format!(
        "[[issuer]]\ndomain = '{}'\naudience = '{AUDIENCE}'\nca_file = '{}'\n",
        other.domain(),
        other.ca_file().display()
    );
    let options = site.file("options.toml", &table);
    let site = site.set("config_file", options.to_str().unwrap());
    let said = site.examine(&other.token(DEVICE));
    wrong(&said, &[]);
    let tenants = [site.tenant.domain(), other.domain()];
    assert_eq!(said.json["tenants"], json!(tenants));
    let rights = said.json["findings"].as_array().unwrap().iter();
    let rights: Vec<_> = rights
        .filter(|one| one["finding"] == "token-right")
        .collect();
    assert_eq!(rights.len(), 1, "{:#}", said.json);
    assert_eq!(rights[0]["tenant"], other.domain());
    site.tenant.forget_requests();
    wrong(&site.log_in(), &[]);
    assert!(site.tenant.count(Endpoint::Token) > 0);
    assert_eq!(other.count(Endpoint::Token), 0);
    // A wrong one is found beside a right one.
    let options = fs::read_to_string(&options)
        .unwrap()
        .replace(other.domain(), "localhost:1");
    site.file("options.toml", &options);
    let said = site.run(&[]);
    assert_eq!(said.exit, Some(3), "{:#}", said.json);
}
