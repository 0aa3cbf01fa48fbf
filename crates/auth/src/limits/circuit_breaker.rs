//! Stops requests to a tenant that is in trouble, for longer and longer, and probes with one request at a time whether
//! the trouble is over.
//!
//! A failure may be the fault of the request itself: a 5xx status, or a timeout after the request was sent. A stranger
//! could send what the tenant fails at, so such a failure proves nothing about the requests of others. Therefore there
//! are three circuits, and a failure counts in each as far as it proves something:
//!
//! * One for each user at each address. It opens after five failures in a row.
//! * One for each address. It opens after five failures in a row, from three users. If all devices are behind one
//!   address, this is the circuit of the whole site.
//! * One for everybody. It opens after five failures in a row, from three users and two addresses. A failure that no
//!   request can cause (the tenant cannot be reached) counts without that condition. If the tenant rejects our
//!   application, one failure is enough.
//!
//! While a circuit is open, some callers wait longer than others for the probe:
//!
//! * Callers whose failures opened it do not probe it, so that they cannot keep it open. They wait until the longest
//!   rest has passed. If such a caller came in before, it waits only as long as the rest itself, and no longer than
//!   other devices need to come back: at a small site there may be no other devices.
//! * Unknown callers do not probe it while a caller that came in before wants to.
//!
//! Responses come in any order, some of them long after a circuit opened. So requests have numbers. While a circuit is
//! open, only the response to its probe makes the rest longer. Any response that shows the tenant healthy closes it.
//! Failures of requests from before the rest are ignored, because the rest is due to them already. Without numbers such
//! a failure would end the probe of another request and let the next one through as well.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    time::{Duration, Instant},
};

use super::{
    known_callers::{Caller, Standing},
    source::SourceNetwork,
};
use crate::{
    hash::hash,
    metrics::OpenCircuits,
    refusal::{FailedFor, LimitDetail, Reason, Refusal},
    secret::Fingerprint,
};

/// The number of failures in a row that opens a circuit.
const TROUBLES: u32 = 5;

/// From how many users they must come, where one user alone could cause them.
const USERS: usize = 3;

/// The longest rest, in seconds.
const LONGEST_REST: u32 = 64;

/// The time in which other devices come back, if there are any.
const OTHERS_TURN: Duration = Duration::from_secs(16);

/// Longer than any request takes. A probe whose response got lost does not block others for longer.
const LONGEST_PROBE: Duration = Duration::from_secs(120);

/// The maximum number of circuits of users, and of addresses.
const MAX_CIRCUITS: usize = 10_000;

/// The maximum number of callers remembered for opening one circuit.
const MAX_BLAMED: usize = 64;

/// What a response says about the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TenantHealth {
    /// The tenant is healthy.
    Healthy,
    /// It failed, possibly because of the request.
    Failed,
    /// It could not be reached, whatever the request.
    Unreachable,
    /// It is healthy but rejects our application, and so every login.
    ApplicationRejected,
    /// The request was not sent.
    NotAsked,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requester {
    /// The user.
    pub user: Fingerprint,
    /// The address, and whether the user came in from there before.
    pub caller: Caller,
}

/// The circuits of one tenant.
#[derive(Default)]
pub(super) struct CircuitBreaker {
    /// The number of the last request.
    asked: u64,
    everybody: Circuit,
    sources: HashMap<SourceNetwork, Circuit>,
    users: HashMap<(Fingerprint, SourceNetwork), Circuit>,
}

/// Whose circuit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    User,
    Source,
    Everybody,
}

#[derive(Default)]
struct Circuit {
    /// The failures in a row, and how many of them no request can have caused.
    troubles: u32,
    unreachable: u32,
    /// Who sent the requests that failed.
    blamed: HashSet<(Fingerprint, SourceNetwork)>,
    /// The number of rests in a row.
    rests: u32,
    rest: Option<Rest>,
    /// The last request before the rest began. Failures of earlier requests are ignored.
    old: u64,
}

