//! Lines for the broker's log, queued.
//!
//! The broker's log function is for its own thread only, and with `log_dest topic` each line is a
//! message that comes back to us as an ACL check. So nobody writes to it where something happens:
//! lines wait here, and the broker's thread writes them when it holds nothing (the tick).

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// How loud a line is; the broker's `log_type`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something everybody may want to know once.
    Info,
    /// A device was refused.
    Notice,
    /// Something passes, or needs a look at one account.
    Warning,
    /// The operator must act.
    Error,
}

/// How many lines may wait. A tick comes at least ten times a second, so this is ten thousand
/// lines a second; beyond it lines are dropped and counted.
const MAX_WAITING: usize = 1000;

/// A queue of lines, shared by everyone who has something to say.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether there may be lines: a tick asks, thousands of times a second, and should cost no lock.
    waiting: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<(Level, String)>,
    dropped: u64,
}

impl Log {
    /// Queues a line.
    pub fn line(&self, level: Level, text: impl Into<String>) {
        let mut queue = self.queue();
        if queue.lines.len() < MAX_WAITING {
            queue.lines.push_back((level, text.into()));
        } else {
            queue.dropped += 1;
        }
        self.0.waiting.store(true, Ordering::Release);
    }

    /// Whether no line waits.
    pub fn is_empty(&self) -> bool {
        !self.0.waiting.load(Ordering::Acquire)
    }

    /// Takes all lines that wait.
    pub fn take(&self) -> Vec<(Level, String)> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut queue = self.queue();
        self.0.waiting.store(false, Ordering::Release);
        let mut lines: Vec<_> = queue.lines.drain(..).collect();
        let dropped = std::mem::take(&mut queue.dropped);
        if dropped > 0 {
            lines.push((
                Level::Warning,
                format!("{dropped} more lines were dropped: there were too many at once"),
            ));
        }
        lines
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_order_and_once() {
        let log = Log::default();
        log.line(Level::Info, "a");
        log.clone().line(Level::Error, "b");
        assert_eq!(
            log.take(),
            [(Level::Info, "a".into()), (Level::Error, "b".into())]
        );
        assert!(log.take().is_empty());
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let log = Log::default();
        for i in 0..MAX_WAITING + 7 {
            log.line(Level::Info, i.to_string());
        }
        let lines = log.take();
        assert_eq!(lines.len(), MAX_WAITING + 1);
        assert!(lines.last().unwrap().1.starts_with("7 more"));
        log.line(Level::Info, "x");
        assert_eq!(log.take().len(), 1);
    }
}
