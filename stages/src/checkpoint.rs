//! Checkpoint: makes states durable, many actors in one commit, and lets go what waited for it.
//!
//! In [`Settled`], out through the [way out](crate::egress). The batch in hand is the group
//! commit: while the store works on it, the next one gathers; a store that is far away gets several at once, none of
//! which holds an actor that another one holds. An actor's next invocation runs on
//! the new state meanwhile; its reply waits here behind the older commits of the same actor, as does
//! every reply that tells of a state which is not durable yet (decision 13).
//!
//! A commit that is known not to be written, nor any later one of the same activation, abandons its incarnation: what it had pending fails and the
//! next call loads the actor again. A commit of unknown outcome puts the incarnation in doubt: it is
//! written again until the store acknowledges, and meanwhile calls of the actor are refused (decision 14).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hashbrown::HashMap;
use metrics::{Counter, counter};
use tidegate_pipeline::layer::Delays;
use tidegate_pipeline::{Bound, Demand, Drain, Full, Permit, Producer, ProducerOptions, Refused};
use tokio::time::sleep;
use tower::Service;
use tracing::{debug, info, warn};

use crate::directory::Entry;
use crate::error::Error;
use crate::incarnation::{CommitState, Doubt, Incarnation, Settled, Underway};
use crate::metrics::{COMMITS_TOTAL, REVISIONS_APPENDED_BYTES_TOTAL, REVISIONS_APPENDED_TOTAL};
use crate::ports::{Save, StateStore, StoreError};
use crate::retention::Growth;
use crate::side_effects::Durability;
use crate::store_breaker::{FIRST_PAUSE, LONGEST_PAUSE, StoreBreaker};

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
            // Undecided: its incarnation is abandoned with it.
            drop(rejected.event);
        }
    }
}

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    store: Arc<dyn StateStore>,
    store_breaker: Arc<StoreBreaker>,
    tasks: Drain,
    durability: Durability,
    growth: Growth,
    /// Activations in doubt.
    doubts: Arc<AtomicUsize>,
    written: Counter,
    lost: Counter,
    appended: Counter,
    appended_bytes: Counter,
}

impl Checkpoint {
    pub(crate) fn new(
        store: Arc<dyn StateStore>,
        store_breaker: Arc<StoreBreaker>,
        tasks: Drain,
        durability: Durability,
        growth: Growth,
    ) -> Self {
        Self {
            store,
            store_breaker,
            tasks,
            durability,
            growth,
            doubts: Arc::default(),
            written: counter!(COMMITS_TOTAL, "outcome" => "written"),
            lost: counter!(COMMITS_TOTAL, "outcome" => "lost"),
            appended: counter!(REVISIONS_APPENDED_TOTAL),
            appended_bytes: counter!(REVISIONS_APPENDED_BYTES_TOTAL),
        }
    }

    async fn commit(self, batch: Vec<Settled>) {
        let mut groups = Group::arrange(batch);
        while !groups.is_empty() {
            let saves = gather(&mut groups);
            let count = saves.len();
            let mut outcomes = if count == 0 { Vec::new() } else { self.store.save(saves).await };
            outcomes.resize(count, Err(StoreError::Unknown("the store gave no answer".into())));
            groups = groups.into_iter().filter_map(|group| self.decide(group, &outcomes)).collect();
        }
    }

    /// Lets go, fails or doubts what one activation had in a batch; answers what has come meanwhile.
    fn decide(&self, group: Group, outcomes: &[Outcome]) -> Option<Group> {
        let Group { incarnation, mut turns } = group;
        let reached = reached(&turns, outcomes);
        while let Some((settled, place)) = turns.pop_front() {
            let outcome = place.and_then(|place| outcomes.get(place)).unwrap_or(&Ok(()));
            let Err(error) = outcome else {
                self.written(settled);
                continue;
            };
            // A later state was, or may have been, written, and it holds this change.
            let is_held = reached > place;
            // Memory holds more than this caller was told of: it is kept, and written when the store works again.
            let is_kept = self.durability == Durability::Snapshot && !error.is_final();
            let is_unsure = error.may_have_happened() && !error.is_final();
            if is_kept && !is_unsure && !is_held {
                self.store_breaker.record_failure(error);
            }
            turns.push_front((settled, place));
            let turns = turns.into_iter().map(|(settled, _)| settled).collect();
            if is_unsure || is_held || is_kept {
                self.doubt(&incarnation, turns, error);
            } else {
                self.lost(&incarnation, turns, error);
            }
            return None;
        }
        let next = incarnation.written();
        (!next.is_empty()).then(|| Group::new(incarnation, next))
    }

    /// A turn whose state, if it changed, is durable.
    fn written(&self, settled: Settled) {
        if let Some(save) = &settled.save {
            self.written.increment(1);
            self.store_breaker.record_success();
            if save.append {
                self.appended.increment(1);
                self.appended_bytes.increment(save.head.content.bytes() as u64);
                self.growth.grew(&settled.entry, save.head.revision);
            }
        }
        settled.complete();
    }

    /// The oldest of these was not written, and none after it.
    fn lost(&self, incarnation: &Incarnation, turns: VecDeque<Settled>, error: &StoreError) {
        self.store_breaker.record_failure(error);
        incarnation.abandon(error);
        for settled in turns {
            self.lost.increment(1);
            settled.fail(Error::Store(error.clone()));
        }
    }

