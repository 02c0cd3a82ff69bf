//! Completion: what leaves the mesh once the state it tells of is durable: the reply or the routed
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
pub(crate) enum Completion {
    /// The answer to a call, and the call's place in the mesh.
    Reply(Reply<Payload>, Result<Payload, Error>, Option<Permit>),
    /// The answer to a question for the state, and the question's place in the mesh.
    State(Reply<ActorState>, ActorState, Permit),
    /// The answer to a checkpoint or a restore, and the question's place in the mesh.
    Kept(Reply<Checkpoint>, Box<Checkpoint>, Permit),
    /// The call goes on to another actor, which will answer it.
    Route(Box<Work>),
    /// Word that it is done.
    Done(Reply<()>),
    /// Nothing.
    Nothing,
}

impl Completion {
    /// Ends it with an error instead.
    pub(crate) fn fail(self, actor: &ActorRef, error: Error) {
        match self {
            Completion::Reply(reply, ..) => {
                let error = error.after_action();
                if !reply.is_wanted() {
                    warn!(%actor, %error, "a call that nobody waits for has failed");
                }
                reply.send(Err(error));
            }
            Completion::State(reply, ..) => reply.send(Err(error)),
            Completion::Kept(reply, ..) => reply.send(Err(error)),
            Completion::Route(work) => work.fail(error),
            Completion::Done(reply) => reply.send(Err(error)),
            Completion::Nothing => {}
        }
    }
}

/// The way out; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    pub(crate) caller: Caller,
    pub(crate) effects: EffectsSender,
}

impl Egress {
    /// Lets everything go, in order.
    pub(crate) fn complete(&self, completion: Completion, effects: Vec<PlannedEffect>) {
        match completion {
            Completion::Reply(reply, answer, _permit) => reply.send(answer),
            Completion::State(reply, state, _permit) => reply.send(Ok(state)),
            Completion::Kept(reply, kept, _permit) => reply.send(Ok(*kept)),
            Completion::Route(work) => self.caller.requeue(*work),
            Completion::Done(reply) => reply.send(Ok(())),
            Completion::Nothing => {}
        }
        for effect in effects {
            self.effects.send(effect);
        }
    }
}
