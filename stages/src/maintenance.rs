//! Maintenance: turns that activate nothing and run no action: snapshots, deactivations and deletes.
//!
//! Maintenance holds the actor's key like every turn, so it never runs beside a call of the same actor. Part of the places
//! at the checkpoint is kept for maintenance; when none is free, the turn is postponed. The store is waited for with the
//! key parked.

mod letters;
mod rows;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Ready, ready};
use metrics::counter;
use tower::Service;
use tracing::{debug, info, warn};

use crate::call::{Committed, Completion, Failed, ParkedWork, Placed, Planned, StageResult, Task};
use crate::checkpoint::Submit;
use crate::error::Error;
use crate::lookup::Lookup;
use crate::metrics::{DEACTIVATIONS_TOTAL, STATELESS_EVICTIONS_TOTAL};
use crate::places::Place;
use crate::ports::{Save, StateStore, StoreError};
use crate::registry::entry::{CheckedOut, Entry};
use crate::registry::kept_rows::KeptRows;
use crate::registry::registration::Registrar;
use crate::reply::{Deadlines, Reply, Timing};
use crate::side_effects::SideEffects;
use crate::state::Status;
use crate::store_limit::in_time;

/// Why an actor leaves memory.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// It was not used for so long.
    Idle(Duration),
    /// A shutdown asks for it.
    Asked,
    /// There is too much in memory.
    Evicted,
}

impl Leaving {
    fn label(self) -> &'static str {
        match self {
            Leaving::Idle(_) => "idle",
            Leaving::Asked => "asked",
            Leaving::Evicted => "evicted",
        }
    }
}

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Maintenance(pub(crate) Arc<MaintenanceInner>);

/// What maintenance works with.
#[derive(Debug)]
pub(crate) struct MaintenanceInner {
    pub(crate) lookup: Lookup,
    pub(crate) side_effects: SideEffects,
    pub(crate) submit: Submit,
    pub(crate) registrar: Registrar,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) kept_rows: KeptRows,
}

impl Maintenance {
    pub(crate) fn new(
        (lookup, side_effects, submit): (&Lookup, &SideEffects, &Submit),
        registrar: &Registrar,
        kept_rows: KeptRows,
    ) -> Maintenance {
        Maintenance(Arc::new(MaintenanceInner {
            lookup: lookup.clone(),
            side_effects: side_effects.clone(),
            submit: submit.clone(),
            registrar: registrar.clone(),
            store: kept_rows.store.clone(),
            kept_rows,
        }))
    }

    /// Takes an actor out of memory whose key is held.
    ///
    /// # Errors
    /// When its last change cannot be written, or its outcome is unknown.
    pub(crate) async fn deactivate(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        let limits = Deadlines::default();
        let (done, waiting) = Reply::new(&Timing::new(limits, Some(limits.host)));
        if let Some(leaving) = self.0.clone().deactivate(entry, None, done) {
            // It replies.
            drop(leaving.await);
        }
        waiting.answer().await
    }
}

impl MaintenanceInner {
    fn run(self: Arc<Self>, placed: Placed) -> StageResult<Option<ParkedWork>> {
        let Placed { entry, host_limit, task, place, retries } = placed;
        match task {
            Task::Snapshot => {
                self.snapshot(&entry);
                Ok(None)
            }
            Task::Deactivate { idle, done } => Ok(self.deactivate(&entry, idle, done)),
            Task::Evict { last_used_ms, done } => Ok(self.evict(&entry, last_used_ms, done)),
            Task::Delete(question) => {
                if let Err(error) = question.start() {
                    let task = Task::Delete(question);
                    let placed = Placed { entry, host_limit, task, place, retries };
                    return Err(Failed::before_action(placed, error));
                }
                Ok(Some(Box::pin(async move {
                    question.reply.send(self.delete(&entry).await);
                    Ok(None)
                })))
            }
            Task::DeadLetters(asked) => {
                if let Err(error) = asked.question.start() {
                    let task = Task::DeadLetters(asked);
                    let placed = Placed { entry, host_limit, task, place, retries };
                    return Err(Failed::before_action(placed, error));
                }
                Ok(Some(Box::pin(async move {
                    self.dead_letters(&entry, *asked).await;
                    Ok(None)
                })))
            }
            Task::TakeOver(done) => Ok(Some(Box::pin(async move {
                let taken_over = match entry.check_registered() {
                    Ok(()) => self.lookup.take_over_early(&entry).await,
                    removed => removed,
                };
                done.send(taken_over);
                Ok(None)
            }))),
            task => {
                let error = Error::Internal(format!("{task:?} is no maintenance"));
                let placed = Placed { entry, host_limit, task, place, retries };
                Err(Failed::before_action(placed, error))
            }
        }
    }

