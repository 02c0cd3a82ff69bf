//! Pending reply: the caller's end of a placed call.

use std::sync::Arc;

use tidegate_pipeline::alarm::Alarms;
use tidegate_pipeline::{EventId, KeyedProducer};
use tokio::sync::OwnedSemaphorePermit;

use crate::actor::ActorRef;
use crate::call::{Placed, Task};
use crate::error::Error;
use crate::last_errors;
use crate::registry::entry::{Entry, Hosted};
use crate::reply::{BUSY, Waiting};

/// Why a call of an actor whose host is away was not started in time.
const HOST_AWAY: &str =
    "the actor was busy, or a call of it waits for its host, which cannot be reached";
/// The same of an actor that is paused.
const PAUSED: &str = "the actor is paused";

/// A placed call with a waiting caller. If it is dropped before the answer, the call is removed from its mailbox unless it
/// was started (decision 3).
#[derive(Debug)]
pub(crate) struct PendingReply<T> {
    waiting: Waiting<T>,
    removal: Removal,
    alarms: Arc<Alarms>,
    _place_for_paused: Option<OwnedSemaphorePermit>,
}

impl<T> PendingReply<T> {
    pub(super) fn new(
        waiting: Waiting<T>,
        mailboxes: KeyedProducer<Placed>,
        entry: Arc<Entry>,
        id: EventId,
        alarms: Arc<Alarms>,
    ) -> Self {
        let removal = Removal { mailboxes, entry, id, is_armed: true };
        Self { waiting, removal, alarms, _place_for_paused: None }
    }

    /// Holds what it counts for while its actor is paused.
    pub(super) fn holding(self, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { _place_for_paused: place, ..self }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The call's error, or that its time ran out.
    pub(crate) async fn answer(self) -> Result<T, Error> {
        let Self { mut waiting, mut removal, alarms, _place_for_paused } = self;
        let mut result = waiting.answer_with(&alarms).await;
        removal.is_armed = matches!(result, Err(Error::NotStarted(..)));
        if let Err(error) = &mut result {
            match error {
                Error::NotStarted(_, why) => tell_why(&removal.entry, why),
                Error::ActionRan(source) => {
                    if let Error::NotStarted(_, why) = &mut **source
                        && let Some((mailbox, id)) = waiting.last_route()
                        && let Some(entry) = remove(&removal.mailboxes, &mailbox, id)
                    {
                        tell_why(&entry, why);
                    }
                }
                _ => {}
            }
            last_errors::note(&removal.entry.mailbox, error);
        }
        result
    }
}

/// Says why a call of this actor was not started in time, where the times of the call do not tell.
fn tell_why(entry: &Entry, why: &mut String) {
    if why != BUSY {
        return;
    }
    if entry.is_paused() {
        PAUSED.clone_into(why);
    } else if entry.with_hosted(Hosted::is_away) {
        HOST_AWAY.clone_into(why);
    }
}

/// Takes a call out of its mailbox for which nobody waits any longer. Returns its actor, if the call was queued there.
pub(super) fn remove(
    mailboxes: &KeyedProducer<Placed>,
    mailbox: &ActorRef,
    id: EventId,
) -> Option<Arc<Entry>> {
    let Placed { entry, task: Task::Call(call), .. } = mailboxes.remove(mailbox, id)? else {
        return None;
    };
    let why = "its caller waited no longer".into();
    let error = Error::NotStarted(call.timing.elapsed(), why);
    let error = if call.route.is_empty() { error } else { error.after_action() };
    call.end_trace(&entry.actor, Some(&error));
    Some(entry)
}

/// Removes the call when it is dropped. A call that was routed on has another id and stays: only the end of its time removes it.
#[derive(Debug)]
struct Removal {
    mailboxes: KeyedProducer<Placed>,
    entry: Arc<Entry>,
    id: EventId,
    is_armed: bool,
}

impl Drop for Removal {
    fn drop(&mut self) {
        if self.is_armed {
            drop(remove(&self.mailboxes, &self.entry.mailbox, self.id));
        }
    }
}
