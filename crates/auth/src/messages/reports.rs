//! Lines of the log about refusals, and about the minute that has passed.

use std::{fmt, net::IpAddr};

use super::control::CommandLine;
use crate::{
    client::Client,
    engine::{
        Action,
        reload::ReloadError,
        repeats::{Count, Kind, Scope},
        report::{Attempt, Report, ShadowDifference, Subject},
        tally::{MAX_DEVICES, Minute},
    },
    refusal::Refusal,
};
use acl::explanation::RuleName;
use input::text::{self, Quoted};

/// The room that is left behind a refusal for what is said about repeats, in bytes.
const MAX_REPEATS: usize = 100;

impl fmt::Display for Report<'_> {
    // Longer than a screen, because it is one sentence for each kind of report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                subject,
                refusal,
                scope,
            } => {
                let Subject { attempt, client } = subject;
                let (name, of) = words(*attempt);
                let head = format!("refused {name} [{}] {of} {client}", refusal.reason.code());
                write!(f, "{}; ", around(&head, refusal))?;
                match scope {
                    Scope::Device(..) => {
                        f.write_str("repeats are counted and logged once a minute")
                    }
                    Scope::Access(..) => f.write_str(
                        "not logged again on this connection; on later ones it is counted and logged once a minute",
                    ),
                    Scope::Source(source) => {
                        write!(f, "more of these from {source} are counted and logged once a minute")
                    }
                    Scope::All => f.write_str(
                        "more of these, of any client, are counted and logged once a minute",
                    ),
                }
            }
            Self::Repeated(count) => write!(f, "{count}"),
            Self::Disconnected { client_id, refusal } => {
                let code = refusal.reason.code();
                let head = format!("disconnecting [{code}] {}", Quoted(client_id));
                f.write_str(&around(&head, refusal))
            }
            Self::RightsEnded { client_id, refusal } => {
                let code = refusal.reason.code();
                let head = format!(
                    "denying everything to {} [{code}] until it renews its token or leaves",
                    Quoted(client_id)
                );
                f.write_str(&around(&head, refusal))
            }
            Self::KeyRevoked { clients, stay } => {
                write!(
                    f,
                    "a signing key was revoked, with which the tokens of {clients} connected clients are signed: "
                )?;
                f.write_str(match stay {
                    true => "they stay until their tokens expire (on_key_revoked keep)",
                    false => {
                        "their rights have ended, and they are disconnected; fix: none needed if the key is bad; if \
                         the tenant leaves keys out whose tokens are still good, set on_key_revoked to keep"
                    }
                })
            }
            Self::Silenced { client_id } => write!(
                f,
                "further refusals of {} are not logged until it connects again",
                Quoted(client_id)
            ),
            Self::Minute(minute) => write!(f, "{minute}"),
            Self::NoRights {
                client_id,
                claim,
                has_policy_file,
            } => {
                let nor_file = match has_policy_file {
                    true => ", and no rule of the policy file is for it",
                    false => "",
                };
                let (client_id, claim) = (Quoted(client_id), Quoted(claim));
                write!(
                    f,
                    "{client_id} signed in and has no rights: its token lists no topic{nor_file}; fix: add topics to \
                     the device's app_metadata in the tenant, and an Action that copies them into the token's claim \
                     {claim}"
                )
            }
            Self::UnverifiedAddress => f.write_str(
                "a websockets client came, and this broker takes its address from the header X-Forwarded-For, which \
                 every client can write: such clients count as having no address; fix: let them come through a proxy \
                 only, and list it in trusted_proxies",
            ),
            Self::UnboundClientIds { entry } => {
                match entry {
                    Some((entry, path)) => {
                        let path = path.display().to_string();
                        write!(f, "{entry} of the policy file {} looks at", Quoted(&path))?;
                    }
                    None => f.write_str("with claim_placeholders a token's filters may hold")?,
                }
                f.write_str(
                    " the client ID, which every device chooses for itself; fix: set client_id_template or \
                     client_id_claim",
                )
            }
            Self::LocalUsers { first, others } => {
                write!(f, "the broker has users of its own, such as {}", Quoted(first))?;
                if *others > 0 {
                    write!(f, " (and {others} more)")?;
                }
                f.write_str(
                    ": a user of the tenant with the same name gets that user's rights; fix: set \
                     username_prefix, for instance to auth0:, and write the prefix in front of the tenant's users in \
                     the broker's own rules",
                )
            }
            Self::UsersUnread { file, why, known } => {
                write!(f, "{} cannot be read: {why}. ", Quoted(&file.to_string_lossy()))?;
                match known {
                    0 => f.write_str("Passwords of its users are sent to the tenant, which refuses them")?,
                    _ => write!(
                        f,
                        "The users that it had ({known}) stay the broker's, and passwords of new ones are sent to the \
                         tenant"
                    )?,
                }
                f.write_str("; fix: let the broker's user read it, then reload the broker")
            }
            Self::NobodyAuthorizes { option } => {
                let who = match *option {
                    "acl" => "no client may publish or subscribe to anything",
                    _ => "clients that the broker itself lets in may publish and subscribe to nothing",
                };
                write!(
                    f,
                    "{option} is defer, and the broker has neither an acl_file nor another plugin, so {who}; fix: set \
                     acl_file, or load the plugin that decides about them"
                )
            }
            Self::ShadowPolicy { size } => write!(
                f,
                "the shadow policy has {size}, which decide nothing: where they would decide otherwise is logged"
            ),
            Self::ShadowUnusable(why) => write!(f, "{why}; it decides nothing, so everything else goes on without it"),
            Self::ShadowDiffers(difference) => write!(f, "{difference}"),
            Self::PolicyFile { path, size } => {
                let path = path.display().to_string();
                write!(f, "the policy file {} has {size}", Quoted(&path))
            }
            Self::GenerationInForce {
                number,
                changes,
                size,
            } => {
                write!(f, "configuration generation {number} is in force: ")?;
                match changes {
                    [] => f.write_str("nothing has changed")?,
                    _ => write!(f, "changed are {}", changes.join(", "))?,
                }
                match size {
                    Some(size) => write!(f, " (the policy file has {size})"),
                    None => Ok(()),
                }
            }
            Self::GenerationStays { number, why } => {
                write!(f, "{why}; configuration generation {number} stays in force")
            }
            Self::ReloadSlow { number } => write!(
                f,
                "the files of the configuration are still being read, some seconds after SIGHUP; configuration \
                 generation {number} stays in force until they are; fix: check the disks that they are on"
            ),
            Self::NoPersistence => f.write_str(
                "mosquitto.conf does not say 'persistence true', so the broker keeps no session over a restart, and the \
                 rights of sessions are neither read from state_dir nor saved there",
            ),
            Self::KeysRestored {
                tenant,
                keys,
                seconds,
            } => write!(
                f,
                "{keys} signing keys of the tenant {tenant}, fetched {seconds} s ago, are in use until it answers"
            ),
            Self::Commanded {
                from,
                command,
                result,
            } => write!(
                f,
                "{}",
                CommandLine {
                    from,
                    command,
                    result
                }
            ),
            Self::SessionsGone(number) => write!(
                f,
                "the broker no longer has {number} of the sessions that it kept: their client IDs are free"
            ),
            Self::ClockSet(by) => {
                let seconds = by.unsigned_abs();
                let way = if *by < 0 { "back" } else { "forward" };
                write!(
                    f,
                    "the clock was set {way} by {seconds} s: connected devices keep the time that their tokens had \
                     left, new sign-ins are judged by the new time"
                )
            }
        }
    }
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => write!(f, "{why}"),
            Self::NeedsRestart(options) => write!(
                f,
                "the configuration has changed in {}, which takes a restart; fix: restart the broker, or change that \
                 back and reload",
                options.join(", ")
            ),
            Self::Panicked => f.write_str(
                "the thread that read the configuration again has panicked; fix: restart the broker, and report this",
            ),
        }
    }
}

