//! What all instances of the plugin in one broker share, whatever their options: a client ID, and the time
//! for which the broker may stand still, belong to the whole broker; and a tenant that two instances ask is one
//! tenant.

use std::sync::Arc;

use super::Admission;
use crate::{
    clock::{Unix, moment},
    config::Config,
    logins::{budget::Budget, names::Names, restraint::Restraint},
    sessions::{Client, Sessions},
};

/// The state that all instances share. There is one for each broker, and every instance is handed the same.
pub struct Common {
    pub(super) sessions: Sessions,
    pub(super) budget: Budget,
    pub(super) names: Names,
    tenants: Vec<(TenantName, Restraint)>,
}

/// A tenant and the application's client ID there.
type TenantName = (String, String);

/// Which of the tenants in [`Common`] an instance asks.
#[derive(Clone, Copy)]
pub(super) struct TenantId(usize);

impl Default for Common {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            budget: Budget::default(),
            names: Names::new(moment()),
            tenants: Vec::new(),
        }
    }
}

impl Common {
    /// Adopts that the wall clock was set by this many seconds.
    pub fn clock_was_set(&mut self, by: i64) {
        self.sessions.clock_was_set(by);
    }

    /// Lets a client in. It has its user name, and from here on it has rights. Returns the older session of its
    /// client ID.
    pub fn admit(&mut self, admission: Admission) -> Option<Client> {
        let (client, session) = admission.into_session();
        self.sessions.admit(client, session)
    }

    /// Returns whether the client stays as it is, where the broker certainly asks about a session that it has. `false`
    /// leaves the answer to [`Policy::authenticate`](super::Policy::authenticate).
    ///
    /// On SIGHUP the broker asks about every session at once, and meanwhile nobody else is served. So this looks at
    /// nothing but the session: it compares no credential, because nobody presents one.
    pub fn stays(
        &mut self,
        client: Client,
        client_id: &str,
        username: Option<&str>,
        now: Unix,
    ) -> bool {
        let stays = self
            .sessions
            .recheck(client, client_id, username, None, true, now);
        stays == Some(true)
    }

    /// Takes an admission back that the broker had no use for.
    pub fn retract(&mut self, client: Client, older: Option<Client>) {
        self.sessions.retract(client, older);
    }

    /// Forgets a client: from here on it has no rights.
    pub fn forget(&mut self, client: Client) {
        self.sessions.remove(client);
    }

    /// Returns some of the clients of which nothing is left but, perhaps, a will. Those that the broker no
    /// longer has are to be [forgotten](Self::forget).
    pub fn wills(&mut self) -> Vec<(Client, Arc<str>)> {
        self.sessions.wills()
    }

    /// Begins a census: on SIGHUP, 2.0 asks about every session that it has.
    pub fn begin_census(&mut self) {
        self.sessions.begin_census();
    }

    /// Remembers that a client that proved who it is has come in under this client ID, or has left.
    pub fn has_used(&mut self, client_id: &str) {
        self.names.used(client_id, moment());
    }

    /// The tenant of these options. Where instances differ in `login_rate`, that of the first counts.
    pub(super) fn tenant(&mut self, config: &Config) -> TenantId {
        let application = config.application.as_ref();
        let client_id = application.map_or("", |application| &application.client_id);
        let name = (config.home.name().to_owned(), client_id.to_owned());
        let place = self.tenants.iter().position(|(other, _)| *other == name);
        TenantId(place.unwrap_or_else(|| {
            let restraint = Restraint::new(config.login_rate, moment());
            self.tenants.push((name, restraint));
            self.tenants.len() - 1
        }))
    }

    /// How this tenant may be asked.
    pub(super) fn restraint(&mut self, tenant: TenantId) -> &mut Restraint {
        &mut self.tenants[tenant.0].1
    }
}
