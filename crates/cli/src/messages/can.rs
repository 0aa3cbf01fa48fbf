//! What `can` and `test` say.

use std::{fmt, path::Path};

use acl::{
    diagnosis::{NearMiss, PlacedRule, RulePlace, WhyRules},
    rules::Effect,
};
use auth::engine::{Decision, WhyDecided};
use input::text::Quoted;

use crate::{
    commands::can::{Reply, Why},
    device::NotIn,
    question::BrokerRefuses,
};

/// What was asked, and the decision: one line.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.decision {
            Decision::Allow => "allow",
            Decision::Deny => "deny ",
            Decision::Defer => "defer",
        };
        write!(
            f,
            "{word}  {}",
            input::text::line(&self.question.to_string())
        )
    }
}

impl fmt::Display for NotIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::OthersDecide => f.write_str(
                "others decide: `on_other` is `defer`, so ask the next plugin or the broker's password_file",
            ),
        }
    }
}

/// Returns that a device is not let in, and why.
pub(crate) fn turned_away(not_in: &NotIn) -> String {
    match not_in {
        NotIn::Refused(refusal) => format!("The device is not let in: {refusal}"),
        NotIn::OthersDecide => format!("The plugin does not let the device in: {not_in}"),
    }
}

impl fmt::Display for BrokerRefuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sys => "the broker itself lets nobody publish to topics that begin with `$SYS`",
            Self::Share => {
                "the broker itself lets no message have a topic that begins with `$share`"
            }
            Self::NoTopic => {
                "the broker refuses it as no topic: it has a wildcard or more than 200 \
                 levels, or is empty"
            }
            Self::NoFilter => "the broker refuses it as no topic filter",
        })
    }
}

/// Returns why it is so, one line each. `policy_file` is where the rules of the policy file are.
pub(crate) fn explanation(why: &Why, policy_file: Option<&Path>) -> Vec<String> {
    match why {
        Why::Broker(refuses) => vec![refuses.to_string()],
        Why::NotIn => vec!["the plugin does not let the device in".to_owned()],
        Why::Decided(WhyDecided::OwnTopic) => {
            vec!["it is a topic of the plugin's own, about which no rule decides".to_owned()]
        }
        Why::Decided(WhyDecided::RightsEnded(refusal)) => vec![refusal.to_string()],
        Why::Decided(WhyDecided::OthersDecide) => vec![
            "others decide: `acl` is `defer`, so ask the next plugin or the broker's acl_file"
                .to_owned(),
        ],
        Why::Decided(WhyDecided::GivesUp) => {
            vec!["whoever is in may always end a subscription".to_owned()]
        }
        Why::Decided(WhyDecided::Rules(why)) => of_rules(why, policy_file),
    }
}

fn of_rules(why: &WhyRules, policy_file: Option<&Path>) -> Vec<String> {
    let mut lines = Vec::new();
    match (&why.unusable, &why.decided_by) {
        (Some(unusable), _) => lines.push(format!("the device has no rights: {unusable}")),
        (None, Some(rule)) => lines.push(placed(rule, policy_file)),
        (None, None) => lines.push("no rule applies".to_owned()),
    }
    if let Some(NearMiss { rule, obstacles }) = &why.nearest {
        lines.push(format!("nearest: {}", placed(rule, policy_file)));
        lines.extend(obstacles.iter().map(|obstacle| format!("  but {obstacle}")));
    }
    lines
}

/// Returns what a rule does, and where it is written.
pub(crate) fn placed(rule: &PlacedRule, policy_file: Option<&Path>) -> String {
    let does = match rule.effect {
        Effect::Allow => "allows",
        Effect::Deny => "denies",
    };
    let filter = Quoted(&rule.filter);
    match &rule.place {
        RulePlace::Policy { name, line } => {
            let file = policy_file.map_or_else(
                || "the policy file".into(),
                |path| path.display().to_string(),
            );
            format!("{file}:{line}: rule {} {does} {filter}", Quoted(name))
        }
        RulePlace::Claim { name, number } => {
            format!("claim {}, entry {number}: {does} {filter}", Quoted(name))
        }
    }
}
