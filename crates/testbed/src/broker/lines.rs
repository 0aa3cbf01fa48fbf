//! A log that can be waited on.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::POLL;
use crate::lock;

/// The lines that a process writes, and a way to wait for more.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<LinesState>,
    grown: Condvar,
}

#[derive(Default)]
struct LinesState {
    lines: Vec<String>,
    writers: usize,
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, LinesState> {
        lock(&self.state)
    }

    pub(crate) fn text(&self) -> String {
        self.state()
            .lines
            .iter()
            .flat_map(|line| [line, "\n"])
            .collect()
    }

    pub(super) fn take(&self) -> String {
        let text = self.text();
        self.state().lines.clear();
        text
    }

    pub(crate) fn count(&self) -> usize {
        self.state().lines.len()
    }

    /// Returns the first line from `from` on that is `wanted`, and its index. Returns `None` on timeout, or
    /// when no writer is left.
    pub(crate) fn wait(
        &self,
        mut from: usize,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let deadline = Instant::now() + within;
        let mut state = self.state();
        loop {
            if let Some((place, line)) = state
                .lines
                .iter()
                .enumerate()
                .skip(from)
                .find(|(_, line)| wanted(line))
            {
                return Some((place, line.clone()));
            }
            from = from.max(state.lines.len());
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.writers == 0 {
                return None;
            }
            state = self
                .grown
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn push(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line); // a terminal ends lines with both
        let line = String::from_utf8_lossy(line).into_owned();
        self.state().lines.push(line);
        self.grown.notify_all();
    }

    fn writer(self: &Arc<Self>, work: impl FnOnce(&Lines) + Send + 'static) -> JoinHandle<()> {
        self.state().writers += 1;
        let lines = Arc::clone(self);
        thread::spawn(move || {
            work(&lines);
            lines.state().writers -= 1;
            lines.grown.notify_all();
        })
    }

    /// Reads a pipe or terminal until it is closed (which a terminal reports as an error).
    pub(crate) fn read_from(self: &Arc<Self>, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        self.writer(move |lines| {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                lines.push(&line);
                line.clear();
            }
        })
    }

    /// Reads a file as it grows, until told that it does not grow any more.
    pub(super) fn follow(
        self: &Arc<Self>,
        path: PathBuf,
        no_more: Arc<AtomicBool>,
    ) -> JoinHandle<()> {
        self.writer(move |lines| {
            let mut file = None;
            let mut line = Vec::new();
            loop {
                let last = no_more.load(Ordering::Acquire); // asked before reading, so nothing is missed
                file = file.or_else(|| File::open(&path).map(BufReader::new).ok());
                if let Some(file) = &mut file {
                    while file
                        .read_until(b'\n', &mut line)
                        .is_ok_and(|length| length > 0)
                    {
                        if line.ends_with(b"\n") {
                            lines.push(&line);
                            line.clear();
                        }
                    }
                }
                if last {
                    break;
                }
                thread::sleep(POLL);
            }
            if !line.is_empty() {
                lines.push(&line);
            }
        })
    }
}
