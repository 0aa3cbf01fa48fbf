//! The rules again, as slow and plain as they can be said: the judge of the fast code.

use std::net::Ipv4Addr;

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
    /// It denies; else it allows.
    pub deny: bool,
    /// It is about messages that are sent.
    pub publish: bool,
    /// It is about subscriptions, and what they bring.
    pub subscribe: bool,
    /// With placeholders.
    pub filter: String,
    /// The filter stands for itself.
    pub eq: bool,
    /// The QoS levels.
    pub qos: Vec<u8>,
    /// Of the retain flag, if it matters.
    pub retain: Option<bool>,
    /// The longest payload, in bytes, if it matters.
    pub max_payload: Option<u32>,
}

/// A rule of the policy file.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it says.
    pub rule: Rule,
    /// Its priority.
    pub priority: i32,
    /// Its conditions.
    pub when: When,
}

/// Conditions: all that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// From and to, in minutes after midnight, UTC, the end excluded; the next day's if it comes first.
    pub time: Option<(u64, u64)>,
    /// Whether it begins on Saturdays and Sundays (`true`), or on the other days.
    pub weekend: Option<bool>,
    /// One of these roles.
    pub roles: Vec<String>,
    /// An address, and how many of its bits count.
    pub network: Option<(Ipv4Addr, usize)>,
}

impl When {
    /// Whether the rule is for this client, whatever the hour.
    pub fn is_for(&self, client: &Client) -> bool {
        let bits = |address: Ipv4Addr| format!("{:032b}", u32::from(address));
        let role = self.roles.is_empty() || self.roles.iter().any(|r| client.roles.contains(r));
        let network = self.network.is_none_or(|(network, length)| {
            client
                .address
                .is_some_and(|address| bits(address)[..length] == bits(network)[..length])
        });
        role && network
    }

    /// Whether it is in force, by the seconds since 1970.
    pub fn is_open(&self, now: u64) -> bool {
        const DAY: u64 = 86_400;
        let (from, to) = self.time.unwrap_or((0, 24 * 60));
        let today = now / DAY;
        // It began today, or yesterday.
        [today, today - 1].into_iter().any(|day| {
            let end = if from < to { day } else { day + 1 };
            let is_time = (day * DAY + from * 60..end * DAY + to * 60).contains(&now);
            // 1970-01-01 was a Thursday.
            let is_weekend = (day + 3) % 7 >= 5;
            is_time && self.weekend.is_none_or(|weekend| weekend == is_weekend)
        })
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its client id.
    pub id: String,
    /// Its user name.
    pub user: String,
    /// A claim.
    pub site: String,
    /// A claim that is a list.
    pub sites: Vec<String>,
    /// What it has of roles.
    pub roles: Vec<String>,
    /// Where it is.
    pub address: Option<Ipv4Addr>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
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

/// Whether a rule fits what is asked.
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
            // With which QoS it was subscribed to is not known.
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

/// All rules that count for a client now, in their order: those of the file by their priority, but what
/// is below zero comes after the token's.
pub fn in_order<'r>(
    file: &'r [Listed],
    token: &'r [Rule],
    client: &Client,
    now: u64,
) -> Vec<&'r Rule> {
    let count = |listed: &Listed| {
        listed.when.is_for(client)
            && listed.when.is_open(now)
            && expand(&listed.rule.filter, client).is_some()
    };
    let mut file: Vec<&Listed> = file.iter().filter(|listed| count(listed)).collect();
    file.sort_by_key(|listed| -listed.priority);
    let (early, late): (Vec<&Listed>, Vec<_>) =
        file.into_iter().partition(|listed| listed.priority >= 0);
    let rule = |listed: &'r Listed| &listed.rule;
    let early = early.into_iter().map(rule);
    early
        .chain(token)
        .chain(late.into_iter().map(rule))
        .collect()
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
