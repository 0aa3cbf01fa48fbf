//! Clients that another plugin or the broker itself let in, as long as they are connected. Their client IDs are taken.

use std::{collections::HashMap, hash::BuildHasherDefault, mem, sync::Arc};

use super::AddressHasher;
use crate::client::ClientKey;

/// The clients.
#[derive(Default)]
pub(super) struct DeferredClients {
    by_key: HashMap<ClientKey, Arc<str>, BuildHasherDefault<AddressHasher>>,
    by_id: HashMap<Arc<str>, ClientKey>,
    departed: Vec<ClientKey>,
}

impl DeferredClients {
    /// Adds a client.
    pub(super) fn insert(&mut self, key: ClientKey, client_id: &str) {
        self.remove(key);
        let client_id: Arc<str> = client_id.into();
        self.by_id.insert(Arc::clone(&client_id), key);
        self.by_key.insert(key, client_id);
    }

    /// Returns whether this client is one of them.
    pub(super) fn has(&self, key: ClientKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Returns whether one of them is connected under this client ID.
    pub(super) fn has_id(&self, client_id: &str) -> bool {
        self.by_id.contains_key(client_id)
    }

    /// Records that a client has gone, if it is one of them. [`Self::reap`] removes it.
    pub(super) fn leave(&mut self, key: ClientKey) {
        if self.has(key) {
            self.departed.push(key);
        }
    }

    /// Removes those that have gone.
    pub(super) fn reap(&mut self) {
        for key in mem::take(&mut self.departed) {
            self.remove(key);
        }
    }

    /// Removes a client.
    pub(super) fn remove(&mut self, key: ClientKey) {
        if let Some(client_id) = self.by_key.remove(&key)
            && self.by_id.get(&client_id) == Some(&key)
        {
            self.by_id.remove(&client_id);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.by_id.is_empty()
    }
}
