//! MQTT topic names and topic filters (MQTT 5.0, section 4.7).
//!
//! Whether a filter matches a topic, or covers another filter, is decided by [`super::matcher`], for many rules at
//! once.

/// Why a filter cannot be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The filter is empty (MQTT 5.0, [MQTT-4.7.3-1]).
    Empty,
    /// It is longer than the two bytes of its length can say (MQTT 5.0, [MQTT-4.7.3-3]).
    TooLong,
    /// It contains NUL (MQTT 5.0, [MQTT-4.7.3-2]) or another control character, which Mosquitto refuses.
    ControlCharacter,
    /// A `#` is not the whole last level (MQTT 5.0, [MQTT-4.7.1-1]).
    MultiLevelNotLast,
    /// A `+` is not a whole level (MQTT 5.0, [MQTT-4.7.1-2]).
    SingleLevelNotAlone,
    /// It has more levels than Mosquitto accepts in a topic.
    TooManyLevels,
    /// `$share/group/filter`: the group is chosen by the subscriber, and only the filter can be granted.
    SharedSubscription,
    /// `${` without a `}`.
    OpenPlaceholder,
    /// `${}`.
    NamelessPlaceholder,
    /// More than one `${claim[*]}`.
    TwoLists,
}

/// The broker's limit on `/` in a topic (Mosquitto, lib/util_topic.c, TOPIC_HIERARCHY_LIMIT).
const MAX_SLASHES: usize = 200;

/// Checks that a filter can be granted.
///
/// # Errors
///
/// Returns why it cannot.
pub(super) fn check_grant(filter: &str) -> Result<(), Malformed> {
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

/// Returns the filter of a SUBSCRIBE without `$share/group/` in front of it (MQTT 5.0, section 4.8.2), or `None` if it
/// is malformed.
pub(super) fn subscribed(filter: &str) -> Option<&str> {
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
