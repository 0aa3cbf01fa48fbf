//! Limits on how often the tenant is asked about logins, so that neither the broker nor one user is locked out.
//!
//! * this file: [`TenantLimits`] applies all limits of one tenant in turn
//! * [`retry_after`]: the pauses that the tenant asks for
//! * [`circuit_breaker`]: no requests while the tenant is in trouble
//! * [`rate`]: the number of logins per second
//! * [`lockout`]: the number of wrong passwords of one user
//! * [`known_callers`], [`fair_shares`]: who goes first, and who may use how much, where there is not enough for all
//! * [`source`]: how all of these count client addresses

mod circuit_breaker;
pub mod fair_shares;
pub mod known_callers;
mod lockout;
mod rate;
mod retry_after;
pub(crate) mod source;

use std::{net::IpAddr, time::Instant};

use crate::{
    auth0::answer::TenantFeedback,
    metrics::OpenCircuits,
    refusal::{Reason, Refusal},
    secret::Fingerprint,
};
use circuit_breaker::{CircuitBreaker, Requester, TenantHealth};
use known_callers::Caller;
use lockout::{Lockout, PasswordResult};
use rate::RateLimit;
use retry_after::RetryAfter;

/// A login attempt, as Auth0 counts attempts: by user and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoginAttempt {
    /// The user.
    pub user: Fingerprint,
    /// The device's address, if it is passed on to the tenant.
    pub address: Option<IpAddr>,
}

/// A permit to ask the tenant about one login. Give it to [`TenantLimits::finish`] or [`TenantLimits::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginPermit {
    /// The attempt.
    pub attempt: LoginAttempt,
    /// The caller that it counts for.
    pub caller: Caller,
    /// The number of the request.
    pub(crate) number: u64,
}

/// The limits of one tenant.
pub(crate) struct TenantLimits {
    rate: RateLimit,
    retry_after: RetryAfter,
    circuit_breaker: CircuitBreaker,
    lockout: Lockout,
}

impl TenantLimits {
    /// Returns limits with at most `rate` logins per second in the long run.
    pub(crate) fn new(rate: u32, now: Instant) -> Self {
        Self {
            rate: RateLimit::new(rate, now),
            retry_after: RetryAfter::default(),
            circuit_breaker: CircuitBreaker::default(),
            lockout: Lockout::default(),
        }
    }

    /// Returns a permit if the tenant may be asked about this login now.
    ///
    /// # Errors
    ///
    /// Returns why not.
    pub(crate) fn begin(
        &mut self,
        attempt: LoginAttempt,
        caller: Caller,
        now: Instant,
    ) -> Result<LoginPermit, Refusal> {
        self.lockout.begin(attempt, now)?;
        match self.ask_tenant(attempt, caller, now) {
            Ok(number) => Ok(LoginPermit {
                attempt,
                caller,
                number,
            }),
            Err(refusal) => {
                self.lockout
                    .finish(attempt, PasswordResult::NotChecked, now);
                Err(refusal)
            }
        }
    }

    fn ask_tenant(
        &mut self,
        attempt: LoginAttempt,
        caller: Caller,
        now: Instant,
    ) -> Result<u64, Refusal> {
        self.retry_after.check(attempt.address, now)?;
        let requester = Requester {
            user: attempt.user,
            caller,
        };
        self.circuit_breaker.check(requester, now)?;
        self.rate.take(caller, now)?;
        Ok(self.circuit_breaker.begin(requester, now))
    }

    /// Takes a permit back whose request was not sent.
    pub(crate) fn cancel(&mut self, permit: LoginPermit, now: Instant) {
        self.rate.give_back(permit.caller.source);
        self.circuit_breaker.finish(
            permit.number,
            requester(permit),
            TenantHealth::NotAsked,
            now,
        );
        self.lockout
            .finish(permit.attempt, PasswordResult::NotChecked, now);
    }

    /// Changes how many logins per second there may be in the long run.
    pub(crate) fn set_rate(&mut self, rate: u32) {
        self.rate.set(rate);
    }

