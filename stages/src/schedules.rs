//! Schedules: calls that are made again and again, with a contract (decision 40).
//!
//! A schedule is a record of its own in the store. When it wants to be looked at, and each run that may be made, is an entry of
//! due work, which is written before the record that says so. An entry that its record does not know is dropped, so whatever
//! a crash leaves is one or the other.

mod bounds;
mod cron;
mod keeper;
mod open_runs;
mod record;
mod schedule;
mod when;

pub use bounds::ScheduleBounds;
pub use cron::{Expression, ExpressionError};
pub use keeper::entries;
pub(crate) use keeper::{Run, Schedules};
pub(crate) use open_runs::OpenRuns;
pub use schedule::{
    CatchUp, Creation, KEPT_RUNS, OpenRun, Outcome, Overlap, PastRun, Schedule, ScheduleKey, Spec,
};
pub use when::{When, Zone};

use bytes::Bytes;

/// A schedule as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Which schedule it is.
    pub key: ScheduleKey,
    /// Runs that were begun.
    pub runs: u64,
    /// The schedule, encoded. A store seals it like a state and does not look inside.
    pub record: Bytes,
}

impl ScheduleRow {
    /// Size in bytes that counts against bounds.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.system.len() + self.key.name.len() + self.record.len()
    }
}
