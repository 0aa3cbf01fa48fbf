//! What a client may do: asked at every message, answered from memory.

use super::{Policy, lock};
use crate::{
    clock::Unix,
    log::Level,
    refusal::{Reason, Refusal},
    rules::Ask,
    sessions::{Client, Note},
    text::Quoted,
};

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Be sent a message.
    Receive,
    /// Send a message, or have its will sent.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
    /// End a subscription.
    Unsubscribe,
}

/// A question about a message or a subscription. Texts are bytes here, to be compared with text: that
/// they are UTF-8 themselves is looked at only where it matters, because this is asked at every
/// message.
#[derive(Debug)]
pub struct Access<'a> {
    /// Who.
    pub client: Client,
    /// The client id.
    pub client_id: &'a [u8],
    /// The user name the broker has.
    pub username: Option<&'a [u8]>,
    /// Whether there is a connection (an address).
    pub connected: bool,
    /// What.
    pub action: Action,
    /// The topic, or the filter.
    pub topic: &'a [u8],
    /// The QoS, of the message or asked for.
    pub qos: u8,
    /// The message's retain flag.
    pub retain: bool,
    /// The length of its payload, in bytes.
    pub payload: u32,
}

/// What becomes of a message or a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
    /// Others decide: another plugin, or the broker's own files.
    Defer,
}

impl Policy {
    /// A client wants to do something.
    pub fn authorise(&self, access: &Access, now: Unix) -> Decision {
        let mut sessions = self.sessions();
        let Some(found) = sessions.find(
            access.client,
            access.client_id,
            access.username,
            access.connected,
        ) else {
            drop(sessions);
            // Who waits for the tenant is nobody yet, and is denied (its will, if it hangs up).
            if self.config.defer_others && !lock(&self.arrivals).has(access.client) {
                return Decision::Defer;
            }
            self.report_stranger(access, now);
            return Decision::Deny;
        };
        let session = found.session;
        if let Some(policy) = &self.policy_file {
            session.rights.renew(policy);
        }
        let what = match access.action {
            Action::Publish => Ask::Publish {
                qos: access.qos,
                retain: access.retain,
                payload: access.payload,
            },
            // When a client leaves, the broker asks again about its subscriptions, with QoS 0.
            Action::Subscribe if !found.send_expires => Ask::Subscribe { qos: None },
            Action::Subscribe => Ask::Subscribe {
                qos: Some(access.qos),
            },
            Action::Receive | Action::Unsubscribe => Ask::Receive,
        };
        let expires = if access.action == Action::Receive {
            found.receive_expires
        } else {
            found.send_expires
        };
        let reason = match access.action {
            _ if expires && now >= session.until && access.action != Action::Unsubscribe => {
                Reason::RightsExpired
            }
            _ if self.config.defer_acl => return Decision::Defer,
            // To want less is always allowed.
            Action::Unsubscribe if std::str::from_utf8(access.topic).is_ok() => {
                return Decision::Allow;
            }
            // A client that leaves asks for nothing new: the broker goes through what it has, and drops
            // what is denied now. It may be its hour again when it comes back, and each delivery is looked
            // at by itself.
            Action::Subscribe if !found.send_expires && self.policy_file.is_some() => {
                return Decision::Allow;
            }
            _ if session.rights.allow(what, access.topic, now) => return Decision::Allow,
            _ => Reason::NotGranted,
        };
        let note = found.noted.note((reason, access.action, access.topic));
        if note != Note::Silent {
            let topic = String::from_utf8_lossy(access.topic);
            let detail = match reason {
                Reason::RightsExpired => "its token has expired".into(),
                _ => format!(
                    "{} is not allowed: {}",
                    Quoted(&topic),
                    session.rights.why_not(what, &topic, now)
                ),
            };
            self.report_refused_access(access, &Refusal::new(reason, detail));
        }
        if note == Note::ReportLast {
            self.log.line(
                Level::Notice,
                format!(
                    "further refusals of {} are not logged until it connects again",
                    Quoted(&String::from_utf8_lossy(access.client_id))
                ),
            );
        }
        Decision::Deny
    }
}
