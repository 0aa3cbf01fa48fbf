//! The rules of topics again, as slow and plain as they can be said: the judge of the fast code.

/// Whether a message to `topic` matches `filter` (MQTT 5.0, section 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    covers(filter, topic)
}

/// Whether every level of `asked` is covered by the same level of `granted`.
pub fn covers(granted: &str, asked: &str) -> bool {
    // Section 4.7.2: a wildcard in front does not reach the broker's own topics.
    if asked.starts_with('$') && (granted.starts_with('+') || granted.starts_with('#')) {
        return false;
    }
    let granted: Vec<&str> = granted.split('/').collect();
    let asked: Vec<&str> = asked.split('/').collect();
    levels(&granted, &asked)
}

fn levels(granted: &[&str], asked: &[&str]) -> bool {
    match (granted, asked) {
        (["#"], _) => true,
        ([], []) => true,
        ([], _) | (_, []) => false,
        (_, ["#", ..]) => false,
        (["+", granted @ ..], [_, asked @ ..]) => levels(granted, asked),
        ([same, granted @ ..], [other, asked @ ..]) => same == other && levels(granted, asked),
    }
}

/// `$share/group/` is how a client asks, not what it asks for.
pub fn without_group(filter: &str) -> &str {
    match filter.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').map_or("", |(_, inner)| inner),
        None => filter,
    }
}
