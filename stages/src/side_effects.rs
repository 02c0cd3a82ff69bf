//! Side effects: applies a response. It gives the actor its new state, decides what has to be written, and plans what leaves
//! after that.
//!
//! In [`Invoked`], out [`Planned`]; the actor is checked in. Everything that can be refused is refused before the state
//! changes: a response that cannot be carried out leaves the actor as it was.

mod broadcast;
mod plan;
mod positions;
mod received;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Ready, ready};
use tower::Service;
use tracing::warn;

use crate::access::CurrentPolicies;
use crate::call::{
    Activated, BoxPlanned, Call, Committed, Completion, Failed, Invoked, Planned, Question,
    StageResult, Task,
};
use crate::channels::Channels;
use crate::effects::Effects;
use crate::error::Error;
use crate::invocation::{ActorInvocationResponse, Workflow};
use crate::outbox::EffectRows;
use crate::ports::{Clock, Save, StoreError};
use crate::registry::directory::Directory;
use crate::registry::entry::CheckedOut;
use crate::reply::SignalHandle;
use crate::rules::{ChangeRules, Durability, Revisions};
use crate::state::{Checkpoint, Revision, Status};
use crate::timer::Timers;
use crate::topics::append::Topics;
use crate::topics::event::topic_of;
use plan::{NOT_KEPT, completion};

/// Longest chain of pipes and forwards (decision 10).
pub(crate) const MAX_ROUTE: usize = 32;

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SideEffects(pub(crate) Arc<Planner>);

/// What the stage works with.
#[derive(Debug)]
pub(crate) struct Planner {
    pub(crate) rules: ChangeRules,
    pub(crate) directory: Arc<Directory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) effects: Effects,
    pub(crate) channels: Channels,
    pub(crate) policies: CurrentPolicies,
    pub(crate) timers: Timers,
    pub(crate) topics: Topics,
}

/// The outcome of a turn; its actor is changed in memory already.
struct Plan {
    save: Option<Save>,
    rest: Committed,
}

impl Plan {
    fn of(save: Option<Save>, completion: Completion) -> Self {
        Self { save, rest: Committed::of(completion) }
    }
}

impl Planner {
    fn plan(&self, invoked: Invoked) -> StageResult<BoxPlanned> {
        let Invoked { activated, response } = invoked;
        let Activated { mut actor, task, host_limit, place, retries, older } = *activated;
        let planned = match (task, response) {
            (Task::Call(call), response) if call.effect.is_some() => self
                .plan_received(&mut actor, call, response.map(|response| *response))
                .map_err(|(call, error)| (Task::Call(call), error, AFTER_ACTION)),
            (Task::Call(call), Some(response)) => self
                .plan_call(&mut actor, call, *response)
                .map_err(|(call, error)| (Task::Call(call), error, AFTER_ACTION)),
            (Task::Init(signal), Some(response)) => {
                Ok(self.plan_init(&mut actor, *response, signal.as_ref()))
            }
            // It failed: nothing changes.
            (Task::Init(_), None) => Ok(Plan::of(None, Completion::Nothing)),
            (Task::Checkpoint(question), _) => match question.start() {
                Ok(()) => Ok(self.plan_checkpoint(&mut actor, None, question)),
                Err(error) => Err((Task::Checkpoint(question), error, GIVEN_UP)),
            },
            (Task::Restore(number, question), _) => match question.start() {
                Ok(()) => Ok(self.plan_checkpoint(&mut actor, older, question)),
                Err(error) => Err((Task::Restore(number, question), error, GIVEN_UP)),
            },
            (Task::State(question), _) => {
                let state = actor.live.content.clone();
                Ok(Plan::of(None, Completion::State(question.reply, state, question.permit)))
            }
            (Task::WarmUp(done, _), _) => Ok(Plan::of(None, Completion::Done(done))),
            // Not of this path: see `maintenance`.
            (task, _) => {
                let error = Error::Internal(format!("{task:?} has no response to plan"));
                Err((task, error, GIVEN_UP))
            }
        };
        let (entry, incarnation) = (actor.entry.clone(), actor.live.incarnation.clone());
        let bytes = actor.live.bytes();
        actor.check_in();
        self.timers.eviction.resized(&entry, bytes);
        match planned {
            Ok(Plan { save, rest }) => Ok(Planned::new(entry, incarnation, save, place, rest)),
            Err((task, error, fail)) => {
                Err(fail(crate::call::Placed { entry, host_limit, task, place, retries }, error))
            }
        }
    }

    /// Applies a call's response to the actor.
    ///
    /// # Errors
    /// The call and why its response cannot be carried out; the actor is as it was.
    fn plan_call(
        &self,
        actor: &mut CheckedOut,
        call: Box<Call>,
        response: ActorInvocationResponse,
    ) -> Result<Plan, (Box<Call>, Error)> {
        // A long action was a use until its end.
        actor.entry.touch(self.directory.now_ms());
        if actor.live.incarnation.is_abandoned() {
            // An older commit was lost while the host worked on its state.
            let lost =
                "an older change of the actor could not be kept; this one was discarded with it";
            return Err((call, Error::from(StoreError::Unavailable(lost.into()))));
        }
        let ActorInvocationResponse { state, tags, payload, workflow, checkpoint } = response;
        let Workflow { mut effects, broadcast, routing } = workflow;
        if effects.iter().any(|effect| topic_of(&effect.actor.name).is_some()) {
            let text = format!("a side effect has a target that no actor is; {NOT_KEPT}");
            return Err((call, Error::BadRoute(text)));
        }
        let broadcast = match self.plan_broadcast(actor, &call, broadcast, &mut effects) {
            Ok(broadcast) => broadcast,
            Err(error) => return Err((call, error)),
        };
        let route = match self.route(actor, &call, routing) {
            Ok(route) => route,
            Err(error) => return Err((call, error)),
        };
        let content = match self.rules.new_content(&actor.live.content, state, tags) {
            Ok(content) => content,
            Err(error) => return Err((call, error)),
        };
        let emitted = match self.plan_effects(actor, &call, effects) {
            Ok(emitted) => emitted,
            Err(error) => return Err((call, error)),
        };
        let changed = actor.live.change(content);
        let mut save = self.save(actor, changed, checkpoint);
        if let Some(emitted) = &emitted {
            let rows = EffectRows { appends: emitted.rows(), ..EffectRows::default() };
            save = Some(self.save_with(actor, save, rows));
        }
        let save = self.with_positions(actor, save);
        let completion = completion(actor, call, payload, route);
        let (completion, traced) = completion;
        Ok(Plan { save, rest: Committed { completion, emitted, ack: None, broadcast, traced } })
    }

