//! The refusals of a client that were reported.

use std::hash::Hash;

use crate::{clock::Unix, hash::hash};

/// The refusals of a client that were reported: each once, and a limited number. A device that publishes to a forbidden
/// topic a thousand times a second must not fill the log.
#[derive(Default)]
pub(crate) struct ReportedRefusals(Vec<u64>);

/// Whether to report a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It is new.
    Report,
    /// It is new, and the last one to be reported.
    ReportLast,
    /// It was reported before, or too many were.
    Silent,
}

impl ReportedRefusals {
    const MAX: usize = 16;

    /// Notes that the rights ended at this time. Returns whether to report it.
    pub(crate) fn note_end(&mut self, until: Unix) -> Note {
        self.note(("end", until.0))
    }

    /// Returns a state in which no further refusal is reported.
    pub(crate) fn full() -> Self {
        Self(vec![0; Self::MAX])
    }

    /// Notes a refusal. Returns whether to report it.
    pub(crate) fn note(&mut self, refusal: impl Hash) -> Note {
        let hash = hash(refusal);
        if self.0.len() >= Self::MAX || self.0.contains(&hash) {
            return Note::Silent;
        }
        self.0.push(hash);
        if self.0.len() == Self::MAX {
            Note::ReportLast
        } else {
            Note::Report
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_noted_once_and_so_many() {
        let mut reported = ReportedRefusals::default();
        assert_eq!(reported.note("x"), Note::Report);
        assert_eq!(reported.note("x"), Note::Silent);
        for i in 0..ReportedRefusals::MAX - 2 {
            assert_eq!(reported.note(i), Note::Report);
        }
        assert_eq!(reported.note("last"), Note::ReportLast);
        assert_eq!(reported.note("more"), Note::Silent);
    }
}
