//! Stamps: write timestamps; the database uses them to decide which of two writes is later.
//!
//! Each stamp is higher than every earlier stamp, even one of an earlier start with a fast clock.
//! Otherwise, after the clock is set back, old deletions and registrations would win over new ones. So
//! stamps stay below a ceiling that is stored in the database, and a start continues above the stored
//! ceiling. The ceiling is also the timestamp of its own write, so the highest of several written ceilings
//! stays.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_stages::ports::{Clock, StoreError};

use super::database::Database;
use super::rows::bound;

/// Name of the row of `meta` with the ceiling.
pub(super) const CLOCK: &str = "clock";
/// How far ahead stamps are reserved, in microseconds.
const AHEAD_US: i64 = 10_000_000;

#[derive(Debug)]
pub(super) struct Stamps {
    clock: Arc<dyn Clock>,
    given: Mutex<Given>,
    /// Allows one reservation at a time; other callers wait for its result.
    reserving: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Given {
    last: i64,
    ceiling: i64,
}

impl Given {
    fn next(&mut self, now: i64) -> Result<i64, i64> {
        let next = now.max(self.last + 1);
        if next > self.ceiling {
            return Err(next);
        }
        self.last = next;
        Ok(next)
    }
}

impl Stamps {
    /// Continues above the stored ceiling.
    pub(super) fn new(clock: Arc<dyn Clock>, ceiling: i64) -> Self {
        let given = Mutex::new(Given { last: ceiling, ceiling });
        Self { clock, given, reserving: tokio::sync::Mutex::new(()) }
    }

    /// Continues above a ceiling that another owner has stored meanwhile.
    pub(super) fn continue_above(&self, ceiling: i64) {
        let mut given = self.given.lock();
        given.last = given.last.max(ceiling);
        given.ceiling = given.ceiling.max(ceiling);
    }

    fn try_next(&self) -> Result<i64, i64> {
        let now = bound(self.clock.now().0);
        self.given.lock().next(now)
    }

    /// Returns the next stamp.
    ///
    /// # Errors
    /// When the ceiling cannot be raised: nothing was written.
    pub(super) async fn next(&self, database: &Database) -> Result<i64, StoreError> {
        loop {
            if let Ok(stamp) = self.try_next() {
                return Ok(stamp);
            }
            let _reserving = self.reserving.lock().await;
            // Another call may have raised the ceiling meanwhile.
            let next = match self.try_next() {
                Ok(stamp) => return Ok(stamp),
                Err(next) => next,
            };
            let ceiling = next + AHEAD_US;
            let raised =
                database.write(&database.cql.put_number, (CLOCK, ceiling, 0), ceiling).await;
            raised.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            self.given.lock().ceiling = ceiling;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_ascend_whatever_the_clock_does_and_stay_below_the_ceiling() {
        let mut given = Given { last: 100, ceiling: 105 };
        assert_eq!(given.next(102), Ok(102));
        assert_eq!(given.next(50), Ok(103), "the clock was set back");
        assert_eq!(given.next(103), Ok(104));
        assert_eq!(given.next(200), Err(200));
        assert_eq!(given.next(0), Ok(105));
        assert_eq!(given.next(0), Err(106));
    }
}
