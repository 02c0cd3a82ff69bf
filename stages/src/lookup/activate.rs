//! Activate: loads what the store has of an actor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Halt, Inner};
use crate::activation::Live;
use crate::activation::incarnation::Incarnation;
use crate::call::{Activated, Task};
use crate::error::Error;
use crate::ports::{Save, StoreError, TakenOver};
use crate::registry::entry::{CheckedOut, Entry, Spec};
use crate::state::{Head, Status};
use crate::store_breaker::Access;
use crate::store_limit::in_time;

/// How long an activation waits for the commits of an earlier one.
const EARLIER_COMMITS_LIMIT: Duration = Duration::from_secs(10);

impl Inner {
    /// Loads the actor. First waits until the outcome of all commits of an earlier activation is known. `is_first`: whether
    /// its turn is tried for the first time.
    pub(super) async fn activate(
        &self,
        entry: &Arc<Entry>,
        is_first: bool,
    ) -> Result<CheckedOut, Halt> {
        let earlier = entry.memory.lock().incarnation.clone();
        if let Some(earlier) = earlier
            && timeout(EARLIER_COMMITS_LIMIT, earlier.settled()).await.is_err()
        {
            let reason =
                "older commits of the actor are still on their way to the store".to_owned();
            return Err(Halt::end(Error::Overloaded {
                reason,
                retry_after: Duration::from_secs(1),
            }));
        }
        let number = self.next_incarnation.fetch_add(1, Ordering::Relaxed);
        let epoch = self.placement.owner_epoch(&entry.actor);
        let incarnation = Arc::new(Incarnation::new(number, epoch));
        let spec = entry.spec();
        let mut live = Box::new(if spec.hosted.definition.stateful {
            if is_first {
                self.retry_budgets.store.deposit();
            }
            let live = self.load_stored(entry, &spec, &incarnation).await?;
            entry.owned_under.store(epoch, Ordering::Relaxed);
            live
        } else {
            Live::fresh(incarnation.clone(), &spec.hosted.definition, false)
        });
        if let Some(revision) = spec.revision.filter(|_| spec.hosted.definition.stateful) {
            self.restore_at_spawn(entry, &mut live, revision).await?;
        }
        debug!(actor = %entry.actor, incarnation = number, "activated");
        self.activations.increment(1);
        entry.memory.lock().incarnation = Some(incarnation);
        let definition = &spec.hosted.definition;
        self.timers.eviction.activated(entry, definition.stateful, live.bytes());
        self.timers.used(entry, definition);
        if live.is_behind() {
            self.timers.changed(entry, definition);
        }
        Ok(CheckedOut { entry: entry.clone(), spec, live })
    }

    /// Loads what the store has of an actor.
    ///
    /// After a crash the head is written once more under the epoch of this start, so that no late write of the former start
    /// counts. A store that keeps late writes out by itself is spared that. An actor with rows of effects is
    /// [taken over](super::take_over) instead. A revision that is missing is appended again, also after an orderly end: the former
    /// start may have been killed before it wrote the revision (decisions 14 and 16).
    async fn load_stored(
        &self,
        entry: &Entry,
        spec: &Spec,
        incarnation: &Arc<Incarnation>,
    ) -> Result<Live, Halt> {
        let head = self.read(self.store.load(&entry.key)).await?;
        let taken_over = self.take_over(entry, incarnation.epoch).await?;
        let was_taken_over = taken_over.is_some() || entry.taken_over_early.load(Ordering::Relaxed);
        let (head, seen) = match taken_over {
            Some(TakenOver { head, seen }) => (head, seen),
            None if entry.has_seen.load(Ordering::Relaxed) => {
                (head, self.read(self.store.seen(&entry.key)).await?)
            }
            None => (head, Vec::new()),
        };
        let mut live = self.load_head(entry, spec, incarnation, head, was_taken_over).await?;
        entry.has_seen.store(!seen.is_empty(), Ordering::Relaxed);
        for seen in seen {
            live.see(seen);
        }
        Ok(live)
    }

