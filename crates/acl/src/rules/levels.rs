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
    is_ascii: bool,
}

impl<'t> Levels<'t> {
    /// Finds the slashes.
    #[inline(always)]
    pub fn of(text: &'t [u8]) -> Self {
        let mut ends = 1_u64.checked_shl(text.len() as u32).unwrap_or(0);
        let mut all = 0;
        let (words, _) = text.as_chunks();
        for (i, word) in words.iter().take(8).enumerate() {
            let word = u64::from_le_bytes(*word);
            ends |= slashes(word) << (8 * i);
            all |= word;
        }
        if text.len() < 64 {
            // What is left: fewer than eight bytes, or none.
            let at = 8 * words.len();
            let word = word_at(text, at);
            ends |= slashes(word) << at;
            all |= word;
        }
        let high = 0x8080_8080_8080_8080;
        let is_ascii = all & high == 0 && text.get(64..).is_none_or(<[u8]>::is_ascii);
        Self {
            text,
            ends,
            is_ascii,
        }
    }

    /// Whether the topic has ASCII characters only.
    #[inline(always)]
    pub fn are_ascii(&self) -> bool {
        self.is_ascii
    }

    /// Returns where the level ends that begins at `start`, which is in the topic or right behind its end.
    #[inline(always)]
    pub fn end(&self, start: usize) -> usize {
        match self.ends.checked_shr(start as u32).unwrap_or(0) {
            0 => far_end(self.text, start),
            ahead => start + ahead.trailing_zeros() as usize,
        }
    }
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
    match end - start {
        length @ ..8 => word & ((1 << (8 * length)) - 1),
        _ => word,
    }
}

/// Returns the eight bytes at `at`, with zeros beyond the end of the text.
#[inline(always)]
fn word_at(text: &[u8], at: usize) -> u64 {
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

/// A bit for each of the eight bytes: whether it is a slash.
#[inline(always)]
fn slashes(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let unlike = word ^ 0x2f2f_2f2f_2f2f_2f2f;
    // The highest bit of each byte that is zero.
    let zeros = !(((unlike & LOW) + LOW) | unlike | LOW);
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
            let mut start = 0;
            let levels = Levels::of(text.as_bytes());
            for level in text.split('/') {
                let end = levels.end(start);
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
                start = end + 1;
            }
            prop_assert_eq!(start, text.len() + 1);
            prop_assert_eq!(levels.are_ascii(), text.is_ascii());
        }
    }
}
