//! Several issuers at one listener: each with its own keys, rights and accounts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use testbed::{
    broker::Mosquitto,
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    tenant::{
        AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, CONNECTION, DEVICE, Endpoint, PASSWORD,
        Tenant,
    },
};

use crate::{helpers::*, on_each_broker, sessions::leave};

/// Two tenants with other keys, and the files of a broker that knows both.
struct Both {
    first: Tenant,
    second: Tenant,
    folder: tempfile::TempDir,
}

/// Returns the table of an issuer, with these further lines.
fn table(tenant: &Tenant, further: &str) -> String {
    format!(
        "[[issuer]]\ndomain = '{}'\naudience = '{AUDIENCE}'\nca_file = '{}'\n{further}\n",
        tenant.domain(),
        tenant.ca_file().display(),
    )
}

fn policy(path: &Path, topic: &str) {
    let text = format!("[[rule]]\nname = 'all'\nallow = {{ both = ['{topic}'] }}\n");
    fs::write(path, text).unwrap();
}

impl Both {
    /// The second issuer has a policy file of its own.
    fn new() -> Self {
        let with_keys = || Tenant::builder().fresh_keys().start().unwrap();
        let both = Self {
            first: with_keys(),
            second: with_keys(),
            folder: tempfile::tempdir().unwrap(),
        };
        for tenant in [&both.first, &both.second] {
            device(tenant, "same", json!(["own"]));
        }
        policy(&both.path("common.toml"), "common/#");
        policy(&both.path("second.toml"), "second/#");
        both.write("");
        both
    }

    /// Writes the file of options. The second table has these further lines.
    fn write(&self, further: &str) {
        let own = self.path("second.toml").display().to_string();
        let options = format!(
            "policy_file = '{}'\nstate_dir = '{}'\n{}{}",
            self.path("common.toml").display(),
            self.folder.path().display(),
            table(&self.first, ""),
            table(&self.second, &format!("policy_file = '{own}'\n{further}")),
        );
        fs::write(self.path("auth0.toml"), options).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self) -> PluginOptions {
        PluginOptions(vec![]).with("config_file", self.path("auth0.toml").to_str().unwrap())
    }

    fn tenants(&self) -> [&Tenant; 2] {
        [&self.first, &self.second]
    }
}

/// Returns the CONNECT of a device that keeps its session. The `sub` is the same in both tenants.
fn durable(tenant: &Tenant, client_id: &str) -> ConnectPacket {
    let token = tenant.mint("same").claim("sub", "same").sign();
    let mut connect = token_connect(Protocol::V311, client_id, &token);
    connect.clean = false;
    connect
}

fn may_subscribe(broker: &Mosquitto, connect: &ConnectPacket, filters: &[&str]) -> Vec<bool> {
    let mut client = RawClient::connect(broker.port(), connect).unwrap();
    let filters: Vec<_> = filters.iter().map(|filter| (*filter, 1)).collect();
    let answers = client.subscribe(&filters).unwrap();
    answers.into_iter().map(|code| code < 0x80).collect()
}