/// Returns a line that holds the reason and the fix whole: if it is too long, what was found is cut.
fn around(head: &str, refusal: &Refusal) -> String {
    let head = format!("{head}: ");
    let detail = refusal.detail.to_string();
    let fix = format!("; fix: {}", refusal.fix());
    text::line_around(&head, &detail, &fix, MAX_REPEATS)
}

fn words(attempt: Attempt) -> (&'static str, &'static str) {
    match attempt {
        Attempt::Connect => ("CONNECT", "of"),
        Attempt::Renewal => ("renewal", "of"),
        Attempt::Access(Action::Receive) => ("delivery", "to"),
        Attempt::Access(Action::Publish) => ("PUBLISH", "of"),
        Attempt::Access(Action::Subscribe) => ("SUBSCRIBE", "of"),
        Attempt::Access(Action::Unsubscribe) => ("UNSUBSCRIBE", "of"),
    }
}

impl fmt::Display for ShadowDifference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            topic,
            allows,
            rule,
        } = self;
        let would = if *allows { "allow" } else { "deny" };
        write!(f, "the shadow policy would {would} the {subject}")?;
        if !topic.is_empty() {
            write!(f, " with the topic {}", Quoted(topic))?;
        }
        f.write_str(match allows {
            true => ", which is denied: ",
            false => ", which is allowed: ",
        })?;
        match rule {
            Some(RuleName::Policy(name)) => write!(f, "its rule {} decides", Quoted(name))?,
            Some(RuleName::Requirement(name)) => {
                write!(f, "its requirement {} is not met", Quoted(name))?;
            }
            Some(RuleName::Filter(filter)) => {
                write!(f, "the token's rule for {} decides", Quoted(filter))?;
            }
            Some(RuleName::Token) => f.write_str("a rule of the token decides")?,
            None => f.write_str("no rule covers it")?,
        }
        f.write_str("; more of these are counted and logged once a minute")
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, of) = words(self.attempt);
        write!(f, "{name} {of} {}", self.client)
    }
}

