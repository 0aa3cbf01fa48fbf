//! A tenant in trouble is left alone, for longer and longer, and is asked by one at a time whether it is
//! over.
//!
//! Answers come in any order, some of them long after a rest began. So questions have numbers: while the
//! tenant rests only the answer to the probe makes the rest longer, and any answer that shows the tenant
//! well ends it. What was asked before a rest began has been said by the first who came back with it.
//! Without numbers the trouble of one who asked long ago would end the probe of another, and let the next
//! one through as well.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, Instant},
};

use crate::refusal::{Reason, Refusal};

/// Troubles in a row after which the tenant is left alone for a while.
const TROUBLES: u32 = 5;

/// The longest that the tenant is left alone because of trouble, in seconds.
const LONGEST_REST: u32 = 64;

/// Longer than any question takes. One that got lost does not keep the others waiting.
const LONGEST_PROBE: Duration = Duration::from_secs(120);

/// What an answer says of the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is well.
    Well,
    /// It failed, or could not be reached.
    Trouble,
    /// It is well and accepts nobody: our application is not what it should be.
    NotOurs,
    /// The question never came to it.
    None,
}

/// Whether the tenant may be asked.
#[derive(Default)]
pub struct Breaker {
    /// The number of the last question.
    asked: u64,
    troubles: u32,
    rest: Option<Rest>,
    /// The last question before a rest began: the troubles up to it are old.
    old: u64,
}

struct Rest {
    until: Instant,
    why: News,
    /// The question that finds out whether it is over, and since when.
    probe: Option<(u64, Instant)>,
}

