//! Lookup: finds the actor in memory, or activates it from the store.
//!
//! In [`Placed`] with its key held, out [`LookedUp`]. An actor in memory is found at once; for a load the key is parked. A
//! load that fails returns a turn that may be parked and tried again. Every other error ends the turn before its action has
//! started. A turn that needs the store passes the store's breaker. A turn of an actor in memory that is not expected to
//! write does not need it.

mod activate;
mod take_over;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use metrics::{Counter, counter};
use tokio::time::Instant;
use tower::Service;

use crate::activation::incarnation::Incarnation;
use crate::call::{Activated, Failed, LookedUp, ParkedWork, Placed, StageResult, Task};
use crate::error::Error;
use crate::metrics::ACTIVATIONS_TOTAL;
use crate::places::Place;
use crate::ports::{Placement, StateStore, StoreError};
use crate::registry::directory::Directory;
use crate::registry::entry::{CheckedOut, Entry};
use crate::registry::registration::Registrar;
use crate::retry_budget::RetryBudgets;
use crate::store_breaker::{Probe, Refusal, StoreAccess, StoreBreaker};
use crate::timer::Timers;

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lookup(Arc<Inner>);

/// What lookup works with.
#[derive(Debug)]
struct Inner {
    directory: Arc<Directory>,
    store: Arc<dyn StateStore>,
    registrar: Registrar,
    placement: Arc<dyn Placement>,
    store_breaker: Arc<StoreBreaker>,
    retry_budgets: Arc<RetryBudgets>,
    timers: Timers,
    next_incarnation: AtomicU64,
    activations: Counter,
}

impl Lookup {
    pub(crate) fn new(
        directory: Arc<Directory>,
        store: Arc<dyn StateStore>,
        registrar: Registrar,
        placement: Arc<dyn Placement>,
        store_breaker: Arc<StoreBreaker>,
        retry_budgets: Arc<RetryBudgets>,
        timers: Timers,
    ) -> Self {
        Self(Arc::new(Inner {
            directory,
            store,
            registrar,
            placement,
            store_breaker,
            retry_budgets,
            timers,
            next_incarnation: AtomicU64::new(1),
            activations: counter!(ACTIVATIONS_TOTAL),
        }))
    }

    /// An activation without anything in memory, for a commit of an actor that is not loaded. The commits of earlier ones are
    /// settled.
    pub(crate) fn incarnation_of(&self, entry: &Entry) -> Arc<Incarnation> {
        let number = self.0.next_incarnation.fetch_add(1, Ordering::Relaxed);
        Arc::new(Incarnation::new(number, self.0.placement.owner_epoch(&entry.actor)))
    }

    /// Whether the breaker of the store is open, and for how long it was in all.
    pub(crate) fn store_breaker(&self) -> (bool, Duration) {
        self.0.store_breaker.view()
    }

    /// Notes that an actor has left memory.
    pub(crate) fn left(&self, entry: &Entry) {
        self.0.timers.eviction.left(entry);
    }
}

impl Inner {
    /// The actor as it is in memory; `None` when it has to be loaded.
    fn in_memory(&self, placed: &Placed) -> Result<Option<CheckedOut>, Halt> {
        if let Some((waited, why)) = placed.task.late_after() {
            return Err(Halt::end(Error::NotStarted(waited, why.into())));
        }
        let entry = &placed.entry;
        entry.check_registered().map_err(Halt::end)?;
        // A turn without a waiting caller may wait until the store works again.
        let retryable = placed.task.is_patient();
        let found = CheckedOut::take(entry).map_err(|error| Halt { error, retryable })?;
        entry.touch(self.directory.now_ms());
        // Registered anew as stateful at last: what is in memory is not its state.
        Ok(found.filter(|found| found.live.fits(&found.spec.hosted.definition)))
    }

    /// Asks the breaker for a turn. A load waits for a store that cannot be read; a change is refused at once.
    fn may_use_store(&self, placed: &Placed, is_load: bool) -> Result<Option<Probe>, Halt> {
        if placed.place.as_ref().is_some_and(Place::is_of_probe) {
            return Ok(None);
        }
        let read_at = placed.place.as_ref().and_then(|place| place.read_at);
        match self.store_breaker.ask(read_at) {
            StoreAccess::Free => Ok(None),
            StoreAccess::Probe(probe) => Ok(Some(probe)),
            StoreAccess::Refused(Refusal { error, retry_after, by_write }) => {
                let reason = format!("the state store fails: {error}");
                let is_read = is_load && placed.place.is_none();
                if is_read && matches!(error, StoreError::Full(_)) {
                    // A full disk is read as before.
                    return Ok(None);
                }
                if is_load && !by_write {
                    return Err(Halt::retryable(StoreError::Unavailable(reason)));
                }
                let retryable = placed.task.is_patient();
                Err(Halt { error: Error::Overloaded { reason, retry_after }, retryable })
            }
        }
    }

