//! Metrics as retained messages under `$SYS`, like those that the broker publishes about itself.
//!
//! A message is published when its value is another one than before. The broker keeps no message under `$SYS` over a
//! restart, so none of an earlier run is left.

use std::collections::HashMap;

use super::{
    table::{LabelValues, Metric, NO_REASON, Reading, Snapshot, TOPICS},
    text::seconds,
};

/// A message to publish, retained.
#[derive(Debug, PartialEq, Eq)]
pub struct MetricMessage {
    /// The topic.
    pub topic: String,
    /// The value. An empty one removes the message that is retained.
    pub payload: String,
}

/// What was published last.
#[derive(Default)]
pub(crate) struct Published(HashMap<Series, Reading>);

/// A metric, and the values of its labels.
type Series = (&'static str, LabelValues);

impl Published {
    /// Returns the messages to publish, so that subscribers know these values.
    pub(crate) fn update(&mut self, snapshot: &Snapshot) -> Vec<MetricMessage> {
        let mut messages = Vec::new();
        let mut before = std::mem::take(&mut self.0);
        for (metric, readings) in snapshot
            .metrics()
            .filter(|(metric, _)| !metric.topic.is_empty())
        {
            for (labels, reading) in &readings.0 {
                let series = (metric.topic, *labels);
                let last = before.remove(&series);
                // Most reasons never occur, and the broker keeps each message in memory.
                let is_news = match &last {
                    Some(last) => last != reading,
                    None => !metric.labels.contains(&"reason") || *reading != Reading::Whole(0),
                };
                if is_news {
                    publish(topic(metric, *labels), reading, &mut messages);
                }
                if is_news || last.is_some() {
                    self.0.insert(series, reading.clone());
                }
            }
        }
        remove(before, &mut messages);
        messages
    }

    /// Returns the messages that remove all that was published.
    pub(crate) fn withdraw(&mut self) -> Vec<MetricMessage> {
        let mut messages = Vec::new();
        remove(std::mem::take(&mut self.0), &mut messages);
        messages
    }
}

/// An empty message for each topic to which readings were published removes the one that is retained.
fn remove(published: HashMap<Series, Reading>, messages: &mut Vec<MetricMessage>) {
    let first = messages.len();
    for ((topic, labels), reading) in published {
        publish(filled(topic, &labels), &reading, messages);
    }
    for message in &mut messages[first..] {
        message.payload.clear();
    }
}

fn publish(topic: String, reading: &Reading, messages: &mut Vec<MetricMessage>) {
    let mut push = |topic, payload| messages.push(MetricMessage { topic, payload });
    match reading {
        Reading::Whole(number) => push(topic, number.to_string()),
        Reading::Time(time) => push(topic, seconds(*time)),
        Reading::Times(times) => {
            push(format!("{topic}/count"), times.count().to_string());
            push(format!("{topic}/seconds"), seconds(times.sum));
        }
    }
}

fn topic(metric: &Metric, labels: LabelValues) -> String {
    filled(metric.topic, &labels)
}

/// Returns a topic with the values of labels in place of their names.
fn filled(topic: &str, labels: &[&str]) -> String {
    let mut values = labels.iter();
    let levels = topic
        .split('/')
        .filter_map(|level| match level.starts_with('{') {
            true => values.next().copied().filter(|value| *value != NO_REASON),
            false => Some(level),
        });
    let levels: Vec<_> = levels.collect();
    format!("{TOPICS}{}", levels.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::{Observed, table::METRICS},
        refusal::Reason,
    };
    use std::time::Duration;

    fn payload<'m>(messages: &'m [MetricMessage], topic: &str) -> Option<&'m str> {
        let is_meant = |message: &&MetricMessage| message.topic.strip_prefix(TOPICS) == Some(topic);
        let message = messages.iter().find(is_meant)?;
        Some(&message.payload)
    }

    #[test]
    fn a_message_is_published_when_its_value_has_changed() {
        let (mut published, mut observed) = (Published::default(), Observed::default());
        let mut update = |observed: &Observed| published.update(&Snapshot::new(observed));
        let first = update(&observed);
        assert_eq!(
            payload(&first, "logins/admitted"),
            None,
            "nobody has signed in"
        );
        assert_eq!(payload(&first, "sessions/connected"), Some("0"));
        assert_eq!(payload(&first, "tenant/login/count"), Some("0"));
        assert_eq!(payload(&first, "keys/age"), None);
        assert!(
            first.len() < 40,
            "{}: reasons that never occurred",
            first.len()
        );
        assert_eq!(update(&observed), []);

        let counters = &mut observed.counters;
        counters.logins.granted = 2;
        counters.logins.refused.count(Reason::TokenExpired);
        counters.token_cache.count(true);
        observed.keys.age = Some(Duration::from_secs(5));
        let changed = update(&observed);
        assert_eq!(changed.len(), 4, "{changed:?}");
        for (topic, value) in [
            ("logins/admitted", "2"),
            ("logins/refused/token-expired", "1"),
            ("caches/tokens/hit", "1"),
            ("keys/age", "5"),
        ] {
            assert_eq!(payload(&changed, topic), Some(value), "{topic}");
        }
        observed.keys.age = None;
        let gone = update(&observed);
        assert_eq!((gone.len(), payload(&gone, "keys/age")), (1, Some("")));
        assert_eq!(update(&observed), []);

        let removed = published.withdraw();
        assert!(removed.iter().all(|message| message.payload.is_empty()));
        for topic in [
            "sessions/connected",
            "logins/refused/token-expired",
            "tenant/login/count",
            "tenant/login/seconds",
        ] {
            assert_eq!(payload(&removed, topic), Some(""), "{topic}");
        }
        assert_eq!(published.withdraw(), []);
        let again = published.update(&Snapshot::new(&observed));
        assert_eq!(payload(&again, "sessions/connected"), Some("0"));
    }

    #[test]
    fn topics_are_distinct_and_can_be_published_to() {
        let observed = Observed::default();
        let snapshot = Snapshot::new(&observed);
        let mut topics: Vec<_> = snapshot
            .metrics()
            .filter(|(metric, _)| !metric.topic.is_empty())
            .flat_map(|(metric, readings)| {
                readings.0.iter().map(|(labels, _)| topic(metric, *labels))
            })
            .collect();
        assert!(
            topics
                .iter()
                .all(|topic| !topic.contains(['+', '#', '{', '}']))
        );
        let number = topics.len();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), number);
        assert!(METRICS.iter().all(|metric| !metric.topic.ends_with('/')));
    }
}
