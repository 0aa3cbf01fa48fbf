//! A question: may the device do this? As words of the command line, as a line of a file, or in a list of expectations.
//!
//! A line has the options first, and the rest of it is the topic, which may contain spaces: `publish --qos 1 a/b`.

use std::{fmt, path::Path};

use auth::engine::Action;
use input::text::Quoted;

use crate::{device::Deed, output::Failure};

/// What a device wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// What it does.
    pub(crate) action: Action,
    /// The topic or the filter, as the device names it.
    pub(crate) topic: String,
    /// The QoS.
    pub(crate) qos: u8,
    /// Whether the retain flag is set.
    pub(crate) retain: bool,
    /// The length of the payload, in bytes.
    pub(crate) payload: u32,
}

/// What the broker itself refuses, without asking the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerRefuses {
    /// A message to a topic that begins with `$SYS`.
    Sys,
    /// A message to or from a topic that begins with `$share`.
    Share,
    /// Something that is no topic: it is empty, has a wildcard, or too many levels.
    NoTopic,
    /// Something that is no filter.
    NoFilter,
}

impl Question {
    /// Returns the question of these two words, without anything special; `None` if the first is no action.
    pub(crate) fn new(word: &str, topic: &str) -> Option<Self> {
        Some(Self {
            action: action(word)?,
            topic: topic.to_owned(),
            qos: 0,
            retain: false,
            payload: 0,
        })
    }

    /// Parses a line: `publish TOPIC`, `subscribe FILTER` or `receive TOPIC`, with options before the topic.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, for a person.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let (word, mut rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let mut question = Self::new(word, "").ok_or_else(|| {
            let line = Quoted(line);
            format!("{line} is no question; write publish TOPIC, subscribe FILTER or receive TOPIC")
        })?;
        rest = rest.trim_start();
        while let Some(option) = rest.strip_prefix("--") {
            let (name, after) = option.split_once(' ').unwrap_or((option, ""));
            let after = after.trim_start();
            rest = match name {
                "retain" => {
                    question.retain = true;
                    after
                }
                "qos" | "payload-bytes" => {
                    let (value, after) = after.split_once(' ').unwrap_or((after, ""));
                    let number: Option<u32> = value.parse().ok();
                    match (name, number) {
                        ("qos", Some(qos @ 0..=2)) => question.qos = qos as u8,
                        ("qos", _) => {
                            return Err(format!("--qos is {}; write 0, 1 or 2", Quoted(value)));
                        }
                        (_, Some(bytes)) => question.payload = bytes,
                        _ => {
                            return Err(format!(
                                "--payload-bytes is {}; write a number",
                                Quoted(value)
                            ));
                        }
                    }
                    after.trim_start()
                }
                _ => {
                    return Err(format!(
                        "there is no option --{name}; there are --qos N, --retain and \
                 --payload-bytes N"
                    ));
                }
            };
        }
        if rest.is_empty() {
            return Err(format!("{} names no topic", Quoted(line)));
        }
        question.topic = rest.to_owned();
        Ok(question)
    }

    /// Parses the lines of a file. Empty lines, and those that begin with `#`, are left out.
    ///
    /// # Errors
    ///
    /// Returns a failure with the line that is wrong.
    pub(crate) fn parse_file(text: &str, path: &Path) -> Result<Vec<Self>, Failure> {
        let lines = (1..).zip(text.lines());
        let lines = lines.map(|(number, line)| (number, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|(number, line)| {
                Self::parse(line)
                    .map_err(|why| Failure::new(format!("{}:{number}: {why}", path.display())))
            })
            .collect()
    }

    /// Returns what the plugin is told: the mount point of the listener is in front of the topic.
    pub(crate) fn deed(&self, mount_point: &str) -> Deed {
        Deed {
            action: self.action,
            topic: format!("{mount_point}{}", self.topic),
            qos: self.qos,
            retain: self.retain,
            payload: self.payload,
        }
    }
}

