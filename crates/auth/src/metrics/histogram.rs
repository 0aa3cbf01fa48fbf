//! How long something took, as counts.

use std::time::Duration;

/// The upper bounds of the buckets, in milliseconds and as Prometheus writes them in seconds. A tenant nearby answers
/// within 100 ms, and no request takes longer than `timeout` allows: 60 s at most.
pub(crate) const BOUNDS: [(u64, &str); 9] = [
    (50, "0.05"),
    (100, "0.1"),
    (250, "0.25"),
    (500, "0.5"),
    (1000, "1.0"),
    (2500, "2.5"),
    (5000, "5.0"),
    (10_000, "10.0"),
    (30_000, "30.0"),
];

/// Durations, counted by their length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Those of each bucket alone. The last bucket has no upper bound.
    buckets: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub(crate) sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn record(&mut self, took: Duration) {
        let fits = |(bound, _): &(u64, &str)| took <= Duration::from_millis(*bound);
        let place = BOUNDS.iter().position(fits).unwrap_or(BOUNDS.len());
        self.buckets[place] += 1;
        self.sum += took;
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns, for each upper bound, how many took no longer than that. The last is `+Inf`.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        let mut so_far = 0;
        bounds.zip(self.buckets).map(move |(bound, number)| {
            so_far += number;
            (bound, so_far)
        })
    }

    /// Adds what another one has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, number) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += number;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_buckets_that_it_fits() {
        let mut histogram = Histogram::default();
        for millis in [0, 50, 51, 2000, 61_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let mut twice = histogram;
        twice.add(&histogram);
        let counts: Vec<_> = histogram.cumulative().collect();
        assert_eq!(counts[0], ("0.05", 2));
        assert_eq!(counts[1], ("0.1", 3));
        assert_eq!(counts[5], ("2.5", 4));
        assert_eq!(counts[8], ("30.0", 4));
        assert_eq!(counts[9], ("+Inf", 5));
        assert_eq!((histogram.count(), twice.count()), (5, 10));
        assert_eq!(twice.sum, 2 * histogram.sum);
    }

    #[test]
    fn bounds_rise_and_are_written_as_they_are() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[0].0 < pair[1].0);
        }
        for (millis, text) in BOUNDS {
            assert_eq!(text.parse::<f64>().unwrap() * 1000.0, millis as f64);
        }
    }
}
