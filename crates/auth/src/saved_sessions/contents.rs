//! What the file says, all in all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    SavedSession, Uncertain,
    claims::{ClaimsHash, SharedClaims},
    format::{self, End, Entry, Frame},
};

/// What the file says, all in all.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) claims: HashMap<ClaimsHash, Arc<SharedClaims>>,
    /// In order, so that an administrator can go through them in pages.
    pub(super) sessions: BTreeMap<Arc<str>, SavedSession>,
    /// The client IDs that an administrator has released, and that nobody has had since.
    pub(super) released: BTreeSet<Arc<str>>,
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
        let mut headers = [format::HEADER, format::FIRST_HEADER].into_iter();
        let Some(frames) = headers.find_map(|header| file.strip_prefix(header)) else {
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
                contents.insert(client_id.into(), session);
            }
            Frame::Good(Entry::Ended(client_id)) => contents.end(client_id),
            Frame::Good(Entry::Released(client_id)) => contents.release(client_id.into()),
            Frame::Good(Entry::Missing) | Frame::Bad => contents.doubt_all(),
        });
        let damage = match end {
            End::Whole => None,
            End::CutOff(at) => Some(Damage::CutOff(at)),
            End::Changed(at) => Some(Damage::Changed(at)),
        };
        (contents, damage)
    }

    /// Adds a session. Its client ID is not free any more.
    pub(super) fn insert(&mut self, client_id: Arc<str>, session: SavedSession) {
        self.released.remove(&client_id);
        self.sessions.insert(client_id, session);
    }

    /// Records that the broker has no session with this client ID.
    pub(super) fn end(&mut self, client_id: &str) {
        self.released.remove(client_id);
        self.sessions.remove(client_id);
    }

    /// Records that any account may have this client ID.
    pub(super) fn release(&mut self, client_id: Arc<str>) {
        self.sessions.remove(&client_id);
        self.released.insert(client_id);
    }

    /// Records that some of the sessions may have got other rights since, and that somebody may have a client ID that
    /// was free.
    pub(super) fn doubt_all(&mut self) {
        self.released.clear();
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
        for client_id in &self.released {
            format::write(&Entry::Released(client_id), &mut file);
        }
        for (client_id, session) in &self.sessions {
            format::write(&Entry::Session(client_id, session.clone()), &mut file);
        }
        file
    }
}
