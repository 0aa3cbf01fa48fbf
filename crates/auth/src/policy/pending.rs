//! Sign-ins that wait: for a stated time while the broker stands still (2.0), or while it holds the CONNECT (2.1).

use std::{sync::Arc, time::Duration};

use super::{Admission, Common, Engine, Step};
use crate::{
    clock::{Deadline, Unix, moment},
    identity::Verdict,
    limits::LoginPermit,
    pending::{self, PendingAuthentication},
    refusal::{Reason, Refusal},
    sign_in::SignIn,
    workers::{FinishedJob, Job, Task, UnverifiedTokens},
};

/// A sign-in that cannot be decided from memory.
#[must_use]
pub struct Wait {
    pub(super) sign_in: SignIn,
    pub(super) job: Job,
    /// The user name that the client will have if it comes in: what its token says, unverified.
    /// `None` where it keeps the one it sent.
    pub username: Option<String>,
}

impl Wait {
    /// Whether it is the tenant that has to be asked, and not only for its keys.
    pub fn is_login(&self) -> bool {
        !self.job.is_for_keys()
    }
}

/// A client whose CONNECT the broker holds, and what to tell it.
pub struct DelayedAnswer {
    /// Its client id, by which the broker is told.
    pub client_id: Arc<str>,
    /// The terms, or `None` for a refusal. It is explained in the log.
    pub admission: Option<Admission>,
}

impl Engine {
    /// Waits for the outcome within the budget. Beyond it the client is turned away, and the tenant
    /// asked all the same: it is let in from memory when it comes back.
    pub fn wait(&mut self, common: &mut Common, wait: Box<Wait>, clock: fn() -> Unix) -> Step {
        let Wait { sign_in, job, .. } = *wait;
        let (key, deadline) = (job.key, job.deadline);
        let began = moment();
        let allowance = match self.pool.is_busy(key) {
            // The broker has waited for this answer before.
            true => Duration::ZERO,
            false => {
                let (most, percent) = (self.config.login_wait, self.config.stall_budget);
                let budget = &mut common.stall_budget;
                budget.allowance(key, sign_in.caller, began, most, percent)
            }
        };
        let until = Deadline::after(allowance.min(deadline.remaining()));
        let mut answered = true;
        let verdict = match self.submit(common, job) {
            Err(refusal) => Err(refusal),
            Ok(()) => loop {
                match self
                    .pool
                    .wait(key, until)
                    .map(|done| self.finish(common, done, clock()))
                {
                    Some(Some((verdict, _))) => break verdict,
                    // It needs the keys as well, and that is under way.
                    Some(None) => {}
                    None if deadline.has_passed() => {
                        answered = false;
                        break self.too_late();
                    }
                    None => {
                        answered = false;
                        break Err(Refusal::new(
                            Reason::LoginPending,
                            "the tenant is being asked, and the broker may not wait longer",
                        ));
                    }
                }
            },
        };
        let ended = moment();
        let budget = &mut common.stall_budget;
        budget.spend(ended, sign_in.caller.source, ended - began);
        if !answered && !allowance.is_zero() {
            budget.waited_for_nothing(key, ended);
        }
        self.admit_or_refuse(common, &sign_in, verdict, clock())
    }

    /// Has the outcome found while the broker holds the CONNECT; [`Self::collect`] brings it.
    ///
    /// # Errors
    ///
    /// A refusal if there is too much to do already.
    pub fn delay(
        &mut self,
        common: &mut Common,
        wait: Box<Wait>,
        now: Unix,
    ) -> Result<(), Refusal> {
        let Wait { sign_in, job, .. } = *wait;
        let (key, deadline) = (job.key, job.deadline);
        let submitted = match self.pending.has_room(sign_in.caller) {
            true => self.submit(common, job),
            false => {
                self.give_back(common, job.permit);
                Err(Refusal::new(Reason::LoginQueue, "too many sign-ins wait"))
            }
        };
        if let Err(refusal) = submitted {
            self.report_refused_connect(&sign_in, &refusal, now);
            return Err(refusal);
        }
        common.client_ids.try_once(&sign_in.client.id, moment());
        self.pending
            .wait(PendingAuthentication::new(sign_in, key, deadline));
        Ok(())
    }

