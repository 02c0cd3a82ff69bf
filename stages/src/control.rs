//! Control: pauses and resumes actors, durably, and takes actors out of memory on request.
//!
//! A change is stored first and takes effect then. Changes come one after the other; each is finished also when its client has
//! gone. A change that fails may have been stored all the same: its actors are stored as they are in memory, each second until the
//! store has them, and in any case before the next change.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;
use tidegate_pipeline::{Drain, MAX_PAUSED};
use tokio::sync::{Semaphore, oneshot};
use tracing::{error, info};

use crate::actor::ActorRef;
use crate::due::DueWork;
use crate::error::Error;
use crate::maintenance::Maintenance;
use crate::placement::{Mailboxes, overloaded};
use crate::ports::{Clock, Pause, StateStore, StoreError};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::settling::Settling;
use crate::store_limit::in_time;

/// Changes that are stored together.
const TOGETHER: usize = 256;
/// Pauses that have ended and are remembered, at most.
const MAX_ENDED: usize = MAX_PAUSED;

/// See the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Control(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) directory: Arc<Directory>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) maintenance: Maintenance,
    pub(crate) due: DueWork,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Drain,
    /// One change at a time.
    pub(crate) turn: Semaphore,
    /// Actors of a change that failed: the store may have it.
    pub(crate) in_doubt: Mutex<HashSet<ActorRef, Seeded>>,
    pub(crate) settling: Settling,
}

impl Control {
    /// Whether the breaker of the store is open, and for how long it was in all.
    pub(crate) fn store_breaker(&self) -> (bool, Duration) {
        self.0.maintenance.0.lookup.store_breaker()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Takes over the pauses that earlier starts have stored. Before any call is made.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn recall(&self) -> Result<(), Error> {
        let all = in_time(self.0.store.pauses()).await?;
        for pause in all {
            self.0.apply(pause);
        }
        let paused = self.0.directory.pauses.paused();
        if paused > 0 {
            info!(paused, "actors are paused");
        }
        Ok(())
    }

    /// Pauses actors. Returns how many of them were not paused before.
    ///
    /// # Errors
    /// When too many would be paused, the store fails, or the mesh is draining. Some may be paused then.
    pub(crate) async fn pause(&self, actors: Vec<ActorRef>, by: &str) -> Result<usize, Error> {
        let (inner, by) = (self.0.clone(), by.to_owned());
        self.finish(async move {
            let paused = inner.pause(actors, &by).await;
            inner.settle_later();
            paused
        })
        .await
    }

    /// Resumes actors. Returns how many of them were paused.
    ///
    /// # Errors
    /// When the store fails, or the mesh is draining. Some may be resumed then.
    pub(crate) async fn resume(&self, actors: Vec<ActorRef>) -> Result<usize, Error> {
        let inner = self.0.clone();
        self.finish(async move {
            let resumed = inner.resume(actors).await;
            inner.settle_later();
            resumed
        })
        .await
    }

    /// Takes an actor out of memory once its last change is durable. A paused actor leaves while it is paused.
    ///
    /// # Errors
    /// When its turn does not come in time, the last change cannot be written, or the actor is paused and a turn of it runs.
    pub(crate) async fn deactivate(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        if !entry.is_paused() {
            return self.0.mailboxes.ask_to_leave(entry)?.answer().await;
        }
        let Some(held) = self.0.mailboxes.queue.hold_paused(&entry.mailbox) else {
            let text = format!("{} is paused, and a turn of it runs: cancel it first", entry.actor);
            return Err(Error::Conflict(text));
        };
        let (inner, entry) = (self.0.clone(), entry.clone());
        self.finish(async move {
            let left = inner.maintenance.deactivate(&entry).await;
            drop(held);
            left
        })
        .await
    }

    /// Makes a change in a task of its own, which the mesh joins.
    async fn finish<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, outcome) = oneshot::channel();
        self.0.tasks.spawn(async move { drop(done.send(change.await)) });
        outcome.await.unwrap_or(Err(Error::Draining))
    }
}

impl Inner {
    async fn pause(&self, actors: Vec<ActorRef>, by: &str) -> Result<usize, Error> {
        let _turn = self.turn.acquire().await.map_err(|_| Error::Draining)?;
        self.settle().await?;
        let pauses = &self.directory.pauses;
        let new: Vec<_> = actors.into_iter().filter(|actor| !pauses.is_paused(actor)).collect();
        if pauses.paused() + new.len() > MAX_PAUSED {
            let reason = format!("at most {MAX_PAUSED} actors are paused at once");
            return Err(overloaded("pauses", reason));
        }
        for actors in new.chunks(TOGETHER) {
            self.refuse_while_closed()?;
            let since = self.clock.now();
            let pause = |actor: &ActorRef| Pause {
                actor: actor.clone(),
                since,
                by: by.into(),
                ended: None,
            };
            let stored: Vec<_> = actors.iter().map(pause).collect();
            self.stored(actors, self.store.put_pauses(stored.clone())).await?;
            for pause in stored {
                self.apply(pause);
            }
        }
        Ok(new.len())
    }

