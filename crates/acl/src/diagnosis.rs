//! Which rule decides about a request, where it is written, and which rule would almost have allowed it. This is for
//! tools: it takes its time, and the decision itself is made by [`Rights`].
//!
//! [`explanation`](crate::explanation) is the short form, for log lines.

use crate::{
    claims::NamedRules,
    client::ClientAttributes,
    explanation::Limit,
    policy_file::{PolicyFile, UnusableRule, WrittenRule, conditions::Condition},
    rights::{Rights, Source},
    rules::{
        AccessRequest, Actions, Effect, Limits, Rule, Ruling, UnusableValue,
        compile::OrderedRule,
        matcher::{Matcher, prepare},
        windows::OpenWindows,
    },
    time::Unix,
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What the client wants to do.
    pub request: AccessRequest,
    /// The topic or the filter.
    pub topic: &'a [u8],
    /// When.
    pub now: Unix,
}

/// Why the rules allow or deny a request.
#[derive(Clone, Debug, PartialEq)]
pub struct WhyRules {
    /// The rule that decides; `None` if no rule applies.
    pub decided_by: Option<PlacedRule>,
    /// A deny rule that cannot be applied to the client, so that it has no rights.
    pub unusable: Option<UnusableRule>,
    /// If the request is denied: the rule that would almost have allowed it.
    pub nearest: Option<NearMiss>,
}

/// A rule, with one of its filters, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRule {
    /// What it does.
    pub effect: Effect,
    /// The filter, as written.
    pub filter: Box<str>,
    /// Where it is written.
    pub place: RulePlace,
}

/// Where a rule is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulePlace {
    /// In the policy file.
    Policy {
        /// Its name.
        name: Box<str>,
        /// The line on which it begins.
        line: u32,
    },
    /// In the token.
    Claim {
        /// The name of the claim, or the pointer to it.
        name: Box<str>,
        /// Which of the claim's rules it is, counted from 1.
        number: usize,
    },
}

/// A rule that would have allowed a request, but for something.
#[derive(Clone, Debug, PartialEq)]
pub struct NearMiss {
    /// The rule.
    pub rule: PlacedRule,
    /// What stands in its way.
    pub obstacles: Vec<Obstacle>,
}

/// Why a rule does not allow a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// A condition does not hold for the client.
    Condition(UnmetCondition),
    /// It applies at other times only.
    Closed,
    /// A placeholder has no usable value.
    Value(UnusableValue),
    /// It is about something else: publishing or subscribing.
    Action(Actions),
    /// Its filter does not match the topic.
    Filter {
        /// The filter with the values of the client.
        filter: Box<str>,
        /// The first level that differs, counted from 1: in the request and in the filter; `None` where one of them
        /// has no such level.
        level: usize,
        /// What the request has there.
        asked: Option<Box<str>>,
        /// What the filter has there.
        granted: Option<Box<str>>,
    },
    /// The client subscribes to more than the filter grants.
    Wider {
        /// The filter with the values of the client.
        filter: Box<str>,
    },
    /// It allows a subscription to exactly its filter only.
    OnlyExactly,
    /// The request exceeds a limit.
    Limit(Limit),
    /// This rule comes first, and denies.
    DeniedBefore(Box<PlacedRule>),
}

/// All rules for one client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RulesFor {
    /// The rules: those of the policy file, then those of the token.
    pub rules: Vec<RuleFor>,
    /// A deny rule that cannot be applied to the client, so that it has no rights.
    pub unusable: Option<UnusableRule>,
}

/// What a rule means for one client.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFor {
    /// The rule.
    pub rule: PlacedRule,
    /// What it is about.
    pub actions: Actions,
    /// Its filter with the values of the client. Several, if a value is a list; none, if one cannot be used.
    pub filters: Vec<Box<str>>,
    /// Its limits.
    pub limits: Limits,
    /// What keeps it from applying to the client now.
    pub obstacles: Vec<Obstacle>,
}

/// A condition that does not hold for a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnmetCondition(pub(crate) Condition);

