//! Observe: what metrics show of a keyed producer, and of the keys that have something to do. It is looked at when it is asked for:
//! events themselves cost nothing more.

use tokio::time::Instant;

use crate::dispatcher::keyed::WaitsFor;
use crate::keyed_producer::{KeyedEvent, KeyedProducer};
use crate::metrics::{StageView, show};

/// How many keys are looked at before the lock is released for a moment.
const PORTION: u32 = 256;

/// What a key does at one moment, and what waits for it.
#[derive(Debug)]
pub struct KeySeen<'a, K, H> {
    /// The key.
    pub key: &'a K,
    /// Whether it is paused.
    pub is_paused: bool,
    /// The handle of its event in flight, or parked.
    pub running: Option<&'a H>,
    /// The class of that event, and when it was granted.
    pub granted: Option<(u32, Instant)>,
    /// Since when that event is parked.
    pub parked: Option<Instant>,
    /// How many events are queued.
    pub queued: usize,
    /// How many of them count against [the bound](KeyedProducer::per_key) of the key.
    pub counted: usize,
    /// The class of the first queued event, and since when it waits.
    pub first: Option<(u32, Instant)>,
    /// What the first queued event waits for. The others wait for their turn.
    pub waits_for: Option<WaitsFor>,
}

impl<T: KeyedEvent> KeyedProducer<T> {
    /// Sets the gauges of this stage to what they are now.
    pub fn observe(&self) {
        let shared = &self.shared;
        let view = {
            let machine = &shared.state.lock().machine;
            StageView {
                queued: machine.queued(),
                in_flight: Some(machine.in_flight()),
                parked: Some(machine.parked()),
                demand: machine.demand(),
                held: shared.capacity.held(),
                limit: shared.capacity.limit(),
            }
        };
        show(shared.metrics.stage, &view);
    }

    /// How many events may be queued per key.
    pub fn per_key(&self) -> usize {
        self.shared.state.lock().machine.per_key()
    }

    /// Looks at every key that has an event queued, in flight or parked, or is paused. Keys that come or go meanwhile may be
    /// missed. `see` runs with the producer's lock held; between portions of keys the lock is free.
    pub fn survey(&self, mut see: impl FnMut(&KeySeen<'_, T::Key, T::Handle>)) {
        let mut next = 0;
        loop {
            let state = self.shared.state.lock();
            let end = next + PORTION;
            let more = state.machine.look_from(next..end, |look| {
                let Some(key) = look.key else { return };
                let first = look.waiting.front();
                see(&KeySeen {
                    key,
                    is_paused: look.paused.is_some(),
                    running: look.running.map(|running| &running.handle),
                    granted: look.running.map(|running| (running.class, running.since)),
                    parked: look.running.and_then(|running| running.parked),
                    queued: look.waiting.len(),
                    counted: look.counted,
                    first: first.map(|first| (first.class, first.event.since)),
                    waits_for: look.waits_for,
                });
            });
            drop(state);
            if !more {
                return;
            }
            next = end;
        }
    }
}
