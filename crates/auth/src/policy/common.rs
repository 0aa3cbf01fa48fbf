//! What all instances of the plugin in one broker share, whatever their options: a client id, and the time
//! the broker may stand still, are the whole broker's; and a tenant that is asked by two is one tenant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::lock;
use crate::{
    clock::moment,
    config::Config,
    logins::{budget::Budget, names::Names, restraint::Restraint},
    sessions::Sessions,
};

/// How each tenant may be asked, by its name and the application's.
type Restraints = HashMap<(String, String), Arc<Mutex<Restraint>>>;

/// It. Clones are the same.
#[derive(Clone)]
pub struct Common {
    pub(super) sessions: Arc<Mutex<Sessions>>,
    pub(super) budget: Arc<Mutex<Budget>>,
    pub(super) names: Arc<Mutex<Names>>,
    restraints: Arc<Mutex<Restraints>>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            budget: Arc::default(),
            names: Arc::new(Mutex::new(Names::new(moment()))),
            restraints: Arc::default(),
        }
    }
}

impl Common {
    /// The wall clock was set by this many seconds.
    pub fn clock_was_set(&self, by: i64) {
        let mut sessions = self
            .sessions
            .lock()
            .expect("no decision has panicked before");
        sessions.clock_was_set(by);
    }

    /// How this tenant may be asked. Where instances differ in `login_rate`, the first one's counts.
    pub(super) fn restraint(&self, config: &Config) -> Arc<Mutex<Restraint>> {
        let application = config.application.as_ref();
        let client_id = application.map_or("", |application| &application.client_id);
        let key = (config.home.name().to_owned(), client_id.to_owned());
        let mut restraints = lock(&self.restraints);
        let restraint = restraints
            .entry(key)
            .or_insert_with(|| Arc::new(Mutex::new(Restraint::new(config.login_rate, moment()))));
        Arc::clone(restraint)
    }
}
