//! Worker: one turn of an actor, from its mailbox to the checkpoint; the rooms in the order of the walk.
//!
//! A worker holds its actor's key and a slot of the stage's demand, and waits for nobody else while it
//! does (I6). The key is free again as soon as the answer is applied in memory; the reply follows when
//! the checkpoint has made it durable.

mod keep;
mod spawn;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::counter;
use tidegate_pipeline::{Drain, Hold, Turn};
use tokio::time::sleep;
use tower::Service;
use tracing::{debug, info, warn};

use crate::activation::Live;
use crate::caller::{Call, Task, Work};
use crate::checkpoint::CheckpointQueue;
use crate::directory::Entry;
use crate::egress::{Completion, Egress};
use crate::error::Error;
use crate::incarnation::{Settled, Unusable};
use crate::invoke::Invoke;
use crate::lookup::{CheckedOut, Halt, Lookup, in_time};
use crate::metrics::DEACTIVATIONS_TOTAL;
use crate::ports::{Host, Save, StateStore, StoreError};
use crate::registration::Registrar;
use crate::reply::{Deadlines, Reply, Timing};
use crate::side_effects::{Durability, PlannedEffect, SideEffects};
use crate::state::Status;

/// The rooms behind the mailboxes; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Worker<H> {
    pub(crate) lookup: Lookup,
    pub(crate) invoke: Invoke<H>,
    pub(crate) side_effects: SideEffects,
    pub(crate) checkpoint: CheckpointQueue,
    pub(crate) egress: Egress,
    pub(crate) registrar: Registrar,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) tasks: Drain,
}

impl<H: Host> Worker<H> {
    async fn turn(self: Arc<Self>, turn: Turn<Work>) {
        let (mut work, hold) = turn.into_parts();
        if work.take_spawn() {
            return self.spawn_again(work, hold);
        }
        match work.task {
            Task::Call(_)
            | Task::State(..)
            | Task::WarmUp(_)
            | Task::Checkpoint(_)
            | Task::Restore(..) => {
                if let Err((work, halt)) = self.walk(work).await {
                    self.retry_or_fail(work, halt, hold);
                }
            }
            Task::Snapshot => self.snapshot(&work.entry).await,
            Task::Deactivate { idle, done } => self.deactivate(&work.entry, idle, done).await,
            Task::Delete(reply, _permit) => reply.send(self.delete(&work.entry).await),
        }
    }

    /// Tries again later with the key parked and the worker's slot given back, or ends the work.
    fn retry_or_fail(&self, mut work: Work, halt: Halt, hold: Hold<Work>) {
        let pause = if halt.again { work.retries.next() } else { None };
        let Some(pause) = pause else {
            drop(hold);
            return work.fail(halt.error);
        };
        let parked = hold.park();
        // Another task sleeps: this one's place among the worker's is needed by others.
        self.tasks.spawn(async move {
            sleep(pause).await;
            // The host may have moved meanwhile.
            work.host_limit = work.entry.spec().hosted.host_limit;
            parked.resume(work);
        });
    }

    /// The walk of a call: lookup → invoke → side effects → checkpoint.
    async fn walk(&self, work: Work) -> Result<(), (Work, Halt)> {
        let found = match self.lookup.find(&work).await {
            Ok(found) if work.task.needs_host() => self.initialise(found).await,
            found => found,
        };
        let mut actor = match found {
            Ok(actor) => actor,
            Err(halt) => return Err((work, halt)),
        };
        let Work { entry, host_limit, task, retries } = work;
        let completion = match task {
            Task::Call(call) => {
                return match self.call(actor, call).await {
                    Ok(()) => Ok(()),
                    Err((call, halt)) => {
                        Err((Work { entry, host_limit, task: Task::Call(call), retries }, halt))
                    }
                };
            }
            Task::State(reply, permit) => {
                Completion::State(reply, actor.live.content.clone(), permit)
            }
            Task::WarmUp(reply) => Completion::Done(reply),
            Task::Checkpoint(asked) => {
                return self.checkpoint(actor, asked).await.map_err(|(asked, halt)| {
                    (Work { entry, host_limit, task: Task::Checkpoint(asked), retries }, halt)
                });
            }
            Task::Restore(number, asked) => {
                return self.restore(actor, number, asked).await.map_err(|(asked, halt)| {
                    (Work { entry, host_limit, task: Task::Restore(number, asked), retries }, halt)
                });
            }
            Task::Snapshot | Task::Deactivate { .. } | Task::Delete(..) => Completion::Nothing,
        };
        self.submit(&mut actor, None, completion, Vec::new()).await;
        actor.check_in();
        Ok(())
    }

