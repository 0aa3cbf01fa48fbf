//! Tests of the file: what counts of one that is damaged.

use std::{collections::BTreeSet, fs, sync::Arc};

use serde_json::{Value, json};

use super::{
    contents::Damage,
    format::{FIRST_HEADER, HEADER},
    journal::{Change, Journal},
    *,
};
use crate::{log::Log, threads};
use acl::interner::Interner;

fn account(subject: &str) -> Account {
    Account {
        issuer: "https://t.example/".into(),
        subject: subject.into(),
    }
}

/// Returns the session of a device whose token has these claims; `topics` count, and `site` is named.
fn session(subject: &str, claims: &Value) -> SessionToSave {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let claims = claims.as_object().unwrap();
    let (counting, named) = (names(&["topics"]), names(&["site", "none"]));
    let mut interner = Interner::default();
    let picked = SavedClaims::pick(claims, &account(subject), counting, named, &mut interner);
    let attributes = (Some([127, 0, 0, 1].into()), Some(1883), Some([7; 32]));
    let username: Arc<str> = "the user name".into();
    SessionToSave::new(
        &picked,
        &username,
        &account(subject),
        Unix(2_000_000_000),
        Some(0x0123_4567_89ab_cdef),
        attributes,
    )
}

/// What a file says of one session: whose it is, and its claims if they count.
fn said(sessions: &SavedSessions, client_id: &str) -> Option<(String, Option<Value>)> {
    let owner = ["auth0|1", "auth0|2", "auth0|3"];
    let owner = owner.iter().find(|one| {
        sessions.has(client_id) && !sessions.is_held_by_another(client_id, Some(&account(one)))
    })?;
    let needed: BTreeSet<_> = ["topics", "site", "none"].map(String::from).into();
    let claims = sessions
        .get(client_id)
        .filter(|saved| saved.covers(&needed))
        .and_then(|saved| saved.claims());
    Some((
        (*owner).to_owned(),
        claims.map(|claims| Value::Object((*claims).clone())),
    ))
}

fn parsed(file: &[u8]) -> (SavedSessions, Option<Damage>) {
    let (contents, damage) = Contents::parse(file);
    let sessions = SavedSessions {
        contents,
        ..SavedSessions::default()
    };
    (sessions, damage)
}

/// Has a journal write each list of changes at once.
fn written(dir: &StateDir, batches: Vec<Vec<(&str, Option<SessionToSave>)>>) -> Vec<u8> {
    for batch in batches {
        let log = Log::default();
        let journal =
            Journal::start(dir.clone(), threads::plain, log.clone(), SAVE_WITHIN).unwrap();
        for (client_id, change) in batch {
            journal.push(
                &client_id.into(),
                match change {
                    Some(one) => Change::Session(one.session, one.claims),
                    None => Change::Ended,
                },
            );
        }
        journal.finish();
        assert!(log.take().is_empty());
    }
    fs::read(dir.path_of(FILE)).unwrap()
}

/// A file in which the session `a` was given fewer rights, and `b` ended and is somebody else's.
fn file() -> Vec<u8> {
    let mut file = HEADER.to_vec();
    let write = |client_id: &str, one: SessionToSave, file: &mut Vec<u8>| {
        format::write(&format::Entry::Claims(&one.claims.text), file);
        format::write(&format::Entry::Session(client_id, one.session), file);
    };
    write(
        "a",
        session("auth0|1", &json!({"topics": ["x", "y"], "site": "s1"})),
        &mut file,
    );
    write(
        "b",
        session("auth0|2", &json!({"topics": ["x"]})),
        &mut file,
    );
    format::write(&format::Entry::Ended("b"), &mut file);
    write(
        "a",
        session("auth0|1", &json!({"topics": ["x"], "site": "s1"})),
        &mut file,
    );
    write(
        "b",
        session("auth0|3", &json!({"topics": [], "site": {"long": [1]}})),
        &mut file,
    );
    file
}

