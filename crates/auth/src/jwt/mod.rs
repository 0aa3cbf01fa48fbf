//! Verifies tokens and gives access to their claims (RFC 7519, RFC 8725, RFC 9068, OpenID Connect Core).
//!
//! * [`jws`]: the outer layer and the signature
//! * `jwk`: one public key · [`jwks`]: the tenant's keys · [`jwks_cache`]: the current keys · [`saved_jwks`]: keys on
//!   disk, for a restart · [`fetch_report`]: what came of fetching
//! * this file: the claims. `jsonwebtoken` is not used for them: it reads the clock itself, and checks
//!   issuer, audience and nbf only if the token has them.

pub mod fetch_report;
mod jwk;
pub mod jwks;
pub mod jwks_cache;
pub mod jws;
pub(crate) mod saved_jwks;

use std::{slice, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    algorithm::Algorithm,
    claim_sources::ClaimSources,
    clock::Unix,
    config::IssuerConfig,
    jwt::{jwks::KeySet, jws::PresentedToken},
    refusal::{ClaimProblem, Detail, Part, Reason, Refusal, TokenDetail},
};
use input::json::{self, JsonError, Places};

/// What a token must satisfy.
#[derive(Debug)]
pub struct Requirements {
    /// Accepted values of `iss`, compared byte for byte.
    pub issuers: Vec<Arc<str>>,
    /// Accepted signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The secret of HS256 tokens.
    pub secret: Option<jws::HmacSecret>,
    /// Allowed difference between clocks, in seconds.
    pub leeway: u64,
    /// Claims that stand in for `aud`: one of them may have one of the audiences instead.
    pub audience_claim: Places,
    /// Where the provider puts claims that have other names here.
    pub sources: ClaimSources,
}

impl Requirements {
    /// Returns what an issuer's tokens must satisfy.
    pub(crate) fn of(issuer: &IssuerConfig, leeway: u64) -> Self {
        Self {
            issuers: issuer.names.iter().map(|one| (&**one).into()).collect(),
            algorithms: issuer.algorithms.clone(),
            secret: issuer.hs256_secret.as_ref().and_then(jws::HmacSecret::new),
            leeway,
            audience_claim: issuer.audience_claim.clone(),
            sources: issuer.sources.clone(),
        }
    }
}

/// The claims of a verified token.
#[derive(Debug)]
pub struct Claims {
    members: Map<String, Value>,
    /// The token's issuer, one of the accepted ones.
    pub issuer: Arc<str>,
    /// When the rights that the token grants end: `exp` plus the leeway.
    pub until: Unix,
    /// What the token was signed with.
    pub signed_by: jws::SignedBy,
}

impl Claims {
    /// Returns the claim with this exact name. Names contain dots and slashes
    /// (`https://mqtt.example/topics`), so a name is not a path.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// Returns all claims.
    pub fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// Returns all claims by value.
    pub(crate) fn into_members(self) -> Map<String, Value> {
        self.members
    }

    /// Returns the token's subject, or `None` if it has none. Providers other than Auth0 may leave `sub` out
    /// (RFC 7519, section 4.1.2). An empty one is none: all such tokens would share one account.
    pub fn subject(&self) -> Option<&str> {
        let sub = self.members.get("sub")?.as_str()?;
        (!sub.is_empty()).then_some(sub)
    }
}

/// Verifies a token for one of `audiences`.
///
/// # Errors
///
/// Returns a reason from one of the `token-…` rows of [`Reason`].
pub fn verify(
    token: &str,
    rules: &Requirements,
    audiences: &[String],
    keys: &KeySet,
    now: Unix,
) -> Result<Claims, Refusal> {
    verify_presented(&PresentedToken::new(token), rules, audiences, keys, now)
}

/// The same for a token whose issuer was looked up.
///
/// # Errors
///
/// As [`verify`].
pub(crate) fn verify_presented(
    token: &PresentedToken,
    rules: &Requirements,
    audiences: &[String],
    keys: &KeySet,
    now: Unix,
) -> Result<Claims, Refusal> {
    let signed = jws::verify(token, &rules.algorithms, keys, rules.secret.as_ref())?;
    let mut members = object(signed.payload, Part::Payload)?;
    let (issuer, until) = check(&members, rules, audiences, now)?;
    rules.sources.apply(&mut members);
    Ok(Claims {
        members,
        issuer,
        until,
        signed_by: signed.by,
    })
}

/// Returns claims **that nobody has verified**, as if a token with them had a valid signature. Claims that every token
/// must have are made up where they are missing. [`SignedBy::Secret`](jws::SignedBy) stands for the missing key.
///
/// # Errors
///
/// Returns what is wrong with the claims that are there.
pub(crate) fn unverified(
    mut members: Map<String, Value>,
    rules: &Requirements,
    audiences: &[String],
    now: Unix,
) -> Result<Claims, Refusal> {
    const ONE_DAY: u64 = 24 * 60 * 60;
    let issuer = rules.issuers.first().map(|issuer| Value::from(&**issuer));
    let audience = audiences.first().map(|audience| Value::from(&**audience));
    let end = Some(Value::from(now.0 + ONE_DAY));
    for (name, value) in [("iss", issuer), ("aud", audience), ("exp", end)] {
        if let Some(value) = value.filter(|_| !members.contains_key(name)) {
            members.insert(name.to_owned(), value);
        }
    }
    let (issuer, until) = check(&members, rules, audiences, now)?;
    rules.sources.apply(&mut members);
    Ok(Claims {
        members,
        issuer,
        until,
        signed_by: jws::SignedBy::Secret(0),
    })
}

