//! Counts refusals, and other things that are told, that come again.
//!
//! The first refusal of its kind is told in a line. Those that follow are counted, and the count is told in a line when
//! the minute is over. The number of such kinds is limited, for one address and in all: beyond that, refusals are
//! counted together. The lines of the decision log about clients that are not in are limited in the same way.

use std::{collections::HashMap, hash::Hash};

use crate::{clock::Unix, hash::hash, limits::source::SourceNetwork, refusal::Reason};

/// How long, in seconds, repeats are counted before the count is told.
const WINDOW: u64 = 60;

/// How many client IDs of one source get a line of their own for one reason.
const MAX_NAMES: usize = 16;

/// How many entries there may be, beyond one for each reason. An entry has less than a kilobyte, most of it the quoted
/// names of a client; for the decision log it has a few, because a client's texts are cut to one each.
const MAX_ENTRIES: usize = 1024;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Refusals for this reason.
    Refusal(Reason),
    /// Sign-ins of clients without any rights.
    NoRights,
    /// Connections on which no further refusals are told.
    Silenced,
    /// Decisions that the shadow policy would have made otherwise. The word is whether it would have allowed.
    Shadow(bool),
}

impl From<Reason> for Kind {
    fn from(reason: Reason) -> Self {
        Self::Refusal(reason)
    }
}

/// Which refusals are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Those of one client ID from one source.
    Device(u64, SourceNetwork),
    /// Those of one client's access to one topic. Their counts are told together with those of the same client, by its
    /// first hash: what it did, and who it is.
    Access(u64, u64),
    /// All others from one source.
    Source(SourceNetwork),
    /// All others.
    All,
}

impl Scope {
    /// Returns the scope of a client.
    pub(crate) fn device(client: impl Hash, source: SourceNetwork) -> Self {
        Self::Device(hash(client), source)
    }

    /// Returns the scope of a client's access to a topic. `client` is the client and what it does.
    pub(crate) fn access(client: impl Hash, access: impl Hash) -> Self {
        Self::Access(hash(client), hash(access))
    }

    /// Whether the counts of both are told together.
    fn shares_count_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Access(one, _), Self::Access(other, _)) => one == other,
            _ => false,
        }
    }

    fn is_shared(self) -> bool {
        matches!(self, Self::Source(_) | Self::All)
    }
}

/// A count that is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Count<S = String> {
    pub kind: Kind,
    pub scope: Scope,
    /// What was refused, and to whom: the last one.
    pub subject: S,
    pub times: u64,
}

struct Entry<S> {
    since: Unix,
    times: u64,
    subject: S,
}

/// The counts of the current minute. `S` says what was refused, and to whom.
pub(super) struct Repeats<S = String> {
    entries: HashMap<(Kind, Scope), Entry<S>>,
    /// How many entries of the kind [`Scope::Device`] there are of a kind and a source.
    names: HashMap<(Kind, SourceNetwork), usize>,
    looked: Option<Unix>,
}

impl<S> Default for Repeats<S> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            names: HashMap::new(),
            looked: None,
        }
    }
}

impl<S: Clone> Repeats<S> {
    /// Notes a refusal. Returns `None` if it is counted only, and otherwise which refusals are counted from now on.
    pub(super) fn note(
        &mut self,
        kind: impl Into<Kind>,
        scope: Scope,
        subject: impl FnOnce() -> S,
        now: Unix,
    ) -> Option<Scope> {
        let kind = kind.into();
        let scope = self.room_for(kind, scope);
        if let Some(entry) = self.entries.get_mut(&(kind, scope)) {
            entry.times += 1;
            if scope.is_shared() {
                entry.subject = subject();
            }
            return None;
        }
        if let Scope::Device(_, source) = scope {
            *self.names.entry((kind, source)).or_default() += 1;
        }
        let entry = Entry {
            since: now,
            times: 0,
            subject: subject(),
        };
        self.entries.insert((kind, scope), entry);
        Some(scope)
    }

    /// Returns the narrowest scope for which there is an entry, or room for one.
    fn room_for(&self, kind: Kind, scope: Scope) -> Scope {
        let is_full = self.entries.len() >= MAX_ENTRIES;
        let fits = |scope| match scope {
            Scope::All => true,
            _ if self.entries.contains_key(&(kind, scope)) => true,
            Scope::Device(_, source) => {
                let names = self.names.get(&(kind, source)).copied();
                !is_full && names.unwrap_or_default() < MAX_NAMES
            }
            Scope::Access(..) | Scope::Source(_) => !is_full,
        };
        match scope {
            scope if fits(scope) => scope,
            Scope::Device(_, source) if fits(Scope::Source(source)) => Scope::Source(source),
            _ => Scope::All,
        }
    }

    /// Takes the counts of which the minute is over. What did not come again within a minute is forgotten.
    pub(super) fn take_due(&mut self, now: Unix) -> Vec<Count<S>> {
        if self.looked.replace(now) == Some(now) {
            return Vec::new();
        }
        // If the clock was set back, a minute must not last for hours.
        self.take(now, |since| !(since..since.plus(WINDOW)).contains(&now))
    }

    /// Takes all counts.
    pub(super) fn take_all(&mut self, now: Unix) -> Vec<Count<S>> {
        self.take(now, |_| true)
    }

