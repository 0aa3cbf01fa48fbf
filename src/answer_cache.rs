//! The answer cache: what was allowed a moment ago, because a device repeats itself: its temperature, every second,
//! to the same topic.
//!
//! What it buys, counted in instructions of the broker per message over no plugin (two checks, 20 topics or 1,000):
//! a message whose topic repeats costs about 1,000, and one with 3,500 topics in turn about 3,000. Without the cache
//! both cost about 2,300. So it pays for devices and for deliveries to many subscribers, and gateways pay for it. It
//! can go when a check without it costs less than 750: `instructions --topics 3500` measures that.
//!
//! Only what was allowed is kept (a refusal goes into the log), only for connected clients, and only as long as the
//! decision says that it holds. Answers about a client are dropped when a client comes or goes at its address, and
//! all of them when rules are read again.
//!
//! One table for all clients, of a fixed size: a place for each client would cost a fleet's memory for what most of
//! it does once a minute.

use std::cell::UnsafeCell;

use crate::{event::Told, host::Broker};
use auth::{
    clock::Unix,
    policy::{Access, Action},
    sessions::{Address, Asker, Places},
};

/// How many answers are kept: some 200 KiB.
const SLOTS: usize = 2048;

/// Topics longer than this, in bytes, are not kept.
const LONGEST: usize = 62;

/// A question about a message, as far as its answer depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'e> {
    /// Whose: an address, never 0.
    pub client: usize,
    /// Where its client id and user name are: others cannot be there while it is connected.
    pub places: Places,
    /// What it wants, in bits.
    pub kind: u32,
    /// The topic.
    pub topic: &'e [u8],
}

#[derive(Clone)]
struct Slot {
    client: usize,
    places: Places,
    since: u64,
    until: u64,
    kind: u32,
    length: u8,
    topic: [u8; LONGEST],
}

impl Slot {
    /// Whether it is about this.
    #[inline]
    fn is(&self, question: &Question) -> bool {
        self.client == question.client
            && self.places == question.places
            && self.kind == question.kind
            && usize::from(self.length) == question.topic.len()
            && self.topic.get(..question.topic.len()) == Some(question.topic)
    }
}

struct Table {
    /// A mark of the client that each slot is about, or [`NOBODY`]. Beside each other and small, because
    /// all of them are looked at whenever somebody comes or goes.
    marks: Box<[u8; SLOTS]>,
    slots: Box<[Slot]>,
}

const NOBODY: u8 = 0;

/// Another client may have the same mark: it is forgotten along with this one, and asks once more.
#[inline]
fn mark(client: usize) -> u8 {
    ((Address::mix(client) >> 56) as u8).max(1)
}

/// The answers. Only the broker's thread gets at them, so that a look takes no lock.
pub struct AnswerCache(UnsafeCell<Table>);

// SAFETY: every method takes a `Broker`, which exists on the broker's thread only and cannot leave it, and
// none of them calls anything that could come back here.
unsafe impl Sync for AnswerCache {}
// SAFETY: what is in it is owned and bound to no thread.
unsafe impl Send for AnswerCache {}

impl Default for AnswerCache {
    fn default() -> Self {
        let empty = Slot {
            client: 0,
            places: Places::default(),
            since: 0,
            until: 0,
            kind: 0,
            length: 0,
            topic: [0; LONGEST],
        };
        Self(UnsafeCell::new(Table {
            marks: Box::new([NOBODY; SLOTS]),
            slots: vec![empty; SLOTS].into(),
        }))
    }
}

impl AnswerCache {
    /// Whether the very same was allowed, and that still holds.
    #[inline]
    pub fn allows(&self, _: &Broker, question: &Question, now: Unix) -> bool {
        // SAFETY: the broker's thread, and nobody else looks at it now: see above.
        let table = unsafe { &*self.0.get() };
        let place = question.place();
        [place, place ^ 1].into_iter().any(|place| {
            let slot = &table.slots[place];
            table.marks[place] != NOBODY
                && slot.is(question)
                && (slot.since..slot.until).contains(&now.0)
        })
    }

    /// Keeps what was allowed, until it may no longer hold. Allocates nothing.
    #[inline]
    pub fn keep(&self, _: &Broker, question: &Question, now: Unix, until: Unix) {
        if until <= now || question.places == Places::default() || question.topic.len() > LONGEST {
            return;
        }
        // SAFETY: as above.
        let table = unsafe { &mut *self.0.get() };
        // In the other of two places if somebody else is in the first: few questions have to share.
        let first = question.place();
        let free = table.marks[first] == NOBODY || table.slots[first].is(question);
        let (place, other) = if free {
            (first, first ^ 1)
        } else {
            (first ^ 1, first)
        };
        // What it was told before, when somebody else was in the way, counts no more.
        if table.slots[other].is(question) {
            table.marks[other] = NOBODY;
        }
        table.marks[place] = mark(question.client);
        let slot = &mut table.slots[place];
        slot.client = question.client;
        slot.places = question.places;
        slot.kind = question.kind;
        (slot.since, slot.until) = (now.0, until.0);
        // At most LONGEST.
        slot.length = question.topic.len() as u8;
        slot.topic[..question.topic.len()].copy_from_slice(question.topic);
    }

    /// Somebody comes or goes at this address.
    pub fn forget(&self, _: &Broker, client: usize) {
        // SAFETY: as above.
        let table = unsafe { &mut *self.0.get() };
        let gone = mark(client);
        // Written in each case, so that sixteen are done at once.
        for of in table.marks.iter_mut() {
            *of = if *of == gone { NOBODY } else { *of };
        }
    }