/// Parses one of a token's two JSON objects.
fn object(bytes: &[u8], part: Part) -> Result<Map<String, Value>, Refusal> {
    json::object(bytes).map_err(|problem| not_json(part, problem))
}

fn not_json(part: Part, problem: JsonError) -> Refusal {
    let reason = match problem {
        JsonError::DuplicateMember => Reason::TokenDouble,
        _ => Reason::TokenMalformed,
    };
    Refusal::new(reason, TokenDetail::NotJson { part, problem })
}

fn check(
    claims: &Map<String, Value>,
    rules: &Requirements,
    audiences: &[String],
    now: Unix,
) -> Result<(Arc<str>, Unix), Refusal> {
    let Some(Value::String(iss)) = claims.get("iss") else {
        return Err(unfit("iss", ClaimProblem::MissingOrNotText));
    };
    let Some(issuer) = rules.issuers.iter().find(|ours| ***ours == **iss) else {
        let detail = TokenDetail::Issuer {
            found: iss.clone(),
            accepted: rules.issuers.clone(),
        };
        return Err(Refusal::new(Reason::TokenIssuer, detail));
    };

    check_audience(claims, &rules.audience_claim, audiences)?;

    // RFC 9449 and RFC 8705: a token that is bound to a key is no proof without that key.
    if claims.contains_key("cnf") {
        return Err(Refusal::new(Reason::TokenBound, TokenDetail::Bound));
    }
    check_kind(claims)?;

    let until = match claims.get("exp") {
        None => return Err(unfit("exp", ClaimProblem::Missing)),
        // A fraction is rounded down: rights end early rather than late.
        Some(exp) => Unix(date("exp", exp)?.floor() as u64),
    };
    let until_late = until.plus(rules.leeway);
    if now >= until_late {
        let seconds = now.0 - until.0;
        let detail = TokenDetail::Expired { seconds };
        return Err(Refusal::new(Reason::TokenExpired, detail));
    }
    // nbf: RFC 7519, section 4.1.5. iat: RFC 7519 leaves the check to the verifier. A token from the future
    // means that one of two clocks is wrong, and a refusal makes that visible.
    for claim in ["nbf", "iat"] {
        if let Some(value) = claims.get(claim) {
            let from = Unix(date(claim, value)?.ceil() as u64);
            if from > now.plus(rules.leeway) {
                let seconds = from.0 - now.0;
                let detail = TokenDetail::NotYet { claim, seconds };
                return Err(Refusal::new(Reason::TokenNotYet, detail));
            }
        }
    }
    Ok((Arc::clone(issuer), until_late))
}

/// RFC 7519, section 4.1.3: `aud` is a string or an array of strings, and one of them must be ours. Or the claim is
/// that stands in for it.
fn check_audience(
    claims: &Map<String, Value>,
    stand_in: &Places,
    audiences: &[String],
) -> Result<(), Refusal> {
    if let Some((_, Value::String(found))) = stand_in.find(claims)
        && audiences.contains(found)
    {
        return Ok(());
    }
    let found = match claims.get("aud") {
        Some(one @ Value::String(_)) => slice::from_ref(one),
        Some(Value::Array(many)) if !many.is_empty() => many,
        None => return Err(unfit("aud", ClaimProblem::Missing)),
        Some(_) => return Err(unfit("aud", ClaimProblem::NotTexts)),
    };
    if !found.iter().all(Value::is_string) {
        return Err(unfit("aud", ClaimProblem::NotTexts));
    }
    if found
        .iter()
        .any(|aud| audiences.iter().any(|ours| aud == ours))
    {
        return Ok(());
    }
    let found = found.iter().filter_map(Value::as_str);
    let detail = TokenDetail::Audience {
        found: found.take(3).map(str::to_owned).collect(),
        accepted: audiences.iter().take(3).cloned().collect(),
    };
    Err(Refusal::new(Reason::TokenAudience, detail))
}

/// Refuses tokens that a tenant signs with the same key for another purpose (RFC 8725, section 3.12). OpenID
/// Connect Back-Channel Logout 1.0, section 2.4 requires `events` in its tokens; Keycloak and others mark a
/// refresh token in the payload.
fn check_kind(claims: &Map<String, Value>) -> Result<(), Refusal> {
    if claims.contains_key("events") {
        return Err(Refusal::new(Reason::TokenKind, TokenDetail::Event));
    }
    for claim in ["typ", "token_use", "token_type"] {
        if let Some(Value::String(kind)) = claims.get(claim)
            && ["refresh", "refresh_token", "offline", "logout"]
                .iter()
                .any(|k| kind.eq_ignore_ascii_case(k))
        {
            let found = kind.clone();
            let detail = TokenDetail::Kind { claim, found };
            return Err(Refusal::new(Reason::TokenKind, detail));
        }
    }
    Ok(())
}

/// Parses a NumericDate (RFC 7519, section 2): seconds, possibly with a fraction, after 1970 and before the
/// year 10000.
fn date(name: &str, value: &Value) -> Result<f64, Refusal> {
    const YEAR_10000: f64 = 253_402_300_800.0;
    match value.as_f64() {
        Some(seconds) if (0.0..YEAR_10000).contains(&seconds) => Ok(seconds),
        Some(_) => Err(unfit(name, ClaimProblem::NotADate)),
        None => Err(unfit(name, ClaimProblem::NotANumber)),
    }
}

fn unfit(claim: &str, problem: ClaimProblem) -> Refusal {
    let name = claim.to_owned();
    Refusal::new(Reason::TokenClaims, Detail::Claim { name, problem })
}
