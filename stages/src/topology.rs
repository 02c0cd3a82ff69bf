//! Topology: the floor plan of the mesh; the only file that knows every room.
//!
//! ```text
//! caller ══▶ worker: lookup → invoke → side effects ══▶ checkpoint ─▶ reply | next actor
//!  (keyed producer:   (consumers: one turn per demand)   (batch consumer) └▶ effects sender (keyed producer, consumer)
//!   one mailbox per actor)                                                  └▶ retention (producers, consumer)
//! ```
//! Demand crosses the double arrows: from mailboxes to workers (concurrency), from workers to the
//! checkpoint (batching), from durable commits to the effects sender and to retention (isolation).

mod history;

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::layer::TimedLayer;
use tidegate_pipeline::{
    BatchOptions, Bound, Consumer, ConsumerOptions, Drain, Full, KeyedOptions, KeyedProducer,
    SubscribeError, SubscribeOptions,
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::layer::util::{Identity, Stack};
use tracing::{info, warn};

use crate::caller::{Caller, Origin, Task, Work};
use crate::checkpoint::{Checkpoint, CheckpointQueue};
use crate::clock::WatchedClock;
use crate::directory::{Directory, Entry};
use crate::egress::Egress;
use crate::error::Error;
use crate::history::Retention;
use crate::history_reader::HistoryReader;
use crate::incarnation::Settled;
use crate::invocation::{Invocation, Payload, Registration, Spawn};
use crate::invoke::Invoke;
use crate::lookup::Lookup;
use crate::metrics::InvocationDurations;
use crate::ports::{Clock, Host, Registry, StateStore};
use crate::registration::Registrar;
use crate::reply::{Deadlines, Reply, Timing};
use crate::retention::Growth;
use crate::side_effects::{ChangeRules, Deliver, EffectsSender, SideEffects};
use crate::state::ActorState;
use crate::store_breaker::StoreBreaker;
use crate::timer::Timers;
use crate::worker::{Turns, Worker};

/// Bounds and rules of the mesh; the defaults suit a small machine.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Calls in the mesh, from admission to reply.
    pub admission: Bound,
    /// What a full door does.
    pub full: Full,
    /// Turns that run at the same time.
    pub worker_demand: usize,
    /// Consumers among which the turns are shared; as many as there are cores.
    pub workers: usize,
    /// Calls in flight to one host.
    pub host_connections: usize,
    /// Outcomes on their way to the store.
    pub checkpoint: Bound,
    /// Commits that the store has in hand at once: one for a store that makes one of all that waits, more for one
    /// that is far away.
    pub commits_in_flight: usize,
    /// Side effects on their way to their targets.
    pub effects: Bound,
    /// How long a call may take, phase by phase.
    pub deadlines: Deadlines,
    /// How a response changes an actor.
    pub rules: ChangeRules,
    /// How much of each history is kept.
    pub retention: Retention,
    /// Actors in memory, beyond which the least recently used leave.
    pub max_live: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            admission: Bound { events: 12_288, bytes: 256 << 20 },
            full: Full::Shed,
            worker_demand: 4_096,
            workers: 2,
            host_connections: 4_096,
            checkpoint: Bound { events: 8_192, bytes: 128 << 20 },
            commits_in_flight: 1,
            effects: Bound { events: 8_192, bytes: 64 << 20 },
            deadlines: Deadlines::default(),
            rules: ChangeRules::default(),
            retention: Retention::default(),
            max_live: 1_000_000,
        }
    }
}

impl Settings {
    /// The mailboxes: a queue per actor, one invocation per actor at a time.
    fn mailboxes(&self) -> KeyedProducer<Work> {
        KeyedProducer::new(KeyedOptions {
            name: "caller",
            bound: self.admission,
            per_key: (self.admission.events / 8).max(1),
            full: self.full,
        })
    }
}

/// Events that one commit holds at most.
const COMMIT_EVENTS: usize = 2_048;

/// Effects under way at the same time.
const EFFECTS_IN_FLIGHT: usize = 256;

/// The outside world, as the mesh needs it.
#[derive(Debug)]
pub struct Ports<H> {
    /// Calls user functions.
    pub host: H,
    /// Keeps states.
    pub store: Arc<dyn StateStore>,
    /// Keeps definitions.
    pub registry: Arc<dyn Registry>,
    /// Tells wall-clock time.
    pub clock: Arc<dyn Clock>,
}

/// The running mesh, as every door sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mesh {
    caller: Caller,
    registrar: Registrar,
    directory: Arc<Directory>,
    mailboxes: KeyedProducer<Work>,
    effects: EffectsSender,
    checkpoint: CheckpointQueue,
    growth: Growth,
    drain: Drain,
    stop_timers: CancellationToken,
    durations: InvocationDurations,
    history_reader: HistoryReader,
}

