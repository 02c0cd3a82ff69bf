//! Placed: a turn in its actor's mailbox.

mod hosts;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use parking_lot::Mutex;
use tidegate_pipeline::{KeyedEvent, Permit};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use tracing::field::DisplayValue;
use tracing::{debug, warn};

use crate::actor::{ActorId, ActorRef};
use crate::blocked_on::{ActionName, RetryOf, TurnKind};
use crate::call::{ChangeLetters, Delivery, Hop, Received};
use crate::error::Error;
use crate::identity::Identity;
use crate::invocation::{Metadata, Payload};
use crate::last_errors;
use crate::metrics::CALLS_LOST_TOTAL;
use crate::places::Place;
use crate::registry::entry::Entry;
use crate::registry::pools::MemberLoad;
use crate::reply::{Reply, SignalHandle, Timing};
use crate::request_id::RequestId;
use crate::retries::Retries;
use crate::retry_budget::RetryBudget;
use crate::state::{ActorState, Checkpoint};
use crate::traces::Mark;
use crate::traces::context::trace_id;

/// An invocation on its way through the stages.
pub(crate) struct Call {
    pub(crate) action: String,
    pub(crate) payload: Payload,
    pub(crate) metadata: Metadata,
    /// Who made the call; stays when it is routed on.
    pub(crate) identity: Identity,
    pub(crate) caller: Option<ActorId>,
    pub(crate) traceparent: String,
    pub(crate) timing: Timing,
    pub(crate) reply: Reply<Payload>,
    /// Whether it spawns its actor again when that is deleted before its turn (once).
    pub(crate) spawns: bool,
    /// Whether it is expected to change a state: its actor has one, and its action is not one that only reads it.
    pub(crate) writes: bool,
    /// Actors that routed this call on, oldest first.
    pub(crate) route: Vec<Hop>,
    /// Whether nobody waited for it from the start.
    pub(crate) is_async: bool,
    /// What it counts for against the admission bound; `None` for calls that the mesh makes itself while it drains, and for
    /// deliveries of broadcasts.
    pub(crate) permit: Option<Permit>,
    /// What it counts for at a paused actor to which it was routed.
    pub(crate) place_for_paused: Option<OwnedSemaphorePermit>,
    /// The effect that it delivers, until its first actor has answered.
    pub(crate) effect: Option<Box<Received>>,
    /// What it counts for as a delivery of a broadcast.
    pub(crate) _delivery: Option<Box<Delivery>>,
    /// What it counts for at a member of a pool.
    pub(crate) _load: Option<MemberLoad>,
}

impl Call {
    /// Whether its caller has gone and it need not run. False for a call that was accepted asynchronously or routed on
    /// (decision 3).
    pub(crate) fn is_gone(&self) -> bool {
        self.route.is_empty() && self.reply.is_abandoned()
    }

    /// Whether it can no longer be started in time. A call without a waiting caller is never late.
    pub(crate) fn is_late(&self) -> bool {
        self.reply.is_wanted() && self.timing.is_late()
    }

    /// What lines of the log about it have: the id of its request, and of its trace.
    pub(crate) fn ids(&self) -> (Option<DisplayValue<&RequestId>>, Option<&str>) {
        (self.timing.trace().request().field(), trace_id(&self.traceparent))
    }

    /// How long the stages try to reach its host or the store.
    pub(crate) fn retries(&self) -> Retries {
        if self.reply.is_wanted() {
            Retries::until(self.timing.start_by)
        } else {
            Retries::lasting(self.timing.patience())
        }
    }

    /// Ends it with an error, which says so when an action of it has run.
    fn fail(self, actor: &ActorRef, error: Error) {
        let error = if self.route.is_empty() { error } else { error.after_action() };
        self.end_trace(actor, Some(&error));
        if !self.reply.is_wanted() {
            last_errors::note(actor, &error);
        }
        if let Some(effect) = self.effect {
            return effect.ack.send(Err(error));
        }
        if !self.reply.is_wanted() {
            note_failed(&self, actor, &error);
        }
        self.reply.send(Err(error));
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("action", &self.action).finish_non_exhaustive()
    }
}

/// Logs the failure of a call without a waiting caller. A call that never ran is counted as lost. An outage loses many at
/// once, so at most one lost call is logged per second.
fn note_failed(call: &Call, actor: &ActorRef, error: &Error) {
    static LAST: Mutex<(Option<Instant>, u64)> = Mutex::new((None, 0));
    let mut unlogged = 0;
    if error.is_retryable() {
        counter!(CALLS_LOST_TOTAL).increment(1);
        let mut last = LAST.lock();
        if last.0.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            last.1 += 1;
            return;
        }
        last.0 = Some(Instant::now());
        unlogged = std::mem::take(&mut last.1);
    }
    let (action, from) = (&call.action, &call.identity);
    let (request_id, trace_id) = call.ids();
    warn!(%actor, action, %from, %error, unlogged, request_id, trace_id, "a call that nobody waits for has failed");
}

/// A question from outside: where its answer goes, its time, and what it counts for.
pub(crate) struct Question<T> {
    pub(crate) reply: Reply<T>,
    pub(crate) timing: Timing,
    pub(crate) permit: Permit,
}

