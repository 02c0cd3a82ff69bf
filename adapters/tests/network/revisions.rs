//! Revisions: watches the heads in a store. Neither version nor revision of an actor ever goes back (I4).

use std::sync::Arc;

use futures_util::FutureExt;
use tidegate_stages::actor::ActorId;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::StateStore;

use crate::facts::Facts;
use crate::support::counter::SYSTEM;

/// Version and revision of each actor's head, when it was looked at last.
#[derive(Debug)]
pub(crate) struct Revisions(Vec<(ActorId, (u64, u64))>);

/// Under what the store keeps an actor.
pub(crate) fn key(name: &str) -> ActorId {
    ActorId { name: name.into(), system: SYSTEM.into(), parent: String::new() }
}

impl Revisions {
    pub(crate) fn new(actors: &[String]) -> Self {
        Self(actors.iter().map(|name| (key(name), (0, 0))).collect())
    }

    pub(crate) fn look(&mut self, disk: &MemoryStore, facts: &Arc<Facts>) {
        for (actor, last) in &mut self.0 {
            let head = disk.load(actor).now_or_never().expect("it is in memory");
            let head = head.expect("it is read");
            let now = head.map_or((0, 0), |head| (head.version, head.revision));
            if now.0 < last.0 || now.1 < last.1 {
                facts.complain(format!("{actor} went back from {last:?} to {now:?} (I4)"));
            }
            if now != *last {
                facts.note(&format!("{actor} is stored as {now:?}"));
            }
            *last = now;
        }
    }
}
