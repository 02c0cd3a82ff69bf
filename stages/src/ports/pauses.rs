//! Pauses: the table of paused actors of a store.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::actor::ActorRef;
use crate::state::Timestamp;

/// That an actor is paused, or was until a short time ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The actor.
    pub actor: ActorRef,
    /// Since when.
    pub since: Timestamp,
    /// Who paused it.
    pub by: String,
    /// When it was resumed. Kept as long as the time of effects for the actor begins then.
    pub ended: Option<Timestamp>,
}

/// Keeps pauses. Futures are owned.
pub trait PauseStore: Debug + Send + Sync + 'static {
    /// Returns all pauses, in any order.
    fn pauses(&self) -> BoxFuture<'static, Result<Vec<Pause>, StoreError>>;

    /// Durably adds pauses; one of the same actor is replaced. When it fails, some may have been added.
    fn put_pauses(&self, pauses: Vec<Pause>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Durably removes the pauses of these actors. A missing one is no error.
    fn remove_pauses(&self, actors: Vec<ActorRef>) -> BoxFuture<'static, Result<(), StoreError>>;
}
