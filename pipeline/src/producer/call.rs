//! Call: an event whose sender waits for a reply.

use tokio::sync::oneshot;

use crate::buffer::{Permit, Refused};
use crate::dispatcher::Dispatcher;
use crate::producer::{CallService, Producer};

/// An event whose sender waits for a reply.
#[derive(Debug)]
pub struct Call<Q, R> {
    /// The request.
    pub request: Q,
    /// Where the reply goes.
    pub reply: Reply<R>,
}

/// Sends the reply to a [`Call`]. When it is dropped unused, the caller gets [`CallError::NoReply`],
/// so a caller never waits for ever.
#[derive(Debug)]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Sends the reply.
    ///
    /// # Errors
    /// Returns the reply when the caller no longer waits.
    pub fn send(self, reply: R) -> Result<(), R> {
        self.0.send(reply)
    }

    /// Whether the caller no longer waits.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

/// Why a call has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The call was not admitted and never ran.
    #[error("the call was refused")]
    Refused(#[from] Refused),
    /// The consumer dropped the call without a reply. It may have run.
    #[error("the call was dropped without a reply")]
    NoReply,
}

impl<Q: Send + 'static, R: Send + 'static, D: Dispatcher<Call<Q, R>>> Producer<Call<Q, R>, D> {
    /// Puts a call into the place that was taken for it and waits for its reply, without a limit.
    /// Dropping the future gives up the reply; the call still runs.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, request: Q, permit: Permit) -> Result<R, CallError> {
        let (sender, reply) = oneshot::channel();
        let call = Call { request, reply: Reply(sender) };
        self.cast(call, permit).map_err(|rejected| rejected.reason)?;
        reply.await.map_err(|_| CallError::NoReply)
    }

    /// Makes a tower service that calls. It is ready when the buffer has a free place; its response is
    /// the reply. `weigh` returns how many bytes a request counts for.
    pub fn call_service(&self, weigh: fn(&Q) -> usize) -> CallService<Q, R, D> {
        CallService::new(self.clone(), weigh)
    }
}
