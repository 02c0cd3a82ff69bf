//! Queue: where turns hand in what they planned.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tidegate_pipeline::{Bound, Demand, Full, Permit, Producer, ProducerOptions, Refused};

use crate::call::Planned;
use crate::checkpoint::claim::Claims;
use crate::egress::Egress;
use crate::error::Error;
use crate::ports::StoreError;

/// The bounded queue of the checkpoint. When it is full the turns wait, so that demand ends at admission while the
/// store is slow. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointQueue {
    producer: Producer<Planned>,
    pub(super) claims: Arc<Claims>,
    pub(super) egress: Egress,
}

impl CheckpointQueue {
    /// A queue of that bound; a turn waits at most `patience` for its place.
    pub(crate) fn new(bound: Bound, patience: Duration, egress: Egress) -> Self {
        let options = ProducerOptions { name: "checkpoint", bound, full: Full::Wait(patience) };
        let producer = Producer::new(options, Demand::new());
        Self { producer, claims: Arc::default(), egress }
    }

    /// What the checkpoint consumes.
    pub(crate) fn producer(&self) -> &Producer<Planned> {
        &self.producer
    }

    /// Hands a turn in if it has nothing to wait for, in which case it completes at once, or finds a place at once.
    /// Returns it when it has to wait for a place.
    pub(super) fn try_submit(&self, planned: Planned) -> Option<Planned> {
        if planned.save.is_none() && planned.incarnation.has_nothing_before() {
            self.egress.complete(planned.committed());
            return None;
        }
        match self.producer.reserve(planned.bytes()).now_or_never() {
            Some(Ok(permit)) => self.push(planned, permit),
            _ => return Some(planned),
        }
        None
    }

    /// Hands a turn in that has to wait for a place. Returns it, and why, when it found none in time: see
    /// [`refuse`](Self::refuse).
    pub(super) async fn submit(&self, planned: Planned) -> Option<(Planned, StoreError)> {
        match self.producer.reserve(planned.bytes()).await {
            Ok(permit) => self.push(planned, permit),
            Err(refused) => return Some((planned, no_place(refused))),
        }
        None
    }

    fn push(&self, planned: Planned, permit: Permit) {
        if let Err(rejected) = self.producer.cast(planned, permit) {
            // Its outcome is not known: its activation is abandoned with it.
            drop(rejected.event);
        }
    }

    /// Ends a turn for which there was no place. What it would have changed is not written, so nothing may build on
    /// it; unless an older write is in doubt: then it queues behind that one and is written too.
    pub(super) fn refuse(&self, planned: Planned, error: StoreError) {
        let planned = if planned.incarnation.is_in_doubt() {
            let Some(planned) = self.claims.queue_behind(planned) else { return };
            planned
        } else {
            planned
        };
        if planned.save.is_some() {
            planned.incarnation.abandon(&error);
        }
        planned.fail(Error::Store(error));
    }
}

fn no_place(refused: Refused) -> StoreError {
    StoreError::Unavailable(format!("no room to write: {refused}"))
}
