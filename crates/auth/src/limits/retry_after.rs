//! Pauses that the tenant asks for: of all logins, or of those from one address.
//!
//! Auth0 limits an address as well as a tenant, and describes both limits in the same headers. If the limit of one
//! device counted for the whole tenant, a stranger with a hundred wrong passwords could keep a fleet out.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::source::SourceNetwork;
use crate::{
    auth0::answer::PauseScope,
    refusal::{LimitDetail, Reason, Refusal},
};

/// The longest pause that the tenant can ask for.
const LONGEST: Duration = Duration::from_secs(3600);

/// The maximum number of addresses in the table. In a full table the pauses that end first are dropped.
const MAX_ADDRESSES: usize = 10_000;

/// The pauses.
#[derive(Default)]
pub(super) struct RetryAfter {
    everybodys: Option<Instant>,
    /// [`SourceNetwork::Unknown`] is the address of the broker itself. It counts where no address is passed on.
    addresses: HashMap<SourceNetwork, Instant>,
}

impl RetryAfter {
    /// Checks whether the tenant may be asked from this address now.
    ///
    /// # Errors
    ///
    /// Returns why not.
    pub(super) fn check(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Refusal> {
        let refuse = |until: Instant, is_address| {
            let detail = LimitDetail::RetryAfter {
                seconds: (until - now).as_secs() + 1,
                is_address,
            };
            Err(Refusal::new(Reason::LoginThrottled, detail))
        };
        if let Some(until) = self.everybodys.filter(|until| now < *until) {
            return refuse(until, false);
        }
        match self.addresses.get(&address.into()) {
            Some(until) if now < *until => refuse(*until, true),
            _ => Ok(()),
        }
    }

    /// Adds a pause. It never shortens an earlier one.
    pub(super) fn add(
        &mut self,
        whose: PauseScope,
        address: Option<IpAddr>,
        pause: Duration,
        now: Instant,
    ) {
        let until = now + pause.min(LONGEST);
        match whose {
            PauseScope::AllRequests => self.everybodys = self.everybodys.max(Some(until)),
            PauseScope::SameAddress => {
                self.make_room(now);
                let known = self.addresses.entry(address.into()).or_insert(until);
                *known = until.max(*known);
            }
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.addresses.len() < MAX_ADDRESSES {
            return;
        }
        self.addresses.retain(|_, until| now < *until);
        if self.addresses.len() < MAX_ADDRESSES {
            return;
        }
        // Half of them at once, because dropping one at a time would search the whole table each time.
        let mut ends: Vec<_> = self.addresses.values().copied().collect();
        let (_, middle, _) = ends.select_nth_unstable(MAX_ADDRESSES / 2);
        let middle = *middle;
        self.addresses.retain(|_, until| middle < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(number.into()))
    }

    #[test]
    fn a_pause_for_one_address_affects_no_other() {
        let start = Instant::now();
        let mut retry_after = RetryAfter::default();
        retry_after.add(PauseScope::SameAddress, address(1), S(864), start);
        let refusal = retry_after.check(address(1), start + S(863)).unwrap_err();
        assert_eq!(refusal.reason, Reason::LoginThrottled);
        assert!(
            refusal
                .detail
                .to_string()
                .contains("from its address for 2 s")
        );
        assert!(retry_after.check(address(1), start + S(864)).is_ok());
        assert!(retry_after.check(address(2), start).is_ok());
        assert!(retry_after.check(None, start).is_ok(), "nor the broker's");

        retry_after.add(PauseScope::SameAddress, None, S(7), start);
        assert!(retry_after.check(None, start).is_err());
        assert!(retry_after.check(address(2), start).is_ok());

        retry_after.add(PauseScope::AllRequests, address(1), S(7), start);
        assert!(retry_after.check(address(2), start + S(6)).is_err());
        assert!(retry_after.check(address(2), start + S(7)).is_ok());
    }

    #[test]
    fn a_pause_for_an_address_holds_for_its_network() {
        let start = Instant::now();
        let mut retry_after = RetryAfter::default();
        let at = |text: &str| Some(text.parse().unwrap());
        retry_after.add(PauseScope::SameAddress, at("2001:db8::1"), S(7), start);
        assert!(retry_after.check(at("2001:db8::2"), start).is_err());
        assert!(retry_after.check(at("2001:db8:0:1::1"), start).is_ok());
    }

    #[test]
    fn a_pause_is_limited_and_never_shortened() {
        let start = Instant::now();
        for whose in [PauseScope::AllRequests, PauseScope::SameAddress] {
            let mut retry_after = RetryAfter::default();
            retry_after.add(whose, None, S(1_000_000), start);
            retry_after.add(whose, None, S(1), start);
            assert!(retry_after.check(None, start + S(3599)).is_err());
            assert!(retry_after.check(None, start + S(3600)).is_ok());
        }
    }

    #[test]
    fn many_addresses_do_not_fill_the_memory() {
        let start = Instant::now();
        let mut retry_after = RetryAfter::default();
        retry_after.add(PauseScope::SameAddress, None, S(3600), start);
        for number in 0..3 * MAX_ADDRESSES as u32 {
            retry_after.add(PauseScope::SameAddress, address(number), S(60), start);
            assert!(retry_after.addresses.len() <= MAX_ADDRESSES);
        }
        assert!(retry_after.check(None, start).is_err(), "the longest stays");
        retry_after.add(PauseScope::SameAddress, None, S(60), start + S(3600));
        assert!(retry_after.addresses.len() <= MAX_ADDRESSES);
    }
}
