//! Shared: the machine behind its lock, and how grants leave the lock.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::buffer::{Capacity, Refused, Rejected};
use crate::dispatcher::keyed::{EventId, Keyed, KeyedGrant, WaitsFor};
use crate::gate::{Gate, Gated};
use crate::guard;
use crate::keyed_producer::{KeyedEvent, KeyedOptions, Pushed, Turn};
use crate::metrics::{ProducerMetrics, TurnTimes};
use crate::subscription::{
    Batch, DemandSender, Link, Output, Pair, SubscribeError, SubscribeOptions, SubscriberId,
    Upstream, channel,
};
use crate::sync::Mutex;

mod gated;

use gated::{GateWaker, TimedGate};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    Closed,
    Ended,
}

/// What the clones of a keyed producer, its subscriptions and its turns share.
pub(super) struct KeyedShared<T: KeyedEvent> {
    pub(super) capacity: Arc<Capacity>,
    pub(super) state: Mutex<State<T>>,
    /// How many keys are in line for the gate.
    pub(super) line_length: Arc<AtomicUsize>,
    /// Notified when no event is queued, in flight or parked.
    idle: Notify,
    pub(super) metrics: ProducerMetrics,
    times: TurnTimes,
}

/// A queued event, boxed: it is moved many times until its turn runs.
pub(super) struct Timed<T> {
    pub(super) event: Box<T>,
    /// When it was pushed or resumed.
    pub(super) since: Instant,
}

/// What is kept of an event in flight or parked.
pub(super) struct Running<H> {
    pub(super) id: EventId,
    pub(super) class: u32,
    /// When it was granted.
    pub(super) since: Instant,
    /// When it was parked.
    pub(super) parked: Option<Instant>,
    pub(super) handle: H,
}

pub(super) struct State<T: KeyedEvent> {
    pub(super) machine: Keyed<T::Key, Timed<T>, Running<T::Handle>>,
    outputs: Vec<Arc<Output<Turn<T>>>>,
    next_id: u64,
    pub(super) phase: Phase,
    /// Whether no handle is left. The producer then ends when it is idle.
    is_orphan: bool,
}

/// A grant to send outside the lock.
struct Outgoing<T: KeyedEvent> {
    /// Where to send it. The channel closes when the last clone is dropped.
    output: Option<Arc<Output<Turn<T>>>>,
    grant: KeyedGrant<Timed<T>>,
    waited: Duration,
    /// Whether the machine has more to grant.
    more: bool,
}

/// What remains to be done outside the lock.
struct After<T: KeyedEvent> {
    outgoing: Option<Outgoing<T>>,
    /// Subscriptions that have ended.
    ended: Vec<Arc<Output<Turn<T>>>>,
    is_idle: bool,
}

impl<T: KeyedEvent> After<T> {
    fn grants(&self, id: EventId) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.grant.held.id() == id)
    }
}

impl<T: KeyedEvent> State<T> {
    fn push(
        &mut self,
        key: &T::Key,
        event: Timed<T>,
        class: u32,
        exempt: bool,
    ) -> Result<EventId, (Timed<T>, Refused)> {
        let last = if exempt { Phase::Closed } else { Phase::Open };
        if self.phase > last {
            return Err((event, Refused::Closed));
        }
        let pushed = self.machine.push(key, event, class, exempt);
        pushed.map_err(|event| (event, Refused::KeyFull))
    }

    /// What a queued event waits for.
    fn waits_for(&self, key: &T::Key, id: EventId) -> Option<WaitsFor> {
        let look = self.machine.look(key)?;
        let is_first = look.waiting.front().is_some_and(|first| first.id == id);
        match look.waits_for? {
            WaitsFor::Resume => Some(WaitsFor::Resume),
            _ if !is_first => Some(WaitsFor::Turn),
            waits_for => Some(waits_for),
        }
    }

    fn next(&mut self, now: Instant) -> Option<Outgoing<T>> {
        let grant = self.machine.grant()?;
        let Timed { event, since } = &grant.event;
        let waited = now.saturating_duration_since(*since);
        let (id, class) = (grant.held.id(), event.class());
        let running = Running { id, class, since: now, parked: None, handle: event.handle() };
        self.machine.keep(grant.held, running);
        let output = self.outputs.iter().find(|output| output.id == grant.to).map(Arc::clone);
        Some(Outgoing { output, grant, waited, more: self.machine.has_grant() })
    }

    fn after(&mut self, now: Instant) -> After<T> {
        let outgoing = self.next(now);
        let is_idle = self.machine.is_idle();
        let ended = if is_idle && self.is_orphan {
            self.phase = Phase::Ended;
            std::mem::take(&mut self.outputs)
        } else {
            Vec::new()
        };
        After { outgoing, ended, is_idle }
    }
}

impl<T: KeyedEvent> KeyedShared<T> {
    pub(super) fn gated(options: &KeyedOptions, gate: Box<dyn Gate<T>>) -> Arc<KeyedShared<T>> {
        let shared = Arc::new(KeyedShared::new(options));
        let waker = Waker::from(Arc::new(GateWaker(Arc::downgrade(&shared))));
        let gate = Box::new(TimedGate(gate));
        shared.state.lock().machine.set_gate(Gated { gate, waker });
        shared
    }

