//! The token endpoint's answers, judged: by error code, then by status, never by their text.
//!
//! Auth0 says that descriptions may change; they are shown to the operator and read by nobody
//! else. The codes are those of RFC 6749, section 5.2, and of Auth0's Authentication API.

use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use super::http::Answer;
use crate::{
    clock::Unix,
    json,
    refusal::{Reason, Refusal},
    text::Quoted,
};

/// What a good answer holds.
pub struct Tokens {
    /// `access_token`. Opaque unless the request named an audience.
    pub access: Option<Zeroizing<String>>,
    /// `id_token`, with the scope `openid`.
    pub id: Option<Zeroizing<String>>,
}

/// Judges an answer of `/oauth/token`.
pub fn tokens(answer: &Answer) -> Result<Tokens, Refusal> {
    let object = if answer.json {
        json::object(&answer.body).ok()
    } else {
        None
    };
    match (answer.status, object) {
        (200, Some(mut members)) => {
            let mut take = |name: &str| match members.remove(name) {
                Some(Value::String(token)) => Some(Zeroizing::new(token)),
                _ => None,
            };
            let tokens = Tokens {
                access: take("access_token"),
                id: take("id_token"),
            };
            if tokens.access.is_none() && tokens.id.is_none() {
                return Err(refusal(
                    Reason::TenantAnswer,
                    answer,
                    "the tenant answered 200 without a token",
                ));
            }
            Ok(tokens)
        }
        (status, Some(members)) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let reason = reason(text("error"), status);
            let error = text("error").map_or_else(String::new, |e| format!(" {}", Quoted(e)));
            let words =
                text("error_description").map_or_else(String::new, |d| format!(", {}", Quoted(d)));
            let look = look_at(reason, text("error"), status);
            let said = format!("the tenant answered {status}{error}{words}{look}");
            Err(refusal(reason, answer, &said))
        }
        (429, None) => Err(refusal(
            Reason::LoginThrottled,
            answer,
            "the tenant answered 429",
        )),
        (status, None) => {
            let what = if answer.json {
                "bad JSON"
            } else {
                "something that is not JSON"
            };
            Err(refusal(
                Reason::TenantAnswer,
                answer,
                &format!("the tenant answered {status} with {what}"),
            ))
        }
    }
}

/// Where to look first when our own configuration is at fault.
fn look_at(reason: Reason, error: Option<&str>, status: u16) -> &'static str {
    match (reason, error.unwrap_or_default(), status) {
        (Reason::LoginConfiguration, "unauthorized_client", _) => {
            ": look at the application's grant types (Password) and connections"
        }
        (Reason::LoginConfiguration, "invalid_client", _)
        | (Reason::LoginConfiguration, _, 401) => ": look at client_id and client_secret_file",
        (Reason::LoginConfiguration, "invalid_request" | "invalid_target", _) => {
            ": look at audience and connection"
        }
        _ => "",
    }
}

fn refusal(reason: Reason, answer: &Answer, detail: &str) -> Refusal {
    let mut detail = detail.to_owned();
    if let Some(after) = &answer.retry_after {
        detail += &format!(", retry after {}", Quoted(after));
    }
    if let Some(id) = &answer.request_id {
        detail += &format!(", request {}", Quoted(id));
    }
    Refusal::new(reason, detail)
}

/// How long the tenant wants to be left alone: `Retry-After` in seconds, or until its rate limit is
/// full again. A 429 that says neither is given a few seconds; one about an account (brute force)
/// concerns nobody else.
pub fn pause(answer: &Answer, now: Unix) -> Option<Duration> {
    const UNSAID: u64 = 5;
    let asked = answer
        .retry_after
        .as_ref()
        .and_then(|after| after.trim().parse().ok());
    let until = answer
        .used_up_until
        .map(|reset| reset.saturating_sub(now.0));
    let throttled = answer.status == 429
        && tokens(answer).is_err_and(|refusal| refusal.reason == Reason::LoginThrottled);
    let some = |seconds: Option<u64>| seconds.filter(|seconds| *seconds > 0);
    some(asked)
        .or(some(until))
        .or(throttled.then_some(UNSAID))
        .map(Duration::from_secs)
}

