//! Pending reply: the end of a placed call on which its client waits.

use tidegate_pipeline::KeyedProducer;

use crate::actor::ActorRef;
use crate::call::Placed;
use crate::error::Error;
use crate::reply::Waiting;

/// A placed call whose answer somebody waits for. Dropped before the answer, it removes the call from its mailbox
/// unless it was started (decision 3).
#[derive(Debug)]
pub(crate) struct PendingReply<T> {
    waiting: Waiting<T>,
    sweep: Sweep,
}

impl<T> PendingReply<T> {
    pub(super) fn new(
        waiting: Waiting<T>,
        mailboxes: KeyedProducer<Placed>,
        actor: ActorRef,
    ) -> Self {
        Self { waiting, sweep: Sweep { mailboxes, actor, is_armed: true } }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The call's error, or that its time ran out.
    pub(crate) async fn answer(self) -> Result<T, Error> {
        // Dropped at the await, the waiting end goes first, then the sweep finds the call abandoned.
        let Self { waiting, mut sweep } = self;
        let result = waiting.answer().await;
        sweep.is_armed = matches!(result, Err(Error::NotStarted(..)));
        result
    }
}

#[derive(Debug)]
struct Sweep {
    mailboxes: KeyedProducer<Placed>,
    actor: ActorRef,
    is_armed: bool,
}

impl Drop for Sweep {
    fn drop(&mut self) {
        if self.is_armed {
            self.mailboxes.sweep(&self.actor);
        }
    }
}
