//! The refusals of a client that were reported.

use std::hash::Hash;

use crate::{clock::Unix, hash::hash};

/// The refusals of a client that were reported: each once, and a limited number. A device that publishes to a forbidden
/// topic a thousand times a second must not fill the log.
///
/// Most clients have none, so without any it is one pointer.
#[derive(Default)]
pub(crate) struct ReportedRefusals(Option<Box<Reported>>);

/// The hashes of the refusals that were reported.
#[derive(Default)]
struct Reported {
    hashes: [u64; ReportedRefusals::MAX],
    number: usize,
}

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
        Self(Some(Box::new(Reported {
            number: Self::MAX,
            ..Reported::default()
        })))
    }

    /// Notes a refusal. Returns whether to report it.
    pub(crate) fn note(&mut self, refusal: impl Hash) -> Note {
        let hash = hash(refusal);
        let Reported { hashes, number } = &mut **self.0.get_or_insert_default();
        if *number == Self::MAX || hashes[..*number].contains(&hash) {
            return Note::Silent;
        }
        hashes[*number] = hash;
        *number += 1;
        match *number {
            Self::MAX => Note::ReportLast,
            _ => Note::Report,
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
