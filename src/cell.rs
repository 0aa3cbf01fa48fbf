//! The cell around all state that only the broker's thread touches.
//!
//! The state needs no lock, because no other thread reaches it. What it needs is protection from the broker itself:
//! several of its functions call back into the plugin before they return (it logs, disconnects a client, or lets a
//! delayed one in). So the cell must be closed whenever such a function runs.

use std::cell::{RefCell, RefMut};

use crate::host::Broker;

/// A value that only the broker's thread can reach.
pub struct BrokerCell<T>(RefCell<T>);

// SAFETY: `open` is the only way to the value. It takes a `Broker`, which exists on the broker's thread only and
// cannot leave it, and a `RefMut` cannot leave that thread either.
unsafe impl<T> Sync for BrokerCell<T> {}

impl<T> BrokerCell<T> {
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Opens the cell until the result is dropped.
    ///
    /// # Panics
    ///
    /// If the cell is open, because the broker calls back when it should not. The [guard](crate::guard) refuses that
    /// call, and the one before it goes on undisturbed.
    #[inline]
    pub fn open<'a>(&'a self, _: &'a Broker) -> RefMut<'a, T> {
        self.0
            .try_borrow_mut()
            .expect("the broker called back while the state was in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codes, guard};

    #[test]
    fn a_call_from_within_is_refused_and_the_outer_one_goes_on() {
        guard::adopt_thread();
        let cell = BrokerCell::new(1);
        let code = guard::enter(codes::AUTH, |broker| {
            let mut outer = cell.open(broker);
            *outer += 1;
            let inner = guard::enter(codes::ACL_DENIED, |broker| {
                *cell.open(broker) = 9;
                codes::SUCCESS
            });
            assert_eq!(inner, codes::ACL_DENIED);
            *outer += 1;
            codes::SUCCESS
        });
        assert_eq!(code, codes::SUCCESS);
        guard::enter(codes::AUTH, |broker| {
            assert_eq!(*cell.open(broker), 3);
            codes::SUCCESS
        });
    }
}
