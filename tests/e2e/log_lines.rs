//! Log lines: what they say, about whom, and how often.

use std::time::Duration;

use serde_json::json;
use testbed::{
    broker::{Listener, Mosquitto, Signal},
    clients::{
        Protocol,
        raw::{ConnectPacket, RawClient},
    },
    tenant::{Behaviour, DEVICE, Endpoint, ResponseGate},
};

use crate::{helpers::*, on_each_broker};

/// Returns the broker's lines that contain all of these texts.
fn lines(log: &str, parts: &[&str]) -> Vec<String> {
    let all = |line: &&str| parts.iter().all(|part| line.contains(part));
    log.lines().filter(all).map(str::to_owned).collect()
}

on_each_broker! {
    /// 300 retries of one device give one line and one with the count, and a flood of client IDs from one
    /// address gives a few lines. The counts are also written when the broker stops.
    fn repeated_refusals_are_counted(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let expired = tenant.mint(DEVICE).lifetime(-3600).sign();
        for _ in 0..300 {
            assert!(answer(&broker, &token_connect(Protocol::V311, "stubborn", &expired)).is_some());
        }
        for i in 0..100 {
            let junk = ConnectPacket::new(Protocol::V311, &format!("junk-{i}")).login("JWT", "no.token");
            assert!(answer(&broker, &junk).is_some());
        }
        raw(&broker, &tenant, DEVICE, "good", Protocol::V311).ping().unwrap();
        let log = broker.stop().log;
        let stubborn = lines(&log, &["CONNECT", "of 'stubborn'"]);
        assert_eq!(stubborn.len(), 2, "{stubborn:#?}");
        assert!(stubborn[0].contains("refused CONNECT [token-expired] of 'stubborn'") && stubborn[0].contains("; fix: "));
        assert!(stubborn[0].ends_with("; repeats are counted and logged once a minute"), "{stubborn:#?}");
        assert!(stubborn[1].contains("refused 299 more times [token-expired] within a minute: CONNECT of 'stubborn'"), "{stubborn:#?}");
        assert_eq!(lines(&log, &["refused CONNECT [token-malformed] of 'junk-"]).len(), 17);
        let rest = lines(&log, &["refused 83 more from 127.0.0.1 [token-malformed] within a minute", "'junk-99'"]);
        assert_eq!(rest.len(), 1, "{log}");
    }

    /// A device without any rights that connects again and again, and is denied more than is told on each connection,
    /// does not fill the log either.
    fn a_device_without_rights_does_not_fill_the_log(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let token = tenant.mint(DEVICE).claim("topics", json!([])).sign();
        for _ in 0..30 {
            let connect = token_connect(Protocol::V311, "useless", &token);
            let mut client = RawClient::connect(broker.port(), &connect).unwrap();
            for i in 0..20 {
                client.publish(&format!("x/{i}"), "x", 0).unwrap();
            }
            client.ping().unwrap();
        }
        let log = broker.stop().log;
        for (first, count) in [
            ("'useless' signed in and has no rights", "29 more sign-ins without rights within a minute"),
            ("further refusals of 'useless' are not logged", "on 29 more connections too many refusals to log"),
        ] {
            assert_eq!((lines(&log, &[first]).len(), lines(&log, &[count]).len()), (1, 1), "{log}");
        }
        let all = lines(&log, &["mosquitto-auth0: ", "useless"]);
        assert!(all.len() < 24, "{all:#?}");
    }

    /// With requests pending and the longest possible `timeout`, the broker stops soon, with status 0.
    fn a_stop_does_not_wait_for_the_tenant(version) {
        let tenant = tenant();
        let options = PluginOptions::both(&tenant).with("timeout", "60").with("login_wait", "0");
        let mut broker = broker(version, &options);
        broker.expect_log("signing keys were fetched");
        let gate = ResponseGate::new();
        for endpoint in [Endpoint::Token, Endpoint::Jwks] {
            tenant.on(endpoint, Behaviour::Gate(gate.clone()));
        }
        broker.reload();
        let waiting: Vec<_> = (0..3)
            .map(|i| {
                device(&tenant, &format!("d{i}"), serde_json::json!([]));
                let login = ConnectPacket::new(Protocol::V311, &format!("c{i}")).login(format!("d{i}"), "pass");
                crate::waiting::send_connect(&broker, &login)
            })
            .collect();
        assert!(gate.wait_for(4, PATIENCE), "three logins and the keys");
        broker.signal(Signal::TERM);
        // Far below `timeout`, and long enough for a busy machine.
        let stopped = broker.wait_for_exit(PATIENCE).expect("it ends");
        assert!(ended_well(&stopped), "{:?}\n{}", stopped.status, stopped.log);
        drop(waiting);
    }

    /// With two tenants at two listeners, no line says that a present setting is missing.
    fn no_line_misses_a_setting_with_two_tenants_at_two_listeners(version) {
        let (one, two) = (tenant(), tenant());
        let broker = broker_with_listeners(version, &[PluginOptions::tokens(&one), PluginOptions::tokens(&two)]);
        let [first, second] = broker.ports() else { panic!("two ports") };
        for (tenant, port) in [(&one, *first), (&two, *second)] {
            with_token(&broker, tenant, DEVICE).port(port).publish("temperature", "1").expect_success();
        }
        let log = broker.stop().log;
        assert!(lines(&log, &["needs per_listener_settings"]).is_empty(), "{log}");
        let said = lines(&log, &["loaded again with other options"]);
        assert_eq!(said.len(), usize::from(version.can_delay_logins()), "{said:?}");
        assert!(said.iter().all(|line| line.contains("per_listener_settings true or by plugin_use")), "{said:?}");
    }

    /// The same with `plugin_use`, 2.1's way to have a plugin at one listener, without
    /// `per_listener_settings`.
    fn no_line_misses_a_setting_with_two_tenants_by_plugin_use(version) {
        if !version.can_delay_logins() {
            return;
        }
        let (one, two) = (tenant(), tenant());
        let load = |name: &str, options: PluginOptions| {
            let options = options.pairs().into_iter().map(|(name, value)| format!("plugin_opt_{name} {value}\n"));
            format!("plugin_load {name} {}\n{}", plugin().display(), options.collect::<String>())
        };
        let both = load("one", PluginOptions::tokens(&one)) + &load("two", PluginOptions::tokens(&two));
        let broker = Mosquitto::builder(version)
            .config(both)
            .listener(Listener::tcp().config("plugin_use one\nlistener_allow_anonymous false"))
            .listener(Listener::tcp().config("plugin_use two\nlistener_allow_anonymous false"))
            .start()
            .unwrap();
        let [first, second] = broker.ports() else { panic!("two ports") };
        for (tenant, port) in [(&one, *first), (&two, *second)] {
            with_token(&broker, tenant, DEVICE).port(port).publish("temperature", "1").expect_success();
        }
        let said = lines(&broker.stop().log, &["loaded again with other options", "or by plugin_use"]);
        assert_eq!(said.len(), 1, "{said:?}");
    }

    /// Client IDs that change the text direction, and client IDs of 30 kilobytes, leave the reason and the
    /// fix readable.
    fn hostile_client_ids_leave_the_reason_readable(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        for name in ["\u{202e}".repeat(10_000), "n".repeat(30_000)] {
            let connect = ConnectPacket::new(Protocol::V311, &name).login(&name, "password");
            assert!(answer(&broker, &connect).is_some());
        }
        let log = broker.stop().log;
        let refused = lines(&log, &["refused CONNECT [credentials-off] of '"]);
        assert_eq!(refused.len(), 2, "{refused:#?}");
        for line in &refused {
            assert!(line.contains("'..., from 127.0.0.1): it sent a password, and credentials mode is off"), "{line}");
            assert!(line.ends_with("logged once a minute") && !line.contains('\u{202e}'), "{line}");
        }
    }

    /// Where decisions are left to others and there are none, the log says so at the start. A client without a topic is
    /// told apart from one with other topics.
    fn rights_that_nobody_gives_are_explained(version) {
        let tenant = tenant();
        device(&tenant, "bare", json!([]));
        let options = PluginOptions::tokens(&tenant).with("on_other", "defer");
        let broker = broker(version, &options);
        let line = broker.expect_log("on_other is defer, and the broker has neither an acl_file nor another plugin");
        assert!(line.contains("fix: set acl_file"), "{line}");
        let mut bare = raw(&broker, &tenant, "bare", "c", Protocol::V5);
        assert_eq!(bare.publish("temperature", "1", 1), Ok(0x87));
        let line = expect_refusal(&broker, "'c'", "not-granted");
        let why = "no rule applies, because its token lists no topic at all (claim 'topics')";
        assert!(line.contains(why), "{line}");
        drop(broker);

        let builder = builder(version, &options);
        let acl = builder.folder().join("acl");
        std::fs::write(&acl, "topic read a\n").unwrap();
        let broker = builder.config(format!("acl_file {}", acl.display())).start().unwrap();
        broker.expect_log("signing keys were fetched");
        assert!(!broker.log().contains("on_other is defer"), "{}", broker.log());
    }

    /// A plugin gets its options when the broker starts, not on reload.
    fn a_reload_logs_which_changes_need_a_restart(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        broker.expect_log("signing keys were fetched");
        broker.reload();
        // Only then has the plugin read mosquitto.conf.
        broker.expect_log("configuration generation 1 is in force");
        let file = broker.folder().join("mosquitto.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        let changed = text
            .replace("plugin_opt_audience ", "plugin_opt_audience https://another.example/,")
            .replace("plugin_opt_client_secret ", "plugin_opt_client_secret another-");
        assert_ne!(text, changed);
        std::fs::write(&file, &changed).unwrap();
        broker.reload();
        let line = broker.expect_log("mosquitto.conf has other options than those that are in force");
        assert!(line.contains("in audience, client_secret: the broker reads the options of plugins only when it starts; fix: restart it, or move"), "{line}");
        let log = broker.stop().log;
        assert_eq!(lines(&log, &["mosquitto.conf has other options"]).len(), 1, "{log}");
        assert!(!log.contains("another-"), "{log}");
    }

    /// The count is logged although there are no more refusals.
    fn counted_refusals_are_logged_after_a_minute(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        for _ in 0..3 {
            let junk = ConnectPacket::new(Protocol::V311, "junk").login("JWT", "no.token");
            assert!(answer(&broker, &junk).is_some());
        }
        let within = Duration::from_secs(60) + PATIENCE;
        let line = broker.wait_for_log("refused 2 more times [token-malformed] within a minute", within);
        assert!(line.unwrap().contains(": CONNECT of 'junk' (user 'JWT', from 127.0.0.1)"));
    }
}
