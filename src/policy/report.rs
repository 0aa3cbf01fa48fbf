//! What the operator is told of refusals: who, why, and what helps; and not the same thing for ever.

use std::{collections::HashMap, fmt};

use super::{Access, Action, Policy, lock};
use crate::{
    clock::Unix,
    log::Level,
    logins::Claimant,
    refusal::{Fault, Reason, Refusal, Told},
    sessions::{Asker, Note, Noted},
    text::Quoted,
};

/// How long, in seconds, a trouble that concerns every device stays reported.
const REPORT_AGAIN: u64 = 60;

#[derive(Default)]
pub(super) struct Reports {
    strangers: Noted,
    strangers_since: Option<Unix>,
    troubles: HashMap<Reason, (Unix, u64)>,
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
        // What the device is not to blame for concerns all of them: once a minute is enough.
        if matches!(refusal.reason.told(), Told::Unavailable | Told::Busy) {
            let mut reports = lock(&self.reports);
            match reports.troubles.get_mut(&refusal.reason) {
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
            reports.troubles.insert(refusal.reason, (now, 0));
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
