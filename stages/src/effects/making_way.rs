//! Making way: a delivery that waits for its target keeps its place in memory as long as nobody else needs it.
//!
//! When somebody does, what is queued behind it leaves memory, and so does the delivery itself unless its call is under way. Few
//! calls of one target are: the others wait in front of its mailbox.
//! The rows are in the store. The target is [stuck](super::stuck) for that source then: the feeder passes over its rows, until
//! the first of them is tried again and answered. Then the feeder [catches up](super::catch_up), in order.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::Effects;
use super::deliver::Delivery;
use super::source::{Reading, Source, State};
use super::stuck::{Phase, Stuck, Tries};
use crate::actor::ActorRef;
use crate::outbox::OutboxKey;

/// How often a delivery that waits looks whether others need its place.
const LOOKS: Duration = Duration::from_secs(1);
/// How long the effects of a paused target wait before it is looked at again.
pub(super) const WHILE_PAUSED: Duration = Duration::from_secs(5);
/// Pairs of source and stuck target, at most. Deliveries to further ones keep their places.
const MOST: usize = 65_536;
/// Which part of the memory for effects is for first tries for stuck targets.
pub(super) const PROBES: usize = 4;
/// The most bytes that one part of the memory for effects has.
pub(super) const MOST_PROBED: usize = u32::MAX as usize >> 3;
/// Which part of the memory for effects is for the calls of one target: those in its mailbox, and the one that runs.
const CALLED: usize = 32;
/// How many calls of one target there are at once.
const CALLS: usize = 64;
/// How many calls of one target there are at once while all are first tries.
const PROBING: usize = 8;

/// The targets with calls under way.
pub(super) type Called = Mutex<HashMap<ActorRef, Weak<Semaphore>, Seeded>>;

/// When a stuck target is tried again. The number tells those of one moment apart.
type When = (Instant, u64);

/// The stuck targets of all sources.
#[derive(Debug, Default)]
pub(super) struct AllStuck {
    pub(super) waiting: Mutex<BTreeMap<When, (Arc<Source>, ActorRef)>>,
    pub(super) is_earlier: Notify,
    /// Whether one waits for a place of its own to be tried again.
    is_probing: AtomicBool,
    /// How many there are.
    count: AtomicUsize,
    next: AtomicU64,
}

impl Effects {
    /// Waits until somebody else needs the place of a delivery.
    pub(super) async fn needs_place(&self, delivery: &Delivery) {
        loop {
            sleep(LOOKS).await;
            let is_wanted = self.0.wanted.load(Ordering::Relaxed) > 0
                || delivery.is_probe() && self.0.stuck.is_probing.load(Ordering::Relaxed);
            if is_wanted || delivery.source().state.lock().reading != Reading::UpToDate {
                return;
            }
        }
    }

