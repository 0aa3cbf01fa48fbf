//! Metrics as a text that Prometheus and its relatives read.
//!
//! There are two formats, which differ in little. The textfile collector of the node exporter reads the older one only,
//! and only files whose names end with `.prom`. So such a file is written in it, and every other file in OpenMetrics.

use std::{fmt::Write, path::Path};

use super::table::{LabelValues, Metric, MetricKind, PREFIX, Reading, Snapshot};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl TextFormat {
    /// Returns the format of a file with this name.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().is_some_and(|end| end == "prom") {
            true => Self::Prometheus,
            false => Self::OpenMetrics,
        }
    }
}

/// Returns all metrics as a text.
pub(crate) fn render(snapshot: &Snapshot, format: TextFormat) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for (metric, readings) in snapshot.metrics().filter(|(_, read)| !read.0.is_empty()) {
        head(metric, format, &mut text);
        for (labels, reading) in &readings.0 {
            sample(metric, *labels, reading, &mut text);
        }
    }
    if format == TextFormat::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Returns the name of a metric's samples, except those of a histogram.
pub fn sample_name(metric: &Metric) -> String {
    let end = match metric.kind {
        MetricKind::Counter => "_total",
        MetricKind::Gauge | MetricKind::Histogram => "",
    };
    format!("{PREFIX}{}{end}", metric.name)
}

fn head(metric: &Metric, format: TextFormat, text: &mut String) {
    let name = match format {
        TextFormat::Prometheus => sample_name(metric),
        TextFormat::OpenMetrics => format!("{PREFIX}{}", metric.name),
    };
    let (kind, help) = (metric.kind.word(), metric.help);
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    if format == TextFormat::OpenMetrics && !metric.unit.is_empty() {
        text.push_str(&format!("# UNIT {name} {}\n", metric.unit));
    }
}

fn sample(metric: &Metric, labels: LabelValues, reading: &Reading, text: &mut String) {
    let labels: Vec<_> = metric.labels.iter().copied().zip(labels).collect();
    let name = sample_name(metric);
    let mut line = |end: &str, more: Option<(&'static str, &'static str)>, value: String| {
        text.push_str(&format!("{name}{end}"));
        let all = labels.iter().copied().chain(more);
        let all: Vec<_> = all
            .map(|(label, word)| format!("{label}=\"{word}\""))
            .collect();
        if !all.is_empty() {
            text.push_str(&format!("{{{}}}", all.join(",")));
        }
        text.push_str(&format!(" {value}\n"));
    };
    match reading {
        Reading::Whole(number) => line("", None, number.to_string()),
        Reading::Time(time) => line("", None, seconds(*time)),
        Reading::Times(times) => {
            for (bound, number) in times.cumulative() {
                line("_bucket", Some(("le", bound)), number.to_string());
            }
            line("_sum", None, seconds(times.sum));
            line("_count", None, times.count().to_string());
        }
    }
}

/// Returns seconds as a decimal number, to the microsecond.
pub(crate) fn seconds(time: std::time::Duration) -> String {
    let mut text = time.as_secs().to_string();
    let micros = time.subsec_micros();
    if micros > 0 {
        let _ = write!(text, ".{micros:06}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Observed, refusal::Reason};
    use std::{io::Write as _, process::Stdio, time::Duration};

    fn observed() -> Observed {
        let mut observed = Observed::default();
        let counters = &mut observed.counters;
        counters.logins.granted = 3;
        counters.logins.refused.count(Reason::TokenExpired);
        counters
            .tenant_logins
            .count(Duration::from_millis(60), true);
        observed.keys.age = Some(Duration::from_millis(7_900));
        observed.stall = Duration::from_micros(1_250_000);
        observed
    }

    #[test]
    fn both_formats_say_the_same() {
        let snapshot = Snapshot::new(&observed());
        let prometheus = render(&snapshot, TextFormat::Prometheus);
        let openmetrics = render(&snapshot, TextFormat::OpenMetrics);
        let samples = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples(&prometheus), samples(&openmetrics));
        for line in [
            "mosquitto_auth0_logins_total{outcome=\"admitted\",reason=\"none\"} 3",
            "mosquitto_auth0_logins_total{outcome=\"refused\",reason=\"token-expired\"} 1",
            "mosquitto_auth0_logins_total{outcome=\"refused\",reason=\"login-rate\"} 0",
            "mosquitto_auth0_tenant_request_seconds_bucket{request=\"login\",le=\"0.1\"} 1",
            "mosquitto_auth0_tenant_request_seconds_sum{request=\"login\"} 0.06",
            "mosquitto_auth0_tenant_request_failures_total{request=\"login\"} 1",
            "mosquitto_auth0_keys_age_seconds 7",
            "mosquitto_auth0_broker_stall_seconds_total 1.25",
            "mosquitto_auth0_config_last_reload_successful 1",
        ] {
            assert!(samples(&prometheus).contains(&line.to_owned()), "{line}");
        }
        assert!(prometheus.contains("# TYPE mosquitto_auth0_logins_total counter\n"));
        assert!(openmetrics.contains("# TYPE mosquitto_auth0_logins counter\n"));
        assert!(openmetrics.contains("# UNIT mosquitto_auth0_keys_age_seconds seconds\n"));
        assert!(openmetrics.ends_with("\n# EOF\n"));
        assert!(!prometheus.contains("saved_sessions"), "none are saved");
    }

    #[test]
    fn the_name_of_the_file_chooses_the_format() {
        assert_eq!(
            TextFormat::of(Path::new("/a/b.prom")),
            TextFormat::Prometheus
        );
        assert_eq!(
            TextFormat::of(Path::new("/a/b.txt")),
            TextFormat::OpenMetrics
        );
    }

    /// Prometheus' own tool finds nothing wrong. Where it is not installed, nothing is checked.
    #[test]
    fn promtool_accepts_the_text() {
        let text = render(&Snapshot::new(&observed()), TextFormat::Prometheus);
        let promtool = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = promtool else {
            return eprintln!("promtool is not installed: the text is not checked with it");
        };
        let mut input = promtool.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
