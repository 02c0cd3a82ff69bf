//! Completion: what leaves once the state is durable that it reports.

use tidegate_pipeline::Permit;
use tracing::warn;

use crate::actor::ActorRef;
use crate::call::{Ack, Call, Emitted, Placed, PlannedBroadcast, Task};
use crate::error::Error;
use crate::invocation::Payload;
use crate::last_errors;
use crate::reply::Reply;
use crate::state::{ActorState, Checkpoint};
use crate::traces::Mark;

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
    /// Returns the error of a call that ends with one.
    pub(crate) fn failure(&self) -> Option<Error> {
        match self {
            Completion::Reply(_, Err(error), _) => Some(error.clone()),
            _ => None,
        }
    }

    /// Returns the error of a call that ends with an answer, but whose caller waits no longer.
    pub(crate) fn unheard(&self) -> Option<Error> {
        match self {
            Completion::Reply(reply, Ok(_), _) => reply.unheard(),
            _ => None,
        }
    }

    /// Bytes of the payload that is answered, or that goes on to another actor.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Completion::Reply(_, Ok(payload), _) => payload.len(),
            Completion::Route(placed) => match &placed.task {
                Task::Call(call) => call.payload.len(),
                _ => 0,
            },
            Completion::State(_, state, _) => state.bytes(),
            _ => 0,
        }
    }

    /// Ends it with an error instead.
    fn fail(self, error: Error) {
        match self {
            Completion::Reply(reply, ..) => reply.send(Err(error.after_action())),
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
    /// What is left of the call that ends with it, when that is traced.
    pub(crate) traced: Option<(ActorRef, Box<Call>)>,
}

impl Committed {
    /// How a turn ends that has no part in effects.
    pub(crate) fn of(completion: Completion) -> Self {
        Self { completion, ..Self::default() }
    }

    /// Notes for the trace that it is being written.
    pub(crate) fn writing(&self) {
        match (&self.traced, &self.completion) {
            (Some((_, call)), _) => call.timing.mark(Mark::Writing),
            (None, Completion::Route(placed)) => placed.mark(Mark::Writing),
            _ => {}
        }
    }

    /// Ends it with an error: it was not written.
    pub(crate) fn fail(self, actor: &ActorRef, error: Error) {
        if let Some((actor, call)) = &self.traced {
            call.end_trace(actor, Some(&error));
        }
        if let Some(ack) = self.ack {
            return ack.send(Err(error));
        }
        if let Completion::Reply(reply, ..) = &self.completion
            && !reply.is_wanted()
        {
            let call = self.traced.as_ref().map(|(_, call)| call);
            let (request_id, trace_id) = call.map(|call| call.ids()).unwrap_or_default();
            let error = error.clone().after_action();
            last_errors::note(actor, &error);
            warn!(%actor, %error, request_id, trace_id, "a call that nobody waits for has failed");
        }
        self.completion.fail(error);
    }
}
