//! Rules, compiled: a tree of levels, walked once for a question.
//!
//! Where a filter ends, the tree holds what its rule is good for. The walk follows the topic's levels
//! by name, by value (placeholders) and by `+`, and keeps the earliest rule that fits; a branch whose
//! earliest rule comes later than that is not entered. No node is visited twice, nothing is
//! allocated, and a list of rules tried one by one, as every peer does it, would grow with their
//! number.
//!
//! Placeholders are edges of the tree, and their values come with the question: so clients share a
//! tree, whatever they are called. (The alternative, a tree for each client with the values filled
//! in, would compile and keep the policy a hundred thousand times.) Levels that mix text and values, as
//! `line-7-%c`, are looked up by their text: see [`Shape`].
//!
//! What does grow is said here. Rules with the very same filter that differ in hours or limits are
//! looked at one after the other, until one is open and fits. And so are the placeholders that stand in
//! one place, as each has a value of its own: `a/${x}`, `a/${y}` and so on.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Ask, Effect, Limits, Rule,
    bind::{self, Bound, Unusable, Values},
    filter,
    levels::{Level, Levels},
    names::Names,
    template::{self, Piece, Placeholder},
};

/// Which rule decides, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The order that the rule was given.
    pub order: u32,
    /// What it says.
    pub effect: Effect,
}

/// Rules, compiled.
#[derive(Debug)]
pub struct Rules {
    nodes: Box<[Node]>,
    /// Of each node first what ends in `#` there, then what ends there.
    entries: Box<[Entry]>,
    names: Names,
    tails: Box<[u8]>,
    shapes: Box<[Shape]>,
    /// Of all shapes, in their order.
    parts: Box<[Part]>,
    /// The texts in levels that have values, too: where a text leads from here.
    texts: Names,
    placeholders: Box<[(Placeholder, bool)]>,
    weigh_payloads: bool,
}

#[derive(Debug)]
struct Node {
    /// The rank of the earliest rule here or below.
    least: u32,
    /// The node behind `+`; 0 if there is none.
    single: u32,
    /// Nodes behind names: none, this one, or [`MANY`], which the table has.
    named: u32,
    /// The one name: its first eight bytes, and its length. Most nodes have one at most, and to
    /// compare is less than half of looking it up.
    name: u64,
    name_len: u32,
    /// What it has beyond its first eight bytes, in `tails`.
    name_tail: u32,
    multi: u32,
    ends: u32,
    entries_end: u32,
    shapes: u32,
    shapes_end: u32,
}

/// What a rule is good for at the end of its filter. `#` is no node but a place on its parent,
/// because it also stands for the parent itself (MQTT 5.0, section 4.7.1.2).
#[derive(Clone, Copy, Debug)]
struct Entry {
    rank: u32,
    max_payload: u32,
    gate: u32,
    classes: u16,
}

/// What levels made of values and text have in common: which placeholders stand where, and how long
/// the text is in front, between and behind. For one client all values have a length, so whatever the
/// texts are, it is known where they would be in a topic's level, and the table has the one filter with
/// just these. So of a thousand `line-N-%c` as many are tried as `N` has lengths. (To try each would
/// grow with their number; a table of first letters only would not tell them apart.)
#[derive(Debug)]
struct Shape {
    /// In `parts`.
    parts: (u32, u32),
    /// Where its first text leads from; if it has none, the node behind it.
    next: u32,
    /// The rank of the earliest rule behind it.
    least: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A text of so many bytes.
    Text(u32),
    /// Which binding.
    Slot(u32),
}

/// Order and effect in one number, so that one comparison keeps both.
fn rank(order: u32, effect: Effect) -> u32 {
    order << 1 | u32::from(effect == Effect::Allow)
}

const NOBODY: u32 = u32::MAX;

/// More than one name.
const MANY: u32 = u32::MAX;