    /// Applies the response of an init action: state and tags only. What else is asked for is in the log.
    fn plan_init(
        &self,
        actor: &mut CheckedOut,
        response: ActorInvocationResponse,
        signal: Option<&SignalHandle>,
    ) -> Plan {
        let ActorInvocationResponse { state, tags, workflow, .. } = response;
        let request_id = signal.and_then(|signal| signal.request().field());
        if let Some(left_out) = asked_for(&workflow) {
            warn!(actor = %actor.entry.actor, left_out, request_id, "an init action changes state and tags only; what else its answer asks for is left out");
        }
        let save = match self.rules.new_content(&actor.live.content, state, tags) {
            Ok(content) => {
                let changed = actor.live.change(content);
                self.save(actor, changed, false)
            }
            Err(error) => {
                warn!(actor = %actor.entry.actor, %error, request_id, "the init action's state was not taken");
                None
            }
        };
        Plan::of(save, Completion::Nothing)
    }

    /// Appends the content to the history (checkpoint), or makes an older content the current one (restore).
    fn plan_checkpoint(
        &self,
        actor: &mut CheckedOut,
        older: Option<Revision>,
        question: Question<Checkpoint>,
    ) -> Plan {
        let append = older.is_some() || actor.live.is_unrevised();
        if let Some(older) = older {
            // A new revision, so that no number stands for two contents (I4).
            actor.live.restore(older);
        }
        let write = append || actor.live.is_dirty();
        let save = write.then(|| self.save_as(actor, Status::Activated, append));
        let kept = Box::new(actor.live.checkpoint());
        Plan::of(save, Completion::Checkpoint(question.reply, kept, question.permit))
    }

    /// Returns what has to be written before anything leaves.
    fn save(&self, actor: &mut CheckedOut, changed: bool, checkpoint: bool) -> Option<Save> {
        let stateful = actor.spec.hosted.definition.stateful;
        if !stateful {
            return None;
        }
        let acknowledged = self.rules.durability == Durability::Acknowledged;
        let every = self.rules.revisions == Revisions::Every && acknowledged && changed;
        let append = (checkpoint || every) && actor.live.is_unrevised();
        let write = append || (actor.live.is_dirty() && (acknowledged || checkpoint));
        let save = write.then(|| self.save_as(actor, Status::Activated, append));
        if changed && !append {
            self.timers.changed(&actor.entry, &actor.spec.hosted.definition);
        }
        save
    }

    /// The commit that makes rows of effects durable, and with them the content, also in `snapshot` mode.
    fn save_with(&self, actor: &mut CheckedOut, save: Option<Save>, rows: EffectRows) -> Save {
        let stateful = actor.spec.hosted.definition.stateful;
        let save = match save {
            None if stateful && actor.live.is_dirty() => {
                Some(self.save_as(actor, Status::Activated, false))
            }
            save => save,
        };
        let Some(mut save) = save else {
            return Save::of_rows(actor.entry.key.clone(), actor.live.incarnation.epoch, rows);
        };
        match &mut save.rows {
            Some(earlier) => earlier.merge(&rows),
            none => *none = Some(rows.into()),
        }
        save
    }

    /// The commit that makes the current content durable.
    pub(crate) fn save_as(&self, actor: &mut CheckedOut, status: Status, append: bool) -> Save {
        let CheckedOut { entry, live, spec: _ } = actor;
        let at = entry.record_time(self.clock.now());
        live.save(&entry.key, status, append, at)
    }
}

/// What a workflow asks for, in words; `None`: nothing.
fn asked_for(workflow: &Workflow) -> Option<String> {
    let Workflow { effects, broadcast, routing } = workflow;
    let parts = [
        (!effects.is_empty()).then_some("side effects"),
        broadcast.as_ref().map(|_| "a broadcast"),
        routing.as_ref().map(|_| "a pipe or forward"),
    ];
    let asked: Vec<_> = parts.into_iter().flatten().collect();
    (!asked.is_empty()).then(|| asked.join(", "))
}

/// How a turn fails.
type FailWith = fn(crate::call::Placed, Error) -> Box<Failed>;

/// How a turn fails whose action has run.
const AFTER_ACTION: FailWith = Failed::after_action;

/// How a turn fails that has done nothing.
const GIVEN_UP: FailWith = Failed::before_action;

impl Service<Invoked> for SideEffects {
    type Response = BoxPlanned;
    type Error = Box<Failed>;
    type Future = Ready<StageResult<BoxPlanned>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Box<Failed>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invoked: Invoked) -> Self::Future {
        ready(self.0.plan(invoked))
    }
}
