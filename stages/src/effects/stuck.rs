//! Stuck: a target that does not answer, and what of its effects is in the store only.

use std::time::Duration;

use tidegate_pipeline::EventId;
use tidegate_pipeline::layer::Delays;

use tokio::sync::OwnedSemaphorePermit;

use crate::actor::ActorRef;
use crate::outbox::OutboxKey;
use crate::state::Timestamp;

/// Pauses between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An effect in memory.
#[derive(Debug, Clone)]
pub(super) struct InMemory {
    pub(super) target: ActorRef,
    /// Its name in the queue.
    pub(super) queued: EventId,
    /// When it was emitted.
    pub(super) at: Timestamp,
    /// How often it was tried.
    pub(super) attempts: u32,
}

/// How often an effect was tried, and when it is tried next.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) attempts: u32,
    pub(super) delays: Delays,
}

impl Default for Tries {
    fn default() -> Self {
        Self { attempts: 0, delays: Delays::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }
}

/// A target that keeps the effects of one source waiting.
#[derive(Debug)]
pub(super) struct Stuck {
    /// Its rows behind this one are in the store only. `None`: all of them.
    pub(super) behind: Option<OutboxKey>,
    pub(super) phase: Phase,
    /// The first of these rows, when it was tried before.
    pub(super) first: Option<(OutboxKey, InMemory)>,
    pub(super) tries: Tries,
    /// The bytes of that row.
    pub(super) bytes: usize,
    /// What that row counts for once it is to be tried again.
    pub(super) probe: Option<OwnedSemaphorePermit>,
}

/// What becomes of the first effect for a stuck target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is in memory.
    InMemory(OutboxKey),
    /// It is tried again later.
    Waiting,
    /// It is tried again as soon as it is read; it has what it counts for.
    Due,
    /// It was answered, or given up: the others are read.
    CatchingUp,
}
