//! Collects the metrics of all instances in a broker. There is one sum for the whole broker, because a client ID, the
//! time that the broker stands still and a tenant's limits belong to no instance alone. Where a sum means nothing, the
//! instance counts that is worst off.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Common, Engine, report::Report};
use crate::{
    clock::{Unix, moment},
    metrics::{
        Observed,
        file::{MetricsFileReport, MetricsFiles},
        sys_topics::{MetricMessage, Published},
        table::Snapshot,
    },
    refusal::Refusal,
};

/// How often it is looked whether metrics are wanted, where no instance publishes them.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Where the metrics of a broker go.
#[derive(Default)]
pub(super) struct Metrics {
    /// When they are collected next. `None` is now.
    next: Option<Instant>,
    published: Published,
    files: Option<MetricsFiles>,
    /// Whether it was reported that no thread can be started.
    complained: bool,
}

impl Metrics {
    /// Has them collected soon, because another interval or another file may be wanted.
    pub(super) fn collect_soon(&mut self) {
        self.next = None;
    }

    /// Deletes the files, because the broker stops.
    pub(super) fn stop(&mut self) {
        if let Some(files) = self.files.take() {
            files.stop();
        }
    }

    /// Has the files written that options name.
    fn write_files(&mut self, engines: &[&mut Engine], is_on: bool, snapshot: &Arc<Snapshot>) {
        let named = engines.iter().filter(|_| is_on);
        let mut paths: Vec<_> = named
            .filter_map(|engine| engine.config.metrics_file.clone())
            .collect();
        paths.sort_unstable();
        paths.dedup();
        if self.files.is_none()
            && !paths.is_empty()
            && let Some(engine) = engines.first()
        {
            match MetricsFiles::start(engine.spawn, engine.log.clone()) {
                Ok(files) => self.files = Some(files),
                Err(why) if !std::mem::replace(&mut self.complained, true) => {
                    MetricsFileReport::NoThread(why).tell(&engine.log);
                }
                Err(_) => {}
            }
        }
        if let Some(files) = &self.files {
            files.write(paths, snapshot);
        }
    }
}

impl Common {
    /// Whether it is time to [collect] metrics.
    pub fn metrics_are_due(&self) -> bool {
        self.metrics.next.is_none_or(|next| moment() >= next)
    }

    fn observe(&self, engines: &[&mut Engine], now: Unix) -> Observed {
        let (connected, away) = self.sessions.count();
        let mut observed = Observed {
            time: Duration::from_secs(now.0),
            connected,
            away,
            stall: self.stall_budget.spent_in_all(),
            saved_sessions: self.saved.observe(),
            generation: u64::MAX,
            ..Observed::default()
        };
        for limits in self.all_limits() {
            observed.circuits.add(limits.open_circuits());
        }
        for engine in engines {
            engine.add_to(&mut observed);
        }
        observed
    }
}

impl Engine {
    fn add_to(&self, observed: &mut Observed) {
        observed.counters.add(&self.counters);
        observed.cached_tokens += self.token_cache.len() as u64;
        observed.cached_logins += self.login_cache.len() as u64;
        observed.waiting_logins += self.pool.busy() as u64;
        for issuer in self.issuers.iter() {
            observed.keys.add(&issuer.keys.observe());
        }
        observed.generation = observed.generation.min(self.generation);
        observed.reload_failed |= self.reload_failed;
        observed.dropped_log_lines += self.log.dropped();
        if let Some(counts) = self.decision_log_counts() {
            observed.decision_log.get_or_insert_default().add(counts);
        }
        if let Some(counts) = self.shadow_counts() {
            observed.shadow.get_or_insert_default().add(counts);
        }
    }

    /// Tells that a client is disconnected, and counts it.
    pub(super) fn tell_disconnected(&mut self, client_id: &str, refusal: &Refusal) {
        self.counters.disconnections.count(refusal.reason);
        self.tell(&Report::Disconnected { client_id, refusal });
    }
}

/// Collects the metrics of all instances, has the files written, and returns what to publish: as retained messages, and
/// from a callback in which the state is closed.
pub fn collect(engines: &mut [&mut Engine], common: &mut Common, now: Unix) -> Vec<MetricMessage> {
    let intervals = engines.iter().map(|engine| engine.config.metrics_interval);
    let interval = intervals.filter(|interval| !interval.is_zero()).min();
    let is_on = interval.is_some();
    // Where nobody wants metrics, files and messages of before are removed.
    if is_on || common.metrics.files.is_some() {
        let snapshot = Arc::new(Snapshot::new(&common.observe(engines, now)));
        common.metrics.write_files(engines, is_on, &snapshot);
        if is_on {
            common.metrics.next = interval.map(|interval| moment() + interval);
            return common.metrics.published.update(&snapshot);
        }
    }
    common.metrics.next = Some(moment() + LOOK_AGAIN);
    common.metrics.published.withdraw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::engine_with;

    #[test]
    fn metrics_that_are_switched_off_leave_no_retained_message() {
        let (mut engine, _) = engine_with(&[("metrics_interval", "1")]);
        let mut common = Common::default();
        let mut collect = |engine: &mut Engine| collect(&mut [engine], &mut common, Unix(1000));
        let mut published: Vec<_> = collect(&mut engine)
            .into_iter()
            .map(|one| one.topic)
            .collect();
        assert!(published.len() > 20);
        Arc::make_mut(&mut engine.config).metrics_interval = Duration::ZERO;
        let removed = collect(&mut engine);
        assert!(removed.iter().all(|message| message.payload.is_empty()));
        let mut removed: Vec<_> = removed.into_iter().map(|one| one.topic).collect();
        published.sort_unstable();
        removed.sort_unstable();
        assert_eq!(removed, published);
        assert_eq!(collect(&mut engine), []);
    }

    #[test]
    fn there_are_counts_of_the_decision_log_and_the_shadow_policy_if_there_are_these() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name).display().to_string();
        std::fs::write(path("shadow"), "").unwrap();
        let [log, shadow] = ["log", "shadow"].map(path);
        let (mut engine, _) = engine_with(&[("decision_log", &log), ("shadow_policy", &shadow)]);
        engine.start_observer().unwrap();
        let (mut plain, _) = engine_with(&[]);
        let common = Common::default();
        let both = common.observe(&[&mut engine, &mut plain], Unix(1000));
        assert!(both.decision_log.is_some() && both.shadow.is_some());
        let neither = common.observe(&[&mut plain], Unix(1000));
        assert!(neither.decision_log.is_none() && neither.shadow.is_none());
    }
}
