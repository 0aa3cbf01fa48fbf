//! The table of metrics: one row says all there is to say about a metric.
//!
//! The topics under `$SYS`, `metrics_file` and the table in `docs/metrics.md` are generated from it.
//!
//! Labels have few values: words of this table, and the reasons of the table of refusals. No label names a client, a
//! topic or an address.

use std::time::Duration;

use super::{ByReason, Lookups, Observed, Outcomes, histogram::Histogram};
use crate::refusal::Reason;

/// What the names of all metrics begin with, in a text for Prometheus.
pub const PREFIX: &str = "mosquitto_auth0_";

/// What the topics of all metrics begin with.
pub const TOPICS: &str = "$SYS/broker/auth0/";

/// The label value for what has no reason. It is no level of a topic.
pub(crate) const NO_REASON: &str = "none";

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, without [`PREFIX`] and without what its kind adds (`_total`).
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// Its unit, which its name ends with; empty for what is only counted.
    pub unit: &'static str,
    /// What it says, as one line.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its topics below [`TOPICS`], with labels in braces; empty for what is no topic.
    pub topic: &'static str,
    /// Where its values come from.
    pub(crate) read: fn(&Observed, &mut Readings),
}

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only rises, until the broker starts again.
    Counter,
    /// It rises and falls.
    Gauge,
    /// How long something took.
    Histogram,
}

impl MetricKind {
    /// Returns what Prometheus calls it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A whole number.
    Whole(u64),
    /// A time.
    Time(Duration),
    /// Times, counted by their length.
    Times(Box<Histogram>),
}

