//! What a sign-in may have to wait for: the tenant's answer, or its keys.
//!
//! An [`Errand`] holds all it needs and touches nothing of the broker's, so it can be run wherever
//! waiting is allowed: today inside the broker's callback, which every broker permits; on worker
//! threads where a broker can take the answer later.

use std::{net::IpAddr, sync::Arc};

use zeroize::Zeroizing;

use crate::{
    auth0::{Tenant, answer::Tokens},
    clock::Deadline,
    config::Config,
    keys::store::Store,
    refusal::Refusal,
    secret::Secret,
};

/// Who is signing in: owned, because the answer may come when the broker's strings are gone.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// The broker's pointer.
    pub client: crate::sessions::Client,
    /// Its client id.
    pub client_id: Arc<str>,
    /// The user name it claims.
    pub username: String,
    /// What it presents.
    pub credential: crate::secret::Fingerprint,
}

/// Tokens that speak for a claimant.
pub enum Evidence {
    /// The client sent a token.
    Presented(Zeroizing<String>),
    /// The tenant issued tokens for the client's user name and password.
    Issued(Tokens),
}

/// Something to wait for.
pub enum Errand {
    /// Ask the tenant whether a password is right.
    Login {
        /// The password.
        password: Secret,
        /// The device's address, if it may be passed on.
        device: Option<IpAddr>,
    },
    /// Wait until the tenant's keys were fetched again, for evidence whose key is not here.
    Keys(Evidence),
}

/// A sign-in that waits for its errand.
pub struct Pending {
    /// Whose it is.
    pub claimant: Claimant,
    /// What is to be done.
    pub errand: Errand,
    /// When it must have been done.
    pub deadline: Deadline,
}

/// A sign-in whose errand was done.
pub struct Answered {
    /// Whose it is.
    pub claimant: Claimant,
    /// What came of it.
    pub result: Result<Evidence, Refusal>,
    /// Whether the keys were fetched for it, if that was the errand.
    pub keys_refetched: Option<bool>,
    /// When everything must have been done.
    pub deadline: Deadline,
}

/// What errands need.
pub struct Desk {
    /// The configuration.
    pub config: Arc<Config>,
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// Its keys.
    pub keys: Arc<Store>,
}

impl Desk {
    /// Does the errand; waits at most until its deadline.
    pub fn perform(&self, pending: Pending) -> Answered {
        let Pending {
            claimant,
            errand,
            deadline,
        } = pending;
        let (result, keys_refetched) = match errand {
            Errand::Login { password, device } => {
                let tokens = self.tenant.login(
                    &self.config,
                    &claimant.username,
                    &password,
                    device,
                    deadline,
                );
                (tokens.map(Evidence::Issued), None)
            }
            Errand::Keys(evidence) => {
                let refetched = self.keys.refetch(deadline);
                (Ok(evidence), Some(refetched))
            }
        };
        Answered {
            claimant,
            result,
            keys_refetched,
            deadline,
        }
    }
}