impl<T> Question<T> {
    /// Marks the question as started: from now on the actor may change, so its caller no longer gets "not started".
    ///
    /// # Errors
    /// When the caller has gone, or got "not started" already.
    pub(crate) fn start(&self) -> Result<(), Error> {
        if self.reply.is_abandoned() || !self.timing.start() {
            let why = "it was given up before".into();
            return Err(Error::NotStarted(self.timing.elapsed(), why));
        }
        Ok(())
    }
}

/// What an actor is asked to do in one turn.
pub(crate) enum Task {
    /// Run an action.
    Call(Box<Call>),
    /// Run the init action; never queued: it is put before the first turn that needs it, whose signal it has.
    Init(Option<SignalHandle>),
    /// Return tags and state.
    State(Question<ActorState>),
    /// Be in memory. Its timing has the signal that cancels its init action.
    WarmUp(Reply<()>, Timing),
    /// Have the content in the history.
    Checkpoint(Question<Checkpoint>),
    /// Make the content of an older revision the current one, as a new revision.
    Restore(u64, Question<Checkpoint>),
    /// Append the content to the history when it changed.
    Snapshot,
    /// Leave memory, if it was unused for `idle`; `None`: in any case.
    Deactivate { idle: Option<Duration>, done: Reply<()> },
    /// Leave memory, because there is too much in it. Not if it was used after this time, in milliseconds since the start.
    Evict { last_used_ms: u64, done: Reply<()> },
    /// Forget state and history.
    Delete(Question<()>),
    /// Deliver dead letters again, or drop them.
    DeadLetters(Box<ChangeLetters>),
    /// Become this epoch's, with its rows of effects, before these are delivered.
    TakeOver(Reply<()>),
}

impl Task {
    /// Whether the actor's host has a part in it.
    pub(crate) fn needs_host(&self) -> bool {
        matches!(self, Task::Call(_) | Task::State(_) | Task::WarmUp(..))
    }

    /// Whether it is about what is in memory or stored, and activates nothing.
    pub(crate) fn is_maintenance(&self) -> bool {
        matches!(
            self,
            Task::Snapshot
                | Task::Deactivate { .. }
                | Task::Evict { .. }
                | Task::Delete(_)
                | Task::DeadLetters(_)
                | Task::TakeOver(_)
        )
    }

    /// Whether it is about the actor's history, parts of which have to be read first.
    pub(crate) fn needs_revisions(&self) -> bool {
        matches!(self, Task::Checkpoint(_) | Task::Restore(..))
    }

    /// Whether it may wait, with its key parked, until a failing store works again: it has no waiting caller.
    pub(crate) fn is_patient(&self) -> bool {
        matches!(self, Task::Call(call) if !call.reply.is_wanted())
    }

    /// The timing of its caller, or of a warm-up; `None` for any other turn of the mesh itself.
    pub(super) fn timing(&self) -> Option<&Timing> {
        match self {
            Task::Call(call) => Some(&call.timing),
            Task::State(question) => Some(&question.timing),
            Task::WarmUp(_, timing) => Some(timing),
            Task::Delete(question) => Some(&question.timing),
            Task::DeadLetters(letters) => Some(&letters.question.timing),
            Task::Checkpoint(question) | Task::Restore(_, question) => Some(&question.timing),
            Task::Init(_)
            | Task::Snapshot
            | Task::Deactivate { .. }
            | Task::Evict { .. }
            | Task::TakeOver(_) => None,
        }
    }

    fn kind(&self) -> TurnKind {
        match self {
            // An init action is never queued: it runs before the turn that needs it.
            Task::Call(_) | Task::Init(_) => TurnKind::Call,
            Task::State(_) => TurnKind::State,
            Task::WarmUp(..) | Task::TakeOver(_) => TurnKind::WarmUp,
            Task::Checkpoint(_) => TurnKind::Checkpoint,
            Task::DeadLetters(_) => TurnKind::DeadLetters,
            Task::Restore(..) => TurnKind::Restore,
            Task::Snapshot => TurnKind::Snapshot,
            Task::Deactivate { .. } | Task::Evict { .. } => TurnKind::Deactivation,
            Task::Delete(_) => TurnKind::Deletion,
        }
    }

    /// How long it has waited, and why, if it can no longer be started in time. Its caller got an error already.
    pub(crate) fn late_after(&self) -> Option<(Duration, &'static str)> {
        let timing = match self {
            Task::Call(call) if call.is_late() => &call.timing,
            Task::State(question) if question.timing.is_late() => &question.timing,
            _ => return None,
        };
        Some((timing.elapsed(), timing.why_late()))
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Task::Call(call) => call.is_gone(),
            Task::State(question) => question.reply.is_abandoned(),
            Task::Delete(question) => question.reply.is_abandoned(),
            Task::DeadLetters(letters) => letters.question.reply.is_abandoned(),
            Task::Checkpoint(question) | Task::Restore(_, question) => {
                question.reply.is_abandoned()
            }
            Task::Init(_)
            | Task::WarmUp(..)
            | Task::Snapshot
            | Task::Deactivate { .. }
            | Task::Evict { .. }
            | Task::TakeOver(_) => false,
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Call(_) => "Call",
            Task::Init(_) => "Init",
            Task::State(_) => "State",
            Task::WarmUp(..) => "WarmUp",
            Task::Checkpoint(_) => "Checkpoint",
            Task::Restore(..) => "Restore",
            Task::Snapshot => "Snapshot",
            Task::Deactivate { .. } => "Deactivate",
            Task::Evict { .. } => "Evict",
            Task::Delete(_) => "Delete",
            Task::DeadLetters(_) => "DeadLetters",
            Task::TakeOver(_) => "TakeOver",
        })
    }
}

