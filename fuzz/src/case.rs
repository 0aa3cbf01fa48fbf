//! A policy file, a token, a client and its accesses, built from any bytes.
//!
//! There are few names, so that filters and topics match often; with random texts nearly everything would be
//! denied.

use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};

use crate::naive::{NaiveClient, NaiveRequest, NaiveRule, PolicyRule, When};

/// One test case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The policy file's rules, as written.
    pub file: Vec<PolicyRule>,
    /// The token's rules.
    pub token: Vec<NaiveRule>,
    /// The client.
    pub client: NaiveClient,
    /// The accesses: kind, topic or filter, and time (Unix time in seconds).
    pub questions: Vec<(NaiveRequest, String, u64)>,
}

const LEVELS: &[&str] = &[
    "a",
    "b",
    "",
    "$x",
    "a-b",
    "b-a",
    "ab",
    "longer-than-eight-a",
    "longer-than-eight-b",
];

const RULE_LEVELS: &[&str] = &[
    "a",
    "b",
    "",
    "$x",
    "+",
    "+",
    "longer-than-eight-a",
    "%c",
    "${site}",
    "longer-than-eight-${site}",
];

/// Text and values in one level, so that many of them meet in one place.
const MIXED_LEVELS: &[&str] = &[
    "a-%c",
    "b-%c",
    "a%c",
    "%c-a",
    "%c-b",
    "%u-b",
    "%ca",
    "a-%c-b",
    "b-%c-b",
    "a%cb",
    "%c%u",
    "%u-${site}",
    "a-%u-b-%c",
    "longer-than-eight-%c",
    "%c-longer-than-eight",
];

/// A filter has at most one of these.
const LISTS: &[&str] = &[
    "${sites[*]}",
    "a-${sites[*]}",
    "b-${sites[*]}",
    "${sites[*]}-a",
    "%u-${sites[*]}-b",
];

const VALUES: &[&str] = &["a", "b", "a", "b", "a", "b", "a", "b", "$x", "a+"];

/// Minutes after midnight.
const TIMES: &[(u64, u64)] = &[
    (0, 720),
    (720, 1440),
    (1320, 360),
    (570, 571),
    (1439, 1),
    (571, 570),
];

/// A Thursday, a Sunday and a Monday.
const DAYS: &[u64] = &[20_045, 20_048, 20_049];

/// Seconds after midnight, around the ends of [`TIMES`].
const MOMENTS: &[u64] = &[
    0, 59, 60, 21_599, 21_600, 34_199, 34_200, 34_259, 34_260, 43_199, 43_200, 79_200, 86_399,
];

const NETWORKS: &[(Ipv4Addr, usize)] = &[
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 1, 2, 0), 23),
    (Ipv4Addr::new(10, 1, 2, 3), 32),
    (Ipv4Addr::UNSPECIFIED, 0),
];

const ADDRESSES: &[Option<Ipv4Addr>] = &[
    None,
    Some(Ipv4Addr::new(10, 1, 2, 3)),
    Some(Ipv4Addr::new(10, 1, 3, 3)),
    Some(Ipv4Addr::new(10, 2, 0, 1)),
    Some(Ipv4Addr::new(192, 0, 2, 1)),
];

impl Case {
    /// Returns the case that these bytes encode. Where they end, `choose` takes the first, numbers are the smallest,
    /// and `ratio` is true. What is new is drawn at the end of `read`, so that the seeds keep their meaning.
    pub fn of(bytes: &[u8]) -> Self {
        Self::read(&mut Unstructured::new(bytes)).expect("every byte stands for something")
    }

    fn read(u: &mut Unstructured) -> Result<Self> {
        let client = client(u)?;
        let file = some(u, 0, 7, listed)?;
        let token = some(u, 0, 6, rule)?;
        let filters: Vec<&str> = file
            .iter()
            .map(|listed| &listed.rule)
            .chain(&token)
            .map(|rule| &*rule.filter)
            .collect();
        let mut questions = some(u, 1, 6, |u| question(u, &filters, &client))?;
        // A client often repeats a topic, for which decisions may be cached.
        for i in 1..questions.len() {
            let is_message = |(request, ..): &(NaiveRequest, _, _)| {
                !matches!(request, NaiveRequest::Subscribe { .. })
            };
            if questions[i - 1..=i].iter().all(is_message) && u.ratio(2, 3)? {
                questions[i].1 = questions[i - 1].1.clone();
            }
        }
        Ok(Self {
            file,
            token,
            client,
            questions,
        })
    }
}

fn some<T>(
    u: &mut Unstructured,
    least: usize,
    most: usize,
    each: impl Fn(&mut Unstructured) -> Result<T>,
) -> Result<Vec<T>> {
    let count = u.int_in_range(least..=most)?;
    (0..count).map(|_| each(u)).collect()
}

fn client(u: &mut Unstructured) -> Result<NaiveClient> {
    let value = |u: &mut Unstructured| Ok((*u.choose(VALUES)?).to_owned());
    Ok(NaiveClient {
        id: value(u)?,
        user: value(u)?,
        site: value(u)?,
        sites: some(u, 0, 2, value)?,
        roles: some(u, 0, 2, |u| Ok((*u.choose(&["r", "s"])?).to_owned()))?,
        address: *u.choose(ADDRESSES)?,
    })
}

