//! The sentences that the boundary to Mosquitto writes. Other modules say what happened as data; here it is displayed.
//! Those of the sign-in are in `auth::messages`.

use std::fmt;

use auth::{
    log::Level,
    refusal::{Reason, Refusal},
};

/// A line of the log.
pub enum Notice {
    /// Two `plugin` lines have the same options and the same listeners.
    NamedTwice,
    /// A further `plugin` line has other options (2.1).
    OtherOptions,
    /// The broker does not hand messages to the control topics over.
    NoControl,
    /// A SIGHUP has to wait from now on.
    SighupDelayed,
    /// These options are others in mosquitto.conf than those that are in force.
    OptionsChanged(Vec<String>),
}

impl Notice {
    /// Returns the level of the line.
    pub fn level(&self) -> Level {
        match self {
            Self::NamedTwice | Self::SighupDelayed => Level::Info,
            Self::OtherOptions => Level::Notice,
            Self::OptionsChanged(_) | Self::NoControl => Level::Warning,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamedTwice => f.write_str(
                "named twice with the same options for the same listeners: only one of them does the work; fix: \
                 remove the other line",
            ),
            Self::OtherOptions => f.write_str(
                "loaded again with other options: these count where the listener has them to itself, by \
                 per_listener_settings true or by plugin_use; with neither, those named first decide for every \
                 listener; fix, if that is not meant: give all plugin lines the same options",
            ),
            Self::NoControl => f.write_str(
                "another plugin has the topics $CONTROL/auth0/v1 and $CONTROL/auth0/v1/renew, or this broker was built \
                 without control topics: clients cannot renew their tokens by publishing, and administrators cannot \
                 command; fix: remove that plugin, or use a broker built WITH_CONTROL",
            ),
            Self::SighupDelayed => f.write_str(
                "SIGHUP is delayed until all clients that wait for the tenant have their answer",
            ),
            Self::OptionsChanged(names) => write!(
                f,
                "mosquitto.conf has other options than those that are in force, in {}: the broker reads the options of \
                 plugins only when it starts; fix: restart it, or move these options to a config_file, which SIGHUP \
                 reads again",
                names.join(", ")
            ),
        }
    }
}

/// Why the plugin does not start, and with it the broker.
pub enum LoadError {
    /// The name of an option is not UTF-8.
    OptionName,
    /// The value of this option is not UTF-8.
    OptionValue(String),
    /// Two `plugin` lines for the same listeners have different options.
    DifferentOptions,
    /// The broker does not let the plugin check logins. This is its code.
    NoBasicAuth(i32),
    /// The broker does not have this event. This is its code.
    NoEvent {
        /// The number of the event.
        event: u32,
        /// The broker's code.
        code: i32,
    },
    /// The sign-in cannot start: a sentence of `auth`.
    SignIn(String),
}

impl From<String> for LoadError {
    fn from(why: String) -> Self {
        Self::SignIn(why)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker does not start: ")?;
        match self {
            Self::OptionName => f.write_str("an option's name is not UTF-8 text"),
            Self::OptionValue(name) => write!(f, "option {name}: its value is not UTF-8 text"),
            Self::DifferentOptions => f.write_str(
                "the plugin is named twice with different options, and per_listener_settings is false, so only the \
                 first would be asked; give both lines the same options, leave one out, or set per_listener_settings \
                 true",
            ),
            Self::NoBasicAuth(code) => write!(
                f,
                "the broker does not let it check logins (code {code}); use Mosquitto 2.0.11 or later"
            ),
            Self::NoEvent { event, code } => write!(
                f,
                "the broker does not offer event {event} (code {code}); use Mosquitto 2.0.11 or later"
            ),
            Self::SignIn(why) => f.write_str(why),
        }
    }
}

/// A fault in the broker or in the plugin. What it interrupts is refused.
pub enum BoundaryFault<'a> {
    /// The plugin panicked.
    Panic {
        /// What the panic says, if that is text.
        why: Option<&'a str>,
        /// The place in the source.
        place: Option<String>,
        /// Which panic it is, counted from 1.
        count: u64,
    },
    /// The broker called on another thread than its own.
    ForeignThread,
    /// The broker sent no event.
    NoEvent,
    /// The event names no client.
    NoClient,
    /// The client has no client ID, or one that is not UTF-8.
    NoClientId,
}

impl From<BoundaryFault<'_>> for Refusal {
    fn from(fault: BoundaryFault) -> Self {
        let reason = match fault {
            BoundaryFault::ForeignThread => Reason::ForeignThread,
            BoundaryFault::Panic { .. }
            | BoundaryFault::NoEvent
            | BoundaryFault::NoClient
            | BoundaryFault::NoClientId => Reason::Internal,
        };
        Self::new(reason, fault.to_string())
    }
}

impl fmt::Display for BoundaryFault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { why, place, count } => write!(
                f,
                "the plugin panicked, and what the client asked for is refused: {} (at {}, panic number {count})",
                why.unwrap_or("no reason given"),
                place.as_deref().unwrap_or("an unknown place")
            ),
            Self::ForeignThread => f.write_str(
                "a login or an access was checked on another thread than the broker's, and is refused",
            ),
            Self::NoEvent => f.write_str("the broker sent no event"),
            Self::NoClient => f.write_str("the broker named no client"),
            Self::NoClientId => f.write_str("the client has no client ID"),
        }
    }
}
