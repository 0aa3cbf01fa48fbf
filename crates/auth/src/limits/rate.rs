//! Limits how many logins per second the tenant is asked about.
//!
//! To Auth0 all devices of a broker are one client. Without a limit a fleet that comes back at once would use up the
//! rate limit of the tenant (Auth0, "Rate Limit Policy").

use std::time::Instant;

use super::{fair_shares::FairShares, known_callers::Caller, source::SourceNetwork};
use crate::refusal::{LimitDetail, Reason, Refusal};

/// The size of the burst, in seconds of the rate. Auth0's free plan has a burst of 300 at 300 a minute.
const BURST_SECONDS: usize = 60;

/// A token bucket, divided fairly among addresses.
pub(super) struct RateLimit {
    per_second: u32,
    used: FairShares,
    filled: Instant,
}

impl RateLimit {
    /// Returns a full bucket of this rate.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            used: FairShares::default(),
            filled: now,
        }
    }

    /// Changes the rate.
    pub(super) fn set(&mut self, per_second: u32) {
        self.per_second = per_second;
    }

    /// Takes one login for this caller.
    ///
    /// # Errors
    ///
    /// Returns why there is none left.
    pub(super) fn take(&mut self, caller: Caller, now: Instant) -> Result<(), Refusal> {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64();
        self.used.come_back(gained * f64::from(self.per_second));
        self.filled = now;
        let burst = self.per_second as usize * BURST_SECONDS;
        if self.used.has_one(caller, burst) {
            self.used.take(caller.source, 1.0);
            return Ok(());
        }
        let detail = LimitDetail::Rate {
            per_second: self.per_second,
            is_share: self.used.total() + 1.0 <= burst as f64,
        };
        Err(Refusal::new(Reason::LoginRate, detail))
    }

    /// Gives one back that was not used.
    pub(super) fn give_back(&mut self, source: SourceNetwork) {
        self.used.give_back(source, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::known_callers::Standing;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn caller(number: u32, standing: Standing) -> Caller {
        let source = SourceNetwork::V4(number.into());
        Caller { source, standing }
    }

    fn taken(rate: &mut RateLimit, caller: Caller, times: impl Iterator<Item = Instant>) -> usize {
        times.filter(|now| rate.take(caller, *now).is_ok()).count()
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = RateLimit::new(5, start);
        let device = |number| caller(number, Standing::Returning);
        let at_once = (0..10_000)
            .filter(|number| rate.take(device(*number), start).is_ok())
            .count();
        assert_eq!(at_once, 300);
        let refusal = rate.take(device(1), start).unwrap_err();
        assert_eq!(refusal.reason, Reason::LoginRate);
        let later = (0..1000).map(|i| start + MS(10 * i));
        let later: usize = later
            .enumerate()
            .filter(|(i, now)| rate.take(device(20_000 + *i as u32), *now).is_ok())
            .count();
        assert!((49..=50).contains(&later), "{later} in ten seconds");
        rate.give_back(device(1).source);
    }

    /// Strangers from one address or from many take no more than half of the burst, however long they try. Callers that
    /// came in before notice nothing.
    #[test]
    fn a_flood_of_strangers_leaves_enough_to_those_who_came_in_before() {
        for sources in [1, 200] {
            let start = Instant::now();
            let mut rate = RateLimit::new(5, start);
            let (mut junk, mut good) = (0, 0);
            for i in 0..300 * 60 {
                let now = start + MS(1000 * i / 300);
                let stranger = caller(i as u32 % sources, Standing::Unknown);
                junk += usize::from(rate.take(stranger, now).is_ok());
                // Two good ones a second.
                if i % 150 == 0 {
                    let device = caller(1000 + i as u32 % 1000, Standing::Returning);
                    good += usize::from(rate.take(device, now).is_ok());
                }
            }
            assert_eq!(good, 120, "{sources}");
            // What the others do not use is not wasted, either.
            assert!((250..=330).contains(&junk), "{sources}: {junk}");
            let free = taken(
                &mut rate,
                caller(5000, Standing::Returning),
                (0..200).map(|_| start),
            );
            assert!(free >= 100, "{sources}: {free}");
        }
    }

    #[test]
    fn a_new_device_is_allowed_beside_a_source_of_junk() {
        let start = Instant::now();
        let mut rate = RateLimit::new(5, start);
        let mut good = 0;
        for i in 0..300 * 60 {
            let now = start + MS(1000 * i / 300);
            let _ = rate.take(caller(1, Standing::Unknown), now);
            if i % 300 == 0 {
                good += usize::from(rate.take(caller(2, Standing::Unknown), now).is_ok());
            }
        }
        assert!(good >= 50, "one a second: {good} of 60");
    }
}
