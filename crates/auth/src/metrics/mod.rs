//! Numbers for monitoring: what an operator's dashboard shows.
//!
//! * this file: what the broker's thread counts · [`histogram`]: how long something took
//! * [`table`]: every metric, in one table; [`Observed`] is where their values come from
//! * [`text`]: the metrics as a text that Prometheus reads · [`file`](mod@file): the thread that writes it
//! * [`sys_topics`]: the metrics as topics under `$SYS`
//!
//! To count is to add one to an integer that only the broker's thread touches. All else happens once in
//! `metrics_interval` seconds: [`crate::engine::Common`] says when, `engine/observe.rs` collects.

pub(crate) mod file;
pub mod histogram;
pub mod sys_topics;
pub mod table;
pub mod text;

use std::time::Duration;

use crate::refusal::Reason;
use histogram::Histogram;

/// What an instance of the plugin has counted since it was started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// CONNECTs that were decided.
    pub(crate) logins: Outcomes,
    /// New tokens for sessions.
    pub(crate) renewals: Outcomes,
    /// Checks of messages and subscriptions.
    pub(crate) decisions: Outcomes,
    /// Clients that were disconnected.
    pub(crate) disconnections: ByReason,
    /// Tokens that were verified before, or had to be.
    pub(crate) token_cache: Lookups,
    /// Passwords that the tenant checked before, or had to.
    pub(crate) login_cache: Lookups,
    /// Messages that were allowed before, or had to be compared with rules.
    pub(crate) answer_cache: Lookups,
    /// Passwords that the tenant was asked about.
    pub(crate) tenant_logins: TenantRequests,
}

/// How often something was decided, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// It was granted.
    pub(crate) granted: u64,
    /// It was left to others.
    pub(crate) deferred: u64,
    /// It was refused.
    pub(crate) refused: ByReason,
}

/// How often something happened for each reason.
#[derive(Clone, Debug)]
pub(crate) struct ByReason([u64; Reason::ALL.len()]);

/// How often a cache was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lookups {
    /// It had the answer.
    pub(crate) hits: u64,
    /// It did not.
    pub(crate) misses: u64,
}

/// Requests to the tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct TenantRequests {
    /// How long they took.
    pub seconds: Histogram,
    /// How many brought no answer that can be used.
    pub failures: u64,
}

/// Circuits that are open: the tenant is not asked for these callers, except by a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenCircuits {
    /// The one for everybody: 0 or 1.
    pub(crate) everybody: u64,
    /// Those of addresses.
    pub(crate) addresses: u64,
    /// Those of users.
    pub(crate) users: u64,
}

/// The tenant's keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct ObservedKeys {
    /// How many are in use.
    pub number: u64,
    /// How long ago they were fetched. `None` if they never were.
    pub age: Option<Duration>,
    /// The requests for them.
    pub requests: TenantRequests,
}

/// Sessions that are saved over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObservedSavedSessions {
    /// Those of before the restart whose clients have not been back.
    pub(crate) absent: u64,
    /// Changes that are not written yet.
    pub(crate) unwritten: u64,
}

/// How many decisions were logged, and how many were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DecisionLogCounts {
    /// Those that were written.
    pub(crate) written: u64,
    /// Those that were left out, because the thread did not keep up or the file could not be written.
    pub(crate) left_out: u64,
}

/// How often the shadow policy would have decided otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// What was refused, and it would have allowed.
    pub would_allow: u64,
    /// What was allowed, and it would have refused.
    pub would_deny: u64,
}

/// All that is known at one moment, of all instances of the plugin in the broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The time, since 1970.
    pub(crate) time: Duration,
    pub(crate) counters: Counters,
    pub(crate) connected: u64,
    pub(crate) away: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) cached_logins: u64,
    pub(crate) waiting_logins: u64,
    pub(crate) circuits: OpenCircuits,
    pub(crate) keys: ObservedKeys,
    /// How long the broker stood still.
    pub(crate) stall: Duration,
    /// The lowest number of a configuration in force, and whether a later one could not be used.
    pub(crate) generation: u64,
    pub(crate) reload_failed: bool,
    /// `None` if sessions are not saved.
    pub(crate) saved_sessions: Option<ObservedSavedSessions>,
    pub(crate) dropped_log_lines: u64,
    /// `None` if there is no decision log.
    pub(crate) decision_log: Option<DecisionLogCounts>,
    /// `None` if there is no shadow policy.
    pub(crate) shadow: Option<ShadowCounts>,
}

impl Default for ByReason {
    fn default() -> Self {
        Self([0; Reason::ALL.len()])
    }
}

impl ByReason {
    /// Counts one.
    pub(crate) fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    /// Returns how often it was this reason.
    pub(crate) fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    fn add(&mut self, other: &Self) {
        for (sum, number) in self.0.iter_mut().zip(other.0) {
            *sum += number;
        }
    }
}

impl Outcomes {
    fn add(&mut self, other: &Self) {
        self.granted += other.granted;
        self.deferred += other.deferred;
        self.refused.add(&other.refused);
    }
}

impl Lookups {
    /// Counts one.
    pub(crate) fn count(&mut self, hit: bool) {
        self.hits += u64::from(hit);
        self.misses += u64::from(!hit);
    }

    fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
    }
}

impl TenantRequests {
    /// Counts one.
    pub fn count(&mut self, took: Duration, failed: bool) {
        self.seconds.record(took);
        self.failures += u64::from(failed);
    }

    fn add(&mut self, other: &Self) {
        self.seconds.add(&other.seconds);
        self.failures += other.failures;
    }
}

impl Counters {
    /// Adds what another instance has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.logins.add(&other.logins);
        self.renewals.add(&other.renewals);
        self.decisions.add(&other.decisions);
        self.disconnections.add(&other.disconnections);
        self.token_cache.add(other.token_cache);
        self.login_cache.add(other.login_cache);
        self.answer_cache.add(other.answer_cache);
        self.tenant_logins.add(&other.tenant_logins);
    }
}

impl ObservedKeys {
    /// Adds the keys of another instance. The oldest ones count: they are the ones to worry about.
    pub(crate) fn add(&mut self, other: &Self) {
        self.number += other.number;
        self.age = self.age.max(other.age);
        self.requests.add(&other.requests);
    }
}

impl DecisionLogCounts {
    /// Adds those of another instance.
    pub(crate) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.left_out += other.left_out;
    }
}

impl ShadowCounts {
    /// Adds those of another instance.
    pub(crate) fn add(&mut self, other: Self) {
        self.would_allow += other.would_allow;
        self.would_deny += other.would_deny;
    }
}

impl OpenCircuits {
    /// Adds those of another tenant.
    pub(crate) fn add(&mut self, other: Self) {
        self.everybody += other.everybody;
        self.addresses += other.addresses;
        self.users += other.users;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let mut reasons = ByReason::default();
        for (times, reason) in Reason::ALL.iter().enumerate() {
            (0..times).for_each(|_| reasons.count(*reason));
        }
        for (times, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reasons.get(*reason), times as u64);
        }
    }
}