    /// Runs the init action of an actor that has just been activated.
    async fn initialise(&self, mut actor: CheckedOut) -> Result<CheckedOut, Halt> {
        if actor.live.initialised {
            return Ok(actor);
        }
        match self.invoke.init(&actor).await {
            Ok(response) => {
                actor.live.initialised = true;
                let save =
                    response.and_then(|response| self.side_effects.plan_init(&mut actor, response));
                if save.is_some() {
                    self.submit(&mut actor, save, Completion::Nothing, Vec::new()).await;
                }
                Ok(actor)
            }
            Err(halt) => {
                actor.check_in();
                Err(halt)
            }
        }
    }

    async fn call(&self, mut actor: CheckedOut, call: Box<Call>) -> Result<(), (Box<Call>, Halt)> {
        let response = match self.invoke.call(&actor, &call).await {
            Ok(response) => response,
            Err(halt) => {
                actor.check_in();
                return Err((call, halt));
            }
        };
        // A long action was a use until its end.
        actor.entry.touch(self.lookup.directory.now_ms());
        if actor.live.incarnation.unusable() == Some(Unusable::Abandoned) {
            // An older commit was lost while the host worked on a state that will never be.
            let lost =
                "an older change of the actor could not be kept; this one was discarded with it";
            let error = Error::from(StoreError::Unavailable(lost.into()));
            return Err((call, Halt::end(error.after_action())));
        }
        match self.side_effects.plan(&mut actor, call, response) {
            Ok(plan) => {
                self.submit(&mut actor, plan.save, plan.completion, plan.effects).await;
                actor.check_in();
                Ok(())
            }
            Err((call, error)) => {
                actor.check_in();
                Err((call, Halt::end(error)))
            }
        }
    }

    /// Hands a turn's outcome to the checkpoint; what needs not wait for anything durable leaves at once.
    async fn submit(
        &self,
        actor: &mut CheckedOut,
        save: Option<Save>,
        completion: Completion,
        effects: Vec<PlannedEffect>,
    ) {
        let incarnation = &actor.live.incarnation;
        if save.is_none() && incarnation.is_settled() && incarnation.unusable().is_none() {
            self.egress.complete(completion, effects);
            return;
        }
        let bytes = save.as_ref().map_or(0, |save| save.head.content.bytes());
        let (save, room) = match self.checkpoint.reserve(bytes).await {
            Ok(permit) => (save, Ok(permit)),
            Err(refused) => {
                let keeps = self.side_effects.rules.durability == Durability::Snapshot;
                if keeps && save.is_some() {
                    // Memory is ahead of the store by its nature here: the next snapshot writes it.
                    actor.live.unsaved();
                    self.lookup.timers.changed(&actor.entry, &actor.spec.hosted.definition);
                }
                let error = StoreError::Unavailable(format!("no room to write: {refused}"));
                (save.filter(|_| !keeps), Err(error))
            }
        };
        let settled = Settled::new(
            actor.entry.clone(),
            actor.live.incarnation.clone(),
            save,
            (completion, effects),
            self.egress.clone(),
        );
        match room {
            Ok(permit) => self.checkpoint.push(settled, permit),
            Err(error) => settled.refuse(error),
        }
    }