    /// Shortens waits, because somebody may have fixed something (SIGHUP).
    pub(crate) fn reset_after_reload(&mut self) {
        self.lockout.reset_after_reload();
        self.circuit_breaker.reset();
    }

    /// Returns how many circuits are open.
    pub(crate) fn open_circuits(&self) -> OpenCircuits {
        self.circuit_breaker.open()
    }

    /// Records what came of a request.
    pub(crate) fn finish(
        &mut self,
        permit: LoginPermit,
        refusal_reason: Option<Reason>,
        feedback: TenantFeedback,
        now: Instant,
    ) {
        let LoginPermit {
            attempt, number, ..
        } = permit;
        if let Some((whose, pause)) = feedback.pause {
            self.retry_after.add(whose, attempt.address, pause, now);
        }
        let health = match refusal_reason {
            Some(Reason::TenantUnreachable) if !feedback.lost => TenantHealth::Unreachable,
            Some(Reason::TenantUnreachable | Reason::TenantAnswer | Reason::TenantError) => {
                TenantHealth::Failed
            }
            Some(Reason::LoginConfiguration) if feedback.application_rejected => {
                TenantHealth::ApplicationRejected
            }
            // With other options than those in force, the response proves nothing.
            Some(Reason::LoginQueue | Reason::LoginPending | Reason::Internal) => {
                TenantHealth::NotAsked
            }
            _ => TenantHealth::Healthy,
        };
        self.circuit_breaker
            .finish(number, requester(permit), health, now);
        let password = match refusal_reason {
            None => PasswordResult::Correct,
            Some(_) if feedback.lost => PasswordResult::Unknown,
            Some(Reason::LoginRefused) => PasswordResult::Wrong,
            Some(
                Reason::LoginLocked
                | Reason::LoginBlocked
                | Reason::LoginMfa
                | Reason::LoginLeaked
                | Reason::LoginVerification
                | Reason::LoginDenied,
            ) => PasswordResult::UserRefused,
            Some(_) => PasswordResult::NotChecked,
        };
        self.lockout.finish(attempt, password, now);
    }

    /// Records whether the tokens that the tenant issued can be used, or why not.
    pub(crate) fn tokens_checked(
        &mut self,
        attempt: LoginAttempt,
        refusal_reason: Option<Reason>,
        now: Instant,
    ) {
        match refusal_reason {
            None => self.lockout.signed_in(attempt),
            Some(Reason::LoginToken) => self.lockout.tokens_refused(attempt, now),
            Some(_) => {}
        }
    }
}