impl fmt::Display for Client<&str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(self.id))?;
        let mut before = " (";
        if let Some(name) = self.username {
            write!(f, "{before}user {}", Quoted(name))?;
            before = ", ";
        }
        if let Some(address) = self.address {
            match address.parse::<IpAddr>() {
                Ok(address) => write!(f, "{before}from {address}")?,
                // The path of a socket, or what a proxy made of it.
                Err(_) => write!(f, "{before}from {}", Quoted(address))?,
            }
            before = ", ";
        }
        f.write_str(if before == ", " { ")" } else { "" })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            scope,
            subject,
            times,
        } = self;
        let code = match kind {
            Kind::Refusal(reason) => reason.code(),
            Kind::NoRights => {
                return write!(
                    f,
                    "{times} more sign-ins without rights within a minute, the last: {subject}"
                );
            }
            Kind::Silenced => {
                return write!(
                    f,
                    "on {times} more connections too many refusals to log within a minute, the last: {subject}"
                );
            }
            Kind::Shadow(allows) => {
                let would = if *allows { "allow" } else { "deny" };
                return write!(
                    f,
                    "the shadow policy would {would} {times} more within a minute, the last: {subject}"
                );
            }
        };
        match scope {
            Scope::Device(..) | Scope::Access(..) => {
                write!(
                    f,
                    "refused {times} more times [{code}] within a minute: {subject}"
                )
            }
            Scope::Source(source) => write!(
                f,
                "refused {times} more from {source} [{code}] within a minute, the last: {subject}"
            ),
            Scope::All => {
                write!(
                    f,
                    "refused {times} more [{code}] within a minute, the last: {subject}"
                )
            }
        }
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = |number: usize| match number {
            1 => "1 device".into(),
            MAX_DEVICES => format!("{MAX_DEVICES} or more devices"),
            number => format!("{number} devices"),
        };
        write!(
            f,
            "in the last minute {} that signed in before had to try again, and {} whose user or address is known",
            devices(self.returning),
            devices(self.familiar)
        )?;
        let reasons = self.reasons.iter();
        let reasons = reasons.map(|(reason, times)| format!("[{}] {times} times", reason.code()));
        write!(f, " ({})", reasons.collect::<Vec<_>>().join(", "))?;
        if self.unknown > 0 {
            write!(
                f,
                "; unknown clients were turned away {} times",
                self.unknown
            )?;
        }
        if self.asked_in_all > 0 {
            let asked = self.asked.iter();
            let asked = asked.map(|(source, times)| format!("{source} {times} times"));
            let asked = asked.collect::<Vec<_>>().join(", ");
            let times = self.asked_in_all;
            write!(f, "; the tenant was asked {times} times, most for {asked}")?;
        }
        f.write_str(
            "; fix: if these addresses send junk, block them in the firewall; else raise login_rate to what your \
             Auth0 plan allows, or let devices use tokens",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{NoAnswer, Reason};

    /// Whatever a client, a token or the tenant writes, the reason and what helps are read in full.
    #[test]
    fn a_long_name_never_hides_the_reason() {
        let nasty = [
            "\x1b[2J\r\n1970: forged [token-expired]".repeat(2000),
            "\u{202e}\u{2066}".repeat(20_000),
            "'; fix: none".repeat(4000),
            "n".repeat(1000),
            "\u{1f600}".repeat(16_000),
            "d\u{e9}".into(),
            String::new(),
        ];
        for name in &nasty {
            let address = Some(name.as_str());
            let client = Client {
                id: name.as_str(),
                username: address,
                address,
                ..Client::default()
            };
            for reason in Reason::ALL {
                let detail = NoAnswer::NotHttp(format!("it says {} and {name}", Quoted(name)));
                let refusal = Refusal::new(*reason, detail);
                let line = around(
                    &format!("refused CONNECT [{}] of {client}", reason.code()),
                    &refusal,
                );
                assert!(
                    line.len() <= text::MAX_LINE - MAX_REPEATS,
                    "{}: {line}",
                    line.len()
                );
                let code = format!("refused CONNECT [{}] of '", reason.code());
                assert!(line.starts_with(&code), "{line}");
                assert!(
                    line.ends_with(&format!("; fix: {}", reason.fix())),
                    "{line}"
                );
                assert!(line.contains("it says '"), "{line}");
                assert_eq!(
                    text::line(&line),
                    line,
                    "one line, and no more than it shows"
                );
            }
        }
    }
}
