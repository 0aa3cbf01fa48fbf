//! The filters that a client subscribed to.
//!
//! The broker lists a client's subscriptions to nobody. They are remembered where the broker removes a subscription for
//! a plugin (2.1), so that a renewal can remove those that the new rights do not cover.

use super::{Session, Sessions};
use crate::clock::Unix;
use acl::{rights::Rights, rules::AccessRequest};

/// How many bytes of filters are remembered of one client. Messages for the rest are denied one by one.
const MAX_BYTES: usize = 8 * 1024;

/// Ends a filter. No filter has this character (MQTT 5.0, section 1.5.4).
const END: char = '\0';

/// The filters of one client, one after the other. Most clients have a few short ones, so a set would need much more
/// memory. The outer box makes this a single pointer, because every session has one.
#[derive(Debug, Default)]
pub(crate) struct SubscribedFilters(Option<Box<Box<str>>>);

impl SubscribedFilters {
    /// Adds a filter that the client may subscribe to.
    pub(crate) fn insert(&mut self, filter: &[u8]) {
        let Ok(filter) = std::str::from_utf8(filter) else {
            return;
        };
        let known = self.iter().any(|one| one == filter) || filter.contains(END);
        if !known && self.text().len() + filter.len() < MAX_BYTES {
            self.set([self.text(), filter, "\0"].concat());
        }
    }

    /// Removes a filter that the client gives up.
    pub(crate) fn remove(&mut self, filter: &[u8]) {
        if self.iter().any(|one| one.as_bytes() == filter) {
            self.keep(|one| one.as_bytes() != filter);
        }
    }

    /// Removes the filters that are not allowed any more, and returns them.
    pub(crate) fn take_denied(&mut self, allowed: impl Fn(&str) -> bool) -> Vec<Box<str>> {
        let denied = self.iter().filter(|filter| !allowed(filter));
        let denied: Vec<Box<str>> = denied.map(Into::into).collect();
        if !denied.is_empty() {
            self.keep(|filter| denied.iter().all(|one| **one != *filter));
        }
        denied
    }

    fn keep(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let wanted = self.iter().filter(|filter| is_wanted(filter));
        self.set(wanted.flat_map(|filter| [filter, "\0"]).collect());
    }

    fn set(&mut self, text: String) {
        self.0 = (!text.is_empty()).then(|| Box::new(text.into()));
    }

    fn text(&self) -> &str {
        self.0.as_deref().map_or("", |text| text)
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.text().split_terminator(END)
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
    fn filters_are_remembered_once_until_they_are_given_up() {
        let mut filters = SubscribedFilters::default();
        assert_eq!(size_of_val(&filters), size_of::<usize>());
        for filter in ["a/#", "b", "a/#", "b\0c", "a"] {
            filters.insert(filter.as_bytes());
        }
        assert_eq!(filters.iter().collect::<Vec<_>>(), ["a/#", "b", "a"]);
        filters.remove(b"b");
        filters.remove(b"a/");
        assert_eq!(
            filters.take_denied(|filter| filter != "a/#"),
            ["a/#".into()]
        );
        assert_eq!(filters.iter().collect::<Vec<_>>(), ["a"]);
        filters.remove(b"a");
        assert!(filters.0.is_none(), "no memory is left");
    }

    #[test]
    fn a_client_cannot_make_the_plugin_remember_more_than_some() {
        let mut filters = SubscribedFilters::default();
        for i in 0..MAX_BYTES {
            filters.insert(format!("a/{i}").as_bytes());
        }
        filters.insert(&[0xff]);
        assert!(filters.text().len() <= MAX_BYTES && filters.text().len() > MAX_BYTES - 10);
        filters.insert(b"short");
        filters.remove(b"a/0");
        let denied = filters.take_denied(|filter| filter == "a/1");
        assert!(denied.len() > 500 && filters.iter().eq(["a/1"]));
    }
}