/// A rule that might have decided.
struct Candidate<'r> {
    source: Source,
    order: u32,
    rule: &'r Rule,
    conditions: &'r [Condition],
    is_open: bool,
    place: RulePlace,
}

impl Rights {
    /// Explains the decision about a request. `token` are the rules of the client's token, as written.
    pub fn explain(
        &self,
        token: &NamedRules,
        client: &ClientAttributes,
        question: &Question,
    ) -> WhyRules {
        let Question {
            request,
            topic,
            now,
        } = *question;
        let decided = self.decide(request, topic, now);
        let file = self.policy_file();
        let candidates = candidates(file.map(|file| &**file), token);
        let decided_by = decided.map(|(source, ruling)| {
            let of_rule = |candidate: &&Candidate| {
                candidate.source == source && candidate.order == ruling.order
            };
            let mut filters = candidates.iter().filter(of_rule);
            let applies = |candidate: &&Candidate| applies(candidate.rule, client, question);
            let found = filters.clone().find(applies).or_else(|| filters.next());
            found.map_or_else(|| unplaced(ruling), Candidate::placed)
        });
        let is_allowed = decided_by
            .as_ref()
            .is_some_and(|rule| rule.effect == Effect::Allow);
        let nearest = match is_allowed {
            true => None,
            false => nearest(&candidates, client, question, decided_by.as_ref()),
        };
        WhyRules {
            decided_by,
            unusable: self.unusable().cloned(),
            nearest,
        }
    }
}

impl Rights {
    /// Returns all rules, and which of them apply to the client now. `token` are the rules of its token, as written.
    pub fn rules_for(&self, token: &NamedRules, client: &ClientAttributes) -> RulesFor {
        let file = self.policy_file();
        let candidates = candidates(file.map(|file| &**file), token);
        let rules = candidates.iter().map(|candidate| RuleFor {
            rule: candidate.placed(),
            actions: candidate.rule.actions,
            filters: candidate.rule.filter.expand(client).unwrap_or_default(),
            limits: candidate.rule.limits,
            obstacles: barriers(candidate, client)
                .into_iter()
                .map(|(_, obstacle)| obstacle)
                .collect(),
        });
        RulesFor {
            rules: rules.collect(),
            unusable: self.unusable().cloned(),
        }
    }
}

/// Returns all rules with one filter each: those of the policy file, then those of the token.
fn candidates<'r>(file: Option<&'r PolicyFile>, token: &'r NamedRules) -> Vec<Candidate<'r>> {
    let of_file = file.into_iter().flat_map(PolicyFile::written);
    let of_file = of_file.flat_map(|written: WrittenRule<'r>| {
        written.rules.iter().map(move |rule| Candidate {
            source: Source::Policy,
            order: written.order,
            rule,
            conditions: written.conditions,
            is_open: written.is_open,
            place: RulePlace::Policy {
                name: written.name.into(),
                line: written.line,
            },
        })
    });
    let of_token = (0..)
        .zip(token.iter())
        .map(|(order, (claim, number, rule))| Candidate {
            source: Source::Token,
            order,
            rule,
            conditions: &rule.conditions,
            is_open: true,
            place: RulePlace::Claim {
                name: claim.into(),
                number,
            },
        });
    of_file.chain(of_token).collect()
}

impl Candidate<'_> {
    fn placed(&self) -> PlacedRule {
        PlacedRule {
            effect: self.rule.effect,
            filter: self.rule.written_filter().into(),
            place: self.place.clone(),
        }
    }
}

/// Returns what is known of a rule that is not among those that are written.
fn unplaced(ruling: Ruling) -> PlacedRule {
    PlacedRule {
        effect: ruling.effect,
        filter: "?".into(),
        place: RulePlace::Claim {
            name: "?".into(),
            number: ruling.order as usize + 1,
        },
    }
}

