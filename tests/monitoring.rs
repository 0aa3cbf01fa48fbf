//! The dashboard and the alerts for Prometheus name only metrics that there are, and Prometheus' own tool accepts them.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use auth::metrics::{
    table::{METRICS, MetricKind, PREFIX},
    text::sample_name,
};
use serde_json::Value;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Returns the expressions of all panels, for all brokers and an interval.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| target["expr"].as_str().unwrap())
        .map(|text| {
            text.replace("$__rate_interval", "5m")
                .replace("$instance", ".*")
        })
        .collect()
}

/// Runs Prometheus' own tool. Returns `false` where it is not installed.
fn promtool(arguments: &[&str]) -> bool {
    let promtool = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let Ok(output) = promtool else {
        let program = "Prometheus' promtool";
        testbed::packaged_server::note_left_out(program, "install the package prometheus");
        return false;
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}: {said}");
    true
}

/// Returns the names of the samples in a text.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in text.split(PREFIX).skip(1) {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        names.insert(format!("{PREFIX}{}", &rest[..end.unwrap_or(rest.len())]));
    }
    names
}

#[test]
fn dashboard_and_alerts_name_metrics_that_there_are() {
    let mut samples = BTreeSet::new();
    for metric in METRICS {
        let name = sample_name(metric);
        match metric.kind {
            MetricKind::Histogram => {
                samples.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
            }
            MetricKind::Counter | MetricKind::Gauge => drop(samples.insert(name)),
        }
    }
    let dashboard = names(&expressions().join("\n"));
    assert!(dashboard.len() > 15, "{dashboard:?}");
    for name in dashboard
        .iter()
        .chain(&names(&read("docs/prometheus-alerts.yml")))
    {
        assert!(samples.contains(name), "{name}");
    }
}

/// Where promtool is not installed, nothing is checked.
#[test]
fn promtool_accepts_the_alerts_and_the_expressions_of_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, expression) in expressions().iter().enumerate() {
        let quoted = expression.replace('\'', "''");
        rules.push_str(&format!(
            "  - record: panel:{number}\n    expr: '{quoted}'\n"
        ));
    }
    let dashboard = folder.path().join("dashboard.yml");
    fs::write(&dashboard, rules).unwrap();
    for file in [dashboard.to_str().unwrap(), "docs/prometheus-alerts.yml"] {
        if !promtool(&["check", "rules", file]) {
            return;
        }
    }
}

/// A share of nothing, and a quantile of nothing, are not a number. Grafana writes "NaN" for that.
#[test]
fn no_panel_shows_nan_while_nothing_happens() {
    let labels =
        r#"instance="a",outcome="refused",reason="r",cache="c",result="hit",request="login""#;
    let mut test = "tests:\n- interval: 1m\n  input_series:\n".to_owned();
    for metric in METRICS {
        let name = sample_name(metric);
        let series = match metric.kind {
            MetricKind::Histogram => ["0.5", "+Inf"]
                .map(|le| format!(r#"{name}_bucket{{{labels},le="{le}"}}"#))
                .to_vec(),
            MetricKind::Counter | MetricKind::Gauge => vec![format!("{name}{{{labels}}}")],
        };
        for series in series {
            test.push_str(&format!("  - series: '{series}'\n    values: 7x20\n"));
        }
    }
    test.push_str("  promql_expr_test:\n");
    for expression in expressions() {
        // Only NaN is unequal to itself.
        let quoted = format!("({expression}) != ({expression})").replace('\'', "''");
        test.push_str(&format!(
            "  - expr: '{quoted}'\n    eval_time: 15m\n    exp_samples: []\n"
        ));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yml");
    fs::write(&file, test).unwrap();
    promtool(&["test", "rules", file.to_str().unwrap()]);
}
