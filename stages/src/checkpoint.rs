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

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hashbrown::HashMap;
use metrics::{Counter, counter};
use tidegate_pipeline::layer::Delays;
use tidegate_pipeline::{Bound, Demand, Drain, Full, Permit, Producer, ProducerOptions, Refused};
use tokio::time::sleep;
use tower::Service;
use tracing::{info, warn};

use crate::directory::Entry;
use crate::error::Error;
use crate::gate::{FIRST_PAUSE, Gate, LONGEST_PAUSE};
use crate::incarnation::{
    Doubt, Incarnation, Settled, Standing, Underway, stand_in_line, wait_behind_doubt,
};
use crate::metrics::COMMITS_TOTAL;
use crate::ports::{Save, StateStore, StoreError};
use crate::side_effects::Durability;

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

/// The room; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    store: Arc<dyn StateStore>,
    gate: Arc<Gate>,
    tasks: Drain,
    durability: Durability,
    written: Counter,
    lost: Counter,
}

impl Checkpoint {
    pub(crate) fn new(
        store: Arc<dyn StateStore>,
        gate: Arc<Gate>,
        tasks: Drain,
        durability: Durability,
    ) -> Self {
        let written = counter!(COMMITS_TOTAL, "outcome" => "written");
        let lost = counter!(COMMITS_TOTAL, "outcome" => "lost");
        Self { store, gate, tasks, durability, written, lost }
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
                Err(error) if error.may_have_happened() && !error.is_final() => {
                    self.doubt(settled, error);
                }
                // A later state was, or may have been, written, and it holds this change.
                Err(error) if reached.get(&Arc::as_ptr(&settled.incarnation)).copied() > place => {
                    self.doubt(settled, error);
                }
                // Memory holds more than this caller was told of: it is kept, and written when the store works again.
                Err(error) if self.durability == Durability::Snapshot && !error.is_final() => {
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
        let mut delays = Delays::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            sleep(delays.next_delay()).await;
            let (saves, count, underway) = match &*incarnation.standing.lock() {
                Standing::Doubtful(waiting) => {
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
                self.gate.open();
                if self.believe(incarnation, count) {
                    info!(actor = %entry.actor, "commit in doubt is durable now");
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
