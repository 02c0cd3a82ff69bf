//! Topology: wires the stages: which layers each stage wears, and which consumer subscribes to which producer.
//!
//! ```text
//! caller ─▶ placement ══▶ lookup ─▶ invoke ─▶ side effects ══▶ checkpoint ─▶ reply | next actor
//!           (keyed producer:  one turn per slot                (batch        └▶ effects (keyed producer, consumer)
//!            a mailbox         of the workers)                  consumer)     └▶ retention (producers, consumer)
//!            per actor)                                                       └▶ broadcasts (keyed producer, consumer)
//! ```
//! Demand crosses the double arrows: from mailboxes to workers (concurrency), from workers to the checkpoint
//! (batching), from durable commits to effects, broadcasts and retention (isolation).

mod settings;

pub use crate::effects::DeadLetterBounds;
pub use crate::places::least_bytes as least_checkpoint_bytes;
pub use crate::registry::capacity::RegistryBounds;
pub use crate::registry::hosts::{HostChoice, HostRules};
pub use crate::retry_budget::RetryRates;
pub use settings::{Ports, RateLimits, Settings};

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_pipeline::layer::TimedLayer;
use tidegate_pipeline::{
    BatchOptions, Consumer, ConsumerOptions, Drain, SubscribeError, SubscribeOptions,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::layer::util::{Identity, Stack};
use tower::util::BoxCloneSyncService;
use tracing::info;

use crate::actor_timers::{ActorTimers, TickTask};
use crate::admission::{Admission, TurnTimeLayer};
use crate::call::{Admitted, BoxPlanned};
use crate::caller::{
    Admit, AdmitInner, Allow, Announce, CallerService, Check, counted_per_system, per_definition,
    per_identity, per_peer, per_system,
};
use crate::channels::{Channels, FanOut};
use crate::checkpoint::{Checkpoint, CheckpointGate, CheckpointQueue, Submit};
use crate::clock::WatchedClock;
use crate::control::{Control, Inner as ControlInner};
use crate::due::{Calls, DueRunner, DueWork};
use crate::effects::{Deliver, DeliverInner, Effects, Feeder, Letters, Remover, effects_delivered};
use crate::egress::Egress;
use crate::elsewhere::Elsewhere;
use crate::error::Error;
use crate::eviction::{Eviction, LiveBounds};
use crate::filter::FilterLayer;
use crate::history_reader::HistoryReader;
use crate::host_breaker::{HostBreaker, HostBreakerLayer, HostBreakers, Patience, RefuseAway};
use crate::hot::Hot;
use crate::invoke::Invoke;
use crate::lookup::Lookup;
use crate::maintenance::Maintenance;
use crate::mesh::Mesh;
use crate::metrics::InvocationDurations;
use crate::park::ParkLayer;
use crate::path::Path;
use crate::placement::{Mailboxes, OneNode};
use crate::places::Places;
use crate::ports::{Clock, Host, HostProbe, OtherMembers, StateStore};
use crate::registry::change::Change;
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::registry::kept_rows::KeptRows;
use crate::registry::key_look::KeyLook;
use crate::registry::registration::Registrar;
use crate::registry::storing::Storing;
use crate::respawn::RespawnLayer;
use crate::retention::Growth;
use crate::retry_budget::RetryBudgets;
use crate::schedules::{ScheduleBounds, Schedules};
use crate::settling::Settling;
use crate::side_effects::{Planner, SideEffects};
use crate::store_breaker::StoreBreaker;
use crate::timer::{TimerTask, Timers};
use crate::topics::append::Topics;
use crate::topics::delivery::Carrier;
use crate::topics::places::TopicPlaces;
use crate::topics::runner::Runner;

/// Events that one commit holds at most.
const COMMIT_EVENTS: usize = 2_048;

/// Changes of the registry that one write holds at most, and their bytes; a larger one is written alone.
const WRITE_EVENTS: usize = 1_024;
const WRITE_BYTES: usize = 1 << 20;

/// Effects under way at the same time.
const EFFECTS_IN_FLIGHT: usize = 256;

/// Topics whose broadcasts are fanned out at the same time.
const TOPICS_AT_ONCE: usize = 64;

/// Opens a mesh: claims an epoch, takes over what was registered, starts the stages.
///
/// # Errors
/// When the store or the registry cannot be read.
pub async fn open<H: Host>(settings: Settings, ports: Ports<H>) -> Result<Mesh, Error> {
    let Ports { host, probe, store, registry, clock } = ports;
    let clock: Arc<dyn Clock> = Arc::new(WatchedClock::new(clock));
    let epoch = store.claim_epoch().await?;
    let placement = Arc::new(OneNode { epoch });
    let tasks = Drain::new();
    let directory = Arc::new(Directory::new().with_strategy(settings.hosts.choice.strategy()));
    let store_breaker = Arc::new(StoreBreaker::default());
    let retry_budgets = Arc::new(RetryBudgets::new(settings.retries));

    let places = places(&settings, &directory)?;
    let mailboxes = mailboxes(&settings, places.clone(), placement.clone());
    let effects = Effects::new(settings.effects, settings.dead_letters, epoch);
    let channels = Channels::new(settings.broadcasts);
    let topics = topics(&settings, &directory, &mailboxes, &store, epoch);
    let egress = Egress::new(&mailboxes, &effects, &channels);
    let queue = CheckpointQueue::new(places, egress.clone());
    let (timers, of_time) = timers(&settings, &mailboxes, &directory, &clock);
    let rows = KeptRows { store: store.clone(), effects: effects.clone(), epoch };
    let (registrar, storing) = Registrar::new(
        directory.clone(),
        (registry, rows.clone()),
        (mailboxes.clone(), timers.registered.clone()),
        tasks.clone(),
        settings.host_connections,
        (settings.registry, settings.hosts.join),
        settings.admission.bytes,
    );
    let (recalled, to_warm_up) = storing.recall().await?;
    info!(epoch, recalled, "mesh open");

    let (hot, admission) = admission(&settings, &mailboxes);
    let announce = announce(&settings.rate_limits, &mailboxes);
    let caller = caller(&settings, &registrar, &announce, &clock, admission.clone());
    let growth =
        Growth::start(settings.retention, directory.clone(), store.clone(), clock.clone(), &tasks)
            .map_err(unsubscribed)?;
    let lookup = Lookup::new(
        directory.clone(),
        store.clone(),
        registrar.clone(),
        placement,
        store_breaker.clone(),
        retry_budgets.clone(),
        timers.clone(),
    );
    let stop_timers = CancellationToken::new();
    let breakers = host_breakers(&settings, probe, &mailboxes, &registrar, &stop_timers, &tasks);
    let invoke = ServiceBuilder::new().layer(HostBreakerLayer { breakers }).service(Invoke::new(
        host,
        settings.deadlines.host,
        settings.rules.max_pending_effects,
    ));
    let side_effects = side_effects(&settings, (&directory, &topics), &clock, &egress, &timers);
    let submit = Submit::new(queue.clone(), settings.rules.durability, timers);
    let maintenance = Maintenance::new((&lookup, &side_effects, &submit), &registrar, rows.clone());
    let checkpoint = Checkpoint::new(
        store.clone(),
        store_breaker,
        &queue,
        tasks.clone(),
        settings.rules.durability,
        growth.clone(),
    );
    let due = DueWork::new(store.clone(), clock.clone(), epoch, settings.delayed_calls);
    let control = control((&directory, &mailboxes, &maintenance), &due, &clock, &tasks).await?;
    let path = Path { lookup, invoke, side_effects, checkpoint: submit, maintenance };
    let elsewhere = elsewhere(&settings, &directory);
    start_registry((storing, to_warm_up), &registrar, (&mailboxes, &directory, rows), &tasks)?;
    start_workers(&settings, path, &mailboxes, &registrar, (retry_budgets, admission), &tasks)?;
    start_checkpoint(&settings, checkpoint, &queue, &tasks)?;
    let to = (&caller, &due, &elsewhere, &topics);
    start_effects(&effects, to, &mailboxes, &directory, (&store, &clock), &tasks)?;
    start_topics(&topics, &egress, &directory, (&store, &clock), &settings, &tasks);
    start_broadcasts(&channels, settings.other_members, &directory, &mailboxes, &tasks)?;
    let (calls, of) = ((&caller, &mailboxes, &directory), (epoch, settings.schedules, &effects));
    let schedules = start_due(&due, of, calls, &stop_timers, &tasks);
    start_timers(of_time, &mailboxes, &directory, &stop_timers, &tasks);

    Ok(Mesh {
        letters: Letters::new(&effects, &store, &directory, &mailboxes, &clock),
        announce,
        caller,
        mailboxes,
        registrar,
        directory,
        effects,
        channels,
        topics,
        hot,
        checkpoint: queue,
        growth,
        due,
        control,
        schedules,
        tasks,
        stop_timers,
        durations: InvocationDurations::new(),
        history_reader: HistoryReader::new(store, clock),
        policies: settings.policies,
        elsewhere,
    })
}

/// Calls for systems that are not registered here.
fn elsewhere(settings: &Settings, directory: &Arc<Directory>) -> Elsewhere {
    let systems = settings.other_systems.clone();
    Elsewhere::new(systems, directory, &settings.policies, &settings.deadlines)
}

/// Durable topics.
fn topics(
    settings: &Settings,
    directory: &Arc<Directory>,
    mailboxes: &Mailboxes,
    store: &Arc<dyn StateStore>,
    epoch: u64,
) -> Topics {
    let rules = (settings.topics.clone(), settings.rules.max_state_bytes);
    Topics::new(rules, directory, mailboxes, store, epoch)
}

/// The mailboxes, with places for calls that wait for paused actors.
fn mailboxes(settings: &Settings, places: Places, placement: Arc<OneNode>) -> Mailboxes {
    let gate = CheckpointGate { places, durability: settings.rules.durability };
    Mailboxes::new(settings.mailboxes(gate), placement, settings.deadlines)
        .with_places_for_paused(settings.for_paused)
        .with_tracer(settings.tracer.clone())
}

/// Admission by deadline, and the actors that are hot by the turns that it sees end.
fn admission(settings: &Settings, mailboxes: &Mailboxes) -> (Hot, Admission) {
    let at_once = (settings.worker_demand, settings.host_connections);
    let (hot, start) = (Hot::default(), settings.deadlines.start);
    (hot.clone(), Admission::new(mailboxes.queue.clone(), at_once, start, hot))
}

/// Control, with the pauses that are stored.
async fn control(
    (directory, mailboxes, maintenance): (&Arc<Directory>, &Mailboxes, &Maintenance),
    due: &DueWork,
    clock: &Arc<dyn Clock>,
    tasks: &Drain,
) -> Result<Control, Error> {
    let control = Control::new(ControlInner {
        directory: directory.clone(),
        mailboxes: mailboxes.clone(),
        maintenance: maintenance.clone(),
        due: due.clone(),
        store: maintenance.0.store.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        turn: Semaphore::new(1),
        in_doubt: Mutex::default(),
        settling: Settling::new(mailboxes.clone(), tasks.clone()),
    });
    control.recall().await?;
    Ok(control)
}

/// Side effects, with what a response may ask for.
fn side_effects(
    settings: &Settings,
    (directory, topics): (&Arc<Directory>, &Topics),
    clock: &Arc<dyn Clock>,
    egress: &Egress,
    timers: &Timers,
) -> SideEffects {
    SideEffects(Arc::new(Planner {
        rules: settings.rules,
        directory: directory.clone(),
        clock: clock.clone(),
        effects: egress.effects.clone(),
        channels: egress.channels.clone(),
        policies: settings.policies.clone(),
        timers: timers.clone(),
        topics: topics.clone(),
    }))
}

/// What is known of hosts that are away, and how long their calls wait for them.
fn host_breakers(
    settings: &Settings,
    probe: Arc<dyn HostProbe>,
    mailboxes: &Mailboxes,
    registrar: &Registrar,
    stop: &CancellationToken,
    tasks: &Drain,
) -> Arc<HostBreakers> {
    Arc::new(HostBreakers {
        queue: mailboxes.queue.clone(),
        registrar: registrar.clone(),
        probe,
        tasks: tasks.clone(),
        stop: stop.clone(),
        patience: Patience {
            grace: settings.host_grace,
            accepted: settings.deadlines.patience,
            leave_after: settings.hosts.leave_after,
        },
        host_connections: settings.host_connections,
    })
}

/// Where timers are started, and the tasks that run them; eviction, too.
fn timers(
    settings: &Settings,
    mailboxes: &Mailboxes,
    directory: &Arc<Directory>,
    clock: &Arc<dyn Clock>,
) -> (Timers, (TimerTask, TickTask, Eviction)) {
    let live = LiveBounds { actors: settings.max_live, bytes: settings.max_live_bytes };
    let eviction = Eviction::new(directory.clone(), live);
    let run = settings.delayed_calls;
    let (ticks, tick_task) = ActorTimers::new(mailboxes.clone(), directory.clone(), run);
    let (timers, timer_task) =
        Timers::new(directory.clone(), clock.clone(), eviction.clone(), ticks);
    (timers, (timer_task, tick_task, eviction))
}

/// Starts timers and eviction.
fn start_timers(
    (timers, ticks, eviction): (TimerTask, TickTask, Eviction),
    mailboxes: &Mailboxes,
    directory: &Arc<Directory>,
    stop: &CancellationToken,
    tasks: &Drain,
) {
    tasks.supervise("eviction", eviction.run(mailboxes.clone(), stop.clone()));
    tasks.supervise("actor_timers", ticks.run(stop.clone()));
    tasks.supervise("timers", timers.run(mailboxes.clone(), directory.clone(), stop.clone()));
}

/// What calls are announced to.
fn announce(limits: &RateLimits, mailboxes: &Mailboxes) -> Arc<Announce> {
    Arc::new(Announce {
        peer: limits.peer.map(per_peer),
        identity: limits.identity.map(per_identity),
        system: limits.system.map(per_system),
        mailboxes: mailboxes.clone(),
    })
}

/// Caller, with the layers that it wears. It shares the limit of systems with what calls are announced to.
fn caller(
    settings: &Settings,
    registrar: &Registrar,
    announce: &Announce,
    clock: &Arc<dyn Clock>,
    admission: Admission,
) -> CallerService {
    let (registrar, mailboxes) = (registrar.clone(), announce.mailboxes.clone());
    let max_pending_effects = settings.rules.max_pending_effects;
    let delayed_calls = settings.delayed_calls;
    let caller = timed("caller")
        .layer(FilterLayer(Allow { policies: settings.policies.clone() }))
        .layer(FilterLayer(Arc::new(Check {
            registrar: registrar.clone(),
            clock: clock.clone(),
            delayed_calls,
        })))
        .option_layer(announce.system.clone().map(counted_per_system))
        .option_layer(settings.rate_limits.definition.map(per_definition))
        .layer(FilterLayer(RefuseAway))
        .map_result(move |admitted: Result<Admitted, Error>| admission.in_time(admitted?))
        .service(Admit(Arc::new(AdmitInner { registrar, mailboxes, max_pending_effects })));
    BoxCloneSyncService::new(caller)
}

/// Lookup, invoke and side effects: one turn per slot of the workers' demand. A turn that may be tried again is parked.
fn start_workers<H: Host>(
    settings: &Settings,
    path: Path<Lookup, HostBreaker<Invoke<H>>, SideEffects, Submit, Maintenance>,
    mailboxes: &Mailboxes,
    registrar: &Registrar,
    (budgets, admission): (Arc<RetryBudgets>, Admission),
    tasks: &Drain,
) -> Result<(), Error> {
    let path = Path {
        lookup: timed("lookup").service(path.lookup),
        // Not timed: the invocation and its host call are.
        invoke: path.invoke,
        side_effects: path.side_effects,
        checkpoint: path.checkpoint,
        maintenance: path.maintenance,
    };
    let path = ServiceBuilder::new()
        .layer(RespawnLayer {
            registrar: registrar.clone(),
            tasks: tasks.clone(),
            budgets: budgets.clone(),
        })
        .layer(ParkLayer { tasks: tasks.clone(), budgets })
        .layer(TurnTimeLayer { admission })
        .service(path);
    let workers = settings.workers.max(1);
    for _ in 0..workers {
        let demand = settings.worker_demand.div_ceil(workers);
        let options = ConsumerOptions { name: "worker", concurrency: demand };
        Consumer::spawn(options, path.clone(), tasks)
            .subscribe(&mailboxes.queue, each_slot(demand))
            .map_err(unsubscribed)?;
    }
    Ok(())
}

/// Registry: many changes in one write.
fn start_registry(
    (storing, to_warm_up): (Storing, Vec<Arc<Entry>>),
    registrar: &Registrar,
    (mailboxes, directory, rows): (&Mailboxes, &Arc<Directory>, KeptRows),
    tasks: &Drain,
) -> Result<(), Error> {
    storing.warm_up(to_warm_up);
    let key_look = KeyLook {
        directory: directory.clone(),
        changes: registrar.changes.clone(),
        rows,
        mailboxes: mailboxes.clone(),
    };
    tasks.supervise("kept_keys", key_look.run());
    let options =
        BatchOptions { max_bytes: WRITE_BYTES, ..BatchOptions::new("registry", WRITE_EVENTS) };
    let storing = timed("registry").service(storing);
    Consumer::spawn_batched(options, Change::bytes, storing, tasks)
        .subscribe(registrar.changes.producer(), SubscribeOptions::max_demand(WRITE_EVENTS))
        .map_err(unsubscribed)?;
    Ok(())
}

/// Checkpoint: many actors in one commit.
fn start_checkpoint(
    settings: &Settings,
    checkpoint: Checkpoint,
    queue: &CheckpointQueue,
    tasks: &Drain,
) -> Result<(), Error> {
    let in_flight = settings.commits_in_flight.max(1);
    let options = BatchOptions {
        max_bytes: (settings.checkpoint.bytes / (in_flight + 1)).max(1),
        in_flight,
        ..BatchOptions::new("checkpoint", COMMIT_EVENTS.div_ceil(in_flight))
    };
    let checkpoint = timed("checkpoint").service(checkpoint);
    let bytes = |planned: &BoxPlanned| planned.record_bytes();
    Consumer::spawn_batched(options, bytes, checkpoint, tasks)
        .subscribe(queue.producer(), SubscribeOptions::max_demand(2 * COMMIT_EVENTS))
        .map_err(unsubscribed)?;
    Ok(())
}

/// Effects: what committed turns send to other actors.
fn start_effects(
    effects: &Effects,
    (caller, due, elsewhere, topics): (&CallerService, &DueWork, &Elsewhere, &Topics),
    mailboxes: &Mailboxes,
    directory: &Arc<Directory>,
    (store, clock): (&Arc<dyn StateStore>, &Arc<dyn Clock>),
    tasks: &Drain,
) -> Result<(), Error> {
    let (effects, mailboxes, tasks) = (effects.clone(), mailboxes.clone(), tasks.clone());
    let deliver = Deliver(Arc::new(DeliverInner {
        effects: effects.clone(),
        caller: caller.clone(),
        due: due.clone(),
        elsewhere: elsewhere.clone(),
        mailboxes: mailboxes.clone(),
        clock: clock.clone(),
        pauses: directory.pauses.clone(),
        topics: topics.clone(),
        tasks: tasks.clone(),
        delivered: effects_delivered(),
    }));
    let options = ConsumerOptions { name: "side_effects", concurrency: EFFECTS_IN_FLIGHT };
    Consumer::spawn(options, timed("side_effects").service(deliver), &tasks)
        .subscribe(effects.queue(), each_slot(EFFECTS_IN_FLIGHT))
        .map_err(unsubscribed)?;
    let remover = Remover { effects: effects.clone(), store: store.clone() };
    tasks.supervise("outbox_remover", remover.run());
    let (store, directory, clock) = (store.clone(), directory.clone(), clock.clone());
    let feeder = Feeder { effects, store, directory, mailboxes, clock, tasks: tasks.clone() };
    tasks.supervise("outbox_feeder", feeder.run());
    Ok(())
}

/// Broadcasts: what a committed turn, or a client, sends to a topic. One at a time per topic, in order.
fn start_broadcasts(
    channels: &Channels,
    members: Option<Arc<dyn OtherMembers>>,
    directory: &Arc<Directory>,
    mailboxes: &Mailboxes,
    tasks: &Drain,
) -> Result<(), Error> {
    let options = ConsumerOptions { name: "broadcasts", concurrency: TOPICS_AT_ONCE };
    let fan_out = FanOut {
        directory: directory.clone(),
        mailboxes: mailboxes.clone(),
        bound: channels.bound.clone(),
        members,
    };
    Consumer::spawn(options, timed("broadcasts").service(fan_out), tasks)
        .subscribe(&channels.queue, each_slot(TOPICS_AT_ONCE))
        .map_err(unsubscribed)?;
    Ok(())
}

/// Durable topics: their events are delivered until the topics stop.
fn start_topics(
    topics: &Topics,
    egress: &Egress,
    directory: &Arc<Directory>,
    (store, clock): (&Arc<dyn StateStore>, &Arc<dyn Clock>),
    settings: &Settings,
    tasks: &Drain,
) {
    let carrier = Carrier {
        store: store.clone(),
        mailboxes: egress.mailboxes.clone(),
        pauses: directory.pauses.clone(),
        effects: egress.effects.clone(),
        clock: clock.clone(),
        places: TopicPlaces::new(settings.broadcasts.bytes),
        stop: topics.stopped().clone(),
    };
    let (topics, directory, tasks) = (topics.clone(), directory.clone(), tasks.clone());
    let runner = Runner { topics, carrier, directory, tasks: tasks.clone() };
    tasks.supervise("topics", runner.run());
}

/// Due work: calls whose time has come, and schedules.
fn start_due(
    due: &DueWork,
    (epoch, bounds, effects): (u64, ScheduleBounds, &Effects),
    (caller, mailboxes, directory): (&CallerService, &Mailboxes, &Arc<Directory>),
    stop: &CancellationToken,
    tasks: &Drain,
) -> Schedules {
    let schedules = Schedules::new(due.clone(), epoch, bounds, effects.open_runs().clone());
    let calls = Calls {
        caller: caller.clone(),
        mailboxes: mailboxes.clone(),
        schedules: schedules.clone(),
        directory: directory.clone(),
        effects: effects.clone(),
        store: due.store().clone(),
        unsure: Arc::default(),
        began: due.now(),
    };
    tasks.supervise("due", DueRunner::new(due, calls).run(stop.clone()));
    tasks.supervise("schedules", schedules.clone().watch(stop.clone()));
    schedules
}

/// Times a stage.
fn timed(stage: &'static str) -> ServiceBuilder<Stack<TimedLayer, Identity>> {
    ServiceBuilder::new().layer(TimedLayer { stage })
}

/// Demand for turns: each slot is asked for again as soon as it is free.
fn each_slot(demand: usize) -> SubscribeOptions {
    let min_demand = demand.saturating_sub(1);
    SubscribeOptions { min_demand, ..SubscribeOptions::max_demand(demand) }
}

/// The places at the checkpoint.
fn places(settings: &Settings, directory: &Directory) -> Result<Places, Error> {
    let (largest, patience) = (settings.rules.max_state_bytes, settings.deadlines.start);
    let hosts = directory.hosts.clone();
    Places::new(settings.checkpoint, largest, patience, hosts).ok_or_else(|| {
        let text =
            "the mesh cannot be opened: too few places at the checkpoint for its largest state";
        Error::Invalid(text.into())
    })
}

/// Subscribing to a stage that was just made fails only on demand out of range.
#[allow(clippy::needless_pass_by_value, reason = "as map_err wants it")]
fn unsubscribed(error: SubscribeError) -> Error {
    Error::Invalid(format!("the mesh cannot be opened with these bounds: {error}"))
}
