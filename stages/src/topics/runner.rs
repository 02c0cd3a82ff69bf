//! Runner: runs the deliveries of durable topics, a task for each topic.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use hashbrown::{HashMap, HashSet};
use metrics::counter;
use tidegate_pipeline::Drain;
use tidegate_pipeline::layer::Delays;
use tidegate_pipeline::randomness::Seeded;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use crate::actor::ActorRef;
use crate::history::Position;
use crate::metrics::REVISIONS_DROPPED_TOTAL;
use crate::optional::result_of;
use crate::outbox::EffectRows;
use crate::ports::{Save, StoreError};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::registry::subscribers;
use crate::state::Timestamp;
use crate::store_limit::in_time;
use crate::topics::append::{Topic, Topics};
use crate::topics::delivery::{Carrier, Subscription};
use crate::topics::places::PAGE_BYTES;
use crate::topics::subscribed::{is_bound, look, subscribed};

/// How long changed positions gather before they are stored.
const GATHER: Duration = Duration::from_millis(500);
/// Positions in one write.
const POSITIONS: usize = 512;
/// How long changes of subscriptions gather.
const SUBSCRIBING: Duration = Duration::from_millis(20);
/// How soon a paused subscriber is looked at again.
const PAUSED: Duration = Duration::from_millis(500);
/// Pauses after a topic could not be loaded.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks for events that have become too old; after the start it is the shorter time.
const ROUND: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_mins(1);
/// Between two looks whether a topic that no definition binds is used.
const UNUSED: Duration = Duration::from_mins(1);
/// A log is pruned when it is this part too long, or so many events.
const SLACK: u64 = 8_192;
/// How long one pruning may take.
const PRUNE_LIMIT: Duration = Duration::from_mins(5);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) topics: Topics,
    pub(crate) carrier: Carrier,
    pub(crate) directory: Arc<Directory>,
    pub(crate) tasks: Drain,
}

