//! Gate: gives a turn its place at the checkpoint before it is granted.

use std::task::Waker;

use tidegate_pipeline::{Entry, Gate, GivenUp};

use crate::call::{Placed, Task};
use crate::places::Places;
use crate::rules::Durability;

/// The gate of the mailboxes; see the [module](self).
#[derive(Debug)]
pub(crate) struct CheckpointGate {
    pub(crate) places: Places,
    pub(crate) durability: Durability,
}

impl Gate<Placed> for CheckpointGate {
    /// Whether the turn is expected to write. Maintenance is not asked here: it takes its place in its turn, from places of
    /// its own.
    fn concerns(&self, placed: &Placed) -> bool {
        if placed.place.is_some() {
            // It has kept its place while it was parked.
            return false;
        }
        match &placed.task {
            // That an effect was seen is written in every mode.
            Task::Call(call) => {
                call.writes
                    && (self.durability == Durability::Acknowledged || call.effect.is_some())
            }
            Task::Checkpoint(_) | Task::Restore(..) => true,
            Task::State(_)
            | Task::WarmUp(..)
            | Task::Init(_)
            | Task::Snapshot
            | Task::Deactivate { .. }
            | Task::Evict { .. }
            | Task::Delete(_)
            | Task::DeadLetters(_)
            | Task::TakeOver(_) => false,
        }
    }

    fn enter(&self, placed: &mut Placed, waker: &Waker) -> Entry {
        match self.places.enter(&placed.entry, placed.host_limit, waker) {
            Ok(place) => placed.place = Some(place),
            Err(refusal) => return refusal,
        }
        Entry::Entered
    }

    /// A turn of a paused actor keeps neither place nor the right of a probe.
    fn leave(&self, placed: &mut Placed) -> Option<GivenUp> {
        Some(Box::new(placed.place.take()?))
    }
}
