//! History: what a mesh tells of an actor's history, and the two ways to write to it by hand.

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

    /// Has an actor's content in its history, durably: appends a revision unless the newest one holds it.
    /// An actor without tags and state gets none.
    ///
    /// # Errors
    /// When the actor is unknown, stateless or owned by another proxy, or the store fails.
    pub async fn checkpoint(&self, system: &str, name: &str) -> Result<Checkpoint, Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        let kept = self.mailboxes.ask_for(&entry, Task::Checkpoint).await?.answer().await;
        kept.map_err(|error| elsewhere(name, error))
    }

    /// Makes an older revision's content the current one, as a new revision: durable before it answers,
    /// in its turn among the actor's calls.
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

/// Coming back later is of no use where another proxy owns the actor.
fn elsewhere(name: &str, error: Error) -> Error {
    match error {
        Error::Store(StoreError::Fenced(epoch)) => Error::Conflict(format!(
            "Actor {name} runs elsewhere, under epoch {epoch}: ask there; what was asked for here may or may not be seen there"
        )),
        other => other,
    }
}
