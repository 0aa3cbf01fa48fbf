//! The device flow (RFC 8628; Auth0's Authentication API, "Device Authorization Flow").

use std::time::{Duration, Instant};

use super::device::Device;
use super::settings::Settings;
use crate::signing::random_bytes;

/// The requests for a device code, whose users have decided or not.
#[derive(Debug, Default)]
pub(super) struct Authorizations(Vec<Authorization>);

#[derive(Debug)]
pub(super) struct Authorization {
    pub(super) device_code: String,
    pub(super) user_code: String,
    pub(super) scope: String,
    pub(super) audience: Option<String>,
    decision: Decision,
    ends: Instant,
    polled: Option<Instant>,
    interval: Duration,
}

#[derive(Clone, Debug)]
enum Decision {
    Pending,
    Approved(Box<Device>),
    Cancelled,
}

/// What a poll yields.
pub(super) enum Poll {
    /// The user signed in. The device code is used up.
    Approved(Box<Device>, Box<Authorization>),
    /// The user has not decided yet.
    Pending,
    /// The last poll was too short a time ago.
    TooFast(u64),
    /// The user has cancelled.
    Cancelled,
    /// The code has expired. That is said once.
    Expired,
    /// There is no such code, or no more.
    Unknown,
}

impl Authorizations {
    /// Begins a device flow, and returns the device code and the user code.
    pub(super) fn begin(
        &mut self,
        settings: &Settings,
        scope: &str,
        audience: Option<&str>,
    ) -> (String, String) {
        let letters = |count: usize, alphabet: &[u8]| -> String {
            let random = random_bytes::<32>();
            let letter = |byte: &u8| char::from(alphabet[usize::from(*byte) % alphabet.len()]);
            random.iter().take(count).map(letter).collect()
        };
        let device_code = letters(
            24,
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
        );
        // RFC 8628, section 6.1: without vowels, so that no words come up.
        let user_code = letters(8, b"BCDFGHJKLMNPQRSTVWXZ");
        let user_code = format!("{}-{}", &user_code[..4], &user_code[4..]);
        self.0.push(Authorization {
            device_code: device_code.clone(),
            user_code: user_code.clone(),
            scope: scope.to_owned(),
            audience: audience.map(str::to_owned),
            decision: Decision::Pending,
            ends: Instant::now() + Duration::from_secs(settings.device_code_lifetime),
            polled: None,
            interval: Duration::from_secs(settings.device_interval),
        });
        (device_code, user_code)
    }

    /// Decides about a code, as its user does.
    pub(super) fn decide(&mut self, user_code: &str, device: Option<Device>) {
        let found = self.0.iter_mut().find(|known| known.user_code == user_code);
        let found = found.unwrap_or_else(|| panic!("no user code {user_code}"));
        found.decision = device.map_or(Decision::Cancelled, |device| {
            Decision::Approved(Box::new(device))
        });
    }

    /// Answers a poll.
    pub(super) fn poll(&mut self, device_code: &str) -> Poll {
        let place = self
            .0
            .iter()
            .position(|known| known.device_code == device_code);
        let Some(place) = place else {
            return Poll::Unknown;
        };
        let (known, now) = (&mut self.0[place], Instant::now());
        if now >= known.ends {
            self.0.remove(place);
            return Poll::Expired;
        }
        // A clock that is read twice is not exact.
        let soonest = known.interval.saturating_sub(Duration::from_millis(100));
        let too_fast = known.polled.is_some_and(|last| now - last < soonest);
        known.polled = Some(now);
        match known.decision.clone() {
            _ if too_fast => Poll::TooFast(known.interval.as_secs()),
            Decision::Pending => Poll::Pending,
            Decision::Cancelled => {
                self.0.remove(place);
                Poll::Cancelled
            }
            Decision::Approved(device) => Poll::Approved(device, Box::new(self.0.remove(place))),
        }
    }
}
