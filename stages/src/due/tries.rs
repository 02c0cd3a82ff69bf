//! Tries: when entries of due work that got no answer are tried again. Pure: it is told the time.
//!
//! Each entry has a pause of its own that grows, whatever becomes of the others meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::due::DueKey;

/// Pause before what failed is tried again, at first and at most; it doubles.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Entries whose pauses are remembered. When there are more, all are forgotten: their pauses begin anew.
const ENTRIES: usize = 16_384;

/// The entries that failed; see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<DueKey, Failed>);

#[derive(Debug)]
struct Failed {
    /// The pause after the next failure.
    pause: Duration,
    /// When it is tried again.
    until: Instant,
}

impl Tries {
    /// An entry got no answer.
    pub(super) fn failed(&mut self, key: &DueKey, now: Instant) {
        if self.0.len() >= ENTRIES && !self.0.contains_key(key) {
            self.0.clear();
        }
        let failed = self.0.entry(key.clone()).or_insert(Failed { pause: FIRST_PAUSE, until: now });
        failed.until = now + failed.pause;
        failed.pause = (failed.pause * 2).min(LONGEST_PAUSE);
    }

    /// Whether an entry that failed is not tried yet.
    pub(super) fn is_early(&self, key: &DueKey, now: Instant) -> bool {
        self.0.get(key).is_some_and(|failed| now < failed.until)
    }

    /// An entry is done.
    pub(super) fn ended(&mut self, key: &DueKey) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Timestamp;

    fn key(at: u64) -> DueKey {
        DueKey { at: Timestamp(at), source: std::sync::Arc::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_each_entry_has_its_own() {
        let (mut tries, mut now) = (Tries::default(), Instant::now());
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            tries.failed(&key(1), now);
            now += Duration::from_secs(seconds);
            assert!(tries.is_early(&key(1), now - Duration::from_millis(1)));
            assert!(!tries.is_early(&key(1), now) && !tries.is_early(&key(2), now));
        }
        tries.ended(&key(1));
        tries.failed(&key(1), now);
        assert!(!tries.is_early(&key(1), now + FIRST_PAUSE), "from the first one on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bounded_number_is_remembered() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        for at in 0..=ENTRIES as u64 {
            tries.failed(&key(at), now);
        }
        assert!(tries.0.len() <= ENTRIES && tries.is_early(&key(ENTRIES as u64), now));
    }
}
