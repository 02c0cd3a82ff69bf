//! Pending reply: the caller's end of a placed call.

use tidegate_pipeline::{EventId, KeyedProducer};

use crate::actor::ActorRef;
use crate::call::Placed;
use crate::error::Error;
use crate::reply::Waiting;

/// A placed call with a waiting caller. If it is dropped before the answer, the call is removed from its mailbox unless it
/// was started (decision 3).
#[derive(Debug)]
pub(crate) struct PendingReply<T> {
    waiting: Waiting<T>,
    removal: Removal,
}

impl<T> PendingReply<T> {
    pub(super) fn new(
        waiting: Waiting<T>,
        mailboxes: KeyedProducer<Placed>,
        member: ActorRef,
        id: EventId,
    ) -> Self {
        Self { waiting, removal: Removal { mailboxes, member, id, is_armed: true } }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The call's error, or that its time ran out.
    pub(crate) async fn answer(self) -> Result<T, Error> {
        let Self { waiting, mut removal } = self;
        let result = waiting.answer().await;
        removal.is_armed = matches!(result, Err(Error::NotStarted(..)));
        result
    }
}

/// Removes the call when it is dropped. A routed call has another id and stays.
#[derive(Debug)]
struct Removal {
    mailboxes: KeyedProducer<Placed>,
    member: ActorRef,
    id: EventId,
    is_armed: bool,
}

impl Drop for Removal {
    fn drop(&mut self) {
        if self.is_armed {
            drop(self.mailboxes.remove(&self.member, self.id));
        }
    }
}
