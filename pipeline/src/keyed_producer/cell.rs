//! Cell: the machine behind its lock, and the way of a grant out of it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::buffer::{Refused, Rejected, Room};
use crate::dispatcher::SubscriberId;
use crate::dispatcher::keyed::{Keyed, KeyedGrant};
use crate::guard;
use crate::keyed_producer::{KeyedEvent, KeyedOptions, Turn};
use crate::metrics::ProducerMetrics;
use crate::subscription::{
    Batch, Bell, Claim, Link, Output, Pair, SubscribeError, SubscribeOptions, Upstream, channel,
};
use crate::sync::Mutex;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    Closed,
    Ended,
}

pub(super) struct Cell<T: KeyedEvent> {
    pub(super) room: Arc<Room>,
    pub(super) state: Mutex<State<T>>,
    /// Notified when nothing is queued or in flight any more.
    idle: Notify,
    pub(super) metrics: ProducerMetrics,
}

pub(super) struct State<T: KeyedEvent> {
    pub(super) machine: Keyed<T::Key, T>,
    outputs: Vec<Arc<Output<Turn<T>>>>,
    next_id: u64,
    pub(super) phase: Phase,
    /// No handle is left: ends by itself when it is idle.
    is_orphan: bool,
}

/// A grant on its way out of the lock.
struct Outgoing<T: KeyedEvent> {
    /// The subscriber; its channel closes when the last of these is gone.
    output: Option<Arc<Output<Turn<T>>>>,
    grant: KeyedGrant<T>,
    /// Whether the machine has more to give.
    more: bool,
}

/// What a change leaves to do outside the lock.
struct After<T: KeyedEvent> {
    outgoing: Option<Outgoing<T>>,
    /// Subscriptions that have ended.
    ended: Vec<Arc<Output<Turn<T>>>>,
    is_idle: bool,
}

impl<T: KeyedEvent> State<T> {
    fn next(&mut self) -> Option<Outgoing<T>> {
        let grant = self.machine.grant()?;
        let output = self.outputs.iter().find(|output| output.id == grant.to).map(Arc::clone);
        Some(Outgoing { output, grant, more: self.machine.has_grant() })
    }

    fn after(&mut self) -> After<T> {
        let outgoing = self.next();
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

impl<T: KeyedEvent> Cell<T> {
    pub(super) fn new(options: &KeyedOptions) -> Cell<T> {
        Cell {
            room: Room::new(options.bound, options.full),
            state: Mutex::new(State {
                machine: Keyed::new(options.per_key),
                outputs: Vec::new(),
                next_id: 0,
                phase: Phase::Open,
                is_orphan: false,
            }),
            idle: Notify::new(),
            metrics: ProducerMetrics::new(options.name),
        }
    }

    pub(super) fn attach(
        self: &Arc<Self>,
        bell: &Arc<Bell>,
        options: SubscribeOptions,
    ) -> Result<Link<Turn<T>>, SubscribeError> {
        let account = options.account()?;
        let pair = Pair::new(bell);
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
        let claim = Arc::new(Claim { id, upstream, account: None, stride: options.stride() });
        Ok(Link { claim, events, pair, cancel: options.cancel, selector: None })
    }

    /// Changes the state under the lock, then sends what became granted outside of it.
    ///
    /// Two threads may send to one subscriber in either order: only one event of a key is ever out,
    /// so the order within a key cannot suffer.
    pub(super) fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut State<T>) -> R) -> R {
        let (result, after) = guard::or_abort(|| {
            let mut state = self.state.lock();
            let result = change(&mut state);
            (result, state.after())
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
        while let Some(Outgoing { output, grant, more }) = next {
            let turn = Turn::new(grant.event, Arc::clone(self), grant.held);
            self.metrics.granted(1);
            if let Some(output) = output {
                // A consumer that has gone left its demand behind: its turns end here.
                match output.send(Batch::One(turn)) {
                    Ok(()) => output.pair.0.bell.ring(),
                    Err(turn) => drop(turn),
                }
            }
            next = if more { self.state.lock().next() } else { None };
        }
    }

    pub(super) fn push(self: &Arc<Self>, event: T, exempt: bool) -> Result<(), Rejected<T>> {
        let lane = event.lane();
        self.with(|state| {
            let last = if exempt { Phase::Closed } else { Phase::Open };
            if state.phase > last {
                return Err(Rejected { event, reason: Refused::Closed });
            }
            let key = event.key().clone();
            let pushed = state.machine.push(&key, event, lane, exempt);
            pushed.map_err(|event| Rejected { event, reason: Refused::KeyFull })
        })
    }

    pub(super) fn close(self: &Arc<Self>, is_orphan: bool) {
        self.room.close();
        self.with(|state| {
            state.phase = state.phase.max(Phase::Closed);
            state.is_orphan |= is_orphan;
        });
    }

    pub(super) fn end(self: &Arc<Self>) {
        self.room.close();
        let dropped = self.with(|state| {
            state.phase = Phase::Ended;
            (state.machine.clear(), std::mem::take(&mut state.outputs))
        });
        drop(dropped);
    }

    pub(super) async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            // Registered before the look, so that what happens in between is not missed.
            idle.as_mut().enable();
            if self.state.lock().machine.is_idle() {
                return;
            }
            idle.await;
        }
    }
}

/// The account is the machine's: a [`Hold`] gives its demand back by itself, wherever it is dropped.
impl<T: KeyedEvent> Upstream for Arc<Cell<T>> {
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
