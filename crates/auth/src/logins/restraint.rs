//! How hard the tenant is asked: less than it allows, and less while it is in trouble.
//!
//! What holds a question back is in [`super::rate`], [`super::pauses`], [`super::breaker`] and
//! [`super::guesses`]; here they are asked in turn.

use std::time::Instant;

use super::{
    Origin, Question,
    breaker::{Asker, Breaker, News},
    guesses::{Guesses, Heard},
    known::Caller,
    pauses::Pauses,
    rate::Rate,
};
use crate::{
    auth0::answer::Aftermath,
    refusal::{Reason, Refusal},
};

/// What the tenant lets us ask.
pub struct Restraint {
    rate: Rate,
    pauses: Pauses,
    breaker: Breaker,
    guesses: Guesses,
}

impl Restraint {
    /// At most `rate` logins a second in the long run.
    pub fn new(rate: u32, now: Instant) -> Self {
        Self {
            rate: Rate::new(rate, now),
            pauses: Pauses::default(),
            breaker: Breaker::default(),
            guesses: Guesses::default(),
        }
    }

    /// Whether the tenant may be asked about this login now. Then what came of it is
    /// [`heard`](Self::heard), or the question is [given back](Self::give_back).
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ask(
        &mut self,
        origin: Origin,
        caller: Caller,
        now: Instant,
    ) -> Result<Question, Refusal> {
        self.guesses.ask(origin, now)?;
        match self.ask_tenant(origin, caller, now) {
            Ok(number) => Ok(Question {
                origin,
                caller,
                number,
            }),
            Err(refusal) => {
                self.guesses.heard(origin, Heard::Nothing, now);
                Err(refusal)
            }
        }
    }

    fn ask_tenant(&mut self, origin: Origin, caller: Caller, now: Instant) -> Result<u64, Refusal> {
        self.pauses.ask(origin.address, now)?;
        let asker = Asker {
            user: origin.user,
            caller,
        };
        self.breaker.ask(asker, now)?;
        self.rate.take(caller, now)?;
        Ok(self.breaker.number(asker, now))
    }

    /// The tenant was not asked after all.
    pub fn give_back(&mut self, question: Question, now: Instant) {
        self.rate.give_back(question.caller.source);
        self.breaker
            .heard(question.number, asker(question), News::None, now);
        self.guesses.heard(question.origin, Heard::Nothing, now);
    }

    /// Somebody has mended something (SIGHUP).
    pub fn look_again(&mut self) {
        self.guesses.look_again();
        self.breaker.look_again();
    }

    /// What came of asking; `no` is `None` for a yes.
    pub fn heard(
        &mut self,
        question: Question,
        no: Option<Reason>,
        aftermath: Aftermath,
        now: Instant,
    ) {
        let Question { origin, number, .. } = question;
        if let Some((whose, pause)) = aftermath.pause {
            self.pauses.add(whose, origin.address, pause, now);
        }
        let news = match no {
            Some(Reason::TenantUnreachable) if !aftermath.lost => News::Unreachable,
            Some(Reason::TenantUnreachable | Reason::TenantAnswer | Reason::TenantError) => {
                News::Trouble
            }
            Some(Reason::LoginConfiguration) if aftermath.ours => News::NotOurs,
            Some(Reason::LoginQueue | Reason::Internal) => News::None,
            _ => News::Well,
        };
        self.breaker.heard(number, asker(question), news, now);
        let heard = match no {
            None => Heard::Right,
            Some(_) if aftermath.lost => Heard::Lost,
            Some(Reason::LoginRefused) => Heard::Wrong,
            Some(
                Reason::LoginLocked
                | Reason::LoginBlocked
                | Reason::LoginMfa
                | Reason::LoginLeaked
                | Reason::LoginVerification
                | Reason::LoginDenied,
            ) => Heard::Refused,
            Some(_) => Heard::Nothing,
        };
        self.guesses.heard(origin, heard, now);
    }

    /// What the tokens were worth that the tenant issued; `no` is `None` where the device may come in.
    pub fn judged(&mut self, origin: Origin, no: Option<Reason>, now: Instant) {
        match no {
            None => self.guesses.came_in(origin),
            Some(Reason::LoginToken) => self.guesses.refused(origin, now),
            Some(_) => {}
        }
    }
}

