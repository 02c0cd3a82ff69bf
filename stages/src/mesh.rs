//! Mesh: the running proxy as an ingress calls it: invoke, spawn, register, state, history, control.

mod actors;
mod channels;
mod control;
mod effects;
mod flow;
mod history;
mod hot;
mod hosts;
mod members;
mod observe;
mod schedules;
mod summary;
mod warnings;

use std::sync::Arc;

use tidegate_pipeline::Drain;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::access::{Access, CallKind, CurrentPolicies, Subject};
use crate::call::{Admitted, Early, Origin, Request, Task};
pub use crate::caller::Announced;
use crate::caller::{Announce, CallerService};
use crate::channels::Channels;
use crate::checkpoint::CheckpointQueue;
use crate::control::Control;
use crate::due::DueWork;
use crate::effects::{Effects, Letters};
use crate::elsewhere::Elsewhere;
use crate::error::Error;
use crate::history_reader::HistoryReader;
use crate::hot::Hot;
pub use crate::hot::Measure;
use crate::identity::Identity;
use crate::invocation::{Invocation, Payload, Registration, Spawn};
use crate::metrics::InvocationDurations;
use crate::placement::Mailboxes;
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::registry::registration::Registrar;
use crate::retention::Growth;
use crate::schedules::Schedules;
use crate::state::ActorState;
use crate::topics::append::Topics;
use crate::traces::Stage;
pub use channels::{SubscriberView, TopicView};
pub use flow::{FlowSeen, HostSeen, WaitingFilter, WaitingSeen};
pub use hosts::HostView;
pub use hot::{HotActor, HotSeen};
pub use observe::Observed;
pub use schedules::{ScheduleAsk, ScheduleTold};
pub use summary::{Summary, Totals};
pub use warnings::{Warned, Warning, WarningKind};

/// The running mesh. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub(crate) announce: Arc<Announce>,
    pub(crate) caller: CallerService,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) registrar: Registrar,
    pub(crate) directory: Arc<Directory>,
    pub(crate) effects: Effects,
    pub(crate) letters: Letters,
    pub(crate) channels: Channels,
    pub(crate) topics: Topics,
    pub(crate) hot: Hot,
    pub(crate) checkpoint: CheckpointQueue,
    pub(crate) growth: Growth,
    pub(crate) due: DueWork,
    pub(crate) control: Control,
    pub(crate) schedules: Schedules,
    pub(crate) tasks: Drain,
    pub(crate) stop_timers: CancellationToken,
    pub(crate) durations: InvocationDurations,
    pub(crate) history_reader: HistoryReader,
    pub(crate) policies: CurrentPolicies,
    pub(crate) elsewhere: Elsewhere,
}

impl Mesh {
    /// Stores a host's definitions durably, then warms eligible actors up in the background.
    ///
    /// # Errors
    /// When a definition is invalid, nothing could be stored, or the mesh is draining.
    pub async fn register(&self, registration: Registration) -> Result<(), Error> {
        self.refuse_while_closed()?;
        let host = registration.host.clone();
        self.registrar.register(registration).await?;
        if let Some(known) = self.directory.known_host(&host) {
            known.reachability.registered();
        }
        Ok(())
    }

    /// Stores spawned identities durably; activates nothing.
    ///
    /// # Errors
    /// When a parent is unknown, a name is taken under another parent, or nothing could be stored.
    pub async fn spawn(&self, spawn: Spawn) -> Result<(), Error> {
        self.refuse_while_closed()?;
        self.registrar.spawn(spawn).await.map(drop)
    }

    /// Counts a call of this client, before its content is read. `system` is the system that it says it is for.
    ///
    /// # Errors
    /// When the client or the system has had its calls, no place is free, or the mesh is draining. The call is not to be read
    /// then.
    pub fn announce(&self, client: &Identity, system: &str) -> Result<Announced, Error> {
        self.announce.announce(client, system)
    }

    /// Announces an invocation that is read already, and runs it.
    ///
    /// # Errors
    /// As [`announce`](Self::announce) and [`invoke_announced`](Self::invoke_announced).
    pub async fn invoke(&self, invocation: Invocation) -> Result<Payload, Error> {
        let announced = self.announce(&invocation.identity, &invocation.actor.system)?;
        self.invoke_announced(Box::new(invocation), announced).await
    }