    async fn resume(&self, actors: Vec<ActorRef>) -> Result<usize, Error> {
        let _turn = self.turn.acquire().await.map_err(|_| Error::Draining)?;
        self.settle().await?;
        let pauses = &self.directory.pauses;
        let now = self.clock.now();
        let (over, remembered) = pauses.over(now);
        for actors in over.chunks(TOGETHER) {
            in_time(self.store.remove_pauses(actors.to_vec())).await?;
            for actor in actors {
                pauses.remove(actor, || {});
            }
        }
        let to_resume: Vec<_> = actors
            .iter()
            .filter_map(|actor| pauses.of(actor))
            .filter(|pause| pause.ended.is_none())
            .collect();
        let forgets = remembered + to_resume.len() > MAX_ENDED;
        for together in to_resume.chunks(TOGETHER) {
            self.refuse_while_closed()?;
            let ended = |pause: &Pause| Pause { ended: Some(now), ..pause.clone() };
            let ended: Vec<_> = together.iter().map(ended).collect();
            let actors: Vec<_> = ended.iter().map(|pause| pause.actor.clone()).collect();
            let ending = if forgets {
                self.store.remove_pauses(actors.clone())
            } else {
                self.store.put_pauses(ended.clone())
            };
            self.stored(&actors, ending).await?;
            for pause in ended {
                self.apply(pause);
            }
        }
        self.due.look_again();
        Ok(to_resume.len())
    }

    /// Waits for a change of these actors to be stored.
    async fn stored(
        &self,
        actors: &[ActorRef],
        change: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let outcome = in_time(change).await;
        if outcome.is_err() {
            self.in_doubt.lock().extend(actors.iter().cloned());
        }
        outcome
    }

    /// Stores the actors of a change that failed after a pause, and again until that succeeds or clients are refused.
    fn settle_later(self: &Arc<Self>) {
        if self.in_doubt.lock().is_empty() {
            return;
        }
        let this = self.clone();
        self.settling.later(async move {
            // Whoever has the turn stores them first, or calls this method again: no task has to wait for that.
            let Ok(_turn) = this.turn.try_acquire() else { return };
            if this.settle().await.is_err() && !this.mailboxes.is_closed() {
                this.settle_later();
            }
        });
    }

    /// Stores actors of a change that failed as they are in memory.
    async fn settle(&self) -> Result<(), Error> {
        let in_doubt: Vec<_> = self.in_doubt.lock().iter().cloned().collect();
        let pause = |actor: &ActorRef| self.directory.pauses.of(actor);
        let (known, unknown): (Vec<_>, Vec<_>) =
            in_doubt.into_iter().partition(|actor| pause(actor).is_some());
        if !unknown.is_empty() {
            in_time(self.store.remove_pauses(unknown)).await?;
        }
        if !known.is_empty() {
            in_time(self.store.put_pauses(known.iter().filter_map(pause).collect())).await?;
        }
        self.in_doubt.lock().clear();
        Ok(())
    }

    /// Makes a stored pause, or its end, take effect.
    fn apply(&self, pause: Pause) {
        let (actor, is_paused) = (pause.actor.clone(), pause.ended.is_none());
        let entry = self.directory.find(actor.system(), actor.name());
        self.directory.pauses.put(pause, || {
            // Here, because a call pauses a new member of a paused pool before or after this change, and not meanwhile.
            let members = self.directory.pools.set_paused(&actor, is_paused);
            if let Some(entry) = &entry {
                entry.set_paused(is_paused);
            }
            let entries: Vec<_> = members.into_iter().chain(entry).collect();
            let mailboxes = entries.iter().map(|entry| &entry.mailbox).chain([&actor]);
            for mailbox in mailboxes {
                if !is_paused {
                    self.mailboxes.queue.resume(mailbox);
                } else if let Err(error) = self.mailboxes.queue.pause(mailbox) {
                    error!(%actor, %error, "a paused actor is not held back");
                }
            }
        });
    }

    fn refuse_while_closed(&self) -> Result<(), Error> {
        if self.mailboxes.is_closed() { Err(Error::Draining) } else { Ok(()) }
    }
}
