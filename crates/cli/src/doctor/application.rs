//! What the token endpoint's answers say about the application, the API and attack protection.
//!
//! The error code and the status decide. Auth0's texts are not a part of its API, so they only choose among findings
//! that the code leaves open.

use auth::{
    auth0::{answer::Tokens, examine::Marks},
    config::IssuerConfig,
    refusal::{Detail, Reason, Refusal, TenantAnswer, TenantBody},
};

use super::finding::Finding;

/// Who was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// Nobody: the request left the user out.
    None,
    /// One that does not exist.
    Nobody,
    /// One that the operator named.
    Somebody,
}

/// Returns the finding in an answer of the token endpoint.
pub(super) fn finding(
    issuer: &IssuerConfig,
    user: User,
    result: &Result<Tokens, Refusal>,
) -> Finding {
    let refusal = match result {
        // Nobody can sign in without a name. A provider that lets that happen did not look at the request.
        Ok(_) if user == User::None => return Finding::ApplicationRight,
        Ok(_) => return Finding::SignedIn,
        Err(refusal) => refusal,
    };
    let Detail::Tenant(answer) = refusal.detail() else {
        return Finding::TenantFailed(refusal.clone());
    };
    let (error, description) = texts(answer);
    let says = |word: &str| description.contains(word);
    let answer = answer.clone();
    match (refusal.reason, error, answer.status) {
        (Reason::LoginThrottled, ..) => Finding::RateLimited(answer),
        // The name is new, so no failure was counted for it: this is about the address.
        (Reason::LoginLocked, ..) if user == User::Nobody => Finding::AddressBlocked(answer),
        (Reason::LoginRefused, ..) if user == User::Nobody => Finding::ProbeRight,
        (_, "use_dpop_nonce" | "invalid_dpop_proof", _) => Finding::ProofAsked(answer),
        (_, "unauthorized_client", _) if says("onnection") => Finding::ConnectionOff(answer),
        (_, "unauthorized_client", _) if says("rant type") => Finding::GrantOff(answer),
        (_, "unauthorized_client", _) => Finding::NotAllowed(answer),
        (_, "unsupported_grant_type", _) => Finding::GrantOff(answer),
        (_, "invalid_client", _) => Finding::ApplicationRejected(answer),
        (_, "invalid_target", _) => unknown(issuer, answer),
        (_, "invalid_request", _) if says("audience") => unknown(issuer, answer),
        (_, "invalid_request", _) if user == User::None => Finding::ApplicationRight,
        (_, "access_denied", 403) if says("Service not") => unknown(issuer, answer),
        (_, "access_denied", 403) if says("Client ") => Finding::NotAuthorized {
            audience: issuer.audiences[0].clone(),
            answer,
        },
        (Reason::LoginConfiguration, _, 401) => Finding::ApplicationRejected(answer),
        // Auth0 says the same code for a fault of its own.
        (_, "server_error", 500) if without_directory(issuer) && says("default connection") => {
            Finding::NoDefaultDirectory(answer)
        }
        (Reason::TenantError, ..) | (_, _, 500..) => Finding::TenantFailed(refusal.clone()),
        (
            Reason::LoginRefused
            | Reason::LoginLocked
            | Reason::LoginMfa
            | Reason::LoginLeaked
            | Reason::LoginVerification
            | Reason::LoginBlocked
            | Reason::LoginDenied,
            ..,
        ) if user != User::None => Finding::AccountRefused(refusal.clone()),
        // Providers that look at the user before they miss it.
        (Reason::LoginRefused, ..) => Finding::ApplicationRight,
        _ => Finding::Unclear(refusal.clone()),
    }
}

/// Returns what two logins of nobody, each with a new address, say about attack protection.
pub(super) fn protection(first: Option<&Marks>, second: Option<&Marks>) -> Vec<Finding> {
    let limit = |marks: Option<&Marks>| marks.and_then(|marks| marks.rate_limit);
    let (Some((limit, left)), Some((_, left_then))) = (limit(first), limit(second)) else {
        return vec![Finding::AddressUnseen, Finding::LockoutUnseen];
    };
    // Each address has its own count, if the tenant counts by the address that was passed on.
    let trusted = match left_then < left {
        true => Finding::AddressIgnored,
        false => Finding::AddressTrusted,
    };
    let mut findings = vec![trusted];
    // If the address is trusted, what is left is that of an address which nobody has.
    if findings == [Finding::AddressIgnored] {
        findings.push(Finding::FailuresAllowed {
            limit,
            left: left_then,
        });
    } else {
        findings.push(Finding::FailuresAllowed { limit, left });
    }
    findings.push(Finding::LockoutUnseen);
    findings
}

fn unknown(issuer: &IssuerConfig, answer: Box<TenantAnswer>) -> Finding {
    Finding::AudienceUnknown {
        audience: issuer.audiences[0].clone(),
        answer,
    }
}

fn without_directory(issuer: &IssuerConfig) -> bool {
    let application = issuer.application.as_ref();
    application.is_some_and(|application| application.connection.is_none())
}

/// Returns the error code and the description.
fn texts(answer: &TenantAnswer) -> (&str, &str) {
    match &answer.body {
        TenantBody::Error {
            error, description, ..
        } => (
            error.as_deref().unwrap_or_default(),
            description.as_deref().unwrap_or_default(),
        ),
        _ => ("", ""),
    }
}
