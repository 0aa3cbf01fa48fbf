//! A queue of lines for the broker's log.
//!
//! Only the broker's own thread may call its log function, and with `log_dest topic` each line becomes a
//! message that comes back as an ACL check. So lines are queued here, and the broker's thread writes them in
//! its tick, when it holds no lock.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The severity of a line, as in the broker's `log_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Worth knowing once.
    Info,
    /// A client was refused.
    Notice,
    /// A passing problem, or one that concerns one account.
    Warning,
    /// The operator must act.
    Error,
}

/// The maximum number of queued lines. A tick comes at least ten times a second, which allows ten thousand
/// lines a second. Further lines are dropped and counted.
const MAX_WAITING: usize = 1000;

/// A queue of lines that all modules share.
#[derive(Clone, Default)]
pub struct Log(Arc<LogState>);

#[derive(Default)]
struct LogState {
    /// Whether there may be lines. The tick reads this flag thousands of times a second, without a lock.
    waiting: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<(Level, String)>,
    /// How many lines were dropped since the last ones were taken, and before that.
    dropped: u64,
    dropped_before: u64,
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

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        !self.0.waiting.load(Ordering::Acquire)
    }

    /// Takes all queued lines.
    pub fn take(&self) -> Vec<(Level, String)> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut queue = self.queue();
        self.0.waiting.store(false, Ordering::Release);
        let mut lines: Vec<_> = queue.lines.drain(..).collect();
        let dropped = std::mem::take(&mut queue.dropped);
        queue.dropped_before += dropped;
        if dropped > 0 {
            lines.push((
                Level::Warning,
                format!("{dropped} more lines were dropped: there were too many at once"),
            ));
        }
        lines
    }

    /// Returns how many lines were dropped in all.
    pub fn dropped(&self) -> u64 {
        let queue = self.queue();
        queue.dropped_before + queue.dropped
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_once_and_in_order() {
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
    fn dropped_lines_are_counted() {
        let log = Log::default();
        for i in 0..MAX_WAITING + 7 {
            log.line(Level::Info, i.to_string());
        }
        let lines = log.take();
        assert_eq!(lines.len(), MAX_WAITING + 1);
        assert!(lines.last().unwrap().1.starts_with("7 more"));
        log.line(Level::Info, "x");
        assert_eq!(log.take().len(), 1);
        assert_eq!(log.dropped(), 7);
    }
}
