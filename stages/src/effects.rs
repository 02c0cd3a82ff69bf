//! Effects: delivers the rows of outboxes to their targets, and removes them when they are answered (decision 18).
//!
//! ```text
//! commit ─▶ send ─▶ queue, one at a time per (source, target) ═▶ deliver ─▶ target's turn ─▶ answered ─▶ row removed
//!             └▶ behind: read from the store when there is capacity ─┘          └▶ again, or a dead letter
//! ```
//! A row stays in the store until its target has answered durably, so what is in memory here may be lost at any moment. A
//! source is *behind* when rows of it are in the store only: after a start, and when memory is full. Then the
//! [feeder](feed) reads them, in order. The failure of one effect changes no other effect of another target, nor the reply
//! of the call that emitted it: a target that does not answer [makes way](making_way).

mod catch_up;
mod deliver;
mod feed;
mod gauges;
mod ledger;
mod letters;
mod making_way;
mod remove;
mod source;
mod sources;
mod stuck;

pub(crate) use deliver::{Deliver, DeliverInner, effects_delivered, is_final};
pub(crate) use feed::Feeder;
pub use ledger::DeadLetterBounds;
pub(crate) use letters::{Letters, count_dropped};
pub(crate) use remove::Remover;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use parking_lot::Mutex;
use tidegate_pipeline::{Bound, Full, KeyedOptions, KeyedProducer, Pushed};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::actor::{ActorId, ActorRef};
use crate::call::{Emitted, EmittedEffect};
use crate::due::MadeCalls;
use crate::metrics::DEAD_LETTERS_DROPPED_TOTAL;
use crate::outbox::record::Record;
use crate::outbox::view::source_name;
use crate::outbox::{EffectId, EffectRows, EffectSource, OutboxKey, OutboxRow, SourceKind};
use crate::ports::{Save, StateStore, StoreError};
use crate::schedules::OpenRuns;
use crate::state::Timestamp;
use crate::store_limit::in_time;
use deliver::Delivery;
use ledger::{Ledger, Letter, Surplus};
use making_way::{AllStuck, Called, MOST_PROBED, PROBES};
use source::{Delivered, Died, Reading, Source, State};
use sources::Sources;
use stuck::InMemory;

/// How long the feeder waits for capacity before it asks anew.
const FEEDER_WAITS: Duration = Duration::from_hours(1);

/// Effects of one source in memory; more of them are read from the store later.
const PER_SOURCE: usize = 128;

/// The outboxes of all actors; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Effects(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: KeyedProducer<Delivery>,
    most_events: usize,
    /// The bytes of all that is in memory; a larger effect takes all of them.
    most_bytes: usize,
    /// How many wait for a place in memory.
    wanted: AtomicUsize,
    /// For first tries for stuck targets, in bytes.
    probes: Arc<Semaphore>,
    stuck: AllStuck,
    calls: Called,
    /// The epoch of this start.
    epoch: u64,
    next_number: AtomicU64,
    /// Sources with effects that are not removed from the store.
    sources: Mutex<Sources>,
    /// Whether every source of former epochs is among them.
    all_found: AtomicBool,
    /// Sources to be read from the store.
    behind: Mutex<VecDeque<Arc<Source>>>,
    is_behind: Notify,
    /// Sources with rows to be removed from the store.
    answered: Mutex<Vec<Arc<Source>>>,
    is_answered: Notify,
    /// Dead letters that were found, or came.
    dead: Mutex<Ledger>,
    /// Schedules with runs that have not ended.
    runs: Arc<OpenRuns>,
    /// Calls of due work that are not known to be gone.
    made: MadeCalls,
    /// Ends deliveries: what is in the store stays there.
    stop: CancellationToken,
    /// Ends removals.
    end: CancellationToken,
}

impl Effects {
    /// Outboxes of which at most that much is in memory.
    pub(crate) fn new(bound: Bound, dead: DeadLetterBounds, epoch: u64) -> Self {
        let (name, per_key) = ("side_effects", bound.events);
        let options = KeyedOptions { name, bound, per_key, full: Full::Wait(FEEDER_WAITS) };
        Self(Arc::new(Inner {
            queue: KeyedProducer::new(options),
            most_events: bound.events,
            most_bytes: bound.bytes,
            wanted: AtomicUsize::new(0),
            probes: Arc::new(Semaphore::new((bound.bytes / PROBES).clamp(1, MOST_PROBED))),
            stuck: AllStuck::default(),
            calls: Called::default(),
            epoch,
            next_number: AtomicU64::new(0),
            sources: Mutex::default(),
            all_found: AtomicBool::new(false),
            behind: Mutex::default(),
            is_behind: Notify::new(),
            answered: Mutex::default(),
            is_answered: Notify::new(),
            dead: Mutex::new(Ledger::new(dead)),
            runs: Arc::default(),
            made: MadeCalls::default(),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
        }))
    }

    /// What [`Deliver`] consumes.
    pub(crate) fn queue(&self) -> &KeyedProducer<Delivery> {
        &self.0.queue
    }

