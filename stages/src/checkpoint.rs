//! Checkpoint: makes states durable, many actors in one commit, and lets go what waited for it.
//!
//! In [`Settled`], out through the [way out](crate::departure). The batch in hand is the group
//! commit: while the store works on it, the next one gathers. An actor's next invocation runs on
//! the new state meanwhile; its reply waits here behind the older commits of the same actor, as does
//! every reply that tells of a state which is not durable yet (decision 13).
//!
//! A commit that is known not to be written, nor any later one of the same activation, dooms its incarnation: what it had pending fails and the
//! next call loads the actor again. A commit of unknown outcome puts the incarnation in doubt: it is
//! written again until the store acknowledges, and meanwhile calls of the actor are refused (decision 14).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hashbrown::HashMap;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tidegate_pipeline::layer::Delays;
use tidegate_pipeline::{Bound, Demand, Drain, Full, Permit, Producer, ProducerOptions, Refused};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tower::Service;
use tracing::{error, info, warn};

use crate::departure::{Departure, WayOut};
use crate::directory::Entry;
use crate::error::Error;
use crate::metrics::COMMITS_TOTAL;
use crate::ports::{Clock, Save, StateStore, StoreError};
use crate::side_effects::{Durability, PlannedEffect};

/// One activation of an actor, shared by its live state and its commits (decision 13).
pub(crate) struct Incarnation {
    /// Its number, unique within the epoch.
    pub(crate) number: u64,
    /// The start of the proxy in which it lives.
    pub(crate) epoch: u64,
    submitted: AtomicU64,
    settled: AtomicU64,
    standing: Mutex<Standing>,
    quiet: Notify,
}

#[derive(Default)]
enum Standing {
    #[default]
    Sound,
    /// A commit's outcome is unknown; these wait behind it.
    Doubtful(VecDeque<Settled>),
    /// A commit was lost: nothing of this activation will be written any more.
    Doomed(StoreError),
}

impl Incarnation {
    pub(crate) fn new(number: u64, epoch: u64) -> Self {
        Self {
            number,
            epoch,
            submitted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            standing: Mutex::default(),
            quiet: Notify::new(),
        }
    }

    /// Whether everything handed to the checkpoint has been decided.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) == self.submitted.load(Ordering::Acquire)
    }

    /// Waits until [`is_settled`](Self::is_settled).
    pub(crate) async fn settled(&self) {
        loop {
            let quiet = self.quiet.notified();
            if self.is_settled() {
                return;
            }
            quiet.await;
        }
    }

    /// Why calls cannot use this activation.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        match &*self.standing.lock() {
            Standing::Sound => None,
            Standing::Doubtful(_) => Some(Trouble::InDoubt),
            Standing::Doomed(_) => Some(Trouble::Doomed),
        }
    }

    /// Ends this activation: nothing of it will be written any more.
    pub(crate) fn doom(&self, error: StoreError) {
        let former = std::mem::replace(&mut *self.standing.lock(), Standing::Doomed(error));
        // Outside the lock: what waited there takes the same lock when it is dropped.
        drop(former);
    }

    /// Ends a doubt that nobody settles any more; what waited behind it fails.
    fn give_up(&self, error: &StoreError) {
        let mut standing = self.standing.lock();
        if !matches!(*standing, Standing::Doubtful(_)) {
            return;
        }
        let former = std::mem::replace(&mut *standing, Standing::Doomed(error.clone()));
        drop(standing);
        if let Standing::Doubtful(waiting) = former {
            for settled in waiting {
                settled.fail(Error::Store(error.clone()));
            }
        }
    }

    fn settle(&self) {
        self.settled.fetch_add(1, Ordering::AcqRel);
        self.quiet.notify_waiters();
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnation").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What is wrong with an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A commit's outcome is unknown and being settled.
    InDoubt,
    /// A commit was lost.
    Doomed,
}

/// Keeps its activation unsettled while a write of it is under way.
struct Underway(Arc<Incarnation>);