/// What the placeholders of some rules stand for, for one client.
#[derive(Debug, Default)]
pub struct Bindings(Box<[Value]>);

#[derive(Debug)]
enum Value {
    One(Box<str>),
    /// Any of these.
    Each(Names),
}

/// Which of the rules that come and go are in force: set by whoever watches the clock, read at
/// every message, so without a lock. Gate 0 is always open.
#[derive(Debug, Default)]
pub struct Gates(Box<[AtomicU64]>);

impl Gates {
    /// So many gates besides gate 0, all shut.
    pub fn new(count: usize) -> Self {
        Self(
            (0..(count + 1).div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
        )
    }

    /// Opens or shuts one.
    pub fn set(&self, gate: u32, open: bool) {
        let (word, bit) = (&self.0[gate as usize / 64], 1 << (gate % 64));
        if open {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    #[inline]
    fn is_open(&self, gate: u32) -> bool {
        gate == 0
            || self
                .0
                .get(gate as usize / 64)
                .is_some_and(|word| word.load(Ordering::Relaxed) >> (gate % 64) & 1 == 1)
    }
}

/// A question, made ready for any number of trees.
pub struct Asked<'a> {
    text: &'a [u8],
    levels: Levels<'a>,
    classes: u16,
    payload: u32,
}

/// Makes a question ready. `None` if what is asked about is empty, or no filter: then nothing is
/// allowed. Allocates nothing.
///
/// The topic of a message is not checked for more than UTF-8: the broker has checked that it has no wildcard
/// and is not too long or deep before it asks (lib/util_topic.c, mosquitto_pub_topic_check).
#[inline]
pub fn ask<R>(ask: Ask, topic: &[u8], then: impl FnOnce(&Asked<'_>) -> R) -> Option<R> {
    let text = match ask {
        Ask::Subscribe { .. } => filter::subscribed(std::str::from_utf8(topic).ok()?)?.as_bytes(),
        Ask::Publish { .. } | Ask::Receive => topic,
    };
    if text.is_empty() {
        return None;
    }
    let levels = Levels::of(text);
    // What is no text is no topic. Nearly all are ASCII.
    if !levels.are_ascii() && std::str::from_utf8(text).is_err() {
        return None;
    }
    Some(then(&Asked {
        text,
        levels,
        classes: ask.kinds(),
        payload: ask.payload(),
    }))
}

impl Rules {
    /// How many rules there are, without those that never decide because an earlier one always does.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether some rule fits only messages with a payload that is short enough.
    pub fn weigh_payloads(&self) -> bool {
        self.weigh_payloads
    }

    /// Finds out what the placeholders stand for.
    ///
    /// # Errors
    ///
    /// The first value that cannot stand in a topic.
    pub fn bind(&self, values: &Values) -> Result<Bindings, Unusable> {
        self.placeholders
            .iter()
            .map(|(placeholder, front)| {
                Ok(match bind::bound(placeholder, *front, values)? {
                    Bound::One(value) => Value::One(value),
                    Bound::Each(values) => Value::Each(set(&values)),
                })
            })
            .collect::<Result<_, _>>()
            .map(Bindings)
    }

    fn tail(&self, node: &Node) -> &[u8] {
        let from = node.name_tail as usize;
        let tail = from..from + node.name_len as usize - 8;
        self.tails.get(tail).unwrap_or_default()
    }

    /// The claims that its placeholders name.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.placeholders
            .iter()
            .filter_map(|(placeholder, _)| match placeholder {
                Placeholder::Claim(name) | Placeholder::EachOf(name) => Some(&**name),
                Placeholder::ClientId | Placeholder::Username => None,
            })
    }

    /// The first rule that fits.
    #[inline]
    pub fn first(&self, asked: &Asked<'_>, bindings: &Bindings, gates: &Gates) -> Option<Ruling> {
        let walk = Walk {
            rules: self,
            asked,
            bindings: &bindings.0,
            gates,
        };
        let rank = match asked.text {
            [b'$', ..] => walk.beyond_dollar(),
            _ => walk.from(0, 0, NOBODY),
        };
        (rank != NOBODY).then_some(Ruling {
            order: rank >> 1,
            effect: if rank & 1 == 1 {
                Effect::Allow
            } else {
                Effect::Deny
            },
        })
    }
}

fn set(values: &[Box<str>]) -> Names {
    let mut names = Names::default();
    for value in values {
        let value = value.as_bytes();
        let level = Level::of(value);
        if names.find(0, &level, value) == 0 {
            names.add(0, &level, value, 1);
        }
    }
    names
}

struct Walk<'a> {
    rules: &'a Rules,
    asked: &'a Asked<'a>,
    bindings: &'a [Value],
    gates: &'a Gates,
}

impl Walk<'_> {
    /// The least rank of a rule that fits at this node or below, if less than `best`. `start` is where
    /// the topic's next level begins, beyond its end if there is none.
    fn from(&self, mut node: u32, mut start: usize, mut best: u32) -> u32 {
        let text = self.asked.text;
        while let Some(here) = self.rules.nodes.get(node as usize) {
            if here.least >= best {
                break;
            }
            if here.multi != here.ends {
                best = self.scan(here.multi, here.ends, best);
            }
            if start > text.len() {
                return self.scan(here.ends, here.entries_end, best);
            }
            let (from, end) = (start, self.asked.levels.end(start));
            start = end + 1;
            let named = match here.named {
                0 => 0,
                _ => self.named(here, node, &Level::between(text, from, end)),
            };
            if here.shapes != here.shapes_end {
                best = self.by_value(here, &Level::between(text, from, end), best);
            }
            // What is subscribed to beyond `+` is not covered by `+`.
            if here.single == 0 || text.get(from..end) == Some(b"#") {
                if named == 0 {
                    break;
                }
                node = named;
            } else {
                if named != 0 {
                    best = self.from(named, start, best);
                }
                node = here.single;
            }
        }
        best
    }

