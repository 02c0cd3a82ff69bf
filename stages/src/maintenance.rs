//! Maintenance: turns that activate nothing and run no action: snapshots, deactivations and deletes.
//!
//! They go through the actor's key like every turn, so that none of them meets a call half-way.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::counter;
use tower::Service;
use tracing::{debug, info, warn};

use crate::call::{Completion, Failed, Placed, Planned, StageResult, Task};
use crate::checkpoint::Submit;
use crate::error::Error;
use crate::lookup::Lookup;
use crate::metrics::DEACTIVATIONS_TOTAL;
use crate::ports::{Save, StateStore, StoreError};
use crate::registry::entry::{CheckedOut, Entry};
use crate::registry::registration::Registrar;
use crate::reply::{Deadlines, Reply, Timing};
use crate::side_effects::SideEffects;
use crate::state::Status;
use crate::store_limit::in_time;

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Maintenance(pub(crate) Arc<Keeper>);

/// What it works with.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) lookup: Lookup,
    pub(crate) side_effects: SideEffects,
    pub(crate) submit: Submit,
    pub(crate) registrar: Registrar,
    pub(crate) store: Arc<dyn StateStore>,
}

impl Keeper {
    async fn run(&self, placed: Placed) -> StageResult<()> {
        let Placed { entry, host_limit, task, retries } = placed;
        match task {
            Task::Snapshot => self.snapshot(&entry).await,
            Task::Deactivate { idle, done } => self.deactivate(&entry, idle, done).await,
            Task::Delete(question) => {
                if let Err(error) = question.start() {
                    let task = Task::Delete(question);
                    let placed = Placed { entry, host_limit, task, retries };
                    return Err(Failed::before_action(placed, error));
                }
                question.reply.send(self.delete(&entry).await);
            }
            task => {
                let error = Error::Internal(format!("{task:?} is no maintenance"));
                let placed = Placed { entry, host_limit, task, retries };
                return Err(Failed::before_action(placed, error));
            }
        }
        Ok(())
    }

    /// Checks the actor in and hands in what is written of it.
    async fn submit(&self, actor: CheckedOut, save: Option<Save>, completion: Completion) {
        let (entry, incarnation) = (actor.entry.clone(), actor.live.incarnation.clone());
        actor.check_in();
        let planned = Planned::new(entry, incarnation, save, completion, Vec::new());
        self.submit.clone().hand_in(planned).await;
    }

    /// Appends the content to the history if it changed since the last time.
    async fn snapshot(&self, entry: &Arc<Entry>) {
        let mut actor = match CheckedOut::take(entry) {
            Ok(Some(actor)) => actor,
            Ok(None) => return,
            Err(in_doubt) => {
                debug!(actor = %entry.actor, error = %in_doubt, "snapshot postponed");
                let definition = entry.spec().hosted.definition;
                return self.submit.timers.changed(entry, &definition);
            }
        };
        if actor.live.is_dirty() || actor.live.is_unrevised() {
            let append = actor.live.is_unrevised();
            let save = self.side_effects.0.save_as(&mut actor, Status::Activated, append);
            self.submit(actor, Some(save), Completion::Nothing).await;
        } else {
            actor.check_in();
        }
    }

    /// Takes the actor out of memory once its last change is durable.
    async fn deactivate(&self, entry: &Arc<Entry>, idle: Option<Duration>, done: Reply<()>) {
        let timers = &self.submit.timers;
        let mut actor = match CheckedOut::take(entry) {
            Ok(Some(actor)) => actor,
            Ok(None) => {
                self.lookup.left(entry);
                return done.send(Ok(()));
            }
            Err(in_doubt) => {
                if let Some(idle) = idle {
                    timers.idle_after(entry, idle, idle);
                }
                return done.send(Err(in_doubt));
            }
        };
        if let Some(idle) = idle {
            let used = timers.unused_for(entry);
            if used < idle {
                actor.check_in();
                timers.idle_after(entry, idle, idle.saturating_sub(used));
                return done.send(Ok(()));
            }
        }
        let stateful = actor.spec.hosted.definition.stateful;
        let save = (stateful && actor.live.needs_final_save()).then(|| {
            let append = actor.live.is_unrevised();
            self.side_effects.0.save_as(&mut actor, Status::Deactivated, append)
        });
        let limits = Deadlines::default();
        let timing = Timing::new(limits, Some(limits.host));
        let (written, waiting) = Reply::new(&timing);
        self.submit(actor, save, Completion::Done(written)).await;
        let outcome = waiting.answer().await;
        if let Err(error) = &outcome {
            warn!(actor = %entry.actor, %error, "the actor's last change could not be written");
            // Still in memory unless its activation is abandoned: the next deactivation tries again.
            if let Some(idle) = idle {
                timers.idle_after(entry, idle, idle);
            }
        } else {
            entry.memory.lock().live = None;
            let reason = if idle.is_some() { "idle" } else { "asked" };
            counter!(DEACTIVATIONS_TOTAL, "reason" => reason).increment(1);
            self.lookup.left(entry);
        }
        done.send(outcome);
    }

    /// Removes state, history and, when it was spawned, registration.
    async fn delete(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        entry.check_registered()?;
        let incarnation = entry.memory.lock().incarnation.clone();
        if let Some(incarnation) = incarnation {
            // Calls before the delete are answered as if it had not come yet.
            in_time(incarnation.settled().map(Ok)).await?;
            incarnation.abandon(&StoreError::Unavailable("the actor was deleted".into()));
        }
        entry.memory.lock().live = None;
        self.lookup.left(entry);
        in_time(self.store.delete(&entry.id())).await?;
        self.registrar.forget(entry).await?;
        info!(actor = %entry.actor, "deleted");
        Ok(())
    }
}

impl Service<Placed> for Maintenance {
    type Response = ();
    type Error = Box<Failed>;
    type Future = BoxFuture<'static, StageResult<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<StageResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, placed: Placed) -> Self::Future {
        let stage = self.0.clone();
        Box::pin(async move { stage.run(placed).await })
    }
}
