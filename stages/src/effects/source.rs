//! Source: what is known of one outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::actor::{ActorId, ActorRef};
use crate::outbox::pending::PendingEffects;
use crate::outbox::{EffectSource, OutboxKey, OutboxRow};
use crate::state::Timestamp;

/// An actor with effects that are not removed from the store.
#[derive(Debug)]
pub(super) struct Source {
    /// Under this its rows lie.
    pub(super) key: Arc<ActorId>,
    pub(super) actor: ActorRef,
    /// Its name at its targets.
    pub(super) name: Arc<EffectSource>,
    pub(super) state: Mutex<State>,
}

/// What is done with its rows.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Where its effects count.
    pending: Arc<PendingEffects>,
    /// The last row that was taken into memory; the store is read behind it.
    pub(super) through: Option<OutboxKey>,
    /// The last row of this epoch whose commit is known to be durable. Later ones are not read.
    pub(super) committed: Option<OutboxKey>,
    pub(super) reading: Reading,
    /// Whether rows of former epochs may be there that do not count yet.
    pub(super) uncounted: bool,
    /// Rows in memory: the oldest that there are.
    pub(super) in_memory: BTreeMap<OutboxKey, InMemory>,
    /// Rows to be removed from the store.
    pub(super) answered: Vec<Delivered>,
    /// Rows to be written again, as dead letters.
    pub(super) dead: Vec<Died>,
    /// Those of them, and of what the remover has, that are not known to be written.
    pub(super) dying: BTreeSet<OutboxKey>,
    /// Rows of dead letters to be removed.
    pub(super) dropped: Vec<OutboxKey>,
    /// Whether the remover has it, or is asked to.
    pub(super) removing: bool,
}

/// Whether rows of a source are in the store only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reading {
    /// None: all are in memory.
    #[default]
    UpToDate,
    /// Some may be.
    Behind,
    /// Some may be; the feeder has it, or is asked to.
    Feeding,
}

/// An effect in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct InMemory {
    /// When it was emitted.
    pub(super) at: Timestamp,
    /// How often it was tried.
    pub(super) attempts: u32,
}

/// A row that is to be removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered {
    pub(super) key: OutboxKey,
    pub(super) bytes: usize,
}

/// A row that becomes a dead letter.
#[derive(Debug)]
pub(super) struct Died {
    pub(super) row: OutboxRow,
    /// When it died.
    pub(super) at: Timestamp,
    /// What it counted for while it was to be delivered.
    pub(super) bytes: usize,
}

impl Source {
    pub(super) fn new(key: Arc<ActorId>, actor: ActorRef, behind: bool) -> Self {
        let name = Arc::new(EffectSource::of(&key));
        let reading = if behind { Reading::Behind } else { Reading::UpToDate };
        let state = State { reading, uncounted: behind, ..State::default() };
        Self { key, actor, name, state: Mutex::new(state) }
    }
}

impl State {
    /// The entry of its actor counts for it: it may be another one than before, after a delete.
    pub(super) fn counts_in(&mut self, pending: &Arc<PendingEffects>) {
        if !Arc::ptr_eq(&self.pending, pending) {
            let (events, bytes) = self.pending.get();
            pending.add(events, bytes);
            self.pending = pending.clone();
        }
    }

    pub(super) fn pending(&self) -> &PendingEffects {
        &self.pending
    }

    /// A row in memory was tried so often.
    pub(super) fn tried(&mut self, key: OutboxKey, attempts: u32) {
        if let Some(in_memory) = self.in_memory.get_mut(&key) {
            in_memory.attempts = attempts;
        }
    }

    /// Whether nothing is left to do for it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_memory.is_empty()
            && self.reading == Reading::UpToDate
            && !self.removing
            && self.answered.is_empty()
            && self.dead.is_empty()
            && self.dropped.is_empty()
    }
}
