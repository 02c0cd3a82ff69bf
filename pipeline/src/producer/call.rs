//! Call: an event with a reply slot.

use tokio::sync::oneshot;

use crate::buffer::{Permit, Refused};
use crate::dispatcher::Dispatcher;
use crate::producer::{CallDoor, Producer};

/// An event whose sender waits for an answer.
#[derive(Debug)]
pub struct Call<Q, R> {
    /// What was asked.
    pub request: Q,
    /// Where the answer goes.
    pub reply: Reply<R>,
}

/// Where the answer to a [`Call`] goes. Dropped unused, it answers [`CallError::Unanswered`], so a
/// caller never hangs.
#[derive(Debug)]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Answers.
    ///
    /// # Errors
    /// Hands the answer back when the caller has gone.
    pub fn send(self, answer: R) -> Result<(), R> {
        self.0.send(answer)
    }

    /// Whether the caller has gone.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not admitted and never ran.
    #[error("the call was refused")]
    Refused(#[from] Refused),
    /// The consumer dropped it without an answer: it may have run.
    #[error("the call was dropped without an answer")]
    Unanswered,
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> Producer<Call<Q, R>, D> {
    /// Puts a call into the place that was taken for it and waits for its answer, for as long as the
    /// consumer takes. Dropping the future gives up the answer, not the call.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, request: Q, permit: Permit) -> Result<R, CallError> {
        let (reply, answer) = oneshot::channel();
        let call = Call { request, reply: Reply(reply) };
        self.cast(call, permit).map_err(|rejected| rejected.reason)?;
        answer.await.map_err(|_| CallError::Unanswered)
    }

    /// Makes a tower service that calls: its readiness is room in the buffer, its response the
    /// answer. `weigh` says how many bytes a request counts for.
    pub fn call_door(&self, weigh: fn(&Q) -> usize) -> CallDoor<Q, R, D> {
        CallDoor::new(self.clone(), weigh)
    }
}
