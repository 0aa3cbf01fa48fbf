//! Many rules, compiled into a tree, so that one walk finds the first that applies to a request.
//!
//! The tree branches where filters differ. A [`Node`] holds what the filters below it have in common: some
//! named levels, then some `+`. Below that is either the end of a single rule or a [`Branch`]. The walk
//! follows the levels of a topic by name, by value (placeholders) and by `+`. It keeps the earliest rule that
//! applies, and does not enter a branch whose earliest rule comes later than that. It visits no node twice and
//! allocates nothing.
//!
//! What the walk costs depends on the number of levels, and hardly on the number of rules. Two exceptions:
//!
//! * Rules with the same filter that differ in schedule or limits are tried one by one.
//! * So are different placeholders at the same place: `a/${x}`, `a/${y}`.
//!
//! The values of placeholders come with the request, not with the tree. So clients with the same rules share
//! a tree. (A tree for each client, with its values filled in, would keep a policy file a hundred thousand
//! times.) A level that mixes text and values, such as `line-7-%c`, is looked up by its text: see [`Shape`].
//!
//! Ten thousand devices may each have rules of their own, so the tree is small: a rule with a filter of its own
//! costs 16 bytes and its text. Nodes refer to each other by number, and children of a branch lie side by side
//! in the order of a hash of their first level. To find one is a binary search for a number.

use super::{
    AccessRequest, Effect,
    bind::{self, Binding, Bindings, UnusableValue},
    filter,
    levels::{Levels, Position, mask, word, word_at},
    template::Placeholder,
    windows::OpenWindows,
};
use crate::client::ClientAttributes;

/// The rule that decides, and its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The order that the rule was given.
    pub order: u32,
    /// What it does.
    pub effect: Effect,
}

/// Many rules, compiled.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    /// What all filters have in common.
    pub(super) root: Node,
    /// Whether that includes a name.
    pub(super) root_is_named: bool,
    pub(super) nodes: Box<[Node]>,
    pub(super) branches: Box<[Branch]>,
    pub(super) ends: Box<[FilterEnd]>,
    pub(super) terms: Box<[Terms]>,
    /// The names in filters.
    pub(super) text: Box<[u8]>,
    pub(super) placeholders: Option<Box<Placeholders>>,
    pub(super) count: u32,
    pub(super) checks_payloads: bool,
    /// A number that only these rules have; 0 if there are none.
    pub(super) id: u64,
}

/// What some filters have in common, from the level where they part from others: first named levels (or, below
/// a [`Shape`], the text of one level), then `+` levels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    /// A hash of the first named level.
    pub hash: u16,
    /// The named levels, with slashes between them, in `text`.
    pub name_len: u16,
    pub name: u32,
    /// How many `+` follow.
    pub singles: u8,
    pub below: Below,
    /// The terms of the rule, if a rule ends here.
    pub terms: u16,
    /// The rank of the rule, or the number of the branch.
    pub value: u32,
}

/// What is below the levels of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Below {
    /// The end of one rule's filter.
    #[default]
    End,
    /// `#`, which ends one rule's filter.
    Multi,
    /// Anything else.
    Branch,
}

/// Where filters part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    /// The rank of the earliest rule here or below.
    pub least: u32,
    /// The filters that end here, earliest first.
    pub ends: (u32, u32),
    /// The nodes behind names, in the order of their hashes.
    pub names: (u32, u32),
    /// The node behind `+`, or [`NONE`].
    pub single: u32,
    pub shapes: (u32, u32),
}

/// The end of a filter. A `#` is no level of its own, because it also matches the level above it (MQTT 5.0,
/// section 4.7.1.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterEnd {
    pub rank: u32,
    pub terms: u32,
    pub multi: bool,
}

/// What a rule applies to, besides topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Terms {
    /// The classes of requests: see [`AccessRequest::classes`].
    pub classes: u16,
    pub max_payload: u32,
    pub window: u32,
}

