//! What all instances of the plugin in one broker share, whatever their options: a client ID, and the time
//! for which the broker may stand still, belong to the whole broker; and a tenant that two instances ask is one
//! tenant.

use std::sync::Arc;

use super::Admission;
use crate::{
    client::ClientKey,
    clock::{Unix, moment},
    config::Config,
    limits::TenantLimits,
    pending::{Tickets, client_ids::ClientIdHistory},
    sessions::Sessions,
    stall_budget::StallBudget,
};

/// The state that all instances share. There is one for each broker, and every instance is handed the same.
pub struct Common {
    pub(super) sessions: Sessions,
    pub(super) stall_budget: StallBudget,
    pub(super) client_ids: ClientIdHistory,
    pub(super) tickets: Tickets,
    tenants: Vec<(TenantName, TenantLimits)>,
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
            stall_budget: StallBudget::default(),
            client_ids: ClientIdHistory::new(moment()),
            tickets: Tickets::default(),
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
    pub fn admit(&mut self, admission: Admission) -> Option<ClientKey> {
        let (key, session) = admission.into_session();
        self.sessions.admit(key, session)
    }

    /// Returns whether the client stays as it is, where the broker certainly asks about a session that it has. `false`
    /// leaves the answer to [`Engine::authenticate`](super::Engine::authenticate).
    ///
    /// On SIGHUP the broker asks about every session at once, and meanwhile nobody else is served. So this looks at
    /// nothing but the session: it compares no credential, because nobody presents one.
    pub fn stays(
        &mut self,
        key: ClientKey,
        client_id: &str,
        username: Option<&str>,
        now: Unix,
    ) -> bool {
        let stays = self
            .sessions
            .recheck(key, client_id, username, None, true, now);
        stays == Some(true)
    }

    /// Whether a client of any instance waits whose CONNECT the broker holds. A client that hung up counts until it is
    /// answered, because the broker does not tell.
    pub fn somebody_waits(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// Takes an admission back that the broker had no use for.
    pub fn retract(&mut self, key: ClientKey, older: Option<ClientKey>) {
        self.sessions.retract(key, older);
    }

    /// Forgets a client: from here on it has no rights.
    pub fn forget(&mut self, key: ClientKey) {
        self.sessions.remove(key);
    }

    /// Returns some of the clients of which nothing is left but, perhaps, a will. Those that the broker no
    /// longer has are to be [forgotten](Self::forget).
    pub fn wills(&mut self) -> Vec<(ClientKey, Arc<str>)> {
        self.sessions.wills()
    }

    /// Begins a recheck_pass: on SIGHUP, 2.0 asks about every session that it has.
    pub fn begin_recheck(&mut self) {
        self.sessions.begin_recheck();
    }

    /// Remembers that a client that proved who it is has come in under this client ID, or has left.
    pub fn has_used(&mut self, client_id: &str) {
        self.client_ids.used(client_id, moment());
    }

    /// The tenant of these options. Where instances differ in `login_rate`, that of the first counts.
    pub(super) fn tenant(&mut self, config: &Config) -> TenantId {
        let application = config.application.as_ref();
        let client_id = application.map_or("", |application| &application.client_id);
        let name = (config.tenant.name().to_owned(), client_id.to_owned());
        let place = self.tenants.iter().position(|(other, _)| *other == name);
        TenantId(place.unwrap_or_else(|| {
            let limits = TenantLimits::new(config.login_rate, moment());
            self.tenants.push((name, limits));
            self.tenants.len() - 1
        }))
    }

    /// How this tenant may be asked.
    pub(super) fn limits(&mut self, tenant: TenantId) -> &mut TenantLimits {
        &mut self.tenants[tenant.0].1
    }
}
