//! Which user name a token gives its client.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value};

use crate::refusal::{ClaimProblem, Detail, Reason, Refusal};
use acl::{
    client::ClientAttributes,
    rules::{Placeholder, Template},
};
use input::json::Places;

/// The longest user name that a client gets, in bytes. User names appear in broker logs; Auth0's `sub` has at
/// most 255 bytes.
const MAX_USERNAME: usize = 1024;

/// Where the user name of a client with a token comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Usernames {
    /// It is the text of the first of these claims that the token has.
    Claims(Places),
    /// It is the result of this template, such as `${tenant}:${sub}`.
    Template(Template),
}

impl Usernames {
    /// Returns the user name that these claims give.
    ///
    /// # Errors
    ///
    /// Returns [`Reason::TokenUsername`] if that is not a text that a broker accepts as a user name.
    pub(crate) fn of<'c>(&self, claims: &'c Map<String, Value>) -> Result<Cow<'c, str>, Refusal> {
        let refuse = |detail| Err(Refusal::new(Reason::TokenUsername, detail));
        let (source, name) = match self {
            Self::Claims(places) => match places.find(claims) {
                Some((place, Value::String(name))) => (place.text(), Cow::from(name)),
                Some((place, _)) => return refuse(unfit(place.text(), ClaimProblem::NotText)),
                None => return refuse(unfit(&places.text(), ClaimProblem::Missing)),
            },
            Self::Template(template) => match filled(template, claims) {
                Ok(name) => ("username_template", Cow::from(name)),
                Err(detail) => return refuse(detail),
            },
        };
        let problem = match &*name {
            "" => ClaimProblem::Empty,
            name if name.len() > MAX_USERNAME => ClaimProblem::TooLong(MAX_USERNAME),
            name if name.chars().any(char::is_control) => ClaimProblem::ControlCharacter,
            _ => return Ok(name),
        };
        refuse(unfit(source, problem))
    }
}

fn unfit(source: &str, problem: ClaimProblem) -> Detail {
    let name = source.to_owned();
    Detail::Claim { name, problem }
}

/// Returns a template with the values of claims.
fn filled(template: &Template, claims: &Map<String, Value>) -> Result<String, Detail> {
    let named = template.placeholders().filter_map(|(one, _)| match one {
        Placeholder::Claim(name) => claims.get_key_value(&**name),
        Placeholder::ClientId | Placeholder::Username | Placeholder::EachOf(_) => None,
    });
    let client = ClientAttributes {
        claims: Arc::new(
            named
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        ),
        ..ClientAttributes::default()
    };
    let mut names = template.expand(&client).map_err(Detail::Placeholder)?;
    Ok(names.pop().map(String::from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(of: &Usernames, claims: &Value) -> Result<String, String> {
        let refusal = match of.of(claims.as_object().unwrap()) {
            Ok(name) => return Ok(name.into_owned()),
            Err(refusal) => refusal,
        };
        assert_eq!(refusal.reason, Reason::TokenUsername);
        Err(refusal.detail.to_string())
    }

    #[test]
    fn the_first_claim_that_is_present_is_the_user_name() {
        let of = Usernames::Claims(Places::parse(["preferred_username", "/app/name", "sub"]));
        for (claims, expected) in [
            (json!({"preferred_username": "a", "sub": "b"}), "a"),
            (json!({"preferred_username": null, "sub": "b"}), "b"),
            (json!({"app": {"name": "c"}, "sub": "b"}), "c"),
            (json!({"sub": "b"}), "b"),
        ] {
            assert_eq!(name(&of, &claims).as_deref(), Ok(expected), "{claims}");
        }
        for (claims, part) in [
            (
                json!({}),
                "'preferred_username or /app/name or sub' is missing",
            ),
            // It does not make way for another one.
            (
                json!({"preferred_username": "", "sub": "b"}),
                "preferred_username is empty",
            ),
            (
                json!({"preferred_username": 7, "sub": "b"}),
                "preferred_username is not a string",
            ),
            (json!({"sub": "a\nb"}), "sub holds a control character"),
            (
                json!({"sub": "x".repeat(1025)}),
                "sub is longer than 1024 bytes",
            ),
        ] {
            let found = name(&of, &claims).unwrap_err();
            assert!(found.contains(part), "{claims}: {found}");
        }
    }

    #[test]
    fn a_template_is_filled_from_claims() {
        let of = Usernames::Template(Template::parse("${tid}:${oid}").unwrap());
        assert_eq!(
            name(&of, &json!({"tid": "t", "oid": 7})).as_deref(),
            Ok("t:7")
        );
        for (claims, part) in [
            (json!({"tid": "t"}), "its claim 'oid' is missing"),
            (json!({"tid": "t/", "oid": "a"}), "its claim 'tid' is 't/'"),
            (json!({"tid": "", "oid": "a"}), "its claim 'tid' is empty"),
        ] {
            let found = name(&of, &claims).unwrap_err();
            assert!(found.contains(part), "{claims}: {found}");
        }
    }
}
