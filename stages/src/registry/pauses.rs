//! Pauses: which actors are paused, and which were until a short time ago.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::RwLock;
use tidegate_pipeline::randomness::Seeded;
use tokio::sync::Notify;

use crate::actor::ActorRef;
use crate::ports::Pause;
use crate::state::Timestamp;

/// How long a pause that has ended is remembered: as long as an effect is tried (decision 18 g).
pub(crate) const REMEMBERED: Duration = Duration::from_hours(24);

/// The pauses; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    by_actor: RwLock<HashMap<ActorRef, Pause, Seeded>>,
    /// How many of them have not ended. While it is 0, nobody takes the lock.
    paused: AtomicUsize,
    ended: Notify,
    /// How many have ended so far.
    ends: AtomicU64,
}

impl Pauses {
    /// Whether an actor is paused.
    pub(crate) fn is_paused(&self, actor: &ActorRef) -> bool {
        self.paused() > 0 && self.of(actor).is_some_and(|pause| pause.ended.is_none())
    }

    /// How many actors are paused.
    pub(crate) fn paused(&self) -> usize {
        self.paused.load(Ordering::Acquire)
    }

    /// The pause of an actor, also one that has ended.
    pub(crate) fn of(&self, actor: &ActorRef) -> Option<Pause> {
        self.by_actor.read().get(actor).cloned()
    }

    /// Since when an attempt counts that began at a time: time before the end of a pause does not.
    pub(crate) fn counts_since(&self, actor: &ActorRef, began: Timestamp) -> Timestamp {
        let ended = self.by_actor.read().get(actor).and_then(|pause| pause.ended);
        ended.map_or(began, |ended| ended.max(began))
    }

    /// Waits until an actor is not paused.
    pub(crate) async fn resumed(&self, actor: &ActorRef) {
        while self.is_paused(actor) {
            let ended = self.ended.notified();
            if self.is_paused(actor) {
                ended.await;
            }
        }
    }

    /// Adds a pause, or replaces the one of the same actor. What `then` does happens before another change of the pauses.
    pub(crate) fn put(&self, pause: Pause, then: impl FnOnce()) {
        let mut by_actor = self.by_actor.write();
        let (actor, is_paused) = (pause.actor.clone(), pause.ended.is_none());
        let was_paused = by_actor.insert(actor, pause).is_some_and(|before| before.ended.is_none());
        self.count(was_paused, is_paused);
        then();
        drop(by_actor);
        if !is_paused {
            self.note_end();
        }
    }

    /// Forgets the pause of an actor. What `then` does happens before another change of the pauses.
    pub(crate) fn remove(&self, actor: &ActorRef, then: impl FnOnce()) {
        let mut by_actor = self.by_actor.write();
        let was_paused = by_actor.remove(actor).is_some_and(|before| before.ended.is_none());
        self.count(was_paused, false);
        then();
        drop(by_actor);
        self.note_end();
    }

    /// Does something unless the pause of an actor has ended meanwhile.
    pub(crate) fn while_paused(&self, actor: &ActorRef, then: impl FnOnce()) {
        let by_actor = self.by_actor.read();
        if by_actor.get(actor).is_some_and(|pause| pause.ended.is_none()) {
            then();
        }
    }

    /// Pauses that ended so long ago that they do not matter any more, and how many others that have ended there are.
    pub(crate) fn over(&self, now: Timestamp) -> (Vec<ActorRef>, usize) {
        let is_over =
            |ended: Timestamp| Duration::from_micros(now.0.saturating_sub(ended.0)) > REMEMBERED;
        let by_actor = self.by_actor.read();
        let ended = by_actor.values().filter_map(|pause| Some((&pause.actor, pause.ended?)));
        let (over, remembered): (Vec<_>, Vec<_>) = ended.partition(|(_, ended)| is_over(*ended));
        (over.into_iter().map(|(actor, _)| actor.clone()).collect(), remembered.len())
    }

    /// How many pauses have ended so far: whoever held something back looks again when the number has changed.
    pub(crate) fn ends(&self) -> u64 {
        self.ends.load(Ordering::Acquire)
    }

    fn note_end(&self) {
        self.ends.fetch_add(1, Ordering::AcqRel);
        self.ended.notify_waiters();
    }

    fn count(&self, was_paused: bool, is_paused: bool) {
        match (was_paused, is_paused) {
            (false, true) => drop(self.paused.fetch_add(1, Ordering::AcqRel)),
            (true, false) => drop(self.paused.fetch_sub(1, Ordering::AcqRel)),
            _ => {}
        }
    }
}
