//! The plugin's own topics, and the commands of administrators.
//!
//! A client that signed in publishes its new token to [`RENEW`]. An administrator publishes commands to [`COMMANDS`],
//! in the JSON that operators know from Mosquitto's dynamic-security plugin. Answers go to the sender alone.
//!
//! * this file: the topics
//! * [`command`]: what can be commanded, and how it is read from JSON
//! * [`response`]: what comes of it
//! * [`requests`]: commands that wait for their turn
//! * [`pace`]: how often a client may renew
//! * [`socket`]: the same commands without a token, for root and the broker's user on this machine
//!
//! `engine/published_renewal.rs` takes new tokens, `engine/administration.rs` executes commands, and
//! `messages/control.rs` writes the JSON of the answers.

pub(crate) mod command;
pub(crate) mod pace;
pub(crate) mod requests;
pub(crate) mod response;
pub(crate) mod socket;

/// The name of the socket in `state_dir` through which root and the broker's user command.
pub const SOCKET: &str = "control.sock";

/// The most commands of one request.
pub const MAX_COMMANDS: usize = 16;

/// The most sessions of a page.
pub const MAX_PAGE: u64 = 1000;

/// The topic to which a client publishes its new token.
pub const RENEW: &str = "$CONTROL/auth0/v1/renew";

/// The topic on which it gets the answer.
pub const RENEW_RESPONSE: &str = "$CONTROL/auth0/v1/renew/response";

/// The topic to which administrators publish commands.
pub const COMMANDS: &str = "$CONTROL/auth0/v1";

/// The topic on which they get the answer.
pub const COMMANDS_RESPONSE: &str = "$CONTROL/auth0/v1/response";

/// The topic on which a client is told that its rights end soon.
pub const EXPIRY: &str = "$CONTROL/auth0/v1/expiry";

/// One of the plugin's own topics, or a filter for some of them. No rule is about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlTopic {
    /// [`RENEW`].
    Renew,
    /// [`COMMANDS`].
    Commands,
    /// Any other. The plugin alone publishes there.
    Other,
}

impl ControlTopic {
    /// Returns which of the plugin's own topics this is; `None` if it is none of them.
    pub fn of(topic: &[u8]) -> Option<Self> {
        let rest = topic.strip_prefix(b"$CONTROL/auth0")?;
        if !rest.is_empty() && rest[0] != b'/' {
            return None;
        }
        Some(match topic {
            _ if topic == RENEW.as_bytes() => Self::Renew,
            _ if topic == COMMANDS.as_bytes() => Self::Commands,
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_told_apart_exactly() {
        use ControlTopic::{Commands, Other, Renew};
        for (topic, which) in [
            (RENEW, Some(Renew)),
            (COMMANDS, Some(Commands)),
            (RENEW_RESPONSE, Some(Other)),
            (COMMANDS_RESPONSE, Some(Other)),
            ("$CONTROL/auth0", Some(Other)),
            ("$CONTROL/auth0/#", Some(Other)),
            ("$CONTROL/auth0/v1/renew/", Some(Other)),
            ("$CONTROL/auth0/v1/", Some(Other)),
            ("$CONTROL/auth00/v1", None),
            ("$CONTROL/dynamic-security/v1", None),
            ("$CONTROL/#", None),
            ("$control/auth0/v1", None),
            ("a/$CONTROL/auth0/v1", None),
            ("", None),
        ] {
            assert_eq!(ControlTopic::of(topic.as_bytes()), which, "{topic}");
        }
    }
}