impl Underway {
    fn new(incarnation: &Arc<Incarnation>) -> Self {
        incarnation.submitted.fetch_add(1, Ordering::AcqRel);
        Self(incarnation.clone())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// An activation in doubt, as the task that settles it holds it. When that task is ended before its
/// time, what waits must not wait for ever.
struct Doubt(Arc<Incarnation>);

impl Drop for Doubt {
    fn drop(&mut self) {
        self.0.give_up(&StoreError::Unknown("the proxy stopped before it was settled".into()));
    }
}

/// A turn that is over in memory: what is to be written, and what leaves then.
pub(crate) struct Settled {
    entry: Arc<Entry>,
    incarnation: Arc<Incarnation>,
    save: Option<Save>,
    departure: Departure,
    effects: Vec<PlannedEffect>,
    way_out: WayOut,
    decided: bool,
}

impl Settled {
    /// Notes it with its incarnation, which is then not settled until this is.
    pub(crate) fn new(
        entry: Arc<Entry>,
        incarnation: Arc<Incarnation>,
        save: Option<Save>,
        (departure, effects): (Departure, Vec<PlannedEffect>),
        way_out: WayOut,
    ) -> Self {
        incarnation.submitted.fetch_add(1, Ordering::AcqRel);
        Self { entry, incarnation, save, departure, effects, way_out, decided: false }
    }

    /// Bytes that it counts for.
    pub(crate) fn bytes(&self) -> usize {
        self.save.as_ref().map_or(0, |save| save.head.content.bytes())
    }

    /// Ends it for want of room to write. What it would have changed will not be written, so nothing may
    /// build on it; unless an older write is in doubt, behind which it is written too.
    pub(crate) fn refuse(self, error: StoreError) {
        let Some(settled) = stand_in_line(self) else { return };
        if settled.save.is_some() {
            settled.incarnation.doom(error.clone());
        }
        settled.fail(Error::Store(error));
    }

    fn depart(mut self) {
        let (departure, effects) = self.take();
        self.way_out.depart(departure, effects);
    }

    fn fail(mut self, error: Error) {
        let (departure, _effects) = self.take();
        departure.fail(&self.entry.actor, error);
    }

    fn take(&mut self) -> (Departure, Vec<PlannedEffect>) {
        self.decided = true;
        (
            std::mem::replace(&mut self.departure, Departure::Nothing),
            std::mem::take(&mut self.effects),
        )
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        // Dropped undecided (a panic, the end of a drain), its write may have happened: nothing may build on this activation.
        if !self.decided {
            self.incarnation.doom(StoreError::Unknown("the commit was abandoned".into()));
        }
        self.incarnation.settle();
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// Where turns hand their outcome in: bounded, and when it is full the workers wait, so that demand
/// ends at the door while the store is slow. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointQueue(Producer<Settled>);

impl CheckpointQueue {
    pub(crate) fn new(bound: Bound, patience: Duration) -> Self {
        let full = Full::Wait(patience);
        Self(Producer::new(ProducerOptions { name: "checkpoint", bound, full }, Demand::new()))
    }

    /// What the room consumes.
    pub(crate) fn producer(&self) -> &Producer<Settled> {
        &self.0
    }

    /// Takes a place for an outcome of that many bytes.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        self.0.reserve(bytes).await
    }

    /// Hands an outcome in.
    pub(crate) fn push(&self, settled: Settled, permit: Permit) {
        if let Err(rejected) = self.0.cast(settled, permit) {
            // Undecided: its incarnation is doomed with it.
            drop(rejected.event);
        }
    }
}

/// Keeps stateful calls away from a store that just failed, so that no action runs whose state is lost.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<Option<(Instant, Duration, StoreError)>>);

const GATE_FIRST: Duration = Duration::from_millis(50);
const GATE_LONGEST: Duration = Duration::from_secs(2);

impl Gate {
    /// Why stateful calls are refused now, and when to come back.
    pub(crate) fn closed(&self) -> Option<(StoreError, Duration)> {
        let held = self.0.lock();
        let (opens, _, error) = held.as_ref()?;
        let left = opens.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (error.clone(), left))
    }

    /// The store failed: closed for a while, longer each time, until it works again.
    fn close(&self, error: &StoreError) {
        if matches!(error, StoreError::Fenced(_)) {
            // That is one actor's matter.
            return;
        }
        let mut held = self.0.lock();
        let pause = match &*held {
            Some((opens, pause, _)) if *opens > Instant::now() => *pause,
            Some((_, pause, _)) => (*pause * 2).min(GATE_LONGEST),
            None => GATE_FIRST,
        };
        if held.is_none() {
            error!(%error, "the state store fails; stateful calls are refused until it works again");
        }
        *held = Some((Instant::now() + pause, pause, error.clone()));
    }

    fn open(&self) {
        let mut held = self.0.lock();
        if held.take().is_some() {
            info!("the state store works again");
        }
    }
}

/// The room; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
    tasks: Drain,
    durability: Durability,
    written: Counter,
    lost: Counter,
}

impl Checkpoint {
    pub(crate) fn new(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        gate: Arc<Gate>,
        tasks: Drain,
        durability: Durability,
    ) -> Self {
        let written = counter!(COMMITS_TOTAL, "outcome" => "written");
        let lost = counter!(COMMITS_TOTAL, "outcome" => "lost");
        Self { store, clock, gate, tasks, durability, written, lost }
    }