struct Rest {
    until: Instant,
    length: Duration,
    why: TenantHealth,
    /// The number of the probe, and when it was sent.
    probe: Option<(u64, Instant)>,
    /// Whether a caller that came in before, and is not to blame, wants to probe.
    is_wanted: bool,
}

impl CircuitBreaker {
    /// Checks whether the tenant may be asked now. If it is asked, call [`Self::begin`].
    ///
    /// # Errors
    ///
    /// Returns why not.
    pub(super) fn check(&mut self, requester: Requester, now: Instant) -> Result<(), Refusal> {
        for (whose, circuit) in self.circuits(requester).into_iter().flatten() {
            circuit.check(whose, requester, now)?;
        }
        Ok(())
    }

    /// Records that the tenant is asked. Returns the number of the request.
    pub(super) fn begin(&mut self, requester: Requester, now: Instant) -> u64 {
        self.asked += 1;
        let number = self.asked;
        for (_, circuit) in self.circuits(requester).into_iter().flatten() {
            if let Some(rest) = &mut circuit.rest {
                rest.probe = Some((number, now));
            }
        }
        number
    }

    /// Records what came of a request.
    pub(super) fn finish(
        &mut self,
        number: u64,
        requester: Requester,
        health: TenantHealth,
        now: Instant,
    ) {
        if health == TenantHealth::Failed {
            self.begin_to_count(requester, now);
        }
        let last = self.asked;
        for (whose, circuit) in self.circuits(requester).into_iter().flatten() {
            circuit.finish(whose, (number, last), requester, health, now);
        }
        if health == TenantHealth::Healthy {
            self.users
                .remove(&(requester.user, requester.caller.source));
            self.sources.remove(&requester.caller.source);
        }
    }

    /// Returns how many circuits are open.
    pub(super) fn open(&self) -> OpenCircuits {
        let is_open = |circuit: &&Circuit| circuit.rest.is_some();
        OpenCircuits {
            everybody: self.everybody.rest.is_some().into(),
            addresses: self.sources.values().filter(is_open).count() as u64,
            users: self.users.values().filter(is_open).count() as u64,
        }
    }

    /// Closes all circuits, because somebody may have fixed something (SIGHUP).
    pub(super) fn reset(&mut self) {
        let asked = self.asked;
        *self = Self {
            asked,
            ..Self::default()
        };
    }

    /// Returns the circuits of this caller, as far as they exist.
    fn circuits(&mut self, requester: Requester) -> [Option<(Whose, &mut Circuit)>; 3] {
        let source = requester.caller.source;
        let user = self.users.get_mut(&(requester.user, source));
        let at_source = self.sources.get_mut(&source);
        [
            user.map(|circuit| (Whose::User, circuit)),
            at_source.map(|circuit| (Whose::Source, circuit)),
            Some((Whose::Everybody, &mut self.everybody)),
        ]
    }

    fn begin_to_count(&mut self, requester: Requester, now: Instant) {
        let source = requester.caller.source;
        begin(&mut self.users, (requester.user, source), now);
        begin(&mut self.sources, source, now);
    }
}

/// Adds a circuit. In a full table the circuits that do not rest are dropped. If all of them rest, the failure is not
/// counted: other limits bound the number of requests that it takes to fill the table.
fn begin<K: Copy + Eq + Hash>(circuits: &mut HashMap<K, Circuit>, key: K, now: Instant) {
    if circuits.len() >= MAX_CIRCUITS && !circuits.contains_key(&key) {
        circuits.retain(|_, circuit| circuit.rest.as_ref().is_some_and(|rest| now < rest.until));
        if circuits.len() >= MAX_CIRCUITS {
            return;
        }
    }
    circuits.entry(key).or_default();
}

