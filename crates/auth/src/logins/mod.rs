//! Sign-ins that need the tenant, off the broker's thread.
//!
//! * this file: what there is to do ([`Job`]) and what came of it ([`Done`])
//! * [`pool`]: the threads that do it; the same credential is asked about once at a time
//! * [`arrivals`]: clients whose CONNECT waits for the outcome (2.1)
//! * [`names`]: under which client IDs they may wait; [`budget`]: how long the broker itself may stand still
//!   (2.0)
//! * [`memory`]: what the tenant said before; [`verified`]: tokens that were good before; both in
//!   tables of [`expiring`] entries
//! * [`source`]: where a client connects from, as all of these count it
//! * [`known`]: who came in before; [`shares`]: who may use how much where there is not enough for all
//! * [`restraint`]: how hard the tenant is asked: not in [`pauses`] that it wants, not in trouble
//!   ([`breaker`]), not too often ([`rate`]), and not too often about one user ([`guesses`])

pub mod arrivals;
pub mod breaker;
pub mod budget;
pub mod expiring;
mod generations;
pub mod guesses;
pub mod known;
pub mod memory;
pub mod names;
pub mod pauses;
pub mod pool;
pub mod rate;
pub mod restraint;
pub mod shares;
pub mod source;
pub mod verified;

use std::{net::IpAddr, sync::Arc};

use known::Caller;
use serde_json::{Map, Value};

use crate::{
    auth0::{
        TenantClient,
        answer::{Aftermath, Tokens},
    },
    clock::{Deadline, Unix},
    config::Config,
    identity::{self, Account},
    keys::store::Store,
    refusal::{Reason, Refusal},
    secret::{Fingerprint, Secret},
    sessions::Client,
};
use acl::claims::Grants;

/// Who is signing in: owned, because the answer may come when the broker's strings are gone.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// The broker's pointer.
    pub client: Client,
    /// Its client id.
    pub client_id: Arc<str>,
    /// The user name it claims, if any.
    pub username: Option<String>,
    /// The address it connects from.
    pub address: Option<String>,
    /// The port of the listener, if the broker tells it.
    pub port: Option<u16>,
    /// The SHA-256 fingerprint of its certificate, if that is of interest and the broker tells it.
    pub certificate: Option<[u8; 32]>,
    /// What it presents.
    pub credential: Fingerprint,
    /// The user whose password that is, if it is one.
    pub login: Option<Fingerprint>,
    /// Where it connects from, and how well it is known there.
    pub caller: Caller,
    /// Whether the broker says that it has no session under this client id. 2.0 does not say.
    pub id_is_free: bool,
}

/// What a credential is good for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The user name.
    pub username: Arc<str>,
    /// Whose token it is: who may come back for what is kept under a client id.
    pub account: Account,
    /// The client ids that it may be used with.
    pub client_ids: identity::Allowed,
    /// What its token says that it may publish and subscribe.
    pub grants: Arc<Grants>,
    /// The claims, where rules may name them.
    pub claims: Option<Arc<Map<String, Value>>>,
    /// When that ends.
    pub until: Unix,
}

/// What is known of a credential in the end.
pub type Verdict = Result<Terms, Refusal>;

/// Whose login it is, as Auth0 counts logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The user.
    pub user: Fingerprint,
    /// The device's address, if it is passed on.
    pub address: Option<IpAddr>,
}

/// A login that the tenant is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose it is.
    pub origin: Origin,
    /// On whose account it goes.
    pub caller: Caller,
    /// Which one it is of all that were asked.
    pub number: u64,
}

/// Tokens that speak for somebody.
pub enum Evidence {
    /// The client sent a token.
    Presented {
        /// The token.
        token: String,
        /// What it is remembered by.
        print: Fingerprint,
    },
    /// The tenant issued tokens for a user name and a password.
    Issued {
        /// The user name that the tenant checked.
        username: String,
        /// Whose login it was.
        origin: Option<Origin>,
        /// What it issued.
        tokens: Tokens,
    },
}

/// Something to wait for.
pub enum Errand {
    /// Ask the tenant whether a password is right.
    Login {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
        /// The device's address, if it may be passed on.
        address: Option<IpAddr>,
    },
    /// Wait until the tenant's keys were fetched again, for evidence whose key is not here.
    Keys(Evidence),
}

/// An errand for one credential. It holds all it needs and touches nothing of the broker's.
pub struct Job {
    /// Who asked first.
    pub claimant: Claimant,
    /// Which credential, so that many who present the same wait for one answer.
    pub key: Fingerprint,
    /// For a login: which question.
    pub question: Option<Question>,
    /// What is to be done.
    pub errand: Errand,
    /// When it must have been done.
    pub deadline: Deadline,
}

impl Job {
    /// Whether it only waits for the keys.
    pub fn is_for_keys(&self) -> bool {
        matches!(self.errand, Errand::Keys(_))
    }
}

/// What came of a job.
pub struct Done {
    /// Who asked first.
    pub claimant: Claimant,
    /// Which credential.
    pub key: Fingerprint,
    /// For a login: which question.
    pub question: Option<Question>,
    /// What its answer means for the questions after it.
    pub aftermath: Aftermath,
    /// The evidence, still to be judged.
    pub result: Result<Evidence, Refusal>,
    /// Whether the keys were fetched for it, if that was the errand.
    pub keys_refetched: Option<bool>,
    /// When everything must have been done.
    pub deadline: Deadline,
}

/// What jobs need.
pub struct Desk {
    /// The configuration.
    pub config: Arc<Config>,
    /// The tenant.
    pub tenant: Arc<TenantClient>,
    /// Its keys.
    pub keys: Arc<Store>,
}

impl Desk {
    /// Does a job; waits at most until its deadline.
    pub fn perform(&self, job: Job) -> Done {
        let Job {
            claimant,
            key,
            question,
            errand,
            deadline,
        } = job;
        let done = |result, aftermath, keys_refetched| Done {
            claimant,
            key,
            question,
            aftermath,
            result,
            keys_refetched,
            deadline,
        };
        match errand {
            Errand::Login { .. } if deadline.has_passed() => {
                let late = Refusal::new(
                    Reason::LoginQueue,
                    "its turn to ask the tenant came too late",
                );
                done(Err(late), Aftermath::default(), None)
            }
            Errand::Login {
                username,
                password,
                address,
            } => {
                let (tokens, aftermath) =
                    self.tenant
                        .login(&self.config, &username, &password, address, deadline);
                let origin = question.map(|question| question.origin);
                let issued = |tokens| Evidence::Issued {
                    username,
                    origin,
                    tokens,
                };
                done(tokens.map(issued), aftermath, None)
            }
            Errand::Keys(evidence) => {
                let refetched = self.keys.refetch(deadline);
                done(Ok(evidence), Aftermath::default(), Some(refetched))
            }
        }
    }
}
