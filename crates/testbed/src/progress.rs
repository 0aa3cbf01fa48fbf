//! Shows a measuring tool's progress: one line on a terminal, and nothing in a file or a pipe.

use std::io::{IsTerminal, Write, stderr};

/// Replaces the progress line; an empty text removes it.
pub fn progress(what: &str) {
    show(&mut stderr(), what);
}

fn show(out: &mut (impl Write + IsTerminal), what: &str) {
    if out.is_terminal() {
        // A closed terminal does not stop a measurement.
        let _ = write!(out, "\r\x1b[K{what}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;

    use super::*;
    use crate::clients::terminal;
    use crate::scratch::Scratch;

    #[test]
    fn a_terminal_shows_the_newest_line() {
        let (mut ours, mut theirs) = terminal().unwrap();
        show(&mut theirs, "half");
        show(&mut theirs, "");
        let expected = b"\r\x1b[Khalf\r\x1b[K";
        let mut shown = vec![0; expected.len()];
        ours.read_exact(&mut shown).unwrap();
        assert_eq!(shown, expected);
    }

    #[test]
    fn no_progress_is_written_to_a_file() {
        let scratch = Scratch::new("progress").unwrap();
        let path = scratch.path().join("errors");
        show(&mut File::create(&path).unwrap(), "half");
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
