//! Turn time: how long turns take, as a moving mean, and how long nearly all of them take.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How many turns a mean needs. The first ones differ from the others.
const KNOWN: u64 = 20;
/// Each turn counts for 1/16 of the mean.
const PARTS: u64 = 16;

/// The number of turns, up to [`KNOWN`], in the lowest byte; above it their mean in nanoseconds.
const COUNT_BITS: u32 = 8;

/// A moving mean of the time that turns take; one word.
#[derive(Debug, Default)]
pub(crate) struct MeanTurn(AtomicU64);

impl MeanTurn {
    /// Adds a turn.
    pub(crate) fn record(&self, took: Duration) {
        let limit = u64::MAX >> COUNT_BITS;
        let took = u64::try_from(took.as_nanos()).unwrap_or(limit).min(limit);
        let changed = |word: u64| {
            let (mean, count) = (word >> COUNT_BITS, word & ((1 << COUNT_BITS) - 1));
            let count = (count + 1).min(KNOWN);
            let parts = count.min(PARTS);
            let mean = mean - mean / parts + took / parts;
            (mean.min(limit) << COUNT_BITS) | count
        };
        self.0.update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }

    /// The mean; `None` before enough turns are known.
    pub(crate) fn mean(&self) -> Option<Duration> {
        let word = self.0.load(Ordering::Relaxed);
        let is_known = word & ((1 << COUNT_BITS) - 1) >= KNOWN;
        is_known.then(|| Duration::from_nanos(word >> COUNT_BITS))
    }
}

/// Most turns that a [`TurnTimes`] counts; then all counts are halved, so that later turns count for more.
const COUNTED: u32 = 1_024;
/// The turns of a bucket took at most so long, in milliseconds. Short turns are not told apart: none of them is stuck.
const EDGES_MS: [u64; 20] = [
    1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000, 12_000, 16_000, 24_000, 32_000, 48_000,
    64_000, 96_000, 128_000, 192_000, 256_000, 512_000, 1_024_000, 3_600_000,
];

/// How many of the last turns took how long; a turn adds to two counts.
#[derive(Debug, Default)]
pub(crate) struct TurnTimes {
    counted: AtomicU32,
    buckets: [AtomicU32; EDGES_MS.len()],
}

impl TurnTimes {
    /// Adds a turn. One that took longer than the last edge counts as that long.
    pub(crate) fn record(&self, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = EDGES_MS.partition_point(|edge| *edge < took).min(EDGES_MS.len() - 1);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        if self.counted.fetch_add(1, Ordering::Relaxed) + 1 == COUNTED {
            // Turns that end meanwhile may be lost: it is a figure for people.
            let mut left = 0;
            for bucket in &self.buckets {
                let half = bucket.load(Ordering::Relaxed) / 2;
                bucket.store(half, Ordering::Relaxed);
                left += half;
            }
            self.counted.store(left, Ordering::Relaxed);
        }
    }

    /// What 99 % of the last turns took at most, to the next edge; `None` before enough turns are known.
    pub(crate) fn p99(&self) -> Option<Duration> {
        let counts =
            self.buckets.each_ref().map(|bucket| u64::from(bucket.load(Ordering::Relaxed)));
        let all: u64 = counts.iter().sum();
        if all < KNOWN {
            return None;
        }
        let mut seen = 0;
        let within = counts.iter().zip(EDGES_MS).find(|(count, _)| {
            seen += **count;
            seen * 100 >= all * 99
        });
        within.map(|(_, edge)| Duration::from_millis(edge))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nearly_all_turns_are_within_the_p99(took in prop::collection::vec(0_u64..3_600_000, 0..1_000)) {
            let times = TurnTimes::default();
            for took in &took {
                times.record(Duration::from_millis(*took));
            }
            let mut sorted = took.clone();
            sorted.sort_unstable();
            let exact = sorted.get((took.len() * 99).div_ceil(100).saturating_sub(1)).copied();
            let exact = exact.filter(|_| took.len() >= 20);
            let expected = exact.map(|exact| *EDGES_MS.iter().find(|edge| **edge >= exact).unwrap());
            prop_assert_eq!(times.p99(), expected.map(Duration::from_millis));
        }
    }

    #[test]
    fn later_turns_count_for_more() {
        let times = TurnTimes::default();
        (0..10_000).for_each(|_| times.record(Duration::from_millis(5)));
        assert_eq!(times.p99(), Some(Duration::from_secs(1)));
        (0..20).for_each(|_| times.record(Duration::from_secs(5)));
        assert_eq!(times.p99(), Some(Duration::from_secs(6)));
        (0..5_000).for_each(|_| times.record(Duration::from_millis(5)));
        assert_eq!(times.p99(), Some(Duration::from_secs(1)));
        times.record(Duration::MAX);
        assert!(times.p99().is_some());
    }

    #[test]
    fn a_mean_is_known_after_twenty_turns_and_follows_them() {
        let mean = MeanTurn::default();
        for turn in 0..20 {
            assert_eq!(mean.mean(), None, "{turn}");
            mean.record(Duration::from_millis(16));
        }
        assert_eq!(mean.mean(), Some(Duration::from_millis(16)));
        mean.record(Duration::from_millis(32));
        assert_eq!(mean.mean(), Some(Duration::from_millis(17)));
        for _ in 0..100 {
            mean.record(Duration::from_millis(160));
        }
        let now = mean.mean().unwrap();
        assert!(now > Duration::from_millis(155) && now <= Duration::from_millis(160), "{now:?}");
        mean.record(Duration::MAX);
        assert!(mean.mean().unwrap() > Duration::from_hours(24));
        mean.record(Duration::MAX);
        mean.record(Duration::ZERO);
        assert!(mean.mean().is_some());
    }
}
