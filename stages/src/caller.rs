//! Caller: the door. Checks a call, finds whom it is for, counts it in and queues it in its actor's mailbox.
//!
//! A call that is refused here was never started. Memory is bounded by the permits given out here:
//! a permit is held from admission until the call's answer leaves, also while the call is routed on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::counter;
use tidegate_pipeline::{KeyedEvent, KeyedProducer, Permit, Refused};
use tracing::{debug, warn};

use crate::actor::{ActorId, ActorRef, check_name};
use crate::directory::{Directory, Entry};
use crate::error::Error;
use crate::invocation::{Invocation, Metadata, Payload, REQUEST_TIMEOUT};
use crate::metrics::CALLS_REFUSED_TOTAL;
use crate::ports::Clock;
use crate::reply::{Deadlines, Reply, Timing, Waiting};
use crate::retries::Retries;
use crate::state::{ActorState, Checkpoint};

/// Longest chain of pipes and forwards (decision 10).
pub(crate) const MAX_ROUTE: usize = 32;

/// When a refused caller is told to come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An invocation on its way through the rooms.
pub(crate) struct Call {
    pub(crate) action: String,
    pub(crate) payload: Payload,
    pub(crate) metadata: Metadata,
    pub(crate) caller: Option<ActorId>,
    pub(crate) traceparent: String,
    pub(crate) timing: Timing,
    pub(crate) reply: Reply<Payload>,
    /// Whether it spawns its actor again if that is deleted before its turn (once).
    pub(crate) spawns: bool,
    /// Actors that routed this call on, oldest first.
    pub(crate) route: Vec<ActorRef>,
    /// Its place in the mesh; `None` for calls that the mesh makes itself while its doors are closed.
    pub(crate) permit: Option<Permit>,
}

impl Call {
    /// Whether nobody waits for it any more and it may be left out: not so once it was accepted
    /// without waiting or was routed on (decision 3).
    pub(crate) fn is_gone(&self) -> bool {
        self.route.is_empty() && self.reply.is_abandoned()
    }

    /// Whether it can no longer be started in time; what nobody waits for has time.
    pub(crate) fn is_late(&self) -> bool {
        self.reply.is_wanted() && self.timing.is_late()
    }

    /// How long reaching its actor is tried.
    pub(crate) fn retries(&self) -> Retries {
        if self.reply.is_wanted() {
            Retries::until(self.timing.start_by)
        } else {
            Retries::lasting(self.timing.patience())
        }
    }

    /// Ends it with an error, which says so when an action of it has run.
    pub(crate) fn fail(self, actor: &ActorRef, error: Error) {
        let error = if self.route.is_empty() { error } else { error.after_action() };
        if !self.reply.is_wanted() {
            warn!(%actor, action = self.action, %error, "a call that nobody waits for has failed");
        }
        self.reply.send(Err(error));
    }
}

/// What an actor is asked to do.
pub(crate) enum Task {
    /// Run an action.
    Call(Box<Call>),
    /// Tell tags and state; holds its place in the mesh.
    State(Reply<ActorState>, Permit),
    /// Be in memory.
    WarmUp(Reply<()>),
    /// Append the content to the history when it changed.
    Snapshot,
    /// Leave memory: when unused for that long, or in any case.
    Deactivate { idle: Option<Duration>, done: Reply<()> },
    /// Forget state and history; holds its place in the mesh.
    Delete(Reply<()>, Permit),
    /// Have the content in the history.
    Checkpoint(Asked<Checkpoint>),
    /// Make the content of an older revision the current one, as a new revision.
    Restore(u64, Asked<Checkpoint>),
}

impl Task {
    /// Whether the actor's host has a part in it.
    pub(crate) fn needs_host(&self) -> bool {
        matches!(self, Task::Call(_) | Task::State(..) | Task::WarmUp(_))
    }
}

/// A question from outside: who waits for its answer, its time, and its place in the mesh.
pub(crate) struct Asked<T> {
    pub(crate) reply: Reply<T>,
    pub(crate) timing: Timing,
    pub(crate) permit: Permit,
}

/// One turn of an actor: what waits in its mailbox.
pub(crate) struct Work {
    pub(crate) entry: Arc<Entry>,
    pub(crate) host_limit: u32,
    pub(crate) task: Task,
    /// Until when, and how often, reaching the store or the host is tried.
    pub(crate) retries: Retries,
}

impl Work {
    /// Whether it is a call whose actor was deleted meanwhile and that is to spawn it again: at most
    /// once, and not for a caller that has gone.
    pub(crate) fn take_spawn(&mut self) -> bool {
        let Task::Call(call) = &mut self.task else { return false };
        let is_due = self.entry.is_removed() && !call.is_gone() && !call.is_late();
        is_due && std::mem::take(&mut call.spawns)
    }

