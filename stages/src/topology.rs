//! Topology: the floor plan of the house; the only file that knows every room.

use crate::error::Error;
use crate::invocation::{Invocation, Payload, Registration, Spawn};
use crate::state::ActorState;

/// The running house, as every door sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct House {}

impl House {
    /// Stores a host's definitions durably, then warms eligible actors up in the background.
    ///
    /// # Errors
    /// When a definition is invalid, nothing could be stored, or the house is draining.
    pub async fn register(&self, registration: Registration) -> Result<(), Error> {
        drop(registration);
        Err(Error::Unsupported("registration is not built yet".into()))
    }

    /// Stores spawned identities durably; activates nothing.
    ///
    /// # Errors
    /// When a parent is unknown, a name is taken under another parent, or nothing could be stored.
    pub async fn spawn(&self, spawn: Spawn) -> Result<(), Error> {
        drop(spawn);
        Err(Error::Unsupported("spawning is not built yet".into()))
    }

    /// Runs one invocation: waits for the final answer, or for admission only when it is asynchronous
    /// (then the payload is [`Payload::Unset`]). Dropping the future means that the caller has gone.
    ///
    /// # Errors
    /// See [`Error`]; each variant says whether the action may have run.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Payload, Error> {
        drop(invocation);
        Err(Error::Unsupported("invocation is not built yet".into()))
    }

    /// The state of an actor, activated when needed.
    ///
    /// # Errors
    /// When it is unknown, has no state, or its state cannot be read.
    pub async fn state(&self, system: &str, name: &str) -> Result<ActorState, Error> {
        Err(Error::ActorNotFound { system: system.into(), name: name.into() })
    }

    /// Removes an actor: its state, history and registration.
    ///
    /// # Errors
    /// When it is unknown or the store fails.
    pub async fn delete(&self, system: &str, name: &str) -> Result<(), Error> {
        Err(Error::ActorNotFound { system: system.into(), name: name.into() })
    }
}