fn reason(error: Option<&str>, status: u16) -> Reason {
    match (error.unwrap_or_default(), status) {
        // 429 first among the codes that name no account: the tenant's own limits.
        ("too_many_attempts", _) => Reason::LoginLocked,
        ("too_many_requests" | "rate_limit_exceeded" | "slow_down", _) => Reason::LoginThrottled,
        (_, 429) => Reason::LoginThrottled,

        ("invalid_grant" | "invalid_user_password", _) => Reason::LoginRefused,

        ("mfa_required", _) => Reason::LoginMfa,
        ("password_leaked", _) => Reason::LoginLeaked,
        ("requires_verification", _) => Reason::LoginVerification,
        // 401 means our own client; a blocked user is a 403.
        ("unauthorized", 401) | ("access_denied", 401) => Reason::LoginConfiguration,
        ("unauthorized" | "blocked_user", _) => Reason::LoginBlocked,
        ("access_denied", _) => Reason::LoginDenied,

        (
            "invalid_client"
            | "unauthorized_client"
            | "unsupported_grant_type"
            | "invalid_request"
            | "invalid_scope"
            | "invalid_target"
            | "invalid_dpop_proof"
            | "use_dpop_nonce",
            _,
        ) => Reason::LoginConfiguration,

        // Auth0 says 500 server_error for a missing default connection as well as for its own faults.
        ("server_error" | "temporarily_unavailable", _) => Reason::TenantError,
        (_, 500..) => Reason::TenantError,
        (_, 401) => Reason::LoginConfiguration,
        (_, 400..) => Reason::LoginDenied,
        // Redirects are not followed: whoever answers so is not the tenant's token endpoint.
        _ => Reason::TenantAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, content_type_json: bool, body: &str) -> Answer {
        Answer {
            status,
            json: content_type_json,
            request_id: None,
            retry_after: None,
            used_up_until: None,
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    fn refused(status: u16, body: &str) -> Refusal {
        tokens(&answer(status, true, body)).err().unwrap()
    }

    #[test]
    fn every_row_of_auth0_s_table_has_its_reason() {
        for (status, error, reason) in [
            (403, "invalid_grant", Reason::LoginRefused),
            (400, "invalid_grant", Reason::LoginRefused),
            (403, "invalid_user_password", Reason::LoginRefused),
            (403, "mfa_required", Reason::LoginMfa),
            (401, "mfa_required", Reason::LoginMfa),
            (401, "password_leaked", Reason::LoginLeaked),
            (429, "too_many_attempts", Reason::LoginLocked),
            (403, "unauthorized", Reason::LoginBlocked),
            (403, "blocked_user", Reason::LoginBlocked),
            (403, "access_denied", Reason::LoginDenied),
            (401, "access_denied", Reason::LoginConfiguration),
            (403, "requires_verification", Reason::LoginVerification),
            (401, "invalid_client", Reason::LoginConfiguration),
            (400, "invalid_request", Reason::LoginConfiguration),
            (403, "unauthorized_client", Reason::LoginConfiguration),
            (400, "unsupported_grant_type", Reason::LoginConfiguration),
            (500, "server_error", Reason::TenantError),
            (429, "too_many_requests", Reason::LoginThrottled),
            (429, "access_denied", Reason::LoginThrottled),
            (503, "x", Reason::TenantError),
            (418, "x", Reason::LoginDenied),
            (302, "x", Reason::TenantAnswer),
        ] {
            assert_eq!(
                refused(status, &format!(r#"{{"error":"{error}"}}"#)).reason,
                reason,
                "{status} {error}"
            );
        }
    }

    #[test]
    fn the_text_decides_nothing_and_is_shown() {
        let (a, b) = (
            refused(
                403,
                r#"{"error":"invalid_grant","error_description":"user is blocked"}"#,
            ),
            refused(
                403,
                r#"{"error":"unauthorized","error_description":"Wrong email or password."}"#,
            ),
        );
        assert_eq!(
            (a.reason, b.reason),
            (Reason::LoginRefused, Reason::LoginBlocked)
        );
        assert!(a.detail.contains("'user is blocked'"));
    }

    #[test]
    fn our_own_mistakes_name_the_options() {
        for (status, error, option) in [
            (401, "access_denied", "client_secret_file"),
            (401, "invalid_client", "client_id"),
            (403, "unauthorized_client", "grant types"),
            (400, "invalid_request", "audience"),
        ] {
            let refusal = refused(status, &format!(r#"{{"error":"{error}"}}"#));
            assert!(refusal.detail.contains(option), "{}", refusal.detail);
        }
    }

    #[test]
    fn what_is_no_answer_of_a_token_endpoint_passes() {
        for (status, json, body) in [
            (200, true, ""),
            (200, true, "[]"),
            (200, true, r#"{"access_token":7}"#),
            (200, true, r#"{"token_type":"Bearer"}"#),
            (200, true, r#"{"access_token":"a","access_token":"b"}"#),
            (200, false, r#"{"access_token":"a"}"#),
            (502, false, "<html>Bad gateway</html>"),
            (403, false, "<html>Cloudflare</html>"),
            (302, false, ""),
        ] {
            let refusal = tokens(&answer(status, json, body)).err().unwrap();
            assert_eq!(refusal.reason, Reason::TenantAnswer, "{status} {body}");
        }
        assert_eq!(
            tokens(&answer(429, false, "")).err().unwrap().reason,
            Reason::LoginThrottled
        );
    }

    #[test]
    fn the_tenant_is_left_alone_as_long_as_it_says() {
        let said = |status, body: &str, retry_after: Option<&str>, used_up_until| {
            let mut answer = answer(status, true, body);
            answer.retry_after = retry_after.map(str::to_owned);
            answer.used_up_until = used_up_until;
            pause(&answer, Unix(1000)).map(|pause| pause.as_secs())
        };
        let throttled = r#"{"error":"too_many_requests"}"#;
        assert_eq!(said(429, throttled, Some("7"), None), Some(7));
        assert_eq!(said(429, throttled, None, Some(1030)), Some(30));
        assert_eq!(said(429, throttled, None, None), Some(5));
        assert_eq!(said(429, throttled, Some("0"), Some(900)), Some(5));
        assert_eq!(
            said(429, throttled, Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
            Some(5)
        );
        assert_eq!(
            said(429, r#"{"error":"too_many_attempts"}"#, None, None),
            None,
            "one account is locked"
        );
        assert_eq!(
            said(403, r#"{"error":"invalid_grant"}"#, None, Some(1864)),
            Some(864),
            "used up by failures"
        );
        assert_eq!(
            said(200, r#"{"access_token":"a"}"#, None, Some(900)),
            None,
            "and full again"
        );
    }

    #[test]
    fn a_good_answer_gives_its_tokens() {
        let tokens = tokens(&answer(
            200,
            true,
            r#"{"access_token":"a","id_token":"i","expires_in":1}"#,
        ))
        .ok()
        .unwrap();
        assert_eq!(
            (tokens.access.unwrap().as_str(), tokens.id.unwrap().as_str()),
            ("a", "i")
        );
    }
}
