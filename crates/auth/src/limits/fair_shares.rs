//! Divides something of which there is not enough for all: requests to the tenant, threads, places in a queue, the time
//! for which the broker may wait.
//!
//! There are two rules:
//!
//! * Callers that never came in leave half to the others. Callers that are partly known leave a quarter to those that
//!   come back from where they came in before ([`Standing`]).
//! * One address may use at most four times what is free at that moment (Choudhury and Hahne, "Dynamic queue length
//!   thresholds for shared-memory packet switches", 1998). So one address alone gets four fifths, and a second one
//!   always finds something free. The number of addresses need not be known in advance. A partly known caller gets no
//!   more from one address than an unknown one, because otherwise one account would be enough to take everything that
//!   unknown callers may use.
//!
//! What comes back within a moment, such as a thread, can also be lent beyond these shares ([`FairShares::can_lend`]).
//! Then another unknown address may have to wait until something comes back.

use std::collections::HashMap;

use super::{
    known_callers::{Caller, Standing},
    source::SourceNetwork,
};

/// How many times what is free one address may use.
const GREED: f64 = 4.0;

/// An address that uses less than this is dropped when there are too many addresses.
const LITTLE: f64 = 0.5;

/// With fewer addresses than this none is dropped.
const FEW: usize = 1024;

/// What is in use, by address.
#[derive(Debug)]
pub struct FairShares {
    /// In units of `scale`.
    used: HashMap<SourceNetwork, f64>,
    /// The factor by which the use of everybody shrinks when something is given back that belongs to no address.
    scale: f64,
    total: f64,
}

impl Default for FairShares {
    fn default() -> Self {
        Self {
            used: HashMap::new(),
            scale: 1.0,
            total: 0.0,
        }
    }
}

impl Standing {
    /// The part that may be in use when a caller of this standing asks.
    fn part(self) -> f64 {
        match self {
            Self::Unknown => 0.5,
            Self::Familiar => 0.75,
            Self::Returning => 1.0,
        }
    }

    /// How much may be in use, of so much, when something is lent to a caller of this standing.
    fn lent(self, whole: f64) -> f64 {
        match self {
            Self::Unknown => (whole * 0.8).min(whole - 2.0),
            Self::Familiar | Self::Returning => (whole * 0.9).min(whole - 1.0),
        }
    }
}

/// Returns what callers of this standing may use together.
fn part(standing: Standing, whole: f64) -> f64 {
    // Half of one rounds to none.
    (whole * standing.part()).max(whole.min(1.0))
}

/// Returns what one address of this standing gets if it is alone.
fn most(standing: Standing, whole: f64) -> f64 {
    let as_one_of = match standing {
        Standing::Unknown | Standing::Familiar => Standing::Unknown,
        Standing::Returning => Standing::Returning,
    };
    part(as_one_of, whole) * GREED / (1.0 + GREED)
}

impl FairShares {
    /// Returns how much this caller may use now. `whole` is how much there is.
    pub fn left(&self, caller: Caller, whole: f64) -> f64 {
        let free = self.free(caller, whole);
        // What the caller takes is no longer free.
        let own = (GREED * free - self.used_by(caller.source)) / (1.0 + GREED);
        let most = most(caller.standing, whole) - self.used_by(caller.source);
        free.min(own).min(most).max(0.0)
    }

    /// Whether there is one more for this caller. `whole` is how many there are.
    pub fn has_one(&self, caller: Caller, whole: usize) -> bool {
        let whole = whole as f64;
        let free = self.free(caller, whole);
        let most = most(caller.standing, whole).min(GREED * free);
        free >= 1.0 && self.used_by(caller.source) < most
    }

    /// Whether one may be lent to a caller of this standing whose share is used up, because nobody who has a share left
    /// asks. A tenth, and at least one, is never lent, so that a known caller who asks next finds something at once.
    /// Unknown callers leave another tenth, and at least another one.
    pub fn can_lend(&self, standing: Standing, whole: usize) -> bool {
        self.total + 1.0 <= standing.lent(whole as f64)
    }

    fn free(&self, caller: Caller, whole: f64) -> f64 {
        part(caller.standing, whole) - self.total
    }

    /// Returns how much is in use.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Takes some for an address.
    pub fn take(&mut self, source: SourceNetwork, amount: f64) {
        *self.used.entry(source).or_default() += amount / self.scale;
        self.total += amount;
        // Each address in the table uses a little, so this bounds their number.
        if self.used.len() > FEW + (self.total / LITTLE) as usize {
            self.forget_little();
        }
    }

    /// A source gives so much back.
    pub fn give_back(&mut self, source: SourceNetwork, amount: f64) {
        self.total = (self.total - amount).max(0.0);
        if let Some(used) = self.used.get_mut(&source) {
            *used -= amount / self.scale;
            if *used <= 0.0 {
                self.used.remove(&source);
            }
        }
    }