    /// Takes a place for an actor's write.
    fn place(&self, actor: &CheckedOut) -> Option<Place> {
        let bytes = actor.live.content.bytes();
        self.submit.0.queue.places().try_maintain(&actor.entry, bytes)
    }

    /// Checks the actor in and hands its write to the checkpoint.
    fn submit(&self, actor: CheckedOut, written: Option<(Save, Place)>, completion: Completion) {
        let (entry, incarnation) = (actor.entry.clone(), actor.live.incarnation.clone());
        actor.check_in();
        let (save, place) = written.unzip();
        let rest = Committed::of(completion);
        self.submit.0.queue.hand_in(Planned::new(entry, incarnation, save, place, rest));
    }

    /// Appends the content to the history if it changed since the last time.
    fn snapshot(&self, entry: &Arc<Entry>) {
        let mut actor = match CheckedOut::take(entry) {
            Ok(Some(actor)) => actor,
            Ok(None) => return,
            Err(in_doubt) => {
                debug!(actor = %entry.actor, error = %in_doubt, "snapshot postponed");
                let definition = entry.spec().hosted.definition;
                return self.submit.0.timers.changed(entry, &definition);
            }
        };
        if !actor.live.is_dirty() && !actor.live.is_unrevised() {
            return actor.check_in();
        }
        let Some(place) = self.place(&actor) else {
            debug!(actor = %entry.actor, "snapshot postponed: no place on the way to the store is free");
            self.submit.0.timers.changed(entry, &actor.spec.hosted.definition);
            return actor.check_in();
        };
        let append = actor.live.is_unrevised();
        let save = self.side_effects.0.save_as(&mut actor, Status::Activated, append);
        self.submit(actor, Some((save, place)), Completion::Nothing);
    }

    /// Takes the actor out of memory once its last change is durable.
    fn deactivate(
        self: Arc<Self>,
        entry: &Arc<Entry>,
        idle: Option<Duration>,
        done: Reply<()>,
    ) -> Option<ParkedWork> {
        let timers = &self.submit.0.timers;
        let actor = match CheckedOut::take(entry) {
            Ok(Some(actor)) => actor,
            Ok(None) => {
                self.lookup.left(entry);
                self.registrar.tidy(entry);
                done.send(Ok(()));
                return None;
            }
            Err(in_doubt) => {
                if let Some(idle) = idle {
                    timers.idle_after(entry, idle, idle);
                }
                done.send(Err(in_doubt));
                return None;
            }
        };
        if let Some(idle) = idle {
            let used = timers.unused_for(entry);
            if used < idle {
                actor.check_in();
                timers.idle_after(entry, idle, idle.saturating_sub(used));
                done.send(Ok(()));
                return None;
            }
        }
        self.leave(actor, idle.map_or(Leaving::Asked, Leaving::Idle), done)
    }

    /// Takes the actor out of memory because there is too much in it. Not if it was used since it was chosen, or has a commit
    /// in flight.
    fn evict(
        self: Arc<Self>,
        entry: &Arc<Entry>,
        last_used_ms: u64,
        done: Reply<()>,
    ) -> Option<ParkedWork> {
        match CheckedOut::take(entry) {
            Ok(Some(actor)) => {
                let is_used = entry.last_used_ms() != last_used_ms;
                if !is_used && actor.live.incarnation.is_settled() {
                    return self.leave(actor, Leaving::Evicted, done);
                }
                actor.check_in();
            }
            Ok(None) => self.lookup.left(entry),
            // It leaves once its commit is not in doubt any more.
            Err(_) => {}
        }
        done.send(Ok(()));
        None
    }

