//! What a client may do: a set of topic filters, from a token's claim, asked at every message.
//!
//! * [`filter`]: what is a topic, what is a filter
//! * [`claim`]: the claim's forms
//! * this file: the set, as a tree of levels. A question walks the levels of the topic and
//!   allocates nothing; a list of filters tried one by one, as every peer does it, grows with the
//!   number of grants.

pub mod claim;
pub mod filter;

use std::collections::HashMap;

/// A set of granted filters, for publishing and subscribing alike.
#[derive(Debug, Default)]
pub struct Grants {
    root: Level,
    filters: usize,
}

/// One level of the tree. `#` is no child but a mark on its parent, because it also stands for
/// the parent itself (MQTT 5.0, section 4.7.1.2).
#[derive(Debug, Default)]
struct Level {
    literal: HashMap<Box<str>, Level>,
    single: Option<Box<Level>>,
    multi: bool,
    ends: bool,
}

impl Grants {
    /// Adds a filter that passed [`filter::check_grant`].
    fn insert(&mut self, filter: &str) {
        let mut level = &mut self.root;
        for name in filter.split('/') {
            level = match name {
                "#" => {
                    self.filters += usize::from(!level.multi);
                    level.multi = true;
                    return;
                }
                "+" => level.single.get_or_insert_default(),
                // Looked up twice only for a level that is new: `entry` would allocate each time.
                name if level.literal.contains_key(name) => {
                    level.literal.get_mut(name).expect("just seen")
                }
                name => level.literal.entry(name.into()).or_default(),
            };
        }
        self.filters += usize::from(!level.ends);
        level.ends = true;
    }

    /// How many different filters are granted.
    pub fn len(&self) -> usize {
        self.filters
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.filters == 0
    }

    /// Whether a message to `topic` may be published or delivered.
    pub fn match_topic(&self, topic: &str) -> bool {
        filter::is_topic_name(topic) && self.root.covers(topic, true)
    }

    /// Whether a subscription to `filter` reads only what is granted: some granted filter matches
    /// whatever `filter` matches. `$share/group/` in front of it is not part of the question.
    ///
    /// Level by level, as the broker's own `mosquitto_sub_matches_acl` decides it (2.1,
    /// libcommon/topic_common.c), so `+/#` is not taken to cover `#`. A filter that only several
    /// grants together would cover is refused: an operator could not name the one that allows it.
    pub fn cover_subscription(&self, filter: &str) -> bool {
        filter::subscribed(filter).is_some_and(|inner| self.root.covers(inner, true))
    }
}

impl Level {
    /// Whether the levels of `rest` are covered from here on. A topic name is a filter without
    /// wildcards, so matching is the same walk.
    fn covers(&self, rest: &str, first: bool) -> bool {
        let (name, rest) = match rest.split_once('/') {
            Some((name, rest)) => (name, Some(rest)),
            None => (rest, None),
        };
        // A wildcard in front never reaches the broker's own topics (MQTT 5.0, section 4.7.2).
        let wild = !(first && name.starts_with('$'));
        if wild && self.multi {
            return true;
        }
        match name {
            "#" => false,
            "+" => {
                wild && self
                    .single
                    .as_ref()
                    .is_some_and(|next| next.covers_end(rest))
            }
            name => {
                self.literal
                    .get(name)
                    .is_some_and(|next| next.covers_end(rest))
                    || wild
                        && self
                            .single
                            .as_ref()
                            .is_some_and(|next| next.covers_end(rest))
            }
        }
    }

    fn covers_end(&self, rest: Option<&str>) -> bool {
        match rest {
            Some(rest) => self.covers(rest, false),
            None => self.ends || self.multi,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(filters: &[&str]) -> Grants {
        let mut grants = Grants::default();
        for filter in filters {
            filter::check_grant(filter).unwrap();
            grants.insert(filter);
        }
        grants
    }

    #[test]
    fn filters_are_counted_once() {
        assert_eq!(grants(&["a", "a", "a/#", "a/#", "a/+", "#"]).len(), 4);
        assert!(grants(&[]).is_empty());
    }

    #[test]
    fn nothing_granted_allows_nothing() {
        let none = Grants::default();
        assert!(!none.match_topic("a"));
        assert!(!none.cover_subscription("a"));
        assert!(!none.cover_subscription("#"));
    }

    #[test]
    fn one_grant_alone_must_cover() {
        // Together they match whatever `a/+` matches below two names, and still `a/+` is not granted.
        let set = grants(&["a/b", "a/c"]);
        assert!(!set.cover_subscription("a/+"));
        assert!(set.cover_subscription("a/b") && set.cover_subscription("a/c"));
    }

    #[test]
    fn a_dead_end_is_left_for_the_other_branch() {
        let set = grants(&["a/b/c", "a/+/d", "+/b/e"]);
        assert!(set.match_topic("a/b/c") && set.match_topic("a/b/d") && set.match_topic("a/b/e"));
        assert!(!set.match_topic("a/b/f"));
    }
}