impl Circuit {
    fn check(&mut self, whose: Whose, requester: Requester, now: Instant) -> Result<(), Refusal> {
        let Some(rest) = &mut self.rest else {
            return Ok(());
        };
        let Requester { user, caller } = requester;
        let is_returning = caller.standing == Standing::Returning;
        let is_blamed = match whose {
            Whose::User => false,
            _ if self.blamed.contains(&(user, caller.source)) => true,
            Whose::Source => false,
            // An unknown caller can use as many user names as it likes.
            Whose::Everybody => {
                !is_returning
                    && self
                        .blamed
                        .iter()
                        .any(|(_, source)| *source == caller.source)
            }
        };
        let is_probed = rest
            .probe
            .is_some_and(|(_, since)| now < since + LONGEST_PROBE);
        let wait = match (is_blamed, is_returning) {
            (true, true) => rest.length.min(OTHERS_TURN),
            (false, true) => Duration::ZERO,
            (false, false) if !rest.is_wanted => Duration::ZERO,
            _ => Duration::from_secs(LONGEST_REST.into()),
        };
        if now >= rest.until + wait && !is_probed {
            return Ok(());
        }
        rest.is_wanted |= is_returning && !is_blamed;
        let whose = match whose {
            Whose::Everybody => FailedFor::Everybody,
            Whose::Source => FailedFor::Address,
            Whose::User => FailedFor::User,
        };
        let times = self.troubles;
        Err(match rest.why {
            TenantHealth::ApplicationRejected => {
                Refusal::new(Reason::LoginConfiguration, LimitDetail::ApplicationRejected)
            }
            _ => {
                let detail = LimitDetail::TenantFailed { times, whose };
                Refusal::new(Reason::TenantUnreachable, detail)
            }
        })
    }

    fn finish(
        &mut self,
        whose: Whose,
        (number, last): (u64, u64),
        requester: Requester,
        health: TenantHealth,
        now: Instant,
    ) {
        let is_probe = self.is_probe(number);
        let counts = match health {
            TenantHealth::Healthy => {
                let old = self.old;
                *self = Self {
                    old,
                    ..Self::default()
                };
                return;
            }
            TenantHealth::NotAsked => false,
            TenantHealth::Failed => true,
            TenantHealth::Unreachable | TenantHealth::ApplicationRejected => {
                whose == Whose::Everybody
            }
        };
        if !counts {
            if let Some(rest) = &mut self.rest
                && is_probe
            {
                rest.probe = None;
            }
            return;
        }
        if !is_probe && (self.rest.is_some() || number <= self.old) {
            return;
        }
        self.troubles += 1;
        match health {
            TenantHealth::Failed if self.blamed.len() < MAX_BLAMED => {
                self.blamed
                    .insert((requester.user, requester.caller.source));
            }
            TenantHealth::Failed => {}
            _ => self.unreachable += 1,
        }
        if is_probe || self.opens(whose, health) {
            self.begin_rest(health, last, now);
        }
    }

    fn opens(&self, whose: Whose, health: TenantHealth) -> bool {
        if health == TenantHealth::ApplicationRejected {
            // One is enough, because the tenant rejects everybody.
            return true;
        }
        let distinct = |of: fn(&(Fingerprint, SourceNetwork)) -> u64| {
            let distinct: HashSet<u64> = self.blamed.iter().map(of).collect();
            distinct.len()
        };
        let users = || distinct(|(user, _)| hash(user));
        let sources = || distinct(|(_, source)| hash(source));
        self.unreachable >= TROUBLES
            || self.troubles >= TROUBLES
                && match whose {
                    Whose::User => true,
                    Whose::Source => users() >= USERS,
                    Whose::Everybody => users() >= USERS && sources() >= 2,
                }
    }

    fn is_probe(&self, number: u64) -> bool {
        let probe = self.rest.as_ref().and_then(|rest| rest.probe);
        probe.is_some_and(|(probe, _)| probe == number)
    }

