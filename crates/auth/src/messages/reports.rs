//! Lines of the log about refusals, and about the minute that has passed.

use std::{fmt, net::IpAddr};

use crate::{
    client::Client,
    policy::{
        Action,
        repeats::{Count, Scope},
        report::{Attempt, Report, Subject},
        tally::{MAX_DEVICES, Minute},
    },
    refusal::Refusal,
};
use input::text::{self, Quoted};

/// The room that is left behind a refusal for what is said about repeats, in bytes.
const MAX_REPEATS: usize = 100;

impl fmt::Display for Report<'_> {
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
                        f.write_str("repeats are counted, and told once a minute")
                    }
                    Scope::Access(_) => f.write_str(
                        "not told again on this connection; after others it is counted, and told once a minute",
                    ),
                    Scope::Source(source) => {
                        write!(f, "more of these from {source} are counted, and told once a minute")
                    }
                    Scope::All => f.write_str(
                        "more of these, of any client, are counted, and told once a minute",
                    ),
                }
            }
            Self::Repeated(count) => write!(f, "{count}"),
            Self::Disconnected { client_id, refusal } => {
                let code = refusal.reason.code();
                let head = format!("disconnecting [{code}] {}", Quoted(client_id));
                f.write_str(&around(&head, refusal))
            }
            Self::Minute(minute) => write!(f, "{minute}"),
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
        Attempt::Access(Action::Receive) => ("delivery", "to"),
        Attempt::Access(Action::Publish) => ("PUBLISH", "of"),
        Attempt::Access(Action::Subscribe) => ("SUBSCRIBE", "of"),
        Attempt::Access(Action::Unsubscribe) => ("UNSUBSCRIBE", "of"),
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
            reason,
            scope,
            subject,
            times,
        } = self;
        let code = reason.code();
        match scope {
            Scope::Device(..) | Scope::Access(_) => {
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
            "in the last minute {} that came in before had to try again, and {} whose user or address did",
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
    use crate::refusal::Reason;

    /// Whatever a client, a token or the tenant writes, the reason and what helps are read in full.
    #[test]
    fn no_name_pushes_a_reason_out_of_the_line() {
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
                let detail = format!("it says {} and {name}", Quoted(name));
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