fn requester(permit: LoginPermit) -> Requester {
    Requester {
        user: permit.attempt.user,
        caller: permit.caller,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;
    use crate::limits::source::SourceNetwork;
    use crate::{
        auth0::answer::PauseScope, limits::known_callers::Standing, secret::Fingerprinter,
    };

    /// A caller that came in before.
    const CALLER: Caller = Caller {
        source: SourceNetwork::Unknown,
        standing: Standing::Returning,
    };

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// A device at the address of the broker, with no history.
    fn device() -> LoginAttempt {
        LoginAttempt {
            user: Fingerprinter::new().unwrap().of(b"device"),
            address: None,
        }
    }

    fn at(address: [u8; 4]) -> LoginAttempt {
        LoginAttempt {
            address: Some(IpAddr::from(address)),
            ..device()
        }
    }

    fn refused(result: Result<LoginPermit, Refusal>) -> Option<Reason> {
        result.err().map(|refusal| refusal.reason)
    }

    fn pause(whose: PauseScope, seconds: u64) -> TenantFeedback {
        TenantFeedback {
            pause: Some((whose, S(seconds))),
            ..TenantFeedback::default()
        }
    }

    #[test]
    fn a_pause_is_kept_by_those_it_is_for() {
        let start = Instant::now();
        let mut limits = TenantLimits::new(5, start);
        let (stranger, device) = (at([198, 51, 100, 1]), at([203, 0, 113, 1]));
        let permit = limits.begin(stranger, CALLER, start).unwrap();
        limits.finish(permit, None, pause(PauseScope::SameAddress, 864), start);
        assert_eq!(
            refused(limits.begin(stranger, CALLER, start + S(863))),
            Some(Reason::LoginThrottled)
        );
        let permit = limits.begin(device, CALLER, start).unwrap();
        limits.finish(
            permit,
            Some(Reason::LoginThrottled),
            pause(PauseScope::AllRequests, 7),
            start,
        );
        for attempt in [device, stranger, at([203, 0, 113, 2])] {
            assert_eq!(
                refused(limits.begin(attempt, CALLER, start + S(6))),
                Some(Reason::LoginThrottled)
            );
        }
        assert!(limits.begin(device, CALLER, start + S(7)).is_ok());
    }

    #[test]
    fn trouble_is_left_alone_until_somebody_fixes_it() {
        let start = Instant::now();
        let mut limits = TenantLimits::new(1, start);
        let asked = (0..200)
            .filter(|_| match limits.begin(device(), CALLER, start) {
                Ok(permit) => {
                    let no = Some(Reason::TenantError);
                    limits.finish(permit, no, TenantFeedback::default(), start);
                    true
                }
                Err(_) => false,
            })
            .count();
        assert_eq!(asked, 5);
        limits.reset_after_reload();
        assert!(limits.begin(device(), CALLER, start).is_ok());
    }

    #[test]
    fn a_refusal_is_an_answer_and_the_tenant_is_well() {
        let start = Instant::now();
        let mut limits = TenantLimits::new(5, start);
        for no in [
            Reason::TenantError,
            Reason::TenantError,
            Reason::TenantError,
            Reason::TenantError,
            Reason::LoginConfiguration,
            Reason::TenantError,
        ] {
            let permit = limits.begin(device(), CALLER, start).unwrap();
            limits.finish(permit, Some(no), TenantFeedback::default(), start);
        }
        let permit = limits.begin(device(), CALLER, start).unwrap();
        let rejected = TenantFeedback {
            application_rejected: true,
            ..TenantFeedback::default()
        };
        limits.finish(permit, Some(Reason::LoginConfiguration), rejected, start);
        assert_eq!(
            refused(limits.begin(device(), CALLER, start)),
            Some(Reason::LoginConfiguration),
            "and nobody is asked about while it accepts nobody"
        );
    }

    #[test]
    fn what_the_tenant_is_not_asked_costs_nothing() {
        let start = Instant::now();
        let mut limits = TenantLimits::new(1, start);
        let attempt = device();
        for _ in 0..200 {
            let permit = limits.begin(attempt, CALLER, start).unwrap();
            limits.cancel(permit, start);
        }
    }

    /// Returns how often the tenant is asked about a device that tries again at once, all the time.
    fn asked_at_once(no: Option<Reason>, lost: bool, judged: Option<Reason>) -> usize {
        let start = Instant::now();
        let mut limits = TenantLimits::new(5, start);
        let attempt = device();
        let feedback = TenantFeedback {
            lost,
            ..TenantFeedback::default()
        };
        (0..100)
            .filter(|_| match limits.begin(attempt, CALLER, start) {
                Ok(permit) => {
                    limits.finish(permit, no, feedback, start);
                    if no.is_none() {
                        limits.tokens_checked(attempt, judged, start);
                    }
                    true
                }
                Err(_) => false,
            })
            .count()
    }

    #[test]
    fn every_definite_refusal_slows_its_device_down() {
        for reason in [
            Reason::LoginLocked,
            Reason::LoginBlocked,
            Reason::LoginMfa,
            Reason::LoginLeaked,
            Reason::LoginVerification,
            Reason::LoginDenied,
        ] {
            assert_eq!(asked_at_once(Some(reason), false, None), 1, "{reason:?}");
        }
        assert_eq!(asked_at_once(None, false, Some(Reason::LoginToken)), 1);
        assert_eq!(asked_at_once(Some(Reason::LoginRefused), false, None), 3);
        assert_eq!(asked_at_once(None, false, None), 100);
    }

    #[test]
    fn a_lost_answer_may_have_been_a_wrong_password() {
        let no = Some(Reason::TenantUnreachable);
        assert_eq!(asked_at_once(no, true, None), 3);
        assert_eq!(asked_at_once(no, false, None), 5, "trouble, and no more");
    }
}