    fn begin_rest(&mut self, why: TenantHealth, last: u64, now: Instant) {
        let seconds = 1u32 << self.rests.min(LONGEST_REST.ilog2());
        self.rests += 1;
        self.old = last;
        let is_wanted = self.rest.as_ref().is_some_and(|rest| rest.is_wanted);
        let length = Duration::from_secs(u64::from(seconds)).mul_f64(jitter());
        self.rest = Some(Rest {
            until: now + length,
            length,
            why,
            probe: None,
            is_wanted,
        });
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

    struct Site {
        circuit_breaker: CircuitBreaker,
        prints: Fingerprinter,
    }

    impl Site {
        fn new() -> Self {
            Self {
                circuit_breaker: CircuitBreaker::default(),
                prints: Fingerprinter::new().unwrap(),
            }
        }

        fn requester(&self, user: u32, source: u32, standing: Standing) -> Requester {
            let source = SourceNetwork::V4(source.into());
            Requester {
                user: self.prints.of(&user.to_le_bytes()),
                caller: Caller { source, standing },
            }
        }

        /// A device of a fleet. Each has its own address, and came in before.
        fn device(&self, number: u32) -> Requester {
            self.requester(number, number, Standing::Returning)
        }

        fn stranger(&self, user: u32, source: u32) -> Requester {
            self.requester(1_000_000 + user, 1_000_000 + source, Standing::Unknown)
        }

        /// Sends a request, if that is allowed.
        fn ask(&mut self, requester: Requester, now: Instant) -> Option<u64> {
            let allowed = self.circuit_breaker.check(requester, now).is_ok();
            allowed.then(|| self.circuit_breaker.begin(requester, now))
        }

        /// Sends a request that ends like this. Returns whether it was allowed.
        fn hears(&mut self, requester: Requester, health: TenantHealth, now: Instant) -> bool {
            let number = self.ask(requester, now);
            if let Some(number) = number {
                self.circuit_breaker.finish(number, requester, health, now);
            }
            number.is_some()
        }

        /// Returns a site where the circuit of everybody is open after failures that no request caused, and six earlier
        /// requests that have no response yet.
        fn resting(start: Instant) -> (Self, Vec<u64>) {
            let mut site = Self::new();
            let asked: Vec<u64> = (0..11)
                .map(|i| site.ask(site.device(i), start).unwrap())
                .collect();
            let (first, late) = asked.split_at(TROUBLES as usize);
            for (i, number) in first.iter().enumerate() {
                let device = site.device(i as u32);
                site.circuit_breaker
                    .finish(*number, device, TenantHealth::Unreachable, start);
            }
            assert!(site.ask(site.device(0), start).is_none());
            (site, late.to_vec())
        }
    }

    #[test]
    fn each_failed_probe_doubles_the_pause_up_to_64_seconds() {
        let start = Instant::now();
        let (mut site, _) = Site::resting(start);
        let device = site.device(1);
        let mut now = start;
        for least in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            let least = S(least).mul_f64(0.75);
            assert!(site.ask(device, now + least.mul_f64(0.99)).is_none());
            now += least.mul_f64(2.0);
            assert!(site.hears(device, TenantHealth::Unreachable, now));
        }
        assert!(site.hears(device, TenantHealth::Healthy, now + S(100)));
        assert!(site.ask(device, now).is_some() && site.ask(device, now).is_some());
    }

