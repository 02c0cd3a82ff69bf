//! Due work: calls that are to be made at a later time, and the table in which a store keeps them (decision 41).

mod calls;
mod known;
mod made;
mod places;
pub(crate) mod record;
mod runner;
mod tries;
mod window;
mod work;

pub(crate) use calls::Calls;
pub(crate) use made::MadeCalls;
pub(crate) use record::{Purpose, Record, RunId};
pub(crate) use runner::DueRunner;
pub(crate) use work::{DueWork, bounded_name};

use std::sync::Arc;

use bytes::Bytes;

use crate::outbox::EffectSource;
use crate::state::Timestamp;

/// What an entry of the table is known by: its time, and the source that its call has as an effect (decision 18 j). An entry
/// with the same key replaces the one that is there, so handing work over twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DueKey {
    /// When it is due.
    pub at: Timestamp,
    /// Its stable id: kind, system and name.
    pub source: Arc<EffectSource>,
}

/// An entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEntry {
    /// What it is known by.
    pub key: DueKey,
    /// The call, encoded. A store seals it like a state and does not look inside.
    pub record: Bytes,
}

impl DueEntry {
    /// Size in bytes that counts against bounds.
    pub fn bytes(&self) -> usize {
        let source = &self.key.source;
        size_of::<Self>()
            + size_of::<EffectSource>()
            + source.system.len()
            + source.name.len()
            + self.record.len()
    }
}
