//! Loading one shared object into three brokers, and errors in its configuration.

use testbed::{
    broker::{Listener, Mosquitto},
    clients::{MosquittoClient, Protocol},
    tenant::{DEVICE, Endpoint},
};

use crate::{helpers::*, on_each_broker};

on_each_broker! {
    fn the_plugin_loads_and_the_broker_stops_cleanly(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        raw(&broker, &tenant, DEVICE, "c", Protocol::V5);
        let stopped = broker.stop();
        assert!(ended_well(&stopped), "{:?}\n{}", stopped.status, stopped.log);
    }

    fn the_plugin_loads_in_a_daemon(version) {
        let tenant = tenant();
        let broker = builder(version, &PluginOptions::tokens(&tenant)).daemon(true).start().unwrap();
        with_token(&broker, &tenant, DEVICE).publish("temperature", "1").expect_success();
        assert!(broker.wait_for_log("signing keys were fetched", PATIENCE).is_some());
        broker.stop();
    }

    /// The broker stops although a request for keys hangs.
    fn the_broker_stops_while_a_key_fetch_hangs(version) {
        let tenant = tenant();
        tenant.on(Endpoint::Jwks, testbed::tenant::Behaviour::Hang);
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("timeout", "1"));
        assert!(tenant.wait_for(Endpoint::Jwks, 1, PATIENCE));
        assert!(ended_well(&broker.stop()));
    }

    /// Each listener has its own plugin line, as `per_listener_settings true` requires. Both share one set of
    /// keys. On 2.0.11 they never get a tick, and refusals are logged nevertheless.
    fn two_listeners_with_their_own_settings_share_keys(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant);
        let broker = broker_with_listeners(version, &[options.clone(), options]);
        let [first, second] = broker.ports() else { panic!("two ports") };
        for port in [*first, *second] {
            let device = with_token(&broker, &tenant, DEVICE).port(port).id(&format!("at-{port}"));
            device.publish("temperature", "1").expect_success();
            device.publish("secret", "1").expect_success();
            expect_refusal(&broker, "", "not-granted");
            let anonymous = MosquittoClient::of(&broker).port(port).publish("temperature", "1");
            assert!(!anonymous.success());
        }
        assert_eq!(tenant.count(Endpoint::Jwks), 1);
        assert!(ended_well(&broker.stop()));
    }

    /// Different tenants for different listeners.
    fn two_listeners_use_two_tenants(version) {
        let (one, two) = (tenant(), tenant());
        two.rotate_unannounced();
        let broker = broker_with_listeners(version, &[PluginOptions::tokens(&one), PluginOptions::tokens(&two)]);
        let [first, second] = broker.ports() else { panic!("two ports") };
        with_token(&broker, &one, DEVICE).port(*first).publish("temperature", "1").expect_success();
        with_token(&broker, &two, DEVICE).port(*second).publish("temperature", "1").expect_success();
        assert!(!with_token(&broker, &one, DEVICE).port(*second).publish("temperature", "1").success());
        assert!(ended_well(&broker.stop()));
    }

    /// The plugin is configured at two listeners, and the settings are global: 2.0 then loads it twice for
    /// one set of callbacks.
    fn the_plugin_may_be_configured_twice_with_global_settings(version) {
        let tenant = tenant();
        let options = PluginOptions::tokens(&tenant);
        let listener = || Listener::tcp().plugin(plugin(), &options.pairs());
        let broker = Mosquitto::builder(version).listener(listener()).listener(listener()).start().unwrap();
        for port in broker.ports() {
            with_token(&broker, &tenant, DEVICE).port(*port).publish("temperature", "1").expect_success();
            let connect = token_connect(Protocol::V5, "c", &tenant.token(DEVICE));
            let mut client = testbed::clients::raw::RawClient::connect(*port, &connect).unwrap();
            assert_eq!(client.publish("secret", "1", 1), Ok(0x87));
        }
        assert_eq!(tenant.count(Endpoint::Jwks), 1);
        assert!(ended_well(&broker.stop()));
    }

    /// One line names the option, the value and the fix, and the broker exits without a crash.
    fn an_invalid_configuration_prevents_the_start(version) {
        use std::os::unix::fs::PermissionsExt;
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let open = secret_file(folder.path(), "secret", b"x");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
        let no_pem = secret_file(folder.path(), "ca.pem", b"no certificate");
        let good = PluginOptions::tokens(&tenant);
        for (options, parts) in [
            (good.clone().with("audiance", "x"), &["'audiance'", "'x'", "did you mean audience?"][..]),
            (good.clone().without("domain"), &["option domain is missing", "plugin_opt_domain"]),
            (good.clone().without("audience"), &["option audience is missing", "plugin_opt_audience"]),
            (good.clone().with("domain", "http://t.example"), &["option domain", "'http://t.example'", "plain http"]),
            (good.clone().with("issuer", "http://t.example"), &["option issuer", "'http://t.example'", "https://"]),
            (good.clone().with("client_id", "a").with("client_secret_file", &open), &["option client_secret_file", "mode 0644", "chmod 640"]),
            (good.clone().with("algorithms", "none"), &["option algorithms", "'none'", "RS256"]),
            (good.clone().with("ca_file", "/nonexistent"), &["option ca_file", "'/nonexistent'", "cannot be read"]),
            (good.clone().with("ca_file", &no_pem), &["option ca_file", "no certificate"]),
            (good.clone().with("jwks_file", &no_pem), &["option jwks_file", "jwks.json"]),
        ] {
            let failed = refused_start(version, &options);
            let lines: Vec<_> = failed.log.lines().filter(|line| line.contains("mosquitto-auth0: ")).collect();
            assert_eq!(lines.len(), 1, "{}", failed.log);
            for part in parts {
                assert!(lines[0].contains(part), "{} lacks {part}", lines[0]);
            }
            assert!(std::os::unix::process::ExitStatusExt::signal(&failed.status).is_none(), "{:?}", failed.status);
        }
    }

    /// Options come from a file of the plugin's own.
    fn options_may_come_from_a_file(version) {
        let tenant = tenant();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth0.toml");
        let lines: Vec<_> = PluginOptions::tokens(&tenant).pairs().iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
        std::fs::write(&file, lines.concat()).unwrap();
        let broker = Mosquitto::builder(version).plugin(plugin(), &[("config_file", file.to_str().unwrap())]).start().unwrap();
        with_token(&broker, &tenant, DEVICE).publish("temperature", "1").expect_success();
    }

    /// Log lines that are published as messages come back to the plugin as ACL checks.
    fn log_dest_topic_works(version) {
        let tenant = tenant();
        device(&tenant, "reader", serde_json::json!(["$SYS/broker/log/#", "own"]));
        let broker = builder(version, &PluginOptions::tokens(&tenant)).log_dest("topic").start().unwrap();
        let mut reader = with_token(&broker, &tenant, "reader").subscribe(&["$SYS/broker/log/#"]).subscribed();
        let mut device = raw(&broker, &tenant, DEVICE, "noisy", Protocol::V5);
        for i in 0..50 {
            device.publish(&format!("secret/{i}"), "no", 1).unwrap();
        }
        loop {
            let message = reader.expect_message();
            if message.text().contains("[not-granted]") && message.text().contains("'noisy'") {
                break;
            }
        }
    }
}