    #[test]
    fn late_answers_let_no_second_probe_through() {
        let start = Instant::now();
        let (mut site, late) = Site::resting(start);
        let (later, device) = (start + S(2), site.device(20));
        let of = |site: &Site, i: usize| site.device(TROUBLES + i as u32);
        let probe = site.ask(device, later).unwrap();
        for (i, number) in late[..3].iter().enumerate() {
            let requester = of(&site, i);
            site.circuit_breaker
                .finish(*number, requester, TenantHealth::Unreachable, later);
            assert!(site.ask(device, later).is_none(), "trouble of before");
        }
        let requester = of(&site, 3);
        site.circuit_breaker
            .finish(late[3], requester, TenantHealth::NotAsked, later);
        assert!(site.ask(device, later).is_none(), "one never asked");
        assert_eq!(
            site.circuit_breaker.everybody.troubles, TROUBLES,
            "none counts"
        );

        site.circuit_breaker
            .finish(probe, device, TenantHealth::NotAsked, later);
        let probe = site.ask(device, later).expect("the probe was not asked");
        site.circuit_breaker
            .finish(probe, device, TenantHealth::Unreachable, later);
        assert!(
            site.ask(device, later + S(1)).is_none(),
            "longer than before"
        );
        let requester = of(&site, 4);
        site.circuit_breaker
            .finish(late[4], requester, TenantHealth::Healthy, later + S(1));
        assert!(
            site.ask(device, later + S(1)).is_some(),
            "a good one ends it"
        );
        let requester = of(&site, 5);
        for _ in 0..2 * TROUBLES {
            site.circuit_breaker.finish(
                late[5],
                requester,
                TenantHealth::Unreachable,
                later + S(1),
            );
        }
        assert!(site.ask(device, later + S(1)).is_some(), "well since");
    }

    #[test]
    fn a_lost_probe_is_followed_by_another_that_alone_counts() {
        let start = Instant::now();
        let (mut site, _) = Site::resting(start);
        let device = site.device(20);
        let lost = site.ask(device, start + S(2)).unwrap();
        let later = start + S(2) + LONGEST_PROBE;
        assert!(site.ask(device, later - S(1)).is_none());
        let probe = site.ask(device, later).unwrap();
        site.circuit_breaker
            .finish(lost, device, TenantHealth::Unreachable, later);
        assert!(site.ask(device, later).is_none());
        assert_eq!(site.circuit_breaker.everybody.troubles, TROUBLES);
        site.circuit_breaker
            .finish(probe, device, TenantHealth::Unreachable, later);
        assert_eq!(site.circuit_breaker.everybody.troubles, TROUBLES + 1);
    }

    #[test]
    fn a_rejected_application_opens_the_circuit_at_once() {
        let start = Instant::now();
        let mut site = Site::new();
        let device = site.device(1);
        assert!(site.hears(device, TenantHealth::ApplicationRejected, start));
        let refusal = site.circuit_breaker.check(device, start).unwrap_err();
        assert_eq!(refusal.reason, Reason::LoginConfiguration);
        assert!(site.ask(device, start + S(2)).is_some());
        assert!(site.ask(site.device(2), start + S(2)).is_none());
        site.circuit_breaker.reset();
        assert!(site.ask(device, start + S(2)).is_some(), "it was fixed");
    }

    #[test]
    fn failures_of_one_user_hold_up_that_user_only() {
        let start = Instant::now();
        let mut site = Site::new();
        let stranger = site.stranger(1, 1);
        let asked = (0..100).filter(|_| site.hears(stranger, TenantHealth::Failed, start));
        assert_eq!(asked.count(), TROUBLES as usize);
        assert!(
            site.ask(site.stranger(2, 1), start).is_some(),
            "another user"
        );
        assert!(site.ask(site.device(1), start).is_some());
        assert!(
            site.hears(stranger, TenantHealth::Failed, start + S(2)),
            "its own probe"
        );
        assert!(!site.hears(stranger, TenantHealth::Failed, start + S(3)));
    }

    #[test]
    fn failures_of_one_address_hold_up_that_address_only() {
        let start = Instant::now();
        let mut site = Site::new();
        let asked =
            (0..100).filter(|i| site.hears(site.stranger(*i, 1), TenantHealth::Failed, start));
        assert_eq!(asked.count(), TROUBLES as usize, "each time another user");
        assert!(site.ask(site.device(1), start).is_some());

        // A device behind the same address probes, and the stranger does not.
        let behind = Requester {
            caller: Caller {
                source: site.stranger(0, 1).caller.source,
                standing: Standing::Returning,
            },
            ..site.device(2)
        };
        assert!(!site.hears(behind, TenantHealth::Healthy, start));
        let later = start + S(2);
        for i in 100..200 {
            assert!(!site.hears(site.stranger(i, 1), TenantHealth::Failed, later));
        }
        assert!(site.hears(behind, TenantHealth::Healthy, later));
        assert!(site.hears(site.stranger(200, 1), TenantHealth::Healthy, later));
    }