/// What only rules with placeholders need.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    /// Each with whether it is at the very beginning of a filter.
    pub list: Box<[(Placeholder, bool)]>,
    pub shapes: Box<[Shape]>,
    /// The parts of all shapes.
    pub parts: Box<[ShapePart]>,
}

/// What levels made of values and text have in common: which placeholders stand where, and how long the texts
/// before, between and after them are. All values of one client have a length. So it is known where the texts
/// are in a level of a topic, whatever they are, and one search finds the filter with these texts. Of a thousand
/// `line-N-%c` only as many shapes are tried as `N` has lengths.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub parts: (u32, u32),
    /// The nodes behind the texts, in the order of their hashes.
    pub nodes: (u32, u32),
    /// The rank of the earliest rule behind it.
    pub least: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ShapePart {
    /// A text of this many bytes.
    Text(u32),
    /// The value of this placeholder.
    Value(u32),
}

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// The rank of no rule: after all others.
const LAST: u32 = u32::MAX;

/// Returns order and effect in one number, so that one comparison keeps both.
pub(super) fn rank(order: u32, effect: Effect) -> u32 {
    order << 1 | u32::from(effect == Effect::Allow)
}

fn range<T>(items: &[T], (from, to): (u32, u32)) -> &[T] {
    items.get(from as usize..to as usize).unwrap_or_default()
}

/// A request, prepared for any number of matchers.
pub(crate) struct PreparedRequest<'a> {
    levels: Levels<'a>,
    /// Where the last level of a subscription begins if it is `#`; else a place that no level has.
    multi: usize,
    classes: u16,
    payload: u32,
}

/// Prepares a request. Returns `None` if the topic is empty or not UTF-8, or a subscription's filter is malformed:
/// then nothing is allowed. Allocates nothing.
///
/// The topic of a message is not checked any further: before it asks, the broker has checked that it has no wildcard
/// and is not too long or deep (lib/util_topic.c, mosquitto_pub_topic_check).
#[inline]
pub(crate) fn prepare<R>(
    request: AccessRequest,
    topic: &[u8],
    then: impl FnOnce(&PreparedRequest<'_>) -> R,
) -> Option<R> {
    let (mut text, mut multi) = (topic, usize::MAX);
    if matches!(request, AccessRequest::Subscribe { .. }) {
        text = filter::subscribed(std::str::from_utf8(topic).ok()?)?.as_bytes();
        if let [before @ .., b'#'] = text {
            multi = before.len();
        }
    }
    if text.is_empty() {
        return None;
    }
    let levels = Levels::of(text)?;
    Some(then(&PreparedRequest {
        levels,
        multi,
        classes: request.classes(),
        payload: request.payload(),
    }))
}

impl Matcher {
    /// Returns how many rules there are, without those that never decide because an earlier one always does.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns a number that only these rules have.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a rule applies only to messages whose payload is short enough.
    pub(crate) fn checks_payloads(&self) -> bool {
        self.checks_payloads
    }

    /// Returns the placeholders, each with whether it is at the very beginning of a filter.
    pub(super) fn placeholders(&self) -> &[(Placeholder, bool)] {
        self.placeholders.as_ref().map_or(&[], |some| &some.list)
    }

    /// Finds the values of the placeholders for one client.
    ///
    /// # Errors
    ///
    /// Returns the first value that cannot be in a topic.
    pub(crate) fn bind(&self, client: &ClientAttributes) -> Result<Bindings, UnusableValue> {
        let list = self.placeholders().iter();
        list.map(|(placeholder, front)| bind::binding(placeholder, *front, client))
            .collect::<Result<_, _>>()
            .map(Bindings)
    }

    /// Returns the claims that the placeholders name.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &str> {
        self.placeholders()
            .iter()
            .filter_map(|(placeholder, _)| placeholder.claim())
    }

    /// Returns the first rule that applies.
    #[inline]
    pub(crate) fn first(
        &self,
        request: &PreparedRequest<'_>,
        bindings: &Bindings,
        windows: &OpenWindows,
    ) -> Option<Ruling> {
        let walk = Walk {
            matcher: self,
            request,
            bindings: &bindings.0,
            windows,
        };
        let rank = walk.root();
        (rank != LAST).then_some(Ruling {
            order: rank >> 1,
            effect: if rank & 1 == 1 {
                Effect::Allow
            } else {
                Effect::Deny
            },
        })
    }
}

