//! Attack protection: Auth0's counts of failed logins.
//!
//! Auth0 docs, Attack Protection: brute-force protection counts failures for each pair of address and
//! identifier, suspicious IP throttling for each address. Auth0's blocks last 30 days; these last until
//! [`Protection::unblock`].

use std::collections::HashMap;

use super::settings::Settings;

#[derive(Debug, Default)]
pub(super) struct Protection {
    pairs: HashMap<(String, String), u32>,
    addresses: HashMap<String, u32>,
}

/// Why a login is refused without checking the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    BruteForce,
    SuspiciousIp,
}

impl Protection {
    pub(super) fn block(&self, settings: &Settings, address: &str, user: &str) -> Option<Block> {
        let pair = (address.to_owned(), user.to_owned());
        let reached = |count: Option<&u32>, limit: Option<u32>| {
            limit.is_some_and(|limit| count.copied().unwrap_or_default() >= limit)
        };
        if reached(self.pairs.get(&pair), settings.brute_force_threshold) {
            Some(Block::BruteForce)
        } else if reached(self.addresses.get(address), settings.suspicious_ip_budget) {
            Some(Block::SuspiciousIp)
        } else {
            None
        }
    }

    pub(super) fn failed(&mut self, address: &str, user: &str) {
        let pair = (address.to_owned(), user.to_owned());
        *self.pairs.entry(pair).or_default() += 1;
        *self.addresses.entry(address.to_owned()).or_default() += 1;
    }

    /// The threshold is for consecutive failures.
    pub(super) fn succeeded(&mut self, address: &str, user: &str) {
        let pair = (address.to_owned(), user.to_owned());
        self.pairs.remove(&pair);
    }

    pub(super) fn unblock(&mut self, user: &str) {
        self.pairs.retain(|(_, blocked), _| blocked != user);
        self.addresses.clear();
    }

    pub(super) fn spent(&self, address: &str) -> u32 {
        self.addresses.get(address).copied().unwrap_or_default()
    }
}
