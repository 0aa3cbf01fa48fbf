//! The file of saved sessions, for its fuzz target: entries that become a file, and what a file says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    SavedSession, SavedSessions, Uncertain,
    claims::SharedClaims,
    contents::Contents,
    format::{self, Entry},
};
use crate::clock::Unix;

/// One statement of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SavedEntry {
    Claims(String),
    Session {
        client_id: String,
        username: String,
        subject: String,
        until: u64,
        /// The text of the claims that it shares, which another entry has.
        claims: String,
        own: String,
        address: Option<IpAddr>,
        port: Option<u16>,
        certificate: Option<[u8; 32]>,
        signed_by: Option<u64>,
    },
    Ended(String),
    Released(String),
    Missing,
}

/// What a file says.
#[derive(Debug)]
pub struct SavedState {
    /// The sessions whose rights count, by client ID.
    pub rights: BTreeMap<String, SavedEntry>,
    /// The sessions whose rights do not count.
    pub doubtful: BTreeSet<String>,
    /// The client IDs that any account may have.
    pub released: BTreeSet<String>,
    /// What is wrong with the file.
    pub damage: Option<String>,
    /// The file as it is written anew.
    pub rewritten: Vec<u8>,
}

/// Returns a file with these entries.
pub fn write_saved_sessions(entries: &[SavedEntry]) -> Vec<u8> {
    let mut file = format::HEADER.to_vec();
    for entry in entries {
        match entry {
            SavedEntry::Claims(text) => format::write(&Entry::Claims(text), &mut file),
            SavedEntry::Ended(client_id) => format::write(&Entry::Ended(client_id), &mut file),
            SavedEntry::Released(client_id) => {
                format::write(&Entry::Released(client_id), &mut file)
            }
            SavedEntry::Missing => format::write(&Entry::Missing, &mut file),
            SavedEntry::Session {
                client_id,
                username,
                subject,
                until,
                claims,
                own,
                address,
                port,
                certificate,
                signed_by,
            } => {
                let session = SavedSession {
                    username: username.as_str().into(),
                    subject: subject.as_str().into(),
                    until: Unix(*until),
                    claims: SharedClaims::new(claims.as_str()).hash,
                    own: own.as_str().into(),
                    uncertain: Uncertain::No,
                    address: *address,
                    port: *port,
                    certificate: *certificate,
                    signed_by: *signed_by,
                };
                format::write(&Entry::Session(client_id, session), &mut file);
            }
        }
    }
    file
}

/// Reads a file.
pub fn read_saved_sessions(file: &[u8]) -> SavedState {
    let (contents, damage) = Contents::parse(file);
    let rewritten = contents.to_file();
    let read = SavedSessions {
        contents,
        ..SavedSessions::default()
    };
    let (mut rights, mut doubtful) = (BTreeMap::new(), BTreeSet::new());
    for (client_id, session) in &read.contents.sessions {
        let counting = read.get(client_id).and_then(|saved| {
            let claims = saved.claims()?;
            Some((saved.account(), claims, saved.claims_hash()))
        });
        let Some((account, _, hash)) = counting else {
            doubtful.insert(client_id.to_string());
            continue;
        };
        let entry = SavedEntry::Session {
            client_id: client_id.to_string(),
            username: session.username.to_string(),
            subject: account.subject.to_string(),
            until: session.until.0,
            claims: read.contents.claims[&hash].text.to_string(),
            own: session.own.to_string(),
            address: session.address,
            port: session.port,
            certificate: session.certificate,
            signed_by: session.signed_by,
        };
        rights.insert(client_id.to_string(), entry);
    }
    SavedState {
        rights,
        doubtful,
        released: read
            .contents
            .released
            .iter()
            .map(|id| id.to_string())
            .collect(),
        damage: damage.map(|damage| format!("{damage:?}")),
        rewritten,
    }
}