    /// The rules may be others.
    pub fn forget_all(&self, _: &Broker) {
        // SAFETY: as above.
        let table = unsafe { &mut *self.0.get() };
        table.marks.fill(NOBODY);
    }
}

impl<'e> Question<'e> {
    /// The question of an ACL event, if it is about a message.
    #[inline]
    pub fn of(access: &Access<'e, Told<'_>>) -> Option<Self> {
        let kind = match access.action {
            Action::Receive => 1,
            Action::Publish => 2 | u32::from(access.qos) << 2 | u32::from(access.retain) << 10,
            Action::Subscribe | Action::Unsubscribe => return None,
        };
        Some(Self {
            client: access.client.0,
            places: access.who.places(),
            kind,
            topic: access.topic,
        })
    }

    /// The topic's last letters are where a device's topics differ.
    #[inline]
    fn place(&self) -> usize {
        let end = match self.topic.last_chunk::<8>() {
            Some(end) => u64::from_le_bytes(*end),
            None => self
                .topic
                .iter()
                .fold(0, |end, byte| end << 8 | u64::from(*byte)),
        };
        let all = self.client ^ (end as usize).rotate_left(20) ^ self.kind as usize;
        Address::mix(all) as usize % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const HERE: Places = Places {
        client_id: 1,
        username: 2,
    };

    fn question<'e>(client: usize, kind: u32, topic: &'e str) -> Question<'e> {
        Question {
            client,
            places: HERE,
            kind,
            topic: topic.as_bytes(),
        }
    }

    #[test]
    fn only_the_very_same_is_allowed_again_and_only_as_long_as_it_holds() {
        // SAFETY: of the broker nothing is used.
        let broker = unsafe { Broker::on_its_thread() };
        let cache = AnswerCache::default();
        let asked = question(16, 1, "a/b");
        assert!(!cache.allows(&broker, &asked, Unix(0)));
        cache.keep(&broker, &asked, Unix(5), Unix(9));
        for now in 0..12 {
            assert_eq!(
                cache.allows(&broker, &asked, Unix(now)),
                (5..9).contains(&now)
            );
        }
        let elsewhere = Places {
            username: 3,
            ..HERE
        };
        for other in [
            question(16, 2, "a/b"),
            question(32, 1, "a/b"),
            question(16, 1, "a/c"),
            question(16, 1, "a/"),
            question(16, 1, "a/b/c"),
            question(16, 1, ""),
            Question {
                places: elsewhere,
                ..asked
            },
        ] {
            assert!(!cache.allows(&broker, &other, Unix(6)), "{other:?}");
        }
        let long = "x".repeat(LONGEST + 1);
        for not_kept in [
            question(16, 1, &long),
            Question {
                places: Places::default(),
                ..asked
            },
        ] {
            cache.keep(&broker, &not_kept, Unix(5), Unix(9));
            assert!(!cache.allows(&broker, &not_kept, Unix(6)));
        }
        let longest = question(16, 1, &long[1..]);
        cache.keep(&broker, &longest, Unix(5), Unix(5));
        assert!(!cache.allows(&broker, &longest, Unix(5)), "it never held");
        cache.keep(&broker, &longest, Unix(5), Unix(6));
        assert!(cache.allows(&broker, &longest, Unix(5)));
    }

    #[test]
    fn who_has_the_same_mark_is_forgotten_along() {
        // SAFETY: of the broker nothing is used.
        let broker = unsafe { Broker::on_its_thread() };
        let cache = AnswerCache::default();
        let one = 16;
        let other = (2..)
            .map(|i| 16 * i)
            .find(|i| mark(*i) == mark(one))
            .unwrap();
        let (of_one, of_other) = (question(one, 1, "a/b"), question(other, 1, "a/b"));
        for asked in [&of_one, &of_other] {
            cache.keep(&broker, asked, Unix(5), Unix(9));
            assert!(cache.allows(&broker, asked, Unix(6)));
        }
        cache.forget(&broker, one);
        for asked in [&of_one, &of_other] {
            assert!(!cache.allows(&broker, asked, Unix(6)));
        }
        cache.keep(&broker, &of_other, Unix(5), Unix(9));
        assert!(cache.allows(&broker, &of_other, Unix(6)));
        assert!(
            !cache.allows(&broker, &of_one, Unix(6)),
            "a mark is no identity"
        );
    }

    /// Against a map that forgets nothing by itself: the table may forget more, and never knows better.
    #[test]
    fn it_never_knows_better() {
        // SAFETY: of the broker nothing is used.
        let broker = unsafe { Broker::on_its_thread() };
        let cache = AnswerCache::default();
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
            let asked = question(client, kind, &topic);
            let now = Unix(next(10));
            match next(20) {
                0 => {
                    cache.forget(&broker, client);
                    known.retain(|(of, ..), _| *of != client);
                }
                1..10 => {
                    cache.keep(&broker, &asked, Unix(0), Unix(now.0 + 1));
                    known.insert((client, kind, topic), now.0 + 1);
                }
                _ if cache.allows(&broker, &asked, now) => {
                    hits += 1;
                    assert!(known[&(client, kind, topic)] > now.0);
                }
                _ => {}
            }
        }
        assert!(hits > 1000, "{hits}");
        cache.forget_all(&broker);
        for (client, kind, topic) in known.keys() {
            assert!(!cache.allows(&broker, &question(*client, *kind, topic), Unix(0)));
        }
    }
}
