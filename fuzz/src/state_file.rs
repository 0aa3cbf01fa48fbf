//! The file of saved sessions: entries that are written, and what happens to the file afterwards.
//!
//! The judge keeps what each client had after each entry. A file that was cut off says what was so before; one that was
//! changed says less than the original, and never anything else.

use std::collections::{BTreeMap, BTreeSet};

use auth::fuzzing::{SavedEntry, SavedState, read_saved_sessions, write_saved_sessions};
use serde_json::json;

use crate::draw::Draw;

/// What is known after some entries: the rights of each client, and the client IDs that are free.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// The claims that are known by now.
    claims: BTreeSet<String>,
    /// Client, and what is written of its session, if it still counts.
    sessions: BTreeMap<String, (bool, SavedEntry)>,
    released: BTreeSet<String>,
}

impl Model {
    fn apply(&mut self, entry: &SavedEntry) {
        match entry {
            SavedEntry::Claims(text) => drop(self.claims.insert(text.clone())),
            SavedEntry::Session { client_id, .. } => {
                self.released.remove(client_id);
                self.sessions
                    .insert(client_id.clone(), (true, entry.clone()));
            }
            SavedEntry::Ended(client_id) => {
                self.released.remove(client_id);
                self.sessions.remove(client_id);
            }
            SavedEntry::Released(client_id) => {
                self.sessions.remove(client_id);
                self.released.insert(client_id.clone());
            }
            SavedEntry::Missing => {
                self.released.clear();
                for (counts, _) in self.sessions.values_mut() {
                    *counts = false;
                }
            }
        }
    }

    /// Returns the sessions whose rights count.
    fn rights(&self) -> BTreeMap<String, SavedEntry> {
        let counting = self.sessions.iter().filter(|(_, (counts, session))| {
            let SavedEntry::Session { claims, .. } = session else {
                unreachable!("only sessions are kept")
            };
            *counts && self.claims.contains(claims)
        });
        let counting =
            counting.map(|(client_id, (_, session))| (client_id.clone(), session.clone()));
        counting.collect()
    }
}

fn claims(number: usize) -> String {
    let own = if number == 2 { vec!["site"] } else { vec![] };
    let claims = json!({"permissions": [format!("publish:{number}")]});
    json!({"iss": "https://tenant.example/", "claims": claims, "own": own, "none": ["roles"]})
        .to_string()
}

fn entry(draw: &mut Draw) -> SavedEntry {
    const CLIENTS: [&str; 4] = ["a", "b", "a client ID of more than thirty bytes", "ü"];
    let client_id = |draw: &mut Draw| draw.choose(&CLIENTS).to_owned();
    match draw.below(8) {
        0 | 1 => SavedEntry::Claims(claims(draw.below(3))),
        2 => SavedEntry::Ended(client_id(draw)),
        3 => SavedEntry::Released(client_id(draw)),
        4 if draw.flag() => SavedEntry::Missing,
        _ => {
            let number = draw.below(3);
            let (address, port) = (draw.below(3), draw.word());
            SavedEntry::Session {
                client_id: client_id(draw),
                username: ["u", "v"][draw.below(2)].to_owned(),
                subject: ["u", "auth0|1"][draw.below(2)].to_owned(),
                until: u64::from(draw.word()),
                own: if number == 2 {
                    json!(["north"]).to_string()
                } else {
                    String::new()
                },
                claims: claims(number),
                address: [None, Some([192, 0, 2, 1].into()), Some([0x2001; 8].into())][address],
                port: (port != 0).then_some(port),
                certificate: draw.flag().then_some([7; 32]),
                signed_by: draw.flag().then_some(9),
            }
        }
    }
}

/// What happens to a file.
fn damage(draw: &mut Draw, file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let what = draw.below(5);
    let at = usize::from(draw.word()) % file.len();
    match what {
        1 => file.truncate(at),
        2 => file[at] ^= 1 << draw.below(8),
        3 => file.insert(at, draw.byte()),
        4 => drop(file.remove(at)),
        _ => {}
    }
    file
}

/// Takes a file of sessions, or entries and what happens to their file. Returns whether it was read without damage.
pub(crate) fn state_file(input: &[u8]) -> bool {
    let mut draw = Draw::new(input);
    if draw.flag() {
        let read = read_saved_sessions(draw.rest());
        is_the_same_when_written(&read);
        return read.damage.is_none();
    }
    let entries: Vec<SavedEntry> = (0..draw.below(16)).map(|_| entry(&mut draw)).collect();
    let whole = write_saved_sessions(&entries);
    let mut history = vec![Model::default()];
    let mut ends = vec![write_saved_sessions(&[]).len()];
    for (place, entry) in entries.iter().enumerate() {
        let mut next = history[place].clone();
        next.apply(entry);
        history.push(next);
        ends.push(write_saved_sessions(&entries[..=place]).len());
    }
    let file = damage(&mut draw, &whole);
    let read = read_saved_sessions(&file);
    is_the_same_when_written(&read);
    let last = history.last().expect("the first one");
    if whole.starts_with(&file) {
        let good = ends.iter().filter(|end| **end <= file.len()).count();
        let expected = good.checked_sub(1).map(|place| &history[place]);
        assert_eq!(
            read.rights,
            expected.map(Model::rights).unwrap_or_default(),
            "{entries:?}"
        );
        assert_eq!(
            read.released,
            expected.map(|one| one.released.clone()).unwrap_or_default()
        );
        assert_eq!(
            read.damage.is_some(),
            !ends.contains(&file.len()),
            "{:?}",
            read.damage
        );
    } else if read.damage.is_some() && !is_cut_off(&read) {
        let rights = last.rights();
        for (client_id, session) in &read.rights {
            assert_eq!(
                rights.get(client_id),
                Some(session),
                "{client_id}: {entries:?}"
            );
        }
        assert!(read.released.is_subset(&last.released), "{entries:?}");
    } else {
        // What is missing at the end cannot be told from a file that was cut off. The header may name the other format,
        // which is read in the same way.
        let rights: Vec<_> = history.iter().map(Model::rights).collect();
        assert!(
            rights.contains(&read.rights),
            "{:?} {entries:?}",
            read.rights
        );
    }
    read.damage.is_none()
}

fn is_cut_off(read: &SavedState) -> bool {
    read.damage
        .as_ref()
        .is_some_and(|damage| damage.starts_with("CutOff"))
}

/// What was read and is written anew gives the same rights.
fn is_the_same_when_written(read: &SavedState) {
    let again = read_saved_sessions(&read.rewritten);
    assert_eq!(again.damage, None);
    assert_eq!(
        (&again.rights, &again.released),
        (&read.rights, &read.released)
    );
    assert_eq!(again.doubtful, read.doubtful);
}