impl Runner {
    /// Runs until deliveries stop: starts the task of each topic that gets known.
    pub(crate) async fn run(self) {
        let mut changes = self.directory.subscribers.changes();
        let stop = self.carrier.stop.clone();
        if self.topics.are_none() {
            return stop.cancelled().await;
        }
        while !stop.is_cancelled() {
            changes.borrow_and_update();
            self.topics.find_bound();
            for topic in self.topics.take_new() {
                let running = Deliveries::new(&self, topic);
                self.tasks.spawn(running.run());
            }
            tokio::select! {
                _ = changes.changed() => sleep(SUBSCRIBING).await,
                () = self.topics.new_ones() => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// The deliveries of one topic.
struct Deliveries {
    topic: Arc<Topic>,
    topics: Topics,
    carrier: Carrier,
    directory: Arc<Directory>,
    subscriptions: HashMap<ActorRef, Slot, Seeded>,
    /// Subscribers that have every event.
    idle: Vec<ActorRef>,
    /// Those that have events to get.
    ready: VecDeque<ActorRef>,
    /// Those that go on at a time.
    later: BTreeSet<(Instant, u64, ActorName)>,
    next_later: u64,
    running: FuturesUnordered<BoxFuture<'static, Subscription>>,
    storing: Option<BoxFuture<'static, ()>>,
    store_at: Instant,
    pruning: Option<BoxFuture<'static, bool>>,
    /// The newest event at the last pruning, and when the next one is due in any case.
    pruned: u64,
    prune_at: Instant,
    /// The newest event at the last look whether the topic is used, and when the next one is due.
    used: u64,
    leave_at: Instant,
}

type ActorName = String;

/// A subscriber, and where it is.
struct Slot {
    /// `None` while events are delivered to it.
    to: Option<Subscription>,
    entry: Arc<Entry>,
}

impl Deliveries {
    fn new(runner: &Runner, topic: Arc<Topic>) -> Self {
        let Runner { topics, carrier, directory, .. } = runner;
        Self {
            topic,
            topics: topics.clone(),
            carrier: carrier.clone(),
            directory: directory.clone(),
            subscriptions: HashMap::default(),
            idle: Vec::new(),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            next_later: 0,
            running: FuturesUnordered::new(),
            storing: None,
            store_at: Instant::now(),
            pruning: None,
            pruned: 0,
            prune_at: Instant::now() + SOON,
            used: 0,
            leave_at: Instant::now() + UNUSED,
        }
    }

    async fn run(mut self) {
        let stop = self.carrier.stop.clone();
        let opening = open(self.topics.clone(), self.topic.log.topic.clone());
        if stop.run_until_cancelled(opening).await.is_none() {
            return;
        }
        let mut changes = self.directory.subscribers.changes();
        changes.borrow_and_update();
        self.look();
        let mut look_at: Option<Instant> = None;
        let (log, places) = (self.topic.log.clone(), self.carrier.places.clone());
        let mut taking: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>> = None;
        while !stop.is_cancelled() {
            self.start_chores();
            if taking.is_none() && !self.ready.is_empty() {
                let places = places.clone();
                taking = Some(async move { places.take(PAGE_BYTES).await }.boxed());
            }
            let wakes_at = self.next_wake().min(look_at.unwrap_or(self.prune_at));
            tokio::select! {
                () = stop.cancelled() => {}
                place = result_of(&mut taking) => self.start(place),
                Some(to) = self.running.next() => self.ended(to),
                () = result_of(&mut self.storing) => {}
                is_done = result_of(&mut self.pruning) => self.was_pruned(is_done),
                () = log.changed.notified() => self.ready.extend(self.idle.drain(..)),
                Ok(()) = changes.changed(), if look_at.is_none() => {
                    look_at = Some(Instant::now() + SUBSCRIBING);
                }
                () = sleep_until(wakes_at) => {}
            }
            self.wake();
            if self.leave_at <= Instant::now() && self.leave().await {
                return;
            }
            if look_at.is_some_and(|at| at <= Instant::now()) {
                look_at = None;
                self.look();
            }
        }
        self.finish().await;
    }

    /// Takes the subscribers as they are now.
    fn look(&mut self) {
        let log = &self.topic.log;
        let at = Timestamp(self.topic.entry.newest_record_us.load(Ordering::Relaxed));
        look(&self.directory, log, Position { at, revision: log.end() });
        let topic = subscribers::Topic::new(log.topic.system(), log.topic.name());
        let found = subscribed(&self.directory, &topic);
        let names: HashSet<_> = found.iter().map(|entry| entry.actor.clone()).collect();
        self.subscriptions.retain(|actor, _| names.contains(actor));
        for entry in found {
            let actor = entry.actor.clone();
            if let Some(slot) = self.subscriptions.get_mut(&actor) {
                if !Arc::ptr_eq(&slot.entry, &entry) {
                    // Another actor has this name now.
                    slot.to = slot.to.take().map(|_| Subscription::new(entry.clone()));
                    slot.entry = entry;
                    // It does not wait for the pause of its predecessor.
                    let waiting = self.later.len();
                    self.later.retain(|(.., name)| name != actor.name());
                    if self.later.len() < waiting {
                        self.ready.push_back(actor);
                    }
                }
                continue;
            }
            let to = Some(Subscription::new(entry.clone()));
            self.subscriptions.insert(actor.clone(), Slot { to, entry });
            self.ready.push_back(actor);
        }
    }

    /// Makes those ready that go on now.
    fn wake(&mut self) {
        let now = Instant::now();
        while self.later.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, _, name)) = self.later.pop_first() else { return };
            self.ready.push_back(ActorRef::new(self.topic.log.topic.system(), &name));
        }
    }

    fn next_wake(&self) -> Instant {
        let later = self.later.first().map_or(self.prune_at, |(at, ..)| *at);
        let is_to_store = self.storing.is_none() && self.topic.log.is_to_store();
        later.min(if is_to_store { self.store_at } else { self.prune_at }).min(self.leave_at)
    }

    fn later(&mut self, at: Instant, actor: &ActorRef) {
        self.next_later += 1;
        self.later.insert((at, self.next_later, actor.name().to_owned()));
    }

    /// Starts the next delivery that is ready.
    fn start(&mut self, place: Option<OwnedSemaphorePermit>) {
        let Some(place) = place else { return };
        while let Some(actor) = self.ready.pop_front() {
            let Some(slot) = self.subscriptions.get_mut(&actor) else { continue };
            let Some(to) = &slot.to else { continue };
            if to.again_at.is_some_and(|at| at > Instant::now()) {
                continue;
            }
            if self.topic.log.behind(&actor).is_none() {
                self.idle.push(actor);
                continue;
            }
            if self.carrier.pauses.is_paused(&actor) {
                self.later(Instant::now() + PAUSED, &actor);
                continue;
            }
            if let Some(to) = slot.to.take() {
                let running = self.carrier.clone().run(self.topic.clone(), to, place);
                self.running.push(running.boxed());
            }
            return;
        }
    }

    /// A page was delivered to a subscriber, or a part of it.
    fn ended(&mut self, to: Subscription) {
        let actor = to.entry.actor.clone();
        let Some(slot) = self.subscriptions.get_mut(&actor).filter(|slot| slot.to.is_none()) else {
            return;
        };
        let is_same = Arc::ptr_eq(&slot.entry, &to.entry);
        let to = if is_same { to } else { Subscription::new(slot.entry.clone()) };
        let again_at = to.again_at;
        slot.to = Some(to);
        match again_at {
            Some(at) => self.later(at, &actor),
            None => self.ready.push_back(actor),
        }
    }

    /// Starts what is due beside the deliveries: positions are stored, old events dropped.
    fn start_chores(&mut self) {
        let now = Instant::now();
        if self.storing.is_none() && self.store_at <= now && self.topic.log.is_to_store() {
            self.store_at = now + GATHER;
            self.storing =
                Some(store(self.topic.clone(), self.carrier.clone(), self.topics.epoch()).boxed());
        }
        let retention = self.topic.log.rule.retention;
        let slack = retention.revisions.map_or(SLACK, |kept| (kept / 8).clamp(1, SLACK));
        let end = self.topic.log.end();
        let is_due = self.prune_at <= now || end >= self.pruned.saturating_add(slack);
        if self.pruning.is_none() && is_due && !retention.is_endless() {
            (self.pruned, self.prune_at) = (end, now + ROUND);
            let keep = retention.keep(self.carrier.clock.now());
            let pruning = self.carrier.store.prune(&self.topic.entry.key, keep);
            let topic = self.topic.log.topic.clone();
            self.pruning = Some(prune(topic, pruning).boxed());
        } else if self.prune_at <= now {
            self.prune_at = now + ROUND;
        }
    }

    fn was_pruned(&mut self, is_done: bool) {
        if !is_done {
            self.prune_at = Instant::now() + SOON;
        }
    }

    /// Takes the topic out of memory when no definition binds it and no event has come since the last look. Returns whether it is out.
    async fn leave(&mut self) -> bool {
        self.leave_at = Instant::now() + UNUSED;
        let Self { topic, topics, carrier, .. } = &*self;
        let (name, end) = (&topic.log.topic, topic.log.end());
        let is_bound = is_bound(&self.directory, name.system(), name.name());
        if self.used != end || is_bound || self.pruning.is_some() {
            self.used = end;
            return false;
        }
        if topics.forget(topic) {
            return true;
        }
        // The actor that keeps the topic leaves memory first. The next look finds that it has.
        if let Ok(leaving) = carrier.mailboxes.ask_to_leave(&topic.entry)
            && let Err(error) = leaving.answer().await
        {
            debug!(topic = %name, %error, "an unused topic does not leave memory yet");
        }
        false
    }

    /// Waits for the deliveries under way, and stores the last positions.
    async fn finish(mut self) {
        while self.running.next().await.is_some() {}
        if let Some(storing) = self.storing.take() {
            storing.await;
        }
        store(self.topic.clone(), self.carrier.clone(), self.topics.epoch()).await;
    }
}

/// Loads a topic, until the store can.
async fn open(topics: Topics, topic: ActorRef) {
    let mut delays = Delays::new(FIRST_PAUSE, LONGEST_PAUSE);
    while let Err(error) = topics.open(topic.system(), topic.name()).await {
        warn!(%topic, %error, "a durable topic cannot be loaded yet");
        sleep(delays.next_delay()).await;
    }
}

/// Drops old events. Returns whether that is done.
async fn prune(topic: ActorRef, pruning: impl Future<Output = Result<u64, StoreError>>) -> bool {
    let outcome = timeout(PRUNE_LIMIT, pruning).await;
    match outcome.unwrap_or_else(|_| Err(StoreError::Unknown("it takes too long".into()))) {
        Ok(dropped) => {
            counter!(REVISIONS_DROPPED_TOTAL).increment(dropped);
            true
        }
        Err(error) => {
            debug!(%topic, %error, "old events are not dropped yet");
            false
        }
    }
}

/// Stores the positions that have changed.
async fn store(topic: Arc<Topic>, carrier: Carrier, epoch: u64) {
    while topic.log.is_to_store() {
        let (seen, forgotten) = topic.log.to_store(POSITIONS);
        let rows = EffectRows { seen, forgotten, ..EffectRows::default() };
        let save = Save::of_rows(topic.entry.key.clone(), epoch, rows.clone());
        let saving = carrier.store.save_all(vec![save]);
        let stored = in_time(async {
            saving.await.pop().unwrap_or_else(|| Err(StoreError::Unknown("no answer".into())))
        });
        let stored = stored.await;
        topic.log.stored(&rows.seen, rows.forgotten, stored.is_ok());
        if let Err(error) = stored {
            warn!(topic = %topic.log.topic, %error, "positions of subscribers are not stored yet");
            return;
        }
    }
}
