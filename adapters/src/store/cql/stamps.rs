//! Stamps: write timestamps; the database uses them to decide which of two writes is later.
//!
//! Each stamp is higher than every earlier stamp, even one of an earlier owner with a fast clock. Otherwise old deletions
//! and registrations would win over new ones. So stamps stay below a ceiling that is stored beside the epoch. It is raised
//! by a light-weight transaction, which fails when a later owner has claimed; a new owner reads it after its claim and
//! continues above it. So stamps follow epochs, whatever the clocks say: see `docs/decisions/039-stamps-follow-epochs.md`.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_stages::ports::{Clock, StoreError};
use tidegate_stages::state::Timestamp;

use super::database::Database;
use super::errors::unwritten;
use super::fence::Fence;
use super::rows::bound;

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

    /// The time of the clock. Stamps may be far ahead of it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn try_next(&self) -> Result<i64, i64> {
        let now = bound(self.clock.now().0);
        self.given.lock().next(now)
    }

    /// Returns the next stamp.
    ///
    /// # Errors
    /// When the ceiling cannot be raised: nothing was written.
    pub(super) async fn next(&self, database: &Database, fence: &Fence) -> Result<i64, StoreError> {
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
            let reserved = fence.reserve(database, next, AHEAD_US).await.map_err(unwritten)?;
            let mut given = self.given.lock();
            given.last = given.last.max(reserved.start - 1);
            given.ceiling = given.ceiling.max(reserved.end);
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