    /// Finds the actor of a turn, or returns the work that the turn has to wait for.
    fn look_up(self: &Arc<Self>, mut placed: Placed) -> StageResult<LookedUp> {
        let found = match self.in_memory(&placed) {
            Ok(found) => found,
            Err(halt) => return Err(halt.of(placed)),
        };
        let Some(actor) = found else { return self.load(placed) };
        if placed.place.is_some() && actor.spec.hosted.definition.stateful {
            match self.may_use_store(&placed, false) {
                Ok(None) => {}
                Ok(Some(probe)) if probe.has_read => {
                    // It is over when its commit is.
                    if let Some(place) = &mut placed.place {
                        place.probe = Some(probe);
                    }
                }
                Ok(Some(probe)) => {
                    actor.check_in();
                    return Ok(LookedUp::Loading(self.clone().probe(placed, probe).boxed()));
                }
                Err(halt) => {
                    actor.check_in();
                    return Err(halt.of(placed));
                }
            }
        }
        self.timers.used(&actor.entry, &actor.spec.hosted.definition);
        Ok(LookedUp::Here(activated(placed, actor)))
    }

    /// Loads the actor. Its turn goes on at once when that takes no time.
    fn load(self: &Arc<Self>, mut placed: Placed) -> StageResult<LookedUp> {
        if let Task::WarmUp(done, timing) = placed.task {
            if self.timers.eviction.is_full() {
                // Others would leave for it, and it for others: its first call loads it.
                done.send(Ok(()));
                return Ok(LookedUp::Loading(ready(Ok(None)).boxed()));
            }
            placed.task = Task::WarmUp(done, timing);
        }
        let mut probe = None;
        if placed.entry.spec().hosted.definition.stateful {
            probe = match self.may_use_store(&placed, true) {
                Ok(probe) => probe,
                Err(halt) => return Err(halt.of(placed)),
            };
        }
        let (entry, is_first) = (placed.entry.clone(), placed.retries.is_first());
        let stage = self.clone();
        let mut activating = async move { stage.activate(&entry, is_first).await }.boxed();
        match (&mut activating).now_or_never() {
            Some(Ok(actor)) if probe.is_some() && placed.place.is_some() => {
                // It is expected to write: it asks again, as a turn that has read.
                actor.check_in();
                note_read(&mut placed);
                drop(probe);
                return self.look_up(placed);
            }
            Some(Ok(actor)) => return Ok(LookedUp::Here(activated(placed, actor))),
            Some(Err(halt)) => return Err(halt.of(placed)),
            None => {}
        }
        if probe.is_none() {
            // Others need it meanwhile.
            placed.place = None;
        }
        Ok(LookedUp::Loading(loading(placed, activating, probe)))
    }

    /// Asks the store for the actor's head, so that a failing store costs no action. The right of the probe ends with that: the
    /// turn may have to wait for a permit of its host before it goes on.
    async fn probe(
        self: Arc<Self>,
        mut placed: Placed,
        _reads: Probe,
    ) -> StageResult<Option<Placed>> {
        match self.read(self.store.load(&placed.entry.key)).await {
            Ok(_) => {
                note_read(&mut placed);
                Ok(Some(placed))
            }
            Err(mut halt) => {
                halt.retryable = placed.task.is_patient();
                Err(halt.of(placed))
            }
        }
    }

    /// Loads the revision that a turn needs.
    async fn with_revisions(
        self: Arc<Self>,
        mut activated: Box<Activated>,
    ) -> StageResult<LookedUp> {
        match self.revisions_for(&mut activated).await {
            Ok(()) => Ok(LookedUp::Here(activated)),
            Err(halt) => Err(activated.fail(|placed| halt.of(placed))),
        }
    }
}

/// Notes that a turn has read from the store as a probe.
fn note_read(placed: &mut Placed) {
    if let Some(place) = &mut placed.place {
        place.read_at = Some(Instant::now());
    }
}

/// Waits until the actor is in memory. The right of a probe ends with that.
fn loading(
    mut placed: Placed,
    activating: BoxFuture<'static, Result<CheckedOut, Halt>>,
    probe: Option<Probe>,
) -> ParkedWork {
    Box::pin(async move {
        match activating.await {
            Ok(actor) => {
                actor.check_in();
                if probe.is_some() {
                    note_read(&mut placed);
                }
                Ok(Some(placed))
            }
            Err(halt) => Err(halt.of(placed)),
        }
    })
}

fn activated(placed: Placed, mut actor: CheckedOut) -> Box<Activated> {
    let Placed { entry, host_limit, task, place, retries } = placed;
    actor.spec.hosted = actor.spec.hosted.at(host_limit, &entry.mailbox);
    Box::new(Activated { actor, task, host_limit, place, retries, older: None })
}

/// Why a turn ends here; its action did not run.
#[derive(Debug)]
struct Halt {
    error: Error,
    /// Whether another try may succeed.
    retryable: bool,
}

impl Halt {
    fn end(error: Error) -> Self {
        Self { error, retryable: false }
    }

    fn retryable(error: impl Into<Error>) -> Self {
        Self { error: error.into(), retryable: true }
    }

    fn of(self, placed: Placed) -> Box<Failed> {
        let fail = if self.retryable { Failed::retryable } else { Failed::before_action };
        fail(placed, self.error)
    }
}

impl Service<Placed> for Lookup {
    type Response = LookedUp;
    type Error = Box<Failed>;
    type Future = Either<Ready<StageResult<LookedUp>>, BoxFuture<'static, StageResult<LookedUp>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Box<Failed>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, placed: Placed) -> Self::Future {
        let needs_revisions = placed.task.needs_revisions();
        match self.0.look_up(placed) {
            Ok(LookedUp::Here(activated)) if needs_revisions => {
                Either::Right(Box::pin(self.0.clone().with_revisions(activated)))
            }
            looked_up => Either::Left(ready(looked_up)),
        }
    }
}
