//! Mesh: the calls that the ingress makes to the mesh.

use std::future::Future;

use tidegate_stages::actor::HostAddress;
use tidegate_stages::error::Error;
use tidegate_stages::history::{Interval, Page};
use tidegate_stages::history_reader::StateAt;
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{Broadcast, Invocation, Payload, Reached, Registration, Spawn};
use tidegate_stages::mesh::{Announced, HostView, Mesh, ScheduleAsk, ScheduleTold};
use tidegate_stages::state::{ActorState, Checkpoint, Revision, Timestamp};

/// The calls that the ingress makes to the mesh.
pub trait Calls: Clone + Send + Sync + 'static {
    /// See [`Mesh::register`].
    fn register(
        &self,
        registration: Registration,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    /// See [`Mesh::spawn`].
    fn spawn(&self, spawn: Spawn) -> impl Future<Output = Result<(), Error>> + Send;
    /// Proof that a call was announced.
    type Announced: Send;
    /// See [`Mesh::announce`].
    ///
    /// # Errors
    /// When the call is refused before its body is read.
    fn announce(&self, client: &Identity, system: &str) -> Result<Self::Announced, Error>;
    /// See [`Mesh::invoke_announced`].
    fn invoke(
        &self,
        invocation: Box<Invocation>,
        announced: Self::Announced,
    ) -> impl Future<Output = Result<Payload, Error>> + Send;
    /// See [`Mesh::publish`].
    fn publish(
        &self,
        client: Identity,
        system: &str,
        broadcast: Broadcast,
        traceparent: String,
        announced: Self::Announced,
    ) -> impl Future<Output = Result<Reached, Error>> + Send;
    /// See [`Mesh::state_for`].
    fn state(
        &self,
        client: &Identity,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<ActorState, Error>> + Send;
    /// The mesh whose outboxes administrators look at; `None`: there are none.
    fn outboxes(&self) -> Option<&Mesh> {
        None
    }
    /// See [`Mesh::delete`].
    fn delete(&self, system: &str, name: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// See [`Mesh::hosts`].
    fn hosts(&self, system: &str) -> Vec<HostView>;
    /// See [`Mesh::drain_host`].
    fn drain_host(
        &self,
        system: &str,
        host: &HostAddress,
    ) -> impl Future<Output = Result<usize, Error>> + Send;
    /// See [`Mesh::revisions`].
    fn revisions(
        &self,
        system: &str,
        name: &str,
        interval: Interval,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Revision>, Error>> + Send;
    /// See [`Mesh::revision`].
    fn revision(
        &self,
        system: &str,
        name: &str,
        number: u64,
    ) -> impl Future<Output = Result<Revision, Error>> + Send;
    /// See [`Mesh::state_at`].
    fn state_at(
        &self,
        system: &str,
        name: &str,
        at: Timestamp,
    ) -> impl Future<Output = Result<StateAt, Error>> + Send;
    /// See [`Mesh::latest`].
    fn latest(
        &self,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<Revision, Error>> + Send;
    /// See [`Mesh::checkpoint`].
    fn checkpoint(
        &self,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<Checkpoint, Error>> + Send;
    /// See [`Mesh::ask_schedule`].
    fn ask_schedule(
        &self,
        _client: Identity,
        _ask: ScheduleAsk,
    ) -> impl Future<Output = Result<ScheduleTold, Error>> + Send {
        let text = "schedules are not kept here";
        std::future::ready(Err(Error::Unsupported(text.into())))
    }
    /// See [`Mesh::restore`].
    fn restore(
        &self,
        system: &str,
        name: &str,
        number: u64,
    ) -> impl Future<Output = Result<Checkpoint, Error>> + Send;
}

impl Calls for Mesh {
    fn ask_schedule(
        &self,
        client: Identity,
        ask: ScheduleAsk,
    ) -> impl Future<Output = Result<ScheduleTold, Error>> + Send {
        Mesh::ask_schedule(self, client, ask)
    }

    fn register(
        &self,
        registration: Registration,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        Mesh::register(self, registration)
    }

    fn spawn(&self, spawn: Spawn) -> impl Future<Output = Result<(), Error>> + Send {
        Mesh::spawn(self, spawn)
    }

    type Announced = Announced;

    fn announce(&self, client: &Identity, system: &str) -> Result<Announced, Error> {
        Mesh::announce(self, client, system)
    }

    fn invoke(
        &self,
        invocation: Box<Invocation>,
        announced: Announced,
    ) -> impl Future<Output = Result<Payload, Error>> + Send {
        Mesh::invoke_announced(self, invocation, announced)
    }

    fn publish(
        &self,
        client: Identity,
        system: &str,
        broadcast: Broadcast,
        traceparent: String,
        announced: Announced,
    ) -> impl Future<Output = Result<Reached, Error>> + Send {
        Mesh::publish(self, client, system, broadcast, traceparent, announced)
    }

    fn state(
        &self,
        client: &Identity,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<ActorState, Error>> + Send {
        Mesh::state_for(self, client, system, name)
    }

    fn outboxes(&self) -> Option<&Mesh> {
        Some(self)
    }

    fn delete(&self, system: &str, name: &str) -> impl Future<Output = Result<(), Error>> + Send {
        Mesh::delete(self, system, name)
    }

    fn hosts(&self, system: &str) -> Vec<HostView> {
        Mesh::hosts(self, system)
    }

    fn drain_host(
        &self,
        system: &str,
        host: &HostAddress,
    ) -> impl Future<Output = Result<usize, Error>> + Send {
        Mesh::drain_host(self, system, host)
    }

    fn revisions(
        &self,
        system: &str,
        name: &str,
        interval: Interval,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Revision>, Error>> + Send {
        Mesh::revisions(self, system, name, interval, limit)
    }

    fn revision(
        &self,
        system: &str,
        name: &str,
        number: u64,
    ) -> impl Future<Output = Result<Revision, Error>> + Send {
        Mesh::revision(self, system, name, number)
    }

    fn state_at(
        &self,
        system: &str,
        name: &str,
        at: Timestamp,
    ) -> impl Future<Output = Result<StateAt, Error>> + Send {
        Mesh::state_at(self, system, name, at)
    }

    fn latest(
        &self,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<Revision, Error>> + Send {
        Mesh::latest(self, system, name)
    }

    fn checkpoint(
        &self,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<Checkpoint, Error>> + Send {
        Mesh::checkpoint(self, system, name)
    }

    fn restore(
        &self,
        system: &str,
        name: &str,
        number: u64,
    ) -> impl Future<Output = Result<Checkpoint, Error>> + Send {
        Mesh::restore(self, system, name, number)
    }
}
