//! Queue: where turns hand in what they planned.

use std::sync::Arc;

use tidegate_pipeline::{Bound, Demand, Full, Producer, ProducerOptions};

use crate::call::BoxPlanned;
use crate::checkpoint::claim::Claims;
use crate::egress::Egress;
use crate::error::Error;
use crate::places::Places;
use crate::ports::StoreError;

/// The queue of turns that wait for a commit. Turns with a change are bounded by their [places](crate::places). Turns
/// without a change wait for an older commit of the same actor, and are bounded by admission. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointQueue {
    producer: Producer<BoxPlanned>,
    places: Places,
    pub(super) claims: Arc<Claims>,
    pub(super) egress: Egress,
}

impl CheckpointQueue {
    pub(crate) fn new(places: Places, egress: Egress) -> Self {
        let bound = Bound { events: 0, bytes: 0 };
        let options = ProducerOptions { name: "checkpoint", bound, full: Full::Shed };
        let producer = Producer::new(options, Demand::new());
        Self { producer, places, claims: Arc::default(), egress }
    }

    /// What the checkpoint consumes.
    pub(crate) fn producer(&self) -> &Producer<BoxPlanned> {
        &self.producer
    }

    /// How many turns wait for a commit. Of one that is with the store, the turns of one actor count once.
    pub(crate) fn waiting(&self) -> usize {
        self.producer.queued() + self.claims.waiting()
    }

    /// The places of all turns.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Hands in a turn that changed nothing, or whose change fits into its place. It completes at once when it has nothing to
    /// wait for. Returns the turn when it needs a larger place.
    pub(super) fn try_submit(&self, mut planned: BoxPlanned) -> Option<BoxPlanned> {
        if planned.save.is_none() {
            planned.place = None;
            if planned.incarnation.has_nothing_before() {
                self.egress.complete(planned.committed());
                return None;
            }
        } else {
            let bytes = planned.bytes();
            if !self.places.fit(&mut planned.place, &planned.entry, bytes) {
                return Some(planned);
            }
        }
        self.push(planned);
        None
    }

    /// Hands in a turn that has the place it needs.
    pub(crate) fn hand_in(&self, planned: BoxPlanned) {
        if let Some(planned) = self.try_submit(planned) {
            self.refuse(planned, no_place());
        }
    }

    /// Waits for a larger place and hands the turn in. Returns the turn and the reason when there was no place in time; the
    /// caller then [refuses](Self::refuse) it.
    pub(super) async fn submit(&self, mut planned: BoxPlanned) -> Option<(BoxPlanned, StoreError)> {
        // While the activation is in doubt nothing frees a place for it, and none of its changes may be lost.
        if !planned.incarnation.is_in_doubt() {
            let (bytes, entry) = (planned.bytes(), planned.entry.clone());
            let place = &mut planned.place;
            if !self.places.wait_to_fit(place, &entry, bytes).await {
                return Some((planned, no_place()));
            }
        }
        self.push(planned);
        None
    }

    fn push(&self, planned: BoxPlanned) {
        if let Err(rejected) = self.producer.cast_exempt(planned) {
            // Its outcome is not known: its activation is abandoned with it.
            drop(rejected.event);
        }
    }

    /// Ends a turn for which there was no place. Its change is not written, so its activation is abandoned. Exception: when an
    /// older write is in doubt, the turn queues behind that one and is written too.
    pub(super) fn refuse(&self, planned: BoxPlanned, error: StoreError) {
        if planned.incarnation.is_in_doubt() {
            return self.push(planned);
        }
        if planned.save.is_some() {
            planned.incarnation.abandon(&error);
        }
        planned.fail(Error::Store(error));
    }
}

fn no_place() -> StoreError {
    StoreError::Unavailable("no place on the way to the store is free for so large a change".into())
}
