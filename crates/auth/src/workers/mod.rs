//! Work that waits for the tenant, done outside the broker's thread.
//!
//! * this file: a [`Job`], its [`FinishedJob`], and the [`JobRunner`] that makes one from the other
//! * [`pool`]: the threads that run jobs, one at a time for each credential

pub mod pool;

use std::{net::IpAddr, sync::Arc};

use crate::{
    auth0::{
        TenantClient,
        answer::{TenantFeedback, Tokens},
    },
    clock::Deadline,
    config::Config,
    jwt::jwks_cache::JwksCache,
    limits::{LoginAttempt, LoginPermit},
    refusal::{Reason, Refusal},
    secret::{Fingerprint, Secret},
    sign_in::SignIn,
};

/// Tokens that speak for somebody.
pub enum UnverifiedTokens {
    /// The client sent a token.
    FromClient {
        /// The token.
        token: String,
        /// What it is remembered by.
        print: Fingerprint,
    },
    /// The tenant issued tokens for a user name and a password.
    FromTenant {
        /// The user name that the tenant checked.
        username: String,
        /// Whose login it was.
        attempt: Option<LoginAttempt>,
        /// What it issued.
        tokens: Tokens,
    },
}

/// Something to wait for.
pub enum Task {
    /// Ask the tenant whether a password is right.
    Login {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
        /// The device's address, if it may be passed on.
        address: Option<IpAddr>,
    },
    /// Wait until the tenant's keys were fetched again, for unverified whose key is not here.
    Keys(UnverifiedTokens),
}

/// An task for one credential. It holds all it needs and touches nothing of the broker's.
pub struct Job {
    /// Who asked first.
    pub sign_in: SignIn,
    /// Which credential, so that many who present the same wait for one answer.
    pub key: Fingerprint,
    /// For a login: which permit.
    pub permit: Option<LoginPermit>,
    /// What is to be done.
    pub task: Task,
    /// When it must have been done.
    pub deadline: Deadline,
}

impl Job {
    /// Whether it only waits for the keys.
    pub fn is_for_keys(&self) -> bool {
        matches!(self.task, Task::Keys(_))
    }
}

/// What came of a job.
pub struct FinishedJob {
    /// Who asked first.
    pub sign_in: SignIn,
    /// Which credential.
    pub key: Fingerprint,
    /// For a login: which permit.
    pub permit: Option<LoginPermit>,
    /// What its answer means for the questions after it.
    pub feedback: TenantFeedback,
    /// The unverified, still to be judged.
    pub result: Result<UnverifiedTokens, Refusal>,
    /// Whether the keys were fetched for it, if that was the task.
    pub keys_refetched: Option<bool>,
    /// When everything must have been done.
    pub deadline: Deadline,
}

/// What jobs need.
pub struct JobRunner {
    /// The configuration.
    pub config: Arc<Config>,
    /// The tenant.
    pub tenant: Arc<TenantClient>,
    /// Its keys.
    pub keys: Arc<JwksCache>,
}

impl JobRunner {
    /// Does a job; waits at most until its deadline.
    pub fn run(&self, job: Job) -> FinishedJob {
        let Job {
            sign_in,
            key,
            permit,
            task,
            deadline,
        } = job;
        let done = |result, feedback, keys_refetched| FinishedJob {
            sign_in,
            key,
            permit,
            feedback,
            result,
            keys_refetched,
            deadline,
        };
        match task {
            Task::Login { .. } if deadline.has_passed() => {
                let late = Refusal::new(
                    Reason::LoginQueue,
                    "its turn to ask the tenant came too late",
                );
                done(Err(late), TenantFeedback::default(), None)
            }
            Task::Login {
                username,
                password,
                address,
            } => {
                let (tokens, feedback) =
                    self.tenant
                        .login(&self.config, &username, &password, address, deadline);
                let attempt = permit.map(|permit| permit.attempt);
                let issued = |tokens| UnverifiedTokens::FromTenant {
                    username,
                    attempt,
                    tokens,
                };
                done(tokens.map(issued), feedback, None)
            }
            Task::Keys(unverified) => {
                let refetched = self.keys.refetch(deadline);
                done(Ok(unverified), TenantFeedback::default(), Some(refetched))
            }
        }
    }
}