    /// Ends it with an error.
    pub(crate) fn fail(self, error: Error) {
        match self.task {
            Task::Call(call) => call.fail(&self.entry.actor, error),
            Task::State(reply, _) => reply.send(Err(error)),
            Task::Checkpoint(asked) | Task::Restore(_, asked) => asked.reply.send(Err(error)),
            Task::WarmUp(reply) | Task::Delete(reply, _) | Task::Deactivate { done: reply, .. } => {
                reply.send(Err(error));
            }
            Task::Snapshot => debug!(actor = %self.entry.actor, %error, "snapshot skipped"),
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl KeyedEvent for Work {
    type Key = ActorRef;

    fn key(&self) -> &ActorRef {
        &self.entry.actor
    }

    fn lane(&self) -> u32 {
        self.host_limit
    }

    fn is_abandoned(&self) -> bool {
        match &self.task {
            Task::Call(call) => call.is_gone(),
            Task::State(reply, _) => reply.is_abandoned(),
            Task::Delete(reply, _) => reply.is_abandoned(),
            Task::Checkpoint(asked) | Task::Restore(_, asked) => asked.reply.is_abandoned(),
            Task::WarmUp(_) | Task::Snapshot | Task::Deactivate { .. } => false,
        }
    }
}

/// An invocation that was checked and whose actor was found.
#[derive(Debug)]
pub(crate) struct Checked {
    entry: Arc<Entry>,
    host_limit: u32,
    invocation: Invocation,
}

/// Whether an admitted call may be refused for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It came through a door.
    Outside,
    /// The mesh itself makes it (a side effect): served also while the doors are closed.
    Inside,
}

/// The door; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    directory: Arc<Directory>,
    mailboxes: KeyedProducer<Work>,
    clock: Arc<dyn Clock>,
    deadlines: Deadlines,
    max_pending_effects: u32,
    draining: Arc<AtomicBool>,
}

impl Caller {
    pub(crate) fn new(
        directory: Arc<Directory>,
        mailboxes: KeyedProducer<Work>,
        clock: Arc<dyn Clock>,
        deadlines: Deadlines,
        max_pending_effects: u32,
    ) -> Self {
        let draining = Arc::default();
        Self { directory, mailboxes, clock, deadlines, max_pending_effects, draining }
    }

    /// Refuses calls from outside from now on.
    pub(crate) fn close(&self) {
        self.draining.store(true, Ordering::Release);
        self.mailboxes.close();
    }