    /// Gives `amount` back, in proportion to each address's use.
    pub fn come_back(&mut self, amount: f64) {
        /// Below it the numbers would lose their precision.
        const SMALL: f64 = 1e-9;
        if self.total <= amount {
            *self = Self::default();
            return;
        }
        let rest = self.total - amount;
        self.scale *= rest / self.total;
        self.total = rest;
        if self.scale < SMALL {
            self.forget_little();
        }
    }

    /// Returns how much an address uses.
    pub fn used_by(&self, source: SourceNetwork) -> f64 {
        self.used.get(&source).map_or(0.0, |used| used * self.scale)
    }

    fn forget_little(&mut self) {
        let scale = std::mem::replace(&mut self.scale, 1.0);
        self.used.retain(|_, used| {
            *used *= scale;
            *used >= LITTLE
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(number: u32, standing: Standing) -> Caller {
        let source = SourceNetwork::V4(number.into());
        Caller { source, standing }
    }

    /// Takes one at a time, as long as there is one.
    fn exhaust(shares: &mut FairShares, caller: Caller, whole: usize) -> usize {
        let mut taken = 0;
        while shares.has_one(caller, whole) {
            shares.take(caller.source, 1.0);
            taken += 1;
        }
        taken
    }

    #[test]
    fn one_source_leaves_room_for_a_second_and_strangers_leave_half() {
        let mut shares = FairShares::default();
        assert_eq!(exhaust(&mut shares, caller(1, Standing::Unknown), 300), 120);
        assert_eq!(exhaust(&mut shares, caller(2, Standing::Unknown), 300), 24);
        for number in 3..1000 {
            exhaust(&mut shares, caller(number, Standing::Unknown), 300);
        }
        assert!((148.0..=150.0).contains(&shares.total()));

        for number in 1000..2000 {
            exhaust(&mut shares, caller(number, Standing::Familiar), 300);
        }
        assert!((223.0..=225.0).contains(&shares.total()));
        let returning = exhaust(&mut shares, caller(1, Standing::Returning), 300);
        assert!(returning >= 20, "at a source of strangers: {returning}");
        let returning = exhaust(&mut shares, caller(3000, Standing::Returning), 300);
        assert!(returning >= 20, "at a source of its own: {returning}");
    }

    #[test]
    fn a_familiar_source_leaves_room_for_strangers() {
        let mut shares = FairShares::default();
        let (one, other) = (caller(1, Standing::Familiar), caller(2, Standing::Unknown));
        assert_eq!(exhaust(&mut shares, one, 300), 120);
        assert_eq!(exhaust(&mut shares, other, 300), 24);
        shares.come_back(144.0);
        assert_eq!(shares.left(one, 300.0).round(), 120.0);
        shares.take(one.source, 100.0);
        assert_eq!(shares.left(one, 300.0).round(), 20.0);
    }

    #[test]
    fn a_refill_is_shared_by_all_sources() {
        let (one, two) = (
            caller(1, Standing::Returning),
            caller(2, Standing::Returning),
        );
        let mut shares = FairShares::default();
        shares.take(one.source, 60.0);
        shares.take(two.source, 30.0);
        shares.come_back(30.0);
        assert_eq!(shares.used_by(one.source).round(), 40.0);
        assert_eq!(shares.used_by(two.source).round(), 20.0);
        shares.give_back(one.source, 40.0);
        assert_eq!(shares.total().round(), 20.0);
        shares.come_back(20.0);
        assert_eq!(shares.left(one, 100.0), 80.0, "all of it is free");
    }

    #[test]
    fn what_is_lent_to_strangers_leaves_one_for_a_known_caller() {
        for whole in 3..=64 {
            for known in [Standing::Familiar, Standing::Returning] {
                let mut shares = FairShares::default();
                let mut strangers = (1..).map(|number| caller(number, Standing::Unknown));
                while let Some(stranger) = strangers.next()
                    && (shares.has_one(stranger, whole)
                        || shares.can_lend(Standing::Unknown, whole))
                {
                    shares.take(stranger.source, 1.0);
                }
                let known = caller(0, known);
                let finds_one =
                    shares.has_one(known, whole) || shares.can_lend(known.standing, whole);
                assert!(finds_one, "{} of {whole} in use", shares.total());
            }
        }
    }

    #[test]
    fn everybody_may_take_the_only_place() {
        for standing in Standing::ALL {
            let mut shares = FairShares::default();
            assert_eq!(exhaust(&mut shares, caller(1, standing), 1), 1);
            assert_eq!(exhaust(&mut shares, caller(2, standing), 0), 0);
        }
    }

    #[test]
    fn sources_are_not_remembered_without_end() {
        let mut shares = FairShares::default();
        for number in 0..100_000 {
            shares.take(SourceNetwork::V4(number.into()), 1.0);
            shares.come_back(1.0 - 1e-3);
            assert!(shares.used.len() <= FEW + 3 + (shares.total() / LITTLE) as usize);
        }
    }
}