    /// Whether a client waits whose CONNECT the broker holds: one of this policy's or of another's.
    pub fn somebody_waits(&self) -> bool {
        pending::somebody_waits()
    }

    /// Whether jobs have come to an end since the last time.
    pub fn has_news(&self) -> bool {
        self.pool.has_finished()
    }

    /// Remembers what has come of jobs since the last time.
    pub fn absorb(&mut self, common: &mut Common, now: Unix) {
        for done in self.pool.take_finished() {
            let (key, sign_in) = (done.key, done.sign_in.clone());
            match self.finish(common, done, now) {
                // Whoever asked was turned away meanwhile, and comes back for it.
                Some((verdict @ Ok(_), 0)) => {
                    self.login_cache.insert_until_delivered(key, &verdict, now)
                }
                Some((Err(refusal), 0)) => self.report_refused_connect(&sign_in, &refusal, now),
                _ => {}
            }
        }
    }

    /// What has come of jobs since the last time: remembers it, and brings the clients to answer.
    pub fn collect(&mut self, common: &mut Common, now: Unix) -> Vec<DelayedAnswer> {
        self.absorb(common, now);
        if self.pending.is_empty() {
            return Vec::new();
        }
        let too_late = self.too_late();
        self.pending.give_up(|| too_late.clone());
        let ready = self.pending.take_ready().into_iter();
        ready
            .filter(|(arrival, _)| arrival.is_awaited())
            .map(|(arrival, verdict)| DelayedAnswer {
                client_id: Arc::clone(&arrival.sign_in.client.id),
                admission: match self.admit_or_refuse(common, &arrival.sign_in, verdict, now) {
                    Step::Admit(admission) => Some(admission),
                    _ => None,
                },
            })
            .collect()
    }

    pub(super) fn submit(&self, common: &mut Common, job: Job) -> Result<(), Refusal> {
        let permit = job.permit;
        let submitted = self.pool.submit(job);
        if submitted.is_err() {
            self.give_back(common, permit);
        }
        submitted
    }

    /// The tenant is not asked after all.
    fn give_back(&self, common: &mut Common, permit: Option<LoginPermit>) {
        if let Some(permit) = permit {
            common.limits(self.tenant).cancel(permit, moment());
        }
    }

    fn too_late(&self) -> Verdict {
        let timeout = self.config.timeout.as_secs();
        let detail = format!("the tenant did not answer within {timeout} s");
        Err(Refusal::new(Reason::TenantUnreachable, detail))
    }

    /// Finishes a job: verifies what came of it, remembers that, and hands it to the clients that wait; how many they
    /// are. `None` if it takes another job first.
    fn finish(
        &mut self,
        common: &mut Common,
        done: FinishedJob,
        now: Unix,
    ) -> Option<(Verdict, usize)> {
        let limits = common.limits(self.tenant);
        let FinishedJob {
            sign_in,
            key,
            permit,
            feedback,
            result,
            keys_refetched,
            deadline,
        } = done;
        if let Some(permit) = permit {
            let no = result.as_ref().err().map(|refusal| refusal.reason);
            limits.finish(permit, no, feedback, moment());
        }
        let attempt = match &result {
            Ok(UnverifiedTokens::FromTenant { attempt, .. }) => *attempt,
            _ => None,
        };
        let is_login = !matches!(result, Ok(UnverifiedTokens::FromClient { .. }));
        let verdict = match result {
            Err(refusal) => Err(refusal),
            Ok(unverified) => match self.verify(&unverified, keys_refetched, now) {
                Some(verdict) => verdict,
                None => {
                    match self.pool.submit(Job {
                        sign_in,
                        key,
                        permit: None,
                        task: Task::Keys(unverified),
                        deadline,
                    }) {
                        Ok(()) => return None,
                        Err(refusal) => Err(refusal),
                    }
                }
            },
        };
        if let Some(attempt) = attempt {
            let no = verdict.as_ref().err().map(|refusal| refusal.reason);
            limits.tokens_checked(attempt, no, moment());
        }
        if is_login {
            self.login_cache.insert(key, &verdict, now);
        }
        let woken = self.pending.resolve(key, &verdict);
        Some((verdict, woken))
    }
}
