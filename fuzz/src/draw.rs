//! Draws decisions from the bytes of an input, from its beginning to its end. What is drawn behind the end is zero.
//!
//! `arbitrary` takes lengths from the end of an input, so that a byte more changes everything. Here a byte more changes
//! what is drawn last, and the seeds keep their meaning when a target learns to draw something new at the end.

/// The bytes that are not used yet.
pub(crate) struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    /// Begins with the first byte.
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Draws a byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Draws two bytes.
    pub(crate) fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Draws whether something is so.
    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Draws a number below this one.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Draws one of several.
    pub(crate) fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Draws up to so many bytes as they are.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = self.below(most + 1).min(self.0.len());
        let (first, rest) = self.0.split_at(length);
        self.0 = rest;
        first
    }

    /// Whether something is left.
    pub(crate) fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns what is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}
