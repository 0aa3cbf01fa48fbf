//! Measures how long other clients wait for messages: a publisher and a subscriber exchange a message every
//! millisecond.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::clients::{
    Protocol,
    raw::{ConnectPacket, RawClient},
};

/// The topic of the messages. Both clients need the right to it.
pub const TOPIC: &str = "tick";

const INTERVAL: Duration = Duration::from_millis(1);
/// How long the subscriber waits for a message. A broker that is silent for longer is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A publisher and a subscriber that exchange messages.
pub struct Conversation {
    done: Arc<AtomicBool>,
    publisher: JoinHandle<()>,
    subscriber: JoinHandle<Vec<Instant>>,
}

impl Conversation {
    /// Connects both clients with this login, and starts.
    ///
    /// # Errors
    ///
    /// Returns an error when the broker refuses one of them.
    pub fn start(port: u16, username: &str, password: &str) -> Result<Self, String> {
        let client = |id: &str| {
            let connect = ConnectPacket::new(Protocol::V311, id).login(username, password);
            RawClient::connect(port, &connect).map_err(|refusal| format!("{id}: {refusal:?}"))
        };
        let mut subscriber = client("subscriber")?;
        subscriber
            .subscribe(&[(TOPIC, 0)])
            .map_err(|end| format!("{end:?}"))?;
        let mut publisher = client("publisher")?;
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        Ok(Self {
            done,
            publisher: thread::spawn(move || {
                let mut next = Instant::now();
                while !is_done.load(Ordering::Relaxed) {
                    let _ = publisher.publish(TOPIC, "x", 0);
                    next += INTERVAL;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                let _ = publisher.publish(TOPIC, "end", 0);
            }),
            subscriber: thread::spawn(move || {
                let mut arrivals = Vec::new();
                while let Ok(message) = subscriber.next_message(PATIENCE) {
                    if message.payload == b"end" {
                        break;
                    }
                    arrivals.push(Instant::now());
                }
                arrivals
            }),
        })
    }

    /// Stops, and returns when each message arrived.
    ///
    /// # Panics
    ///
    /// Panics when one of the clients has panicked.
    pub fn stop(self) -> Vec<Instant> {
        self.done.store(true, Ordering::Relaxed);
        self.publisher.join().expect("the publisher");
        self.subscriber.join().expect("the subscriber")
    }
}

/// Returns the longest time between two messages of which the later one arrived after `since`.
#[must_use]
pub fn longest(arrivals: &[Instant], since: Instant) -> Duration {
    let gaps = arrivals.windows(2).filter(|pair| pair[1] >= since);
    gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
