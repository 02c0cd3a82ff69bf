//! Clock: the one place that reads wall-clock time, and says when it cannot be right.

use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_stages::ports::Clock;
use tidegate_stages::state::Timestamp;

/// No clock is right that stands before this: this version did not exist. 2026-01-01, in microseconds.
const MADE: u64 = 1_767_225_600_000_000;
/// A clock this far ahead of it is rather wrong. Ten years, in microseconds.
const AHEAD: u64 = 315_576_000_000_000;

/// What is to be done when the clock stands before 1970. Libraries count time from there and would abort.
pub(crate) const BEFORE_1970: &str =
    "the clock stands before 1970: set it, and keep it right (chrony, systemd-timesyncd)";

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Microseconds since the Unix epoch; 0 on a machine whose clock is before it.
    fn now(&self) -> Timestamp {
        let since = read().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the Clock port")]
fn read() -> SystemTime {
    SystemTime::now()
}

/// Whether the machine's clock stands before 1970.
pub(crate) fn is_before_1970() -> bool {
    read() < UNIX_EPOCH
}

/// What is wrong with a clock that says this, and what to do.
pub(crate) fn concern(now: Timestamp) -> Option<&'static str> {
    if now.0 < MADE {
        return Some(
            "the clock stands before this version was made: revisions get wrong times, and old ones are not pruned; set the \
             clock, and keep it right (chrony, systemd-timesyncd)",
        );
    }
    (now.0 - MADE > AHEAD).then_some(
        "the clock is more than ten years ahead: retention by age drops every revision; set the clock",
    )
}