/// Whether a rule by itself applies to a request.
fn applies(rule: &Rule, client: &ClientAttributes, question: &Question) -> bool {
    let alone = OrderedRule {
        order: 0,
        rule,
        window: 0,
    };
    let matcher = Matcher::new([alone]);
    let Ok(bindings) = matcher.bind(client) else {
        return false;
    };
    prepare(question.request, question.topic, |request| {
        matcher.first(request, &bindings, &OpenWindows::default())
    })
    .flatten()
    .is_some()
}

/// Returns the rule that would have allowed a request with the fewest changes.
fn nearest(
    candidates: &[Candidate],
    client: &ClientAttributes,
    question: &Question,
    denied_by: Option<&PlacedRule>,
) -> Option<NearMiss> {
    let allowing = candidates
        .iter()
        .filter(|one| one.rule.effect == Effect::Allow);
    let misses = allowing.filter_map(|candidate| {
        let (cost, mut obstacles) = obstacles(candidate, client, question)?;
        let mut cost = cost;
        if let Some(rule) = denied_by.filter(|_| obstacles.is_empty()) {
            cost += 1;
            obstacles.push(Obstacle::DeniedBefore(Box::new(rule.clone())));
        }
        Some((cost, candidate, obstacles))
    });
    let (_, rule, obstacles) = misses.min_by_key(|(cost, ..)| *cost)?;
    Some(NearMiss {
        rule: rule.placed(),
        obstacles,
    })
}

/// Returns what keeps a rule from applying to a client now, whatever it asks, and how much would have to change.
fn barriers(candidate: &Candidate, client: &ClientAttributes) -> Vec<(u32, Obstacle)> {
    let unmet = candidate.conditions.iter();
    let unmet = unmet.filter(|condition| !condition.holds(client));
    let unmet = unmet.map(|condition| (4, Obstacle::Condition(UnmetCondition(condition.clone()))));
    let closed = (!candidate.is_open).then_some((3, Obstacle::Closed));
    let value = candidate.rule.filter.expand(client).err();
    let value = value.map(|value| (6, Obstacle::Value(value)));
    unmet.chain(closed).chain(value).collect()
}

/// Returns what keeps a rule from allowing a request, and how much would have to change. `None` if it has nothing to do
/// with the request.
fn obstacles(
    candidate: &Candidate,
    client: &ClientAttributes,
    question: &Question,
) -> Option<(u32, Vec<Obstacle>)> {
    let rule = candidate.rule;
    let (mut cost, mut found) = (0, Vec::new());
    let mut add = |price, obstacle| {
        cost += price;
        found.push(obstacle);
    };
    for (price, obstacle) in barriers(candidate, client) {
        add(price, obstacle);
    }
    let Ok(filters) = rule.filter.expand(client) else {
        // Its filter without values says nothing about the topic.
        return starts_alike(rule, question.topic).then_some((cost, found));
    };
    if applies(rule, client, question) {
        return Some((cost, found));
    }
    let about = match question.request {
        AccessRequest::Publish { .. } => Actions::Publish,
        AccessRequest::Subscribe { .. } | AccessRequest::Receive => Actions::Subscribe,
    };
    if rule.actions != about && rule.actions != Actions::Both {
        add(5, Obstacle::Action(rule.actions));
    }
    let (mut anything, mut wider) = (rule.clone(), rule.clone());
    (anything.actions, anything.limits, anything.literal) = (Actions::Both, Limits::NONE, false);
    (wider.actions, wider.limits) = (Actions::Both, Limits::NONE);
    if !applies(&anything, client, question) {
        let (price, obstacle) = differing(&filters, question)?;
        add(price, obstacle);
    } else if !applies(&wider, client, question) {
        add(4, Obstacle::OnlyExactly);
    }
    if let Some(limit) = exceeded(&rule.limits, question.request) {
        add(2, Obstacle::Limit(limit));
    }
    Some((cost, found))
}