    /// The memory that a head is for; the head and its revision are written again where that is needed.
    async fn load_head(
        &self,
        entry: &Entry,
        spec: &Spec,
        incarnation: &Arc<Incarnation>,
        head: Option<Head>,
        was_taken_over: bool,
    ) -> Result<Live, Halt> {
        let Some(head) = head else {
            return Ok(Live::fresh(incarnation.clone(), &spec.hosted.definition, true));
        };
        entry.newest_record_us.fetch_max(head.at.0, Ordering::Relaxed);
        // An orderly end under this epoch was acknowledged, its revision included.
        let is_older = head.epoch != incarnation.epoch;
        let was_active = head.status != Status::Deactivated;
        if !is_older && !was_taken_over && !was_active {
            return Ok(Live::loaded(incarnation.clone(), head, None));
        }
        let mut newest = None;
        if head.revision > 0 {
            newest = self.read(self.store.load_revision(&entry.key, head.revision)).await?;
        }
        let missing = head.revision > 0 && newest.is_none();
        let may_be_overtaken = is_older && was_active && !self.store.keeps_former_owners_out();
        if may_be_overtaken || missing {
            let (epoch, number) = (incarnation.epoch, incarnation.number);
            let again = Head { epoch, incarnation: number, ..head.clone() };
            if missing {
                newest = Some(again.as_revision());
            }
            self.write(Save::of_head(entry.key.clone(), again, missing)).await?;
        }
        Ok(Live::loaded(incarnation.clone(), head, newest.as_ref()))
    }

    /// Makes a save durable before any turn sees its content.
    async fn write(&self, save: Save) -> Result<(), Halt> {
        let saving = self.store.save_all(vec![save]);
        self.written(async { saving.await.pop().unwrap_or_else(no_answer) }).await
    }

    /// What a write that is part of a load comes to, in time. The store's breaker learns of it.
    pub(super) async fn written<T>(
        &self,
        writing: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Halt> {
        let written = in_time(writing).await;
        match &written {
            Ok(_) => self.store_breaker.record_success(Access::Write),
            // It is part of a load.
            Err(error) => self.store_breaker.record_failure(Access::Read, error),
        }
        written.map_err(Halt::retryable)
    }

    /// Reads from the store, within its time limit. Reports the outcome to the store's breaker.
    pub(super) async fn read<T>(
        &self,
        reading: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Halt> {
        let read = in_time(reading).await;
        match &read {
            Ok(_) => self.store_breaker.record_success(Access::Read),
            Err(error) => self.store_breaker.record_failure(Access::Read, error),
        }
        read.map_err(Halt::retryable)
    }

    /// Makes the revision that a spawn asked for the current state, once, durably, before any turn sees it. When there is no
    /// such revision the current state stays, as the protocol documents. It also stays when it is that revision's already: an
    /// earlier attempt may have got as far.
    async fn restore_at_spawn(
        &self,
        entry: &Arc<Entry>,
        live: &mut Live,
        number: u64,
    ) -> Result<(), Halt> {
        let found = self.read(self.store.load_revision(&entry.key, number)).await?;
        if let Some(revision) = found {
            if live.change(revision.content) {
                let at = entry.record_time(self.timers.now());
                let save = live.save(&entry.key, Status::Activated, true, at);
                self.write(save).await?;
            }
        } else {
            warn!(actor = %entry.actor, revision = number, "no such revision: going on with the current state");
        }
        self.registrar.restored(entry, number).await.map_err(Halt::retryable)
    }

    /// Loads what a checkpoint or a restore needs to see of the history.
    pub(super) async fn revisions_for(&self, activated: &mut Activated) -> Result<(), Halt> {
        let number = match activated.task {
            // An orderly end spared the activation a look at the newest revision.
            Task::Checkpoint(_) => activated.actor.live.unseen_revision(),
            Task::Restore(number, _) => Some(number),
            _ => return Ok(()),
        };
        let CheckedOut { entry, spec, live } = &mut activated.actor;
        if !spec.hosted.definition.stateful {
            let name = entry.actor.name();
            let text =
                format!("Actor {name} is stateless: nothing of it is kept, and it has no history");
            return Err(Halt::end(Error::Conflict(text)));
        }
        let Some(number) = number else { return Ok(()) };
        let found = self.read(self.store.load_revision(&entry.key, number)).await?;
        if matches!(activated.task, Task::Checkpoint(_)) {
            live.see_revision(found.as_ref());
        } else if found.is_none() {
            let (system, name) = (entry.actor.system(), entry.actor.name());
            return Err(Halt::end(Error::no_revision(system, name, number)));
        } else {
            activated.older = found;
        }
        Ok(())
    }
}

fn no_answer() -> Result<(), StoreError> {
    Err(StoreError::Unknown("the state store gave no answer".into()))
}
