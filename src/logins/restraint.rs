//! How hard the tenant is asked: less than it allows, and less while it is in trouble.
//!
//! Auth0 counts all of a broker's devices as one caller. Without restraint a fleet that comes back
//! at once uses up the tenant's rate limit (Auth0, "Rate Limit Policy"). Here is that rate; what
//! else holds a question back is in [`super::pauses`], [`super::breaker`] and [`super::guesses`].

use std::time::Instant;

use super::{
    Origin, Question,
    breaker::{Breaker, News},
    guesses::{Guesses, Heard},
    pauses::Pauses,
};
use crate::{
    auth0::answer::Aftermath,
    refusal::{Reason, Refusal},
};

/// As Auth0's free plan has it: a burst of 300 at 300 a minute.
const BURST_SECONDS: f64 = 60.0;

/// What the tenant lets us ask.
pub struct Restraint {
    rate: f64,
    tokens: f64,
    filled: Instant,
    pauses: Pauses,
    breaker: Breaker,
    guesses: Guesses,
}

impl Restraint {
    /// At most `rate` logins a second in the long run.
    pub fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate);
        Self {
            rate,
            tokens: rate * BURST_SECONDS,
            filled: now,
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
    pub fn ask(&mut self, origin: Origin, now: Instant) -> Result<Question, Refusal> {
        self.guesses.ask(origin, now)?;
        match self.ask_tenant(origin, now) {
            Ok(number) => Ok(Question { origin, number }),
            Err(refusal) => {
                self.guesses.heard(origin, Heard::Nothing, now);
                Err(refusal)
            }
        }
    }

    fn ask_tenant(&mut self, origin: Origin, now: Instant) -> Result<u64, Refusal> {
        self.pauses.ask(origin.address, now)?;
        self.breaker.ask(now)?;
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.rate * BURST_SECONDS);
        self.filled = now;
        if self.tokens < 1.0 {
            let detail = format!("more than login_rate ({}) logins a second", self.rate);
            return Err(Refusal::new(Reason::LoginRate, detail));
        }
        self.tokens -= 1.0;
        Ok(self.breaker.number(now))
    }

    /// The tenant was not asked after all.
    pub fn give_back(&mut self, question: Question, now: Instant) {
        self.tokens += 1.0;
        self.breaker.heard(question.number, News::None, now);
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
        let Question { origin, number } = question;
        if let Some((whose, pause)) = aftermath.pause {
            self.pauses.add(whose, origin.address, pause, now);
        }
        let news = match no {
            Some(Reason::TenantUnreachable | Reason::TenantAnswer | Reason::TenantError) => {
                News::Trouble
            }
            Some(Reason::LoginConfiguration) if aftermath.ours => News::NotOurs,
            Some(Reason::LoginQueue | Reason::Internal) => News::None,
            _ => News::Well,
        };
        self.breaker.heard(number, news, now);
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

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;
    use crate::{auth0::answer::Whose, secret::Fingerprinter};

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

    fn pause(whose: Whose, seconds: u64) -> Aftermath {
        Aftermath {
            pause: Some((whose, S(seconds))),
            ..Aftermath::default()
        }
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let (start, prints) = (Instant::now(), Fingerprinter::new().unwrap());
        let device = |i: u64| Origin {
            user: prints.of(&i.to_le_bytes()),
            address: None,
        };
        let mut restraint = Restraint::new(5, start);
        for i in 0..300 {
            assert!(restraint.ask(device(i), start).is_ok());
        }
        assert_eq!(
            refused(restraint.ask(device(300), start)),
            Some(Reason::LoginRate)
        );
        let asked = (0..1000)
            .filter(|i| {
                restraint
                    .ask(device(1000 + i), start + Duration::from_millis(10 * i))
                    .is_ok()
            })
            .count();
        assert!((49..=50).contains(&asked), "{asked} in ten seconds");
    }

    #[test]
    fn a_pause_is_kept_by_those_it_is_for() {
        let start = Instant::now();
        let mut restraint = Restraint::new(5, start);
        let (stranger, device) = (at([198, 51, 100, 1]), at([203, 0, 113, 1]));
        let question = restraint.ask(stranger, start).unwrap();
        restraint.heard(question, None, pause(Whose::Addresses, 864), start);
        assert_eq!(
            refused(restraint.ask(stranger, start + S(863))),
            Some(Reason::LoginThrottled)
        );
        let question = restraint.ask(device, start).unwrap();
        restraint.heard(
            question,
            Some(Reason::LoginThrottled),
            pause(Whose::Everybodys, 7),
            start,
        );
        for origin in [device, stranger, at([203, 0, 113, 2])] {
            assert_eq!(
                refused(restraint.ask(origin, start + S(6))),
                Some(Reason::LoginThrottled)
            );
        }
        assert!(restraint.ask(device, start + S(7)).is_ok());
    }

    #[test]
    fn trouble_is_left_alone_until_somebody_mends_it() {
        let start = Instant::now();
        let mut restraint = Restraint::new(1, start);
        let asked = (0..200)
            .filter(|_| match restraint.ask(device(), start) {
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
        assert!(restraint.ask(device(), start).is_ok());
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
            let question = restraint.ask(device(), start).unwrap();
            restraint.heard(question, Some(no), Aftermath::default(), start);
        }
        let question = restraint.ask(device(), start).unwrap();
        let ours = Aftermath {
            ours: true,
            ..Aftermath::default()
        };
        restraint.heard(question, Some(Reason::LoginConfiguration), ours, start);
        assert_eq!(
            refused(restraint.ask(device(), start)),
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
            let question = restraint.ask(origin, start).unwrap();
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
            .filter(|_| match restraint.ask(origin, start) {
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