#[test]
fn what_was_written_is_read() {
    let (sessions, damage) = parsed(&file());
    assert_eq!(damage, None);
    let a = json!({"topics": ["x"], "site": "s1"});
    assert_eq!(said(&sessions, "a"), Some(("auth0|1".into(), Some(a))));
    let b = json!({"topics": [], "site": {"long": [1]}});
    assert_eq!(said(&sessions, "b"), Some(("auth0|3".into(), Some(b))));
    let one = sessions.get("a").unwrap();
    assert_eq!(
        (one.session.port, one.session.certificate),
        (Some(1883), Some([7; 32]))
    );
    assert_eq!(one.session.address, Some([127, 0, 0, 1].into()));
    assert_eq!(one.session.signed_by, Some(0x0123_4567_89ab_cdef));
    let unknown = ["topics", "role"].map(String::from).into();
    assert!(!one.covers(&unknown), "nothing is known of this claim");
}

/// Whatever is cut off counts as not saved.
#[test]
fn a_file_that_was_cut_anywhere_says_what_it_said_before() {
    let file = file();
    let mut whole = Vec::new();
    format::read(&file[HEADER.len()..], HEADER.len(), |_| {});
    for length in 0..file.len() {
        let (sessions, damage) = parsed(&file[..length]);
        match damage {
            None => whole.push(length),
            Some(Damage::CutOff(good)) => {
                assert_eq!(good, whole.last().copied().unwrap_or(0));
                let (before, _) = parsed(&file[..good]);
                for id in ["a", "b"] {
                    assert_eq!(said(&sessions, id), said(&before, id));
                }
            }
            other => panic!("{other:?} at {length}"),
        }
    }
    assert_eq!(
        whole.len(),
        9,
        "after the header, and after each entry but the last"
    );
}

/// A bit that was flipped gives no session other rights than it had last, and no other owner than it had at some time.
#[test]
fn a_flipped_bit_gives_no_rights() {
    let file = file();
    let (last, _) = parsed(&file);
    for bit in 0..8 * file.len() {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (sessions, damage) = parsed(&flipped);
        match damage {
            Some(Damage::OtherFormat) => assert!(bit / 8 < HEADER.len()),
            Some(Damage::Changed(at)) => assert!(at <= bit / 8 && at >= HEADER.len()),
            other => panic!("{other:?}: bit {bit}"),
        }
        for id in ["a", "b"] {
            let (Some((owner, claims)), Some((last_owner, last_claims))) =
                (said(&sessions, id), said(&last, id))
            else {
                continue;
            };
            assert!(claims.is_none() || claims == last_claims, "bit {bit}");
            assert!(claims.is_none() || owner == last_owner, "bit {bit}");
        }
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let file = file();
    let mut random = 1_u64;
    for _ in 0..2000 {
        let mut bytes = file.clone();
        for _ in 0..4 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (random >> 33) as usize % bytes.len();
            bytes[at] = (random >> 25) as u8;
        }
        parsed(&bytes);
    }
}

#[test]
fn a_file_of_another_version_is_not_used() {
    let mut file = file();
    let version = HEADER.len() - 2;
    file[version] = b'3';
    let (sessions, damage) = parsed(&file);
    assert_eq!(damage, Some(Damage::OtherFormat));
    assert!(!sessions.has("a"));
}

#[test]
fn changes_are_appended_and_the_file_is_written_anew_when_half_is_out_of_date() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let device = |site: usize| {
        session(
            "auth0|1",
            &json!({"topics": ["x"], "site": format!("{site}")}),
        )
    };
    let first = written(
        &dir,
        vec![vec![("a", Some(device(1))), ("b", Some(device(1)))]],
    );
    let again = written(&dir, vec![vec![("b", None)], vec![("a", Some(device(2)))]]);
    assert!(again.len() < first.len());
    let (sessions, damage) = parsed(&again);
    assert!(damage.is_none() && !sessions.has("b"));
    let claims = said(&sessions, "a").unwrap().1.unwrap();
    assert_eq!(claims, json!({"topics": ["x"], "site": "2"}));
    let per_session = |ids: usize| {
        let ids: Vec<String> = (0..ids).map(|id| format!("device-{id:08}")).collect();
        let changes = ids.iter().map(|id| (&**id, Some(device(1)))).collect();
        written(&dir, vec![changes]).len()
    };
    let (few, many) = (per_session(100), per_session(1100));
    assert!((many - few) / 1000 <= 200, "{}", (many - few) / 1000);
}

