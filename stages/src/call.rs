//! Call: what travels from stage to stage.
//!
//! ```text
//! Request ─▶ Checked ─▶ Admitted ─▶ Placed ═▶ Activated ─▶ Invoked ─▶ Planned ═▶ Committed
//! (caller)   (caller)   (placement) (mailbox)  (lookup)    (invoke)   (side effects)  (checkpoint)
//! ```
//! A stage takes one of these and returns the next, or a [`Failed`], which carries the turn back.

mod broadcast;
mod completion;
mod effect;
mod failed;
mod letters;
mod placed;
mod plan;
mod traced;

pub(crate) use broadcast::{BroadcastBound, Delivery, Message, PlannedBroadcast};
pub(crate) use completion::{Committed, Completion};
pub(crate) use effect::{Ack, Answered, Emitted, EmittedEffect, Received};
pub(crate) use failed::{Failed, StageResult};
pub(crate) use letters::{ChangeLetters, LettersChanged};
pub(crate) use placed::{Call, Placed, Question, Task, TurnHandle};
pub(crate) use plan::{BoxPlanned, Planned};
pub(crate) use traced::{Early, Hop};

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_pipeline::Permit;

use crate::actor::{ActorId, ActorRef};
use crate::invocation::{ActorInvocationResponse, Invocation};
use crate::places::Place;
use crate::registry::entry::{CheckedOut, Entry};
use crate::registry::pools::MemberLoad;
use crate::reply::Timing;
use crate::retries::Retries;
use crate::state::Revision;
use crate::traces::Mark;

/// A call that asks to be admitted. Its invocation is boxed, as it passes many layers.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) invocation: Box<Invocation>,
    pub(crate) origin: Origin,
}

/// Where a call comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client.
    Outside,
    /// The mesh itself, on behalf of this actor (a side effect): served also while clients are refused.
    Inside(ActorRef),
    /// The mesh itself, for a call that a client scheduled earlier: it was allowed and counted then.
    Due,
}

/// A call that was checked: its definition has its action. Nothing was done for it yet.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) invocation: Box<Invocation>,
    pub(crate) origin: Origin,
    /// Its actor. When the actor is to be spawned first: the entry that it is spawned from.
    pub(crate) entry: Arc<Entry>,
    /// The actor to spawn first.
    pub(crate) to_spawn: Option<ActorId>,
}

/// A call that was checked and admitted; its actor is known.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) entry: Arc<Entry>,
    pub(crate) invocation: Box<Invocation>,
    /// Began before the call waited for capacity.
    pub(crate) timing: Timing,
    /// What it counts for against the admission bound; `None` for calls that the mesh makes itself while it drains, and for
    /// deliveries of broadcasts.
    pub(crate) permit: Option<Permit>,
    /// The effect that it delivers.
    pub(crate) effect: Option<Box<Received>>,
    /// What it counts for as a delivery of a broadcast.
    pub(crate) delivery: Option<Box<Delivery>>,
    /// What it counts for at a member of a pool.
    pub(crate) load: Option<MemberLoad>,
}

/// A turn whose actor is in memory and checked out. It travels boxed: each stage passes it on.
#[derive(Debug)]
pub(crate) struct Activated {
    pub(crate) actor: CheckedOut,
    pub(crate) task: Task,
    pub(crate) host_limit: u32,
    pub(crate) place: Option<Place>,
    pub(crate) retries: Retries,
    /// The revision that a [`Task::Restore`] asks for.
    pub(crate) older: Option<Revision>,
}

/// What lookup found.
pub(crate) enum LookedUp {
    /// The actor is in memory.
    Here(Box<Activated>),
    /// It is being loaded, or the store is asked whether it works.
    Loading(ParkedWork),
}

/// Work that a turn waits for before it goes on or ends. It is awaited with the key parked, so that no worker's slot is held
/// meanwhile. Returns the turn when it is to be granted again.
pub(crate) type ParkedWork = BoxFuture<'static, StageResult<Option<Placed>>>;

impl Activated {
    /// Whether its actor's init action has to run first.
    pub(crate) fn awaits_init(&self) -> bool {
        let definition = &self.actor.spec.hosted.definition;
        self.task.needs_host() && !self.actor.live.initialised && definition.init_action().is_some()
    }

    /// Whether it only tells a state that is stored: while the host cannot be reached, that needs no init action.
    pub(crate) fn tells_stored_state(&self) -> bool {
        let only_tells = match &self.task {
            Task::State(_) => true,
            Task::Call(call) => self.actor.spec.hosted.definition.is_default_action(&call.action),
            _ => false,
        };
        only_tells && self.actor.live.is_stored()
    }

    /// Splits off the init action: returns the turn of the init action, which has the actor, and this turn as it was placed.
    /// Both share one place at the checkpoint.
    pub(crate) fn init_first(self: Box<Self>) -> (Box<Activated>, Placed) {
        let Self { actor, task, host_limit, place, retries, older } = *self;
        let (for_init, place) = place.map(Place::share).unzip();
        let entry = actor.entry.clone();
        // The turn that waits is the one that is tried again.
        let init = Retries::within(Duration::ZERO);
        let placed = Placed { entry, host_limit, task, place, retries };
        let signal = placed.task.timing().map(Timing::signal_handle);
        let (task, place) = (Task::Init(signal), for_init);
        let retries = init;
        (Box::new(Activated { actor, task, host_limit, place, retries, older }), placed)
    }

    /// Notes for the trace of its call what that has reached.
    pub(crate) fn mark(&self, mark: Mark) {
        if let Task::Call(call) = &self.task {
            call.timing.mark(mark);
        }
    }

    /// Checks the actor in and returns the turn as it was placed.
    pub(crate) fn release(self: Box<Self>) -> Placed {
        let Self { actor, task, host_limit, place, retries, older: _ } = *self;
        let entry = actor.entry.clone();
        actor.check_in();
        Placed { entry, host_limit, task, place, retries }
    }

    /// The turn has failed; its actor is checked in.
    pub(crate) fn fail(self: Box<Self>, failed: impl FnOnce(Placed) -> Box<Failed>) -> Box<Failed> {
        failed(self.release())
    }
}

/// A turn whose action has run, or that needs none.
#[derive(Debug)]
pub(crate) struct Invoked {
    pub(crate) activated: Box<Activated>,
    /// The response of the action; `None` when the task runs none.
    pub(crate) response: Option<Box<ActorInvocationResponse>>,
}