    async fn commit(self, batch: Vec<Settled>) {
        let batch: Vec<Settled> = batch.into_iter().filter_map(stand_in_line).collect();
        let (saves, covered_by) = gather(&batch);
        let count = saves.len();
        let mut outcomes = if count == 0 { Vec::new() } else { self.store.save(saves).await };
        outcomes.resize(count, Err(StoreError::Unknown("the store gave no answer".into())));
        let reached = reached(&batch, &covered_by, &outcomes);
        for (settled, place) in batch.into_iter().zip(covered_by) {
            let outcome = place.and_then(|place| outcomes.get(place)).unwrap_or(&Ok(()));
            // An older commit of the same activation may be in doubt since this very batch.
            let Some(settled) = wait_behind_doubt(settled) else { continue };
            match outcome {
                Ok(()) => {
                    if settled.save.is_some() {
                        self.written.increment(1);
                        self.gate.open();
                    }
                    settled.depart();
                }
                Err(error) if error.may_have_happened() => self.doubt(settled, error),
                // A later state was, or may have been, written, and it holds this change.
                Err(error) if reached.get(&Arc::as_ptr(&settled.incarnation)).copied() > place => {
                    self.doubt(settled, error);
                }
                // Memory holds more than this caller was told of: it is kept, and written when the store works again.
                Err(error) if self.durability == Durability::Snapshot && !is_final(error) => {
                    self.gate.close(error);
                    self.doubt(settled, error);
                }
                Err(error) => {
                    self.lost.increment(1);
                    self.gate.close(error);
                    settled.incarnation.doom(error.clone());
                    settled.fail(Error::Store(error.clone()));
                }
            }
        }
    }

    /// Puts an activation in doubt and sees to it that the doubt ends.
    fn doubt(&self, settled: Settled, error: &StoreError) {
        let (entry, incarnation) = (settled.entry.clone(), settled.incarnation.clone());
        {
            let mut standing = incarnation.standing.lock();
            match &mut *standing {
                Standing::Sound => *standing = Standing::Doubtful([settled].into()),
                Standing::Doubtful(waiting) => return waiting.push_back(settled),
                Standing::Doomed(_) => {
                    drop(standing);
                    return settled.fail(Error::Store(error.clone()));
                }
            }
        }
        warn!(actor = %entry.actor, %error, "commit not confirmed: writing it again");
        self.tasks.spawn(self.clone().resolve(entry, Doubt(incarnation)));
    }

    /// Writes what is in doubt, and what gathered behind it, until the store acknowledges.
    async fn resolve(self, entry: Arc<Entry>, doubt: Doubt) {
        let incarnation = &doubt.0;
        let mut delays = Delays::new(GATE_FIRST, GATE_LONGEST);
        loop {
            sleep(delays.next_delay()).await;
            let (saves, count, underway) = match &*incarnation.standing.lock() {
                Standing::Doubtful(waiting) => {
                    let mut saves: Vec<Save> =
                        waiting.iter().filter_map(|settled| settled.save.clone()).collect();
                    let now = self.clock.now();
                    for save in &mut saves {
                        save.head.at = entry.record_time(now);
                    }
                    (saves, waiting.len(), Underway::new(incarnation))
                }
                _ => return,
            };
            let asked = saves.len();
            let mut outcomes = self.store.save(saves).await;
            drop(underway);
            outcomes.resize(asked, Err(StoreError::Unknown("the store gave no answer".into())));
            let Some(error) = outcomes.into_iter().find_map(Result::err) else {
                self.gate.open();
                if self.believe(incarnation, count) {
                    info!(actor = %entry.actor, "commit in doubt is durable now");
                    return;
                }
                continue;
            };
            if is_final(&error) {
                return incarnation.give_up(&error);
            }
        }
    }