struct Walk<'a> {
    matcher: &'a Matcher,
    request: &'a PreparedRequest<'a>,
    bindings: &'a [Binding],
    windows: &'a OpenWindows,
}

/// What is behind a node.
enum Reached {
    /// The least rank so far.
    Rank(u32),
    /// A branch, and the topic's next level.
    Branch(u32, Position),
}

impl<'a> Walk<'a> {
    /// Returns the least rank of a rule that applies.
    #[inline(always)]
    fn root(&self) -> u32 {
        let (root, first) = (&self.matcher.root, self.request.levels.first());
        let place = match self.matcher.root_is_named {
            true => self.behind_name(root, first),
            false if self.request.levels.text()[0] == b'$' => return self.root_below_dollar(),
            false => Some(first),
        };
        match place.map(|place| self.node(root, place, LAST)) {
            None => LAST,
            Some(Reached::Rank(rank)) => rank,
            Some(Reached::Branch(index, place)) => self.branch(index, place, LAST),
        }
    }

    /// The same if the topic begins with `$` and the filters begin in different ways: a wildcard at the first level
    /// does not match it (MQTT 5.0, section 4.7.2).
    #[cold]
    fn root_below_dollar(&self) -> u32 {
        let (root, first) = (&self.matcher.root, self.request.levels.first());
        if root.singles > 0 || root.below != Below::Branch {
            return LAST;
        }
        let Some(branch) = self.matcher.branches.get(root.value as usize) else {
            return LAST;
        };
        let best = self.by_value(branch, first, LAST);
        match self.named(branch, first) {
            None => best,
            Some((node, place)) => self.behind(node, place, best),
        }
    }

    /// Returns the least rank of a rule that applies in this branch, or `best` if none is less.
    fn branch(&self, mut index: u32, mut place: Position, mut best: u32) -> u32 {
        while let Some(branch) = self.matcher.branches.get(index as usize) {
            if branch.least >= best {
                break;
            }
            if branch.ends.0 != branch.ends.1 {
                best = self.ends(branch, place, best);
            }
            if self.request.levels.is_over(place) {
                break;
            }
            let named = self.named(branch, place);
            if branch.shapes.0 != branch.shapes.1 {
                best = self.by_value(branch, place, best);
            }
            let single = self.matcher.nodes.get(branch.single as usize);
            let (node, after) = match (named, single) {
                (None, None) => break,
                (Some(named), None) => named,
                (None, Some(node)) => (node, place),
                (Some((named, after)), Some(node)) => {
                    best = self.behind(named, after, best);
                    (node, place)
                }
            };
            match self.node(node, after, best) {
                Reached::Rank(rank) => return rank,
                Reached::Branch(next, after) => (index, place) = (next, after),
            }
        }
        best
    }

    /// The same behind a node whose names match.
    #[inline(never)]
    fn behind(&self, node: &Node, place: Position, best: u32) -> u32 {
        match self.node(node, place, best) {
            Reached::Rank(rank) => rank,
            Reached::Branch(index, place) => self.branch(index, place, best),
        }
    }

    /// Follows a node whose names match.
    #[inline(always)]
    fn node(&self, node: &Node, mut place: Position, best: u32) -> Reached {
        let levels = &self.request.levels;
        for _ in 0..node.singles {
            // A subscription to `#` covers more than `+` does.
            if levels.is_over(place) || place.start == self.request.multi {
                return Reached::Rank(best);
            }
            place = levels.next(place);
        }
        match node.below {
            Below::Branch => Reached::Branch(node.value, place),
            Below::End if !levels.is_over(place) => Reached::Rank(best),
            Below::End | Below::Multi => {
                Reached::Rank(self.rule(node.value, node.terms.into(), best))
            }
        }
    }