    /// The next number of an effect, and position of its row. They ascend over all sources, so a source that is deleted and
    /// spawned again uses none twice.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Delivers the effects of a commit that is durable.
    pub(crate) fn send(&self, mut emitted: Emitted) {
        let entry = emitted.source.clone();
        let mut sources = self.0.sources.lock();
        let source = self.source(&mut sources, &entry.key, &entry.actor);
        let mut state = source.state.lock();
        drop(sources);
        state.counts_in(&entry.pending_effects);
        for effect in emitted.take() {
            state.committed = Some(effect.row.key);
            let is_next = state.reading == Reading::UpToDate;
            if is_next && !self.try_queue(&source, &mut state, effect) {
                state.reading = Reading::Behind;
            }
        }
        self.feed_if_behind(&source, &mut state);
    }

    /// No effect is delivered from now on; those whose call was queued are awaited.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Ends the stage after [`stop`](Self::stop), when all calls have ended: the last rows are removed.
    pub(crate) fn end(&self) {
        self.0.stop.cancel();
        self.0.queue.end();
        self.0.end.cancel();
    }

    /// The source of a key. Until every source of former epochs is found, a new one may have rows in the store.
    fn source(&self, sources: &mut Sources, key: &Arc<ActorId>, actor: &ActorRef) -> Arc<Source> {
        let all_found = self.0.all_found.load(Ordering::Acquire);
        sources.get_or_add(key, || Source::new(key.clone(), actor.clone(), !all_found))
    }

    /// Queues an effect for its target, if there is capacity.
    fn try_queue(&self, source: &Arc<Source>, state: &mut State, effect: EmittedEffect) -> bool {
        if state.is_stuck(&effect.invocation.actor) {
            state.read_through(effect.row.key);
            return true;
        }
        if state.loaded() >= PER_SOURCE {
            return false;
        }
        let bytes = effect.row.bytes().min(self.0.most_bytes);
        let Ok(permit) = self.0.queue.try_reserve(bytes) else { return false };
        let delivery = Delivery::new(self.clone(), source.clone(), effect, permit);
        self.enqueue(state, delivery);
        true
    }

    /// Queues an effect that has a permit.
    fn enqueue(&self, state: &mut State, delivery: Delivery) {
        let (key, at, target) = (delivery.row.key, delivery.at, delivery.target().clone());
        let attempts = delivery.attempts();
        state.read_through(key);
        match self.0.queue.push_exempt(delivery) {
            Ok(Pushed { id: queued, .. }) => {
                state.in_memory.insert(key, InMemory { target, queued, at, attempts });
            }
            // The proxy ends. The row stays in the store.
            Err(rejected) => rejected.event.forget(),
        }
    }

    /// Has a source read that is behind and has capacity.
    fn feed_if_behind(&self, source: &Arc<Source>, state: &mut State) {
        if state.reading == Reading::Behind && state.loaded() <= PER_SOURCE / 2 {
            self.feed_now(source, state);
        }
    }

    /// Has a source read, unless it is read already.
    fn feed_now(&self, source: &Arc<Source>, state: &mut State) {
        if state.reading != Reading::Feeding {
            state.reading = Reading::Feeding;
            self.0.behind.lock().push_back(source.clone());
            self.0.is_behind.notify_one();
        }
    }

    /// An effect is answered: its row goes.
    fn answered(&self, source: &Arc<Source>, delivered: Delivered) {
        let mut state = source.state.lock();
        state.answered.push(delivered);
        self.remove_soon(source, &mut state);
    }

    /// An effect is dead: its row is written again as a dead letter.
    fn died(&self, source: &Arc<Source>, died: Died) {
        let (key, letter) = (died.row.key, Letter::of(&died.row, died.at));
        let mut state = source.state.lock();
        state.dying.insert(key);
        state.dead.push(died);
        self.remove_soon(source, &mut state);
        drop(state);
        self.keep_letter(&source.key, key, letter);
    }

    /// A new position of a row, after all others.
    pub(crate) fn next_row(&self) -> OutboxKey {
        OutboxKey { epoch: self.0.epoch, place: self.next_number() }
    }

    /// Keeps a dead letter that has no row in the outbox of its source, durably, in a [new row](Self::next_row). It has the number
    /// that it had there, if it is known; else a new one.
    ///
    /// # Errors
    /// When the store fails; it may be kept all the same. With the same row it is kept once, however often it is written.
    pub(crate) async fn bury(
        &self,
        store: &dyn StateStore,
        source: &Arc<ActorId>,
        (key, id, record): (OutboxKey, Option<EffectId>, Record),
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let OutboxKey { epoch, place: number } = key;
        let id = id.unwrap_or(EffectId { epoch, activation: 0, number });
        let row = OutboxRow { key, id, record: record.encode() };
        let letter = Letter::of(&row, at);
        let rows = EffectRows { appends: vec![row], ..EffectRows::default() };
        let saving = store.save_all(vec![Save::of_rows(source.clone(), epoch, rows)]);
        let no_answer = || Err(StoreError::Unknown("the store gave no answer".into()));
        in_time(async { saving.await.pop().unwrap_or_else(no_answer) }).await?;
        self.keep_letter(source, key, letter);
        Ok(())
    }

