//! The users of the tenant: devices, with what Auth0 knows and thinks of them.

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::settings::CONNECTION;
use crate::json::Members;

/// User name of the device that every tenant starts with.
pub const DEVICE: &str = "thermostat-1a";
/// Its password, with every character that a form must escape.
pub const PASSWORD: &str = "p+a&s=s%w o/r?d#é";

/// What becomes of a login with the right password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Let in.
    Normal,
    /// Blocked by an administrator: 403 `unauthorized`, `user is blocked`.
    Blocked,
    /// Needs a second factor, which the password grants cannot ask for: `mfa_required`.
    MfaRequired,
    /// Breached password detection knows the password: 401 `password_leaked`.
    PasswordLeaked,
    /// Locked by brute-force protection, whatever the password: 429 `too_many_attempts`.
    Locked,
    /// Bot detection wants a CAPTCHA: `requires_verification`.
    RequiresVerification,
    /// A post-login Action called `api.access.deny` with this reason: 403 `access_denied`.
    Denied(String),
    /// Any other refusal.
    Refused {
        /// Status code.
        status: u16,
        /// `error`.
        error: String,
        /// `error_description`.
        description: String,
    },
}

/// A device, which is a user of one connection.
#[derive(Clone, Debug)]
pub struct Device {
    /// The identifier it logs in with.
    pub username: String,
    /// Its password.
    pub password: String,
    /// `sub` of its tokens.
    pub user_id: String,
    /// The connection it is a user of.
    pub connection: String,
    /// What the tenant's Action puts in the topics claim, whatever its type. `None`: no claim.
    pub topics: Option<Value>,
    /// More claims of the Action, in both tokens.
    pub claims: Members,
    /// What becomes of its login.
    pub state: DeviceState,
}

impl Device {
    /// A device of the connection [`CONNECTION`] that may log in and has no topics.
    pub fn new(username: &str, password: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, username.as_bytes());
        let hex: Vec<String> = hash.as_ref()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            user_id: format!("auth0|{}", hex.concat()),
            connection: CONNECTION.to_owned(),
            topics: None,
            claims: Members::new(),
            state: DeviceState::Normal,
        }
    }

    /// The same device with these topics.
    #[must_use]
    pub fn topics(mut self, topics: Value) -> Self {
        self.topics = Some(topics);
        self
    }

    /// The same device in this state.
    #[must_use]
    pub fn state(mut self, state: DeviceState) -> Self {
        self.state = state;
        self
    }

    /// The same device with one more claim, for example `permissions`.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.set(name, value);
        self
    }

    /// The same device in another connection.
    #[must_use]
    pub fn connection(mut self, name: &str) -> Self {
        name.clone_into(&mut self.connection);
        self
    }

    /// The same device with another `sub`.
    #[must_use]
    pub fn user_id(mut self, user_id: &str) -> Self {
        user_id.clone_into(&mut self.user_id);
        self
    }
}

impl Default for Device {
    /// [`DEVICE`] with [`PASSWORD`], which may use `temperature` and `config`.
    fn default() -> Self {
        Self::new(DEVICE, PASSWORD).topics(json!(["temperature", "config"]))
    }
}