    fn take(&mut self, now: Unix, is_due: impl Fn(Unix) -> bool) -> Vec<Count<S>> {
        let mut counts: Vec<Count<S>> = Vec::new();
        let names = &mut self.names;
        self.entries.retain(|&(kind, scope), entry| {
            if !is_due(entry.since) {
                return true;
            }
            let times = std::mem::take(&mut entry.times);
            if times > 0 {
                entry.since = now;
                let is_same = |count: &&mut Count<S>| {
                    count.kind == kind && count.scope.shares_count_with(scope)
                };
                if let Some(count) = counts.iter_mut().find(is_same) {
                    count.times += times;
                    return true;
                }
                counts.push(Count {
                    kind,
                    scope,
                    subject: entry.subject.clone(),
                    times,
                });
                return true;
            }
            if let Scope::Device(_, source) = scope
                && let Some(count) = names.get_mut(&(kind, source))
            {
                *count -= 1;
                if *count == 0 {
                    names.remove(&(kind, source));
                }
            }
            false
        });
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: Reason = Reason::TokenExpired;

    fn source(number: u32) -> SourceNetwork {
        std::net::IpAddr::V4(number.into()).into()
    }

    fn note(repeats: &mut Repeats, name: &str, address: u32, now: u64) -> Option<Scope> {
        let scope = Scope::device(name, source(address));
        repeats.note(REASON, scope, || name.to_owned(), Unix(now))
    }

    #[test]
    fn three_hundred_retries_are_a_line_and_a_count() {
        let mut repeats = Repeats::<String>::default();
        let own = Scope::device("a", source(1));
        assert_eq!(note(&mut repeats, "a", 1, 0), Some(own));
        for second in 1..300 {
            assert_eq!(note(&mut repeats, "a", 1, second / 6), None);
        }
        assert_eq!(repeats.take_due(Unix(59)), []);
        let count = Count {
            kind: REASON.into(),
            scope: own,
            subject: "a".into(),
            times: 299,
        };
        assert_eq!(repeats.take_due(Unix(60)), [count]);
        assert_eq!(note(&mut repeats, "a", 1, 61), None, "it goes on");
        assert_eq!(repeats.take_due(Unix(120))[0].times, 1);
        assert_eq!(repeats.take_due(Unix(180)), [], "a quiet minute");
        assert_eq!(note(&mut repeats, "a", 1, 181), Some(own), "news again");
    }

    #[test]
    fn another_name_address_or_reason_is_another_line() {
        let mut repeats = Repeats::<String>::default();
        assert!(note(&mut repeats, "a", 1, 0).is_some());
        assert!(note(&mut repeats, "b", 1, 0).is_some());
        assert!(note(&mut repeats, "a", 2, 0).is_some());
        let scope = Scope::device("a", source(1));
        let other = repeats.note(Reason::TokenKind, scope, || "a".to_owned(), Unix(0));
        assert!(other.is_some());
    }

    #[test]
    fn new_client_ids_of_one_address_share_an_entry() {
        let mut repeats = Repeats::<String>::default();
        let said = (0..300).filter_map(|i| note(&mut repeats, &i.to_string(), 1, 0));
        let said: Vec<_> = said.collect();
        assert_eq!(said.len(), MAX_NAMES + 1);
        assert_eq!(said.last(), Some(&Scope::Source(source(1))));
        assert!(note(&mut repeats, "a", 2, 0).is_some(), "nobody else does");
        let counts = repeats.take_due(Unix(60));
        assert_eq!(counts.len(), 1);
        let times = 300 - MAX_NAMES as u64 - 1;
        assert_eq!(
            (counts[0].times, counts[0].subject.as_str()),
            (times, "299")
        );
        // Their entries have gone with their minute, and there is room for others.
        assert!(matches!(
            note(&mut repeats, "b", 1, 61),
            Some(Scope::Device(..))
        ));
    }

    #[test]
    fn the_topics_of_a_client_share_a_count() {
        let mut repeats = Repeats::<String>::default();
        let mut note = |client: &str, topic| {
            let scope = Scope::access(client, topic);
            repeats
                .note(REASON, scope, || str::to_owned(client), Unix(0))
                .is_some()
        };
        for topic in 0..16 {
            assert!(note("a", topic), "each is told once");
            assert!(!note("a", topic) && !note("a", topic));
        }
        assert!(note("b", 0) && !note("b", 0));
        let mut counts = repeats.take_due(Unix(60));
        counts.sort_by_key(|count| count.times);
        let counts: Vec<_> = counts
            .iter()
            .map(|count| (&*count.subject, count.times))
            .collect();
        assert_eq!(counts, [("b", 1), ("a", 32)]);
    }

    #[test]
    fn any_number_of_addresses_fills_a_table_and_no_more() {
        let mut repeats = Repeats::<String>::default();
        let mut said = 0;
        for address in 0..20 * MAX_ENTRIES as u32 {
            said += usize::from(note(&mut repeats, "a", address, 0).is_some());
            assert!(repeats.entries.len() <= MAX_ENTRIES + 1);
        }
        assert_eq!(said, MAX_ENTRIES + 1);
        let counts = repeats.take_due(Unix(60));
        assert_eq!(counts.len(), 1);
        assert_eq!(counts[0].scope, Scope::All);
        assert_eq!(counts[0].times, 19 * MAX_ENTRIES as u64 - 1);
        assert_eq!(repeats.take_due(Unix(120)), []);
        assert!(repeats.entries.is_empty() && repeats.names.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody() {
        let mut repeats = Repeats::<String>::default();
        note(&mut repeats, "a", 1, 1_000_000);
        note(&mut repeats, "a", 1, 1_000_000);
        assert_eq!(repeats.take_due(Unix(10)).len(), 1);
        assert_eq!(repeats.take_due(Unix(70)), []);
        assert!(note(&mut repeats, "a", 1, 71).is_some());
    }

    #[test]
    fn counted_refusals_are_logged_at_the_end() {
        let mut repeats = Repeats::<String>::default();
        for _ in 0..8 {
            note(&mut repeats, "a", 1, 0);
        }
        assert_eq!(repeats.take_all(Unix(1))[0].times, 7);
        assert_eq!(repeats.take_all(Unix(1)), []);
    }
}
