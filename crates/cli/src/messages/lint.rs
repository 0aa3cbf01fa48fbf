//! What `lint` says.

use acl::{
    lint::{Lint, LintedRule},
    rules::Actions,
};
use input::text::Quoted;

use super::doctor::{Words, seen};
use crate::doctor::finding::Severity;

/// Returns the name of a finding for programs, and how much it matters.
pub(crate) fn code(lint: &Lint) -> (&'static str, Severity) {
    use Severity::{Note, Warning};
    match lint {
        Lint::BrokerDenies { .. } => ("broker-denies", Warning),
        Lint::Hidden { is_same: false, .. } => ("hidden", Warning),
        Lint::Hidden { is_same: true, .. } => ("repeated", Note),
        Lint::AllowedBelow { .. } => ("allowed-below", Note),
        Lint::AllowedOtherwise { .. } => ("allowed-otherwise", Note),
        Lint::LooksAtClientId(_) => ("unbound-client-id", Warning),
        Lint::LooksAtPort { .. } => ("no-such-port", Warning),
    }
}

/// Returns what is suspicious, what it means for devices, and how to fix it.
// Longer than a screen, because it has one entry for each finding.
pub(crate) fn words(lint: &Lint) -> Words {
    let name = Quoted(&lint.rule().name);
    match lint {
        Lint::BrokerDenies { filter, .. } => seen(format!(
            "rule {name} allows publishing to {}",
            Quoted(filter)
        ))
        .means("the broker itself lets nobody publish there")
        .fix("leave it out"),
        Lint::Hidden {
            filter,
            by,
            is_same,
            ..
        } => hidden(&name, filter.as_deref(), by, *is_same),
        Lint::AllowedBelow { filter, by, .. } => seen(format!(
            "rule {name} denies {}, and not what is below it",
            Quoted(filter)
        ))
        .means(format!("{} allows topics below it", rule(by)))
        .fix(format!(
            "write {} if those are meant, too: it also matches the topic itself",
            Quoted(&format!("{filter}/#"))
        )),
        Lint::AllowedOtherwise {
            filter, denies, by, ..
        } => {
            let (denied, allowed) = match denies {
                Actions::Publish => ("publishing to", "subscribing to"),
                Actions::Subscribe | Actions::Both => ("subscribing to", "publishing to"),
            };
            let filter = Quoted(filter);
            seen(format!("rule {name} denies {denied} {filter} only"))
                .means(format!("{} allows {allowed} it", rule(by)))
                .fix("write deny.both if both are meant")
        }
        Lint::LooksAtClientId(one) => {
            let means = match one.is_requirement {
                true => {
                    "a device chooses its client ID, and with it whether it meets the requirement"
                }
                false => {
                    "every device that may sign in can choose the client ID of another one, and has its rights"
                }
            };
            let what = subject(one);
            seen(format!(
                "{what} depends on the client ID, and no option binds client IDs"
            ))
            .means(means)
            .fix("set client_id_claim or client_id_template")
        }
        Lint::LooksAtPort {
            rule,
            ports,
            is_asked_for,
        } => {
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            let (means, fix) = match is_asked_for {
                true => (
                    "no device that it concerns can sign in",
                    "correct that.port",
                ),
                false => ("it never applies", "correct when.port"),
            };
            let what = subject(rule);
            seen(format!(
                "{what} is for port {}, and there is no such listener",
                ports.join(" or ")
            ))
            .means(means)
            .fix(fix)
        }
    }
}

fn hidden(name: &Quoted, filter: Option<&str>, by: &LintedRule, is_same: bool) -> Words {
    let what = match filter {
        None => format!("rule {name} never decides"),
        Some(filter) => format!("rule {name} never decides about {}", Quoted(filter)),
    };
    let words = seen(format!("{what}: {} comes first and covers it", rule(by)));
    match is_same {
        true => words
            .means("nothing is lost: both do the same")
            .fix("leave it out"),
        false => words
            .means("what it says does not happen")
            .fix("move it above the other rule, or give it a higher priority"),
    }
}

fn subject(one: &LintedRule) -> String {
    let kind = if one.is_requirement {
        "requirement"
    } else {
        "rule"
    };
    format!("{kind} {}", Quoted(&one.name))
}

fn rule(rule: &LintedRule) -> String {
    format!("rule {} (line {})", Quoted(&rule.name), rule.line)
}