    /// Lets the first `count` go; whether the activation is sound again.
    fn believe(&self, incarnation: &Incarnation, count: usize) -> bool {
        let mut departing = Vec::new();
        let sound = {
            let mut standing = incarnation.standing.lock();
            let Standing::Doubtful(waiting) = &mut *standing else { return true };
            departing.extend(waiting.drain(..count.min(waiting.len())));
            let sound = waiting.is_empty();
            if sound {
                *standing = Standing::Sound;
            }
            sound
        };
        self.written.increment(departing.len() as u64);
        departing.into_iter().for_each(Settled::depart);
        sound
    }
}

/// Whether writing again is of no use.
fn is_final(error: &StoreError) -> bool {
    matches!(error, StoreError::Fenced(_) | StoreError::Corrupt(_))
}

/// Holds back what belongs to an activation in trouble; gives back what may go on.
fn stand_in_line(settled: Settled) -> Option<Settled> {
    let settled = wait_behind_doubt(settled)?;
    let incarnation = settled.incarnation.clone();
    let error = match &*incarnation.standing.lock() {
        Standing::Doomed(error) => error.clone(),
        _ => return Some(settled),
    };
    settled.fail(Error::Store(error));
    None
}

/// Holds back what belongs to an activation in doubt.
fn wait_behind_doubt(settled: Settled) -> Option<Settled> {
    let incarnation = settled.incarnation.clone();
    let mut standing = incarnation.standing.lock();
    if let Standing::Doubtful(waiting) = &mut *standing {
        waiting.push_back(settled);
        return None;
    }
    Some(settled)
}

/// The place of each activation's newest save that was, or may have been, written; only when one failed.
fn reached(
    batch: &[Settled],
    covered_by: &[Option<usize>],
    outcomes: &[Result<(), StoreError>],
) -> HashMap<*const Incarnation, usize> {
    let mut reached = HashMap::new();
    if outcomes.iter().all(Result::is_ok) {
        return reached;
    }
    for (settled, place) in batch.iter().zip(covered_by) {
        let Some(place) = *place else { continue };
        if outcomes
            .get(place)
            .is_some_and(|it| it.as_ref().map_or_else(StoreError::may_have_happened, |()| true))
        {
            reached.insert(Arc::as_ptr(&settled.incarnation), place);
        }
    }
    reached
}

/// The saves of a batch, and for each of its members the place of the save that covers it. A head
/// overwritten in the same batch need not be written, unless a revision is appended from it.
fn gather(batch: &[Settled]) -> (Vec<Save>, Vec<Option<usize>>) {
    let mut saves: Vec<Save> = Vec::with_capacity(batch.len());
    let mut newest: HashMap<*const Incarnation, usize> = HashMap::with_capacity(batch.len());
    let places = batch.iter().map(|settled| {
        let key = Arc::as_ptr(&settled.incarnation);
        let Some(save) = &settled.save else { return newest.get(&key).copied() };
        match newest.get(&key) {
            Some(&place) if saves.get(place).is_some_and(|older| !older.append) => {
                saves[place] = save.clone();
                Some(place)
            }
            _ => {
                saves.push(save.clone());
                newest.insert(key, saves.len() - 1);
                Some(saves.len() - 1)
            }
        }
    });
    let places = places.collect();
    (saves, places)
}

impl Service<Vec<Settled>> for Checkpoint {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Vec<Settled>) -> Self::Future {
        let room = self.clone();
        Box::pin(async move {
            room.commit(batch).await;
            Ok(())
        })
    }
}