    /// Whether calls from outside are refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Checks a call and finds its actor, unless it was spawned for the call just now.
    ///
    /// # Errors
    /// When a name is not allowed, the actor or action is unknown, or the call needs what is not built yet.
    pub(crate) fn check(
        &self,
        invocation: Invocation,
        spawned: Option<Arc<Entry>>,
    ) -> Result<Checked, Error> {
        let id = &invocation.actor;
        for (part, name) in [("actor.id.name", &id.name), ("system.name", &id.system)] {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        if invocation.pooled {
            return Err(Error::Unsupported("pooled invocations are not built yet".into()));
        }
        let due_us = u64::try_from(invocation.scheduled_to).unwrap_or(0).saturating_mul(1000);
        if due_us > self.clock.now().0 {
            return Err(Error::Unsupported("scheduled invocations are not built yet".into()));
        }
        let entry = spawned.or_else(|| self.directory.find(&id.system, &id.name));
        let entry = entry.ok_or_else(|| Error::ActorNotFound {
            system: id.system.clone(),
            name: id.name.clone(),
        })?;
        let hosted = entry.spec().hosted;
        let definition = &hosted.definition;
        if definition.actions.is_empty() && definition.timers.is_empty() {
            let text =
                format!("Actor [{}] has registered no action: no call of it is allowed", id.name);
            return Err(Error::Forbidden(text));
        }
        if !definition.knows(&invocation.action) {
            let (actor, action) = (id.name.clone(), invocation.action);
            return Err(Error::ActionNotFound { actor, action });
        }
        Ok(Checked { host_limit: hosted.host_limit, entry, invocation })
    }

    /// Counts a checked call in and queues it; the answer, or `None` when nobody waits for it.
    ///
    /// # Errors
    /// When the mesh or the actor's mailbox is full, or the mesh is draining.
    pub(crate) async fn admit(
        &self,
        checked: Checked,
        origin: Origin,
    ) -> Result<Option<Admitted<Payload>>, Error> {
        let Checked { entry, host_limit, invocation } = checked;
        if origin == Origin::Outside
            && entry.pending_effects.load(Ordering::Relaxed) >= self.max_pending_effects
        {
            let reason = format!("too many side effects of {} wait to be sent", entry.actor);
            return Err(overloaded("effects", reason));
        }
        let permit = if origin == Origin::Inside && self.is_closed() {
            None
        } else {
            let reserved = self.mailboxes.reserve(invocation.bytes()).await;
            Some(reserved.map_err(|refused| refusal(refused, &entry.actor))?)
        };
        let whole =
            invocation.metadata.get(REQUEST_TIMEOUT).and_then(|text| text.trim().parse().ok());
        let timing = Timing::new(self.deadlines, whole.map(Duration::from_millis));
        let scheduled = invocation.scheduled_to > 0;
        let (reply, waiting) = if invocation.asynchronous || scheduled {
            (Reply::unwanted(), None)
        } else {
            let (reply, waiting) = Reply::new(&timing);
            (reply, Some(waiting))
        };
        let call = Call {
            action: invocation.action,
            payload: invocation.payload,
            metadata: invocation.metadata,
            caller: invocation.caller,
            traceparent: invocation.traceparent,
            timing,
            reply,
            spawns: !invocation.register_ref.is_empty(),
            route: Vec::new(),
            permit,
        };
        let exempt = call.permit.is_none();
        let retries = call.retries();
        let actor = entry.actor.clone();
        let work = Work { entry, host_limit, task: Task::Call(Box::new(call)), retries };
        let pushed =
            if exempt { self.mailboxes.push_exempt(work) } else { self.mailboxes.push(work) };
        match pushed {
            Ok(()) => Ok(waiting.map(|waiting| self.admitted(waiting, actor))),
            Err(rejected) => {
                let error = refusal(rejected.reason, &actor);
                rejected.event.fail(error.clone());
                Err(error)
            }
        }
    }

    fn admitted<T>(&self, waiting: Waiting<T>, actor: ActorRef) -> Admitted<T> {
        Admitted { waiting, mailboxes: self.mailboxes.clone(), actor }
    }

    /// Counts a question from outside in, as if it were a call, and queues it.
    ///
    /// # Errors
    /// When the mesh or the actor's mailbox is full, or the mesh is draining.
    pub(crate) async fn admit_task<T>(
        &self,
        entry: &Arc<Entry>,
        task: impl FnOnce(Asked<T>) -> Task,
    ) -> Result<Admitted<T>, Error> {
        let actor = entry.actor.clone();
        let reserved = self.mailboxes.reserve(0).await;
        let permit = reserved.map_err(|refused| refusal(refused, &actor))?;
        let timing = Timing::new(self.deadlines, None);
        let (reply, waiting) = Reply::new(&timing);
        let work = self.work(entry, task(Asked { reply, timing, permit }));
        let pushed = self.mailboxes.push(work);
        pushed.map_err(|rejected| refusal(rejected.reason, &actor))?;
        Ok(self.admitted(waiting, actor))
    }

    fn work(&self, entry: &Arc<Entry>, task: Task) -> Work {
        let host_limit = if task.needs_host() { entry.spec().hosted.host_limit } else { 0 };
        Work {
            entry: entry.clone(),
            host_limit,
            task,
            retries: Retries::within(self.deadlines.start),
        }
    }

    /// Queues a task of the mesh itself: never refused for want of room, its number is bounded by its maker.
    pub(crate) fn ask(&self, entry: &Arc<Entry>, task: Task) {
        self.requeue(self.work(entry, task));
    }

    /// Queues work that was admitted before, at the tail of its actor's mailbox.
    pub(crate) fn requeue(&self, work: Work) {
        if let Err(rejected) = self.mailboxes.push_exempt(work) {
            rejected.event.fail(Error::Draining);
        }
    }

    /// The deadlines of calls that have none of their own.
    pub(crate) fn deadlines(&self) -> Deadlines {
        self.deadlines
    }
}

/// What a refused caller is told.
fn refusal(refused: Refused, actor: &ActorRef) -> Error {
    let (label, reason) = match refused {
        Refused::Closed => return Error::Draining,
        Refused::TooLarge => {
            return Error::TooLarge("the call is larger than the whole buffer of the door".into());
        }
        Refused::KeyFull => ("mailbox", format!("the mailbox of {actor} is full")),
        Refused::Full => ("door", "the proxy has no room for another call".to_owned()),
    };
    overloaded(label, reason)
}

fn overloaded(label: &'static str, reason: String) -> Error {
    counter!(CALLS_REFUSED_TOTAL, "reason" => label).increment(1);
    Error::Overloaded { reason, retry_after: RETRY_AFTER }
}

/// A call that was let in and whose answer somebody waits for. Dropped before the answer, it removes
/// the call from its mailbox unless it was started (decision 3).
#[derive(Debug)]
pub(crate) struct Admitted<T> {
    waiting: Waiting<T>,
    mailboxes: KeyedProducer<Work>,
    actor: ActorRef,
}

impl<T> Admitted<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The call's error, or that its time ran out.
    pub(crate) async fn answer(self) -> Result<T, Error> {
        // Dropped at the await, the waiting end goes first, then the sweep finds the call abandoned.
        let mut sweep = Sweep { mailboxes: self.mailboxes, actor: self.actor, armed: true };
        let result = self.waiting.answer().await;
        sweep.armed = matches!(result, Err(Error::NotStarted(..)));
        result
    }
}

struct Sweep {
    mailboxes: KeyedProducer<Work>,
    actor: ActorRef,
    armed: bool,
}

impl Drop for Sweep {
    fn drop(&mut self) {
        if self.armed {
            self.mailboxes.sweep(&self.actor);
        }
    }
}