    /// The same at the root, for a topic that begins with `$`: a wildcard in front never reaches it
    /// (MQTT 5.0, section 4.7.2).
    #[cold]
    fn beyond_dollar(&self) -> u32 {
        let level = self.asked.levels.at(0);
        let Some(root) = self.rules.nodes.first() else {
            return NOBODY;
        };
        let best = self.by_value(root, &level, NOBODY);
        match self.named(root, 0, &level) {
            0 => best,
            named => self.from(named, level.end + 1, best),
        }
    }

    /// The node behind this name; 0 if there is none.
    #[inline(always)]
    fn named(&self, here: &Node, node: u32, level: &Level) -> u32 {
        match here.named {
            0 => 0,
            MANY => self.rules.names.find(node, level, self.asked.text),
            _ if here.name != level.word || here.name_len as usize != level.len() => 0,
            _ if here.name_len > 8 && self.rules.tail(here) != level.tail(self.asked.text) => 0,
            only => only,
        }
    }

    #[inline]
    fn scan(&self, from: u32, to: u32, best: u32) -> u32 {
        let entries = self.rules.entries.get(from as usize..to as usize);
        for entry in entries.unwrap_or_default() {
            if entry.rank >= best {
                break;
            }
            if entry.classes & self.asked.classes != 0
                && self.asked.payload <= entry.max_payload
                && self.gates.is_open(entry.gate)
            {
                return entry.rank;
            }
        }
        best
    }

    #[inline(never)]
    fn by_value(&self, here: &Node, level: &Level, mut best: u32) -> u32 {
        for shape in &self.rules.shapes[here.shapes as usize..here.shapes_end as usize] {
            #[cfg(test)]
            tests::TRIED.set(tests::TRIED.get() + 1);
            if shape.least < best
                && let Some(child) = self.behind(shape, level)
            {
                best = self.from(child, level.end + 1, best);
            }
        }
        best
    }

