//! What the operator is told of refusals: who, why, and what helps; and not the same thing for ever.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

use super::{Access, Action, Policy, lock};
use crate::{
    clock::{Unix, moment},
    log::Level,
    logins::Claimant,
    refusal::{Fault, Reason, Refusal, Told},
    sessions::{Asker, Note, Noted},
    text::Quoted,
};

/// How long, in seconds, a trouble that concerns every device stays reported.
const REPORT_AGAIN: u64 = 60;

/// Of how many troubles it is known when they were reported.
const MAX_TROUBLES: usize = 4096;

#[derive(Default)]
pub(super) struct Reports {
    strangers: Noted,
    strangers_since: Option<Unix>,
    /// By reason, and where it is a device's own trouble by device: since when, and how often since.
    troubles: HashMap<(Reason, u64), (Unix, u64)>,
    /// When it was told last that the clock was set.
    clock: Option<Instant>,
}

impl Policy {
    pub(super) fn report_refused_connect(&self, claimant: &Claimant, refusal: &Refusal, now: Unix) {
        let (username, address) = (claimant.username.as_deref(), claimant.address.as_deref());
        self.report(
            &Who {
                client_id: &claimant.client_id,
                username,
                address,
            },
            refusal,
            now,
        );
    }

    pub(super) fn report(&self, who: &Who, refusal: &Refusal, now: Unix) {
        let mut more = String::new();
        // Whoever is to try again does: once a minute is enough. What the device is not to blame for
        // concerns all of them, and one line is for all; what it is to blame for has a line for each.
        if matches!(refusal.reason.told(), Told::Unavailable | Told::Busy) {
            let device = match refusal.reason.fault() {
                Fault::Device | Fault::Account => hash(who.client_id),
                Fault::Passing | Fault::Configuration => 0,
            };
            let key = (refusal.reason, device);
            let mut reports = lock(&self.reports);
            if reports.troubles.len() > MAX_TROUBLES {
                reports.troubles.clear();
            }
            match reports.troubles.get_mut(&key) {
                // A clock that was set back must not silence it for hours.
                Some((since, silent)) if (*since..since.plus(REPORT_AGAIN)).contains(&now) => {
                    *silent += 1;
                    return;
                }
                Some((_, silent @ 1..)) => {
                    more = format!(
                        "; {silent} more were refused for this reason since the last such line"
                    )
                }
                _ => {}
            }
            reports.troubles.insert(key, (now, 0));
        }
        let level = match refusal.reason.fault() {
            Fault::Device => Level::Notice,
            Fault::Account | Fault::Passing => Level::Warning,
            Fault::Configuration => Level::Error,
        };
        self.log
            .line(level, format!("refused CONNECT of {who} {refusal}{more}"));
    }

    pub(super) fn report_refused_access(&self, access: &Access<impl Asker>, refusal: &Refusal) {
        let what = match access.action {
            Action::Receive => "delivery to",
            Action::Publish => "PUBLISH of",
            Action::Subscribe => "SUBSCRIBE of",
            Action::Unsubscribe => "UNSUBSCRIBE of",
        };
        let client_id = String::from_utf8_lossy(access.who.client_id());
        let username = access.who.username().map(String::from_utf8_lossy);
        let who = Who {
            client_id: &client_id,
            username: username.as_deref(),
            address: None,
        };
        self.log
            .line(Level::Notice, format!("refused {what} {who} {refusal}"));
    }

    /// The wall clock was set by this many seconds: told once a minute, for a clock that will not settle.
    pub fn report_clock(&self, by: i64) {
        let told = lock(&self.reports).clock.replace(moment());
        if told.is_some_and(|at| at.elapsed().as_secs() < REPORT_AGAIN) {
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

    pub(super) fn report_stranger(&self, access: &Access<impl Asker>, now: Unix) {
        let note = {
            let mut reports = lock(&self.reports);
            if reports
                .strangers_since
                .is_none_or(|since| !(since..since.plus(REPORT_AGAIN)).contains(&now))
            {
                reports.strangers = Noted::default();
                reports.strangers_since = Some(now);
            }
            reports
                .strangers
                .note((access.who.client_id(), access.action))
        };
        if note != Note::Silent {
            let refusal = Refusal::new(
                Reason::UnknownClient,
                format!(
                    "it has not signed in, so {} is refused",
                    Quoted(&String::from_utf8_lossy(access.topic))
                ),
            );
            self.report_refused_access(access, &refusal);
        }
    }
}

pub(super) struct Who<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub address: Option<&'a str>,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Quoted(self.client_id))?;
        match (self.username, self.address) {
            (None, None) => Ok(()),
            (Some(name), None) => write!(f, " (user {})", Quoted(name)),
            (None, Some(address)) => write!(f, " (from {address})"),
            (Some(name), Some(address)) => write!(f, " (user {}, from {address})", Quoted(name)),
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, keys::store::Pace, log::Log, policy::Common, threads};

    #[test]
    fn a_trouble_of_all_has_one_line_and_one_of_a_device_hides_no_other_s() {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut secret, &[b'x'; 32]).unwrap();
        let options = [
            ("issuer", "https://t.example/"),
            ("audience", "https://mqtt.example/"),
            ("algorithms", "HS256"),
            ("hs256_secret_file", secret.path().to_str().unwrap()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let log = Log::default();
        let config = Config::read(options.to_vec()).unwrap();
        let spawn = threads::plain;
        let common = Common::default();
        let policy = Policy::new(config, Pace::default(), log.clone(), spawn, &common).unwrap();
        let lines = |client_id, reason, now| {
            let who = Who {
                client_id,
                username: None,
                address: None,
            };
            policy.report(&who, &Refusal::new(reason, ""), Unix(now));
            log.take().len()
        };
        assert_eq!(lines("a", Reason::LoginRate, 0), 1);
        assert_eq!(lines("b", Reason::LoginRate, 1), 0, "it is everybody's");
        assert_eq!(lines("a", Reason::LoginBackoff, 2), 1);
        assert_eq!(lines("b", Reason::LoginBackoff, 3), 1);
        assert_eq!(lines("a", Reason::LoginBackoff, 4), 0, "within a minute");
        assert_eq!(lines("a", Reason::LoginBackoff, 70), 1);
        assert_eq!(lines("a", Reason::LoginRefused, 71), 1);
        assert_eq!(
            lines("a", Reason::LoginRefused, 71),
            1,
            "each of these is news"
        );
    }
}
