//! Completion: what leaves once the state is durable that it reports.

use tidegate_pipeline::Permit;
use tracing::warn;

use crate::actor::ActorRef;
use crate::call::{Ack, Emitted, Placed, PlannedBroadcast};
use crate::error::Error;
use crate::invocation::Payload;
use crate::reply::Reply;
use crate::state::{ActorState, Checkpoint};

/// How a turn ends.
#[derive(Debug, Default)]
pub(crate) enum Completion {
    /// The answer to a call, and what the call counts for.
    Reply(Reply<Payload>, Result<Payload, Error>, Option<Permit>),
    /// The answer to a question for the state, and what the question counts for.
    State(Reply<ActorState>, ActorState, Permit),
    /// The answer to a checkpoint or a restore, and what the question counts for.
    Checkpoint(Reply<Checkpoint>, Box<Checkpoint>, Permit),
    /// The call goes on to another actor, which will answer it.
    Route(Box<Placed>),
    /// A reply without content: it is done.
    Done(Reply<()>),
    /// Nothing.
    #[default]
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
            Completion::Checkpoint(reply, ..) => reply.send(Err(error)),
            Completion::Route(placed) => placed.fail(error),
            Completion::Done(reply) => reply.send(Err(error)),
            Completion::Nothing => {}
        }
    }
}

/// A turn whose change, if it made one, is durable.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// What leaves first.
    pub(crate) completion: Completion,
    /// What leaves after that: the effects of the commit.
    pub(crate) emitted: Option<Box<Emitted>>,
    /// Who learns that the effect is answered that the turn delivered.
    pub(crate) ack: Option<Ack>,
    /// What leaves last.
    pub(crate) broadcast: Option<Box<PlannedBroadcast>>,
}

impl Committed {
    /// How a turn ends that has no part in effects.
    pub(crate) fn of(completion: Completion) -> Self {
        Self { completion, ..Self::default() }
    }

    /// Ends it with an error: it was not written.
    pub(crate) fn fail(self, actor: &ActorRef, error: Error) {
        if let Some(ack) = self.ack {
            return ack.send(Err(error));
        }
        self.completion.fail(actor, error);
    }
}
