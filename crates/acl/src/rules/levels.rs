//! The levels of a topic, one after the other.
//!
//! This runs at every message, so it looks at eight bytes at a time, and hands a level on as a number:
//! most are no longer than that, and two numbers are compared at once.

/// One level of a topic or filter.
#[derive(Clone, Copy)]
pub(super) struct Level {
    /// Its first eight bytes, zeros behind them. A level has no NUL, so up to that length this
    /// number is the level.
    pub word: u64,
    /// Where it begins in the topic.
    pub start: usize,
    /// Where it ends: at a `/`, or at the end of the topic.
    pub end: usize,
}

impl Level {
    /// The level that begins at `start`, which is in the topic or right behind its end.
    #[inline(always)]
    pub fn at(text: &[u8], start: usize) -> Self {
        let word = word(text, start);
        let marks = slashes(word);
        if marks != 0 {
            // The lowest bit set is the highest of the first slash's byte.
            let before = ((marks & marks.wrapping_neg()) >> 7) - 1;
            return Self {
                word: word & before,
                start,
                end: start + (marks.trailing_zeros() / 8) as usize,
            };
        }
        let end = if text.len() - start <= 8 {
            text.len()
        } else {
            far_end(text, start + 8)
        };
        Self { word, start, end }
    }

    /// A part of a level, as if it were a level.
    #[inline]
    pub fn between(text: &[u8], start: usize, end: usize) -> Self {
        let beyond = 64_usize.saturating_sub(8 * (end - start)) as u32;
        let kept = u64::MAX.checked_shr(beyond).unwrap_or(0);
        Self {
            word: word(text, start) & kept,
            start,
            end,
        }
    }

    /// Its bytes. More than eight have a tail.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The level of a filter that stands for one whole level, or for the rest of the topic.
    #[inline(always)]
    pub fn is(&self, wildcard: u8) -> bool {
        self.word == u64::from(wildcard)
    }

    /// What it has beyond its first eight bytes, if any.
    pub fn tail<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.start + 8..self.end).unwrap_or_default()
    }
}

/// Where a level ends that has no slash before `at`.
#[inline(never)]
fn far_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        let marks = slashes(word(text, at));
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    text.len()
}

/// The eight bytes at `at`, or what there is of them and zeros.
#[inline(always)]
fn word(text: &[u8], at: usize) -> u64 {
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

/// The same in a topic of fewer than eight bytes.
#[inline(never)]
fn short_word(text: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(text.get(at..).unwrap_or_default()) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Marks the highest bit of the first byte that is a `/`; above it there may be one mark too many.
/// The well-known test for a zero byte.
#[inline(always)]
fn slashes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let unlike = word ^ (ONES * 0x2f);
    unlike.wrapping_sub(ONES) & !unlike & (ONES * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_levels_are_what_the_slashes_part(text in "[-a.0+#/é]{0,40}") {
            let mut start = 0;
            for part in text.split('/') {
                let level = Level::at(text.as_bytes(), start);
                prop_assert_eq!(&text[level.start..level.end], part);
                prop_assert_eq!(level.len(), part.len());
                prop_assert_eq!(level.tail(text.as_bytes()), part.as_bytes().get(8..).unwrap_or_default());
                // The same level is the same number wherever it stands.
                prop_assert_eq!(level.word, Level::at(part.as_bytes(), 0).word);
                prop_assert_eq!(level.is(b'#'), part == "#");
                for (i, _) in part.char_indices() {
                    let piece = Level::between(text.as_bytes(), start + i, level.end);
                    let same = Level::at(&part.as_bytes()[i..], 0);
                    prop_assert_eq!((piece.word, piece.len()), (same.word, same.len()));
                    let piece = Level::between(text.as_bytes(), start, start + i);
                    let same = Level::at(&part.as_bytes()[..i], 0);
                    prop_assert_eq!((piece.word, piece.len()), (same.word, same.len()));
                }
                start = level.end + 1;
            }
            prop_assert_eq!(start, text.len() + 1);
        }
    }
}