/// Returns the limit that a request exceeds.
fn exceeded(limits: &Limits, request: AccessRequest) -> Option<Limit> {
    let excludes = |qos: u8| limits.qos >> qos & 1 == 0;
    match request {
        AccessRequest::Publish {
            qos,
            retain,
            payload,
        } => {
            if excludes(qos) {
                return Some(Limit::Qos(Some(qos)));
            }
            if limits.retain.is_some_and(|only| only != retain) {
                return Some(Limit::Retain(retain));
            }
            let most = limits.max_payload;
            (payload > most).then_some(Limit::Payload {
                bytes: payload,
                most,
            })
        }
        AccessRequest::Subscribe { qos: Some(qos) } if excludes(qos) => Some(Limit::Qos(Some(qos))),
        AccessRequest::Subscribe { .. } | AccessRequest::Receive => None,
    }
}

/// Whether the first level of a rule's filter could be that of a topic.
fn starts_alike(rule: &Rule, topic: &[u8]) -> bool {
    let first = rule.filter.text().split('/').next().unwrap_or_default();
    let asked = topic.split(|byte| *byte == b'/').next().unwrap_or_default();
    first.contains(['%', '$', '+', '#']) || first.as_bytes() == asked
}

/// Returns how far these filters are from matching, and the first level of the nearest that differs. `None` if no
/// level is the same.
fn differing(filters: &[Box<str>], question: &Question) -> Option<(u32, Obstacle)> {
    let asked = std::str::from_utf8(question.topic).ok()?;
    let asked = match asked.strip_prefix("$share/") {
        Some(rest) => rest.split_once('/')?.1,
        None => asked,
    };
    let asked: Vec<_> = asked.split('/').collect();
    filters
        .iter()
        .filter_map(|filter| compare(filter, &asked))
        .min_by_key(|(cost, _)| *cost)
}

fn compare(filter: &str, asked: &[&str]) -> Option<(u32, Obstacle)> {
    let granted: Vec<_> = filter.split('/').collect();
    let (mut same, mut cost, mut first, mut is_wider) = (0, 0, None, false);
    for place in 0..asked.len().max(granted.len()) {
        let (asks, grants) = (asked.get(place).copied(), granted.get(place).copied());
        let price = match (asks, grants) {
            (Some("#"), Some("#")) => break,
            (Some("#"), _) | (Some("+"), Some(_)) if asks != grants && grants != Some("#") => {
                is_wider |= first.is_none();
                2
            }
            (_, Some("#")) => break,
            (Some(asks), Some(grants)) if asks == grants => {
                same += 1;
                0
            }
            (Some(_), Some("+")) => 0,
            (Some(asks), Some(grants)) if are_alike(asks, grants) => {
                same += 1;
                3
            }
            _ => 7,
        };
        if price > 0 && first.is_none() {
            first = Some(place);
        }
        cost += price;
        if asks == Some("#") {
            break;
        }
    }
    if same == 0 && !is_wider {
        return None;
    }
    let place = first?;
    let level = |levels: &[&str]| levels.get(place).map(|level| Box::from(*level));
    let obstacle = match is_wider {
        true => Obstacle::Wider {
            filter: filter.into(),
        },
        false => Obstacle::Filter {
            filter: filter.into(),
            level: place + 1,
            asked: level(asked),
            granted: level(&granted),
        },
    };
    Some((cost, obstacle))
}

