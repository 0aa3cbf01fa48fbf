//! What all instances of the plugin in one broker share, whatever their options. A client ID and the time that the
//! broker may wait belong to the whole broker, and two instances that use the same tenant share its limits.

use std::sync::Arc;

use super::{Admission, administration::Administration, observe::Metrics};
use crate::{
    client::{ClientKey, ClientView},
    clock::{Unix, moment},
    config::Config,
    limits::TenantLimits,
    pending::{Tickets, client_ids::ClientIdHistory},
    saved_sessions::{SavedSession, SavedSessions, SessionToSave},
    sessions::{InstanceId, Sessions},
    stall_budget::StallBudget,
};

/// The state that all instances share. There is one for each broker.
pub struct Common {
    pub(super) sessions: Sessions,
    pub(super) saved: SavedSessions,
    pub(super) stall_budget: StallBudget,
    pub(super) client_ids: ClientIdHistory,
    pub(super) tickets: Tickets,
    /// Commands of administrators that wait.
    pub(super) administration: Administration,
    /// Where the numbers for dashboards go.
    pub(super) metrics: Metrics,
    tenants: Vec<(TenantName, TenantLimits)>,
    /// How many instances there have been.
    instances: u32,
}

/// A tenant, and the client ID of the application there.
type TenantName = (String, String);

/// The place of a tenant in [`Common`].
#[derive(Clone, Copy)]
pub(super) struct TenantId(usize);

/// A client that was admitted and that the broker has not let in yet. [Confirm](Common::confirm) or
/// [retract](Common::retract) it.
#[must_use]
pub struct Admitted {
    key: ClientKey,
    client_id: Arc<str>,
    /// The older session of its client ID.
    older: Option<ClientKey>,
    /// What was saved under its client ID before the broker started.
    saved: Option<SavedSession>,
    to_save: Option<Box<SessionToSave>>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            saved: SavedSessions::default(),
            stall_budget: StallBudget::default(),
            client_ids: ClientIdHistory::new(moment()),
            tickets: Tickets::default(),
            administration: Administration::default(),
            metrics: Metrics::default(),
            tenants: Vec::new(),
            instances: 0,
        }
    }
}

impl Common {
    /// Adjusts to a wall clock that was set by this many seconds.
    pub fn clock_was_set(&mut self, by: i64) {
        self.sessions.clock_was_set(by);
    }

    /// Admits a client that has its user name. It has rights from now on.
    pub fn admit(&mut self, admission: Admission) -> Admitted {
        let Admission {
            key,
            session,
            to_save,
            ..
        } = admission;
        let client_id = Arc::clone(&session.client_id);
        let saved = self.saved.take(&client_id);
        let older = self.sessions.admit(key, session);
        if saved.is_some() || self.saved.is_released(&client_id) {
            self.sessions.may_resume(key);
        }
        Admitted {
            key,
            client_id,
            older,
            saved,
            to_save,
        }
    }

    /// Records that the broker let a client in that was admitted.
    pub fn confirm(&mut self, admitted: Admitted) {
        self.end_saved();
        self.sessions.owner_is_back(&admitted.client_id);
        match admitted.to_save {
            Some(session) => self.saved.save(&admitted.client_id, *session),
            None => self.saved.end(&admitted.client_id),
        }
    }

    /// Records which saved sessions are over.
    pub(super) fn end_saved(&mut self) {
        for client_id in self.sessions.take_ended() {
            self.saved.end(&client_id);
        }
    }

    /// Returns the client ID of the next session that was saved, each once. [Forget](Self::forget_saved) it if the
    /// broker does not have it; otherwise [make](super::Engine::make_ready) its rights.
    pub fn next_saved(&mut self) -> Option<Arc<str>> {
        self.saved.next_unchecked()
    }

    /// Whether there has been more than one instance.
    pub(super) fn is_shared(&self) -> bool {
        self.instances > 1
    }

    /// Forgets a session that was saved, and that the broker does not have.
    pub fn forget_saved(&mut self, client_id: &Arc<str>) {
        self.sessions.forget_restored(client_id);
        self.saved.end(client_id);
    }