    /// Runs one invocation: waits for the final answer, or for admission only when it is asynchronous
    /// or scheduled (then the payload is [`Payload::Unset`]). Dropping the future means that the caller has gone.
    ///
    /// # Errors
    /// See [`Error`]; each variant says whether the action may have run.
    pub async fn invoke_announced(
        &self,
        invocation: Box<Invocation>,
        _: Announced,
    ) -> Result<Payload, Error> {
        let began = Instant::now();
        let outcome = self.run(invocation).await;
        self.durations.record(began.elapsed(), outcome.is_ok());
        outcome
    }

    async fn run(&self, mut invocation: Box<Invocation>) -> Result<Payload, Error> {
        self.refuse_while_closed()?;
        let is_elsewhere = self.elsewhere.takes(&invocation);
        let early = Early::begin(&self.mailboxes.tracer, &mut invocation);
        let request = Request { invocation, origin: Origin::Outside };
        if is_elsewhere {
            // Boxed: few calls need it.
            return Box::pin(self.elsewhere.call(request)).await;
        }
        let admitted = match self.caller.clone().oneshot(request).await {
            Ok(admitted) => admitted,
            Err(error) => {
                if let Some(early) = early {
                    early.end(None, Some(&error));
                }
                return Err(error);
            }
        };
        if self.due.is_kept(&admitted.invocation) {
            // Boxed: few calls need it.
            return Box::pin(self.schedule(admitted, early)).await;
        }
        match (&self.mailboxes).oneshot(admitted).await? {
            Some(pending) => pending.answer().await,
            None => Ok(Payload::Unset),
        }
    }

    /// Keeps a call until its time. What is traced of it until then is that it is kept.
    async fn schedule(
        &self,
        mut admitted: Admitted,
        early: Option<Box<Early>>,
    ) -> Result<Payload, Error> {
        let timing = admitted.timing.clone();
        let context = &mut admitted.invocation.traceparent;
        *context = timing.context(0, Stage::Caller, context);
        let outcome = self.due.schedule(admitted).await;
        if let Some(early) = early {
            early.end(Some(&timing), outcome.as_ref().err());
        }
        outcome
    }

    /// The state of an actor, as this client may read it. Policies see a call of the action `get`.
    ///
    /// # Errors
    /// When the client may not read it; else as [`state`](Self::state).
    pub async fn state_for(
        &self,
        client: &Identity,
        system: &str,
        name: &str,
    ) -> Result<ActorState, Error> {
        let (subject, kind, action) = (Subject::Client(client), CallKind::State, "get");
        self.policies.check(&Access { subject, kind, system, name, action })?;
        self.state(system, name).await
    }

    /// The state of an actor, activated when needed. Asks no policy.
    ///
    /// # Errors
    /// When it is unknown, has neither state nor tags, or its state cannot be read.
    pub async fn state(&self, system: &str, name: &str) -> Result<ActorState, Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        let state = self.mailboxes.ask_for(&entry, Task::State).await?.answer().await?;
        if state.state.is_none() && state.tags.is_empty() {
            return Err(Error::NotFound(format!(
                "Actor {name} on ActorSystem {system} has no state"
            )));
        }
        Ok(state)
    }

    /// Removes an actor: its state, its history and, when it was spawned, its registration.
    ///
    /// # Errors
    /// When it is unknown or the store fails.
    pub async fn delete(&self, system: &str, name: &str) -> Result<(), Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        self.mailboxes.ask_for(&entry, Task::Delete).await?.answer().await
    }

    /// Waits until a stage ends although the mesh is not drained. The mesh cannot recover from that. Returns its name.
    pub async fn stage_ended(&self) -> &'static str {
        self.tasks.stage_ended().await
    }

    /// The systems that are registered here.
    pub fn systems(&self) -> Vec<String> {
        self.directory.systems()
    }

    /// Tells when [these](Self::systems) change, or may have.
    pub fn watch_systems(&self) -> watch::Receiver<()> {
        self.directory.systems_changed.subscribe()
    }

    /// Whether calls from outside are refused.
    pub fn is_closed(&self) -> bool {
        self.mailboxes.is_closed()
    }

    fn find(&self, system: &str, name: &str) -> Result<Arc<Entry>, Error> {
        self.directory
            .find(system, name)
            .ok_or_else(|| Error::ActorNotFound { system: system.into(), name: name.into() })
    }

    fn refuse_while_closed(&self) -> Result<(), Error> {
        if self.mailboxes.is_closed() { Err(Error::Draining) } else { Ok(()) }
    }
}