    /// Returns the rank of a rule whose filter matches, if it is less than `best` and the rule applies.
    #[inline(always)]
    fn rule(&self, rank: u32, terms: u32, best: u32) -> u32 {
        let applies = |terms: &Terms| {
            terms.classes & self.request.classes != 0
                && self.request.payload <= terms.max_payload
                && self.windows.is_open(terms.window)
        };
        if rank < best
            && let Some(terms) = self.matcher.terms.get(terms as usize)
            && applies(terms)
        {
            return rank;
        }
        best
    }

    #[inline(never)]
    fn ends(&self, branch: &Branch, place: Position, best: u32) -> u32 {
        let is_over = self.request.levels.is_over(place);
        for end in range(&self.matcher.ends, branch.ends) {
            if end.rank >= best {
                break;
            }
            if is_over || end.multi {
                let rank = self.rule(end.rank, end.terms, best);
                if rank < best {
                    return rank;
                }
            }
        }
        best
    }

    /// Returns the node behind the names that the topic has at this place, and the place behind them.
    #[inline(always)]
    fn named(&self, branch: &Branch, place: Position) -> Option<(&'a Node, Position)> {
        let nodes = range(&self.matcher.nodes, branch.names);
        match nodes {
            [] => None,
            [node] => Some((node, self.behind_name(node, place)?)),
            _ => {
                let end = self.request.levels.end(place);
                let hash = name_hash(self.request.levels.text(), place.start, end);
                for node in from_hash(nodes, hash) {
                    if node.hash != hash {
                        break;
                    }
                    if let Some(after) = self.behind_name(node, place) {
                        return Some((node, after));
                    }
                }
                None
            }
        }
    }

    /// Returns the place behind a node's names, if the topic has them at this place.
    #[inline(always)]
    fn behind_name(&self, node: &Node, place: Position) -> Option<Position> {
        let (text, length) = (self.request.levels.text(), node.name_len as usize);
        let unlike = word_at(text, place.start) ^ word_at(&self.matcher.text, node.name as usize);
        if unlike & mask(length) != 0 {
            return None;
        }
        if length > 8 && text.get(place.start..place.start + length) != Some(self.name(node)) {
            return None;
        }
        self.request.levels.behind(place, length)
    }

    #[inline(always)]
    fn name(&self, node: &Node) -> &'a [u8] {
        let from = node.name as usize;
        let name = self.matcher.text.get(from..from + node.name_len as usize);
        name.unwrap_or_default()
    }

    #[inline(never)]
    fn by_value(&self, branch: &Branch, place: Position, mut best: u32) -> u32 {
        let Some(placeholders) = self.matcher.placeholders.as_deref() else {
            return best;
        };
        let level = place.start..self.request.levels.end(place);
        let level = self.request.levels.text().get(level).unwrap_or_default();
        for shape in range(&placeholders.shapes, branch.shapes) {
            #[cfg(test)]
            tests::TRIED.set(tests::TRIED.get() + 1);
            if shape.least >= best {
                continue;
            }
            let node = match range(&placeholders.parts, shape.parts) {
                // Most levels with a value are nothing else.
                [ShapePart::Value(number)] => self.bindings[*number as usize]
                    .is(level)
                    .then(|| &self.matcher.nodes[shape.nodes.0 as usize]),
                parts => self.of_shape(shape, parts, level),
            };
            if let Some(node) = node {
                best = self.behind(node, self.request.levels.next(place), best);
            }
        }
        best
    }

    /// Returns the node behind a level that has this shape.
    fn of_shape(&self, shape: &Shape, parts: &[ShapePart], level: &[u8]) -> Option<&'a Node> {
        let (mut lists, mut known) = (0, 0);
        for part in parts {
            match self.width(*part) {
                Some(width) => known += width,
                None => lists += 1,
            }
        }
        // What is left is an element of the list, of which there is one at most.
        let rest = level.len().checked_sub(known)?;
        if lists == 0 && rest != 0 {
            return None;
        }
        let (mut at, mut texts) = (0, 0);
        for part in parts {
            let from = at;
            at += self.width(*part).unwrap_or(rest);
            match part {
                ShapePart::Text(_) => texts = hash(texts, level, from, at),
                ShapePart::Value(number) => {
                    if !self.bindings[*number as usize].is(&level[from..at]) {
                        return None;
                    }
                }
            }
        }
        let nodes = range(&self.matcher.nodes, shape.nodes);
        let nodes = from_hash(nodes, short(texts)).iter();
        let mut alike = nodes.take_while(|node| node.hash == short(texts));
        alike.find(|node| {
            let (mut at, mut name) = (0, self.name(node));
            parts.iter().all(|part| {
                let from = at;
                at += self.width(*part).unwrap_or(rest);
                match part {
                    ShapePart::Value(_) => true,
                    ShapePart::Text(length) => {
                        let (piece, others) = name.split_at(*length as usize);
                        name = others;
                        level[from..at] == *piece
                    }
                }
            })
        })
    }

    /// Returns the length of a part in bytes, unless it is one of several values.
    #[inline]
    fn width(&self, part: ShapePart) -> Option<usize> {
        match part {
            ShapePart::Text(length) => Some(length as usize),
            ShapePart::Value(number) => self.bindings[number as usize].width(),
        }
    }
}