impl Deed {
    /// Returns why the broker itself refuses this, before it asks any plugin (src/security.c and lib/util_topic.c).
    pub(crate) fn refused_by_broker(&self) -> Option<BrokerRefuses> {
        let topic = self.topic.as_str();
        if self.action == Action::Subscribe || self.action == Action::Unsubscribe {
            return (!is_filter(topic)).then_some(BrokerRefuses::NoFilter);
        }
        if topic.is_empty() || topic.contains(['+', '#']) || !is_shallow(topic) {
            return Some(BrokerRefuses::NoTopic);
        }
        if topic.starts_with("$share") {
            return Some(BrokerRefuses::Share);
        }
        let is_bridge_state = || {
            let rest = topic.strip_prefix("$SYS/broker/connection/");
            rest.and_then(|rest| rest.split_once('/'))
                .is_some_and(|(_, last)| last == "state")
        };
        let denied =
            self.action == Action::Publish && topic.starts_with("$SYS") && !is_bridge_state();
        denied.then_some(BrokerRefuses::Sys)
    }
}

/// Whether the broker accepts this as the filter of a subscription.
fn is_filter(filter: &str) -> bool {
    let inner = match filter.strip_prefix("$share/") {
        None => filter,
        Some(rest) => match rest.split_once('/') {
            Some((group, inner)) if !group.is_empty() && !group.contains(['+', '#']) => inner,
            _ => return false,
        },
    };
    let mut levels = inner.split('/').peekable();
    let mut is_right = !inner.is_empty() && is_shallow(inner);
    while let Some(level) = levels.next() {
        is_right &= !level.contains('+') || level == "+";
        is_right &= !level.contains('#') || level == "#" && levels.peek().is_none();
    }
    is_right
}

fn is_shallow(topic: &str) -> bool {
    topic.len() <= 65535 && topic.bytes().filter(|byte| *byte == b'/').count() <= 200
}

fn action(word: &str) -> Option<Action> {
    match word {
        "publish" => Some(Action::Publish),
        "subscribe" => Some(Action::Subscribe),
        "receive" => Some(Action::Receive),
        _ => None,
    }
}

/// As it is parsed.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Receive => "receive",
            Action::Unsubscribe => "unsubscribe",
        })?;
        if self.qos > 0 {
            write!(f, " --qos {}", self.qos)?;
        }
        if self.retain {
            f.write_str(" --retain")?;
        }
        if self.payload > 0 {
            write!(f, " --payload-bytes {}", self.payload)?;
        }
        write!(f, " {}", self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_shown() {
        for line in [
            "publish a/b",
            "subscribe --qos 2 a/+/#",
            "receive a b",
            "publish --qos 1 --retain --payload-bytes 300 --x",
        ] {
            let read = Question::parse(line);
            match line.ends_with("--x") {
                true => assert!(read.unwrap_err().contains("no option --x")),
                false => assert_eq!(read.unwrap().to_string(), line),
            }
        }
        for (line, why) in [
            ("publish", "names no topic"),
            ("publsh a", "is no question"),
            ("publish --qos 3 a", "write 0, 1 or 2"),
            ("publish --payload-bytes x a", "write a number"),
        ] {
            assert!(Question::parse(line).unwrap_err().contains(why), "{line}");
        }
    }

    #[test]
    fn what_the_broker_refuses_is_known() {
        let of = |line: &str| Question::parse(line).unwrap().deed("").refused_by_broker();
        for (line, refused) in [
            ("publish a", None),
            ("publish a/+", Some(BrokerRefuses::NoTopic)),
            ("publish $SYS/x", Some(BrokerRefuses::Sys)),
            ("publish $SYS/broker/connection/x/state", None),
            ("receive $SYS/x", None),
            ("receive $share/x", Some(BrokerRefuses::Share)),
            ("subscribe $share/g/a", None),
            ("subscribe $share/g", Some(BrokerRefuses::NoFilter)),
            ("subscribe a/#/b", Some(BrokerRefuses::NoFilter)),
            ("subscribe #", None),
        ] {
            assert_eq!(of(line), refused, "{line}");
        }
        let mounted = Question::parse("publish $SYS/x").unwrap().deed("site/");
        assert_eq!(mounted.topic, "site/$SYS/x");
        assert_eq!(mounted.refused_by_broker(), None);
    }
}
