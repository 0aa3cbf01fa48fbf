//! What `login` says.

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::{Map, Value};

use acl::{
    diagnosis::RuleFor,
    rules::{Actions, Limits},
};
use input::text::{self, Quoted};

use super::{can, doctor, duration};
use crate::{
    commands::login::{LetIn, TurnedAway},
    device::NotIn,
};

/// Returns what is said before anything is sent.
pub(crate) fn announcement(tenant: &str, user: Option<&str>, fetches_keys: bool) -> String {
    match (user, fetches_keys) {
        (Some(user), true) => format!(
            "This signs the user {} in at {tenant}, once, and fetches the tenant's keys.",
            Quoted(user)
        ),
        (Some(user), false) => {
            format!("This signs the user {} in at {tenant}, once.", Quoted(user))
        }
        (None, _) => format!("This fetches the keys of {tenant}. The token is sent nowhere."),
    }
}

/// Writes what a device that is let in is and may do.
///
/// # Errors
///
/// Returns the error of the output.
pub(crate) fn let_in(found: &LetIn, out: &mut dyn Write) -> io::Result<()> {
    if found.is_unverified {
        writeln!(out, "(Nobody has verified these claims.)")?;
    }
    writeln!(out, "The device is let in.")?;
    writeln!(
        out,
        "  user name for the broker: {}",
        Quoted(&found.device.username)
    )?;
    let ids = match found.client_ids.as_deref() {
        None => "every one".to_owned(),
        Some(ids) => {
            let quoted: Vec<_> = ids.iter().map(|id| Quoted(id).to_string()).collect();
            quoted.join(" or ")
        }
    };
    writeln!(out, "  client IDs that it may use: {ids}")?;
    let left = duration(found.device.until.0.saturating_sub(found.now.0));
    writeln!(out, "  until: {} (for {left})", date(found.device.until.0))?;
    writeln!(out, "\nThe claims of its token:")?;
    claims(&found.device.attributes.claims, out)?;
    if found.others_decide {
        return writeln!(
            out,
            "\nOthers decide about messages and subscriptions (`acl`): the next plugin, or the broker's acl_file."
        );
    }
    if let Some(why) = &found.rules.unusable {
        return writeln!(out, "\nIt has no rights: {why}.");
    }
    let policy_file = found.policy_file.as_deref();
    let all = &found.rules.rules;
    let (applies, others): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.obstacles.is_empty());
    match applies.as_slice() {
        [] => writeln!(
            out,
            "\nNo rule applies to it, so its messages and subscriptions are refused ([not-granted]).\n  fix: {}",
            doctor::words(&found.sources, found.is_auth0)
                .fix
                .unwrap_or_default()
        )?,
        rules => {
            writeln!(out, "\nWhat applies to it now:")?;
            rules
                .iter()
                .try_for_each(|one| rule(one, policy_file, out))?;
        }
    }
    if !others.is_empty() {
        writeln!(out, "\nWhat does not:")?;
        others
            .iter()
            .try_for_each(|one| rule(one, policy_file, out))?;
    }
    writeln!(
        out,
        "\n`mosquitto-auth0 can` says whether it may publish, subscribe or receive one topic, and why."
    )
}

/// Writes why a device is not let in.
///
/// # Errors
///
/// Returns the error of the output.
pub(crate) fn turned_away(found: &TurnedAway, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", can::turned_away(&found.not_in))?;
    let NotIn::Refused(refusal) = &found.not_in else {
        return Ok(());
    };
    let reason = refusal.reason;
    writeln!(out, "  meaning: {}", reason.cause())?;
    let fix = doctor::fixed(refusal, found.is_auth0);
    if fix != refusal.fix() {
        writeln!(out, "  in the dashboard: {fix}")?;
    }
    let (code, name) = reason.connack_reason().mqtt5();
    writeln!(
        out,
        "  the device is told: {code} (0x{code:02X}, {name}) with MQTT 5 on Mosquitto 2.1, and otherwise \
         \"not authorized\""
    )?;
    for line in &found.log {
        writeln!(out, "  the plugin would also log: {line}")?;
    }
    if let Some(members) = &found.claims {
        writeln!(out, "\nWhat its token says (nobody has verified it):")?;
        claims(members, out)?;
    }
    Ok(())
}

fn claims(members: &Map<String, Value>, out: &mut dyn Write) -> io::Result<()> {
    let names = members.keys().map(|name| name.chars().count());
    let width = names.max().unwrap_or_default().min(40);
    for (name, value) in members {
        let is_date = ["exp", "iat", "nbf", "auth_time"].contains(&name.as_str());
        let date = value.as_u64().filter(|_| is_date).map(date);
        let date = date.map_or_else(String::new, |date| format!(" ({date})"));
        let (name, value) = (text::line(name), text::line(&value.to_string()));
        writeln!(out, "  {name:<width$}  {value}{date}")?;
    }
    Ok(())
}

fn rule(one: &RuleFor, policy_file: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    let actions = match one.actions {
        Actions::Publish => "publish",
        Actions::Subscribe => "subscribe",
        Actions::Both => "both",
    };
    write!(
        out,
        "  {actions:<9}  {}",
        can::placed(&one.rule, policy_file)
    )?;
    let written = &one.rule.filter;
    if !one.filters.is_empty() && !matches!(&*one.filters, [same] if same == written) {
        let quoted: Vec<_> = one
            .filters
            .iter()
            .map(|one| Quoted(one).to_string())
            .collect();
        write!(out, ", here {}", quoted.join(" and "))?;
    }
    writeln!(out, "{}", limits(one.limits))?;
    for obstacle in &one.obstacles {
        writeln!(out, "             but {obstacle}")?;
    }
    Ok(())
}

fn limits(limits: Limits) -> String {
    let mut said = String::new();
    if limits.qos & 0b111 != 0b111 {
        let levels = (0..3).filter(|level| limits.qos >> level & 1 == 1);
        let levels: Vec<_> = levels.map(|level| level.to_string()).collect();
        said += &format!(", QoS {} only", levels.join(" or "));
    }
    said += match limits.retain {
        None => "",
        Some(true) => ", retained only",
        Some(false) => ", not retained",
    };
    if limits.max_payload < u32::MAX {
        said += &format!(", at most {} bytes", limits.max_payload);
    }
    said
}

/// Returns a time for people.
fn date(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok();
    let at = at.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| seconds.to_string(), |at| at.to_string())
}
