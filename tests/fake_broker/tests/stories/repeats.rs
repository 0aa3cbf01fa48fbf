//! Repetitions of a refusal: one line, and a count.

use fake_broker::{AclAccess, BAD_USERNAME_OR_PASSWORD, ClientSpec, SUCCESS, alone};

use super::{FORBIDDEN, Scene};

/// Returns how many lines contain all of these texts.
fn lines(scene: &Scene, parts: &[&str]) -> usize {
    let all = |line: &&fake_broker::Line| parts.iter().all(|part| line.text.contains(part));
    scene.broker.log().iter().filter(all).count()
}

#[test]
fn three_hundred_refusals_of_a_device_are_a_line_and_a_count() {
    alone(|| {
        let mut scene = Scene::quiet();
        // A token that can be parsed, and one that cannot.
        let token = ClientSpec::new("device").token("no.token");
        let nul = ClientSpec::new("nul").password_with_length("pass\0word");
        for (spec, reason) in [(token, "[token-malformed]"), (nul, "[password-nul]")] {
            let client = scene.broker.client(&spec);
            for _ in 0..300 {
                assert_ne!(scene.broker.connect(client), SUCCESS);
                scene.broker.reuse(client, &spec);
            }
            scene.broker.tick();
            let first = "; repeats are counted and logged once a minute";
            assert_eq!(lines(&scene, &[reason]), 1, "{:#?}", scene.broker.log());
            assert_eq!(lines(&scene, &[reason, "from 192.0.2.1)", first]), 1);
        }
        scene.broker.cleanup();
        for (who, reason) in [
            ("'device'", "[token-malformed]"),
            ("'nul'", "[password-nul]"),
        ] {
            let count = "refused 299 more times [";
            assert_eq!(
                lines(&scene, &[who, reason, count]),
                1,
                "{:#?}",
                scene.broker.log()
            );
        }
    });
}

#[test]
fn refusals_of_many_client_ids_from_one_address_share_a_line() {
    alone(|| {
        let mut scene = Scene::quiet();
        let refusal = super::RELEASE.refusal(BAD_USERNAME_OR_PASSWORD);
        let junk = |i| ClientSpec::new(format!("junk-{i}")).token("no.token");
        let client = scene.broker.client(&junk(0));
        for i in 0..300 {
            assert_eq!(scene.broker.connect(client), refusal);
            scene.broker.reuse(client, &junk(i + 1));
        }
        let other = ClientSpec::new("a").token("no.token").address("192.0.2.2");
        scene.broker.connect_new(&other);
        scene.broker.tick();
        let log = scene.broker.log();
        assert_eq!(lines(&scene, &["'junk-"]), 17, "{log:#?}");
        let shared = "; more of these from 192.0.2.1 are counted and logged once a minute";
        assert_eq!(lines(&scene, &["'junk-16'", shared]), 1, "{log:#?}");
        assert_eq!(
            lines(&scene, &["of 'a'"]),
            1,
            "who comes from elsewhere has a line"
        );
        scene.broker.cleanup();
        let count = "refused 283 more from 192.0.2.1 [token-malformed] within a minute";
        let last = "the last: CONNECT of 'junk-299'";
        assert_eq!(
            lines(&scene, &[count, last]),
            1,
            "{:#?}",
            scene.broker.log()
        );
    });
}

#[test]
fn repeated_denials_of_a_device_are_a_line_and_a_count() {
    alone(|| {
        let mut scene = Scene::quiet();
        for _ in 0..20 {
            let device = scene.device("a");
            let client = scene.connected(&device);
            for _ in 0..3 {
                assert!(!scene.broker.allows(client, AclAccess::Write, FORBIDDEN));
            }
            scene.broker.disconnect(client);
            scene.broker.tick();
        }
        let first = "; not logged again on this connection; on later ones it is counted";
        assert_eq!(lines(&scene, &["[not-granted]", first]), 1);
        assert_eq!(lines(&scene, &["[not-granted]"]), 1);
        scene.broker.cleanup();
        let count = "PUBLISH of 'a'";
        let times = "refused 19 more times [not-granted] within a minute";
        assert_eq!(
            lines(&scene, &[count, times]),
            1,
            "{:#?}",
            scene.broker.log()
        );
    });
}

#[test]
fn refusals_from_many_addresses_share_a_few_lines() {
    alone(|| {
        let mut scene = Scene::quiet();
        for i in 0..40 {
            let client = scene.broker.client(&ClientSpec::new(format!("s{i}")));
            assert!(!scene.broker.allows(client, AclAccess::Write, FORBIDDEN));
        }
        scene.broker.tick();
        assert_eq!(
            lines(&scene, &["[unknown-client]"]),
            17,
            "{:#?}",
            scene.broker.log()
        );
        scene.broker.cleanup();
        assert_eq!(
            lines(
                &scene,
                &["refused 23 more from unknown addresses [unknown-client]"]
            ),
            1
        );
    });
}
