//! Planned: a turn whose change is applied in memory: what has to be written, and what leaves after that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_pipeline::{KeyedEvent, Permit};

use crate::activation::incarnation::{Incarnation, Unsettled};
use crate::actor::ActorRef;
use crate::call::{Committed, Completion};
use crate::error::Error;
use crate::identity::Identity;
use crate::invocation::Invocation;
use crate::places::Place;
use crate::ports::{Save, StoreError};
use crate::registry::entry::Entry;
use crate::retries::Retries;

/// A turn on its way to the store. Dropped before its outcome is known, it abandons its activation: the write may have
/// happened, so nothing may build on it.
pub(crate) struct Planned {
    pub(crate) entry: Arc<Entry>,
    pub(crate) incarnation: Arc<Incarnation>,
    /// What is written; `None` for a turn that changed nothing.
    pub(crate) save: Option<Save>,
    /// Its place, which is free again when the outcome is known.
    pub(crate) place: Option<Place>,
    /// `None` once taken.
    rest: Option<Committed>,
    _unsettled: Unsettled,
}

impl Planned {
    /// Records the turn as unsettled in its activation.
    pub(crate) fn new(
        entry: Arc<Entry>,
        incarnation: Arc<Incarnation>,
        save: Option<Save>,
        place: Option<Place>,
        (completion, effects): (Completion, Vec<PlannedEffect>),
    ) -> Self {
        let unsettled = Unsettled::new(&incarnation);
        let rest = Some(Committed { completion, effects });
        Self { entry, incarnation, save, place, rest, _unsettled: unsettled }
    }

    /// Bytes that it counts for.
    pub(crate) fn bytes(&self) -> usize {
        self.save.as_ref().map_or(0, Save::bytes)
    }

    /// Bytes of the records that are written: of the head, and of the revision with the same content.
    pub(crate) fn record_bytes(&self) -> usize {
        self.save.as_ref().map_or(0, |save| save.bytes() * (1 + usize::from(save.append)))
    }

    /// What leaves, now that the change is durable.
    pub(crate) fn committed(mut self) -> Committed {
        let nothing = || Committed { completion: Completion::Nothing, effects: Vec::new() };
        self.rest.take().unwrap_or_else(nothing)
    }

    /// Ends it with an error.
    pub(crate) fn fail(self, error: Error) {
        let entry = self.entry.clone();
        self.committed().completion.fail(&entry.actor, error);
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        if self.rest.is_some() {
            self.incarnation.abandon(&StoreError::Unknown("the commit was abandoned".into()));
        }
    }
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// A side effect with its permit in the sender's buffer.
pub(crate) struct PlannedEffect {
    pub(crate) invocation: Invocation,
    pub(crate) target: ActorRef,
    pub(crate) source: Arc<Entry>,
    /// How long and how often it is tried again when the mailbox of its target is full.
    pub(crate) retries: Retries,
    _permit: Permit,
}

impl PlannedEffect {
    /// Counts an effect against its source until it is dropped. The call has the identity of the mesh.
    pub(crate) fn new(
        mut invocation: Invocation,
        source: Arc<Entry>,
        retries: Retries,
        permit: Permit,
    ) -> Self {
        source.pending_effects.fetch_add(1, Ordering::Relaxed);
        invocation.identity = Identity::default();
        let target = ActorRef::new(&invocation.actor.system, &invocation.actor.name);
        Self { invocation, target, source, retries, _permit: permit }
    }
}

impl Drop for PlannedEffect {
    fn drop(&mut self) {
        self.source.pending_effects.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for PlannedEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedEffect").field("target", &self.target).finish_non_exhaustive()
    }
}

impl KeyedEvent for PlannedEffect {
    type Key = ActorRef;

    fn key(&self) -> &ActorRef {
        &self.target
    }

    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
}
