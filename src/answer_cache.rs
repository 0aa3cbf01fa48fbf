//! The answer cache: messages that were allowed a moment ago.
//!
//! A device usually repeats itself: it sends its temperature every second, to the same topic. The broker asks about
//! every message, so the cache answers what it has answered before.
//!
//! What it buys, in instructions of the broker per message over no plugin (two checks, 20 topics or 1,000): a message
//! whose topic repeats costs about 1,000, and one of 3,500 topics that take turns about 3,000. Without the cache, both
//! cost about 2,300. So the cache pays for devices and for deliveries to many subscribers, and gateways pay for it.
//! Delete it when a check without it costs less than 750; `instructions --topics 3500` measures that.
//!
//! The cache holds only checks that were allowed (a refusal is logged), only of connected clients, and only as long as
//! the decision says that it holds. All entries of a client are dropped when a client comes or goes at its address, and
//! all entries of everybody when rules are read again.
//!
//! There is one table of a fixed size for all clients. A table for each client would cost the memory of a whole fleet,
//! and most devices send a message once a minute.

use crate::event::EventClient;
use auth::{
    client::{ClientView, TextAddresses},
    clock::Unix,
    engine::{Access, Action},
    sessions::AddressHasher,
};

/// How many answers are kept. They take about 200 KiB.
const SLOTS: usize = 2048;

/// The longest topic that is kept, in bytes.
const LONGEST: usize = 62;

/// What the answer to a check of a message depends on.
#[derive(Clone, Copy, Debug)]
pub struct MessageCheck<'e> {
    /// The address of the client, never 0.
    client: usize,
    /// Where the broker keeps its client ID and user name. While the client is connected, no other client has its
    /// own there.
    places: TextAddresses,
    /// The action, QoS and retain flag, in bits.
    kind: u32,
    topic: &'e [u8],
}

#[derive(Clone)]
struct Slot {
    client: usize,
    places: TextAddresses,
    since: u64,
    until: u64,
    kind: u32,
    length: u8,
    topic: [u8; LONGEST],
}

impl Slot {
    /// Returns whether the slot holds the answer to this check.
    #[inline]
    fn holds(&self, check: &MessageCheck) -> bool {
        self.client == check.client
            && self.places == check.places
            && self.kind == check.kind
            && usize::from(self.length) == check.topic.len()
            && self.topic.get(..check.topic.len()) == Some(check.topic)
    }
}

/// The mark of a slot that holds nothing.
const EMPTY: u8 = 0;

/// Returns the mark of a client. Clients may share a mark: then they are forgotten together, and checked once more.
#[inline]
fn mark(client: usize) -> u8 {
    ((AddressHasher::mix(client) >> 56) as u8).max(1)
}

/// Messages that were allowed a moment ago.
pub struct AnswerCache {
    /// For each slot the mark of its client, or [`EMPTY`]. The marks are small and lie together, because all of them
    /// are read whenever a client comes or goes.
    marks: Box<[u8; SLOTS]>,
    slots: Box<[Slot]>,
}

impl Default for AnswerCache {
    fn default() -> Self {
        let empty = Slot {
            client: 0,
            places: TextAddresses::default(),
            since: 0,
            until: 0,
            kind: 0,
            length: 0,
            topic: [0; LONGEST],
        };
        Self {
            marks: Box::new([EMPTY; SLOTS]),
            slots: vec![empty; SLOTS].into(),
        }
    }
}

impl AnswerCache {
    /// Returns whether the same check was allowed before and that still holds.
    #[inline]
    pub fn allows(&self, check: &MessageCheck, now: Unix) -> bool {
        let slot = check.slot();
        [slot, slot ^ 1].into_iter().any(|at| {
            let slot = &self.slots[at];
            self.marks[at] != EMPTY
                && slot.holds(check)
                && (slot.since..slot.until).contains(&now.0)
        })
    }

    /// Keeps a check that was allowed, until it may no longer hold. Allocates nothing.
    #[inline]
    pub fn keep(&mut self, check: &MessageCheck, now: Unix, until: Unix) {
        if until <= now || check.places == TextAddresses::default() || check.topic.len() > LONGEST {
            return;
        }
        // Each check may lie in one of two slots, so that few of them displace each other.
        let first = check.slot();
        let free = self.marks[first] == EMPTY || self.slots[first].holds(check);
        let (at, other) = if free {
            (first, first ^ 1)
        } else {
            (first ^ 1, first)
        };
        // An older answer to the same check may lie in the other slot. It no longer counts.
        if self.slots[other].holds(check) {
            self.marks[other] = EMPTY;
        }
        self.marks[at] = mark(check.client);
        let slot = &mut self.slots[at];
        slot.client = check.client;
        slot.places = check.places;
        slot.kind = check.kind;
        (slot.since, slot.until) = (now.0, until.0);
        // At most LONGEST, so it fits.
        slot.length = check.topic.len() as u8;
        slot.topic[..check.topic.len()].copy_from_slice(check.topic);
    }

    /// Forgets the client at this address.
    pub fn forget(&mut self, client: usize) {
        let gone = mark(client);
        // Every mark is written, so that the compiler handles sixteen of them at once.
        for of in self.marks.iter_mut() {
            *of = if *of == gone { EMPTY } else { *of };
        }
    }

