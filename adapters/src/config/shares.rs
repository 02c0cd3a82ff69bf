//! Shares: which part of the memory limit each bound in bytes takes by default, and the sum of all of them.
//!
//! From a limit of 48 MiB on, the defaults sum to at most [`PERCENT`] of the limit. The rest is for everything that is not
//! counted in bytes: connections, actors, definitions, the program itself.

use std::fmt;

use super::Config;
use super::table::{Default, TABLE};
use super::value::Value;
use crate::log::QUEUE_BYTES;

/// Most percent of the memory limit that the defaults of all bounds in bytes sum to.
pub(super) const PERCENT: u64 = 60;

/// The setting whose changes the store holds a second time, as records: at most one batch, which is half of them.
const CHECKPOINT: &str = "TIDEGATE_CHECKPOINT_BYTES";

/// Returns that many thousandths of the memory limit, in whole KiB.
pub(super) fn share(memory_bytes: u64, thousandths: u64) -> u64 {
    memory_bytes / 1_000 * thousandths / 1_024 * 1_024
}

/// The bounds in bytes beside the memory limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What the process may use.
    pub limit_bytes: u64,
    /// Each bound: its setting, or what it is for, and its size.
    pub bounds: Vec<(&'static str, u64)>,
}

impl Memory {
    pub(super) fn of(config: &Config) -> Self {
        let shares = TABLE.iter().filter(|row| matches!(row.default, Default::Thousandths(_)));
        let size = |name| match config.get(name).value {
            Some(Value::Bytes(bytes)) => bytes,
            _ => 0,
        };
        let mut bounds: Vec<_> = shares.map(|row| (row.name, size(row.name))).collect();
        bounds.push(("records of changes", size(CHECKPOINT) / 2));
        if config
            .get("SPAWN_PUBSUB_ADAPTER")
            .value
            .as_ref()
            .is_some_and(|to| to.to_string() == "nats")
        {
            bounds.push(("broadcasts for other members", size("TIDEGATE_BROADCAST_BYTES")));
        }
        bounds.push(("log", QUEUE_BYTES as u64));
        Self { limit_bytes: config.memory_bytes, bounds }
    }

    /// The sum of all bounds.
    pub fn sum_bytes(&self) -> u64 {
        self.bounds.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Whether the bounds leave enough memory for everything that is not counted in bytes.
    pub fn fits(&self) -> bool {
        self.sum_bytes() <= self.limit_bytes / 100 * PERCENT
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| (bytes + (1 << 19)) >> 20;
        let (sum, limit) = (self.sum_bytes(), self.limit_bytes);
        let percent = u128::from(sum) * 100 / u128::from(limit.max(1));
        let (sum, limit) = (mebibytes(sum), mebibytes(limit));
        write!(
            f,
            "bounds in bytes sum to {sum} MiB, {percent} % of the memory limit of {limit} MiB:"
        )?;
        for (number, (name, bytes)) in self.bounds.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma} {name} {} KiB", bytes >> 10)?;
        }
        Ok(())
    }
}