    /// The node behind a level that has this shape, if there is one.
    #[inline]
    fn behind(&self, shape: &Shape, level: &Level) -> Option<u32> {
        let text = self.asked.text;
        let parts = &self.rules.parts[shape.parts.0 as usize..shape.parts.1 as usize];
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
        let (mut next, mut at) = (shape.next, level.start);
        for part in parts {
            let piece = Level::between(text, at, at + self.width(*part).unwrap_or(rest));
            at = piece.end;
            match part {
                Part::Text(_) => match self.rules.texts.find(next, &piece, text) {
                    0 => return None,
                    found => next = found,
                },
                Part::Slot(slot) => {
                    let is_value = match &self.bindings[*slot as usize] {
                        Value::One(value) => text[piece.start..piece.end] == *value.as_bytes(),
                        Value::Each(names) => names.find(0, &piece, text) != 0,
                    };
                    if !is_value {
                        return None;
                    }
                }
            }
        }
        Some(next)
    }

    /// How many bytes it is, unless it is any of several values.
    #[inline]
    fn width(&self, part: Part) -> Option<usize> {
        match part {
            Part::Text(length) => Some(length as usize),
            Part::Slot(slot) => match &self.bindings[slot as usize] {
                Value::One(value) => Some(value.len()),
                Value::Each(_) => None,
            },
        }
    }
}

/// Takes rules, earliest first, and compiles them.
#[derive(Default)]
pub struct Builder {
    nodes: Vec<Draft>,
    names: Names,
    shapes: Vec<DraftShape>,
    texts: Names,
    /// How many places there are from which texts lead.
    places: u32,
    placeholders: Vec<(Placeholder, bool)>,
}

#[derive(Default)]
struct Draft {
    parent: u32,
    single: u32,
    named: u32,
    /// Whether it is behind a name, and which.
    is_named: bool,
    name: Box<[u8]>,
    multi: Vec<Entry>,
    ends: Vec<Entry>,
    /// The shapes of what is behind it, and the one that it is behind itself.
    shapes: Vec<usize>,
    shape: Option<usize>,
}

struct DraftShape {
    parts: Vec<Part>,
    next: u32,
}

impl Builder {
    /// No rules yet.
    pub fn new() -> Self {
        Self {
            nodes: vec![Draft::default()],
            ..Self::default()
        }
    }

    /// Adds a rule that comes after those added before. Rules with the same order are one rule with
    /// several filters. It counts while its gate is open. An order has at most 31 bits.
    pub fn add(&mut self, order: u32, rule: &Rule, gate: u32) {
        let Limits { max_payload, .. } = rule.limits;
        let entry = |classes| Entry {
            rank: rank(order, rule.effect),
            max_payload,
            gate,
            classes,
        };
        let (publish, subscribe) = (rule.publish_classes(), rule.subscribe_classes());
        let receive = rule.receive_classes();
        if !rule.literal {
            return self.put(rule, entry(publish | subscribe | receive), false);
        }
        // As names, so that only the same filter finds it; a message never has such a topic, unless
        // there is no wildcard in it.
        self.put(rule, entry(publish | subscribe), true);
        match rule.effect {
            Effect::Allow => self.put(rule, entry(receive), false),
            Effect::Deny => self.put(rule, entry(receive), true),
        }
    }

    fn put(&mut self, rule: &Rule, entry: Entry, by_name: bool) {
        if entry.classes == 0 {
            return;
        }
        let mut node = 0_usize;
        for (depth, part) in rule.filter.parts().iter().enumerate() {
            node = match part {
                template::Part::Text(name) if &**name == "#" && !by_name => {
                    return push(&mut self.nodes[node].multi, entry);
                }
                template::Part::Text(name) if &**name == "+" && !by_name => {
                    if self.nodes[node].single == 0 {
                        self.nodes[node].single = self.node(node);
                    }
                    self.nodes[node].single as usize
                }
                template::Part::Text(name) => self.named(node, name.as_bytes()),
                template::Part::Made(pieces) => self.made(node, pieces, depth == 0),
            };
        }
        push(&mut self.nodes[node].ends, entry);
    }

