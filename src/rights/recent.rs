//! The last thing that was allowed, because a device says the same again: its temperature, every
//! second, to the same topic.
//!
//! To compare a topic with the last costs a tenth of finding the rule that decides. Only what was
//! allowed is kept (a refusal goes into the log), and only where the answer is the same for every
//! message: the same kind of question, whatever the payload, and as long as no rule has come or gone.

/// Topics longer than this, in bytes, are looked up each time. There is a place for each client.
const LONGEST: usize = 62;

/// A topic that was allowed.
#[derive(Debug)]
pub(super) struct Recent {
    topic: [u8; LONGEST],
    length: u8,
    /// What was asked: [`crate::rules::Ask::kinds`]; 0 if nothing was.
    kinds: u16,
    /// Under which state of the rules.
    stamp: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            topic: [0; LONGEST],
            length: 0,
            kinds: 0,
            stamp: 0,
        }
    }
}

impl Recent {
    /// Whether this was allowed under the same state of the rules.
    #[inline]
    pub fn allows(&self, kinds: u16, topic: &[u8], stamp: u64) -> bool {
        // What there is not has no bits, and neither has a place with nothing in it.
        self.kinds == kinds
            && kinds != 0
            && self.stamp == stamp
            && usize::from(self.length) == topic.len()
            && self.topic.get(..topic.len()) == Some(topic)
    }

    /// Keeps what was allowed. Copies and allocates nothing.
    #[inline]
    pub fn keep(&mut self, kinds: u16, topic: &[u8], stamp: u64) {
        if let Some(place) = self.topic.get_mut(..topic.len()) {
            place.copy_from_slice(topic);
            // At most LONGEST.
            self.length = topic.len() as u8;
            self.kinds = kinds;
            self.stamp = stamp;
        }
    }

    /// Forgets it.
    pub fn clear(&mut self) {
        self.kinds = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Ask;

    #[test]
    fn only_the_very_same_is_allowed_again() {
        let publish = |qos, retain| Ask::Publish {
            qos,
            retain,
            payload: 7,
        };
        let mut recent = Recent::default();
        // A QoS that there is not has no bits, as has a place with nothing in it.
        for nothing in [Ask::Receive, publish(0, false), publish(3, false)] {
            assert!(
                !recent.allows(nothing.kinds(), b"", 0) && !recent.allows(nothing.kinds(), b"a", 0)
            );
        }
        recent.keep(publish(1, false).kinds(), b"a/b", 5);
        assert!(recent.allows(publish(1, false).kinds(), b"a/b", 5));
        for (what, topic, stamp) in [
            (publish(0, false), &b"a/b"[..], 5),
            (publish(1, true), b"a/b", 5),
            (Ask::Receive, b"a/b", 5),
            (publish(1, false), b"a/c", 5),
            (publish(1, false), b"a/", 5),
            (publish(1, false), b"a/bc", 5),
            (publish(1, false), b"", 5),
            (publish(1, false), b"a/b", 6),
            // A kind that there is not has no bits.
            (publish(3, false), b"a/b", 5),
        ] {
            assert!(
                !recent.allows(what.kinds(), topic, stamp),
                "{what:?} {topic:?}"
            );
        }
        recent.keep(publish(1, false).kinds(), &[b'x'; LONGEST + 1], 5);
        assert!(recent.allows(publish(1, false).kinds(), b"a/b", 5));
        recent.clear();
        assert!(!recent.allows(publish(1, false).kinds(), b"a/b", 5));
    }
}
