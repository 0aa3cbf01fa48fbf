//! The users of the tenant, which are devices, with their state in Auth0.

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::settings::CONNECTION;
use crate::json::Members;

/// The user name of the device that every tenant starts with.
pub const DEVICE: &str = "thermostat-1a";
/// Its password, with every character that a form must escape.
pub const PASSWORD: &str = "p+a&s=s%w o/r?d#é";

/// The result of a login with the right password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// The login succeeds.
    Normal,
    /// An administrator has blocked the user: 403 `unauthorized`, `user is blocked`.
    Blocked,
    /// The user needs a second factor, which the password grants cannot ask for: `mfa_required`.
    MfaRequired,
    /// Breached password detection knows the password: 401 `password_leaked`.
    PasswordLeaked,
    /// Brute-force protection has locked the user, whatever the password: 429 `too_many_attempts`.
    Locked,
    /// Bot detection asks for a CAPTCHA: `requires_verification`.
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
    /// The identifier that it logs in with.
    pub username: String,
    /// Its password.
    pub password: String,
    /// `sub` of its tokens.
    pub user_id: String,
    /// The connection that it belongs to.
    pub connection: String,
    /// The value of the topics claim that the tenant's Action sets, of any type. `None`: no claim.
    pub topics: Option<Value>,
    /// More claims that the Action sets, in both tokens.
    pub claims: Members,
    /// The result of its logins.
    pub state: DeviceState,
}

impl Device {
    /// Returns a device of the connection [`CONNECTION`] that may log in and has no topics.
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

    /// Returns the device with these topics.
    #[must_use]
    pub fn topics(mut self, topics: Value) -> Self {
        self.topics = Some(topics);
        self
    }

    /// Returns the device in this state.
    #[must_use]
    pub fn state(mut self, state: DeviceState) -> Self {
        self.state = state;
        self
    }

    /// Returns the device with one more claim, for example `permissions`.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.set(name, value);
        self
    }

    /// Returns the device in another connection.
    #[must_use]
    pub fn connection(mut self, name: &str) -> Self {
        name.clone_into(&mut self.connection);
        self
    }

    /// Returns the device with another `sub`.
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
