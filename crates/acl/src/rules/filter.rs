//! MQTT topic names and topic filters (MQTT 5.0, section 4.7).
//!
//! A rule's filter and an asked-for filter are the same kind of thing here; the question between
//! them is whether one *covers* the other. [`super::matcher`] answers it for many rules at once.

use std::fmt;

/// Why a string is not a topic filter. The sentence completes "the entry …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// MQTT 5.0, [MQTT-4.7.3-1].
    Empty,
    /// MQTT 5.0, [MQTT-4.7.3-3]: a string's length is two bytes on the wire.
    TooLong,
    /// MQTT 5.0, [MQTT-4.7.3-2], and the control characters that Mosquitto refuses.
    ControlCharacter,
    /// MQTT 5.0, [MQTT-4.7.1-1].
    MultiLevelNotLast,
    /// MQTT 5.0, [MQTT-4.7.1-2].
    SingleLevelNotAlone,
    /// Mosquitto's TOPIC_HIERARCHY_LIMIT: it refuses such topics itself.
    TooManyLevels,
    /// A group is how a subscriber asks, not what it is granted.
    SharedSubscription,
    /// `${` without its `}`.
    OpenPlaceholder,
    /// `${}`.
    NamelessPlaceholder,
    /// More than one `${claim[*]}`.
    TwoLists,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::TooLong => "is longer than 65535 bytes",
            Self::ControlCharacter => "holds a control character",
            Self::MultiLevelNotLast => "has a `#` that is not the whole last level",
            Self::SingleLevelNotAlone => "has a `+` that is not a whole level",
            Self::TooManyLevels => "has more than 200 levels",
            Self::SharedSubscription => {
                "starts with `$share/`; grant the filter behind the group's name"
            }
            Self::OpenPlaceholder => "has a `${` without a `}`",
            Self::NamelessPlaceholder => "has a placeholder that names no claim",
            Self::TwoLists => "has more than one placeholder with `[*]`",
        })
    }
}

/// The broker's limit on `/` in a topic (Mosquitto, lib/util_topic.c, TOPIC_HIERARCHY_LIMIT).
const MAX_SLASHES: usize = 200;

/// Checks that `filter` may be granted.
pub fn check_grant(filter: &str) -> Result<(), Malformed> {
    check(filter)?;
    if filter == "$share" || filter.starts_with("$share/") {
        return Err(Malformed::SharedSubscription);
    }
    Ok(())
}

fn check(filter: &str) -> Result<(), Malformed> {
    if filter.is_empty() {
        return Err(Malformed::Empty);
    }
    if filter.len() > 65535 {
        return Err(Malformed::TooLong);
    }
    if filter.chars().any(char::is_control) {
        return Err(Malformed::ControlCharacter);
    }
    if filter.bytes().filter(|&b| b == b'/').count() > MAX_SLASHES {
        return Err(Malformed::TooManyLevels);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(Malformed::MultiLevelNotLast);
        }
        if level.contains('+') && level != "+" {
            return Err(Malformed::SingleLevelNotAlone);
        }
    }
    Ok(())
}

/// What a SUBSCRIBE really reads: the filter, without `$share/group/` in front of it
/// (MQTT 5.0, section 4.8.2). `None` if it is malformed.
pub fn subscribed(filter: &str) -> Option<&str> {
    let inner = match filter.strip_prefix("$share/") {
        None => filter,
        Some(rest) => {
            let (group, inner) = rest.split_once('/')?;
            if group.is_empty() || group.contains(['+', '#']) {
                return None;
            }
            inner
        }
    };
    check(inner).is_ok().then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_filters() {
        for filter in [
            "a",
            "/",
            "//",
            "a/b",
            "+",
            "#",
            "+/+/#",
            "/#",
            "a//b",
            "$SYS/#",
            "ä/🦀",
            "a b",
            "%u/x",
            "$shared/x",
        ] {
            assert_eq!(check_grant(filter), Ok(()), "{filter}");
        }
    }

    #[test]
    fn malformed_filters() {
        use Malformed::*;
        let long = "x".repeat(65536);
        let deep = "/".repeat(201);
        for (filter, why) in [
            ("", Empty),
            (long.as_str(), TooLong),
            ("a\0b", ControlCharacter),
            ("a\nb", ControlCharacter),
            ("a/#/b", MultiLevelNotLast),
            ("a#", MultiLevelNotLast),
            ("a/b#", MultiLevelNotLast),
            ("##", MultiLevelNotLast),
            ("a+/b", SingleLevelNotAlone),
            ("a/+b", SingleLevelNotAlone),
            ("++", SingleLevelNotAlone),
            (deep.as_str(), TooManyLevels),
            ("$share/g/a", SharedSubscription),
        ] {
            assert_eq!(check_grant(filter), Err(why), "{filter}");
        }
    }

    #[test]
    fn shared_subscriptions_are_stripped_or_refused() {
        assert_eq!(subscribed("$share/g/a/+"), Some("a/+"));
        assert_eq!(subscribed("$share/g//a"), Some("/a"));
        assert_eq!(subscribed("a/#"), Some("a/#"));
        for bad in [
            "$share/",
            "$share/g",
            "$share//a",
            "$share/g/",
            "$share/+/a",
            "$share/g#/a",
            "$share/g/a/#/b",
            "",
        ] {
            assert_eq!(subscribed(bad), None, "{bad}");
        }
    }
}
