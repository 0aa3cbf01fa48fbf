//! What the operator is told of refusals: who, why, and what helps; and not the same thing for ever.

use std::{fmt, net::IpAddr};

use super::{
    Access, Action, Engine,
    repeats::{Count, Scope},
};
use crate::{
    client::{Client, ClientView},
    clock::{Unix, moment},
    limits::source::SourceNetwork,
    log::Level,
    refusal::{Fault, Reason, Refusal, Told},
    sign_in::SignIn,
};
use input::text::{self, Quoted};

/// How long, in seconds, it stays told that the clock was set.
const CLOCK_AGAIN: u64 = 60;

impl Engine {
    pub(super) fn report_refused_connect(
        &mut self,
        sign_in: &SignIn,
        refusal: &Refusal,
        now: Unix,
    ) {
        self.count_refusal(sign_in, refusal);
        self.report(&sign_in.client.borrowed(), refusal, now);
    }

    /// A CONNECT that the broker's boundary could not read.
    pub fn report_unreadable(
        &mut self,
        client_id: &str,
        address: Option<&str>,
        refusal: &Refusal,
        now: Unix,
    ) {
        let client = Client {
            id: client_id,
            address,
            ..Client::default()
        };
        self.report(&client, refusal, now);
    }

    pub(super) fn report(&mut self, client: &Client<&str>, refusal: &Refusal, now: Unix) {
        let reason = refusal.reason;
        let scope = match concerns_all(reason) {
            true => Scope::All,
            false => Scope::device(client.id, SourceNetwork::of(client.address)),
        };
        let subject = Subject {
            what: "CONNECT",
            of: "of",
            client,
        };
        self.tell_once(&subject, scope, refusal, now);
    }

    /// One line for the first of its kind; what repeats it is counted.
    fn tell_once(&mut self, subject: &Subject, scope: Scope, refusal: &Refusal, now: Unix) {
        let reason = refusal.reason;
        let counts = self.repeats.take_due(now);
        let told = self.repeats.note(reason, scope, subject, now);
        self.tell(counts);
        let Some(scope) = told else { return };
        let repeats = match scope {
            Scope::Device(..) => "repeats are counted, and told once a minute".into(),
            Scope::Access(_) => {
                "not told again on this connection; after others it is counted, and told once a minute"
                    .into()
            }
            Scope::Source(source) => {
                format!("more of these from {source} are counted, and told once a minute")
            }
            Scope::All => "more of these, of any client, are counted, and told once a minute".into(),
        };
        let Subject { what, of, client } = subject;
        let line = sentence(
            &format!("refused {what}"),
            format_args!("{of} {client}"),
            refusal,
        );
        self.log.line(level(reason), format!("{line}; {repeats}"));
    }

    /// The wall clock was set by this many seconds: told once a minute, for a clock that will not settle.
    pub fn report_clock(&mut self, by: i64) {
        let told = self.clock_told.replace(moment());
        if told.is_some_and(|at| at.elapsed().as_secs() < CLOCK_AGAIN) {
            return;
        }
        let seconds = by.unsigned_abs();
        let way = if by < 0 { "back" } else { "forward" };
        self.log.line(
            Level::Notice,
            format!(
                "the clock was set {way} by {seconds} s: connected devices keep the time that their tokens had left, \
                 new sign-ins are judged by the new time"
            ),
        );
    }

    /// Tells how often refusals were repeated, when it is time.
    pub fn tell_repeats(&mut self, now: Unix) {
        let counts = self.repeats.take_due(now);
        self.tell(counts);
    }

    /// Tells it now, because the broker stops.
    pub fn tell_last_repeats(&mut self, now: Unix) {
        let counts = self.repeats.take_all(now);
        self.tell(counts);
    }

    fn tell(&self, counts: Vec<Count>) {
        for Count {
            reason,
            scope,
            subject,
            times,
        } in counts
        {
            let code = reason.code();
            let line = match scope {
                Scope::Device(..) | Scope::Access(_) => {
                    format!("refused {times} more times [{code}] within a minute: {subject}")
                }
                Scope::Source(source) => format!(
                    "refused {times} more from {source} [{code}] within a minute, the last: {subject}"
                ),
                Scope::All => {
                    format!("refused {times} more [{code}] within a minute, the last: {subject}")
                }
            };
            self.log.line(level(reason), line);
        }
    }

    pub(super) fn report_refused_access(
        &mut self,
        access: &Access<impl ClientView>,
        refusal: &Refusal,
        now: Unix,
    ) {
        let scope = Scope::access((
            access.client.client_id(),
            access.action,
            access.topic,
            &refusal.detail,
        ));
        self.tell_access(access, scope, refusal, now);
    }