impl Mesh {
    /// Opens the mesh: claims an epoch, takes over what was registered, starts the stages.
    ///
    /// # Errors
    /// When the store or the registry cannot be read.
    pub async fn open<H: Host>(settings: Settings, ports: Ports<H>) -> Result<Mesh, Error> {
        let Ports { host, store, registry, clock } = ports;
        let clock: Arc<dyn Clock> = Arc::new(WatchedClock::new(clock));
        let epoch = store.claim_epoch().await?;
        let drain = Drain::new();
        let directory = Arc::new(Directory::new());
        let store_breaker = Arc::new(StoreBreaker::default());

        let mailboxes = settings.mailboxes();
        let effects = EffectsSender::new(settings.effects);
        let checkpoint = CheckpointQueue::new(settings.checkpoint, settings.deadlines.start);
        let caller = Caller::new(
            directory.clone(),
            mailboxes.clone(),
            clock.clone(),
            settings.deadlines,
            settings.rules.max_pending_effects,
        );
        let (timers, timer_task) = Timers::new(directory.clone(), clock.clone(), settings.max_live);
        let registrar = Registrar::new(
            directory.clone(),
            registry.clone(),
            mailboxes.clone(),
            caller.clone(),
            drain.clone(),
            settings.host_connections,
        );
        let history_reader = HistoryReader::new(store.clone(), clock.clone());
        let recalled = registrar.recall().await?;
        info!(epoch, recalled, "mesh open");

        // The rooms, in the order of the walk.
        let worker = Arc::new(Worker {
            lookup: Lookup::new(
                directory.clone(),
                store.clone(),
                registry,
                store_breaker.clone(),
                timers.clone(),
                epoch,
            ),
            invoke: Invoke::new(host, settings.deadlines.host),
            side_effects: SideEffects {
                rules: settings.rules,
                directory: directory.clone(),
                clock: clock.clone(),
                sender: effects.clone(),
                timers,
            },
            checkpoint: checkpoint.clone(),
            egress: Egress { caller: caller.clone(), effects: effects.clone() },
            registrar: registrar.clone(),
            store: store.clone(),
            tasks: drain.clone(),
        });
        let workers = settings.workers.max(1);
        for _ in 0..workers {
            let demand = settings.worker_demand.div_ceil(workers);
            let options = ConsumerOptions { name: "worker", concurrency: demand };
            // Not timed: the invocation and its host call are.
            Consumer::spawn(options, Turns(worker.clone()), &drain)
                .subscribe(&mailboxes, each_slot(demand))
                .map_err(unsubscribed)?;
        }
        let growth =
            Growth::start(settings.retention, directory.clone(), store.clone(), clock, &drain)
                .map_err(unsubscribed)?;
        let durability = settings.rules.durability;
        let room = Checkpoint::new(store, store_breaker, drain.clone(), durability, growth.clone());
        let in_flight = settings.commits_in_flight.max(1);
        let options = BatchOptions {
            max_bytes: (settings.checkpoint.bytes / (in_flight + 1)).max(1),
            in_flight,
            ..BatchOptions::new("checkpoint", COMMIT_EVENTS.div_ceil(in_flight))
        };
        let commits = timed("checkpoint").service(room);
        Consumer::spawn_batched(options, Settled::bytes, commits, &drain)
            .subscribe(checkpoint.producer(), SubscribeOptions::max_demand(2 * COMMIT_EVENTS))
            .map_err(unsubscribed)?;
        let deliver =
            Deliver { caller: caller.clone(), registrar: registrar.clone(), tasks: drain.clone() };
        let options = ConsumerOptions { name: "side_effects", concurrency: EFFECTS_IN_FLIGHT };
        let deliveries = timed("side_effects").service(deliver);
        Consumer::spawn(options, deliveries, &drain)
            .subscribe(&effects.queue, each_slot(EFFECTS_IN_FLIGHT))
            .map_err(unsubscribed)?;
        let stop_timers = CancellationToken::new();
        drain.spawn(timer_task.run(caller.clone(), directory.clone(), stop_timers.clone()));

        Ok(Mesh {
            caller,
            registrar,
            directory,
            mailboxes,
            effects,
            checkpoint,
            growth,
            drain,
            stop_timers,
            durations: InvocationDurations::new(),
            history_reader,
        })
    }

    /// Stores a host's definitions durably, then warms eligible actors up in the background.
    ///
    /// # Errors
    /// When a definition is invalid, nothing could be stored, or the mesh is draining.
    pub async fn register(&self, registration: Registration) -> Result<(), Error> {
        self.refuse_while_closed()?;
        self.registrar.register(registration).await
    }

    /// Stores spawned identities durably; activates nothing.
    ///
    /// # Errors
    /// When a parent is unknown, a name is taken under another parent, or nothing could be stored.
    pub async fn spawn(&self, spawn: Spawn) -> Result<(), Error> {
        self.refuse_while_closed()?;
        self.registrar.spawn(spawn).await.map(drop)
    }

