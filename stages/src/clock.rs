//! Clock: reads the wall clock for records, and logs its jumps (decision 15).
//!
//! Times of records never go back, even when the clock does. A jump of more than a minute is logged; the log explains odd times
//! in a history.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;
use tracing::warn;

use crate::ports::Clock;
use crate::state::Timestamp;

/// Largest change of the offset between wall clock and monotonic clock that is not logged, in microseconds.
const UNREMARKABLE_US: i64 = 60_000_000;

/// A [`Clock`] that logs the jumps of another clock.
#[derive(Debug)]
pub(crate) struct WatchedClock {
    clock: Arc<dyn Clock>,
    began: Instant,
    /// Wall clock minus monotonic clock, at the last reading.
    offset_us: AtomicI64,
}

impl WatchedClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let offset_us = AtomicI64::new(signed(clock.now().0));
        Self { clock, began: Instant::now(), offset_us }
    }

    /// Records a reading of both clocks. Returns a jump of the wall clock since the last reading, in microseconds.
    fn jumped(&self, now: Timestamp, elapsed_us: i64) -> Option<i64> {
        let offset = signed(now.0) - elapsed_us;
        let jump = offset - self.offset_us.load(Ordering::Relaxed);
        if jump.abs() <= UNREMARKABLE_US {
            // Each reading is the new base, so slow drift never adds up to a jump.
            self.offset_us.store(offset, Ordering::Relaxed);
            return None;
        }
        // Of several threads that see the jump, only one returns it.
        let before = self.offset_us.swap(offset, Ordering::Relaxed);
        let jump = offset - before;
        (jump.abs() > UNREMARKABLE_US).then_some(jump)
    }
}

impl Clock for WatchedClock {
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        let elapsed_us = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        if let Some(jump) = self.jumped(now, elapsed_us) {
            let seconds = jump / 1_000_000;
            warn!(seconds, "the wall clock has jumped; times of records go on from the newest one");
        }
        now
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::clock::SetClock;

    const SECOND: i64 = 1_000_000;

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_more_than_a_minute_is_noticed_once_in_either_direction() {
        let start = Timestamp(1_000_000_000_000);
        let clock = WatchedClock::new(Arc::new(SetClock::at(start)));
        let at = |seconds: i64| Timestamp(start.0.saturating_add_signed(seconds * SECOND));
        assert_eq!(clock.jumped(at(10), 10 * SECOND), None);
        assert_eq!(clock.jumped(at(60), 20 * SECOND), None, "forty seconds are no jump");
        assert_eq!(clock.jumped(at(170), 30 * SECOND), Some(100 * SECOND));
        assert_eq!(clock.jumped(at(171), 31 * SECOND), None);
        assert_eq!(clock.jumped(at(-500), 32 * SECOND), Some(-672 * SECOND));
        assert_eq!(clock.jumped(at(-499), 33 * SECOND), None);
    }
}