/// The values of its labels, in the order of [`Metric::labels`].
pub(crate) type LabelValues = [&'static str; 2];

/// The values of one metric.
#[derive(Default)]
pub(crate) struct Readings(pub(crate) Vec<(LabelValues, Reading)>);

impl Readings {
    fn one(&mut self, number: u64) {
        self.labelled([""; 2], number);
    }

    fn time(&mut self, time: Duration) {
        self.0.push(([""; 2], Reading::Time(time)));
    }

    fn labelled(&mut self, labels: LabelValues, number: u64) {
        self.0.push((labels, Reading::Whole(number)));
    }

    fn times(&mut self, label: &'static str, times: &Histogram) {
        self.0.push(([label, ""], Reading::Times(Box::new(*times))));
    }

    fn lookups(&mut self, cache: &'static str, lookups: Lookups) {
        self.labelled([cache, "hit"], lookups.hits);
        self.labelled([cache, "miss"], lookups.misses);
    }

    /// Gives what was granted, deferred and refused. `expected` says which reasons are given although none was refused
    /// for them yet: without a first zero, Prometheus does not see the first one as a rise.
    fn outcomes(
        &mut self,
        granted: &'static str,
        outcomes: &Outcomes,
        expected: fn(Reason) -> bool,
    ) {
        self.labelled([granted, NO_REASON], outcomes.granted);
        if granted != RENEWED {
            self.labelled(["deferred", NO_REASON], outcomes.deferred);
        }
        for (reason, number) in by_reason(&outcomes.refused, expected) {
            self.labelled(["refused", reason.code()], number);
        }
    }
}

/// The outcome of a renewal. Renewals are not left to others.
const RENEWED: &str = "renewed";

fn by_reason(
    counts: &ByReason,
    expected: fn(Reason) -> bool,
) -> impl Iterator<Item = (Reason, u64)> {
    let all = Reason::ALL
        .iter()
        .map(|reason| (*reason, counts.get(*reason)));
    all.filter(move |(reason, number)| *number > 0 || expected(*reason))
}

/// Whether this is a reason to refuse a message or a subscription.
fn is_about_access(reason: Reason) -> bool {
    use Reason::{ControlTopic, KeyRevoked, NotGranted, RightsExpired, UnknownClient};
    matches!(
        reason,
        NotGranted | ControlTopic | RightsExpired | KeyRevoked | UnknownClient
    )
}

/// Whether this is a reason to refuse only a renewal.
fn is_about_renewal(reason: Reason) -> bool {
    use Reason::{RenewalAccount, RenewalMessage, RenewalRate, RenewalTooLate};
    matches!(
        reason,
        RenewalAccount | RenewalTooLate | RenewalMessage | RenewalRate
    )
}

/// What most metrics are: numbers without labels that rise and fall.
const ROW: Metric = Metric {
    name: "",
    kind: MetricKind::Gauge,
    unit: "",
    help: "",
    labels: &[],
    topic: "",
    read: |_, _| {},
};

/// All metrics.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "build_info",
        help: "Always 1. The label is the version of the plugin.",
        labels: &["version"],
        read: |_, to| to.labelled([env!("CARGO_PKG_VERSION"), ""], 1),
        ..ROW
    },
    Metric {
        name: "updated_timestamp_seconds",
        unit: "seconds",
        help: "When these metrics were collected, in seconds since 1970. If that is long ago, the broker has stopped.",
        read: |seen, to| to.time(seen.time),
        ..ROW
    },
    Metric {
        name: "logins",
        kind: MetricKind::Counter,
        help: "Sign-ins, by how they ended and why.",
        labels: &["outcome", "reason"],
        topic: "logins/{outcome}/{reason}",
        read: |seen, to| {
            let is_expected = |reason| !is_about_access(reason) && !is_about_renewal(reason);
            to.outcomes("admitted", &seen.counters.logins, is_expected);
        },
        ..ROW
    },
    Metric {
        name: "logins_waiting",
        help: "Credentials that wait for the tenant now: passwords, and tokens whose key is being fetched.",
        topic: "logins/waiting",
        read: |seen, to| to.one(seen.waiting_logins),
        ..ROW
    },
    Metric {
        name: "renewals",
        kind: MetricKind::Counter,
        help: "New tokens for connected clients, by how that ended and why.",
        labels: &["outcome", "reason"],
        topic: "renewals/{outcome}/{reason}",
        read: |seen, to| to.outcomes(RENEWED, &seen.counters.renewals, is_about_renewal),
        ..ROW
    },
    Metric {
        name: "decisions",
        kind: MetricKind::Counter,
        help: "Checks of messages, deliveries and subscriptions, by how they ended and why.",
        labels: &["outcome", "reason"],
        topic: "decisions/{outcome}/{reason}",
        read: |seen, to| to.outcomes("allowed", &seen.counters.decisions, is_about_access),
        ..ROW
    },
    Metric {
        name: "sessions",
        help: "Sessions of clients that signed in here: connected ones, and those that the broker keeps for clients \
               that are away.",
        labels: &["state"],
        topic: "sessions/{state}",
        read: |seen, to| {
            to.labelled(["connected", ""], seen.connected);
            to.labelled(["away", ""], seen.away);
        },
        ..ROW
    },
    Metric {
        name: "disconnections",
        kind: MetricKind::Counter,
        help: "Clients that the plugin disconnected because their rights ended, by reason.",
        labels: &["reason"],
        topic: "disconnections/{reason}",
        read: |seen, to| {
            use Reason::{AuthPacket, KeyRevoked, RightsExpired};
            let is_expected = |reason| matches!(reason, RightsExpired | KeyRevoked | AuthPacket);
            for (reason, number) in by_reason(&seen.counters.disconnections, is_expected) {
                to.labelled([reason.code(), ""], number);
            }
        },
        ..ROW
    },
    Metric {
        name: "cache_lookups",
        kind: MetricKind::Counter,
        help: "How often a cache had the answer or not: verified tokens, checked passwords, and allowed messages.",
        labels: &["cache", "result"],
        topic: "caches/{cache}/{result}",
        read: |seen, to| {
            to.lookups("tokens", seen.counters.token_cache);
            to.lookups("logins", seen.counters.login_cache);
            to.lookups("messages", seen.counters.answer_cache);
        },
        ..ROW
    },
    Metric {
        name: "cache_entries",
        help: "How many tokens and passwords are remembered.",
        labels: &["cache"],
        topic: "caches/{cache}/entries",
        read: |seen, to| {
            to.labelled(["tokens", ""], seen.cached_tokens);
            to.labelled(["logins", ""], seen.cached_logins);
        },
        ..ROW
    },
    Metric {
        name: "tenant_request_seconds",
        kind: MetricKind::Histogram,
        unit: "seconds",
        help: "How long the tenant took to answer: about a password (login), and with its keys (keys).",
        labels: &["request"],
        topic: "tenant/{request}",
        read: |seen, to| {
            to.times("login", &seen.counters.tenant_logins.seconds);
            to.times("keys", &seen.keys.requests.seconds);
        },
    },
    Metric {
        name: "tenant_request_failures",
        kind: MetricKind::Counter,
        help: "Requests to the tenant without an answer that can be used.",
        labels: &["request"],
        topic: "tenant/{request}/failures",
        read: |seen, to| {
            to.labelled(["login", ""], seen.counters.tenant_logins.failures);
            to.labelled(["keys", ""], seen.keys.requests.failures);
        },
        ..ROW
    },
    Metric {
        name: "tenant_circuits_open",
        help: "Circuits that are open: the tenant has failed so often that it is not asked for these callers, except \
               by a probe. The one for everybody concerns all devices that send passwords.",
        labels: &["callers"],
        topic: "tenant/circuits/{callers}",
        read: |seen, to| {
            to.labelled(["everybody", ""], seen.circuits.everybody);
            to.labelled(["address", ""], seen.circuits.addresses);
            to.labelled(["user", ""], seen.circuits.users);
        },
        ..ROW
    },
    Metric {
        name: "keys",
        help: "Signing keys of the tenant that are in use.",
        topic: "keys/number",
        read: |seen, to| to.one(seen.keys.number),
        ..ROW
    },
    Metric {
        name: "keys_age_seconds",
        unit: "seconds",
        help: "How long ago the tenant's keys were fetched. There is no value before the first fetch, and with \
               jwks_file.",
        topic: "keys/age",
        read: |seen, to| {
            if let Some(age) = seen.keys.age {
                to.time(Duration::from_secs(age.as_secs()));
            }
        },
        ..ROW
    },
    Metric {
        name: "broker_stall_seconds",
        kind: MetricKind::Counter,
        unit: "seconds",
        help: "How long the broker stood still while it waited for the tenant (stall_budget).",
        topic: "broker/stall",
        read: |seen, to| to.time(seen.stall),
        ..ROW
    },
    Metric {
        name: "config_generation",
        help: "The number of the configuration in force. A reload that changes something makes it rise.",
        topic: "config/generation",
        read: |seen, to| to.one(seen.generation),
        ..ROW
    },
    Metric {
        name: "config_last_reload_successful",
        help: "1 if the configuration that was read last is in force, 0 if it has a mistake.",
        topic: "config/last_reload_successful",
        read: |seen, to| to.one((!seen.reload_failed).into()),
        ..ROW
    },
    Metric {
        name: "saved_sessions_absent",
        help: "Sessions whose rights were saved before the broker started and whose clients have not been back.",
        topic: "saved_sessions/absent",
        read: |seen, to| {
            if let Some(saved) = seen.saved_sessions {
                to.one(saved.absent);
            }
        },
        ..ROW
    },
    Metric {
        name: "saved_sessions_unwritten",
        help: "Changes of sessions that are not written to state_dir yet. They are written within seconds; more and \
               more mean that state_dir cannot be written.",
        topic: "saved_sessions/unwritten",
        read: |seen, to| {
            if let Some(saved) = seen.saved_sessions {
                to.one(saved.unwritten);
            }
        },
        ..ROW
    },
    Metric {
        name: "log_lines_dropped",
        kind: MetricKind::Counter,
        help: "Lines for the broker's log that were dropped, because there were too many at once.",
        topic: "log/lines_dropped",
        read: |seen, to| to.one(seen.dropped_log_lines),
        ..ROW
    },
    Metric {
        name: "decision_log_decisions",
        kind: MetricKind::Counter,
        help: "Decisions for the decision log: those that were written, and those that were left out because they came \
               too fast or the file cannot be written.",
        labels: &["result"],
        topic: "decision_log/{result}",
        read: |seen, to| {
            if let Some(log) = seen.decision_log {
                to.labelled(["written", ""], log.written);
                to.labelled(["left_out", ""], log.left_out);
            }
        },
        ..ROW
    },
    Metric {
        name: "shadow_policy_differences",
        kind: MetricKind::Counter,
        help: "Decisions that the shadow policy would have made otherwise: what it would have allowed, and what it \
               would have denied.",
        labels: &["result"],
        topic: "shadow_policy/{result}",
        read: |seen, to| {
            if let Some(shadow) = seen.shadow {
                to.labelled(["would_allow", ""], shadow.would_allow);
                to.labelled(["would_deny", ""], shadow.would_deny);
            }
        },
        ..ROW
    },
];