fn listed(u: &mut Unstructured) -> Result<PolicyRule> {
    let mut rule = rule(u)?;
    if rule.qos.is_empty() {
        // The file lists at least one level, or has no such entry.
        rule.qos = vec![1];
    }
    if rule.deny {
        // A combination that would mean the opposite of what it says is refused.
        rule.max_payload = None;
        rule.retain = rule.retain.filter(|_| !rule.subscribe);
    }
    let priority = u.int_in_range(-1..=1)?;
    let mut when = When::default();
    // Most rules apply to all clients, at any time.
    if u.ratio(1, 4)? {
        when.time = Some(*u.choose(TIMES)?);
    }
    if u.ratio(1, 6)? {
        when.weekend = Some(u.ratio(1, 2)?);
    }
    if u.ratio(1, 6)? {
        when.roles = some(u, 1, 2, |u| Ok((*u.choose(&["r", "s", "t"])?).to_owned()))?;
    }
    if u.ratio(1, 6)? {
        when.network = Some(*u.choose(NETWORKS)?);
    }
    Ok(PolicyRule {
        rule,
        priority,
        when,
    })
}

fn rule(u: &mut Unstructured) -> Result<NaiveRule> {
    let (publish, subscribe) = *u.choose(&[(true, true), (true, false), (false, true)])?;
    Ok(NaiveRule {
        deny: u.ratio(1, 2)?,
        publish,
        subscribe,
        filter: rule_filter(u)?,
        eq: u.ratio(1, 5)?,
        qos: u
            .choose(&[&[0, 1, 2][..], &[0, 1, 2], &[1], &[0, 2], &[]])?
            .to_vec(),
        retain: *u.choose(&[None, None, Some(true), Some(false)])?,
        max_payload: *u.choose(&[None, None, Some(10)])?,
    })
}

fn rule_filter(u: &mut Unstructured) -> Result<String> {
    let mut levels = some(u, 0, 3, |u| {
        let mixed = u.ratio(1, 3)?;
        u.choose(if mixed { MIXED_LEVELS } else { RULE_LEVELS })
            .copied()
    })?;
    if u.ratio(1, 4)? {
        let place = u.int_in_range(0..=levels.len())?;
        levels.insert(place, *u.choose(LISTS)?);
    }
    if u.ratio(1, 3)? {
        levels.push("#");
    }
    Ok(joined(&levels))
}

fn question(
    u: &mut Unstructured,
    filters: &[&str],
    client: &NaiveClient,
) -> Result<(NaiveRequest, String, u64)> {
    let qos = u.int_in_range(0..=2)?;
    let request = match u.int_in_range(0..=2)? {
        0 => NaiveRequest::Publish {
            qos,
            retain: u.ratio(1, 2)?,
            payload: u.int_in_range(9..=11)?,
        },
        1 => NaiveRequest::Subscribe { qos },
        _ => NaiveRequest::Receive,
    };
    let wildcards = matches!(request, NaiveRequest::Subscribe { .. });
    // Mostly a topic near a rule: a topic that is near none is simply denied.
    let mut levels = if filters.is_empty() || u.ratio(1, 4)? {
        some(u, 1, 4, |u| Ok((*u.choose(LEVELS)?).to_owned()))?
    } else {
        let filter = *u.choose(filters)?;
        near(u, filter, client)?
    };
    if wildcards {
        for level in &mut levels {
            if u.ratio(1, 5)? {
                *level = "+".into();
            }
        }
        if u.ratio(1, 4)? {
            levels.push("#".into());
        }
    }
    let mut topic = joined(&levels);
    if wildcards && u.ratio(1, 4)? {
        topic = format!("$share/group/{topic}");
    }
    let now = u.choose(DAYS)? * 86_400 + u.choose(MOMENTS)?;
    Ok((request, topic, now))
}

/// Returns the levels of a topic that a rule's filter nearly matches.
fn near(u: &mut Unstructured, filter: &str, client: &NaiveClient) -> Result<Vec<String>> {
    let mut levels = Vec::new();
    for level in filter.split('/') {
        if u.ratio(1, 8)? {
            continue;
        }
        let any = *u.choose(LEVELS)?;
        let one = client.sites.first().map_or("a", String::as_str);
        let level = match level {
            "+" | "#" => any.to_owned(),
            name if u.ratio(1, 8)? => format!("{name}{any}"),
            name => name.to_owned(),
        };
        let level = level
            .replace("%c", &client.id)
            .replace("%u", &client.user)
            .replace("${site}", &client.site)
            .replace("${sites[*]}", one);
        // The broker asks about no such topic.
        levels.push(level.replace(['+', '#'], "a"));
    }
    Ok(levels)
}

/// Joins levels. A topic is not empty.
fn joined(levels: &[impl AsRef<str>]) -> String {
    let levels: Vec<&str> = levels.iter().map(AsRef::as_ref).collect();
    match levels.join("/") {
        empty if empty.is_empty() => "a".into(),
        text => text,
    }
}