    fn node(&mut self, parent: usize) -> u32 {
        self.nodes.push(Draft {
            parent: parent as u32,
            ..Draft::default()
        });
        (self.nodes.len() - 1) as u32
    }

    fn named(&mut self, parent: usize, name: &[u8]) -> usize {
        let level = Level::of(name);
        let found = self.names.find(parent as u32, &level, name);
        if found != 0 {
            return found as usize;
        }
        let child = self.node(parent);
        self.names.add(parent as u32, &level, name, child);
        let draft = &mut self.nodes[parent];
        draft.named = if draft.named == 0 { child } else { MANY };
        self.nodes[child as usize].is_named = true;
        self.nodes[child as usize].name = name.into();
        child as usize
    }

    fn made(&mut self, parent: usize, pieces: &[Piece], first: bool) -> usize {
        let parts: Vec<Part> = pieces
            .iter()
            .enumerate()
            .map(|(i, piece)| match piece {
                Piece::Text(text) => Part::Text(text.len() as u32),
                Piece::Value(placeholder) => Part::Slot(self.slot(placeholder, first && i == 0)),
            })
            .collect();
        let texts: Vec<&[u8]> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Text(text) => Some(text.as_bytes()),
                Piece::Value(_) => None,
            })
            .collect();
        let mut shapes = self.nodes[parent].shapes.iter().copied();
        let known = shapes.find(|shape| self.shapes[*shape].parts == parts);
        let shape = known.unwrap_or_else(|| {
            let shape = self.shapes.len();
            let next = match texts.is_empty() {
                true => self.behind(parent, shape),
                false => self.place(),
            };
            self.shapes.push(DraftShape { parts, next });
            self.nodes[parent].shapes.push(shape);
            shape
        });
        let mut next = self.shapes[shape].next;
        for (i, text) in texts.iter().enumerate() {
            let level = Level::of(text);
            let from = next;
            next = self.texts.find(from, &level, text);
            if next == 0 {
                next = if i + 1 == texts.len() {
                    self.behind(parent, shape)
                } else {
                    self.place()
                };
                self.texts.add(from, &level, text, next);
            }
        }
        next as usize
    }

    fn behind(&mut self, parent: usize, shape: usize) -> u32 {
        let child = self.node(parent);
        self.nodes[child as usize].shape = Some(shape);
        child
    }

    fn place(&mut self) -> u32 {
        self.places += 1;
        self.places
    }

    fn slot(&mut self, placeholder: &Placeholder, front: bool) -> u32 {
        let wanted = (placeholder, front);
        let known = self
            .placeholders
            .iter()
            .position(|(placeholder, front)| (placeholder, *front) == wanted);
        known.unwrap_or_else(|| {
            self.placeholders.push((placeholder.clone(), front));
            self.placeholders.len() - 1
        }) as u32
    }

    /// The rules added so far, compiled.
    pub fn build(self) -> Rules {
        let (mut entries, mut shapes, mut parts) = (Vec::<Entry>::new(), Vec::new(), Vec::new());
        let (mut nodes, mut tails) = (Vec::with_capacity(self.nodes.len()), Vec::new());
        let parents: Vec<u32> = self.nodes.iter().map(|draft| draft.parent).collect();
        let behind: Vec<_> = self.nodes.iter().map(|draft| draft.shape).collect();
        // Only what cannot be told by one comparison goes into the table.
        let mut names = Names::default();
        for (child, draft) in self.nodes.iter().enumerate().skip(1) {
            if self.nodes[draft.parent as usize].named == MANY && draft.is_named {
                let level = Level::of(&draft.name);
                names.add(draft.parent, &level, &draft.name, child as u32);
            }
        }
        let only: Vec<Option<Box<[u8]>>> = self
            .nodes
            .iter()
            .map(|draft| match draft.named {
                0 | MANY => None,
                one => Some(self.nodes[one as usize].name.clone()),
            })
            .collect();
        let mut place_of = vec![0; self.shapes.len()];
        for (draft, only) in self.nodes.into_iter().zip(only) {
            let earliest = |entries: &[Entry]| entries.first().map_or(NOBODY, |entry| entry.rank);
            let (multi, first_shape) = (entries.len() as u32, shapes.len() as u32);
            let least = earliest(&draft.multi).min(earliest(&draft.ends));
            entries.extend(draft.multi);
            let ends = entries.len() as u32;
            entries.extend(draft.ends);
            for shape in draft.shapes {
                let DraftShape { parts: made, next } = &self.shapes[shape];
                let from = parts.len() as u32;
                parts.extend_from_slice(made);
                place_of[shape] = shapes.len();
                shapes.push(Shape {
                    parts: (from, parts.len() as u32),
                    next: *next,
                    least: NOBODY,
                });
            }
            let only = only.unwrap_or_default();
            let level = Level::of(&only);
            let name_tail = tails.len() as u32;
            tails.extend_from_slice(level.tail(&only));
            nodes.push(Node {
                least,
                name: level.word,
                name_len: only.len() as u32,
                name_tail,
                single: draft.single,
                named: draft.named,
                multi,
                ends,
                entries_end: entries.len() as u32,
                shapes: first_shape,
                shapes_end: shapes.len() as u32,
            });
        }
        // A child comes after its parent.
        for node in (1..nodes.len()).rev() {
            let (parent, least) = (parents[node] as usize, nodes[node].least);
            nodes[parent].least = nodes[parent].least.min(least);
            if let Some(shape) = behind[node] {
                let shape: &mut Shape = &mut shapes[place_of[shape]];
                shape.least = shape.least.min(least);
            }
        }
        Rules {
            weigh_payloads: entries.iter().any(|entry| entry.max_payload < u32::MAX),
            nodes: nodes.into(),
            entries: entries.into(),
            names,
            tails: tails.into(),
            shapes: shapes.into(),
            parts: parts.into(),
            texts: self.texts,
            placeholders: self.placeholders.into(),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Builder::new().build()
    }
}

