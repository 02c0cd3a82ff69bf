//! History: reads an actor's history, appends to it (checkpoint) and goes back in it (restore).

use std::sync::Arc;

use super::Mesh;
use crate::actor::ActorId;
use crate::call::Task;
use crate::error::Error;
use crate::history::{Interval, Page};
use crate::history_reader::StateAt;
use crate::ports::StoreError;
use crate::state::{Checkpoint, Revision, Timestamp};

impl Mesh {
    /// A page of an actor's revisions in an interval, ascending, as they are durable now.
    ///
    /// # Errors
    /// When the actor is unknown or the store fails.
    pub async fn revisions(
        &self,
        system: &str,
        name: &str,
        interval: Interval,
        limit: usize,
    ) -> Result<Page<Revision>, Error> {
        self.history_reader.revisions(&*self.key_of(system, name)?, interval, limit).await
    }

    /// One revision of an actor.
    ///
    /// # Errors
    /// When the actor is unknown, its history has no such revision, or the store fails.
    pub async fn revision(&self, system: &str, name: &str, number: u64) -> Result<Revision, Error> {
        self.history_reader.revision(&*self.key_of(system, name)?, number).await
    }

    /// The newest revision of an actor at or before a time.
    ///
    /// # Errors
    /// When the actor is unknown, no revision is that old, or the store fails.
    pub async fn state_at(
        &self,
        system: &str,
        name: &str,
        at: Timestamp,
    ) -> Result<StateAt, Error> {
        let id = self.key_of(system, name)?;
        let incarnation = self.find(system, name)?.memory.lock().incarnation.clone();
        let settled = incarnation.is_none_or(|incarnation| incarnation.is_settled());
        self.history_reader.at(&id, at, settled).await
    }

    /// The latest durable state of an actor; its number is that of the newest revision, whose content may be older.
    ///
    /// # Errors
    /// When the actor is unknown, it has no durable state, or the store fails.
    pub async fn latest(&self, system: &str, name: &str) -> Result<Revision, Error> {
        self.history_reader.latest(&*self.key_of(system, name)?).await
    }

    /// Appends an actor's content to its history, durably, unless the newest revision holds it already. An actor without tags
    /// and state gets no revision.
    ///
    /// # Errors
    /// When the actor is unknown, stateless or owned by another proxy, or the store fails.
    pub async fn checkpoint(&self, system: &str, name: &str) -> Result<Checkpoint, Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        let kept = self.mailboxes.ask_for(&entry, Task::Checkpoint).await?.answer().await;
        kept.map_err(|error| elsewhere(name, error))
    }

    /// Makes an older revision's content the current one, as a new revision. It takes its turn among the actor's calls and is
    /// durable when this returns.
    ///
    /// # Errors
    /// When the actor is unknown, stateless or owned by another proxy, its history has no such revision, or
    /// the store fails.
    pub async fn restore(
        &self,
        system: &str,
        name: &str,
        number: u64,
    ) -> Result<Checkpoint, Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        let task = |asked| Task::Restore(number, asked);
        let kept = self.mailboxes.ask_for(&entry, task).await?.answer().await;
        kept.map_err(|error| elsewhere(name, error))
    }

    fn key_of(&self, system: &str, name: &str) -> Result<Arc<ActorId>, Error> {
        self.refuse_while_closed()?;
        Ok(self.find(system, name)?.key.clone())
    }
}

/// Changes the error when another proxy owns the actor: trying again does not help then.
fn elsewhere(name: &str, error: Error) -> Error {
    match error {
        Error::Store(StoreError::Fenced(epoch)) => Error::Conflict(format!(
            "Actor {name} runs elsewhere, under epoch {epoch}: ask there; what was asked for here may or may not be seen there"
        )),
        other => other,
    }
}