    #[test]
    fn failures_of_several_users_and_addresses_hold_up_everybody() {
        let start = Instant::now();
        let mut site = Site::new();
        let asked =
            (0..100).filter(|i| site.hears(site.stranger(*i, i % 2), TenantHealth::Failed, start));
        assert_eq!(asked.count(), TROUBLES as usize);
        let device = site.device(1);
        assert!(site.ask(device, start).is_none(), "it is everybody's");
        let later = start + S(2);
        for i in 0..200 {
            assert!(site.ask(site.stranger(i, i % 2), later).is_none());
        }
        assert!(
            site.ask(site.stranger(0, 7), later).is_none(),
            "somebody known wants to"
        );
        assert!(site.hears(device, TenantHealth::Healthy, later));
        assert!(site.ask(site.device(2), later).is_some());
    }

    /// If there are no others, a caller that opened the circuit probes it: soon, if it came in before.
    #[test]
    fn callers_that_opened_the_circuit_probe_it_if_there_are_no_others() {
        let start = Instant::now();
        for (standing, too_soon, late_enough) in [
            (Standing::Returning, 1, 3),
            (Standing::Familiar, 60, 70),
            (Standing::Unknown, 60, 70),
        ] {
            let mut site = Site::new();
            let all: Vec<_> = (0..TROUBLES)
                .map(|i| site.requester(i, i, standing))
                .collect();
            for one in &all {
                assert!(site.hears(*one, TenantHealth::Failed, start));
            }
            let one = all[0];
            assert!(site.ask(one, start).is_none());
            assert!(site.ask(one, start + S(too_soon)).is_none());
            assert!(site.hears(one, TenantHealth::Healthy, start + S(late_enough)));
            assert!(site.ask(all[1], start + S(late_enough)).is_some());
        }
    }

    /// A tenant that fails for ten minutes, and a site with five devices that try every five seconds.
    #[test]
    fn a_small_site_recovers_within_two_minutes() {
        let start = Instant::now();
        let mut site = Site::new();
        let mut asked = 0;
        for second in (0..600).step_by(5) {
            for user in 0..5 {
                let device = site.requester(user, 1, Standing::Returning);
                asked += u32::from(site.hears(device, TenantHealth::Failed, start + S(second)));
            }
        }
        assert!(asked < 30, "{asked}");
        let well = (600..).step_by(5).find(|second| {
            let device = site.requester(0, 1, Standing::Returning);
            site.hears(device, TenantHealth::Healthy, start + S(*second))
        });
        assert!(well.unwrap() <= 705, "{well:?}");
    }

    #[test]
    fn a_fleet_behind_one_address_spares_a_failing_tenant() {
        let start = Instant::now();
        let mut site = Site::new();
        let behind = |site: &Site, user| site.requester(user, 1, Standing::Returning);
        let asked = (0..100).filter(|i| site.hears(behind(&site, *i), TenantHealth::Failed, start));
        assert_eq!(asked.count(), TROUBLES as usize);
        assert!(site.hears(behind(&site, 50), TenantHealth::Healthy, start + S(2)));
        assert!(site.ask(behind(&site, 1), start + S(2)).is_some());
    }

    #[test]
    fn the_circuits_are_bounded() {
        let start = Instant::now();
        let mut site = Site::new();
        for i in 0..2 * MAX_CIRCUITS as u32 {
            let stranger = site.stranger(i, i);
            site.circuit_breaker.begin_to_count(stranger, start);
        }
        assert!(site.circuit_breaker.users.len() <= MAX_CIRCUITS);
        assert!(site.circuit_breaker.sources.len() <= MAX_CIRCUITS);
    }
}
