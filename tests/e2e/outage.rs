//! The tenant is unreachable for long, or during a restart of the broker: which devices are admitted, and
//! until when.

use std::{fs, os::unix::fs::PermissionsExt};

use testbed::{
    broker::Mosquitto,
    clients::{Protocol, raw},
    tenant::{DEVICE, Tenant},
};

use crate::{helpers::*, on_each_broker};

/// Creates a state folder that other users cannot change.
fn state_dir() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

fn have_keys(broker: &Mosquitto) {
    broker
        .wait_for_log("signing keys were fetched", PATIENCE)
        .unwrap_or_else(|| panic!("{}", broker.log()));
}

fn kept_file(tenant: &Tenant, folder: &tempfile::TempDir) -> std::path::PathBuf {
    let start = format!("keys-{}-", tenant.domain().replace(':', "_"));
    let mut files = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap());
    let kept = files.find(|file| file.file_name().to_str().unwrap().starts_with(&start));
    kept.expect("a file of keys").path()
}

/// Returns the nice values of a process's threads: its main thread's, and those of the plugin's threads.
fn nice(broker: &Mosquitto) -> (i32, Vec<i32>) {
    let tasks = format!("/proc/{}/task", broker.pid());
    let (mut first, mut ours) = (None, Vec::new());
    for task in fs::read_dir(tasks).unwrap().map(Result::unwrap) {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        // proc_pid_stat(5): nice is field 19, and the state behind the name is field 3.
        let nice = rest.split_whitespace().nth(16).unwrap().parse().unwrap();
        if task.file_name().to_str() == Some(&broker.pid().to_string()) {
            first = Some(nice);
        } else if name.starts_with("auth0-") {
            ours.push(nice);
        }
    }
    (first.unwrap(), ours)
}

on_each_broker! {
    /// A broker that restarts while the tenant is unreachable admits devices with tokens.
    fn keys_survive_a_restart(version) {
        let tenant = tenant();
        let (folder, path) = state_dir();
        let first = broker(version, &PluginOptions::tokens(&tenant).with("state_dir", &path).with("timeout", "1"));
        have_keys(&first);
        let file = kept_file(&tenant, &folder);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let token = tenant.token(DEVICE);
        tenant.stop_listening();
        let second = first.restart().unwrap();
        assert!(second.wait_for_log("in use until it answers", PATIENCE).is_some());
        assert_eq!(answer(&second, &token_connect(Protocol::V5, "c", &token)), None);

        // Now another user could have written the file.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o606)).unwrap();
        let third = second.restart().unwrap();
        let line = third.expect_log("are not used: it may be used by others");
        assert!(line.contains("fix: delete the file"), "{line}");
        assert_eq!(
            answer(&third, &token_connect(Protocol::V5, "c", &token)),
            expected_refusal(version, Protocol::V5, 0x88)
        );
        expect_refusal(&third, "'c'", "keys-unavailable");

        // The tenant is back, and its keys are saved again properly.
        tenant.listen_again().unwrap();
        third.reload();
        have_keys(&third);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(answer(&third, &token_connect(Protocol::V5, "c", &token)), None);
    }

    /// A folder that other users can change is refused.
    fn a_shared_state_dir_is_refused(version) {
        let tenant = tenant();
        let (folder, path) = state_dir();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let failed = refused_start(version, &PluginOptions::tokens(&tenant).with("state_dir", &path));
        assert!(failed.log.contains("option state_dir") && failed.log.contains("chmod go-w"), "{}", failed.log);
    }

    /// If the disk cannot be written, only the keys are not saved.
    fn an_unwritable_state_dir_is_tolerated(version) {
        let tenant = tenant();
        let (folder, path) = state_dir();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("state_dir", &path));
        have_keys(&broker);
        drop(folder);
        tenant.rotate();
        tenant.rotate();
        broker.reload();
        let line = broker.expect_log("cannot be kept over a restart");
        assert!(line.contains("fix: "), "{line}");
        raw(&broker, &tenant, DEVICE, "c", Protocol::V311);
    }

    /// Keys without a successful fetch for `jwks_max_stale` are dropped; connected devices stay connected.
    fn keys_are_dropped_after_jwks_max_stale(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("jwks_max_stale", "0").with("timeout", "1"));
        have_keys(&broker);
        let mut connected = raw(&broker, &tenant, DEVICE, "connected", Protocol::V5);
        let token = token_connect(Protocol::V5, "c", &tenant.token(DEVICE));
        assert_eq!(answer(&broker, &token), None);

        tenant.stop_listening();
        broker.reload();
        broker.expect_log("longer than jwks_max_stale");
        assert_eq!(answer(&broker, &token), expected_refusal(version, Protocol::V5, 0x88), "a remembered token needs keys too");
        expect_refusal(&broker, "'c'", "keys-unavailable");
        assert!(connected.publish("temperature", "1", 1).unwrap() < 0x80);

        tenant.listen_again().unwrap();
        let mark = broker.log_mark();
        broker.reload();
        assert!(broker.wait_for_log_after(mark, "signing keys were fetched", PATIENCE).is_some());
        assert_eq!(answer(&broker, &token), None);
    }

    /// A cached token is refused once its key is withdrawn.
    fn a_cached_token_is_refused_after_its_key_is_withdrawn(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        have_keys(&broker);
        let token = token_connect(Protocol::V5, "c", &tenant.token(DEVICE));
        for _ in 0..3 {
            assert_eq!(answer(&broker, &token), None);
        }
        tenant.rotate_unannounced();
        tenant.revoke_previous();
        broker.reload();
        // Its key is among the new ones, so the new ones have arrived.
        raw(&broker, &tenant, DEVICE, "new", Protocol::V5);
        assert!(answer(&broker, &token).is_some());
        assert!(broker.expect_log("] of 'c'").contains("[token-key-"));
    }

    /// Threads that wait for the tenant have a lower priority than the broker.
    fn plugin_threads_have_a_lower_priority(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::both(&tenant));
        have_keys(&broker);
        let login = raw::ConnectPacket::new(Protocol::V311, "c").login(DEVICE, testbed::tenant::PASSWORD);
        assert_eq!(answer(&broker, &login), None);
        let (brokers, ours) = nice(&broker);
        assert!(ours.len() >= 2, "one for the keys, one for the login: {ours:?}");
        // 19 is the lowest priority, which the broker has where the tests run under `nice`.
        let behind = |ours: &i32| *ours > brokers || brokers == 19;
        assert!(ours.iter().all(behind), "{ours:?} beside {brokers}");
    }
}
