//! Rules about topics, and the one that decides.
//!
//! A rule allows or denies to publish, to subscribe, or both, on the topics of a filter, within
//! limits. *The first rule that fits decides*; what no rule fits is denied. (First and not "deny
//! wins", because lists in the form of EMQX's `acl` claim are read so.)
//!
//! * this file: a rule, and what is asked
//! * [`filter`]: what is a topic, what is a filter · [`template`]: filters with placeholders
//! * [`tree`]: many rules compiled, so that the first that fits is found at a price that does not
//!   grow with their number · [`bind`]: what placeholders stand for, for one client
//!
//! What fits:
//!
//! * A message is published, or a will sent: the filter matches the topic, and QoS, retain flag and
//!   payload are within the limits. A rule whose limits are exceeded does not fit; it does not deny.
//! * A filter is subscribed to: the rule's filter *covers* it, that is, matches whatever it matches,
//!   level by level, so `+/#` is not taken to cover `#`; and the QoS asked for is within the limits.
//!   A deny rule that covers only a part of a subscription does not refuse it: what it would bring is
//!   held back message by message.
//! * A message is delivered: a rule about subscribing fits if its filter matches the topic. Nothing about
//!   the message says with which QoS it was subscribed to, so each effect takes what is safe to be wrong
//!   about: a rule that allows some QoS lets it come, and only a rule that denies every QoS holds it back.
//!   (What is denied with one QoS is refused where it is asked for.)
//!
//! A wildcard in front never reaches topics that begin with `$` (MQTT 5.0, section 4.7.2); neither
//! does it in a deny rule, and need not.

pub mod bind;
pub mod compile;
pub mod filter;
pub mod gates;
mod levels;
pub mod matcher;
pub mod template;

use template::Template;

/// What a rule does where it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It lets it pass.
    Allow,
    /// It does not.
    Deny,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actions {
    /// Messages that a client sends.
    Publish,
    /// Subscriptions, and messages that a client is sent.
    Subscribe,
    /// Both.
    Both,
}

/// Beyond what a rule does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The QoS levels: bit 0 for QoS 0, and so on. Of a subscription it is the one asked for.
    pub qos: u8,
    /// Messages with (or without) the retain flag only. Publishing only.
    pub retain: Option<bool>,
    /// The longest payload, in bytes. Publishing only.
    pub max_payload: u32,
}

impl Limits {
    /// No limit.
    pub const NONE: Self = Self {
        qos: 0b111,
        retain: None,
        // An MQTT packet has at most 256 MB (MQTT 5.0, section 1.5.5).
        max_payload: u32::MAX,
    };
}

/// One rule, with one filter.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it does.
    pub effect: Effect,
    /// About what.
    pub actions: Actions,
    /// On which topics.
    pub filter: Template,
    /// Whether the filter stands for itself: it fits a subscription to exactly it (EMQX's `eq`). For
    /// deliveries an allow rule is then still a filter, because what was subscribed to is to arrive,
    /// and a deny rule is not, because only the subscription was denied.
    pub literal: bool,
    /// Within which limits.
    pub limits: Limits,
}

impl Rule {
    /// Allows publishing and subscribing alike.
    pub fn allow(filter: Template) -> Self {
        Self {
            effect: Effect::Allow,
            actions: Actions::Both,
            filter,
            literal: false,
            limits: Limits::NONE,
        }
    }
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Send a message.
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
        /// The QoS asked for; `None` where the broker does not say, and then no limit is exceeded.
        qos: Option<u8>,
    },
    /// Be sent a message.
    Receive,
}

/// Sets of what can be asked, a bit for each kind that a limit can tell from another. A question is
/// one bit (or some, where the broker does not say which), a rule has those that it fits: one `and`
/// instead of three comparisons at every message.
mod classes {
    pub const RECEIVE: u16 = 1 << 9;
    pub const SUBSCRIBE: u16 = 0b111 << 6;

    pub const fn subscribe(qos: u8) -> u16 {
        if qos > 2 { 0 } else { 1 << (6 + qos) }
    }

    pub const fn publish(qos: u8, retain: bool) -> u16 {
        if qos > 2 {
            0
        } else {
            1 << (2 * qos + retain as u8)
        }
    }
}

impl Ask {
    /// Which kind of question it is, in bits: whatever no limit but that on payloads can tell from it
    /// has the same. Several where the broker does not say which, and none for what there is not.
    #[inline]
    pub fn kinds(self) -> u16 {
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
        let fits = match self.effect {
            // A limit that nothing is within leaves nothing to be sent either.
            Effect::Allow => some_qos != 0,
            Effect::Deny => some_qos == classes::SUBSCRIBE,
        };
        if fits { classes::RECEIVE } else { 0 }
    }
}
