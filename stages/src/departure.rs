//! Departure: what leaves the house once the state it tells of is durable: the reply or the routed
//! call, then the side effects (decision 18).

use tidegate_pipeline::Permit;
use tracing::warn;

use crate::actor::ActorRef;
use crate::caller::{Caller, Work};
use crate::error::Error;
use crate::invocation::Payload;
use crate::reply::Reply;
use crate::side_effects::{EffectsSender, PlannedEffect};
use crate::state::{ActorState, Checkpoint};

/// What leaves first.
#[derive(Debug)]
pub(crate) enum Departure {
    /// The answer to a call, and the call's place in the house.
    Reply(Reply<Payload>, Result<Payload, Error>, Option<Permit>),
    /// The answer to a question for the state, and the question's place in the house.
    State(Reply<ActorState>, ActorState, Permit),
    /// The answer to a checkpoint or a restore, and the question's place in the house.
    Kept(Reply<Checkpoint>, Box<Checkpoint>, Permit),
    /// The call goes on to another actor, which will answer it.
    Route(Box<Work>),
    /// Word that it is done.
    Done(Reply<()>),
    /// Nothing.
    Nothing,
}

impl Departure {
    /// Ends it with an error instead.
    pub(crate) fn fail(self, actor: &ActorRef, error: Error) {
        match self {
            Departure::Reply(reply, ..) => {
                let error = error.after_action();
                if !reply.is_wanted() {
                    warn!(%actor, %error, "a call that nobody waits for has failed");
                }
                reply.send(Err(error));
            }
            Departure::State(reply, ..) => reply.send(Err(error)),
            Departure::Kept(reply, ..) => reply.send(Err(error)),
            Departure::Route(work) => work.fail(error),
            Departure::Done(reply) => reply.send(Err(error)),
            Departure::Nothing => {}
        }
    }
}

/// The way out; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WayOut {
    pub(crate) caller: Caller,
    pub(crate) effects: EffectsSender,
}

impl WayOut {
    /// Lets everything go, in order.
    pub(crate) fn depart(&self, departure: Departure, effects: Vec<PlannedEffect>) {
        match departure {
            Departure::Reply(reply, answer, _permit) => reply.send(answer),
            Departure::State(reply, state, _permit) => reply.send(Ok(state)),
            Departure::Kept(reply, kept, _permit) => reply.send(Ok(*kept)),
            Departure::Route(work) => self.caller.requeue(*work),
            Departure::Done(reply) => reply.send(Ok(())),
            Departure::Nothing => {}
        }
        for effect in effects {
            self.effects.send(effect);
        }
    }
}
