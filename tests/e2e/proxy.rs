//! The way to the tenant is an HTTP proxy.

use std::{fs, path::Path};

use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    proxy::{ConnectProxy, ProxyConduct, Tinyproxy},
    tenant::{CLIENT_SECRET, DEVICE, PASSWORD, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// A name that DNS never knows (RFC 6761).
const NAME: &str = "tenant.invalid";

/// A tenant under a name that only the proxy can look up.
fn tenant_behind_a_proxy() -> Tenant {
    Tenant::builder().names(&[NAME]).start().unwrap()
}

fn credentials(folder: &Path, text: &str) -> String {
    secret_file(folder, "proxy", text.as_bytes())
}

/// A broker with all options in a file, so that a reload can change them.
fn broker_with_file(version: Version, folder: &Path, options: &PluginOptions) -> Mosquitto {
    let lines = options.pairs().into_iter();
    let lines: String = lines
        .map(|(name, value)| format!("{name} = \"{value}\"\n"))
        .collect();
    let file = secret_file(folder, "auth0.toml", lines.as_bytes());
    broker(version, &PluginOptions(vec![]).with("config_file", &file))
}

fn login(client_id: &str) -> ConnectPacket {
    ConnectPacket::new(Protocol::V5, client_id).login(DEVICE, PASSWORD)
}

on_each_broker! {
    /// The tenant is asked through a proxy, which looks its name up and sees nothing that is secret.
    fn a_proxy_sees_neither_password_nor_token(version) {
        let tenant = tenant_behind_a_proxy();
        let proxy = ConnectProxy::start(ProxyConduct::TunnelFor("broker:proxy's password".to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let file = credentials(folder.path(), "broker:proxy's password\n");
        let options = PluginOptions::both(&tenant).with("proxy", &proxy.url()).with("proxy_credentials_file", &file);
        let broker = broker(version, &options);
        broker.expect_log("signing keys were fetched");
        let token = tenant.token(DEVICE);
        assert_eq!(answer(&broker, &token_connect(Protocol::V5, "by-token", &token)), None);
        let mut device = RawClient::connect(broker.port(), &login("by-password")).unwrap();
        assert!(device.publish("temperature", "1", 1).unwrap() < 0x80);
        let target = format!("{NAME}:{}", tenant.port());
        assert!(!proxy.targets().is_empty() && proxy.targets().iter().all(|one| *one == target), "{:?}", proxy.targets());
        assert!(proxy.has_seen(NAME.as_bytes()), "the tunnel was asked for");
        for secret in [PASSWORD, CLIENT_SECRET, DEVICE, &token] {
            assert!(!proxy.has_seen(secret.as_bytes()), "{secret}");
        }
        assert!(!broker.log().contains("proxy's password"));
    }

    /// The proxy's password is rotated: until the next SIGHUP the log says what is wrong.
    fn the_password_of_a_proxy_is_rotated(version) {
        let tenant = tenant_behind_a_proxy();
        let proxy = ConnectProxy::start(ProxyConduct::TunnelFor("broker:new".to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let file = credentials(folder.path(), "broker:old");
        let options = PluginOptions::both(&tenant).with("proxy", &proxy.url()).with("proxy_credentials_file", &file);
        let broker = broker_with_file(version, folder.path(), &options);
        let line = broker.expect_log("signing keys could not be fetched");
        assert!(line.contains("could not be reached through the proxy '127.0.0.1:") && line.contains("it answered 407"), "{line}");
        assert!(answer(&broker, &login("c")).is_some());
        assert!(expect_refusal(&broker, "'c'", "tenant-unreachable").contains("proxy_credentials_file"));
        fs::write(&file, "broker:new").unwrap();
        let mark = broker.log_mark();
        broker.reload();
        let line = broker.wait_for_log_after(mark, "configuration generation", PATIENCE).unwrap();
        assert!(line.ends_with("generation 2 is in force: changed are proxy_credentials_file"), "{line}");
        broker.expect_log("signing keys were fetched");
        assert!(retry_until_admitted(&broker, &login("c")));
    }

    /// A proxy that takes its time takes no more of it than a tenant may.
    fn a_proxy_has_the_time_of_the_tenant(version) {
        let tenant = tenant_behind_a_proxy();
        for conduct in [ProxyConduct::Silence, ProxyConduct::Drip] {
            let proxy = ConnectProxy::start(conduct);
            let options = PluginOptions::both(&tenant).with("proxy", &proxy.url()).with("timeout", "1");
            let broker = broker(version, &options);
            let line = broker.expect_log("signing keys could not be fetched");
            assert!(line.contains("it did not answer in time"), "{line}");
            assert!(answer(&broker, &login("c")).is_some());
            expect_refusal(&broker, "'c'", "tenant-unreachable");
        }
    }

    /// A variable in the environment decides nothing, and the log names it where that could be the reason.
    fn a_proxy_of_the_environment_is_ignored_and_named(version) {
        let tenant = tenant_behind_a_proxy();
        let proxy = ConnectProxy::start(ProxyConduct::Tunnel);
        let start = |options: &PluginOptions| builder(version, options).env("HTTPS_PROXY", proxy.url()).start().unwrap();
        let lost = start(&PluginOptions::tokens(&tenant));
        let line = lost.expect_log("signing keys could not be fetched");
        assert!(line.contains("(HTTPS_PROXY in the broker's environment is ignored: "), "{line}");
        assert!(line.contains("with the option proxy)"), "{line}");
        let tenant = testbed::tenant::Tenant::start();
        let good = start(&PluginOptions::tokens(&tenant));
        good.expect_log("signing keys were fetched");
        assert!(!good.log().contains("HTTPS_PROXY"), "{}", good.log());
        assert_eq!(proxy.targets(), [""; 0]);
    }

    /// A proxy that is not ours.
    fn a_device_signs_in_through_tinyproxy(version) {
        let Some(proxy) = Tinyproxy::start_if_installed("broker", "secret1") else { return };
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let file = credentials(folder.path(), "broker:secret1");
        let options = PluginOptions::both(&tenant).with("proxy", &proxy.url()).with("proxy_credentials_file", &file);
        let right = broker(version, &options);
        assert_eq!(answer(&right, &login("c")), None);
        right.expect_log("signing keys were fetched");
        assert!(proxy.log().contains(&format!("CONNECT {}", tenant.domain())), "{}", proxy.log());
        let wrong = broker(version, &options.without("proxy_credentials_file"));
        let line = wrong.expect_log("signing keys could not be fetched");
        assert!(line.contains("it answered 407") || line.contains("it answered 401"), "{line}");
    }
}