    /// Takes an actor out of memory once its last change is durable.
    fn leave(
        self: Arc<Self>,
        mut actor: CheckedOut,
        why: Leaving,
        done: Reply<()>,
    ) -> Option<ParkedWork> {
        let entry = actor.entry.clone();
        let stateful = actor.spec.hosted.definition.stateful;
        let mut written = None;
        // Whoever is evicted makes space: it writes only what is not stored yet, and not that it has left.
        let is_unkept = match why {
            Leaving::Evicted => actor.live.is_unkept(),
            Leaving::Idle(_) | Leaving::Asked => actor.live.needs_final_save(),
        };
        if stateful && is_unkept {
            let Some(place) = self.place(&actor) else {
                actor.check_in();
                self.stays(&entry, why);
                done.send(Err(no_place()));
                return None;
            };
            let append = actor.live.is_unrevised();
            let save = self.side_effects.0.save_as(&mut actor, Status::Deactivated, append);
            written = Some((save, place));
        }
        let (last, waiting) = Reply::started(Deadlines::default().host);
        self.submit(actor, written, Completion::Done(last));
        let leaving = async move {
            let outcome = waiting.answer().await;
            match &outcome {
                Ok(()) => self.left(&entry, stateful, why),
                Err(error) => {
                    warn!(actor = %entry.actor, %error, "the actor's last change could not be written");
                    self.stays(&entry, why);
                }
            }
            done.send(outcome);
            Ok(None)
        };
        let mut leaving: ParkedWork = Box::pin(leaving);
        // Nothing is waited for when nothing has to be written.
        if (&mut leaving).now_or_never().is_some() { None } else { Some(leaving) }
    }

    /// Notes that an actor has left memory.
    fn left(&self, entry: &Arc<Entry>, stateful: bool, why: Leaving) {
        entry.memory.lock().live = None;
        counter!(DEACTIVATIONS_TOTAL, "reason" => why.label()).increment(1);
        if !stateful && matches!(why, Leaving::Evicted) {
            counter!(STATELESS_EVICTIONS_TOTAL).increment(1);
        }
        self.lookup.left(entry);
        self.registrar.tidy(entry);
    }

    /// Starts the idle time of an actor again that could not leave memory. Does nothing when its activation is abandoned.
    fn stays(&self, entry: &Arc<Entry>, why: Leaving) {
        if let Leaving::Idle(idle) = why {
            self.submit.0.timers.idle_after(entry, idle, idle);
        }
    }

    /// Removes state, history and, when it was spawned, registration.
    async fn delete(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        entry.check_registered()?;
        let incarnation = entry.memory.lock().incarnation.clone();
        if let Some(incarnation) = incarnation {
            // Calls before the delete get the answer that they would get without it.
            in_time(incarnation.settled().map(Ok)).await?;
            incarnation.abandon(&StoreError::Unavailable("the actor was deleted".into()));
        }
        entry.memory.lock().live = None;
        self.lookup.left(entry);
        in_time(self.store.delete(&entry.key)).await?;
        self.registrar.end_timers(entry);
        let is_owned = entry.owned_under.load(Ordering::Relaxed) == self.kept_rows.epoch;
        let leaves = entry.goes_when_deleted();
        let are_left = self.kept_rows.forget(&entry.key, is_owned, leaves).await;
        if let Err(error) = &are_left {
            debug!(actor = %entry.actor, %error, "its rows of effects and its key stay for now");
        }
        let keeps_key = are_left.unwrap_or(true);
        entry.has_seen.store(keeps_key, Ordering::Relaxed);
        self.registrar.forget(entry, keeps_key).await?;
        info!(actor = %entry.actor, "deleted");
        Ok(())
    }
}

fn no_place() -> Error {
    Error::Overloaded {
        reason: "no place on the way to the store is free".into(),
        retry_after: Duration::from_secs(1),
    }
}

impl Service<Placed> for Maintenance {
    type Response = Option<ParkedWork>;
    type Error = Box<Failed>;
    type Future = Ready<StageResult<Option<ParkedWork>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<StageResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, placed: Placed) -> Self::Future {
        ready(self.0.clone().run(placed))
    }
}
