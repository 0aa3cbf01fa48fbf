//! What the log says, to whom it says it, and how often.

use std::time::Duration;

use lab::{
    clients::{Protocol, raw::Connect},
    tenant::DEVICE,
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
        let stubborn = lines(&log, &["refused CONNECT of 'stubborn'"]);
        assert_eq!(stubborn.len(), 2, "{stubborn:#?}");
        assert!(stubborn[0].contains("[token-expired]") && stubborn[0].contains("; cure: "));
        assert!(stubborn[0].ends_with("; repeats are counted, and told once a minute"), "{stubborn:#?}");
        assert!(stubborn[1].ends_with("[token-expired] 299 more times within a minute"), "{stubborn:#?}");
        assert_eq!(lines(&log, &["refused CONNECT of 'junk-"]).len(), 17);
        let rest = lines(&log, &["refused 83 more from 127.0.0.1 [token-malformed] within a minute", "'junk-99'"]);
        assert_eq!(rest.len(), 1, "{log}");
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
        let line = broker.wait_for_log("2 more times within a minute", within);
        assert!(line.unwrap().contains("refused CONNECT of 'junk' (user 'JWT', from 127.0.0.1) [token-malformed]"));
    }
}
