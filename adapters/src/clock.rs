//! Clock: the one place that reads wall-clock time.

use std::time::UNIX_EPOCH;

use tidegate_stages::ports::Clock;
use tidegate_stages::state::Timestamp;

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Microseconds since the Unix epoch; 0 on a machine whose clock is before it.
    #[allow(clippy::disallowed_methods, reason = "this is the Clock port")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}
