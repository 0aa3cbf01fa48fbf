//! The answer cache: messages that were allowed a moment ago.
//!
//! Devices and gateways repeat themselves: they publish to the same topics again and again, and each message goes to
//! subscribers with the same rights. The broker asks about every message and every delivery, so the cache answers what
//! it has answered before.
//!
//! What it buys: to find the rule that decides takes about 530 instructions, with 20 rules of a token and with 1,000,
//! and about 920 with 1,000 rules of a policy file that have placeholders. An answer that is kept takes some 120,
//! whatever the rules. `make instructions` counts whole messages and deliveries, and `docs/performance.md` has the
//! result.
//!
//! An answer depends on the rights and the request, and on nothing else. So it is kept under the [`RightsId`] and not
//! under the client: clients with the same rights share their answers, and nothing has to be forgotten when a client
//! goes or its rights change. A refusal is not kept, because it has to be explained.

use std::ops::Range;

use crate::{rights::RightsId, rules::AccessRequest, time::Unix};

/// How many answers are kept at first. They take about 200 KB.
const FEW: usize = 2048;

/// How many are kept at most. A gateway that speaks for thousands of devices needs them.
const MANY: usize = 16_384;

/// In how many places an answer may lie, so that few of them displace each other.
const WAYS: usize = 4;

/// The longest topic that is kept, in bytes.
const LONGEST: usize = 57;

/// A message that is asked about.
#[derive(Clone, Copy)]
pub struct Question<'t> {
    rights: RightsId,
    classes: u16,
    topic: &'t [u8],
    /// A hash of all that.
    hash: u32,
}

impl<'t> Question<'t> {
    /// Returns the question whether these rights allow a message. Returns `None` about what is no message.
    #[inline(always)]
    pub fn about(rights: RightsId, request: AccessRequest, topic: &'t [u8]) -> Option<Self> {
        let (false, 1..=LONGEST) = (
            matches!(request, AccessRequest::Subscribe { .. }),
            topic.len(),
        ) else {
            return None;
        };
        let classes = request.classes();
        let mut hash = rights.mixed() ^ u64::from(classes);
        let mut add = |word: &[u8; 8]| {
            let mixed = hash.rotate_left(5) ^ u64::from_le_bytes(*word);
            hash = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        };
        match topic.last_chunk() {
            Some(last) => {
                topic.as_chunks().0.iter().for_each(&mut add);
                add(last);
            }
            None => {
                let mut word = [0; 8];
                word[..topic.len()].copy_from_slice(topic);
                add(&word);
            }
        }
        Some(Self {
            rights,
            classes,
            topic,
            // Only the highest bits of a product depend on all bits.
            hash: (hash >> 32) as u32,
        })
    }
}

#[derive(Clone)]
struct Slot {
    rights: RightsId,
    since: u64,
    /// 0 in a slot that holds nothing.
    until: u64,
    hash: u32,
    classes: u16,
    length: u8,
    topic: [u8; LONGEST],
}

const EMPTY: Slot = Slot {
    rights: RightsId::NONE,
    since: 0,
    until: 0,
    hash: 0,
    classes: 0,
    length: 0,
    topic: [0; LONGEST],
};

impl Slot {
    /// Returns whether the slot holds the answer to this question.
    #[inline(always)]
    fn holds(&self, question: &Question) -> bool {
        self.hash == question.hash
            && self.rights == question.rights
            && self.classes == question.classes
            && self.topic.get(..self.length.into()) == Some(question.topic)
    }
}

/// Messages that were allowed a moment ago.
pub struct AnswerCache {
    slots: Box<[Slot]>,
    /// How many answers others have displaced since the cache has this size.
    displaced: usize,
}

impl Default for AnswerCache {
    fn default() -> Self {
        Self {
            slots: vec![EMPTY; FEW].into(),
            displaced: 0,
        }
    }
}

impl AnswerCache {
    /// Returns whether the same was allowed before and still is.
    #[inline(always)]
    pub fn allows(&self, question: &Question, now: Unix) -> bool {
        let mut set = self.slots[self.set(question.hash)].iter();
        set.any(|slot| slot.holds(question) && (slot.since..slot.until).contains(&now.0))
    }

    /// Keeps that this is allowed for messages of every size, until it may no longer be.
    pub fn keep(&mut self, question: &Question, now: Unix, until: Unix) {
        if until <= now {
            return;
        }
        let slot = self.free(question, now);
        slot.rights = question.rights;
        slot.classes = question.classes;
        slot.hash = question.hash;
        (slot.since, slot.until) = (now.0, until.0);
        // At most LONGEST, so it fits.
        slot.length = question.topic.len() as u8;
        slot.topic[..question.topic.len()].copy_from_slice(question.topic);
    }

