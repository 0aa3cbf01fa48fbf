//! Sign-ins that wait for the tenant: while the broker itself waits (2.0), or while it holds the CONNECT (2.1).

use std::{sync::Arc, time::Duration};

use super::{Admission, Common, Engine, verify::KeyFetch};
use crate::{
    clock::{Deadline, Unix, moment},
    identity::Verdict,
    limits::LoginPermit,
    refusal::{NoAnswer, PendingDetail, Reason, Refusal},
    secret::Fingerprint,
    workers::{FinishedJob, Job, JobResult, Task, UnverifiedTokens},
};

/// A sign-in that cannot be decided from memory.
#[must_use]
pub struct Wait {
    pub(super) job: Job,
    /// The user name that the client will have if it is admitted: the one in its token, unverified. `None` if it keeps
    /// the one that it sent.
    pub username: Option<String>,
}

impl Wait {
    /// Whether the tenant has to check a password. Otherwise only its keys are missing.
    pub fn is_login(&self) -> bool {
        !self.job.is_for_keys()
    }
}

/// The result for a client whose CONNECT the broker holds.
pub struct DelayedAnswer {
    /// The client ID, by which the broker knows the client.
    pub client_id: Arc<str>,
    /// The admission, or `None` if the client is refused. The log says why.
    pub admission: Option<Admission>,
}

impl Engine {
    /// Waits for the result, as long as the stall budget allows. If that is too short, refuses the client, and the
    /// tenant is asked all the same: the client is admitted from the cache when it comes back.
    ///
    /// # Errors
    ///
    /// Returns why the client is refused.
    pub fn wait(
        &mut self,
        common: &mut Common,
        wait: Box<Wait>,
        clock: fn() -> Unix,
    ) -> Result<Admission, Refusal> {
        let Wait { job, .. } = *wait;
        let (key, deadline, sign_in) = (job.key, job.deadline, job.sign_in.clone());
        let began = moment();
        let allowance = match self.pool.is_busy(key) {
            // The broker has waited for this result before.
            true => Duration::ZERO,
            false => {
                let (most, percent) = (self.config.login_wait, self.config.stall_budget);
                let budget = &mut common.stall_budget;
                budget.allowance(key, sign_in.caller, began, most, percent)
            }
        };
        let until = Deadline::after(allowance.min(deadline.remaining()));
        let verdict = match self.submit(common, job) {
            Err(refusal) => Some(Err(refusal)),
            Ok(()) => self.wait_until(common, key, until, clock),
        };
        let ended = moment();
        let budget = &mut common.stall_budget;
        budget.spend(ended, sign_in.caller.source, ended - began);
        if verdict.is_none() && !allowance.is_zero() {
            budget.record_timeout(key, ended);
        }
        let verdict = verdict.unwrap_or_else(|| match deadline.has_passed() {
            true => self.too_late(),
            false => Err(Refusal::new(
                Reason::LoginPending,
                PendingDetail::BrokerWaitedEnough,
            )),
        });
        self.admit_or_refuse(common, &sign_in, verdict, clock())
    }

    /// Waits for one credential's verdict. Returns `None` if there is none in time.
    pub(super) fn wait_until(
        &mut self,
        common: &mut Common,
        key: Fingerprint,
        until: Deadline,
        clock: impl Fn() -> Unix,
    ) -> Option<Verdict> {
        loop {
            let job = self.pool.wait(key, until)?;
            // Without a verdict the job waits for keys now.
            if let Some((verdict, _)) = self.finish(common, job, clock()) {
                return Some(verdict);
            }
        }
    }

    /// Waits for the result while the broker holds the CONNECT. [`Self::collect`] returns it.
    ///
    /// # Errors
    ///
    /// Returns a refusal if too many sign-ins wait already.
    pub fn delay(
        &mut self,
        common: &mut Common,
        wait: Box<Wait>,
        now: Unix,
    ) -> Result<(), Refusal> {
        let Wait { job, .. } = *wait;
        let (key, deadline, sign_in) = (job.key, job.deadline, job.sign_in.clone());
        let submitted = match self.pending.has_room(sign_in.caller) {
            true => self.submit(common, job),
            false => {
                self.cancel(common, job.permit());
                Err(Refusal::new(
                    Reason::LoginQueue,
                    PendingDetail::TooMany { waiting: None },
                ))
            }
        };
        if let Err(refusal) = submitted {
            self.report_refused_connect(&sign_in, &refusal, now);
            return Err(refusal);
        }
        common.client_ids.try_once(&sign_in.client.id, moment());
        self.pending
            .wait(&mut common.tickets, sign_in, key, deadline);
        Ok(())
    }

    /// Whether jobs have finished since the last time.
    pub fn has_finished_jobs(&self) -> bool {
        self.pool.has_finished()
    }

    /// Remembers the results of the jobs that have finished since the last time.
    pub fn take_results(&mut self, common: &mut Common, now: Unix) {
        for job in self.pool.take_finished() {
            let (key, sign_in) = (job.key, job.sign_in.clone());
            match self.finish(common, job, now) {
                // The client was refused meanwhile. It comes back for this.
                Some((verdict @ Ok(_), 0)) => {
                    self.login_cache.insert_until_delivered(key, &verdict, now);
                }
                Some((Err(refusal), 0)) => self.report_late_answer(&sign_in, &refusal, now),
                _ => {}
            }
        }
    }

