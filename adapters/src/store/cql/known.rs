//! Known: a cache of facts about recently written actors, so that most saves need no read.
//!
//! The cache is bounded; an evicted fact is read or written once more. A failed write of an actor removes
//! the actor's facts.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tidegate_stages::actor::ActorId;

use super::bucket::Bucket;

/// Actors in the cache.
const ACTORS: usize = 65_536;

/// What is known of one actor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Whether the actor is in the list of its system's actors.
    pub(super) is_listed: bool,
    /// The epoch below which the actor has no more rows.
    pub(super) cleared: Option<i64>,
    /// The epoch under which the actor is listed as one with effects.
    pub(super) pending: Option<i64>,
    /// About how many rows its outbox has: never too few.
    pub(super) outstanding: Option<usize>,
    /// The newest bucket of the actor's history, once read.
    pub(super) newest: Option<Bucket>,
}

#[derive(Debug)]
pub(super) struct Memory(Cache<Arc<ActorId>, Known>);

impl Memory {
    pub(super) fn new() -> Self {
        Self(Cache::new(ACTORS))
    }

    pub(super) fn of(&self, actor: &Arc<ActorId>) -> Known {
        self.0.get(actor).unwrap_or_default()
    }

    pub(super) fn keep(&self, actor: &Arc<ActorId>, known: Known) {
        self.0.insert(actor.clone(), known);
    }

    pub(super) fn forget(&self, actor: &Arc<ActorId>) {
        self.0.remove(actor);
    }
}
