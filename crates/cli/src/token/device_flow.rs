//! The device flow: a person signs in with a browser, on any device (RFC 8628).

use std::{thread, time::Duration};

use auth::{auth0::token_client::TokenClient, clock::Deadline};

use super::{Source, StoredTokens, request::TokenRefusal};
use crate::{messages::token as messages, output::Failure};

/// How long a client waits between two polls, if the tenant does not say, and how much longer after it was too fast
/// (RFC 8628, sections 3.2 and 3.5).
const INTERVAL: Duration = Duration::from_secs(5);

/// Shows where to sign in, and waits until somebody has.
///
/// # Errors
///
/// Returns a failure if nobody does.
pub(super) fn run(source: &Source, client: &TokenClient) -> Result<StoredTokens, Failure> {
    let mut form = vec![
        ("client_id", source.client_id.as_str()),
        ("audience", &source.audience),
    ];
    form.extend(source.scope.as_deref().map(|scope| ("scope", scope)));
    let asked = client
        .ask_for_device_code(&form)
        .ok_or_else(messages::no_device_flow)?;
    let asked = asked.map_err(|why| messages::no_answer(&why))?;
    let text = |name: &str| asked.members.get(name).and_then(|value| value.as_str());
    let seconds = |name: &str| {
        let value = asked.members.get(name).and_then(|value| value.as_u64());
        value.map(Duration::from_secs)
    };
    if asked.status != 200 {
        return Err(messages::refused(TokenRefusal::of(&asked)));
    }
    let (device_code, user_code, page) = match (
        text("device_code"),
        text("user_code"),
        text("verification_uri"),
    ) {
        (Some(device_code), Some(user_code), Some(page)) => (device_code, user_code, page),
        _ => return Err(messages::no_token()),
    };
    messages::show_code(user_code, page, text("verification_uri_complete"));
    let ends = Deadline::after(seconds("expires_in").unwrap_or(Duration::from_secs(900)));
    let mut interval = seconds("interval").unwrap_or(INTERVAL);
    loop {
        thread::sleep(interval.min(ends.remaining()));
        if ends.has_passed() {
            return Err(messages::nobody_signed_in());
        }
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device_code),
        ];
        // A tenant that does not answer is asked again, less often (RFC 8628, section 3.5).
        let Ok(response) = source.post(client, &form) else {
            interval += INTERVAL;
            continue;
        };
        let refusal = match source.tokens_of(&response, None, source.now())? {
            Ok(tokens) => return Ok(tokens),
            Err(refusal) => refusal,
        };
        match (refusal.error.as_str(), refusal.status) {
            ("authorization_pending", _) => {}
            ("slow_down", _) | (_, 429 | 500..) => {
                interval += response.retry_in.unwrap_or(INTERVAL).max(INTERVAL)
            }
            ("access_denied", _) => return Err(messages::cancelled(&refusal)),
            ("expired_token", _) => return Err(messages::nobody_signed_in()),
            _ => return Err(messages::refused(refusal)),
        }
    }
}
