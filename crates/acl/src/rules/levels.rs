//! The levels of a topic, one after the other.
//!
//! This runs at every message. So all slashes are found beforehand, eight bytes at a time, and a level comes with
//! its first eight bytes as a number: most levels are no longer than that, and one comparison of numbers tells whether
//! they are the same.

/// A topic or filter, with the places of its slashes.
pub(super) struct Levels<'t> {
    text: &'t [u8],
    /// Bit `n` is set if byte `n` is a slash, for the first 64 bytes. The bit of the topic's end is set, too: a level
    /// ends there as well.
    ends: u64,
}

impl<'t> Levels<'t> {
    /// Finds the slashes. Returns `None` if the text is not UTF-8.
    #[inline(always)]
    pub(super) fn of(text: &'t [u8]) -> Option<Self> {
        let mut ends = 1_u64.checked_shl(text.len() as u32).unwrap_or(0);
        let mut all = 0;
        let mut find = |word: u64, at: usize| {
            ends |= slashes(word) << at;
            all |= word;
        };
        for (word, at) in text.as_chunks().0.iter().zip((0..64).step_by(8)) {
            find(u64::from_le_bytes(*word), at);
        }
        // What is left: some of these bytes have been looked at before, which does no harm.
        match text.last_chunk() {
            Some(last) if text.len() <= 64 => find(u64::from_le_bytes(*last), text.len() - 8),
            Some(_) => {}
            None => find(short_word(text, 0), 0),
        }
        if all & HIGH != 0 || text.len() > 64 {
            return Self::of_any(text);
        }
        Some(Self { text, ends })
    }

    /// The same for a text that is long or has other characters than ASCII.
    #[cold]
    fn of_any(text: &'t [u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?;
        let end = 1_u64.checked_shl(text.len() as u32).unwrap_or(0);
        let slashes = (0..64).zip(text).filter(|(_, byte)| **byte == b'/');
        Some(Self {
            text,
            ends: slashes.fold(end, |ends, (at, _)| ends | 1 << at),
        })
    }

    /// Returns the whole text.
    #[inline(always)]
    pub(super) fn text(&self) -> &'t [u8] {
        self.text
    }

    /// Returns the place of the first level.
    #[inline(always)]
    pub(super) fn first(&self) -> Position {
        Position {
            start: 0,
            ends: self.ends,
        }
    }

    /// Returns where the level at this place ends. There must be one.
    #[inline(always)]
    pub(super) fn end(&self, place: Position) -> usize {
        match place.ends {
            0 => far_end(self.text, place.start),
            ends => ends.trailing_zeros() as usize,
        }
    }

    /// Returns the place of the next level, or one behind the topic.
    #[inline(always)]
    pub(super) fn next(&self, place: Position) -> Position {
        Position {
            start: self.end(place) + 1,
            ends: place.ends & place.ends.wrapping_sub(1),
        }
    }

    /// Returns the place behind a name at this place, unless more of a level follows.
    #[inline(always)]
    pub(super) fn behind(&self, place: Position, length: usize) -> Option<Position> {
        let end = place.start + length;
        if end < 64 {
            let ahead = place.ends >> end;
            return (ahead & 1 == 1).then(|| Position {
                start: end + 1,
                ends: (ahead & !1) << end,
            });
        }
        matches!(self.text.get(end), None | Some(b'/')).then_some(Position {
            start: end + 1,
            ends: 0,
        })
    }

    /// Whether a place is behind the topic.
    #[inline(always)]
    pub(super) fn is_over(&self, place: Position) -> bool {
        place.start > self.text.len()
    }
}

/// The beginning of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub start: usize,
    /// The ends of this level and the next, as in [`Levels`].
    ends: u64,
}

/// The end of a level that ends beyond the first 64 bytes.
#[cold]
fn far_end(text: &[u8], start: usize) -> usize {
    let rest = text[start..].iter().position(|byte| *byte == b'/');
    rest.map_or(text.len(), |length| start + length)
}

/// Returns the bytes from `start` to `end`, at most eight, as a number.
#[inline(always)]
pub(super) fn word(text: &[u8], start: usize, end: usize) -> u64 {
    let word = word_at(text, start);
    word & mask(end - start)
}

/// Returns the bits of the first bytes of a word.
#[inline(always)]
pub(super) fn mask(length: usize) -> u64 {
    const MASKS: [u64; 9] = {
        let mut masks = [u64::MAX; 9];
        let mut length = 0;
        while length < 8 {
            masks[length] = (1 << (8 * length)) - 1;
            length += 1;
        }
        masks
    };
    MASKS[if length < 8 { length } else { 8 }]
}

/// Returns the eight bytes at `at`, with zeros beyond the end of the text.
#[inline(always)]
pub(super) fn word_at(text: &[u8], at: usize) -> u64 {
    if let Some(bytes) = text.get(at..).and_then(<[u8]>::first_chunk) {
        return u64::from_le_bytes(*bytes);
    }
    match text.last_chunk() {
        // The last eight bytes, and those before `at` moved out. In two steps, as a number cannot be
        // moved by all of its 64 bits.
        Some(bytes) => (u64::from_le_bytes(*bytes) >> 1) >> (63 - 8 * (text.len() - at)),
        None => short_word(text, at),
    }
}

/// The same for a text of fewer than eight bytes.
#[inline(never)]
fn short_word(text: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(text.get(at..).unwrap_or_default()) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// The highest bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A bit for each of the eight bytes: whether it is a slash. They must be ASCII: other bytes may hide a slash.
#[inline(always)]
fn slashes(word: u64) -> u64 {
    let unlike = word ^ 0x2f2f_2f2f_2f2f_2f2f;
    // The highest bit of each byte that is zero.
    let zeros = HIGH.wrapping_sub(unlike) & HIGH;
    // Brings the eight bits together in the highest byte.
    zeros.wrapping_mul(0x0002_0408_1020_4081) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_levels_are_what_the_slashes_part(text in "[-a.0+#/é]{0,90}") {
            let levels = Levels::of(text.as_bytes()).unwrap();
            let mut position = levels.first();
            for level in text.split('/') {
                prop_assert!(!levels.is_over(position));
                let (start, end) = (position.start, levels.end(position));
                prop_assert_eq!(&text[start..end], level);
                for (from, _) in level.char_indices() {
                    for to in (from..=level.len()).take(9) {
                        // The same bytes are the same number wherever they are.
                        let alone = &level.as_bytes()[from..to];
                        prop_assert_eq!(
                            word(text.as_bytes(), start + from, start + to),
                            word(alone, 0, alone.len())
                        );
                    }
                }
                let next = levels.next(position);
                for length in 0..text.len() - start {
                    let behind = levels.behind(position, length);
                    let is_end = text.as_bytes()[start + length] == b'/';
                    prop_assert_eq!(behind.map(|behind| behind.start), is_end.then_some(start + length + 1));
                }
                let behind = levels.behind(position, end - start);
                prop_assert!(behind.is_some_and(|behind| behind == next));
                position = next;
            }
            prop_assert!(levels.is_over(position));
        }
    }

    #[test]
    fn what_is_not_utf_8_has_no_levels() {
        for text in [
            &b"\xff"[..],
            b"site/\xc3/x",
            b"site/north/line/\xc3",
            &[b'/'; 70].map(|_| 0x80),
        ] {
            assert!(Levels::of(text).is_none(), "{text:?}");
        }
    }
}