    /// Runs one invocation: waits for the final answer, or for admission only when it is asynchronous
    /// or scheduled (then the payload is [`Payload::Unset`]). Dropping the future means that the caller has gone.
    ///
    /// # Errors
    /// See [`Error`]; each variant says whether the action may have run.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Payload, Error> {
        let began = Instant::now();
        let outcome = self.run(invocation).await;
        self.durations.record(began.elapsed(), outcome.is_ok());
        outcome
    }

    async fn run(&self, invocation: Invocation) -> Result<Payload, Error> {
        self.refuse_while_closed()?;
        let spawned = self.registrar.spawn_referenced(&invocation).await?;
        let checked = self.caller.check(invocation, spawned)?;
        match self.caller.admit(checked, Origin::Outside).await? {
            Some(admitted) => admitted.answer().await,
            None => Ok(Payload::Unset),
        }
    }

    /// The state of an actor, activated when needed.
    ///
    /// # Errors
    /// When it is unknown, has neither state nor tags, or its state cannot be read.
    pub async fn state(&self, system: &str, name: &str) -> Result<ActorState, Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        let state = self
            .caller
            .admit_task(&entry, |asked| Task::State(asked.reply, asked.permit))
            .await?
            .answer()
            .await?;
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
        self.caller
            .admit_task(&entry, |asked| Task::Delete(asked.reply, asked.permit))
            .await?
            .answer()
            .await
    }

    /// Whether calls from outside are refused.
    pub fn is_closed(&self) -> bool {
        self.caller.is_closed()
    }

    /// Closes the doors, lets everything that was admitted finish, unloads every actor and joins all
    /// tasks; what is not done within `limit` is ended. Answers whether everything finished.
    pub async fn drain(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.caller.close();
        let finished = timeout_at(deadline, async {
            loop {
                self.finish_calls().await;
                self.unload_all().await;
                if self.is_quiet() {
                    return;
                }
            }
        });
        let finished = finished.await.is_ok();
        if !finished {
            warn!(
                ?limit,
                in_flight = self.mailboxes.in_flight(),
                queued = self.mailboxes.queued(),
                "drain deadline: ending what has not finished"
            );
        }
        self.stop_timers.cancel();
        self.mailboxes.end();
        self.effects.queue.end();
        self.checkpoint.producer().close();
        self.growth.end();
        let drained = self.drain.drain(deadline.saturating_duration_since(Instant::now())).await;
        finished && drained.finished
    }

    /// A call holds its place until its answer has left, an effect until it was delivered, and each
    /// may make the other: finished when there is none of either.
    async fn finish_calls(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        loop {
            self.mailboxes.idle().await;
            self.effects.queue.idle().await;
            if self.is_quiet() {
                return;
            }
            // Commits on their way: there is nothing to be woken by.
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether no call and no effect is under way, counting those whose commit is.
    fn is_quiet(&self) -> bool {
        self.mailboxes.is_idle()
            && self.mailboxes.admitted() == 0
            && self.effects.queue.is_idle()
            && self.effects.queue.admitted() == 0
    }

    async fn unload_all(&self) {
        let mut waiting = Vec::new();
        for entry in self.directory.all_live() {
            let limit = self.caller.deadlines().host;
            let (done, unloaded) = Reply::new(&Timing::new(self.caller.deadlines(), Some(limit)));
            self.caller.ask(&entry, Task::Deactivate { idle: None, done });
            waiting.push(unloaded);
        }
        for unloaded in waiting {
            if let Err(error) = unloaded.answer().await {
                warn!(%error, "an actor could not be unloaded");
            }
        }
    }

    fn find(&self, system: &str, name: &str) -> Result<Arc<Entry>, Error> {
        self.directory
            .find(system, name)
            .ok_or_else(|| Error::ActorNotFound { system: system.into(), name: name.into() })
    }

    fn refuse_while_closed(&self) -> Result<(), Error> {
        if self.caller.is_closed() { Err(Error::Draining) } else { Ok(()) }
    }
}

/// What the stages behind the workers wear.
fn timed(stage: &'static str) -> ServiceBuilder<Stack<TimedLayer, Identity>> {
    ServiceBuilder::new().layer(TimedLayer { stage })
}

/// Demand for turns: a slot is asked for again as soon as it is free, whatever the others do.
fn each_slot(demand: usize) -> SubscribeOptions {
    let min_demand = demand.saturating_sub(1);
    SubscribeOptions { min_demand, ..SubscribeOptions::max_demand(demand) }
}

/// Subscribing to a stage that was just made fails only on demand out of range.
#[allow(clippy::needless_pass_by_value, reason = "as map_err wants it")]
fn unsubscribed(error: SubscribeError) -> Error {
    Error::Invalid(format!("the mesh cannot be opened with these bounds: {error}"))
}
