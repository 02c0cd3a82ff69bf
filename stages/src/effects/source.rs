//! Source: what is known of one outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;

use super::stuck::{InMemory, Phase, Stuck};
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
    /// The last row that was taken into memory or passed over, because its target is stuck; the store is read behind it.
    pub(super) through: Option<OutboxKey>,
    /// The last row of this epoch whose commit is known to be durable. Later ones are not read.
    pub(super) committed: Option<OutboxKey>,
    pub(super) reading: Reading,
    /// Whether rows of former epochs may be there that do not count yet.
    pub(super) uncounted: bool,
    /// Rows in memory: the oldest that there are, but for those of stuck targets.
    pub(super) in_memory: BTreeMap<OutboxKey, InMemory>,
    /// Targets that keep their effects waiting.
    pub(super) stuck: HashMap<ActorRef, Stuck, Seeded>,
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

    /// The rows up to this one were read.
    pub(super) fn read_through(&mut self, key: OutboxKey) {
        self.through = self.through.max(Some(key));
    }

    /// A row in memory was tried so often.
    pub(super) fn tried(&mut self, key: OutboxKey, attempts: u32) {
        if let Some(in_memory) = self.in_memory.get_mut(&key) {
            in_memory.attempts = attempts;
        }
    }

    /// Rows in memory, without those of stuck targets.
    pub(super) fn loaded(&self) -> usize {
        let is_in_memory = |stuck: &&Stuck| matches!(stuck.phase, Phase::InMemory(_));
        self.in_memory.len().saturating_sub(self.stuck.values().filter(is_in_memory).count())
    }

    /// Whether rows for this target are in the store only, however far the source is read.
    pub(super) fn is_stuck(&self, target: &ActorId) -> bool {
        let is_stuck = || self.stuck.contains_key(&ActorRef::new(&target.system, &target.name));
        !self.stuck.is_empty() && is_stuck()
    }

    /// A target to be read for now.
    pub(super) fn ready(&self) -> Option<(ActorRef, Option<OutboxKey>, Phase)> {
        let has_none = |target: &ActorRef| self.in_memory.values().all(|row| row.target != *target);
        let is_ready = |(target, stuck): &(&ActorRef, &Stuck)| match stuck.phase {
            Phase::Due => true,
            Phase::CatchingUp => has_none(target),
            Phase::InMemory(_) | Phase::Waiting => false,
        };
        let (target, stuck) = self.stuck.iter().find(is_ready)?;
        Some((target.clone(), stuck.behind, stuck.phase))
    }

    /// Whether the feeder has something to read for a stuck target.
    pub(super) fn has_ready(&self) -> bool {
        self.ready().is_some()
    }

    /// A row for this target left memory. Returns whether rows behind it are to be read.
    pub(super) fn left(&mut self, target: &ActorRef, key: OutboxKey) -> bool {
        self.in_memory.remove(&key);
        let Some(stuck) = self.stuck.get_mut(target) else { return false };
        if stuck.phase == Phase::InMemory(key) {
            stuck.phase = Phase::CatchingUp;
        }
        stuck.phase == Phase::CatchingUp
    }

    /// The first effects of stuck targets, when they were tried before and are in the store only.
    pub(super) fn tried_in_store(&self) -> impl Iterator<Item = &(OutboxKey, InMemory)> {
        self.stuck.values().filter_map(|stuck| stuck.first.as_ref())
    }

    /// Whether nothing is left to do for it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_memory.is_empty()
            && self.stuck.is_empty()
            && self.reading == Reading::UpToDate
            && !self.removing
            && self.answered.is_empty()
            && self.dead.is_empty()
            && self.dropped.is_empty()
    }
}