    /// Returns a slot for this question.
    fn free(&mut self, question: &Question, now: Unix) -> &mut Slot {
        let set = self.set(question.hash);
        let slots = &self.slots[set.clone()];
        let same = slots.iter().position(|slot| slot.holds(question));
        let place = same.or_else(|| slots.iter().position(|slot| slot.until <= now.0));
        if let Some(place) = place {
            return &mut self.slots[set][place];
        }
        self.displaced += 1;
        if self.displaced > self.slots.len() / 4 && self.slots.len() < MANY {
            self.grow();
        }
        let set = self.set(question.hash);
        let place = self.displaced % WAYS;
        &mut self.slots[set][place]
    }

    /// Makes twice as much room.
    fn grow(&mut self) {
        let slots = vec![EMPTY; 2 * self.slots.len()].into();
        let before = std::mem::replace(&mut self.slots, slots);
        self.displaced = 0;
        for slot in before {
            let set = self.set(slot.hash);
            if let Some(free) = self.slots[set].iter_mut().find(|free| free.until == 0) {
                *free = slot;
            }
        }
    }

    /// Returns the slots that a question with this hash may lie in.
    #[inline]
    fn set(&self, hash: u32) -> Range<usize> {
        // The number of slots is a power of two.
        let first = (hash >> 16) as usize & (self.slots.len() - WAYS);
        first..first + WAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        claims::{TokenRules, topics},
        client::ClientAttributes,
        policy_file::PolicyFile,
        rights::Rights,
    };
    use serde_json::json;
    use std::{collections::HashMap, sync::Arc};

    const RECEIVE: AccessRequest = AccessRequest::Receive;

    const fn publish(qos: u8, retain: bool) -> AccessRequest {
        AccessRequest::Publish {
            qos,
            retain,
            payload: 7,
        }
    }

    fn some_rights() -> Vec<RightsId> {
        let ids =
            (0..3).map(|_| Rights::new(Arc::new(TokenRules::compile(&[])), None, <_>::default()));
        ids.map(|rights| rights.unwrap().id()).collect()
    }

    fn allows(
        cache: &AnswerCache,
        id: RightsId,
        request: AccessRequest,
        topic: &[u8],
        now: u64,
    ) -> bool {
        Question::about(id, request, topic)
            .is_some_and(|question| cache.allows(&question, Unix(now)))
    }

    fn keep(
        cache: &mut AnswerCache,
        id: RightsId,
        request: AccessRequest,
        topic: &[u8],
        now: u64,
        until: u64,
    ) {
        if let Some(question) = Question::about(id, request, topic) {
            cache.keep(&question, Unix(now), Unix(until));
        }
    }

    #[test]
    fn only_the_same_question_is_answered_and_only_as_long_as_the_answer_holds() {
        let ids = some_rights();
        let mut cache = AnswerCache::default();
        let asked = publish(1, false);
        assert!(!allows(&cache, ids[0], asked, b"a/b", 0));
        keep(&mut cache, ids[0], asked, b"a/b", 5, 9);
        for now in 0..12 {
            let holds = (5..9).contains(&now);
            assert_eq!(allows(&cache, ids[0], asked, b"a/b", now), holds, "{now}");
        }
        for (id, request, topic) in [
            (ids[1], asked, "a/b"),
            (ids[0], publish(0, false), "a/b"),
            (ids[0], publish(1, true), "a/b"),
            (ids[0], RECEIVE, "a/b"),
            (ids[0], asked, "a/c"),
            (ids[0], asked, "a/"),
            (ids[0], asked, "a/b/c"),
            (ids[0], asked, ""),
        ] {
            assert!(!allows(&cache, id, request, topic.as_bytes(), 6), "{topic}");
        }
        let long = "x".repeat(LONGEST + 1);
        keep(&mut cache, ids[0], RECEIVE, long.as_bytes(), 5, 9);
        assert!(!allows(&cache, ids[0], RECEIVE, long.as_bytes(), 5));
        let longest = &long.as_bytes()[1..];
        keep(&mut cache, ids[0], RECEIVE, longest, 5, 5);
        assert!(
            !allows(&cache, ids[0], RECEIVE, longest, 5),
            "it never held"
        );
        keep(&mut cache, ids[0], RECEIVE, longest, 5, 6);
        assert!(allows(&cache, ids[0], RECEIVE, longest, 5));
        let subscribe = AccessRequest::Subscribe { qos: Some(0) };
        keep(&mut cache, ids[0], subscribe, b"a/b", 5, 9);
        assert!(!allows(&cache, ids[0], subscribe, b"a/b", 5));
        assert!(!allows(
            &AnswerCache::default(),
            RightsId::NONE,
            publish(9, false),
            b"",
            0
        ));
    }