/// Returns the nodes from the first one with this hash on, or from where it would be. The hashes are spread evenly, so
/// that this is close to a place that can be computed.
#[inline(always)]
fn from_hash(nodes: &[Node], hash: u16) -> &[Node] {
    let guess = (nodes.len() * hash as usize) >> 16;
    let (before, mut from) = nodes.split_at(guess);
    while let [first, rest @ ..] = from
        && first.hash < hash
    {
        from = rest;
    }
    let earlier = before.iter().rev().take_while(|node| node.hash >= hash);
    match earlier.count() {
        0 => from,
        count => &nodes[guess - count..],
    }
}

/// Returns the hash of a level.
#[inline(always)]
fn name_hash(text: &[u8], start: usize, end: usize) -> u16 {
    short(match end - start {
        // Most levels.
        ..=8 => word(text, start, end),
        _ => hash(0, text, start, end),
    })
}

/// Mixes a piece of a text into a hash. The hash has no secret key: rules are signed by the tenant or written by the
/// operator, so nobody can choose names that have the same hash.
#[inline(never)]
pub(super) fn hash(mut mixed: u64, text: &[u8], mut start: usize, end: usize) -> u64 {
    loop {
        let next = end.min(start + 8);
        mixed = mix(mixed, word(text, start, next));
        if next == end {
            return mixed;
        }
        start = next;
    }
}

#[inline(always)]
fn mix(mixed: u64, word: u64) -> u64 {
    let mixed = mixed.wrapping_mul(GOLDEN);
    mixed ^ mixed >> 32 ^ word
}

/// Returns the part of a hash that nodes keep.
#[inline(always)]
pub(super) fn short(mixed: u64) -> u16 {
    (mixed.wrapping_mul(GOLDEN) >> 48) as u16
}