on_each_broker! {
    /// An account is issuer and subject, rights are those of the issuer's policy file, and both outlive a restart.
    fn two_issuers_have_their_own_accounts_and_rights(version) {
        let both = Both::new();
        let broker = builder(version, &both.options()).persistence(true).start().unwrap();
        let filters = ["own", "common/a", "second/a"];
        let expected = [vec![true, true, false], vec![true, false, true]];
        let connects = [durable(&both.first, "c-1"), durable(&both.second, "c-2")];
        for (connect, expected) in connects.iter().zip(&expected) {
            assert_eq!(&may_subscribe(&broker, connect, &filters), expected);
        }
        let stranger = durable(&both.second, "c-1");
        let client = RawClient::connect(broker.port(), &connects[0]).unwrap();
        assert!(answer(&broker, &stranger).is_some(), "the same subject of another issuer");
        leave(&broker, client, "c-1");
        expect_refusal(&broker, "'c-1'", "client-id-held");

        let broker = broker.restart().unwrap();
        assert!(answer(&broker, &stranger).is_some(), "also after a restart");
        // What is queued for the sleeping sessions is what the policy file of each issuer grants.
        let mut watcher = broker_client(&broker, &both.first);
        assert!(watcher.publish("common/a", "queued", 1).is_ok());
        for (connect, expected) in connects.iter().zip([1, 0]) {
            let mut client = RawClient::connect(broker.port(), connect).unwrap();
            assert!(client.session_present);
            assert_eq!(client.messages_before_pong().unwrap().len(), expected);
        }
        for (connect, expected) in connects.iter().zip(&expected) {
            assert_eq!(&may_subscribe(&broker, connect, &filters), expected);
        }
    }

    /// While one tenant answers nothing, the devices of the other sign in.
    fn an_issuer_that_is_down_harms_no_other(version) {
        let both = Both::new();
        both.first.on(Endpoint::Connection, Behaviour::Hang);
        let broker = broker(version, &both.options());
        let connect = durable(&both.second, "c-2");
        assert!(retry_until_admitted(&broker, &connect));
        let down = durable(&both.first, "c-1");
        let mut waiting = RawClient::open(broker.port(), Protocol::V311);
        waiting.send(&down.packet());
        assert_eq!(answer(&broker, &durable(&both.second, "c-3")), None);
    }

    /// SIGHUP reads the table of an issuer again, and a key that one tenant revokes ends the sessions of that one only.
    fn each_issuer_follows_its_own_changes(version) {
        let both = Both::new();
        let broker = broker(version, &both.options());
        let connects = both.tenants().map(|tenant| durable(tenant, "c"));
        let [mut first, mut second] = both.tenants().map(|tenant| {
            raw(&broker, tenant, "same", &format!("d-{}", tenant.port()), Protocol::V311)
        });
        both.write("username_claim = 'no_such_claim'");
        let mark = broker.log_mark();
        broker.reload();
        let line = broker.wait_for_log_after(mark, "generation 2 is in force", PATIENCE).unwrap();
        assert!(line.ends_with("changed are username_claim"), "{line}");
        assert_eq!(answer(&broker, &connects[0]), None);
        assert!(answer(&broker, &connects[1]).is_some());
        expect_refusal(&broker, "'c'", "token-username");

        both.write("");
        both.second.rotate();
        both.second.revoke_previous();
        broker.reload();
        assert!(second.wait_end(PATIENCE).is_ok(), "{}", broker.log());
        assert!(first.publish("own", "1", 1).is_ok());

        // Another issuer takes a restart.
        let options = fs::read_to_string(both.path("auth0.toml")).unwrap();
        let third = "[[issuer]]\ndomain = 'third.example'\naudience = 'a'\n";
        fs::write(both.path("auth0.toml"), options + third).unwrap();
        broker.reload();
        broker.expect_log("the configuration has changed in issuer");
    }

    /// Passwords go to the issuer with the application, and tokens are accepted from both.
    fn passwords_go_to_one_issuer(version) {
        let both = Both::new();
        let secret = secret_file(both.folder.path(), "secret", CLIENT_SECRET.as_bytes());
        both.write(&format!(
            "client_id = '{CLIENT_ID}'\nclient_secret_file = '{secret}'\nconnection = '{CONNECTION}'"
        ));
        let broker = broker(version, &both.options());
        let login = ConnectPacket::new(Protocol::V311, "by-password").login(DEVICE, PASSWORD);
        assert!(retry_until_admitted(&broker, &login));
        assert_eq!(both.second.count(Endpoint::Token), 1);
        assert_eq!(both.first.count(Endpoint::Token), 0);
        for (tenant, id) in both.tenants().into_iter().zip(["c-1", "c-2"]) {
            assert_eq!(answer(&broker, &durable(tenant, id)), None);
        }
    }
}

/// Connects a client of the tenant that may publish below `common`.
fn broker_client(broker: &Mosquitto, tenant: &Tenant) -> RawClient {
    raw(broker, tenant, DEVICE, "publisher", Protocol::V311)
}