    /// Puts an activation in doubt and sees to it that the doubt ends.
    fn doubt(&self, incarnation: &Arc<Incarnation>, turns: VecDeque<Settled>, error: &StoreError) {
        let Some(entry) = turns.front().map(|settled| settled.entry.clone()) else { return };
        if incarnation.doubt(turns) {
            // An outage puts every actor that is written in doubt: one line tells of it.
            if self.doubts.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!(actor = %entry.actor, %error, "commit not confirmed: writing it again, and those that follow it");
            } else {
                debug!(actor = %entry.actor, %error, "commit not confirmed: writing it again");
            }
            self.tasks.spawn(self.clone().resolve(entry, Doubt(incarnation.clone())));
        }
    }

    /// Ends a doubt, one way or the other.
    async fn resolve(self, entry: Arc<Entry>, doubt: Doubt) {
        self.write_again(&entry, doubt).await;
        if self.doubts.fetch_sub(1, Ordering::Relaxed) == 1 {
            info!("no commit is in doubt any more");
        }
    }

    /// Writes what is in doubt, and what gathered behind it, until the store acknowledges.
    async fn write_again(&self, entry: &Arc<Entry>, doubt: Doubt) {
        let incarnation = &doubt.0;
        let mut delays = Delays::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            sleep(delays.next_delay()).await;
            let (saves, count, underway) = match &*incarnation.commit_state.lock() {
                CommitState::InDoubt(waiting) => {
                    // With their first times: where a store keeps revisions by time, the same one
                    // written again is the same record.
                    let saves: Vec<Save> =
                        waiting.iter().filter_map(|settled| settled.save.clone()).collect();
                    (saves, waiting.len(), Underway::new(incarnation))
                }
                _ => return,
            };
            let asked = saves.len();
            let mut outcomes = self.store.save(saves).await;
            drop(underway);
            outcomes.resize(asked, Err(StoreError::Unknown("the store gave no answer".into())));
            let Some(error) = outcomes.into_iter().find_map(Result::err) else {
                if self.acknowledge(incarnation, count) {
                    debug!(actor = %entry.actor, "commit in doubt is durable now");
                    return;
                }
                continue;
            };
            if error.is_final() {
                return incarnation.give_up(&error);
            }
        }
    }

    /// Lets the first `count` go; whether the activation is sound again.
    fn acknowledge(&self, incarnation: &Incarnation, count: usize) -> bool {
        let mut completing = Vec::new();
        let sound = {
            let mut commit_state = incarnation.commit_state.lock();
            let CommitState::InDoubt(waiting) = &mut *commit_state else { return true };
            completing.extend(waiting.drain(..count.min(waiting.len())));
            let sound = waiting.is_empty();
            if sound {
                *commit_state = CommitState::Clean;
            }
            sound
        };
        for settled in completing {
            self.written(settled);
        }
        sound
    }
}

/// What the store says of one save.
type Outcome = Result<(), StoreError>;

/// The turns of one activation in a batch, in order, each with the place of the save that covers it.
struct Group {
    incarnation: Arc<Incarnation>,
    turns: VecDeque<(Settled, Option<usize>)>,
}

impl Group {
    fn new(incarnation: Arc<Incarnation>, turns: impl IntoIterator<Item = Settled>) -> Self {
        Self { incarnation, turns: turns.into_iter().map(|settled| (settled, None)).collect() }
    }

    /// Takes a batch apart; what belongs to an activation that another batch is writing waits there.
    fn arrange(batch: Vec<Settled>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::with_capacity(batch.len());
        let mut places: HashMap<*const Incarnation, usize> = HashMap::with_capacity(batch.len());
        for settled in batch {
            let incarnation = settled.incarnation.clone();
            let key = Arc::as_ptr(&incarnation);
            if let Some(group) = places.get(&key).and_then(|place| groups.get_mut(*place)) {
                group.turns.push_back((settled, None));
            } else if let Some(settled) = incarnation.claim(settled) {
                places.insert(key, groups.len());
                groups.push(Self::new(incarnation, [settled]));
            }
        }
        groups
    }
}

/// The saves of all groups, and for each turn the place of the save that covers it. A head overwritten in the same
/// batch need not be written, unless a revision is appended from it.
fn gather(groups: &mut [Group]) -> Vec<Save> {
    let mut saves: Vec<Save> = Vec::with_capacity(groups.len());
    for group in groups {
        let mut newest: Option<usize> = None;
        for (settled, covered_by) in &mut group.turns {
            if let Some(save) = &settled.save {
                match newest.and_then(|place| saves.get_mut(place)) {
                    Some(older) if !older.append => *older = save.clone(),
                    _ => {
                        newest = Some(saves.len());
                        saves.push(save.clone());
                    }
                }
            }
            *covered_by = newest;
        }
    }
    saves
}

/// The place of a group's newest save that was, or may have been, written.
fn reached(turns: &VecDeque<(Settled, Option<usize>)>, outcomes: &[Outcome]) -> Option<usize> {
    let places = turns.iter().rev().filter_map(|(_, place)| *place);
    let mut written = places.filter(|place| match outcomes.get(*place) {
        Some(Ok(())) => true,
        Some(Err(error)) => error.may_have_happened(),
        None => false,
    });
    written.next()
}

impl Service<Vec<Settled>> for Checkpoint {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Vec<Settled>) -> Self::Future {
        let stage = self.clone();
        Box::pin(async move {
            stage.commit(batch).await;
            Ok(())
        })
    }
}