    /// Waits until the target of a delivery may be called. What is in its mailbox cannot make way, so that is a small part of the
    /// memory for effects, also when the target hangs.
    pub(super) async fn may_call(&self, delivery: &Delivery) -> Option<OwnedSemaphorePermit> {
        let (target, share) = (delivery.target(), self.share(CALLED));
        // First tries are fewer still: while they run, they hold what they count for.
        let calls = if delivery.is_probe() { PROBING } else { CALLS };
        let bytes = self.cost(delivery.row.bytes.max(share / calls), share);
        let calls = {
            let mut all = self.0.calls.lock();
            if all.len() == all.capacity() {
                all.retain(|_, calls| calls.strong_count() > 0);
            }
            let known = all.get(target).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let calls = Arc::new(Semaphore::new(share));
                all.insert(target.clone(), Arc::downgrade(&calls));
                calls
            })
        };
        calls.acquire_many_owned(bytes).await.ok()
    }

    /// A part of the bytes for effects.
    fn share(&self, part: usize) -> usize {
        (self.0.most_bytes / part).clamp(1, MOST_PROBED)
    }

    /// What an effect takes of a part of the bytes: at least what each takes when there are as many effects as there may be.
    fn cost(&self, bytes: usize, share: usize) -> u32 {
        let least = self.0.most_bytes / self.0.most_events.max(1);
        u32::try_from(bytes.max(least).clamp(1, share)).unwrap_or(u32::MAX)
    }

    /// Puts back what is queued behind a delivery whose call is under way.
    pub(super) fn make_way(&self, delivery: &Delivery) {
        let (source, head) = (delivery.source(), delivery.row.key);
        let mut state = source.state.lock();
        if self.get_stuck(&mut state, delivery) {
            let target = delivery.target();
            if let Some(stuck) = state.stuck.get_mut(target) {
                (stuck.behind, stuck.phase) = (Some(head), Phase::InMemory(head));
            }
            self.feed_if_behind(source, &mut state);
        }
    }

    /// Puts back a delivery and what is queued behind it; it is tried again after a pause. Returns it when there are too many
    /// stuck targets.
    pub(super) fn put_back(
        &self,
        delivery: Delivery,
        tries: Tries,
        pause: Option<Duration>,
    ) -> Option<(Delivery, Tries)> {
        let (source, head) = (delivery.source().clone(), delivery.row.key);
        let mut state = source.state.lock();
        if !self.get_stuck(&mut state, &delivery) {
            return Some((delivery, tries));
        }
        let first = state.in_memory.remove(&head);
        if let Some(stuck) = state.stuck.get_mut(delivery.target()) {
            stuck.behind = before(head);
            stuck.phase = Phase::Waiting;
            stuck.first = first.map(|first| (head, first));
            (stuck.tries, stuck.bytes) = (tries, delivery.row.bytes);
        }
        self.try_later(&source, delivery.target(), pause.unwrap_or(WHILE_PAUSED));
        delivery.forget();
        self.feed_if_behind(&source, &mut state);
        None
    }

    /// Notes that the target of a delivery is stuck, and puts back what is queued behind the delivery. Returns false when there are
    /// too many.
    fn get_stuck(&self, state: &mut State, delivery: &Delivery) -> bool {
        let target = delivery.target();
        if !state.stuck.contains_key(target) {
            let all = &self.0.stuck;
            if all.count.fetch_add(1, Ordering::Relaxed) >= MOST {
                all.count.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
            let stuck = Stuck {
                behind: None,
                phase: Phase::Waiting,
                first: None,
                tries: Tries::default(),
                bytes: 0,
                probe: None,
            };
            state.stuck.insert(target.clone(), stuck);
        }
        let later = state.in_memory.range((Excluded(delivery.row.key), Unbounded));
        let later: Vec<_> = later
            .filter(|(_, row)| row.target == *target)
            .map(|(key, row)| (*key, row.queued))
            .collect();
        for (key, queued) in later {
            if let Some(later) = self.0.queue.remove(delivery.path(), queued) {
                state.in_memory.remove(&key);
                later.forget();
            }
        }
        true
    }

    pub(super) fn try_later(&self, source: &Arc<Source>, target: &ActorRef, pause: Duration) {
        let all = &self.0.stuck;
        let at = (Instant::now() + pause, all.next.fetch_add(1, Ordering::Relaxed));
        all.waiting.lock().insert(at, (source.clone(), target.clone()));
        all.is_earlier.notify_one();
    }

    /// A stuck target has no rows left in the store only.
    pub(super) fn unstick(&self, state: &mut State, target: &ActorRef) {
        if state.stuck.remove(target).is_some() {
            self.0.stuck.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for what a first try for a stuck target counts for: all of them take a quarter of the memory for effects.
    pub(super) async fn probe(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = self.cost(bytes, self.share(PROBES));
        let probes = &self.0.probes;
        if let Ok(probe) = probes.clone().try_acquire_many_owned(bytes) {
            return Some(probe);
        }
        let is_probing = &self.0.stuck.is_probing;
        is_probing.store(true, Ordering::Relaxed);
        let probe = probes.clone().acquire_many_owned(bytes).await.ok();
        is_probing.store(false, Ordering::Relaxed);
        probe
    }
}

/// The position before another one.
fn before(key: OutboxKey) -> Option<OutboxKey> {
    let OutboxKey { epoch, place } = key;
    match (epoch, place) {
        (0, 0) => None,
        (_, 0) => Some(OutboxKey { epoch: epoch - 1, place: u64::MAX }),
        _ => Some(OutboxKey { epoch, place: place - 1 }),
    }
}