/// The multiplier of Fibonacci hashing: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Rule, compile::OrderedRule, template::Template};
    use serde_json::json;
    use std::cell::Cell;

    thread_local! {
        /// Shapes that were tried.
        pub static TRIED: Cell<usize> = const { Cell::new(0) };
    }

    /// Returns the order of the first rule that applies, and how many shapes were tried.
    fn first(filters: &[String], topic: &str) -> (Option<u32>, usize) {
        let rules = filters
            .iter()
            .map(|filter| Rule::allow(Template::parse(filter).unwrap()))
            .collect::<Vec<_>>();
        let ordered = (0..).zip(&rules).map(|(order, rule)| OrderedRule {
            order,
            rule,
            window: 0,
        });
        let rules = Matcher::new(ordered);
        let claims = json!({"sites": ["north", "south"], "empty": []});
        let client = ClientAttributes {
            username: "u".into(),
            ..ClientAttributes::with_claims("pump", claims)
        };
        let (bindings, windows) = (rules.bind(&client).unwrap(), OpenWindows::default());
        TRIED.set(0);
        let ruling = prepare(AccessRequest::Receive, topic.as_bytes(), |request| {
            rules.first(request, &bindings, &windows)
        });
        (ruling.flatten().map(|ruling| ruling.order), TRIED.get())
    }

    #[test]
    fn levels_of_text_and_value_are_not_tried_one_by_one() {
        for (filter, topic) in [
            ("dev/line-N-%c/#", "dev/line-N-pump/x"),
            ("dev/%c-N/#", "dev/pump-N/x"),
            ("dev/N-%c-line/#", "dev/N-pump-line/x"),
            ("dev/a-%c-N-%u-z/#", "dev/a-pump-N-u-z/x"),
            ("dev/N-${sites[*]}-x/#", "dev/N-south-x/x"),
            ("dev/%u-${sites[*]}-N/#", "dev/u-south-N/x"),
            ("N-%c/x", "N-pump/x"),
        ] {
            let named = |text: &str, n: u32| text.replace('N', &n.to_string());
            let counts = [9_u32, 99, 3_000].into_iter();
            for count in counts.filter(|count| !cfg!(miri) || *count < 3_000) {
                let filters: Vec<_> = (0..=count).map(|n| named(filter, n)).collect();
                let lengths = count.to_string().len();
                for n in [0, 7, count] {
                    let (found, tried) = first(&filters, &named(topic, n));
                    assert_eq!(found, Some(n), "{filter} {n}");
                    assert!(tried <= lengths, "{filter}: {tried} of {count}");
                }
                let (found, tried) = first(&filters, &named(topic, count + 1));
                assert!(found.is_none() && tried <= lengths);
            }
        }
    }

    #[test]
    fn texts_and_values_are_told_apart() {
        let filters: Vec<_> = [
            "a-%c",
            "%c-a",
            "a-%c-b",
            "ab%c",
            "%c",
            "%c%u",
            "%u%c",
            "a-${sites[*]}",
            "${sites[*]}-a-%c",
            "x%cx%ux",
            "${empty[*]}z",
        ]
        .map(String::from)
        .into();
        for (topic, found) in [
            ("a-pump", Some(0)),
            ("pump-a", Some(1)),
            ("a-pump-b", Some(2)),
            ("abpump", Some(3)),
            ("pump", Some(4)),
            ("pumpu", Some(5)),
            ("upump", Some(6)),
            ("a-north", Some(7)),
            ("south-a-pump", Some(8)),
            ("xpumpxux", Some(9)),
            ("xpumpyux", None),
            ("xpumpxuxx", None),
            ("b-pump", None),
            ("a-pum", None),
            ("a-pumpx", None),
            ("a-", None),
            ("a-west", None),
            ("-a-pump", None),
            ("z", None),
            ("", None),
            ("pump/pump", None),
        ] {
            assert_eq!(first(&filters, topic).0, found, "{topic}");
        }
    }

    /// The number of their terms is beyond what a node holds.
    #[test]
    #[cfg_attr(miri, ignore = "it is about numbers too large for an interpreter")]
    fn seventy_thousand_rules_with_different_limits() {
        let rule = |i: u32| {
            let filter = Template::literal(&format!("a/{i}")).unwrap();
            let mut rule = Rule::allow(filter);
            rule.limits.max_payload = i;
            rule
        };
        let rules: Vec<_> = (0..70_000).map(rule).collect();
        let matcher = Matcher::new((0..).zip(&rules).map(|(order, rule)| OrderedRule {
            order,
            rule,
            window: 0,
        }));
        assert_eq!(matcher.len(), 70_000);
        for i in [0, 1, 65_535, 65_536, 69_999] {
            for (payload, is_allowed) in [(i, true), (i + 1, false)] {
                let publish = AccessRequest::Publish {
                    qos: 0,
                    retain: false,
                    payload,
                };
                let ruling = prepare(publish, format!("a/{i}").as_bytes(), |request| {
                    matcher.first(request, &Bindings::default(), &OpenWindows::default())
                });
                assert_eq!(ruling.flatten().is_some(), is_allowed, "{i} {payload}");
            }
        }
    }
}