/// Whether one text could be the other with a typing mistake: they differ in case, or in one or two characters of
/// several.
fn are_alike(one: &str, other: &str) -> bool {
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    let longest = one.len().max(other.len());
    if !(4..=64).contains(&longest) {
        return false;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()] <= 2 && row[other.len()] * 3 <= longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::claims::{Reading, TokenRules, Verbs};
    use input::json::Place;
    use serde_json::{Value, json};

    const POLICY: &str = "time_zone = \"UTC\"\n\n[[rule]]\nname = \"own\"\nallow.both = [\"dev/%c/#\", \"x\"]\n\n\
                          [[rule]]\nname = \"closed\"\ndeny.publish = \"dev/+/closed\"\npriority = 1\n\
                          [[rule]]\nname = \"night\"\nwhen.time = \"22:00-06:00\"\nallow.both = \"door/open\"\n\
                          [[rule]]\nname = \"keepers\"\nwhen.permission = \"keep\"\nallow.both = \"zoo/#\"\n\
                          [[rule]]\nname = \"small\"\nallow.publish = \"log\"\nmax_payload = 10\nqos = [0, 1]\n";

    fn why(claims: Value, request: AccessRequest, topic: &str) -> WhyRules {
        let client = ClientAttributes::with_claims("pump", claims);
        let reading = Reading {
            topics: Some(Place::Name("topics".into())),
            permissions: true,
            scope: false,
            verbs: Verbs::default(),
            placeholders: true,
            admin: None,
        };
        let rules = reading.rules(&client.claims).unwrap();
        let file = Arc::new(PolicyFile::compile(POLICY).unwrap());
        let token = Arc::new(TokenRules::compile(&rules));
        let rights = Rights::new(token, Some(&file), client.clone()).unwrap();
        let question = Question {
            request,
            topic: topic.as_bytes(),
            now: Unix(12 * 3600),
        };
        let why = rights.explain(&reading.named_rules(&client.claims), &client, &question);
        let decided = rights.allow(request, topic.as_bytes(), question.now);
        let by = why.decided_by.as_ref();
        assert_eq!(decided, by.is_some_and(|rule| rule.effect == Effect::Allow));
        why
    }

    fn publish(payload: u32) -> AccessRequest {
        AccessRequest::Publish {
            qos: 0,
            retain: false,
            payload,
        }
    }

    #[test]
    fn the_rule_that_decides_is_found_where_it_is_written() {
        let claims = json!({"topics": ["a/b", "c"], "permissions": ["publish:p", "subscribe:s/#"]});
        for (topic, text) in [
            ("dev/pump/x", "rule 'own' (line 3), which allows 'dev/%c/#'"),
            ("x", "rule 'own' (line 3), which allows 'x'"),
            (
                "dev/pump/closed",
                "rule 'closed' (line 7), which denies 'dev/+/closed'",
            ),
            ("c", "entry 2 of its claim 'topics', which allows 'c'"),
            ("p", "entry 1 of its claim 'permissions', which allows 'p'"),
        ] {
            let why = why(claims.clone(), publish(0), topic);
            assert_eq!(why.decided_by.unwrap().to_string(), text, "{topic}");
        }
    }

    #[test]
    fn the_nearest_rule_is_found_with_what_stands_in_its_way() {
        let claims =
            json!({"topics": ["temperature/kitchen/raw"], "permissions": ["subscribe:s/#"]});
        let subscribe = AccessRequest::Subscribe { qos: Some(0) };
        for (request, topic, rule, obstacle) in [
            (
                publish(0),
                "dev/pomp/x",
                "'own'",
                "level 2 is 'pomp', and 'pump' in its filter",
            ),
            (
                publish(0),
                "dev/pump/closed",
                "'own'",
                "comes first, and denies",
            ),
            (publish(0), "door/open", "'night'", "other times"),
            (publish(0), "zoo/1", "'keepers'", "'keep'"),
            (publish(11), "log", "'small'", "11 bytes"),
            (
                publish(0),
                "s/1",
                "'permissions'",
                "subscribing, not publishing",
            ),
            (
                publish(0),
                "temprature/kitchen/raw",
                "'topics'",
                "'temprature'",
            ),
            (subscribe, "dev/#", "'own'", "more than"),
            (subscribe, "#", "'own'", "more than"),
        ] {
            let why = why(claims.clone(), request, topic);
            let nearest = why.nearest.unwrap_or_else(|| panic!("{topic}"));
            let rule_text = nearest.rule.to_string();
            assert!(rule_text.contains(rule), "{topic}: {rule_text}");
            let texts: Vec<_> = nearest.obstacles.iter().map(ToString::to_string).collect();
            assert!(texts.join("; ").contains(obstacle), "{topic}: {texts:?}");
        }
        assert_eq!(why(claims, publish(0), "nothing/like/it").nearest, None);
    }
}