    /// Does the same, and returns the clients whose CONNECT is to be answered.
    pub fn collect(&mut self, common: &mut Common, now: Unix) -> Vec<DelayedAnswer> {
        self.take_results(common, now);
        if self.pending.is_empty() {
            return Vec::new();
        }
        let too_late = self.too_late();
        self.pending.give_up(|| too_late.clone());
        let ready = self.pending.take_ready(&mut common.tickets).into_iter();
        ready
            .map(|(sign_in, verdict)| DelayedAnswer {
                client_id: Arc::clone(&sign_in.client.id),
                admission: self.admit_or_refuse(common, &sign_in, verdict, now).ok(),
            })
            .collect()
    }

    pub(super) fn submit(&self, common: &mut Common, job: Job) -> Result<(), Refusal> {
        let permit = job.permit();
        let submitted = self.pool.submit(job);
        if submitted.is_err() {
            self.cancel(common, permit);
        }
        submitted
    }

    /// The tenant is not asked after all.
    fn cancel(&self, common: &mut Common, permit: Option<LoginPermit>) {
        if let Some(permit) = permit {
            common.limits(self.tenant).cancel(permit, moment());
        }
    }

    /// Returns a refusal that came of a request with the options in force. With other options, the device is to try
    /// again.
    pub(super) fn unless_outdated(&self, refusal: Refusal, asked_by: u64) -> Refusal {
        match asked_by == self.issuers.password_issuer().client_number {
            true => refusal,
            false => Refusal::new(Reason::LoginPending, PendingDetail::OptionsChanged),
        }
    }

    pub(super) fn too_late(&self) -> Verdict {
        let why = NoAnswer::Within(self.config.timeout.as_secs());
        Err(Refusal::new(Reason::TenantUnreachable, why))
    }

    /// Verifies what a job brought, remembers the verdict, and hands it to the clients that wait for it. Returns the
    /// verdict and the number of these clients, or `None` if the job has to wait for keys first.
    fn finish(
        &mut self,
        common: &mut Common,
        job: FinishedJob,
        now: Unix,
    ) -> Option<(Verdict, usize)> {
        // Longer than a screen, because each kind of result is counted differently before it is handed on.
        let limits = common.limits(self.tenant);
        let (result, job) = job.split();
        let key = job.key;
        let (tokens, key_fetch) = match result {
            JobResult::Keys {
                tokens,
                fetched: true,
            } => (Ok(tokens), KeyFetch::Done),
            JobResult::Keys { tokens, .. } => (Ok(tokens), KeyFetch::Failed),
            JobResult::Login {
                username,
                permit,
                feedback,
                tokens,
            } => {
                let asked_by = feedback.asked_by;
                if let Some(took) = feedback.took {
                    let reason = tokens.as_ref().err().map(|refusal| refusal.reason);
                    let requests = &mut self.counters.tenant_logins;
                    requests.count(took, reason.is_some_and(is_failure));
                }
                // The application may have another secret by now.
                let tokens = tokens.map_err(|refusal| match refusal.reason {
                    Reason::LoginConfiguration => self.unless_outdated(refusal, asked_by),
                    _ => refusal,
                });
                if let Some(permit) = permit {
                    let reason = tokens.as_ref().err().map(|refusal| refusal.reason);
                    limits.finish(permit, reason, feedback, moment());
                }
                let tokens = tokens.map(|tokens| UnverifiedTokens::FromTenant {
                    issuer: self.issuers.passwords(),
                    username,
                    attempt: permit.map(|permit| permit.attempt),
                    asked_by,
                    tokens,
                });
                (tokens, KeyFetch::NotTried)
            }
        };
        let is_login = !matches!(tokens, Ok(UnverifiedTokens::FromClient { .. }));
        let attempt = match &tokens {
            Ok(UnverifiedTokens::FromTenant { attempt, .. }) => *attempt,
            _ => None,
        };
        let verdict = match tokens {
            Err(refusal) => Err(refusal),
            Ok(tokens) => match self.verify(&job.sign_in, &tokens, key_fetch, now) {
                Some(verdict) => verdict,
                None => match self.pool.submit(job.with(Task::Keys(tokens))) {
                    Ok(()) => return None,
                    Err(refusal) => Err(refusal),
                },
            },
        };
        if let Some(attempt) = attempt {
            let reason = verdict.as_ref().err().map(|refusal| refusal.reason);
            limits.tokens_checked(attempt, reason, moment());
        }
        if is_login {
            self.login_cache.insert(key, &verdict, now);
        }
        let waiting = self.pending.resolve(key, &verdict) + self.renewals.resolve(key, &verdict);
        Some((verdict, waiting))
    }
}

/// Whether the tenant gave no answer to a login that can be used.
fn is_failure(reason: Reason) -> bool {
    use Reason::{TenantAnswer, TenantError, TenantUnreachable};
    matches!(reason, TenantUnreachable | TenantError | TenantAnswer)
}
