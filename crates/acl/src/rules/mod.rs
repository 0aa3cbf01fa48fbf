//! Rules about topics, and the one that decides.
//!
//! A rule allows or denies publishing, subscribing, or both, on the topics of a filter, within limits. *The first rule
//! that applies decides*; a request to which no rule applies is denied. (The first rule, and not "deny wins", because
//! that is how EMQX reads its `acl` claim.)
//!
//! * this file: a rule, and a request
//! * [`filter`]: topic names and topic filters · [`template`]: filters with placeholders
//! * [`compile`] and [`matcher`]: many rules, compiled so that more rules do not slow down the search for the first one
//!   that applies
//! * [`bind`]: the values of the placeholders for one client · [`windows`]: which time windows are open
//!
//! When a rule applies:
//!
//! * A message is published, or a will sent: the filter matches the topic, and QoS, retain flag and payload are within
//!   the limits. A rule whose limits are exceeded does not apply; it does not deny.
//! * A filter is subscribed to: the rule's filter *covers* it, that is, matches every topic that it matches, level by
//!   level, so `+/#` is not taken to cover `#`; and the requested QoS is within the limits. A deny rule that covers
//!   only a part of a subscription does not refuse it. The messages that the rule denies are held back one by one.
//! * A message is delivered: a rule about subscribing applies if its filter matches the topic. The broker does not say
//!   with which QoS the client subscribed, so both effects err on the safe side: a rule that allows some QoS lets the
//!   message through, and only a rule that denies every QoS holds it back. (A subscription with a denied QoS is refused
//!   when it is made.)
//!
//! A wildcard at the beginning never matches topics that begin with `$` (MQTT 5.0, section 4.7.2). This also holds for
//! deny rules.

pub(crate) mod bind;
pub(crate) mod compile;
pub(crate) mod filter;
mod levels;
pub(crate) mod matcher;
pub(crate) mod template;
pub(crate) mod windows;

pub use bind::{UnusableValue, ValueProblem};
pub use filter::Malformed;
pub use matcher::Ruling;
pub use template::{Placeholder, Template};

use std::sync::Arc;

use crate::{client::ClientAttributes, policy_file::conditions::Condition};

/// What a rule does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The message or subscription is allowed.
    Allow,
    /// It is denied.
    Deny,
}

impl Effect {
    /// Returns the keyword in policy files.
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What a rule applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actions {
    /// Messages that a client sends.
    Publish,
    /// Subscriptions, and messages that a client is sent.
    Subscribe,
    /// Both.
    Both,
}

/// The limits of a rule. The rule does not apply to a request that exceeds one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The QoS levels: bit 0 for QoS 0, and so on. For a subscription, the requested QoS counts.
    pub qos: u8,
    /// Messages with (or without) the retain flag only. Publishing only.
    pub retain: Option<bool>,
    /// The longest payload, in bytes. Publishing only.
    pub max_payload: u32,
}

impl Limits {
    /// No limit.
    pub(crate) const NONE: Self = Self {
        qos: 0b111,
        retain: None,
        // An MQTT packet has at most 256 MB (MQTT 5.0, section 1.5.5).
        max_payload: u32::MAX,
    };
}

/// One rule, with one filter.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What the rule does when it applies.
    pub effect: Effect,
    /// The actions that it applies to.
    pub actions: Actions,
    /// The topics that it applies to.
    pub filter: Template,
    /// Whether the rule applies only to a subscription to exactly this filter (EMQX's `eq`). For deliveries the filter
    /// of an allow rule still matches topics, because the messages of the subscription have to arrive. That of a deny
    /// rule does not, because only the subscription is denied.
    pub literal: bool,
    /// Its limits.
    pub limits: Limits,
    /// What must hold for a client. Only rules in tokens have conditions of their own; those of a policy file's rule
    /// are about all its filters.
    pub(crate) conditions: Arc<[Condition]>,
}

impl Rule {
    /// Returns a rule that allows publishing and subscribing, without limits.
    pub fn allow(filter: Template) -> Self {
        Self {
            effect: Effect::Allow,
            actions: Actions::Both,
            filter,
            literal: false,
            limits: Limits::NONE,
            conditions: Arc::default(),
        }
    }

