//! Interprets the responses of the token endpoint: by error code, then by status, never by their text.
//!
//! Auth0 says that descriptions may change. They are shown to the operator and not interpreted. The codes are
//! those of RFC 6749, section 5.2, and of Auth0's Authentication API.
//!
//! A 429 with the code `too_many_attempts` says that one user is locked (`[login-locked]`), and a pause that it asks
//! for is that of one address. Any other 429 is a limit of the tenant (`[login-throttled]`): all logins pause, as long
//! as `Retry-After` or the reset of the rate limit says, or for five seconds. `limits/retry_after.rs` keeps the pauses.

use std::time::Duration;

use serde_json::Value;

use super::http::TenantResponse;
use crate::{
    client_auth::ClientAuth,
    clock::Unix,
    refusal::{LookAt, Reason, Refusal, TenantAnswer, TenantBody},
};
use input::json;

/// The tokens in a successful response.
pub struct Tokens {
    /// `access_token`. It is opaque unless the request named an audience.
    pub access: Option<String>,
    /// `id_token`, which the scope `openid` asks for.
    pub id: Option<String>,
}

/// What a response, or its absence, means for later requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantFeedback {
    /// Whose requests must pause, and for how long.
    pub pause: Option<(PauseScope, Duration)>,
    /// Whether a password was sent and its result is unknown: the tenant may have counted it as a wrong one.
    pub lost: bool,
    /// Whether the tenant rejects the plugin's application, so that no client can sign in.
    pub application_rejected: bool,
    /// The number of the client that asked: on SIGHUP, one with other options may take its place.
    pub asked_by: u64,
    /// How long the tenant took. `None` if it was not asked.
    pub took: Option<Duration>,
}

/// Whose requests the tenant wants to pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseScope {
    /// All requests: the tenant's own rate limit is used up.
    AllRequests,
    /// Requests with the address that was passed on. Auth0's "Suspicious IP Throttling" counts by address,
    /// and `x-ratelimit-*` describes that limit in responses to password grants.
    SameAddress,
}

/// Which logins a refusal concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concerns {
    /// The one that was refused.
    ThisLogin,
    /// All of them: the tenant rejects the plugin's application.
    EveryLogin,
}

/// Interprets a response of `/oauth/token`: its result, and what it means for later requests.
pub(crate) fn interpret(
    answer: &TenantResponse,
    auth: ClientAuth,
    now: Unix,
) -> (Result<Tokens, Refusal>, TenantFeedback) {
    let tokens = tokens(answer, auth);
    let reason = tokens.as_ref().err().map(|(refusal, _)| refusal.reason);
    let feedback = TenantFeedback {
        took: None,
        pause: pause(answer, reason, now),
        // A gateway gave up on the tenant behind it. 504 is HTTP's status for that, 524 is Cloudflare's.
        lost: matches!(answer.status, 504 | 524),
        application_rejected: matches!(tokens, Err((_, Concerns::EveryLogin))),
        // The caller knows.
        asked_by: 0,
    };
    (tokens.map_err(|(refusal, _)| refusal), feedback)
}

/// Returns the tokens, or why there are none and which logins that concerns.
fn tokens(answer: &TenantResponse, auth: ClientAuth) -> Result<Tokens, (Refusal, Concerns)> {
    let object = if answer.json {
        json::object(&answer.body).ok()
    } else {
        None
    };
    match (answer.status, object) {
        (200, Some(mut members)) => {
            let mut take = |name: &str| match members.remove(name) {
                Some(Value::String(token)) => Some(token),
                _ => None,
            };
            let tokens = Tokens {
                access: take("access_token"),
                id: take("id_token"),
            };
            if tokens.access.is_none() && tokens.id.is_none() {
                let body = TenantBody::NoToken;
                return Err((
                    refusal(Reason::TenantAnswer, answer, body),
                    Concerns::ThisLogin,
                ));
            }
            Ok(tokens)
        }
        (status, Some(members)) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let (error, description) = (text("error"), text("error_description"));
            let reason = reason(error, status);
            let body = TenantBody::Error {
                error: error.map(beginning),
                description: description.map(beginning),
                look_at: look_at(reason, error, status, auth),
            };
            let concerns = concerns(reason, error, status);
            Err((refusal(reason, answer, body), concerns))
        }
        (429, None) => {
            let body = TenantBody::Ignored;
            Err((
                refusal(Reason::LoginThrottled, answer, body),
                Concerns::ThisLogin,
            ))
        }
        (_, None) => {
            let body = match answer.json {
                true => TenantBody::BadJson,
                false => TenantBody::NotJson,
            };
            Err((
                refusal(Reason::TenantAnswer, answer, body),
                Concerns::ThisLogin,
            ))
        }
    }
}

