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

/// A rule, as one would write it down.
#[derive(Clone, Debug)]
pub struct Rule {
    pub deny: bool,
    pub publish: bool,
    pub subscribe: bool,
    /// With placeholders.
    pub filter: String,
    pub eq: bool,
    pub qos: Vec<u8>,
    pub retain: Option<bool>,
    pub max_payload: Option<u32>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub user: String,
    pub site: String,
    pub sites: Vec<String>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Publish { qos: u8, retain: bool, payload: u32 },
    Subscribe { qos: u8 },
    Receive,
}

/// The filters that a rule's filter stands for; `None` if a value cannot be pasted.
pub fn expand(filter: &str, client: &Client) -> Option<Vec<String>> {
    let usable = |name: &str, value: &str| {
        let to_dollar = filter.starts_with(name) && value.starts_with('$');
        !value.is_empty() && !value.contains(['+', '#', '/']) && !to_dollar
    };
    let mut filters = vec![filter.to_owned()];
    for (name, values) in [
        ("%c", std::slice::from_ref(&client.id)),
        ("%u", std::slice::from_ref(&client.user)),
        ("${site}", std::slice::from_ref(&client.site)),
        ("${sites[*]}", &client.sites),
    ] {
        if !filter.contains(name) {
            continue;
        }
        if !values.iter().all(|value| usable(name, value)) {
            return None;
        }
        filters = filters
            .iter()
            .flat_map(|filter| values.iter().map(|value| filter.replace(name, value)))
            .collect();
    }
    Some(filters)
}

pub fn fits(rule: &Rule, client: &Client, ask: Ask, topic: &str) -> bool {
    let filters = expand(&rule.filter, client).unwrap_or_default();
    match ask {
        Ask::Publish {
            qos,
            retain,
            payload,
        } => {
            rule.publish
                && rule.qos.contains(&qos)
                && rule.retain.is_none_or(|only| only == retain)
                && rule.max_payload.is_none_or(|most| payload <= most)
                && filters.iter().any(|filter| match rule.eq {
                    true => filter == topic,
                    false => matches(filter, topic),
                })
        }
        Ask::Subscribe { qos } => {
            rule.subscribe
                && rule.qos.contains(&qos)
                && filters.iter().any(|filter| match rule.eq {
                    true => filter == without_group(topic),
                    false => covers(filter, without_group(topic)),
                })
        }
        Ask::Receive => {
            rule.subscribe
                && !rule.qos.is_empty()
                && filters.iter().any(|filter| match rule.eq && rule.deny {
                    true => filter == topic,
                    false => matches(filter, topic),
                })
        }
    }
}

/// The first rule that fits decides; what no rule fits is denied.
pub fn first<'r>(
    rules: impl IntoIterator<Item = &'r Rule>,
    client: &Client,
    ask: Ask,
    topic: &str,
) -> Option<&'r Rule> {
    rules
        .into_iter()
        .find(|rule| fits(rule, client, ask, topic))
}
