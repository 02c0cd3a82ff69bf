//! Effect: what a turn emits, and what a call carries that delivers it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::activation::incarnation::{Incarnation, Unsettled};
use crate::error::Error;
use crate::invocation::Invocation;
use crate::outbox::{EffectId, EffectSource, OutboxRow};
use crate::registry::entry::Entry;
use crate::state::Timestamp;

/// An effect that a turn emits; its row is in the turn's commit.
#[derive(Debug)]
pub(crate) struct EmittedEffect {
    /// Its row in the outbox, which is shared with the commit.
    pub(crate) row: OutboxRow,
    /// The same, decoded.
    pub(crate) invocation: Invocation,
    pub(crate) at: Timestamp,
}

/// The effects of one turn. They count against their source from here on. They leave when the commit is durable; dropped
/// before, they never were.
#[derive(Debug)]
pub(crate) struct Emitted {
    pub(crate) source: Arc<Entry>,
    effects: Vec<EmittedEffect>,
    /// No later activation runs before they have left: the effects of a source leave in order.
    _unsettled: Unsettled,
}

impl Emitted {
    pub(crate) fn new(
        source: Arc<Entry>,
        incarnation: &Arc<Incarnation>,
        effects: Vec<EmittedEffect>,
    ) -> Self {
        source.pending_effects.add(effects.len(), bytes(&effects));
        Self { source, effects, _unsettled: Unsettled::new(incarnation) }
    }

    /// The rows that the commit appends.
    pub(crate) fn rows(&self) -> Vec<OutboxRow> {
        self.effects.iter().map(|effect| effect.row.clone()).collect()
    }

    /// Takes the effects of a durable commit. They go on counting against their source.
    pub(crate) fn take(&mut self) -> Vec<EmittedEffect> {
        std::mem::take(&mut self.effects)
    }
}

impl Drop for Emitted {
    fn drop(&mut self) {
        self.source.pending_effects.sub(self.effects.len(), bytes(&self.effects));
    }
}

fn bytes(effects: &[EmittedEffect]) -> usize {
    effects.iter().map(|effect| effect.row.bytes()).sum()
}

/// The effect that a call delivers.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) source: Arc<EffectSource>,
    pub(crate) id: EffectId,
    pub(crate) ack: Ack,
    /// Why its answer changed nothing, when it did not.
    pub(crate) failed: Option<Error>,
}

/// How an effect was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// By its action.
    Done,
    /// By its action, with an answer that changes nothing: a failure, or what cannot be kept (decision 18 f).
    Failed,
    /// Before: its action did not run again.
    Before,
}

/// Tells the delivery of an effect its outcome, once. Dropped unused, the outcome is unknown, and the effect is delivered
/// again.
#[derive(Debug)]
pub(crate) struct Ack {
    delivery: oneshot::Sender<Result<Answered, Error>>,
    answered: Answered,
}

impl Ack {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<Answered, Error>>) {
        let (delivery, receiver) = oneshot::channel();
        (Self { delivery, answered: Answered::Done }, receiver)
    }

    /// The same, which says how the effect was answered.
    #[must_use]
    pub(crate) fn saying(self, answered: Answered) -> Self {
        Self { answered, ..self }
    }

    /// `Ok`: the effect is answered, durably where its target has a state.
    pub(crate) fn send(self, outcome: Result<(), Error>) {
        let Self { delivery, answered } = self;
        // Only the end of the proxy takes the delivery away.
        drop(delivery.send(outcome.map(|()| answered)));
    }
}
