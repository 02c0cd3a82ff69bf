//! Lookup: finds the actor's live state, or activates it: loads what is stored and runs its init action.
//!
//! In a [`Work`] with its key held, out a [`CheckedOut`]. Reaching the store or the host is tried
//! again with the key parked; everything else ends the call here, before its action was started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::activation::Live;
use crate::caller::{Task, Work};
use crate::directory::{Directory, Entry, Source, Spec};
use crate::error::Error;
use crate::incarnation::{Incarnation, Unusable};
use crate::metrics::{ACTIVATIONS_TOTAL, LIVE_ACTORS};
use crate::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use crate::state::{Head, Status};
use crate::store_breaker::StoreBreaker;
use crate::timer::Timers;

/// How long an activation waits for the commits of an earlier one.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// How long the store or the registry may take to answer.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(10);

/// What the store or the registry answers within [`STORE_LIMIT`].
pub(crate) async fn in_time<T>(
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(STORE_LIMIT, answer).await.unwrap_or_else(|_| {
        Err(StoreError::Unknown(format!("the state store gave no answer within {STORE_LIMIT:?}")))
    })
}

/// Why a turn does not go on.
#[derive(Debug)]
pub(crate) struct Halt {
    pub(crate) error: Error,
    /// Whether nothing happened and another try may succeed.
    pub(crate) again: bool,
}

impl Halt {
    /// The turn ends.
    pub(crate) fn end(error: Error) -> Self {
        Self { error, again: false }
    }

    /// The turn may be tried again.
    pub(crate) fn again(error: impl Into<Error>) -> Self {
        Self { error: error.into(), again: true }
    }
}

/// An actor's live state, taken out of its cell. Unless it is [checked in](Self::check_in) it is lost
/// with this value (a panic, an abort), and the next call loads the actor again.
#[derive(Debug)]
pub(crate) struct CheckedOut {
    pub(crate) entry: Arc<Entry>,
    pub(crate) spec: Spec,
    pub(crate) live: Box<Live>,
}

impl CheckedOut {
    /// Takes the live state if it is in memory and sound.
    ///
    /// # Errors
    /// When a commit of the actor is in doubt.
    pub(crate) fn take(entry: &Arc<Entry>) -> Result<Option<Self>, Error> {
        let mut cell = entry.cell.lock();
        match cell.incarnation.as_ref().and_then(|incarnation| incarnation.unusable()) {
            None => {}
            Some(Unusable::InDoubt) => {
                return Err(Error::Overloaded {
                    reason: "the outcome of the actor's last commit is not known yet".into(),
                    retry_after: Duration::from_secs(1),
                });
            }
            Some(Unusable::Abandoned) => cell.live = None,
        }
        let live = cell.live.take();
        drop(cell);
        Ok(live.map(|live| CheckedOut { entry: entry.clone(), spec: entry.spec(), live }))
    }

    /// Puts the live state back for the next call.
    pub(crate) fn check_in(self) {
        self.entry.cell.lock().live = Some(self.live);
    }
}

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    pub(crate) directory: Arc<Directory>,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) store_breaker: Arc<StoreBreaker>,
    pub(crate) timers: Timers,
    pub(crate) epoch: u64,
    next_incarnation: Arc<AtomicU64>,
    activations: Counter,
    live_actors: Gauge,
}

impl Lookup {
    pub(crate) fn new(
        directory: Arc<Directory>,
        store: Arc<dyn StateStore>,
        registry: Arc<dyn Registry>,
        store_breaker: Arc<StoreBreaker>,
        timers: Timers,
        epoch: u64,
    ) -> Self {
        Self {
            directory,
            store,
            registry,
            store_breaker,
            timers,
            epoch,
            next_incarnation: Arc::new(AtomicU64::new(1)),
            activations: counter!(ACTIVATIONS_TOTAL),
            live_actors: gauge!(LIVE_ACTORS),
        }
    }

    /// Finds or loads the actor of this work. Its init action is not run here but by
    /// [`invoke`](crate::invoke), which alone knows the host.
    pub(crate) async fn find(&self, work: &Work) -> Result<CheckedOut, Halt> {
        if let Task::Call(call) = &work.task
            && call.is_late()
        {
            let waited = call.timing.elapsed();
            return Err(Halt::end(Error::NotStarted(waited, "the actor was busy".into())));
        }
        let entry = &work.entry;
        entry.check_registered().map_err(Halt::end)?;
        // What nobody waits for can wait itself until the store works again.
        let again = matches!(&work.task, Task::Call(call) if !call.reply.is_wanted());
        let found = CheckedOut::take(entry).map_err(|error| Halt { error, again })?;
        let stateful = found
            .as_ref()
            .map_or_else(|| entry.spec(), |found| found.spec.clone())
            .hosted
            .definition
            .stateful;
        if stateful && let Some((error, retry_after)) = self.store_breaker.refusal() {
            if let Some(found) = found {
                found.check_in();
            }
            let reason = format!("the state store fails: {error}");
            return Err(Halt { error: Error::Overloaded { reason, retry_after }, again });
        }
        entry.touch(self.directory.now_ms());
        // Registered anew as another actor, or as stateful at last: what is in memory is not its state.
        let found =
            found.filter(|found| found.live.fits(&found.spec.id, &found.spec.hosted.definition));
        match found {
            Some(found) => {
                self.timers.used(entry, &found.spec.hosted.definition).await;
                Ok(found)
            }
            None => self.activate(entry).await,
        }
    }