/// What is known of a turn outside its task.
#[derive(Debug, Clone)]
pub(crate) struct TurnHandle {
    pub(crate) kind: TurnKind,
    pub(crate) action: ActionName,
    /// `None` for a turn of the mesh itself, except a warm-up.
    pub(crate) signal: Option<SignalHandle>,
}

/// One turn of an actor: what waits in its mailbox.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The actor, or the member of the pool that was chosen for it. It waits in its mailbox.
    pub(crate) entry: Arc<Entry>,
    /// The number of the limit on calls in flight that it counts against; 0 for a turn that needs no host.
    pub(crate) host_limit: u32,
    pub(crate) task: Task,
    /// Its place at the checkpoint; taken at the grant when it is expected to write.
    pub(crate) place: Option<Place>,
    /// Until when, and how often, reaching the store or the host is tried.
    pub(crate) retries: Retries,
}

impl Placed {
    /// Whether it is a call that has to spawn its deleted actor again. True at most once per call, and not when its caller has
    /// gone.
    pub(crate) fn take_spawn(&mut self) -> bool {
        let Task::Call(call) = &mut self.task else { return false };
        let is_due = self.entry.is_removed() && !call.is_gone() && !call.is_late();
        is_due && std::mem::take(&mut call.spawns)
    }

    /// Waits until it may be tried again: after its next delay, and once the budget pays for it. Returns false when that
    /// would be too late, or its caller has gone.
    pub(crate) async fn wait_for_retry(&mut self, budget: &Arc<RetryBudget>) -> bool {
        while let Some(pause) = self.retries.next() {
            // A timer may fire a millisecond late, which may be past the time to start.
            let is_cancelled = self.is_cancelled_within(pause).await;
            if is_cancelled || self.task.is_abandoned() || self.task.late_after().is_some() {
                return false;
            }
            if budget.withdraw() {
                self.retries.paid = Some(budget.clone());
                return true;
            }
        }
        false
    }

    /// Records what is tried again if it is parked now; `None` when that is not known yet.
    pub(crate) fn note_parked(&self, of: Option<RetryOf>) {
        if let Some(timing) = self.task.timing() {
            timing.signal().parked(of);
            if let Some(of) = of.filter(|_| timing.is_traced()) {
                timing.trace().parked(of, timing.elapsed());
            }
        }
    }

    /// Notes for its trace what it has reached.
    pub(crate) fn mark(&self, mark: Mark) {
        if let Task::Call(call) = &self.task {
            call.timing.mark(mark);
        }
    }

    /// Why it ends if it was cancelled before its action.
    pub(crate) fn cancelled(&self) -> Option<Error> {
        let timing = self.task.timing()?;
        timing.signal().is_cancelled().then_some(Error::Cancelled)
    }

    async fn is_cancelled_within(&self, pause: Duration) -> bool {
        let Some(timing) = self.task.timing() else {
            sleep(pause).await;
            return false;
        };
        timeout(pause, poll_fn(|cx| timing.signal().poll_cancelled(cx))).await.is_ok()
    }

    /// Ends it with an error.
    pub(crate) fn fail(self, error: Error) {
        match self.task {
            Task::Call(call) => call.fail(&self.entry.actor, error),
            Task::State(question) => question.reply.send(Err(error)),
            Task::Delete(question) => question.reply.send(Err(error)),
            Task::DeadLetters(letters) => letters.question.reply.send(Err(error)),
            Task::Checkpoint(question) | Task::Restore(_, question) => {
                question.reply.send(Err(error));
            }
            Task::WarmUp(reply, _)
            | Task::TakeOver(reply)
            | Task::Deactivate { done: reply, .. }
            | Task::Evict { done: reply, .. } => reply.send(Err(error)),
            Task::Init(_) => {}
            Task::Snapshot => debug!(actor = %self.entry.actor, %error, "snapshot skipped"),
        }
    }
}

impl KeyedEvent for Placed {
    type Key = ActorRef;

    fn key(&self) -> &ActorRef {
        &self.entry.mailbox
    }

    fn class(&self) -> u32 {
        self.host_limit
    }

    type Handle = TurnHandle;

    fn handle(&self) -> TurnHandle {
        let kind = self.task.kind();
        let action = match &self.task {
            Task::Call(call) => ActionName::of(&call.action),
            _ => ActionName::default(),
        };
        TurnHandle { kind, action, signal: self.task.timing().map(Timing::signal_handle) }
    }
}
