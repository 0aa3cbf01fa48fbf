//! Requirements: what a client must have to sign in, whatever it may do then.
//!
//! They are checked at a sign-in and at a renewal, and not between: a time window that closes ends no session.

use super::conditions::Condition;
use crate::{client::ClientAttributes, diagnosis::UnmetCondition, rules::windows::OpenWindows};

/// The longest message, in characters.
pub(super) const MAX_MESSAGE: usize = 200;

/// A requirement.
#[derive(Debug)]
pub(super) struct Requirement {
    /// Its name.
    pub(super) name: Box<str>,
    /// The line on which it begins, counted from 1.
    pub(super) line: u32,
    /// Which clients it concerns.
    pub(super) concerns: TimedConditions,
    /// What it asks of them.
    pub(super) asks: TimedConditions,
    /// What a client is told that does not meet it.
    pub(super) message: Box<str>,
}

/// Conditions that all must hold, within a time window.
#[derive(Debug, Default)]
pub(super) struct TimedConditions {
    /// The conditions.
    pub(super) conditions: Box<[Condition]>,
    /// The number of the time window, or 0 if the time does not matter.
    pub(super) window: u32,
}

/// A requirement that a client does not meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnmetRequirement {
    /// The name of the requirement.
    pub name: Box<str>,
    /// The first condition that does not hold; `None` if it is the time.
    pub condition: Option<UnmetCondition>,
    /// The operator's message.
    pub message: Box<str>,
}

/// A requirement as it is written, for tools.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenRequirement<'f> {
    /// Its name.
    pub(crate) name: &'f str,
    /// The line on which it begins.
    pub(crate) line: u32,
    /// Which clients it concerns.
    pub(crate) concerns: &'f [Condition],
    /// What it asks of them.
    pub(crate) asks: &'f [Condition],
}

impl Requirement {
    /// Returns what this client lacks.
    pub(super) fn unmet(
        &self,
        client: &ClientAttributes,
        windows: &OpenWindows,
    ) -> Option<UnmetRequirement> {
        // To leave a client out because its address is unknown would be to let it in.
        let may_hold =
            |condition: &Condition| condition.holds(client) || condition.is_unknown(client);
        let is_concerned =
            windows.is_open(self.concerns.window) && self.concerns.conditions.iter().all(may_hold);
        if !is_concerned {
            return None;
        }
        let mut conditions = self.asks.conditions.iter();
        let condition = conditions.find(|condition| !condition.holds(client));
        if condition.is_none() && windows.is_open(self.asks.window) {
            return None;
        }
        Some(UnmetRequirement {
            name: self.name.clone(),
            condition: condition.cloned().map(UnmetCondition),
            message: self.message.clone(),
        })
    }

    /// Returns all conditions that it depends on.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let concerns = self.concerns.conditions.iter();
        concerns.chain(&self.asks.conditions)
    }

    /// Returns it as it is written.
    pub(super) fn written(&self) -> WrittenRequirement<'_> {
        WrittenRequirement {
            name: &self.name,
            line: self.line,
            concerns: &self.concerns.conditions,
            asks: &self.asks.conditions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PolicyFile;
    use super::*;
    use crate::time::Unix;
    use serde_json::{Value, json};

    const FILE: &str = r#"
        roles_claim = "roles"

        [[require]]
        name = "verified e-mail"
        that.claim = { name = "email_verified", is = true }
        message = "confirm your e-mail address first"

        [[require]]
        name = "second factor"
        when.role = "operator"
        that.claim = { name = "amr", has = ["mfa", "otp"] }
        message = "operators sign in with a second factor"

        [[require]]
        name = "office"
        when.role = "operator"
        that = { network = "10.0.0.0/8", time = "08:00-18:00" }
        message = "from the office, by day"

        [[require]]
        name = "cellar"
        when.network = "10.9.0.0/16"
        that.client_id = "cellar-*"
        message = "only devices of the cellar"
    "#;

    fn unmet(claims: Value, client_id: &str, address: Option<&str>, hour: u64) -> Option<String> {
        let file = PolicyFile::compile(FILE).unwrap();
        let client = ClientAttributes {
            address: address.map(|address| address.parse().unwrap()),
            ..ClientAttributes::with_claims(client_id, claims)
        };
        let now = Unix(1_800_000_000 / 86_400 * 86_400 + hour * 3600);
        file.unmet_requirement(&client, now)
            .map(|unmet| unmet.to_string())
    }

    #[test]
    fn the_first_requirement_that_is_not_met_is_named_with_its_message() {
        let operator =
            |amr: Value| json!({"email_verified": true, "roles": ["operator"], "amr": amr});
        let guest = json!({"email_verified": true});
        let office = Some("10.1.2.3");
        for (claims, client_id, address, hour, found) in [
            (guest.clone(), "x", Some("192.0.2.1"), 3, None),
            (
                json!({"email_verified": "true"}),
                "x",
                office,
                9,
                Some(
                    "it does not meet the requirement 'verified e-mail', because its claim 'email_verified' is not \
                     'true': confirm your e-mail address first",
                ),
            ),
            (
                json!({}),
                "x",
                office,
                9,
                Some("confirm your e-mail address first"),
            ),
            (
                operator(json!(["pwd"])),
                "x",
                office,
                9,
                Some("operators sign in with a second factor"),
            ),
            (operator(json!(["otp"])), "x", office, 9, None),
            (
                operator(json!(["otp"])),
                "x",
                Some("192.0.2.1"),
                9,
                Some(
                    "'office', because its address is in none of the listed networks: from the office, by day",
                ),
            ),
            (
                operator(json!(["otp"])),
                "x",
                office,
                19,
                Some("'office', because it allows other times only: from the office, by day"),
            ),
            // A broker that does not tell the address does not make it a right one.
            (
                operator(json!(["otp"])),
                "x",
                None,
                9,
                Some("from the office, by day"),
            ),
            (
                guest.clone(),
                "x",
                Some("10.9.1.1"),
                9,
                Some("only devices of the cellar"),
            ),
            (guest.clone(), "cellar-7", Some("10.9.1.1"), 9, None),
            // Nor does it free a client of a requirement.
            (
                guest.clone(),
                "x",
                None,
                9,
                Some("only devices of the cellar"),
            ),
            (guest, "cellar-7", None, 9, None),
        ] {
            let said = unmet(claims.clone(), client_id, address, hour);
            match found {
                None => assert_eq!(said, None, "{claims}"),
                Some(part) => assert!(
                    said.as_ref().is_some_and(|said| said.contains(part)),
                    "{claims}: {said:?}"
                ),
            }
        }
    }

    #[test]
    fn requirements_are_no_rules() {
        let file = PolicyFile::compile(FILE).unwrap();
        assert!(file.is_empty() && file.written().next().is_none() && file.members().is_empty());
        assert_eq!(file.size().to_string(), "0 rules and 4 requirements");
        let named: Vec<_> = file.required_members().into_iter().collect();
        assert_eq!(named, ["amr", "email_verified", "roles"]);
        assert_eq!(file.line_of_requirement("second factor"), Some(9));
        assert_eq!(file.line_of("second factor"), None);
    }
}