    /// Loads the actor. Waits first until nothing of an earlier activation is still on its way to the store.
    async fn activate(&self, entry: &Arc<Entry>) -> Result<CheckedOut, Halt> {
        let earlier = entry.cell.lock().incarnation.clone();
        if let Some(earlier) = earlier
            && timeout(SETTLE_LIMIT, earlier.settled()).await.is_err()
        {
            let reason =
                "older commits of the actor are still on their way to the store".to_owned();
            return Err(Halt::end(Error::Overloaded {
                reason,
                retry_after: Duration::from_secs(1),
            }));
        }
        let number = self.next_incarnation.fetch_add(1, Ordering::Relaxed);
        let incarnation = Arc::new(Incarnation::new(number, self.epoch));
        let spec = entry.spec();
        let mut live = Box::new(if spec.hosted.definition.stateful {
            self.load(entry, &spec, &incarnation).await?
        } else {
            Live::fresh(incarnation.clone(), &spec.hosted.definition, None)
        });
        if let Some(revision) = spec.revision.filter(|_| spec.hosted.definition.stateful) {
            self.restore(entry, &spec, &mut live, revision).await?;
        }
        debug!(actor = %entry.actor, incarnation = number, "activated");
        self.activations.increment(1);
        entry.cell.lock().incarnation = Some(incarnation);
        let count = self.directory.add_live(entry);
        self.live_actors.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        self.timers.activated(entry, &spec.hosted.definition, count).await;
        if live.is_behind() {
            self.timers.changed(entry, &spec.hosted.definition);
        }
        Ok(CheckedOut { entry: entry.clone(), spec, live })
    }

    /// What the store has of an actor. After a crash it is written once more under this start's epoch, so
    /// that nothing of the former start can come after it; so is a revision that is missing (decisions 14 and 16).
    async fn load(
        &self,
        entry: &Entry,
        spec: &Spec,
        incarnation: &Arc<Incarnation>,
    ) -> Result<Live, Halt> {
        let Some(head) = in_time(self.store.load(&spec.id)).await.map_err(Halt::again)? else {
            let stored_as = Some(spec.id.clone());
            return Ok(Live::fresh(incarnation.clone(), &spec.hosted.definition, stored_as));
        };
        entry.newest_record_us.fetch_max(head.at.0, Ordering::Relaxed);
        if head.status == Status::Deactivated {
            return Ok(Live::loaded(incarnation.clone(), spec.id.clone(), head, None));
        }
        let mut newest = None;
        if head.revision > 0 {
            let loading = self.store.load_revision(&spec.id, head.revision);
            newest = in_time(loading).await.map_err(Halt::again)?;
        }
        let missing = head.revision > 0 && newest.is_none();
        if head.epoch != self.epoch || missing {
            let again = Head { epoch: self.epoch, incarnation: incarnation.number, ..head.clone() };
            if missing {
                newest = Some(again.as_revision());
            }
            self.write(Save { actor: spec.id.clone(), head: again, append: missing }).await?;
        }
        Ok(Live::loaded(incarnation.clone(), spec.id.clone(), head, newest.as_ref()))
    }

    /// Writes before any call sees what is written.
    async fn write(&self, save: Save) -> Result<(), Halt> {
        let saving = self.store.save(vec![save]);
        let answer = in_time(async { saving.await.pop().unwrap_or_else(no_answer) });
        answer.await.map_err(Halt::again)
    }

    /// Makes the revision that a spawn asked for the current state: durably, before any call sees it, and
    /// once. When there is no such revision the current state stays, as the protocol documents.
    async fn restore(
        &self,
        entry: &Arc<Entry>,
        spec: &Spec,
        live: &mut Live,
        number: u64,
    ) -> Result<(), Halt> {
        let loading = self.store.load_revision(&spec.id, number);
        let found = in_time(loading).await.map_err(Halt::again)?;
        if let Some(revision) = found {
            live.restore(revision);
            let now = self.timers.now();
            let save = live.save(entry, &spec.id, Status::Activated, true, now);
            self.write(save).await?;
        } else {
            warn!(actor = %entry.actor, revision = number, "no such revision: going on with the current state");
        }
        let spawned = Registered::Spawned { id: spec.id.clone(), revision: None };
        let noting = self.registry.apply(vec![RegistryChange::Put(spawned)]);
        in_time(noting).await.map_err(Halt::again)?;
        if let Source::Spawned { parent, .. } = entry.source() {
            self.directory.put(spec.id.clone(), Source::Spawned { parent, revision: None });
        }
        Ok(())
    }

    /// Notes that an actor has left memory.
    pub(crate) fn left(&self, entry: &Entry) {
        let count = self.directory.remove_live(entry);
        self.live_actors.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }
}

fn no_answer() -> Result<(), StoreError> {
    Err(StoreError::Unknown("the state store gave no answer".into()))
}