    /// Appends the content to the history if it changed since the last time.
    async fn snapshot(&self, entry: &Arc<Entry>) {
        let mut actor = match CheckedOut::take(entry) {
            Ok(Some(actor)) => actor,
            Ok(None) => return,
            Err(in_doubt) => {
                debug!(actor = %entry.actor, error = %in_doubt, "snapshot postponed");
                return self.lookup.timers.changed(entry, &entry.spec().hosted.definition);
            }
        };
        if actor.live.is_dirty() || actor.live.is_unrevised() {
            let append = actor.live.is_unrevised();
            let save = self.save(&mut actor, Status::Activated, append);
            self.submit(&mut actor, Some(save), Completion::Nothing, Vec::new()).await;
        }
        actor.check_in();
    }

    fn save(&self, actor: &mut CheckedOut, status: Status, append: bool) -> Save {
        let now = self.side_effects.clock.now();
        let CheckedOut { entry, spec, live } = actor;
        Live::save(live, entry, &spec.id, status, append, now)
    }

    /// Takes the actor out of memory once its last change is durable.
    async fn deactivate(&self, entry: &Arc<Entry>, idle: Option<Duration>, done: Reply<()>) {
        let mut actor = match CheckedOut::take(entry) {
            Ok(Some(actor)) => actor,
            Ok(None) => {
                self.lookup.left(entry);
                return done.send(Ok(()));
            }
            Err(in_doubt) => {
                if let Some(idle) = idle {
                    self.lookup.timers.idle_after(entry, idle, idle).await;
                }
                return done.send(Err(in_doubt));
            }
        };
        if let Some(idle) = idle {
            let used = Duration::from_millis(
                self.lookup.directory.now_ms().saturating_sub(entry.last_used_ms()),
            );
            if used < idle {
                actor.check_in();
                self.lookup.timers.idle_after(entry, idle, idle.saturating_sub(used)).await;
                return done.send(Ok(()));
            }
        }
        let stateful = actor.spec.hosted.definition.stateful;
        let save = (stateful && actor.live.needs_final_save()).then(|| {
            let append = actor.live.is_unrevised();
            self.save(&mut actor, Status::Deactivated, append)
        });
        let limits = Deadlines::default();
        let timing = Timing::new(limits, Some(limits.host));
        let (written, waiting) = Reply::new(&timing);
        self.submit(&mut actor, save, Completion::Done(written), Vec::new()).await;
        let outcome = waiting.answer().await;
        if let Err(error) = &outcome {
            warn!(actor = %entry.actor, %error, "the actor's last change could not be written");
            // Still in memory unless its incarnation is abandoned: the next deactivation tries again.
            actor.check_in();
            if let Some(idle) = idle {
                self.lookup.timers.idle_after(entry, idle, idle).await;
            }
        } else {
            let reason = if idle.is_some() { "idle" } else { "asked" };
            counter!(DEACTIVATIONS_TOTAL, "reason" => reason).increment(1);
            self.lookup.left(entry);
        }
        done.send(outcome);
    }

    /// Removes state, history and, when it was spawned, registration.
    async fn delete(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        entry.check_registered()?;
        let incarnation = entry.cell.lock().incarnation.clone();
        if let Some(incarnation) = incarnation {
            // Calls before the delete are answered as if it had not come yet.
            in_time(incarnation.settled().map(Ok)).await?;
            incarnation.abandon(&StoreError::Unavailable("the actor was deleted".into()));
        }
        entry.cell.lock().live = None;
        self.lookup.left(entry);
        in_time(self.store.delete(&entry.id())).await?;
        self.registrar.forget(entry).await?;
        info!(actor = %entry.actor, "deleted");
        Ok(())
    }
}

/// [`Worker`] as the service that a consumer runs.
#[derive(Debug)]
pub(crate) struct Turns<H>(pub(crate) Arc<Worker<H>>);

impl<H> Clone for Turns<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Host> Service<Turn<Work>> for Turns<H> {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, turn: Turn<Work>) -> Self::Future {
        let worker = self.0.clone();
        Box::pin(async move {
            worker.turn(turn).await;
            Ok(())
        })
    }
}