fn asker(question: Question) -> Asker {
    Asker {
        user: question.origin.user,
        caller: question.caller,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;
    use crate::logins::source::Source;
    use crate::{auth0::answer::PauseScope, logins::known::Standing, secret::Fingerprinter};

    /// One who came in before.
    const CALLER: Caller = Caller {
        source: Source::Unknown,
        standing: Standing::Returning,
    };

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// A device that nothing is known of, at the broker's own address.
    fn device() -> Origin {
        Origin {
            user: Fingerprinter::new().unwrap().of(b"device"),
            address: None,
        }
    }

    fn at(address: [u8; 4]) -> Origin {
        Origin {
            address: Some(IpAddr::from(address)),
            ..device()
        }
    }

    fn refused(result: Result<Question, Refusal>) -> Option<Reason> {
        result.err().map(|refusal| refusal.reason)
    }

    fn pause(whose: PauseScope, seconds: u64) -> Aftermath {
        Aftermath {
            pause: Some((whose, S(seconds))),
            ..Aftermath::default()
        }
    }

    #[test]
    fn a_pause_is_kept_by_those_it_is_for() {
        let start = Instant::now();
        let mut restraint = Restraint::new(5, start);
        let (stranger, device) = (at([198, 51, 100, 1]), at([203, 0, 113, 1]));
        let question = restraint.ask(stranger, CALLER, start).unwrap();
        restraint.heard(question, None, pause(PauseScope::SameAddress, 864), start);
        assert_eq!(
            refused(restraint.ask(stranger, CALLER, start + S(863))),
            Some(Reason::LoginThrottled)
        );
        let question = restraint.ask(device, CALLER, start).unwrap();
        restraint.heard(
            question,
            Some(Reason::LoginThrottled),
            pause(PauseScope::AllRequests, 7),
            start,
        );
        for origin in [device, stranger, at([203, 0, 113, 2])] {
            assert_eq!(
                refused(restraint.ask(origin, CALLER, start + S(6))),
                Some(Reason::LoginThrottled)
            );
        }
        assert!(restraint.ask(device, CALLER, start + S(7)).is_ok());
    }

    #[test]
    fn trouble_is_left_alone_until_somebody_mends_it() {
        let start = Instant::now();
        let mut restraint = Restraint::new(1, start);
        let asked = (0..200)
            .filter(|_| match restraint.ask(device(), CALLER, start) {
                Ok(question) => {
                    let no = Some(Reason::TenantError);
                    restraint.heard(question, no, Aftermath::default(), start);
                    true
                }
                Err(_) => false,
            })
            .count();
        assert_eq!(asked, 5);
        restraint.look_again();
        assert!(restraint.ask(device(), CALLER, start).is_ok());
    }

    #[test]
    fn a_refusal_is_an_answer_and_the_tenant_is_well() {
        let start = Instant::now();
        let mut restraint = Restraint::new(5, start);
        for no in [
            Reason::TenantError,
            Reason::TenantError,
            Reason::TenantError,
            Reason::TenantError,
            Reason::LoginConfiguration,
            Reason::TenantError,
        ] {
            let question = restraint.ask(device(), CALLER, start).unwrap();
            restraint.heard(question, Some(no), Aftermath::default(), start);
        }
        let question = restraint.ask(device(), CALLER, start).unwrap();
        let ours = Aftermath {
            ours: true,
            ..Aftermath::default()
        };
        restraint.heard(question, Some(Reason::LoginConfiguration), ours, start);
        assert_eq!(
            refused(restraint.ask(device(), CALLER, start)),
            Some(Reason::LoginConfiguration),
            "and nobody is asked about while it accepts nobody"
        );
    }

    #[test]
    fn what_the_tenant_is_not_asked_costs_nothing() {
        let start = Instant::now();
        let mut restraint = Restraint::new(1, start);
        let origin = device();
        for _ in 0..200 {
            let question = restraint.ask(origin, CALLER, start).unwrap();
            restraint.give_back(question, start);
        }
    }

    /// How often the tenant is asked about a device that comes back at once, all the time.
    fn asked_at_once(no: Option<Reason>, lost: bool, judged: Option<Reason>) -> usize {
        let start = Instant::now();
        let mut restraint = Restraint::new(5, start);
        let origin = device();
        let aftermath = Aftermath {
            lost,
            ..Aftermath::default()
        };
        (0..100)
            .filter(|_| match restraint.ask(origin, CALLER, start) {
                Ok(question) => {
                    restraint.heard(question, no, aftermath, start);
                    if no.is_none() {
                        restraint.judged(origin, judged, start);
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
