//! Doors for the fuzz targets (`fuzz/`) to what nothing else outside of this crate needs. Each of them takes bytes and
//! returns what they mean, for a judge to compare. The plugin uses none of them.

use serde_json::Value;

use crate::{
    auth0::{answer, http::TenantResponse},
    client_auth::ClientAuth,
    clock::Unix,
    control::command,
    jwt::jwks::KeySet,
};

pub use crate::{
    auth0::answer::TenantFeedback,
    saved_sessions::fuzzing::{SavedEntry, SavedState, read_saved_sessions, write_saved_sessions},
};

/// Access token and ID token.
pub type AnsweredTokens = (Option<String>, Option<String>);

/// What a tenant's response consists of.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct AnyResponse {
    pub status: u16,
    /// Whether it says that its body is JSON.
    pub json: bool,
    pub retry_after: Option<String>,
    pub request_id: Option<String>,
    pub used_up_until: Option<u64>,
    pub body: Vec<u8>,
}

/// Interprets a response of the token endpoint. Instead of a refusal it returns what the log says.
pub fn interpret(response: &AnyResponse) -> (Result<AnsweredTokens, String>, TenantFeedback) {
    let response = TenantResponse {
        status: response.status,
        json: response.json,
        request_id: response.request_id.clone(),
        retry_after: response.retry_after.clone(),
        used_up_until: response.used_up_until,
        rate_limit: None,
        date: None,
        body: response.body.clone(),
    };
    let (tokens, feedback) = answer::interpret(&response, ClientAuth::Post, Unix(1_700_000_000));
    let tokens = tokens.map(|tokens| (tokens.access, tokens.id));
    (tokens.map_err(|refusal| refusal.to_string()), feedback)
}

/// Reads a request of an administrator: each command, or why it is not executed, as the log or the answer says it.
///
/// # Errors
///
/// Returns why no command of it can be read.
pub fn admin_commands(request: &[u8]) -> Result<Vec<Result<String, String>>, String> {
    let commands = command::parse(request).map_err(|why| why.to_string())?;
    let said = commands.into_iter().map(|one| match one.command {
        Ok(command) => Ok(command.to_string()),
        Err(why) => Err(why.to_string()),
    });
    Ok(said.collect())
}

/// Returns the keys of a set as it is written to disk.
pub fn jwks_of(keys: &KeySet) -> Value {
    Value::Object(keys.to_jwks())
}