    pub(super) fn new(options: &KeyedOptions) -> KeyedShared<T> {
        let machine = Keyed::new(options.per_key);
        KeyedShared {
            line_length: machine.line_length(),
            capacity: Capacity::new(options.bound, options.full),
            state: Mutex::new(State {
                machine,
                outputs: Vec::new(),
                next_id: 0,
                phase: Phase::Open,
                is_orphan: false,
            }),
            idle: Notify::new(),
            metrics: ProducerMetrics::new(options.name),
            times: TurnTimes::new(options.name),
        }
    }

    pub(super) fn attach(
        self: &Arc<Self>,
        waker: &Arc<AtomicWaker>,
        options: SubscribeOptions,
    ) -> Result<Link<Turn<T>>, SubscribeError> {
        let account = options.account()?;
        let pair = Pair::new(waker);
        let (id, events) = self.with(|state| {
            if state.phase == Phase::Ended {
                return Err(SubscribeError::ProducerEnded);
            }
            let id = SubscriberId(state.next_id);
            state.next_id += 1;
            let (output, events) = channel(id, &pair, options.max_demand);
            state.outputs.push(Arc::new(output));
            state.machine.subscribe(id, account);
            Ok((id, events))
        })?;
        let upstream = Arc::new(Arc::clone(self)) as Arc<dyn Upstream>;
        let demand =
            Arc::new(DemandSender { id, upstream, account: None, stride: options.stride() });
        Ok(Link { demand, events, pair, cancel: options.cancel, selector: None })
    }

    /// Changes the state under the lock, then sends the granted events outside the lock.
    ///
    /// Two threads may send to one subscriber in any order. The order within a key is safe, because
    /// only one event of a key is in flight.
    pub(super) fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut State<T>) -> R) -> R {
        self.with_at(Instant::now(), change)
    }

    /// Does what [`with`](KeyedShared::with) does, for a caller that has read the clock.
    pub(super) fn with_at<R>(
        self: &Arc<Self>,
        now: Instant,
        change: impl FnOnce(&mut State<T>) -> R,
    ) -> R {
        let (result, after) = guard::or_abort(|| {
            let mut state = self.state.lock();
            let result = change(&mut state);
            (result, state.after(now))
        });
        self.finish(after);
        result
    }

    fn finish(self: &Arc<Self>, after: After<T>) {
        if after.is_idle {
            self.idle.notify_waiters();
        }
        drop(after.ended);
        let mut next = after.outgoing;
        while let Some(Outgoing { output, grant, waited, more }) = next {
            let turn = Turn::new(grant.event.event, waited, Arc::clone(self), grant.held);
            self.metrics.granted(1);
            self.times.queued.record(waited);
            if let Some(output) = output {
                // The consumer has left and its demand was not removed yet: the turn ends here.
                match output.send(Batch::One(turn)) {
                    Ok(()) => output.pair.0.waker.wake(),
                    Err(turn) => drop(turn),
                }
            }
            next = if more { self.state.lock().next(Instant::now()) } else { None };
        }
    }

    pub(super) fn push(self: &Arc<Self>, event: T, exempt: bool) -> Result<Pushed, Rejected<T>> {
        let (class, key, since) = (event.class(), event.key().clone(), Instant::now());
        let event = Timed { event: Box::new(event), since };
        let (pushed, after) = guard::or_abort(|| {
            let mut state = self.state.lock();
            let pushed = state.push(&key, event, class, exempt);
            let after = state.after(since);
            let waits_for = |id| if after.grants(id) { None } else { state.waits_for(&key, id) };
            (pushed.map(|id| Pushed { id, waits_for: waits_for(id) }), after)
        });
        self.finish(after);
        pushed.map_err(|(Timed { event, .. }, reason)| Rejected { event: *event, reason })
    }

    /// Closes the producer and ends all pauses. Returns what is queued for paused keys.
    pub(super) fn close(self: &Arc<Self>, is_orphan: bool) -> Vec<T> {
        self.capacity.close();
        let ended = self.with(|state| {
            state.phase = state.phase.max(Phase::Closed);
            state.is_orphan |= is_orphan;
            state.machine.end_pauses()
        });
        ended.into_iter().map(|timed| *timed.event).collect()
    }

    /// Notes that a turn has ended or was parked.
    pub(super) fn turn_over(&self, asked: usize, since: Option<Instant>, now: Instant) {
        self.metrics.asked(asked);
        if let Some(since) = since {
            self.times.turns.record(now.saturating_duration_since(since));
        }
    }

    pub(super) fn end(self: &Arc<Self>) {
        self.capacity.close();
        let dropped = self.with(|state| {
            state.phase = Phase::Ended;
            (state.machine.clear(), std::mem::take(&mut state.outputs))
        });
        drop(dropped);
    }

    pub(super) async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            // Registered before the check, so that no notification is missed.
            idle.as_mut().enable();
            if self.state.lock().machine.is_idle() {
                return;
            }
            idle.await;
        }
    }
}

/// The machine keeps the account: a [`Hold`](crate::Hold) gives its demand back when it is dropped.
impl<T: KeyedEvent> Upstream for Arc<KeyedShared<T>> {
    fn open(&self, id: SubscriberId) {
        self.metrics.asked(self.with(|state| state.machine.open(id)));
    }

    fn ask(&self, id: SubscriberId, events: usize) -> usize {
        let asked = self.with(|state| state.machine.ask(id, events));
        self.metrics.asked(asked);
        asked
    }

    fn cancel(&self, id: SubscriberId) {
        let output = self.with(|state| {
            state.machine.cancel(id);
            let at = state.outputs.iter().position(|output| output.id == id);
            at.map(|at| state.outputs.swap_remove(at))
        });
        drop(output);
    }

    fn detached(&self, _: SubscriberId) {}
}
