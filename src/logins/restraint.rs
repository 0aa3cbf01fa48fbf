//! How hard the tenant is asked: less than it allows, and less while it is in trouble.
//!
//! Auth0 counts all of a broker's devices as one caller. Without restraint a fleet that comes back
//! at once uses up the tenant's rate limit (Auth0, "Rate Limit Policy"). Wrong passwords are counted
//! by user, in [`super::guesses`].

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, Instant},
};

use super::guesses::Guesses;
use crate::{
    refusal::{Reason, Refusal},
    secret::Fingerprint,
};

/// As Auth0's free plan has it: a burst of 300 at 300 a minute.
const BURST_SECONDS: f64 = 60.0;

/// Troubles in a row after which the tenant is left alone for a while.
const TROUBLES: u32 = 5;

/// The longest that the tenant is left alone because of trouble, in seconds.
const LONGEST_REST: u32 = 64;

/// Longer than any question takes. One that got lost does not keep the others waiting.
const LONGEST_PROBE: Duration = Duration::from_secs(120);

/// The longest that is waited because the tenant said so.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What the tenant lets us ask.
pub struct Restraint {
    rate: f64,
    tokens: f64,
    filled: Instant,
    paused: Option<Instant>,
    troubles: u32,
    resting: Option<Instant>,
    /// Since when one is asking whether the trouble is over.
    probing: Option<Instant>,
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
            paused: None,
            troubles: 0,
            resting: None,
            probing: None,
            guesses: Guesses::default(),
        }
    }

    /// Whether the tenant may be asked about this user now. Then what came of it is
    /// [`heard`](Self::heard), or the question is [given back](Self::give_back).
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ask(&mut self, user: Fingerprint, now: Instant) -> Result<(), Refusal> {
        self.guesses.ask(user, now)?;
        let asked = self.ask_tenant(now);
        if asked.is_err() {
            self.guesses.give_back(user);
        }
        asked
    }

    fn ask_tenant(&mut self, now: Instant) -> Result<(), Refusal> {
        if let Some(until) = self.paused.filter(|until| now < *until) {
            let seconds = (until - now).as_secs() + 1;
            return Err(Refusal::new(
                Reason::LoginThrottled,
                format!("the tenant wants no logins for {seconds} s"),
            ));
        }
        if let Some(until) = self.resting
            && (now < until
                || self
                    .probing
                    .is_some_and(|since| now < since + LONGEST_PROBE))
        {
            let detail = format!(
                "the tenant failed {} times in a row and is left alone for a moment",
                self.troubles
            );
            return Err(Refusal::new(Reason::TenantUnreachable, detail));
        }
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.rate * BURST_SECONDS);
        self.filled = now;
        if self.tokens < 1.0 {
            let detail = format!("more than login_rate ({}) logins a second", self.rate);
            return Err(Refusal::new(Reason::LoginRate, detail));
        }
        self.tokens -= 1.0;
        self.probing = self.resting.map(|_| now);
        Ok(())
    }

    /// The tenant was not asked after all.
    pub fn give_back(&mut self, user: Fingerprint) {
        self.guesses.give_back(user);
        self.tokens += 1.0;
        self.probing = None;
    }

    /// Somebody has mended something (SIGHUP).
    pub fn look_again(&mut self) {
        self.guesses.look_again();
        self.resting = None;
        self.troubles = 0;
    }

    /// What came of asking; `None` is a yes. `pause` is how long the tenant wants to be left alone.
    pub fn heard(
        &mut self,
        user: Fingerprint,
        no: Option<Reason>,
        pause: Option<Duration>,
        now: Instant,
    ) {
        if let Some(pause) = pause {
            self.paused = self.paused.max(Some(now + pause.min(LONGEST_PAUSE)));
        }
        self.probing = None;
        match no {
            // Of many that asked before the rest began, the first ones have said it.
            Some(Reason::TenantUnreachable | Reason::TenantAnswer | Reason::TenantError)
                if self.resting.is_some_and(|until| now < until) => {}
            Some(Reason::TenantUnreachable | Reason::TenantAnswer | Reason::TenantError) => {
                self.troubles += 1;
                if self.troubles >= TROUBLES {
                    let rest = 1u32 << (self.troubles - TROUBLES).min(LONGEST_REST.ilog2());
                    self.resting =
                        Some(now + Duration::from_secs(u64::from(rest)).mul_f64(jitter()));
                }
            }
            // Of these the tenant knows nothing.
            Some(Reason::LoginQueue | Reason::Internal) => {}
            _ => (self.troubles, self.resting) = (0, None),
        }
        match no {
            Some(Reason::LoginRefused) => self.guesses.heard(user, false, now),
            None => self.guesses.heard(user, true, now),
            Some(_) => self.guesses.give_back(user),
        }
    }
}

