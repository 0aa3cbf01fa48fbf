//! Finds the rules whose conditions may hold for a client, without trying those of every rule.
//!
//! Each rule is filed under one of its conditions, by the values that this condition asks for: a claim, a permission,
//! a role or a client ID. A rule that has no such condition is tried for every client. What the index finds is only a
//! candidate: the other conditions of the rule still have to be tried.

use std::collections::HashMap;

use input::json::Place;
use serde_json::Value;

use super::conditions::{Claim, Condition, Test};
use crate::{claims::permissions, client::ClientAttributes};

/// The numbers of rules by what their conditions ask for.
#[derive(Debug, Default)]
pub(crate) struct Index {
    every_client: Vec<u32>,
    claims: Vec<(Place, ClaimIndex)>,
    /// By the place of a claim that is a list: permissions and roles.
    lists: Vec<(Place, HashMap<String, Vec<u32>>)>,
    client_ids: HashMap<String, Vec<u32>>,
}

/// Rules by the value of one claim.
#[derive(Debug, Default)]
struct ClaimIndex {
    is: HashMap<Value, Vec<u32>>,
    has: HashMap<Value, Vec<u32>>,
}

impl Index {
    /// Files rules, which are numbered from 0, by their conditions.
    pub(crate) fn new<'a>(rules: impl Iterator<Item = &'a [Condition]>) -> Self {
        let mut index = Self::default();
        for (number, conditions) in (0..).zip(rules) {
            match conditions.iter().find(|condition| can_file(condition)) {
                Some(condition) => index.file(number, condition),
                None => index.every_client.push(number),
            }
        }
        index
    }

    fn file(&mut self, number: u32, condition: &Condition) {
        match condition {
            Condition::Claim(any) => {
                for Claim { place, test } in any {
                    let index = entry(&mut self.claims, place);
                    let (rules, value) = match test {
                        Test::Is(value) => (&mut index.is, value),
                        Test::Has(value) => (&mut index.has, value),
                    };
                    rules.entry(value.clone()).or_default().push(number);
                }
            }
            Condition::Permission(any) => {
                self.file_in_list(&Place::Name("permissions".into()), any, number);
            }
            Condition::Role { claim, any } => self.file_in_list(claim, any, number),
            Condition::ClientId(any) => {
                for id in any {
                    self.client_ids.entry(id.clone()).or_default().push(number);
                }
            }
            Condition::ClientIdPattern(_)
            | Condition::UsernamePattern(_)
            | Condition::Network(_)
            | Condition::Port(_)
            | Condition::Certificate(_) => {
                unreachable!("nothing to look such a condition up by")
            }
        }
    }

    fn file_in_list(&mut self, claim: &Place, any: &[String], number: u32) {
        let rules = entry(&mut self.lists, claim);
        for one in any {
            rules.entry(one.clone()).or_default().push(number);
        }
    }

    /// Returns the numbers of the rules whose conditions may hold, in ascending order.
    pub(crate) fn candidates(&self, client: &ClientAttributes) -> Vec<u32> {
        let mut found = self.every_client.clone();
        let mut add = |rules: Option<&Vec<u32>>| found.extend(rules.into_iter().flatten());
        for (place, index) in &self.claims {
            let Some(value) = place.find(&client.claims) else {
                continue;
            };
            add(index.is.get(value));
            match value {
                Value::Array(elements) => elements
                    .iter()
                    .for_each(|element| add(index.has.get(element))),
                Value::String(words) if !index.has.is_empty() => words
                    .split(' ')
                    .for_each(|word| add(index.has.get(&Value::from(word)))),
                _ => {}
            }
        }
        for (claim, rules) in &self.lists {
            let entries = claim.find(&client.claims).map(permissions::entries);
            for entry in entries.unwrap_or_default() {
                add(rules.get(entry));
            }
        }
        add(self.client_ids.get(&*client.client_id));
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn can_file(condition: &Condition) -> bool {
    match condition {
        Condition::Claim(_) | Condition::Permission(_) | Condition::Role { .. } => true,
        Condition::ClientId(any) => !any.iter().any(|pattern| pattern.contains('*')),
        Condition::ClientIdPattern(_)
        | Condition::UsernamePattern(_)
        | Condition::Network(_)
        | Condition::Port(_)
        | Condition::Certificate(_) => false,
    }
}

/// Returns the value of this key. There are few keys: the claims that a policy file names.
fn entry<'t, K: PartialEq + Clone, V: Default>(table: &'t mut Vec<(K, V)>, key: &K) -> &'t mut V {
    let place = table.iter().position(|(one, _)| one == key);
    let place = place.unwrap_or_else(|| {
        table.push((key.clone(), V::default()));
        table.len() - 1
    });
    &mut table[place].1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn claim_conditions() -> impl Strategy<Value = Condition> {
        let place = prop_oneof![
            Just(Place::Name("site".into())),
            Just(Place::Name("permissions".into())),
            Just(Place::Pointer("/app/plan".into())),
        ];
        let value = prop_oneof![
            Just(json!("a")),
            Just(json!("b")),
            Just(json!(1)),
            Just(json!(["a"]))
        ];
        let test = (value, any::<bool>()).prop_map(|(value, is)| match is {
            true => Test::Is(value),
            false => Test::Has(value),
        });
        let claim = (place, test).prop_map(|(place, test)| Claim { place, test });
        prop::collection::vec(claim, 1..3).prop_map(Condition::Claim)
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        let texts = || prop::collection::vec("[ab*]", 1..3);
        prop_oneof![
            claim_conditions(),
            texts().prop_map(Condition::Permission),
            texts().prop_map(|any| Condition::Role {
                claim: Place::Name("roles".into()),
                any
            }),
            texts().prop_map(Condition::ClientId),
            Just(Condition::Port(vec![1883])),
        ]
    }

    fn claims() -> impl Strategy<Value = Value> {
        let value = || {
            prop_oneof![
                Just(json!("a")),
                Just(json!("a b")),
                Just(json!(["a", 1, ["a"]])),
                Just(json!(1)),
                Just(json!(null))
            ]
        };
        (value(), value(), value(), value()).prop_map(|(site, permissions, roles, plan)| {
            json!({"site": site, "permissions": permissions, "roles": roles, "app": {"plan": plan}})
        })
    }

    proptest! {
        /// The candidates are all rules whose conditions hold, and each once.
        #[test]
        fn no_rule_that_holds_is_missed(
            rules in prop::collection::vec(prop::collection::vec(any_condition(), 0..3), 0..12),
            claims in claims(),
            client_id in "[ab]",
            port in prop_oneof![Just(None), Just(Some(1883))],
        ) {
            let client = ClientAttributes {
                port,
                ..ClientAttributes::with_claims(&client_id, claims)
            };
            let holds = |number: &u32| rules[*number as usize].iter().all(|condition| condition.holds(&client));
            let naive: Vec<u32> = (0..rules.len() as u32).filter(holds).collect();
            let found = Index::new(rules.iter().map(Vec::as_slice)).candidates(&client);
            prop_assert!(found.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(found.into_iter().filter(holds).collect::<Vec<_>>(), naive);
        }
    }

    #[test]
    fn of_many_rules_on_one_claim_only_those_that_hold_are_tried() {
        let condition = |i: u32| {
            let test = Test::Is(json!(format!("site-{i}")));
            [Condition::Claim(vec![Claim {
                place: Place::Name("site".into()),
                test,
            }])]
        };
        let many = if cfg!(miri) { 200 } else { 10_000 };
        let rules: Vec<_> = (0..many).map(condition).collect();
        let index = Index::new(rules.iter().map(<[Condition; 1]>::as_slice));
        let claims = json!({"site": "site-77"});
        let client = ClientAttributes::with_claims("c", claims);
        assert_eq!(index.candidates(&client), [77]);
    }
}