    /// Whether it is as [`Rule::allow`] makes it.
    pub(crate) fn is_plain(&self) -> bool {
        self.effect == Effect::Allow
            && self.actions == Actions::Both
            && !self.literal
            && self.limits == Limits::NONE
            && self.conditions.is_empty()
    }

    /// Whether it was written with this one, and so concerns the same clients.
    pub(crate) fn has_conditions_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.conditions, &other.conditions) && self.effect == other.effect
    }

    /// Whether its conditions hold for a client. One of which nobody knows whether it holds does not allow anything,
    /// and does not keep a rule from denying.
    pub(crate) fn concerns(&self, client: &ClientAttributes) -> bool {
        let may_hold = |condition: &Condition| match self.effect {
            Effect::Allow => condition.holds(client),
            Effect::Deny => condition.holds(client) || condition.is_unknown(client),
        };
        self.conditions.iter().all(may_hold)
    }
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRequest {
    /// Publish a message.
    Publish {
        /// Its QoS.
        qos: u8,
        /// Its retain flag.
        retain: bool,
        /// Its payload, in bytes.
        payload: u32,
    },
    /// Subscribe.
    Subscribe {
        /// The requested QoS; `None` if the broker does not tell it, and then no limit is exceeded.
        qos: Option<u8>,
    },
    /// Receive a message.
    Receive,
}

/// Requests in classes, one bit for each combination of action, QoS and retain flag. A request has one bit, or all
/// possible ones where the broker does not tell. A rule has the bits of the requests that its limits allow. So one
/// `and` replaces three comparisons at every message.
mod classes {
    pub(super) const RECEIVE: u16 = 1 << 9;
    pub(super) const SUBSCRIBE: u16 = 0b111 << 6;

    pub(super) const fn subscribe(qos: u8) -> u16 {
        if qos > 2 { 0 } else { 1 << (6 + qos) }
    }

    pub(super) const fn publish(qos: u8, retain: bool) -> u16 {
        if qos > 2 {
            0
        } else {
            1 << (2 * qos + retain as u8)
        }
    }
}

impl AccessRequest {
    /// Returns the bits of this request (see [`classes`]); none if its QoS is invalid.
    #[inline]
    pub(crate) fn classes(self) -> u16 {
        match self {
            Self::Publish { qos, retain, .. } => classes::publish(qos, retain),
            Self::Subscribe { qos: Some(qos) } => classes::subscribe(qos),
            Self::Subscribe { qos: None } => classes::SUBSCRIBE,
            Self::Receive => classes::RECEIVE,
        }
    }

    #[inline]
    fn payload(self) -> u32 {
        match self {
            Self::Publish { payload, .. } => payload,
            Self::Subscribe { .. } | Self::Receive => 0,
        }
    }
}

impl Rule {
    /// Returns the filter as a policy file has it.
    pub(crate) fn written_filter(&self) -> String {
        let eq = if self.literal { "eq " } else { "" };
        format!("{eq}{}", self.filter.text())
    }

    fn publish_classes(&self) -> u16 {
        if self.actions == Actions::Subscribe {
            return 0;
        }
        let mut set = 0;
        for qos in (0..=2).filter(|qos| self.limits.qos >> qos & 1 == 1) {
            for retain in [false, true] {
                if self.limits.retain.is_none_or(|only| only == retain) {
                    set |= classes::publish(qos, retain);
                }
            }
        }
        set
    }

    fn subscribe_classes(&self) -> u16 {
        if self.actions == Actions::Publish {
            return 0;
        }
        (0..=2)
            .filter(|qos| self.limits.qos >> qos & 1 == 1)
            .fold(0, |set, qos| set | classes::subscribe(qos))
    }

    fn receive_classes(&self) -> u16 {
        let some_qos = self.subscribe_classes();
        let applies = match self.effect {
            // A rule that allows no QoS allows no delivery either.
            Effect::Allow => some_qos != 0,
            Effect::Deny => some_qos == classes::SUBSCRIBE,
        };
        if applies { classes::RECEIVE } else { 0 }
    }
}