impl Breaker {
    /// Whether the tenant may be asked now. If it is, [`Self::number`] says so.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn ask(&self, now: Instant) -> Result<(), Refusal> {
        let Some(rest) = &self.rest else {
            return Ok(());
        };
        let probed = rest
            .probe
            .is_some_and(|(_, since)| now < since + LONGEST_PROBE);
        if now >= rest.until && !probed {
            return Ok(());
        }
        Err(match rest.why {
            News::NotOurs => Refusal::new(
                Reason::LoginConfiguration,
                "the tenant did not accept our application, as an earlier line says, and is asked again in a moment",
            ),
            _ => Refusal::new(
                Reason::TenantUnreachable,
                format!(
                    "the tenant failed {} times in a row and is left alone for a moment",
                    self.troubles
                ),
            ),
        })
    }

    /// The tenant is asked; the question's number.
    pub fn number(&mut self, now: Instant) -> u64 {
        self.asked += 1;
        if let Some(rest) = &mut self.rest {
            rest.probe = Some((self.asked, now));
        }
        self.asked
    }

    /// What came of a question.
    pub fn heard(&mut self, number: u64, news: News, now: Instant) {
        let is_probe = self.is_probe(number);
        match news {
            News::Well => (self.troubles, self.rest) = (0, None),
            News::None => {
                if let Some(rest) = &mut self.rest
                    && is_probe
                {
                    rest.probe = None;
                }
            }
            News::Trouble | News::NotOurs => {
                if !is_probe && (self.rest.is_some() || number <= self.old) {
                    return;
                }
                self.troubles += 1;
                if news == News::NotOurs {
                    // One is enough: it says no to everybody.
                    self.troubles = self.troubles.max(TROUBLES);
                }
                if self.troubles >= TROUBLES {
                    self.begin_rest(news, now);
                }
            }
        }
    }

    /// Somebody has mended something (SIGHUP).
    pub fn look_again(&mut self) {
        (self.troubles, self.rest) = (0, None);
    }

    fn is_probe(&self, number: u64) -> bool {
        let probe = self.rest.as_ref().and_then(|rest| rest.probe);
        probe.is_some_and(|(probe, _)| probe == number)
    }

    fn begin_rest(&mut self, why: News, now: Instant) {
        let seconds = 1u32 << (self.troubles - TROUBLES).min(LONGEST_REST.ilog2());
        self.old = self.asked;
        self.rest = Some(Rest {
            until: now + Duration::from_secs(u64::from(seconds)).mul_f64(jitter()),
            why,
            probe: None,
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

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// Asks, if that is allowed.
    fn ask(breaker: &mut Breaker, now: Instant) -> Option<u64> {
        breaker.ask(now).is_ok().then(|| breaker.number(now))
    }

    /// One whose rest has begun, and six questions from before that have no answer yet.
    fn resting(start: Instant) -> (Breaker, Vec<u64>) {
        let mut breaker = Breaker::default();
        let asked: Vec<u64> = (0..11).map(|_| ask(&mut breaker, start).unwrap()).collect();
        let (first, late) = asked.split_at(TROUBLES as usize);
        for number in first {
            breaker.heard(*number, News::Trouble, start);
        }
        assert!(ask(&mut breaker, start).is_none());
        (breaker, late.to_vec())
    }

    #[test]
    fn trouble_is_left_alone_for_longer_and_longer() {
        let start = Instant::now();
        let (mut breaker, _) = resting(start);
        let mut now = start;
        for least in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            let least = S(least).mul_f64(0.75);
            assert!(ask(&mut breaker, now + least.mul_f64(0.99)).is_none());
            now += least.mul_f64(2.0);
            let probe = ask(&mut breaker, now).unwrap();
            breaker.heard(probe, News::Trouble, now);
        }
        let probe = ask(&mut breaker, now + S(100)).unwrap();
        breaker.heard(probe, News::Well, now);
        assert!(ask(&mut breaker, now).is_some() && ask(&mut breaker, now).is_some());
    }

    #[test]
    fn late_answers_let_no_second_probe_through() {
        let start = Instant::now();
        let (mut breaker, late) = resting(start);
        let later = start + S(2);
        let probe = ask(&mut breaker, later).unwrap();
        for number in &late[..3] {
            breaker.heard(*number, News::Trouble, later);
            assert!(ask(&mut breaker, later).is_none(), "trouble of before");
        }
        breaker.heard(late[3], News::None, later);
        assert!(
            ask(&mut breaker, later).is_none(),
            "one that was never asked"
        );
        assert_eq!(breaker.troubles, TROUBLES, "and none of it counts");

        breaker.heard(probe, News::None, later);
        let probe = ask(&mut breaker, later).expect("the probe itself was not asked");
        breaker.heard(probe, News::Trouble, later);
        assert!(
            ask(&mut breaker, later + S(1)).is_none(),
            "longer than before"
        );
        breaker.heard(late[4], News::Well, later + S(1));
        assert!(
            ask(&mut breaker, later + S(1)).is_some(),
            "a good one ends it"
        );
        for _ in 0..2 * TROUBLES {
            breaker.heard(late[5], News::Trouble, later + S(1));
        }
        assert!(
            ask(&mut breaker, later + S(1)).is_some(),
            "it has been well since"
        );
    }

    #[test]
    fn a_probe_that_got_lost_is_followed_by_another_which_alone_counts() {
        let start = Instant::now();
        let (mut breaker, _) = resting(start);
        let lost = ask(&mut breaker, start + S(2)).unwrap();
        let later = start + S(2) + LONGEST_PROBE;
        assert!(ask(&mut breaker, later - S(1)).is_none());
        let probe = ask(&mut breaker, later).unwrap();
        breaker.heard(lost, News::Trouble, later);
        assert!(ask(&mut breaker, later).is_none());
        assert_eq!(breaker.troubles, TROUBLES);
        breaker.heard(probe, News::Trouble, later);
        assert_eq!(breaker.troubles, TROUBLES + 1);
    }

    #[test]
    fn an_application_that_is_not_accepted_is_one_question_and_then_probes() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let number = ask(&mut breaker, start).unwrap();
        breaker.heard(number, News::NotOurs, start);
        let refusal = breaker.ask(start).unwrap_err();
        assert_eq!(refusal.reason, Reason::LoginConfiguration);
        assert!(ask(&mut breaker, start + S(2)).is_some());
        assert!(ask(&mut breaker, start + S(2)).is_none());
        breaker.look_again();
        assert!(ask(&mut breaker, start + S(2)).is_some(), "it was mended");
    }
}
