//! Work that waits for the tenant, outside the broker's thread.
//!
//! * this file: a [`Job`], before and after the wait
//! * [`pool`]: the threads that ask the tenant, and the jobs that wait for its keys

pub mod pool;

use std::net::IpAddr;

use crate::{
    account::IssuerNumber,
    auth0::{
        TenantClient,
        answer::{TenantFeedback, Tokens},
    },
    clock::Deadline,
    limits::{LoginAttempt, LoginPermit},
    refusal::{PendingDetail, Reason, Refusal},
    secret::{Fingerprint, Secret},
    sign_in::SignIn,
};

/// A sign-in that cannot be decided yet: `T` is what it waits for, and later what came of that. It owns all that it
/// needs.
pub struct Job<T = Task> {
    /// The sign-in that asked first.
    pub sign_in: SignIn,
    /// The credential. Everyone who presents the same one waits for the same job.
    pub key: Fingerprint,
    /// The time by which the sign-in must be decided.
    pub deadline: Deadline,
    /// What it waits for, or what came of that.
    pub task: T,
}

/// A job whose wait is over.
pub type FinishedJob = Job<JobResult>;

/// What a job waits for.
pub enum Task {
    /// The tenant checks a password.
    Login(Login),
    /// The tenant's keys are fetched again, because these tokens are signed with an unknown key.
    Keys(UnverifiedTokens),
}

/// A password for the tenant to check.
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// The client's address, if it may be passed on.
    pub address: Option<IpAddr>,
    /// The permit to ask. There is none where the same login was being checked already.
    pub permit: Option<LoginPermit>,
}

/// What came of a job.
pub enum JobResult {
    /// The tenant checked a password, or could not.
    Login {
        /// The user name.
        username: String,
        /// The permit that was used.
        permit: Option<LoginPermit>,
        /// What the response means for later requests.
        feedback: TenantFeedback,
        /// The tokens that the tenant issued.
        tokens: Result<Tokens, Refusal>,
    },
    /// A fetch of the tenant's keys has ended.
    Keys {
        /// The tokens that waited for it.
        tokens: UnverifiedTokens,
        /// Whether it brought keys.
        fetched: bool,
    },
}

/// Tokens that are not verified yet.
pub enum UnverifiedTokens {
    /// A client sent a token.
    FromClient {
        /// The issuer that the token names.
        issuer: IssuerNumber,
        /// The token.
        token: String,
    },
    /// The tenant issued tokens for a user name and a password.
    FromTenant {
        /// The issuer that was asked.
        issuer: IssuerNumber,
        /// The user name that the tenant checked.
        username: String,
        /// The attempt that it counted.
        attempt: Option<LoginAttempt>,
        /// The number of the client that asked it.
        asked_by: u64,
        /// The tokens.
        tokens: Tokens,
    },
}

impl UnverifiedTokens {
    /// Returns the issuer whose keys they have to be signed with.
    pub fn issuer(&self) -> IssuerNumber {
        match self {
            Self::FromClient { issuer, .. } | Self::FromTenant { issuer, .. } => *issuer,
        }
    }
}

impl<T> Job<T> {
    /// Takes the task out of the job.
    pub fn split(self) -> (T, Job<()>) {
        let Self {
            sign_in,
            key,
            deadline,
            task,
        } = self;
        let rest = Job {
            sign_in,
            key,
            deadline,
            task: (),
        };
        (task, rest)
    }

    /// Replaces the task.
    pub fn with<U>(self, task: U) -> Job<U> {
        Job {
            sign_in: self.sign_in,
            key: self.key,
            deadline: self.deadline,
            task,
        }
    }
}

impl Job {
    /// Whether it waits for the tenant's keys, and not for an answer about a password.
    pub(crate) fn is_for_keys(&self) -> bool {
        matches!(self.task, Task::Keys(_))
    }

    /// Returns its permit to ask the tenant, if it has one.
    pub fn permit(&self) -> Option<LoginPermit> {
        match &self.task {
            Task::Login(login) => login.permit,
            Task::Keys(_) => None,
        }
    }
}

/// Asks the tenant about a login, unless the deadline has passed.
pub(crate) fn log_in(
    tenant: &TenantClient,
    login: &Login,
    deadline: Deadline,
) -> (Result<Tokens, Refusal>, TenantFeedback) {
    if deadline.has_passed() {
        let refusal = Refusal::new(Reason::LoginQueue, PendingDetail::TurnTooLate);
        return (Err(refusal), TenantFeedback::default());
    }
    tenant.login(&login.username, &login.password, login.address, deadline)
}