/// While the disk is full, nothing is lost that fits later, and one line says so.
#[test]
fn a_folder_that_cannot_be_written_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    // A rename cannot replace a folder by a file.
    fs::create_dir(dir.path_of(FILE)).unwrap();
    let log = Log::default();
    let journal = Journal::start(dir.clone(), threads::plain, log.clone(), SAVE_WITHIN).unwrap();
    let one = session("auth0|1", &json!({"topics": ["x"]}));
    journal.push(&"a".into(), Change::Session(one.session, one.claims));
    journal.finish();
    let lines = log.take();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].1.contains("cannot be saved") && lines[0].1.contains("fix: "),
        "{lines:?}"
    );
}

/// The first format had no signing keys and no released client IDs. It is read, and replaced by the first write.
#[test]
fn a_file_of_the_first_format_is_read() {
    let mut first = FIRST_HEADER.to_vec();
    let mut one = session("auth0|1", &json!({"topics": ["x"], "site": "s1"}));
    one.session.signed_by = None;
    format::write(&format::Entry::Claims(&one.claims.text), &mut first);
    format::write(&format::Entry::Session("a", one.session), &mut first);
    let claims = json!({"topics": ["x"], "site": "s1"});
    let expected = Some(("auth0|1".into(), Some(claims)));
    let (sessions, damage) = parsed(&first);
    assert!(damage.is_none());
    assert_eq!(said(&sessions, "a"), expected);
    assert_eq!(sessions.get("a").unwrap().session.signed_by, None);

    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    dir.write(FILE, &first).unwrap();
    let other = session("auth0|2", &json!({"topics": ["x"]}));
    let file = written(&dir, vec![vec![("b", Some(other))]]);
    assert!(file.starts_with(HEADER));
    let (sessions, damage) = parsed(&file);
    assert!(damage.is_none() && sessions.has("b"));
    assert_eq!(said(&sessions, "a"), expected);
}

/// A client ID that was released is free after a restart too, until somebody has it.
#[test]
fn a_released_client_id_stays_free() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let log = Log::default();
    let device = || session("auth0|1", &json!({"topics": ["x"]}));
    let restarted = || {
        let mut sessions = SavedSessions::default();
        sessions.open(&dir, threads::plain, &log);
        sessions
    };
    let change = |change: &dyn Fn(&mut SavedSessions)| {
        let mut sessions = restarted();
        change(&mut sessions);
        sessions.finish();
        let sessions = restarted();
        (sessions.has("a"), sessions.is_released("a"))
    };
    assert_eq!(change(&|of| of.save(&"a".into(), device())), (true, false));
    assert_eq!(change(&|of| of.release("a")), (false, true));
    let renew_alone = change(&|of| of.renew(&"a".into(), device()));
    assert_eq!(renew_alone, (false, true), "nobody has it");
    assert_eq!(change(&|of| of.save(&"a".into(), device())), (true, false));
    assert_eq!(change(&|of| of.release("a")), (false, true));
    assert_eq!(change(&|of| of.end(&"a".into())), (false, false));
    // Within one run, and without another write.
    let in_one_run = change(&|of| {
        of.save(&"a".into(), device());
        of.release("a");
        assert!(of.is_released("a") && !of.has("a"));
    });
    assert_eq!(in_one_run, (false, true));

    let mut file = fs::read(dir.path_of(FILE)).unwrap();
    assert!(parsed(&file).0.is_released("a"));
    let last = file.len() - 1;
    file[last] ^= 1;
    assert!(!parsed(&file).0.is_released("a"), "somebody may have it");
}

