//! How threads are made. In a broker they must be made with its signals blocked, which only
//! `broker::signals` can do; so whoever needs a thread is handed the way to make one.

use std::{io, thread};

/// Makes a thread.
pub type Spawn =
    fn(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<thread::JoinHandle<()>>;

/// The way outside a broker.
///
/// # Errors
///
/// If the operating system has no thread to give.
pub fn plain(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body)
}
