//! Schedules: calls that are made again and again, with a contract (decision 40).

mod cron;
mod schedule;
mod when;

pub use cron::{Expression, ExpressionError};
pub use schedule::{
    CatchUp, Creation, KEPT_RUNS, OpenRun, Outcome, Overlap, PastRun, Schedule, ScheduleKey, Spec,
};
pub use when::{When, Zone};