    /// Records that the broker asks about a session that it restored from disk (SIGHUP).
    pub fn asked_about_restored(&mut self, client: &impl ClientView) {
        self.sessions.asks_about_restored();
        if let Ok(client_id) = std::str::from_utf8(client.client_id()) {
            self.saved.asked_about(client_id);
        }
    }

    /// Has everything written that is to be saved, and ends the threads that write. Call it before the last
    /// [`Engine::stop`](super::Engine::stop), which may wait for a tenant that does not respond.
    pub fn stop(&mut self) {
        // First what cannot be replaced.
        self.saved.stop();
        self.metrics.stop();
    }

    /// Returns whether a client stays as it is, where the broker certainly asks about one of its sessions. If `false`,
    /// [`Engine::authenticate`](super::Engine::authenticate) decides.
    ///
    /// On SIGHUP the broker asks about all sessions at once and serves nobody meanwhile. So this only looks the session
    /// up. It compares no credential, because nobody presents one.
    #[inline]
    pub fn stays(&mut self, key: ClientKey, client: &impl ClientView, now: Unix) -> bool {
        self.sessions.stays(key, client, now)
    }

    /// Prepares the recheck of a client that leaves. Its texts are read now, when they are near, and not while the
    /// broker rechecks all sessions and serves nobody.
    pub fn will_be_rechecked(&mut self, key: ClientKey, client: &impl ClientView) {
        self.sessions.compare_texts(key, client);
    }

    /// Whether a client of any instance waits whose CONNECT the broker holds. A client that hung up counts until it is
    /// answered, because the broker does not tell.
    pub fn somebody_waits(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// Takes an admission back that the broker did not use.
    pub fn retract(&mut self, admitted: Admitted) {
        self.sessions.retract(admitted.key, admitted.older);
        if let Some(saved) = admitted.saved {
            self.saved.put_back(&admitted.client_id, saved);
        }
    }

    /// Whether this client is connected under this client ID, and no newer client has taken that over.
    pub fn is_connected(&self, key: ClientKey, client_id: &str) -> bool {
        self.sessions.is_connected(key, client_id)
    }

    /// Forgets a client. It has no rights from now on.
    pub fn forget(&mut self, key: ClientKey) {
        self.sessions.remove(key);
    }

    /// Returns some of the clients of which at most a will is left. [Forget](Self::forget) those that the broker no
    /// longer has.
    pub fn wills(&mut self) -> Vec<(ClientKey, Arc<str>)> {
        self.sessions.wills()
    }

    /// Begins a recheck: on SIGHUP 2.0 asks about every session that it has.
    pub fn begin_recheck(&mut self) {
        self.sessions.begin_recheck();
    }

    /// Remembers that a client that proved who it is came in under this client ID, or has left.
    pub fn has_used(&mut self, client_id: &str) {
        self.client_ids.used(client_id, moment());
    }

    /// Returns the instance that admitted a client, if the client is the one that signed in.
    pub fn instance_of(&mut self, key: ClientKey, client: &impl ClientView) -> Option<InstanceId> {
        self.sessions
            .look(key, client, |found| found.session.instance)
    }

    /// Returns a new instance.
    pub(super) fn new_instance(&mut self) -> InstanceId {
        self.instances += 1;
        InstanceId(self.instances)
    }

    /// Returns the tenant of these options. If instances differ in `login_rate`, that of the first counts.
    pub(super) fn tenant(&mut self, config: &Config) -> TenantId {
        let asked = config.password_issuer();
        let application = asked.application.as_ref();
        let client_id = application.map_or("", |application| &application.client_id);
        let name = (asked.tenant.name().to_owned(), client_id.to_owned());
        let place = self.tenants.iter().position(|(other, _)| *other == name);
        TenantId(place.unwrap_or_else(|| {
            let limits = TenantLimits::new(config.login_rate, moment());
            self.tenants.push((name, limits));
            self.tenants.len() - 1
        }))
    }

    /// Returns the limits of all tenants.
    pub(super) fn all_limits(&self) -> impl Iterator<Item = &TenantLimits> {
        self.tenants.iter().map(|(_, limits)| limits)
    }

    /// Returns the limits of this tenant.
    pub(super) fn limits(&mut self, tenant: TenantId) -> &mut TenantLimits {
        &mut self.tenants[tenant.0].1
    }
}
