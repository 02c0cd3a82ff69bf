//! Lookup: finds the actor's live state, or activates the actor: loads what is stored of it.
//!
//! In [`Placed`] with its key held, out [`Activated`]. What is in memory is found at once; a load that fails returns a
//! turn that may be parked and tried again, everything else ends the turn here, before its action was started.

mod activate;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either, Ready, ready};
use metrics::{Counter, Gauge, counter, gauge};
use tower::Service;

use crate::call::{Activated, Failed, Placed, StageResult, Task};
use crate::error::Error;
use crate::metrics::{ACTIVATIONS_TOTAL, LIVE_ACTORS};
use crate::ports::{Placement, Registry, StateStore};
use crate::registry::directory::Directory;
use crate::registry::entry::{CheckedOut, Entry};
use crate::retry_budget::RetryBudgets;
use crate::store_breaker::StoreBreaker;
use crate::timer::Timers;

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lookup(Arc<Inner>);

/// What it looks things up in.
#[derive(Debug)]
struct Inner {
    directory: Arc<Directory>,
    store: Arc<dyn StateStore>,
    registry: Arc<dyn Registry>,
    placement: Arc<dyn Placement>,
    store_breaker: Arc<StoreBreaker>,
    retry_budgets: Arc<RetryBudgets>,
    timers: Timers,
    next_incarnation: AtomicU64,
    activations: Counter,
    live_actors: Gauge,
}

impl Lookup {
    pub(crate) fn new(
        directory: Arc<Directory>,
        store: Arc<dyn StateStore>,
        registry: Arc<dyn Registry>,
        placement: Arc<dyn Placement>,
        store_breaker: Arc<StoreBreaker>,
        retry_budgets: Arc<RetryBudgets>,
        timers: Timers,
    ) -> Self {
        Self(Arc::new(Inner {
            directory,
            store,
            registry,
            placement,
            store_breaker,
            retry_budgets,
            timers,
            next_incarnation: AtomicU64::new(1),
            activations: counter!(ACTIVATIONS_TOTAL),
            live_actors: gauge!(LIVE_ACTORS),
        }))
    }

    /// Notes that an actor has left memory.
    pub(crate) fn left(&self, entry: &Entry) {
        let count = self.0.directory.remove_live(entry);
        self.0.live_actors.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }
}

impl Inner {
    /// The actor as it is in memory; `None` when it has to be loaded.
    fn in_memory(&self, placed: &Placed) -> Result<Option<CheckedOut>, Halt> {
        if let Some(waited) = placed.task.late_after() {
            return Err(Halt::end(Error::NotStarted(waited, "the actor was busy".into())));
        }
        let entry = &placed.entry;
        entry.check_registered().map_err(Halt::end)?;
        // What nobody waits for can wait itself until the store works again.
        let retryable = placed.task.is_patient();
        let found = CheckedOut::take(entry).map_err(|error| Halt { error, retryable })?;
        let spec = found.as_ref().map_or_else(|| entry.spec(), |found| found.spec.clone());
        let stateful = spec.hosted.definition.stateful;
        if stateful && let Some((error, retry_after)) = self.store_breaker.refusal() {
            if let Some(found) = found {
                found.check_in();
            }
            let reason = format!("the state store fails: {error}");
            return Err(Halt { error: Error::Overloaded { reason, retry_after }, retryable });
        }
        entry.touch(self.directory.now_ms());
        // Registered anew as another actor, or as stateful at last: what is in memory is not its state.
        Ok(found.filter(|found| found.live.fits(&found.spec.id, &found.spec.hosted.definition)))
    }

    /// Does what takes time: loads the actor, and the revision that its turn needs.
    async fn prepare(
        self: Arc<Self>,
        placed: Placed,
        found: Option<CheckedOut>,
    ) -> StageResult<Activated> {
        let actor = match found {
            Some(found) => found,
            None => match self.activate(&placed).await {
                Ok(actor) => actor,
                Err(halt) => return Err(halt.of(placed)),
            },
        };
        let mut activated = activated(placed, actor);
        match self.revisions_for(&mut activated).await {
            Ok(()) => Ok(activated),
            Err(halt) => Err(activated.fail(|placed| halt.of(placed))),
        }
    }
}

fn activated(placed: Placed, actor: CheckedOut) -> Activated {
    let Placed { entry: _, host_limit, task, retries } = placed;
    Activated { actor, task, host_limit, retries, older: None }
}

/// Why a turn does not go on; its action did not run.
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
    type Response = Activated;
    type Error = Box<Failed>;
    type Future = Either<Ready<StageResult<Activated>>, BoxFuture<'static, StageResult<Activated>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Box<Failed>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, placed: Placed) -> Self::Future {
        let found = match self.0.in_memory(&placed) {
            Ok(found) => found,
            Err(halt) => return Either::Left(ready(Err(halt.of(placed)))),
        };
        if let Some(actor) = &found {
            self.0.timers.used(&actor.entry, &actor.spec.hosted.definition);
        }
        let takes_time = matches!(placed.task, Task::Checkpoint(_) | Task::Restore(..));
        match found {
            Some(actor) if !takes_time => Either::Left(ready(Ok(activated(placed, actor)))),
            found => Either::Right(Box::pin(self.0.clone().prepare(placed, found))),
        }
    }
}
