//! The rules again, implemented as simply as possible, to check the fast implementation.

use std::net::Ipv4Addr;

/// Whether a message to `topic` matches `filter` (MQTT 5.0, section 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    covers(filter, topic)
}

/// Whether every level of `asked` is covered by the same level of `granted`.
pub fn covers(granted: &str, asked: &str) -> bool {
    // Section 4.7.2: a wildcard at the first level does not match the broker's own topics.
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

/// Returns a filter without `$share/group/`, which does not affect what it covers.
pub fn without_group(filter: &str) -> &str {
    match filter.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/').map_or("", |(_, inner)| inner),
        None => filter,
    }
}

/// A rule, as written.
#[derive(Clone, Debug)]
pub struct NaiveRule {
    /// Whether it denies; otherwise it allows.
    pub deny: bool,
    /// Whether it applies to publishing.
    pub publish: bool,
    /// Whether it applies to subscribing and to deliveries.
    pub subscribe: bool,
    /// The filter, with placeholders.
    pub filter: String,
    /// Whether the filter is compared literally.
    pub eq: bool,
    /// The QoS levels.
    pub qos: Vec<u8>,
    /// The retain flag, if it matters.
    pub retain: Option<bool>,
    /// The longest payload, in bytes, if it matters.
    pub max_payload: Option<u32>,
}

/// A rule of the policy file.
#[derive(Clone, Debug)]
pub struct PolicyRule {
    /// The rule itself.
    pub rule: NaiveRule,
    /// Its priority.
    pub priority: i32,
    /// Its conditions.
    pub when: When,
}

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// Start and end in minutes after midnight, UTC. The end is excluded, and is on the next day if it is
    /// before the start.
    pub time: Option<(u64, u64)>,
    /// Whether the window begins on Saturdays and Sundays (`true`), or on the other days.
    pub weekend: Option<bool>,
    /// One of these roles.
    pub roles: Vec<String>,
    /// An address, and the number of its bits that count.
    pub network: Option<(Ipv4Addr, usize)>,
}

impl When {
    /// Whether the rule applies to this client, at any hour.
    pub fn is_for(&self, client: &NaiveClient) -> bool {
        let bits = |address: Ipv4Addr| format!("{:032b}", u32::from(address));
        let role = self.roles.is_empty() || self.roles.iter().any(|r| client.roles.contains(r));
        let network = self.network.is_none_or(|(network, length)| {
            client
                .address
                .is_some_and(|address| bits(address)[..length] == bits(network)[..length])
        });
        role && network
    }

    /// Whether the rule is in force at this Unix time in seconds.
    pub fn is_open(&self, now: u64) -> bool {
        const DAY: u64 = 86_400;
        let (from, to) = self.time.unwrap_or((0, 24 * 60));
        let today = now / DAY;
        // The window began today, or yesterday.
        [today, today - 1].into_iter().any(|day| {
            let end = if from < to { day } else { day + 1 };
            let is_time = (day * DAY + from * 60..end * DAY + to * 60).contains(&now);
            // 1970-01-01 was a Thursday.
            let is_weekend = (day + 3) % 7 >= 5;
            is_time && self.weekend.is_none_or(|weekend| weekend == is_weekend)
        })
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct NaiveClient {
    /// Its client ID.
    pub id: String,
    /// Its user name.
    pub user: String,
    /// A claim with a text.
    pub site: String,
    /// A claim with a list.
    pub sites: Vec<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
}

/// A kind of access.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum NaiveRequest {
    Publish { qos: u8, retain: bool, payload: u32 },
    Subscribe { qos: u8 },
    Receive,
}

/// Returns the filters that a rule's filter stands for, or `None` if a value is not usable in a filter.
pub fn expand(filter: &str, client: &NaiveClient) -> Option<Vec<String>> {
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

/// Whether a rule matches an access.
pub fn applies(rule: &NaiveRule, client: &NaiveClient, request: NaiveRequest, topic: &str) -> bool {
    let filters = expand(&rule.filter, client).unwrap_or_default();
    match request {
        NaiveRequest::Publish {
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
        NaiveRequest::Subscribe { qos } => {
            rule.subscribe
                && rule.qos.contains(&qos)
                && filters.iter().any(|filter| match rule.eq {
                    true => filter == without_group(topic),
                    false => covers(filter, without_group(topic)),
                })
        }
        NaiveRequest::Receive => {
            // The QoS of the subscription is not known here.
            let qos = match rule.deny {
                true => (0..=2).all(|qos| rule.qos.contains(&qos)),
                false => !rule.qos.is_empty(),
            };
            rule.subscribe
                && qos
                && filters.iter().any(|filter| match rule.eq && rule.deny {
                    true => filter == topic,
                    false => matches(filter, topic),
                })
        }
    }
}

/// Returns all rules that apply to a client now, in order: the file's by priority, those with a negative
/// priority after the token's.
pub fn in_order<'r>(
    file: &'r [PolicyRule],
    token: &'r [NaiveRule],
    client: &NaiveClient,
    now: u64,
) -> Vec<&'r NaiveRule> {
    let count = |listed: &PolicyRule| {
        listed.when.is_for(client)
            && listed.when.is_open(now)
            && expand(&listed.rule.filter, client).is_some()
    };
    let mut file: Vec<&PolicyRule> = file.iter().filter(|listed| count(listed)).collect();
    file.sort_by_key(|listed| -listed.priority);
    let (early, late): (Vec<&PolicyRule>, Vec<_>) =
        file.into_iter().partition(|listed| listed.priority >= 0);
    let rule = |listed: &'r PolicyRule| &listed.rule;
    let early = early.into_iter().map(rule);
    early
        .chain(token)
        .chain(late.into_iter().map(rule))
        .collect()
}

/// Returns the first rule that matches, which decides. What no rule matches is denied.
pub fn first<'r>(
    rules: impl IntoIterator<Item = &'r NaiveRule>,
    client: &NaiveClient,
    request: NaiveRequest,
    topic: &str,
) -> Option<&'r NaiveRule> {
    rules
        .into_iter()
        .find(|rule| applies(rule, client, request, topic))
}