/// A factor between 0.75 and 1.25, so that many brokers do not come back in step.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish() >> 40;
    0.75 + 0.5 * random as f64 / f64::from(1u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fingerprinter;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn device() -> Fingerprint {
        Fingerprinter::new().unwrap().of(b"device")
    }

    fn refused(result: Result<(), Refusal>) -> Option<Reason> {
        result.err().map(|refusal| refusal.reason)
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let (start, prints) = (Instant::now(), Fingerprinter::new().unwrap());
        let device = |i: u64| prints.of(&i.to_le_bytes());
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
    fn a_pause_is_kept() {
        let (start, device) = (Instant::now(), device());
        let mut restraint = Restraint::new(5, start);
        restraint.heard(device, Some(Reason::LoginThrottled), Some(S(7)), start);
        assert_eq!(
            refused(restraint.ask(device, start + S(6))),
            Some(Reason::LoginThrottled)
        );
        assert!(restraint.ask(device, start + S(7)).is_ok());
        restraint.heard(
            device,
            Some(Reason::LoginThrottled),
            Some(S(1_000_000)),
            start,
        );
        assert!(
            restraint.ask(device, start + LONGEST_PAUSE).is_ok(),
            "no tenant silences us for ever"
        );
    }

    #[test]
    fn trouble_is_left_alone_and_tried_by_one() {
        let (start, device) = (Instant::now(), device());
        let mut restraint = Restraint::new(100, start);
        for _ in 0..TROUBLES {
            assert!(restraint.ask(device, start).is_ok());
            restraint.heard(device, Some(Reason::TenantUnreachable), None, start);
        }
        assert_eq!(
            refused(restraint.ask(device, start)),
            Some(Reason::TenantUnreachable)
        );
        let later = start + S(2);
        assert!(restraint.ask(device, later).is_ok(), "one asks");
        assert_eq!(
            refused(restraint.ask(device, later)),
            Some(Reason::TenantUnreachable),
            "the others wait for it"
        );
        restraint.heard(device, Some(Reason::TenantAnswer), None, later);
        assert_eq!(
            refused(restraint.ask(device, later + S(1))),
            Some(Reason::TenantUnreachable),
            "longer than before"
        );
        for _ in 0..64 {
            restraint.heard(device, Some(Reason::TenantError), None, later);
        }
        // Sixty-four that were under way are one trouble.
        let much_later = later + S(5);
        assert!(restraint.ask(device, much_later).is_ok());
        restraint.heard(device, Some(Reason::LoginRefused), None, much_later);
        assert!(
            restraint.ask(device, much_later).is_ok(),
            "a refusal is an answer: the tenant is well"
        );
    }

    #[test]
    fn what_the_tenant_is_not_asked_is_no_guess() {
        let (start, device) = (Instant::now(), device());
        let mut restraint = Restraint::new(1, start);
        let asked = (0..200)
            .filter(|_| {
                restraint.ask(device, start).is_ok() && {
                    restraint.heard(device, Some(Reason::TenantError), None, start);
                    true
                }
            })
            .count();
        assert_eq!(asked, TROUBLES as usize);
        restraint.look_again();
        assert!(
            restraint.ask(device, start).is_ok(),
            "somebody has mended it"
        );
    }
}
