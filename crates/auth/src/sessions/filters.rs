//! The filters that a client subscribed to.
//!
//! The broker lists a client's subscriptions to nobody. They are remembered only for clients that are likely to renew
//! their rights: those that signed in by an authentication method. For all others that would be memory for nothing.

use std::collections::HashSet;

use super::{Session, Sessions};
use crate::clock::Unix;
use acl::{rights::Rights, rules::AccessRequest};

/// How many filters of one client are remembered. Messages for the rest are still denied one by one.
const MAX_FILTERS: usize = 256;

/// The longest filter that is remembered, in bytes.
const MAX_LENGTH: usize = 1024;

/// The filters of one client.
#[derive(Debug, Default)]
pub(crate) struct SubscribedFilters(HashSet<Box<str>>);

impl SubscribedFilters {
    /// Adds a filter that the client may subscribe to.
    pub(crate) fn insert(&mut self, filter: &[u8]) {
        if self.0.len() < MAX_FILTERS
            && filter.len() <= MAX_LENGTH
            && let Ok(filter) = std::str::from_utf8(filter)
        {
            self.0.insert(filter.into());
        }
    }

    /// Removes a filter that the client gives up.
    pub(crate) fn remove(&mut self, filter: &[u8]) {
        if let Ok(filter) = std::str::from_utf8(filter) {
            self.0.remove(filter);
        }
    }

    /// Removes the filters that are not allowed any more, and returns them.
    pub(crate) fn take_denied(&mut self, allowed: impl Fn(&str) -> bool) -> Vec<Box<str>> {
        self.0.extract_if(|filter| !allowed(filter)).collect()
    }
}

impl Sessions {
    /// Returns the newest session with this client ID, of which more than a will is left.
    pub(crate) fn newest(&mut self, client_id: &str) -> Option<&mut Session> {
        let entry = self.by_key.get_mut(self.by_id.get(client_id)?)?;
        (!entry.state.is_over()).then_some(&mut entry.record.session)
    }
}

/// Whether these rights deny a subscription now and at every other time. If there are time windows, the rights may
/// grant it again by themselves, and then the client relies on the subscription that it has made.
pub(crate) fn denies_for_good(rights: &Rights, filter: &str, now: Unix) -> bool {
    let request = AccessRequest::Subscribe { qos: None };
    rights.until(request) == Some(Unix(u64::MAX)) && !rights.allow(request, filter.as_bytes(), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_make_the_plugin_remember_more_than_some() {
        let mut filters = SubscribedFilters::default();
        for i in 0..2 * MAX_FILTERS {
            filters.insert(format!("a/{i}").as_bytes());
        }
        filters.insert("x".repeat(MAX_LENGTH + 1).as_bytes());
        filters.insert(&[0xff]);
        assert_eq!(filters.0.len(), MAX_FILTERS);
        filters.remove(b"a/0");
        let denied = filters.take_denied(|filter| filter == "a/1");
        assert_eq!(denied.len(), MAX_FILTERS - 2);
        assert_eq!(filters.0.len(), 1);
    }
}
