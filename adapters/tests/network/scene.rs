//! Scene: a proxy, an actor host and their clients on a simulated network, from registration to verdict.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use prost::Message;
use tidegate::proto::eigr::functions::protocol::actors::{Channel, FixedTimerAction};
use tidegate_pipeline::randomness;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{DueStore, StateStore, StoreError};
use tidegate_stages::testkit::faulty::SaveFault;
use tokio::sync::watch;
use turmoil::{Builder, Sim};

use crate::actors::{self, PERIOD, SUBSCRIBERS, Switch, TICK, TICKING, TOPIC};
use crate::caller::Caller;
use crate::facts::{Facts, Outcome};
use crate::faults::{Event, LONGEST_CLIENT_HOLD, LONGEST_LATENCY, WriteFault};
use crate::proxy::{self, DEADLINES, MAX_IDLE};
use crate::revisions::Revisions;
use crate::schedules;
use crate::support::counter::{ADD, definition, register};
use crate::support::proto::{
    Action, Actor, ActorDeactivationStrategy, Kind, TimeoutStrategy, actor_deactivation_strategy,
};
use crate::verdict::complaints;
use crate::wires::{ACTORS, PROXY};

/// A simulation that lasts longer hangs.
const LONGEST: Duration = Duration::from_mins(20);
/// How long it may take until effects and due work are done once all is well: the whole table of due work is looked at every ten
/// minutes.
const LATEST: Duration = Duration::from_mins(12);
/// The time at which each simulation begins, since the Unix epoch: what is rounded to milliseconds is so in each run.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);
/// After this long without use, actors whose name has `brief` in it leave memory.
const BRIEF_MILLIS: i64 = 100;

/// See the [module](self).
pub(crate) struct Scene {
    sim: Sim<'static>,
    facts: Arc<Facts>,
    disk: MemoryStore,
    revisions: Revisions,
    host: Switch,
    actors: Vec<String>,
    clients: Vec<String>,
    seed: u64,
}