    pub(super) fn report_stranger(&mut self, access: &Access<impl ClientView>, now: Unix) {
        let topic = String::from_utf8_lossy(access.topic);
        let detail = format!("it has not signed in, so {} is refused", Quoted(&topic));
        let refusal = Refusal::new(Reason::UnknownClient, detail);
        let scope = Scope::device(
            (access.client.client_id(), access.action),
            SourceNetwork::Unknown,
        );
        self.tell_access(access, scope, &refusal, now);
    }

    fn tell_access(
        &mut self,
        access: &Access<impl ClientView>,
        scope: Scope,
        refusal: &Refusal,
        now: Unix,
    ) {
        let (what, of) = match access.action {
            Action::Receive => ("delivery", "to"),
            Action::Publish => ("PUBLISH", "of"),
            Action::Subscribe => ("SUBSCRIBE", "of"),
            Action::Unsubscribe => ("UNSUBSCRIBE", "of"),
        };
        let client_id = String::from_utf8_lossy(access.client.client_id());
        let username = access.client.username().map(String::from_utf8_lossy);
        let client = &Client {
            id: &*client_id,
            username: username.as_deref(),
            ..Client::default()
        };
        self.tell_once(&Subject { what, of, client }, scope, refusal, now);
    }
}

/// The longest that is told of repeats behind a refusal, in bytes.
const MAX_REPEATS: usize = 100;

/// A refusal, told: the code before any name, and whole, as is what helps. If it is too long what was found
/// gives way.
pub(super) fn sentence(what: &str, whom: impl fmt::Display, refusal: &Refusal) -> String {
    let head = format!("{what} [{}] {whom}: ", refusal.reason.code());
    let fix = format!("; fix: {}", refusal.fix());
    text::line_around(&head, &refusal.detail, &fix, MAX_REPEATS)
}

/// What was refused, and to whom.
struct Subject<'a> {
    what: &'static str,
    of: &'static str,
    client: &'a Client<&'a str>,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, of, client } = self;
        write!(f, "{what} {of} {client}")
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

/// Whether it is a trouble of all devices, for which one line is enough: whoever is to try again does, and
/// no device is to blame.
fn concerns_all(reason: Reason) -> bool {
    matches!(reason.told(), Told::Unavailable | Told::Busy)
        && matches!(reason.fault(), Fault::Passing | Fault::Configuration)
}

fn level(reason: Reason) -> Level {
    match reason.fault() {
        Fault::Device => Level::Notice,
        Fault::Account | Fault::Passing => Level::Warning,
        Fault::Configuration => Level::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::policy;

    #[test]
    fn a_trouble_of_all_has_one_line_and_one_of_a_device_hides_no_other_s() {
        let (mut policy, log) = policy();
        let lines = |policy: &mut Engine, client_id, reason, now| {
            let client = Client {
                id: client_id,
                ..Client::default()
            };
            policy.report(&client, &Refusal::new(reason, ""), Unix(now));
            let lines = log.take().into_iter();
            lines.map(|(_, line)| line).collect::<Vec<_>>()
        };
        let first = lines(&mut policy, "a", Reason::LoginRate, 0);
        assert_eq!(first.len(), 1);
        assert!(first[0].contains("of any client, are counted, and told once a minute"));
        assert!(
            lines(&mut policy, "b", Reason::LoginRate, 1).is_empty(),
            "it is everybody's"
        );
        let own = lines(&mut policy, "a", Reason::LoginRefused, 2);
        assert!(
            own[0].ends_with("repeats are counted, and told once a minute"),
            "{own:?}"
        );
        assert_eq!(lines(&mut policy, "b", Reason::LoginRefused, 3).len(), 1);
        assert!(lines(&mut policy, "a", Reason::LoginRefused, 4).is_empty());
        assert_eq!(
            lines(&mut policy, "a", Reason::LoginBackoff, 5).len(),
            1,
            "other news"
        );
        policy.tell_repeats(Unix(59));
        assert!(log.is_empty());
        policy.tell_repeats(Unix(62));
        let told: Vec<_> = log.take().into_iter().map(|(_, line)| line).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        let all = "refused 1 more [login-rate] within a minute, the last: CONNECT of 'b'";
        assert!(told.iter().any(|line| line == all), "{told:?}");
        let one = "refused 1 more times [login-refused] within a minute: CONNECT of 'a'";
        assert!(told.iter().any(|line| line == one), "{told:?}");
        lines(&mut policy, "a", Reason::LoginRefused, 63);
        policy.tell_last_repeats(Unix(64));
        assert_eq!(log.take().len(), 1);
    }

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
                let line = sentence("refused CONNECT", format_args!("of {client}"), &refusal);
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
