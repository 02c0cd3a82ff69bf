//! Stamps: write timestamps, by which the database decides which of two writes is the later one.
//!
//! Each is higher than every earlier one, also of an earlier start whose clock was ahead: else what was deleted or
//! registered before the clock was set back would win over what comes after. So stamps are taken from below a ceiling
//! that the database has, and a start goes on above the ceiling that it finds. The ceiling is written with itself as
//! timestamp: the highest one stays, whoever writes.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_stages::ports::{Clock, StoreError};

use super::database::Database;
use super::rows::bound;

/// Row of `meta` that holds the ceiling.
pub(super) const CLOCK: &str = "clock";
/// How far ahead stamps are reserved, microseconds.
const AHEAD_US: i64 = 10_000_000;

/// Gives stamps out.
#[derive(Debug)]
pub(super) struct Stamps {
    clock: Arc<dyn Clock>,
    given: Mutex<Given>,
    /// One reservation at a time; the others wait for it.
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
    /// Goes on above the ceiling that was found.
    pub(super) fn new(clock: Arc<dyn Clock>, ceiling: i64) -> Self {
        let given = Mutex::new(Given { last: ceiling, ceiling });
        Self { clock, given, reserving: tokio::sync::Mutex::new(()) }
    }

    fn try_next(&self) -> Result<i64, i64> {
        let now = bound(self.clock.now().0);
        self.given.lock().next(now)
    }

    /// The next stamp.
    ///
    /// # Errors
    /// When the ceiling cannot be raised: nothing was written.
    pub(super) async fn next(&self, database: &Database) -> Result<i64, StoreError> {
        loop {
            if let Ok(stamp) = self.try_next() {
                return Ok(stamp);
            }
            let _reserving = self.reserving.lock().await;
            // Another one may have raised it meanwhile.
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