    /// Counts a dead letter, and drops those for which the bounds leave no place.
    fn keep_letter(&self, source: &Arc<ActorId>, key: OutboxKey, letter: Letter) {
        let surplus = self.0.dead.lock().add(source, key, letter);
        for Surplus { source, key, id } in surplus {
            counter!(DEAD_LETTERS_DROPPED_TOTAL, "reason" => "full").increment(1);
            let name = source_name(&source);
            warn!(source = %name, %id, "dead letter dropped: there are too many, and it was the oldest");
            self.drop_letter(&source, key);
        }
    }

    /// Has the row of a dead letter removed.
    fn drop_letter(&self, key: &Arc<ActorId>, row: OutboxKey) {
        let mut sources = self.0.sources.lock();
        // It was read to its end before its dead letter was counted.
        let new = || {
            let actor = ActorRef::new(&key.system, &key.name);
            Source::new(key.clone(), actor, false)
        };
        let source = sources.get_or_add(key, new);
        let mut state = source.state.lock();
        drop(sources);
        state.dropped.push(row);
        self.remove_soon(&source, &mut state);
    }

    /// A dead letter is gone: it is delivered again, or dropped.
    pub(crate) fn letter_left(&self, source: &Arc<ActorId>, key: OutboxKey) {
        self.0.dead.lock().remove(source, key);
    }

    /// Whether a dead letter is not known to be written as one. It must not be changed before.
    pub(crate) fn is_dying(&self, source: &ActorId, key: OutboxKey) -> bool {
        let source = self.0.sources.lock().get(source).cloned();
        source.is_some_and(|source| source.state.lock().dying.contains(&key))
    }

    /// Whether a source has no effect that may be delivered again, durably (decision 18 i). Effects that it emits from now on are
    /// newer than all that it ever had.
    pub(crate) fn has_nothing_pending(&self, source: &EffectSource) -> bool {
        match source.kind {
            SourceKind::Actor => {
                let is_done = self.0.all_found.load(Ordering::Acquire)
                    && !self.0.sources.lock().has_name(source);
                // After the stop, sources are forgotten whose effects are in the store.
                is_done && !self.0.stop.is_cancelled()
            }
            SourceKind::Schedule => self.0.runs.has_none(source),
            SourceKind::Due => self.0.made.has_none(source),
            // Topics are few.
            SourceKind::Topic => false,
        }
    }

    /// Where it is known which schedules have runs that have not ended.
    pub(crate) fn open_runs(&self) -> &Arc<OpenRuns> {
        &self.0.runs
    }

    /// Where it is known which calls of due work may come again.
    pub(crate) fn made_calls(&self) -> &MadeCalls {
        &self.0.made
    }

    /// How often an effect was tried, if it is in memory or the first one for its target.
    fn attempts(&self, source: &ActorId, key: OutboxKey) -> Option<u32> {
        let source = self.0.sources.lock().get(source).cloned()?;
        let state = source.state.lock();
        let in_store = || state.tried_in_store().find(|(first, _)| *first == key);
        let tried = state.in_memory.get(&key).or_else(|| in_store().map(|(_, tried)| tried));
        tried.map(|tried| tried.attempts)
    }

    /// The sources whose effects have failed and are tried again: each with how many they are, how often one of them was tried at
    /// most, and when the first was emitted.
    pub(crate) fn retried(&self) -> Vec<(Arc<ActorId>, usize, u32, Timestamp)> {
        let sources = self.0.sources.lock().all();
        let retried = sources.iter().filter_map(|source| {
            let state = source.state.lock();
            let in_store = state.tried_in_store().map(|(_, tried)| tried);
            let all = state.in_memory.values().chain(in_store);
            let again = all.filter(|effect| effect.attempts > 0);
            let seen = again.fold(None, |seen: Option<(usize, u32, Timestamp)>, effect| {
                let (count, most, first) = seen.unwrap_or((0, 0, effect.at));
                Some((count + 1, most.max(effect.attempts), first.min(effect.at)))
            });
            seen.map(|(count, most, first)| (source.key.clone(), count, most, first))
        });
        retried.collect()
    }

    fn remove_soon(&self, source: &Arc<Source>, state: &mut State) {
        if !std::mem::replace(&mut state.removing, true) {
            self.0.answered.lock().push(source.clone());
            self.0.is_answered.notify_one();
        }
    }

    /// An effect is in memory no more.
    fn left(&self, source: &Arc<Source>, target: &ActorRef, key: OutboxKey) {
        let mut state = source.state.lock();
        if state.left(target, key) && state.has_ready() {
            self.feed_now(source, &mut state);
        }
        self.feed_if_behind(source, &mut state);
        let is_idle = state.is_idle();
        drop(state);
        if is_idle {
            self.forget_idle(source);
        }
    }

    /// Forgets a source that has no rows left.
    fn forget_idle(&self, source: &Arc<Source>) {
        let mut sources = self.0.sources.lock();
        let is_idle = source.state.lock().is_idle();
        if is_idle && sources.get(&source.key).is_some_and(|known| Arc::ptr_eq(known, source)) {
            sources.remove(&source.key);
        }
    }
}