/// Adds an entry unless an earlier one always comes first: so a tree is not larger for what was
/// written twice, and what many rules say about one filter is short where they are.
fn push(entries: &mut Vec<Entry>, entry: Entry) {
    let useless = entries.iter().any(|earlier| {
        earlier.gate == 0
            && earlier.classes & entry.classes == entry.classes
            && earlier.max_payload >= entry.max_payload
    });
    if !useless {
        entries.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::template::Template;
    use serde_json::json;
    use std::cell::Cell;

    thread_local! {
        /// Shapes that were tried.
        pub static TRIED: Cell<usize> = const { Cell::new(0) };
    }

    /// The order of the first rule that fits, and how many shapes were tried.
    fn first(filters: &[String], topic: &str) -> (Option<u32>, usize) {
        let mut builder = Builder::new();
        for (order, filter) in filters.iter().enumerate() {
            let rule = Rule::allow(Template::parse(filter).unwrap());
            builder.add(order as u32, &rule, 0);
        }
        let rules = builder.build();
        let claims = json!({"sites": ["north", "south"], "empty": []});
        let values = Values {
            client_id: "pump",
            username: "u",
            claims: claims.as_object().unwrap(),
        };
        let (bindings, gates) = (rules.bind(&values).unwrap(), Gates::default());
        TRIED.set(0);
        let ruling = ask(Ask::Receive, topic.as_bytes(), |asked| {
            rules.first(asked, &bindings, &gates)
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
            for count in [9_u32, 99, 3_000] {
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
}