    /// Forgets everything, because the rules may have changed.
    pub fn forget_all(&mut self) {
        self.marks.fill(EMPTY);
    }
}

impl<'e> MessageCheck<'e> {
    /// Returns the check that an ACL event asks for, if it is about a message.
    #[inline]
    pub fn of(access: &Access<'e, EventClient<'_>>) -> Option<Self> {
        let kind = match access.action {
            Action::Receive => 1,
            Action::Publish => 2 | u32::from(access.qos) << 2 | u32::from(access.retain) << 10,
            Action::Subscribe | Action::Unsubscribe => return None,
        };
        Some(Self {
            client: access.key.0,
            places: access.client.text_addresses(),
            kind,
            topic: access.topic,
        })
    }

    /// Returns the first of the two slots that this check may lie in. The topics of one device mostly differ in their
    /// last letters.
    #[inline]
    fn slot(&self) -> usize {
        let end = match self.topic.last_chunk::<8>() {
            Some(end) => u64::from_le_bytes(*end),
            None => self
                .topic
                .iter()
                .fold(0, |end, byte| end << 8 | u64::from(*byte)),
        };
        let all = self.client ^ (end as usize).rotate_left(20) ^ self.kind as usize;
        AddressHasher::mix(all) as usize % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const HERE: TextAddresses = TextAddresses {
        client_id: 1,
        username: 2,
    };

    fn check<'e>(client: usize, kind: u32, topic: &'e str) -> MessageCheck<'e> {
        MessageCheck {
            client,
            places: HERE,
            kind,
            topic: topic.as_bytes(),
        }
    }

    #[test]
    fn only_the_same_check_is_answered_and_only_as_long_as_the_answer_holds() {
        let mut cache = AnswerCache::default();
        let asked = check(16, 1, "a/b");
        assert!(!cache.allows(&asked, Unix(0)));
        cache.keep(&asked, Unix(5), Unix(9));
        for now in 0..12 {
            assert_eq!(cache.allows(&asked, Unix(now)), (5..9).contains(&now));
        }
        let elsewhere = TextAddresses {
            username: 3,
            ..HERE
        };
        for other in [
            check(16, 2, "a/b"),
            check(32, 1, "a/b"),
            check(16, 1, "a/c"),
            check(16, 1, "a/"),
            check(16, 1, "a/b/c"),
            check(16, 1, ""),
            MessageCheck {
                places: elsewhere,
                ..asked
            },
        ] {
            assert!(!cache.allows(&other, Unix(6)), "{other:?}");
        }
        let long = "x".repeat(LONGEST + 1);
        for not_kept in [
            check(16, 1, &long),
            MessageCheck {
                places: TextAddresses::default(),
                ..asked
            },
        ] {
            cache.keep(&not_kept, Unix(5), Unix(9));
            assert!(!cache.allows(&not_kept, Unix(6)));
        }
        let longest = check(16, 1, &long[1..]);
        cache.keep(&longest, Unix(5), Unix(5));
        assert!(!cache.allows(&longest, Unix(5)), "it never held");
        cache.keep(&longest, Unix(5), Unix(6));
        assert!(cache.allows(&longest, Unix(5)));
    }

    #[test]
    fn clients_with_the_same_mark_are_forgotten_together() {
        let mut cache = AnswerCache::default();
        let one = 16;
        let other = (2..)
            .map(|i| 16 * i)
            .find(|i| mark(*i) == mark(one))
            .unwrap();
        let (of_one, of_other) = (check(one, 1, "a/b"), check(other, 1, "a/b"));
        for asked in [&of_one, &of_other] {
            cache.keep(asked, Unix(5), Unix(9));
            assert!(cache.allows(asked, Unix(6)));
        }
        cache.forget(one);
        for asked in [&of_one, &of_other] {
            assert!(!cache.allows(asked, Unix(6)));
        }
        cache.keep(&of_other, Unix(5), Unix(9));
        assert!(cache.allows(&of_other, Unix(6)));
        assert!(!cache.allows(&of_one, Unix(6)), "a mark is not an identity");
    }

    /// Compares the cache with a map that forgets nothing by itself. The cache may forget more, and never allows more.
    #[test]
    fn it_never_allows_more_than_a_map_would() {
        let mut cache = AnswerCache::default();
        let mut known: HashMap<(usize, u32, String), u64> = HashMap::new();
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut hits = 0;
        for _ in 0..100_000 {
            let client = 16 * (1 + next(300) as usize);
            let (kind, topic) = (next(2) as u32, format!("site/{}", next(6)));
            let asked = check(client, kind, &topic);
            let now = Unix(next(10));
            match next(20) {
                0 => {
                    cache.forget(client);
                    known.retain(|(of, ..), _| *of != client);
                }
                1..10 => {
                    cache.keep(&asked, Unix(0), Unix(now.0 + 1));
                    known.insert((client, kind, topic), now.0 + 1);
                }
                _ if cache.allows(&asked, now) => {
                    hits += 1;
                    assert!(known[&(client, kind, topic)] > now.0);
                }
                _ => {}
            }
        }
        assert!(hits > 1000, "{hits}");
        cache.forget_all();
        for (client, kind, topic) in known.keys() {
            assert!(!cache.allows(&check(*client, *kind, topic), Unix(0)));
        }
    }
}