impl Scene {
    /// Starts both machines and registers these actors. The seed decides how long each message takes.
    pub(crate) fn new(seed: u64, actors: &[&str]) -> Self {
        eprintln!("seed {seed}");
        assert!(randomness::fix(0), "a name was hashed before");
        let mut sim = Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + EPOCH)
            .simulation_duration(LONGEST)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(LONGEST_LATENCY)
            .tcp_capacity(1_024)
            .enable_random_order()
            .build();
        let facts = Arc::<Facts>::default();
        let (host, is_up) = watch::channel(true);
        let known = facts.clone();
        sim.host(ACTORS, move || actors::run(known.clone(), is_up.clone()));
        let (known, disk) = (facts.clone(), MemoryStore::new());
        let of_proxy = disk.clone();
        sim.host(PROXY, move || proxy::run(known.clone(), of_proxy.clone()));
        let actors: Vec<String> = actors.iter().map(ToString::to_string).collect();
        let revisions = Revisions::new(&actors);
        let clients = Vec::new();
        let mut scene = Self { sim, facts, disk, revisions, host, actors, clients, seed };
        let definitions = scene.actors.iter().map(|name| remembering(name)).collect();
        scene.client("registrar", async |caller| {
            register(caller.client().await, definitions).await;
        });
        scene.run(&[]);
        scene
    }

    /// Adds a client: `script` is what it does with its connection.
    pub(crate) fn client<F>(&mut self, name: &str, script: F)
    where
        F: AsyncFnOnce(&mut Caller) + 'static,
    {
        let mut caller = Caller::new(&self.facts);
        self.machine(name, async move { script(&mut caller).await });
    }

    /// Adds a machine with software that comes to an end.
    pub(crate) fn machine(&mut self, name: &str, software: impl Future<Output = ()> + 'static) {
        self.clients.push(name.into());
        self.sim.client(name, async move {
            software.await;
            Ok(())
        });
    }

    /// What has been noted so far.
    pub(crate) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// What the proxy's store has.
    pub(crate) fn disk(&self) -> &MemoryStore {
        &self.disk
    }

    /// Time since the simulation's start.
    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Runs until all clients and the schedule are done.
    pub(crate) fn run(&mut self, schedule: &[(Duration, Event)]) {
        let mut schedule = schedule.iter().peekable();
        loop {
            while let Some((_, event)) = schedule.next_if(|(at, _)| *at <= self.sim.elapsed()) {
                self.happen(*event);
            }
            let is_done = self.step();
            if is_done && schedule.peek().is_none() {
                return;
            }
        }
    }

    /// Whether all clients are done.
    fn step(&mut self) -> bool {
        let is_done = self.sim.step().expect("every machine runs as it should");
        self.revisions.look(&self.disk, &self.facts);
        is_done
    }

    /// Runs on, then calls every actor once more, looks at its state and judges: whatever has happened, actors go on.
    pub(crate) fn judge(self) {
        let seed = self.seed;
        let found = self.complaints();
        assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n"));
    }

    /// As [`judge`](Self::judge); returns what is wrong.
    pub(crate) fn complaints(mut self) -> Vec<String> {
        let quiet = DEADLINES.start + DEADLINES.host + DEADLINES.commit + MAX_IDLE;
        let calm = self.sim.elapsed() + quiet;
        while self.sim.elapsed() < calm {
            self.step();
        }
        self.timers_go_on();
        let (facts, actors) = (self.facts.clone(), self.actors.clone());
        let has_topic = actors.iter().any(|name| SUBSCRIBERS.contains(&name.as_str()));
        self.client("auditor", async move |caller| {
            for actor in actors {
                let outcome = caller.add(&actor, Duration::ZERO).await;
                if !matches!(outcome, Outcome::Acknowledged(_)) {
                    facts.complain(format!("{actor} does not go on: {outcome:?}"));
                }
            }
            if !has_topic {
                return;
            }
            let (id, outcome) = caller.publish().await;
            facts.learn(|known| known.certain.push(id));
            if !matches!(outcome, Outcome::Published(_)) {
                facts.complain(format!("a message is not published: {outcome:?}"));
            }
        });
        self.run(&[]);
        let latest = self.sim.elapsed() + LATEST;
        while !is_empty(&self.disk) {
            self.step();
            if self.sim.elapsed() > latest {
                self.facts.complain("effects or due work stay in the store".into());
                break;
            }
        }
        let (facts, actors) = (self.facts.clone(), self.actors.clone());
        self.client("reader", async move |caller| {
            for actor in actors {
                facts.state(&actor, caller.look(&actor).await);
            }
        });
        self.run(&[]);
        let mut found = complaints(&self.facts, 2 * (LONGEST_CLIENT_HOLD + LONGEST_LATENCY));
        found.extend(schedules::complaints(&self.disk, &self.facts));
        found
    }

    /// Runs on for some periods of a timer, and sees it tick.
    fn timers_go_on(&mut self) {
        if !self.actors.iter().any(|name| name == TICKING) {
            return;
        }
        let ticks = |facts: &Facts| facts.read(|known| known.ticks().count());
        let (before, until) = (ticks(&self.facts), self.sim.elapsed() + 4 * PERIOD);
        while self.sim.elapsed() < until {
            self.step();
        }
        let more = ticks(&self.facts) - before;
        if !(3..=5).contains(&more) {
            self.facts.complain(format!("{TICKING} ticked {more} times in four periods"));
        }
    }

    fn happen(&mut self, event: Event) {
        self.facts.note(&format!("{event:?}"));
        let store = self.facts.store();
        let text = || "as the simulation wants it".to_owned();
        match event {
            Event::Write(fault) | Event::WriteDue(fault) => {
                let fault = match fault {
                    WriteFault::Lost => SaveFault::Lose(StoreError::Unavailable(text())),
                    WriteFault::LostUnknown => SaveFault::Lose(StoreError::Unknown(text())),
                    WriteFault::WrittenUnknown => {
                        SaveFault::WriteAndFail(StoreError::Unknown(text()))
                    }
                    WriteFault::FirstFull => SaveFault::LoseFirst(StoreError::Full(text())),
                    WriteFault::Late(by) => SaveFault::Late(by),
                };
                match (store, event) {
                    (Some(store), Event::WriteDue(_)) => store.fail_next_write(fault),
                    (Some(store), _) => store.fail_next_save(fault),
                    (None, _) => {}
                }
            }
            Event::RefuseWrites | Event::TakeWrites => {
                let error = (event == Event::RefuseWrites).then(|| StoreError::Unavailable(text()));
                if let Some(store) = store {
                    store.refuse_saves(error);
                }
            }
            Event::RefuseReads | Event::Read => {
                let error = (event == Event::RefuseReads).then(|| StoreError::Unavailable(text()));
                if let Some(store) = store {
                    store.refuse_loads(error);
                }
            }
            Event::Partition => self.sim.partition(PROXY, ACTORS),
            Event::PartitionToHost => self.sim.partition_oneway(PROXY, ACTORS),
            Event::PartitionFromHost => self.sim.partition_oneway(ACTORS, PROXY),
            Event::Repair => self.sim.repair(PROXY, ACTORS),
            Event::Hold => self.sim.hold(PROXY, ACTORS),
            Event::Release => self.sim.release(PROXY, ACTORS),
            Event::Slow(latency) => self.sim.set_link_latency(PROXY, ACTORS, latency),
            Event::HoldClients => {
                self.clients.iter().for_each(|client| self.sim.hold(PROXY, client.as_str()));
            }
            Event::ReleaseClients => {
                self.clients.iter().for_each(|client| self.sim.release(PROXY, client.as_str()));
            }
            Event::StopHost => self.host.send_modify(|is_up| *is_up = false),
            Event::StartHost => self.host.send_modify(|is_up| *is_up = true),
            Event::CrashHost => self.sim.crash(ACTORS),
            Event::BounceHost => self.sim.bounce(ACTORS),
            Event::CrashProxy => {
                let facts = self.facts.clone();
                facts.crash(|| self.sim.crash(PROXY));
            }
            Event::BounceProxy => self.sim.bounce(PROXY),
        }
    }
}

/// Whether a store has neither effects nor due work.
fn is_empty(disk: &MemoryStore) -> bool {
    let pending = disk.pending(None, 1).now_or_never().expect("it is in memory");
    let due = disk.due(None, 1).now_or_never().expect("it is in memory");
    pending.expect("it is read").items.is_empty() && due.expect("it is read").items.is_empty()
}

fn remembering(name: &str) -> Actor {
    let mut actor = definition(name, Kind::Named);
    if name.contains("brief")
        && let Some(settings) = &mut actor.settings
    {
        let timeout = TimeoutStrategy { timeout: BRIEF_MILLIS };
        let strategy = Some(actor_deactivation_strategy::Strategy::Timeout(timeout));
        settings.deactivation_strategy = Some(ActorDeactivationStrategy { strategy });
    }
    if SUBSCRIBERS.contains(&name)
        && let Some(metadata) = &mut actor.metadata
    {
        let channel = Channel { topic: TOPIC.into(), action: ADD.into() };
        metadata.channel_group = vec![channel.encode_to_vec().into()];
    }
    if name == TICKING {
        let action = Action { name: TICK.into() };
        actor.actions.push(action.clone());
        let seconds = i32::try_from(PERIOD.as_millis()).expect("short");
        actor.timer_actions = vec![FixedTimerAction { seconds, action: Some(action) }];
    }
    actor
}
