//! Schedules: calls that are made again and again, with a contract (decision 40).

mod cron;

pub use cron::{Expression, ExpressionError};
