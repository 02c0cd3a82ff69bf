//! Turn time: how long turns take, as a moving mean.

use std::sync::atomic::{AtomicU64, Ordering};
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

#[cfg(test)]
mod tests {
    use super::*;

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
