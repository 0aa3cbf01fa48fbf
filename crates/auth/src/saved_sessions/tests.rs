//! Tests of the file: what counts of one that is damaged.

use std::{collections::BTreeSet, fs, sync::Arc};

use serde_json::{Value, json};

use super::{
    contents::Damage,
    format::HEADER,
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
        let journal = Journal::start(dir.clone(), threads::plain, log.clone()).unwrap();
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
    file[version] = b'2';
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
    let journal = Journal::start(dir.clone(), threads::plain, log.clone()).unwrap();
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
