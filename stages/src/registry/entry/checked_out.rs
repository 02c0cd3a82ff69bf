//! Checked out: the live state of an actor while a turn has it.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Spec};
use crate::activation::Live;
use crate::activation::incarnation::CommitState;
use crate::error::Error;

/// An actor's live state, taken out of its entry. If it is dropped without being [checked in](Self::check_in), by a panic or
/// an abort, the state is lost and the next call loads the actor again.
#[derive(Debug)]
pub(crate) struct CheckedOut {
    pub(crate) entry: Arc<Entry>,
    pub(crate) spec: Spec,
    pub(crate) live: Box<Live>,
}

impl CheckedOut {
    /// Takes the live state if it is in memory and usable.
    ///
    /// # Errors
    /// When a commit of the actor is in doubt.
    pub(crate) fn take(entry: &Arc<Entry>) -> Result<Option<Self>, Error> {
        let mut memory = entry.memory.lock();
        match memory.incarnation.as_ref().map(|incarnation| incarnation.commit_state()) {
            None | Some(CommitState::Clean) => {}
            Some(CommitState::InDoubt) => {
                return Err(Error::Overloaded {
                    reason: "the outcome of the actor's last commit is not known yet".into(),
                    retry_after: Duration::from_secs(1),
                });
            }
            Some(CommitState::Abandoned(_)) => memory.live = None,
        }
        let live = memory.live.take();
        drop(memory);
        Ok(live.map(|live| CheckedOut { entry: entry.clone(), spec: entry.spec(), live }))
    }

    /// Puts the live state back for the next turn.
    pub(crate) fn check_in(self) {
        self.entry.note_state(self.live.content.bytes());
        self.entry.memory.lock().live = Some(self.live);
    }
}