/// The values of all metrics, in the order of the table.
pub(crate) struct Snapshot(pub(crate) Vec<Readings>);

impl Snapshot {
    /// Reads all metrics.
    pub(crate) fn new(observed: &Observed) -> Self {
        let read = |metric: &Metric| {
            let mut readings = Readings::default();
            (metric.read)(observed, &mut readings);
            readings
        };
        Self(METRICS.iter().map(read).collect())
    }

    /// Returns each metric with its values.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (&'static Metric, &Readings)> {
        METRICS.iter().zip(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_openmetrics() {
        for (place, metric) in METRICS.iter().enumerate() {
            let Metric { name, .. } = metric;
            let is_word = |b: u8| b.is_ascii_lowercase() || b == b'_';
            assert!(name.bytes().all(is_word), "{name}");
            assert!(!name.ends_with("_total"), "{name}: the kind adds that");
            assert!(METRICS[..place].iter().all(|other| other.name != *name));
            assert!(name.ends_with(metric.unit), "{name} ends with its unit");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '"']));
            assert!(metric.labels.len() <= 2);
            for label in metric.labels.iter().filter(|_| !metric.topic.is_empty()) {
                assert!(metric.topic.contains(&format!("{{{label}}}")), "{name}");
            }
        }
    }

    #[test]
    fn every_metric_has_values_with_its_labels_each_once() {
        let observed = Observed {
            keys: super::super::ObservedKeys {
                age: Some(Duration::ZERO),
                ..Default::default()
            },
            saved_sessions: Some(super::super::ObservedSavedSessions {
                absent: 0,
                unwritten: 0,
            }),
            decision_log: Some(Default::default()),
            shadow: Some(Default::default()),
            ..Observed::default()
        };
        let snapshot = Snapshot::new(&observed);
        let mut series = 0;
        for (metric, readings) in snapshot.metrics() {
            assert!(!readings.0.is_empty(), "{}", metric.name);
            for (place, (labels, _)) in readings.0.iter().enumerate() {
                let given = labels.iter().filter(|value| !value.is_empty()).count();
                assert_eq!(given, metric.labels.len(), "{}", metric.name);
                assert!(readings.0[..place].iter().all(|(other, _)| other != labels));
            }
            series += readings.0.len();
        }
        assert!(series < 150, "the number of series is bounded: {series}");
    }

    /// Nothing that was counted is missing, whatever the reason.
    #[test]
    fn an_unexpected_reason_is_given_once_it_is_counted() {
        let mut observed = Observed::default();
        observed.counters.decisions.refused.count(Reason::LoginMfa);
        let snapshot = Snapshot::new(&observed);
        let mut metrics = snapshot.metrics();
        let (_, decisions) = metrics
            .find(|(metric, _)| metric.name == "decisions")
            .unwrap();
        let counted = (["refused", "login-mfa"], Reading::Whole(1));
        assert!(decisions.0.contains(&counted));
    }

    #[test]
    fn reasons_are_expected_where_the_table_of_refusals_has_them() {
        let group = |title| {
            let mut groups = Reason::GROUPS.iter();
            groups.find(|(other, _)| *other == title).unwrap().1
        };
        for reason in Reason::ALL {
            let access = group("Messages and subscriptions").contains(reason);
            assert_eq!(is_about_access(*reason), access, "{}", reason.code());
            let renewal = group("Renewal").contains(reason);
            assert_eq!(is_about_renewal(*reason), renewal, "{}", reason.code());
        }
    }
}