/// Two brokers would destroy each other's file.
#[test]
fn a_folder_has_one_broker() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::open(folder.path()).unwrap();
    let (first_log, second_log) = (Log::default(), Log::default());
    let device = || session("auth0|1", &json!({"topics": ["x"]}));
    let mut first = SavedSessions::default();
    first.open(&dir, threads::plain, &first_log);
    first.save(&"a".into(), device());
    let mut second = SavedSessions::default();
    for _instance in 0..2 {
        second.open(&dir, threads::plain, &second_log);
    }
    second.save(&"b".into(), device());
    second.finish();
    let lines = second_log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.contains("another broker uses the folder"));
    assert!(lines[0].1.contains("; fix: "));
    first.finish();
    assert!(first_log.take().is_empty());
    let mut next = SavedSessions::default();
    next.open(&dir, threads::plain, &first_log);
    assert!(next.has("a") && !next.has("b"));
}

/// The variable by which the test below tells its second process which disk to fill.
const DISK: &str = "AUTH0_TEST_DISK";

/// A disk of 256 KiB that is full, and then read-only. To mount one takes a name space of its own, and so a process of
/// its own.
#[test]
fn a_disk_that_is_full_or_read_only_is_reported_and_loses_nothing() {
    if let Some(disk) = std::env::var_os(DISK) {
        return fill_and_free(std::path::Path::new(&disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=256k,mode=700 none \"$AUTH0_TEST_DISK\"";
    let run = |script: &str| {
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["-rm", "sh", "-c", script, "sh"]);
        unshare.arg(std::env::current_exe().unwrap());
        unshare.env(DISK, folder.path()).output()
    };
    if !run(mount).is_ok_and(|tried| tried.status.success()) {
        eprintln!("not run: no disk can be mounted here (unshare -rm, mount -t tmpfs)");
        return;
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let test = run(&format!(
        "{mount} && exec \"$1\" --exact {name} --nocapture"
    ))
    .unwrap();
    let told = String::from_utf8_lossy(&test.stdout) + String::from_utf8_lossy(&test.stderr);
    assert!(test.status.success() && told.contains("1 passed"), "{told}");
}

fn fill_and_free(disk: &std::path::Path) {
    const SOON: Duration = Duration::from_millis(20);
    let dir = StateDir::open(disk).unwrap();
    let log = Log::default();
    let journal = Journal::start(dir.clone(), threads::plain, log.clone(), SOON).unwrap();
    let save = |name: String| {
        let one = session("auth0|1", &json!({"topics": ["x"]}));
        journal.push(&name.into(), Change::Session(one.session, one.claims));
    };
    let wait_for = |text: &str| {
        let deadline = crate::clock::Deadline::after(Duration::from_secs(20));
        loop {
            let lines = log.take();
            if let Some((_, line)) = lines.first() {
                assert!(lines.len() == 1 && line.contains(text), "{lines:?}");
                return;
            }
            assert!(!deadline.has_passed(), "{text}");
            std::thread::sleep(SOON);
        }
    };
    let on_disk = || parsed(&fs::read(dir.path_of(FILE)).unwrap()).0;

    // Full, in the middle of an entry too: as many are written as there is room for.
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 200 * 1024]).unwrap();
    (0..1000).for_each(|number| save(format!("many-{number}")));
    wait_for("No space left on device");
    save("while it is full".into());
    fs::remove_file(&ballast).unwrap();
    wait_for("are saved again");
    assert!(on_disk().has("many-0") && on_disk().has("many-999"));
    assert!(on_disk().has("while it is full"));

    let remount = |how: &str| {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(disk);
        assert!(mount.status().unwrap().success());
    };
    // The open file keeps the disk from becoming read-only, so another one is begun.
    journal.finish();
    remount("ro");
    let journal = Journal::start(dir.clone(), threads::plain, log.clone(), SOON).unwrap();
    let one = session("auth0|1", &json!({"topics": ["x"]}));
    journal.push(&"late".into(), Change::Session(one.session, one.claims));
    wait_for("Read-only file system");
    remount("rw");
    wait_for("are saved again");
    assert!(on_disk().has("late") && on_disk().has("many-0"));
    journal.finish();
}