/// Returns what to check when our own configuration is at fault.
fn look_at(reason: Reason, error: Option<&str>, status: u16, auth: ClientAuth) -> Option<LookAt> {
    match (reason, error.unwrap_or_default(), status) {
        (Reason::LoginConfiguration, "unauthorized_client", _) => Some(LookAt::Application),
        (Reason::LoginConfiguration, "invalid_client", _)
        | (Reason::LoginConfiguration, _, 401) => Some(LookAt::ClientSecret(auth)),
        (Reason::LoginConfiguration, "invalid_request" | "invalid_target", _) => {
            Some(LookAt::AudienceAndConnection)
        }
        _ => None,
    }
}

/// Returns which logins a refusal concerns. With `invalid_request` it is this one only, because a user name may have
/// caused it.
fn concerns(reason: Reason, error: Option<&str>, status: u16) -> Concerns {
    match (reason, error.unwrap_or_default(), status) {
        (Reason::LoginConfiguration, _, 401)
        | (
            Reason::LoginConfiguration,
            "invalid_client" | "unauthorized_client" | "unsupported_grant_type",
            _,
        ) => Concerns::EveryLogin,
        _ => Concerns::ThisLogin,
    }
}

fn refusal(reason: Reason, answer: &TenantResponse, body: TenantBody) -> Refusal {
    let detail = TenantAnswer {
        status: answer.status,
        body,
        retry_after: answer.retry_after.as_deref().map(beginning),
        request_id: answer.request_id.as_deref().map(beginning),
    };
    Refusal::new(reason, detail)
}

/// Returns the beginning of a text of the tenant's. A refusal may be kept for a while, and a line shows no more.
fn beginning(text: &str) -> String {
    text.chars().take(256).collect()
}

/// Returns whose requests must pause, and for how long: as `Retry-After` says, or until the rate limit is
/// full again. A 429 with neither gets a few seconds. If the response refuses one login, the limit is that of
/// its address; so is a limit that a successful login has used up.
fn pause(
    answer: &TenantResponse,
    reason: Option<Reason>,
    now: Unix,
) -> Option<(PauseScope, Duration)> {
    const UNSAID: Duration = Duration::from_secs(5);
    let asked = answer.retry_in(now);
    let until = answer
        .used_up_until
        .map(|reset| reset.saturating_sub(now.0))
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs);
    if reason == Some(Reason::LoginThrottled) {
        let pause = asked.or(until).unwrap_or(UNSAID);
        return Some((PauseScope::AllRequests, pause));
    }
    match (answer.status, asked) {
        (500.., Some(pause)) => Some((PauseScope::AllRequests, pause)),
        _ => Some((PauseScope::SameAddress, asked.or(until)?)),
    }
}

