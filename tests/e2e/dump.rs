//! What a core dump of the broker contains after devices have signed in and disconnected.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use testbed::{
    broker::{Mosquitto, MosquittoBuilder, Version},
    clients::{Protocol, raw::ConnectPacket},
    crowd::Crowd,
    dump::Dump,
    signing::random_text,
    tenant::{Behaviour, Device, Endpoint, Tenant},
};

use crate::{helpers::*, on_each_broker};

const DEVICES: usize = 20;

/// The secrets, each of which is a text that occurs nowhere else.
struct Secrets {
    /// The client secret and the secret of HS256 tokens, which are needed as long as the broker runs.
    kept: [String; 2],
    /// The signatures of the tokens that devices sent.
    sent: Vec<String>,
    /// The passwords that devices sent.
    passwords: Vec<String>,
    /// The signatures of the access and ID tokens that the tenant issued for these passwords.
    issued: Vec<String>,
}

/// How many of the secrets a dump contains.
#[derive(Debug, PartialEq)]
struct SecretsFound {
    kept: usize,
    sent: usize,
    passwords: usize,
    issued: usize,
}

impl Secrets {
    fn found(&self, broker: &Mosquitto) -> SecretsFound {
        let dump = Dump::of(broker.pid()).unwrap();
        let groups = [&self.kept[..], &self.sent, &self.passwords, &self.issued];
        let found = dump.find(&groups.concat());
        let mut begin = 0;
        let [kept, sent, passwords, issued] = groups.map(|group| {
            let own = begin..begin + group.len();
            begin = own.end;
            let own = found.iter().filter(|(number, _)| own.contains(number));
            let (numbers, places): (HashSet<_>, HashSet<_>) = own.copied().unzip();
            if !places.is_empty() {
                println!(
                    "{}: {} of {} in {places:?}",
                    broker.version(),
                    numbers.len(),
                    group.len()
                );
            }
            numbers.len()
        });
        SecretsFound {
            kept,
            sent,
            passwords,
            issued,
        }
    }
}

fn signature(token: &str) -> String {
    token.rsplit('.').next().unwrap().to_owned()
}

/// Creates twenty devices with tokens and twenty with passwords that the tenant knows.
fn devices(tenant: &Tenant) -> (Secrets, Vec<ConnectPacket>) {
    let kept = [random_text(), random_text()];
    tenant.configure(|settings| settings.client_secret.clone_from(&kept[0]));
    let mut secrets = Secrets {
        kept,
        sent: vec![],
        passwords: vec![],
        issued: vec![],
    };
    let mut connects = Vec::new();
    for i in 0..DEVICES {
        let (name, password) = (format!("device-{i}"), random_text());
        tenant.add_device(Device::new(&name, &password));
        let protocol = [Protocol::V311, Protocol::V5][i % 2];

        let token = tenant.mint(&name).claim("jti", random_text());
        let token = match i % 4 < 2 {
            true => token.sign(),
            false => token.secret(secrets.kept[1].as_bytes()).sign(),
        };
        secrets.sent.push(signature(&token));
        connects.push(token_connect(protocol, &format!("with-token-{i}"), &token));

        let access = tenant.mint(&name).claim("jti", random_text()).sign();
        let id = tenant
            .mint_id_token(&name)
            .claim("jti", random_text())
            .sign();
        let answer = json!({"access_token": access, "id_token": id, "token_type": "Bearer", "expires_in": 86400});
        tenant.once(Endpoint::Token, Behaviour::json(200, answer));
        secrets.issued.extend([signature(&access), signature(&id)]);
        secrets.passwords.push(password.clone());
        connects.push(
            ConnectPacket::new(protocol, &format!("with-password-{i}")).login(&name, &password),
        );
    }
    (secrets, connects)
}

/// Connects and disconnects the devices.
fn visit(broker: &Mosquitto, connects: &[ConnectPacket], meanwhile: impl FnOnce()) {
    let crowd = Crowd::connect_in_turn(broker.port(), connects.iter().cloned());
    let crowd = crowd.unwrap_or_else(|refused| panic!("{refused:?}\n{}", broker.log()));
    meanwhile();
    crowd.leave();
}

fn with_plugin(version: Version, tenant: &Tenant, secrets: &Secrets) -> MosquittoBuilder {
    let builder = Mosquitto::builder(version);
    let file =
        |name, number: usize| secret_file(builder.folder(), name, secrets.kept[number].as_bytes());
    let options = PluginOptions::both(tenant)
        .without("client_secret")
        .with("client_secret_file", &file("client", 0))
        .with("algorithms", "RS256,HS256")
        .with("hs256_secret_file", &file("hs256", 1))
        .with("login_rate", "1000");
    builder.plugin(plugin(), &options.pairs())
}

/// Returns what a dump contains after the devices have disconnected. A worker may still be finishing its last
/// login.
fn left(
    secrets: &Secrets,
    broker: &Mosquitto,
    good: impl Fn(&SecretsFound) -> bool,
) -> SecretsFound {
    let since = Instant::now();
    loop {
        let found = secrets.found(broker);
        if good(&found) || since.elapsed() > Duration::from_secs(5) {
            return found;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

on_each_broker! {
    /// Only the plugin has the tenant's tokens, and it sends the client secret with every password: what
    /// happens to them happens to everything that takes the same path. The broker also keeps what devices
    /// sent in its own buffers, which it does not wipe, so the result is compared with a broker without
    /// plugin.
    fn secrets_that_only_the_plugin_had_are_not_in_a_dump(version) {
        let tenant = tenant();
        let (secrets, connects) = devices(&tenant);
        let alone = Mosquitto::builder(version).allow_anonymous(true).start().unwrap();
        visit(&alone, &connects, || ());
        let alone = secrets.found(&alone);

        let broker = with_plugin(version, &tenant, &secrets).start().unwrap();
        broker.expect_log("signing keys were fetched");
        let is_ours_gone = |found: &SecretsFound| found.issued == 0 && found.kept == 0;
        visit(&broker, &connects, || {
            let found = left(&secrets, &broker, is_ours_gone);
            assert!(is_ours_gone(&found), "{version}, while they are in: {found:?}");
        });
        let found = left(&secrets, &broker, is_ours_gone);
        assert!(is_ours_gone(&found), "{version}, after they left: {found:?}");
        println!("{version}, of {DEVICES}: without plugin {alone:?}, with it {found:?}");
    }

    /// If the C library overwrites freed memory, nothing is left: the plugin keeps nothing that a device
    /// sent.
    fn no_secret_is_left_where_freed_memory_is_overwritten(version) {
        let tenant = tenant();
        let (secrets, connects) = devices(&tenant);
        let broker = with_plugin(version, &tenant, &secrets)
            .env("MALLOC_PERTURB_", "165")
            .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
            .start()
            .unwrap();
        broker.expect_log("signing keys were fetched");
        visit(&broker, &connects, || ());
        let nothing = SecretsFound { kept: 0, sent: 0, passwords: 0, issued: 0 };
        assert_eq!(left(&secrets, &broker, |found| *found == nothing), nothing, "{version}");
    }

    /// The broker keeps the options that it passes on.
    fn a_secret_in_mosquitto_conf_is_in_every_dump(version) {
        let tenant = tenant();
        let (secrets, _) = devices(&tenant);
        let options = PluginOptions::both(&tenant).with("client_secret", &secrets.kept[0]);
        let broker = broker(version, &options);
        assert_eq!(secrets.found(&broker).kept, 1, "{version}");
    }
}
