//! One request for tokens, and what its response means.

use auth::{
    auth0::token_client::{TokenClient, TokenResponse},
    clock::Unix,
};

use super::{Source, StoredTokens};
use crate::{messages::token as messages, output::Failure};

/// The tenant's refusal.
#[derive(Debug)]
pub(crate) struct TokenRefusal {
    pub(crate) status: u16,
    /// `error` of the response.
    pub(crate) error: String,
    /// `error_description` of the response.
    pub(crate) description: String,
}

impl TokenRefusal {
    /// Returns the refusal in a response.
    pub(super) fn of(response: &TokenResponse) -> Self {
        let text = |name: &str| response.members.get(name).and_then(|value| value.as_str());
        Self {
            status: response.status,
            error: text("error").unwrap_or_default().to_owned(),
            description: text("error_description").unwrap_or_default().to_owned(),
        }
    }
}

impl Source {
    /// Asks with the application's own credential.
    pub(super) fn client_credentials(
        &self,
        client: &TokenClient,
        now: Unix,
    ) -> Result<StoredTokens, Failure> {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("audience", &self.audience),
        ];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let response = self.post(client, &form)?;
        self.tokens_of(&response, None, now)?
            .map_err(messages::refused)
    }

    /// Asks with a refresh token. The inner result is the tenant's refusal.
    pub(super) fn refresh(
        &self,
        client: &TokenClient,
        token: &str,
        now: Unix,
    ) -> Result<Result<StoredTokens, TokenRefusal>, Failure> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let response = self.post(client, &form)?;
        self.tokens_of(&response, Some(token), now)
    }

    /// Sends a form, with the credentials of the application.
    pub(super) fn post(
        &self,
        client: &TokenClient,
        form: &[(&str, &str)],
    ) -> Result<TokenResponse, Failure> {
        let asked = client.ask_for_token(form, &self.client_id, &self.credential);
        asked.map_err(|(why, _)| messages::no_answer(&why))
    }

    /// Returns the tokens in a response. `used` is the refresh token that was used for them. Without rotation, it
    /// stays.
    pub(super) fn tokens_of(
        &self,
        response: &TokenResponse,
        used: Option<&str>,
        now: Unix,
    ) -> Result<Result<StoredTokens, TokenRefusal>, Failure> {
        let text = |name: &str| response.members.get(name).and_then(|value| value.as_str());
        if response.status != 200 {
            return Ok(Err(TokenRefusal::of(response)));
        }
        let access_token = text("access_token")
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        let access_token = access_token.ok_or_else(messages::no_token)?;
        // RFC 6749, section 5.1: recommended, not required. Without it, a token is used once.
        let lifetime = response
            .members
            .get("expires_in")
            .and_then(|value| value.as_u64());
        Ok(Ok(StoredTokens {
            access_token: access_token.to_owned(),
            issued: now,
            expires: Unix(now.0.saturating_add(lifetime.unwrap_or(0))),
            scope: text("scope").map(str::to_owned),
            refresh_token: text("refresh_token").or(used).map(str::to_owned),
        }))
    }
}
