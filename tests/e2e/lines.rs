//! What the log says, to whom it says it, and how often.

use std::time::Duration;

use testbed::{
    broker::{Broker, Listener, Signal},
    clients::{Protocol, raw::Connect},
    tenant::{Behaviour, DEVICE, Endpoint, Gate},
};

use crate::{on_each_broker, setting::*};

/// The broker's lines that hold all of these.
fn lines(log: &str, parts: &[&str]) -> Vec<String> {
    let all = |line: &&str| parts.iter().all(|part| line.contains(part));
    log.lines().filter(all).map(str::to_owned).collect()
}

on_each_broker! {
    /// 300 retries of one device are one line and one with the count, and a flood of names from one
    /// address has a few lines. What was counted is told when the broker stops, too.
    fn the_same_refusal_again_is_counted(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant));
        let expired = tenant.mint(DEVICE).lifetime(-3600).sign();
        for _ in 0..300 {
            assert!(answer(&broker, &token_connect(Protocol::V311, "stubborn", &expired)).is_some());
        }
        for i in 0..100 {
            let junk = Connect::new(Protocol::V311, &format!("junk-{i}")).login("JWT", "no.token");
            assert!(answer(&broker, &junk).is_some());
        }
        raw(&broker, &tenant, DEVICE, "good", Protocol::V311).ping().unwrap();
        let log = broker.stop().log;
        let stubborn = lines(&log, &["CONNECT", "of 'stubborn'"]);
        assert_eq!(stubborn.len(), 2, "{stubborn:#?}");
        assert!(stubborn[0].contains("refused CONNECT [token-expired] of 'stubborn'") && stubborn[0].contains("; cure: "));
        assert!(stubborn[0].ends_with("; repeats are counted, and told once a minute"), "{stubborn:#?}");
        assert!(stubborn[1].contains("refused 299 more times [token-expired] within a minute: CONNECT of 'stubborn'"), "{stubborn:#?}");
        assert_eq!(lines(&log, &["refused CONNECT [token-malformed] of 'junk-"]).len(), 17);
        let rest = lines(&log, &["refused 83 more from 127.0.0.1 [token-malformed] within a minute", "'junk-99'"]);
        assert_eq!(rest.len(), 1, "{log}");
    }

    /// Whatever is pending, with the longest `timeout` there is: the broker ends soon, and ends well.
    fn a_stop_waits_for_no_tenant(version) {
        let tenant = tenant();
        let options = Options::both(&tenant).with("timeout", "60").with("login_wait", "0");
        let mut broker = broker(version, &options);
        broker.expect_log("signing keys are here");
        let gate = Gate::new();
        for endpoint in [Endpoint::Token, Endpoint::Jwks] {
            tenant.on(endpoint, Behaviour::Gate(gate.clone()));
        }
        broker.reload();
        let waiting: Vec<_> = (0..3)
            .map(|i| {
                device(&tenant, &format!("d{i}"), serde_json::json!([]));
                let login = Connect::new(Protocol::V311, &format!("c{i}")).login(format!("d{i}"), "pass");
                crate::waiting::knock(&broker, &login)
            })
            .collect();
        assert!(gate.wait_for(4, PATIENCE), "three logins and the keys");
        broker.signal(Signal::TERM);
        // Far from `timeout`, and long for a machine that is busy.
        let stopped = broker.wait_for_exit(PATIENCE).expect("it ends");
        assert!(stopped.status.is_some_and(|status| status.success()), "{:?}\n{}", stopped.status, stopped.log);
        drop(waiting);
    }

    /// Two tenants at two listeners: no line says that a setting is missing which is there.
    fn two_tenants_at_two_listeners(version) {
        let (one, two) = (tenant(), tenant());
        let listener = |options: Options| Listener::tcp().plugin(plugin(), &options.pairs());
        let broker = Broker::builder(version)
            .per_listener_settings(true)
            .listener(listener(Options::tokens(&one)))
            .listener(listener(Options::tokens(&two)))
            .start()
            .unwrap();
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

    /// The same by 2.1's way to have one plugin at one listener, without `per_listener_settings`.
    fn two_tenants_by_plugin_use(version) {
        if !version.can_delay_logins() {
            return;
        }
        let (one, two) = (tenant(), tenant());
        let load = |name: &str, options: Options| {
            let options = options.pairs().into_iter().map(|(name, value)| format!("plugin_opt_{name} {value}\n"));
            format!("plugin_load {name} {}\n{}", plugin().display(), options.collect::<String>())
        };
        let both = load("one", Options::tokens(&one)) + &load("two", Options::tokens(&two));
        let broker = Broker::builder(version)
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

    /// Names that turn the line around, and names of 30 kilobytes: the reason and what helps are read in full.
    fn names_leave_the_reason_whole(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant));
        for name in ["\u{202e}".repeat(10_000), "n".repeat(30_000)] {
            let connect = Connect::new(Protocol::V311, &name).login(&name, "password");
            assert!(answer(&broker, &connect).is_some());
        }
        let log = broker.stop().log;
        let refused = lines(&log, &["refused CONNECT [credentials-off] of '"]);
        assert_eq!(refused.len(), 2, "{refused:#?}");
        for line in &refused {
            assert!(line.contains("'..., from 127.0.0.1): it sent a password, and credentials mode is off"), "{line}");
            assert!(line.ends_with("told once a minute") && !line.contains('\u{202e}'), "{line}");
        }
    }

    /// Options are given to a plugin when the broker starts, and not when it reloads.
    fn a_reload_says_what_needs_a_restart(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::both(&tenant));
        broker.expect_log("signing keys are here");
        broker.reload();
        let file = broker.folder().join("mosquitto.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        let changed = text
            .replace("plugin_opt_audience ", "plugin_opt_audience https://another.example/,")
            .replace("plugin_opt_client_secret ", "plugin_opt_client_secret another-");
        assert_ne!(text, changed);
        std::fs::write(&file, &changed).unwrap();
        broker.reload();
        let line = broker.expect_log("the configuration on disk is not what runs");
        assert!(line.contains("in audience, client_secret: a reload changes no options; cure: restart"), "{line}");
        let log = broker.stop().log;
        assert_eq!(lines(&log, &["the configuration on disk is not"]).len(), 1, "{log}");
        assert!(!log.contains("another-"), "{log}");
    }

    /// The count is told though nobody is refused any more.
    fn a_count_is_told_after_a_minute(version) {
        let tenant = tenant();
        let broker = broker(version, &Options::tokens(&tenant));
        for _ in 0..3 {
            let junk = Connect::new(Protocol::V311, "junk").login("JWT", "no.token");
            assert!(answer(&broker, &junk).is_some());
        }
        let within = Duration::from_secs(60) + PATIENCE;
        let line = broker.wait_for_log("refused 2 more times [token-malformed] within a minute", within);
        assert!(line.unwrap().contains(": CONNECT of 'junk' (user 'JWT', from 127.0.0.1)"));
    }
}
