//! Where a provider puts the claims that have fixed names here.

use serde_json::{Map, Value};

use input::json::Places;

/// Where a provider puts the claims that have fixed names here: `permissions`, `scope` and `roles`.
///
/// A verified token is read as if it had these claims with the values that are found there. So everything that asks for
/// them afterwards, from `rights` to the policy file and what is saved, knows one name each.
#[derive(Clone, Debug, Default)]
pub struct ClaimSources(Vec<(&'static str, Places)>);

impl ClaimSources {
    /// Returns sources. Each has the fixed name of its claim.
    pub(crate) fn new(sources: impl IntoIterator<Item = (&'static str, Places)>) -> Self {
        Self(sources.into_iter().collect())
    }

    /// Gives the claims their fixed names.
    pub(crate) fn apply(&self, members: &mut Map<String, Value>) {
        let changes = self
            .0
            .iter()
            .filter_map(|(name, places)| match places.find(members) {
                Some((place, _)) if place.is_name(name) => None,
                Some((_, value)) => Some((*name, Some(value.clone()))),
                None if places.has_name(name) => None,
                // The claim of this name is another one.
                None => Some((*name, None)),
            });
        let changes = changes.collect::<Vec<_>>();
        for (name, value) in changes {
            match value {
                Some(value) => drop(members.insert(name.to_owned(), value)),
                None => drop(members.remove(name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_get_their_fixed_names() {
        let sources = ClaimSources::new([
            ("permissions", Places::parse(["/app/rights"])),
            ("scope", Places::parse(["scope", "scp"])),
            (
                "roles",
                Places::parse(["realm_access.roles", "cognito:groups"]),
            ),
        ]);
        for (claims, expected) in [
            (json!({}), json!({})),
            (
                json!({"permissions": ["a"], "scope": "b"}),
                json!({"scope": "b"}),
            ),
            (
                json!({"scope": "b", "scp": ["c"]}),
                json!({"scope": "b", "scp": ["c"]}),
            ),
            (json!({"scp": ["c"]}), json!({"scope": ["c"], "scp": ["c"]})),
            (
                json!({"scope": null, "scp": "c"}),
                json!({"scope": "c", "scp": "c"}),
            ),
            (
                json!({"cognito:groups": ["g"]}),
                json!({"roles": ["g"], "cognito:groups": ["g"]}),
            ),
            (
                json!({"realm_access": {"roles": ["r"]}, "roles": ["x"]}),
                json!({"realm_access": {"roles": ["r"]}, "roles": ["r"]}),
            ),
            (
                json!({"realm_access.roles": ["s"], "realm_access": {"roles": ["r"]}}),
                json!({"realm_access.roles": ["s"], "realm_access": {"roles": ["r"]}, "roles": ["s"]}),
            ),
            (
                json!({"app": {"rights": ["a"]}}),
                json!({"app": {"rights": ["a"]}, "permissions": ["a"]}),
            ),
        ] {
            let mut members = claims.as_object().unwrap().clone();
            sources.apply(&mut members);
            assert_eq!(Value::from(members), expected, "{claims}");
        }
    }
}
