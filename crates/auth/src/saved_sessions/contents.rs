//! What the file says, all in all.

use std::{collections::HashMap, sync::Arc};

use super::{
    SavedSession, Uncertain,
    claims::{ClaimsHash, SharedClaims},
    format::{self, End, Entry, Frame},
};

/// What the file says, all in all.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) claims: HashMap<ClaimsHash, Arc<SharedClaims>>,
    pub(super) sessions: HashMap<Arc<str>, SavedSession>,
}

/// What is wrong with a file. What is good of it counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// It does not begin like a file of this format.
    OtherFormat,
    /// It ends within an entry, after this many good bytes.
    CutOff(usize),
    /// An entry was changed, after this many good bytes.
    Changed(usize),
}

impl Contents {
    /// Reads a file. Also returns what is wrong with it.
    pub(super) fn parse(file: &[u8]) -> (Self, Option<Damage>) {
        let mut contents = Self::default();
        let Some(frames) = file.strip_prefix(format::HEADER) else {
            return match format::HEADER.starts_with(file) {
                true => (contents, Some(Damage::CutOff(0))),
                false => (contents, Some(Damage::OtherFormat)),
            };
        };
        let end = format::read(frames, format::HEADER.len(), |frame| match frame {
            Frame::Good(Entry::Claims(text)) => {
                let claims = SharedClaims::new(text);
                contents.claims.insert(claims.hash, Arc::new(claims));
            }
            Frame::Good(Entry::Session(client_id, session)) => {
                contents.sessions.insert(client_id.into(), session);
            }
            Frame::Good(Entry::Ended(client_id)) => drop(contents.sessions.remove(client_id)),
            Frame::Good(Entry::Missing) | Frame::Bad => contents.doubt_all(),
        });
        let damage = match end {
            End::Whole => None,
            End::CutOff(at) => Some(Damage::CutOff(at)),
            End::Changed(at) => Some(Damage::Changed(at)),
        };
        (contents, damage)
    }

    /// Records that some of the sessions may have got other rights since.
    pub(super) fn doubt_all(&mut self) {
        for session in self.sessions.values_mut() {
            session.uncertain = Uncertain::Yes;
        }
    }

    /// Returns a file that says this.
    pub(super) fn to_file(&self) -> Vec<u8> {
        let mut file = format::HEADER.to_vec();
        let used = self.sessions.values().map(|session| session.claims);
        let mut used: Vec<_> = used.collect();
        used.sort_unstable();
        used.dedup();
        for claims in used.iter().filter_map(|hash| self.claims.get(hash)) {
            format::write(&Entry::Claims(&claims.text), &mut file);
        }
        for (client_id, session) in &self.sessions {
            format::write(&Entry::Session(client_id, session.clone()), &mut file);
        }
        file
    }
}
