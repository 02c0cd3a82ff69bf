//! Known: what this process knows of the actors that it wrote lately, so that most saves need not read.
//!
//! Bounded: what falls out is read or written once more. What is known of an actor is forgotten when one of its writes
//! failed.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tidegate_stages::actor::ActorId;

use super::bucket::Bucket;

/// Actors that are remembered.
const ACTORS: usize = 65_536;

/// What is known of one actor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Whether it is in the list of its system's actors.
    pub(super) is_listed: bool,
    /// The epoch below which it has no rows any more.
    pub(super) cleared: Option<i64>,
    /// How many entries the outbox of that epoch has.
    pub(super) outbox: Option<i32>,
    /// The newest bucket of its history, once it was looked for.
    pub(super) newest: Option<Bucket>,
}

/// What is known of many actors.
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
