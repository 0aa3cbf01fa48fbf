//! Who a client is: its account, and the client IDs that its token allows.
//!
//! MQTT lets every client use every client ID, and with it the queued messages of that session. An operator can bind
//! client IDs to a token: to a claim, or to a template of claims.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    account::{Account, IssuerNumber},
    clock::Unix,
    decision_log::record::TokenId,
    refusal::{ClaimProblem, Detail, Reason, Refusal},
    saved_sessions::SavedClaims,
};
use acl::{claims::TokenRules, client::ClientAttributes, rules::Template};

/// The rule that a client ID must satisfy.
#[derive(Clone, Debug, Default)]
pub(crate) enum ClientIds {
    /// Every client ID is allowed.
    #[default]
    Any,
    /// The client ID is the text of this claim, or one of a list of texts.
    Claim(String),
    /// The client ID is the result of this template, such as `device-${sub}`.
    Template(Template),
}

/// The client IDs that one token allows; `None` if it allows all.
pub(crate) type Allowed = Option<Arc<[Box<str>]>>;

impl ClientIds {
    /// Returns the client IDs that a token with these claims allows.
    ///
    /// # Errors
    ///
    /// Returns [`Reason::ClientId`] if the claims name none, which makes the token unusable.
    pub(crate) fn of(
        &self,
        username: &Arc<str>,
        claims: &Arc<Map<String, Value>>,
    ) -> Result<Allowed, Refusal> {
        let refuse = |detail| Err(Refusal::new(Reason::ClientId, detail));
        let ids: Vec<Box<str>> = match self {
            Self::Any => return Ok(None),
            Self::Claim(name) => {
                let unfit = |problem| {
                    let name = name.clone();
                    refuse(Detail::Claim { name, problem })
                };
                let texts = match claims.get(name) {
                    Some(Value::String(one)) if one.is_empty() => {
                        return unfit(ClaimProblem::Empty);
                    }
                    Some(Value::String(one)) => vec![Some(one.as_str())],
                    Some(Value::Array(many)) => many.iter().map(Value::as_str).collect(),
                    Some(_) => vec![None],
                    None => return unfit(ClaimProblem::Missing),
                };
                let usable =
                    |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Into::into);
                match texts.into_iter().map(usable).collect() {
                    Some(ids) => ids,
                    None => return unfit(ClaimProblem::NotTexts),
                }
            }
            Self::Template(template) => {
                let client = ClientAttributes {
                    username: Arc::clone(username),
                    claims: Arc::clone(claims),
                    ..ClientAttributes::default()
                };
                match template.expand(&client) {
                    Ok(ids) => ids,
                    Err(why) => return refuse(Detail::Placeholder(why)),
                }
            }
        };
        Ok(Some(ids.into()))
    }
}

/// A verified identity, and what it allows.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The user name.
    pub username: Arc<str>,
    /// The issuer of its token.
    pub issuer: IssuerNumber,
    /// The account. It may come back for what is kept under its client ID.
    pub account: Account,
    /// The client IDs that it may be used with.
    pub client_ids: Allowed,
    /// What its token allows to publish and subscribe.
    pub token_rules: Arc<TokenRules>,
    /// The claims, if rules may name them.
    pub claims: Option<Arc<Map<String, Value>>>,
    /// The claims that are saved with its session, if sessions are saved.
    pub saved: Option<Box<SavedClaims>>,
    /// When its rights end.
    pub until: Unix,
    /// The key that signed its token.
    pub signing_key: SigningKey,
    /// The token that its client presented, if it presented one and decisions are logged.
    pub token_id: Option<TokenId>,
}

/// A key that signed a token, by the number that this instance of the plugin gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SigningKey(pub u16);

/// The result of checking a credential.
pub(crate) type Verdict = Result<Identity, Refusal>;

/// Checks that a client ID is one of the allowed ones.
///
/// # Errors
///
/// Returns [`Reason::ClientId`] if not.
pub(crate) fn check(allowed: &Allowed, client_id: &str) -> Result<(), Refusal> {
    let Some(ids) = allowed else {
        return Ok(());
    };
    if ids.iter().any(|id| &**id == client_id) {
        return Ok(());
    }
    let ids = ids.iter().take(3).cloned().collect();
    Err(Refusal::new(Reason::ClientId, Detail::ClientIds(ids)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ids(of: &ClientIds, claims: Value) -> Result<Vec<String>, String> {
        let claims = Arc::new(claims.as_object().unwrap().clone());
        match of.of(&"u".into(), &claims) {
            Ok(allowed) => Ok(allowed.unwrap().iter().map(ToString::to_string).collect()),
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::ClientId);
                Err(refusal.detail.to_string())
            }
        }
    }

    #[test]
    fn a_claim_allows_one_client_id_or_a_list() {
        let claim = ClientIds::Claim("https://mqtt.example/device".into());
        let of = |value: Value| ids(&claim, json!({ "https://mqtt.example/device": value }));
        assert_eq!(of(json!("d1")).unwrap(), ["d1"]);
        assert_eq!(of(json!(["d1", "d/2"])).unwrap(), ["d1", "d/2"]);
        assert!(of(json!([])).unwrap().is_empty());
        for bad in [
            json!(7),
            json!(null),
            json!(["d1", 2]),
            json!([""]),
            json!({}),
        ] {
            assert!(of(bad.clone()).unwrap_err().contains("neither"), "{bad}");
        }
        assert!(of(json!("")).unwrap_err().contains("is empty"));
        assert!(ids(&claim, json!({})).unwrap_err().contains("missing"));
    }

    #[test]
    fn a_template_is_filled_from_claims() {
        let template = |text| ClientIds::Template(Template::parse(text).unwrap());
        let claims =
            json!({"sub": "auth0|7", "n": 7, "list": ["a", "b"], "evil": "a/b", "empty": ""});
        let of = |text| ids(&template(text), claims.clone());
        assert_eq!(of("device-${sub}").unwrap(), ["device-auth0|7"]);
        assert_eq!(of("${n}/${sub}").unwrap(), ["7/auth0|7"]);
        assert_eq!(of("x-${list[*]}-y").unwrap(), ["x-a-y", "x-b-y"]);
        assert_eq!(of("u-%u").unwrap(), ["u-u"]);
        for (text, why) in [
            ("${evil}", "a/b"),
            ("${empty}", "empty"),
            ("${none}", "missing"),
            ("${list}", "neither"),
        ] {
            assert!(of(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn client_ids_are_compared_exactly() {
        let allowed: Allowed = Some(["d1".into(), "d2".into()].into());
        assert!(check(&allowed, "d2").is_ok() && check(&None, "whatever").is_ok());
        for other in ["D1", "d", "d11", ""] {
            assert!(
                check(&allowed, other)
                    .unwrap_err()
                    .detail
                    .to_string()
                    .contains("'d1' or 'd2'")
            );
        }
        assert!(check(&Some([].into()), "d").is_err());
    }
}
