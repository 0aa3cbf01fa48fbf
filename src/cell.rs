//! The cell around all state that only the broker's thread touches.
//!
//! The state needs no lock, because no other thread reaches it. It has to be protected from the broker itself: several
//! of the broker's functions call back into the plugin before they return. Logging does, and disconnecting a client,
//! and letting a delayed client in. So the cell must be closed while such a function runs.

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
    /// Panics if the cell is open: the broker has called back when it should not. The [guard](crate::guard) refuses
    /// that call, and the call before it goes on undisturbed.
    #[inline]
    pub fn open<'a>(&'a self, _: &'a Broker) -> RefMut<'a, T> {
        match self.0.try_borrow_mut() {
            Ok(open) => open,
            Err(_) => panic!(
                "the broker called back into the plugin while an earlier call was not finished"
            ),
        }
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