    #[test]
    #[cfg_attr(miri, ignore = "it is about numbers too large for an interpreter")]
    fn it_grows_for_a_gateway_and_no_further() {
        let id = some_rights()[0];
        let mut cache = AnswerCache::default();
        let topics: Vec<String> = (0..3500)
            .map(|i| format!("site/gateway/device-{i}"))
            .collect();
        let round = |cache: &mut AnswerCache| {
            let mut hits = 0;
            for topic in &topics {
                for request in [publish(0, false), RECEIVE] {
                    match allows(cache, id, request, topic.as_bytes(), 1) {
                        true => hits += 1,
                        false => keep(cache, id, request, topic.as_bytes(), 1, 9),
                    }
                }
            }
            hits
        };
        round(&mut cache);
        assert!(cache.slots.len() >= 2 * FEW);
        for _ in 0..30 {
            round(&mut cache);
        }
        let hits = round(&mut cache);
        assert!(hits > 6500, "{hits} of 7000");
        for i in 0..1_000_000 {
            keep(&mut cache, id, RECEIVE, format!("{i}").as_bytes(), 1, 9);
        }
        assert_eq!(cache.slots.len(), MANY);
    }

    #[test]
    fn rights_share_a_number_only_if_they_allow_the_same() {
        let client = |id: &str| ClientAttributes::with_claims(id, json!({}));
        let rules = |claim| Arc::new(TokenRules::compile(&topics(&claim, true).unwrap()));
        let (plain, own) = (rules(json!(["a/#"])), rules(json!(["dev/%c"])));
        let rights = |rules: &Arc<TokenRules>, file: Option<&Arc<PolicyFile>>, client_id| {
            Rights::new(Arc::clone(rules), file, client(client_id)).unwrap()
        };
        let same = |rules, file| {
            // Clients share the rules of a policy file while both are there.
            let (one, other) = (rights(rules, file, "x"), rights(rules, file, "y"));
            one.id() == other.id()
        };
        assert!(same(&plain, None) && !same(&own, None));
        let equal = rules(json!(["a/#"]));
        assert_ne!(
            rights(&plain, None, "x").id(),
            rights(&equal, None, "x").id()
        );
        let file = |text: &str| Arc::new(PolicyFile::compile(text).unwrap());
        let shared = file("[[rule]]\nname = \"1\"\nallow.both = \"b\"");
        let per_client = file("[[rule]]\nname = \"1\"\nallow.both = \"b/%c\"");
        assert!(same(&plain, Some(&shared)) && !same(&own, Some(&shared)));
        assert!(!same(&plain, Some(&per_client)));
        assert_ne!(
            rights(&plain, Some(&shared), "x").id(),
            rights(&plain, None, "x").id()
        );
        let mut rights = rights(&plain, Some(&shared), "x");
        let before = rights.id();
        rights.apply(per_client);
        assert_ne!(rights.id(), before);
    }

    /// Compares the cache with a map that forgets nothing by itself. The cache may forget more, and never allows more.
    #[test]
    fn it_never_allows_more_than_a_map_would() {
        let ids = some_rights();
        let mut cache = AnswerCache::default();
        let mut known: HashMap<(usize, bool, String), (u64, u64)> = HashMap::new();
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut hits = 0;
        let (rounds, names) = if cfg!(miri) {
            (2_000, 15)
        } else {
            (200_000, 1500)
        };
        for _ in 0..rounds {
            let (id, receives) = (next(3) as usize, next(2) == 0);
            let topic = format!("site/{}", next(names));
            let request = if receives { RECEIVE } else { publish(0, false) };
            let now = Unix(next(10));
            if next(2) == 0 {
                let until = Unix(now.0 + next(9));
                keep(
                    &mut cache,
                    ids[id],
                    request,
                    topic.as_bytes(),
                    now.0,
                    until.0,
                );
                if until > now {
                    known.insert((id, receives, topic), (now.0, until.0));
                }
            } else if allows(&cache, ids[id], request, topic.as_bytes(), now.0) {
                hits += 1;
                let (since, until) = known[&(id, receives, topic)];
                assert!((since..until).contains(&now.0));
            }
        }
        assert!(hits > rounds / 200, "{hits}");
    }
}