fn reason(error: Option<&str>, status: u16) -> Reason {
    match (error.unwrap_or_default(), status) {
        // 429 comes first among the codes that do not name an account: the tenant's own limits.
        ("too_many_attempts", _) => Reason::LoginLocked,
        ("too_many_requests" | "rate_limit_exceeded" | "slow_down", _) => Reason::LoginThrottled,
        (_, 429) => Reason::LoginThrottled,

        ("invalid_grant" | "invalid_user_password", _) => Reason::LoginRefused,

        ("mfa_required", _) => Reason::LoginMfa,
        ("password_leaked", _) => Reason::LoginLeaked,
        ("requires_verification", _) => Reason::LoginVerification,
        // 401 is about our own client; a blocked user gets 403.
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

        // Auth0 says 500 server_error both for a missing default connection and for its own errors.
        ("server_error" | "temporarily_unavailable", _) => Reason::TenantError,
        (_, 500..) => Reason::TenantError,
        (_, 401) => Reason::LoginConfiguration,
        (_, 400..) => Reason::LoginDenied,
        // Redirects are not followed: a server that redirects is not the tenant's token endpoint.
        _ => Reason::TenantAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, content_type_json: bool, body: &str) -> TenantResponse {
        TenantResponse {
            status,
            json: content_type_json,
            request_id: None,
            retry_after: None,
            used_up_until: None,
            rate_limit: None,
            date: None,
            body: body.as_bytes().to_vec(),
        }
    }

    fn refused(status: u16, body: &str) -> Refusal {
        tokens(&answer(status, true, body), ClientAuth::Post)
            .err()
            .unwrap()
            .0
    }

    #[test]
    fn every_documented_error_of_auth0_has_its_reason() {
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
    fn the_description_is_shown_but_not_interpreted() {
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
        assert!(a.detail.to_string().contains("'user is blocked'"));
    }

    #[test]
    fn configuration_errors_name_the_options() {
        for (status, error, option) in [
            (401, "access_denied", "client_secret_file"),
            (401, "invalid_client", "client_id"),
            (403, "unauthorized_client", "grant types"),
            (400, "invalid_request", "audience"),
        ] {
            let refusal = refused(status, &format!(r#"{{"error":"{error}"}}"#));
            assert!(
                refusal.detail.to_string().contains(option),
                "{}",
                refusal.detail
            );
        }
    }

    #[test]
    fn responses_that_no_token_endpoint_gives_are_tenant_answer() {
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
            let refusal = tokens(&answer(status, json, body), ClientAuth::Post)
                .err()
                .unwrap()
                .0;
            assert_eq!(refusal.reason, Reason::TenantAnswer, "{status} {body}");
        }
        assert_eq!(
            tokens(&answer(429, false, ""), ClientAuth::Post)
                .err()
                .unwrap()
                .0
                .reason,
            Reason::LoginThrottled
        );
    }

    #[test]
    fn a_used_up_limit_pauses_requests_for_as_long_as_the_tenant_says() {
        let said = |status, error: &str, retry_after: Option<&str>, used_up_until| {
            let body = match status {
                200 => r#"{"access_token":"a"}"#.to_owned(),
                _ => format!(r#"{{"error":"{error}"}}"#),
            };
            let mut answer = answer(status, true, &body);
            answer.retry_after = retry_after.map(str::to_owned);
            answer.used_up_until = used_up_until;
            let pause = interpret(&answer, ClientAuth::Post, Unix(1000)).1.pause;
            pause.map(|(whose, pause)| (whose, pause.as_secs()))
        };
        let everybodys = |seconds| Some((PauseScope::AllRequests, seconds));
        let addresses = |seconds| Some((PauseScope::SameAddress, seconds));
        let throttled = "too_many_requests";
        for error in [throttled, "rate_limit_exceeded", "of no known kind"] {
            assert_eq!(said(429, error, Some("7"), None), everybodys(7), "{error}");
        }
        assert_eq!(said(429, throttled, None, Some(1030)), everybodys(30));
        assert_eq!(said(429, throttled, None, None), everybodys(5));
        assert_eq!(said(429, throttled, Some("0"), Some(900)), everybodys(5));
        assert_eq!(
            said(
                429,
                throttled,
                Some("Thu, 01 Jan 1970 00:17:00 GMT"),
                Some(5000)
            ),
            everybodys(20),
            "a date"
        );
        assert_eq!(
            said(503, "temporarily_unavailable", Some("7"), None),
            everybodys(7)
        );

        assert_eq!(
            said(429, "too_many_attempts", None, None),
            None,
            "one account is locked"
        );
        assert_eq!(
            said(429, "too_many_attempts", Some("7"), None),
            addresses(7)
        );
        assert_eq!(
            said(429, "too_many_attempts", None, Some(1864)),
            addresses(864),
            "one address is suspicious"
        );
        assert_eq!(
            said(403, "invalid_grant", None, Some(1864)),
            addresses(864),
            "used up by failures"
        );
        assert_eq!(said(403, "unauthorized", Some("7"), None), addresses(7));
        assert_eq!(said(200, "", None, Some(1864)), addresses(864), "by a yes");
        assert_eq!(said(200, "", None, Some(900)), None, "and full again");
    }

    #[test]
    fn lost_responses_and_configuration_errors_are_reported() {
        let after = |status, error: &str| {
            let body = format!(r#"{{"error":"{error}"}}"#);
            interpret(&answer(status, true, &body), ClientAuth::Post, Unix(1000)).1
        };
        for (status, error, rejected) in [
            (401, "access_denied", true),
            (401, "invalid_client", true),
            (403, "unauthorized_client", true),
            (400, "unsupported_grant_type", true),
            (400, "invalid_request", false),
            (403, "access_denied", false),
            (401, "password_leaked", false),
            (403, "invalid_grant", false),
        ] {
            assert_eq!(
                after(status, error).application_rejected,
                rejected,
                "{status} {error}"
            );
        }
        for (status, lost) in [
            (504, true),
            (524, true),
            (502, false),
            (500, false),
            (403, false),
        ] {
            assert_eq!(after(status, "x").lost, lost, "{status}");
        }
    }

    #[test]
    fn a_successful_response_yields_its_tokens() {
        let tokens = tokens(
            &answer(
                200,
                true,
                r#"{"access_token":"a","id_token":"i","expires_in":1}"#,
            ),
            ClientAuth::Post,
        )
        .ok()
        .unwrap();
        assert_eq!(
            (tokens.access.unwrap().as_str(), tokens.id.unwrap().as_str()),
            ("a", "i")
        );
    }
}
