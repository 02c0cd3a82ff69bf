//! Keyed producer: a mailbox per key, one event of a key in flight at a time.
//!
//! It has no task: whoever pushes an event, asks for one or lets go of a key runs the
//! machine (`dispatcher::keyed`) for a moment under one lock and then, outside the lock, hands
//! what was granted to the subscribers.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::buffer::{Bound, Full, Permit, Refused, Rejected, Room};
use crate::dispatcher::keyed::{Held, Keyed, KeyedGrant, ParkedKey};
use crate::dispatcher::{SubscriberId, sealed};
use crate::drain::Door;
use crate::metrics::ProducerMetrics;
use crate::subscription::{
    Attach, Batch, Claim, Link, Output, Pair, Subscribe, SubscribeError, SubscribeOptions,
    Upstream, channel,
};
use crate::sync::Mutex;

/// An event that belongs to a key.
///
/// The methods, and the key's `Clone`, `Eq` and `Hash`, are called with the producer's lock held:
/// they look at the event and nothing else.
pub trait KeyedEvent: Send + 'static {
    /// Names a mailbox. Cheap to clone.
    type Key: Clone + Eq + Hash + Send + 'static;

    /// Whose mailbox it goes to.
    fn key(&self) -> &Self::Key;

    /// Class with its own limit of events in flight ([`KeyedProducer::set_lane_limit`]). A lane
    /// without a limit, by default lane 0 and every other, is bounded by demand alone.
    fn lane(&self) -> u32;

    /// Whether nobody waits for it any more: [`KeyedProducer::sweep`] may drop it while it is queued.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// How a keyed producer is made.
#[derive(Debug, Clone, Copy)]
pub struct KeyedOptions {
    /// Its name in metrics.
    pub name: &'static str,
    /// How much it admits at once, over all keys.
    pub bound: Bound,
    /// Most events queued per key.
    pub per_key: usize,
    /// What a full buffer does.
    pub full: Full,
}

/// Producer with a mailbox per key; see the [module](self). Cheap to clone; closes when the last
/// handle is dropped.
pub struct KeyedProducer<T: KeyedEvent> {
    cell: Arc<Cell<T>>,
    /// Closes the doors with the last handle.
    owner: Arc<Owner<T>>,
}

/// One event, with its key held.
pub struct Turn<T: KeyedEvent> {
    event: T,
    hold: Hold<T>,
}

/// A key that is held. Dropping it releases the key, its lane's permit and the demand of one event.
pub struct Hold<T: KeyedEvent> {
    cell: Arc<Cell<T>>,
    /// `None` once given away.
    held: Option<Held>,
}

/// A key that is held without demand and without a permit of its lane. Dropping it releases the key.
pub struct Parked<T: KeyedEvent> {
    cell: Arc<Cell<T>>,
    /// `None` once given away.
    parked: Option<ParkedKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Closed,
    Ended,
}

struct Cell<T: KeyedEvent> {
    room: Arc<Room>,
    state: Mutex<State<T>>,
    /// Notified when nothing is queued or in flight any more.
    idle: Notify,
    metrics: ProducerMetrics,
}

struct State<T: KeyedEvent> {
    machine: Keyed<T::Key, T>,
    outputs: Vec<Arc<Output<Turn<T>>>>,
    next_id: u64,
    phase: Phase,
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

struct Owner<T: KeyedEvent>(Arc<Cell<T>>);

impl<T: KeyedEvent> Drop for Owner<T> {
    fn drop(&mut self) {
        self.0.close(true);
    }
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
    /// Changes the state under the lock, then sends what became granted outside of it.
    ///
    /// Two threads may send to one subscriber in either order: only one event of a key is ever out,
    /// so the order within a key cannot suffer.
    fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut State<T>) -> R) -> R {
        let (result, after) = {
            let mut state = self.state.lock();
            let result = change(&mut state);
            (result, state.after())
        };
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
            let hold = Hold { cell: Arc::clone(self), held: Some(grant.held) };
            let turn = Turn { event: grant.event, hold };
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

    fn push(self: &Arc<Self>, event: T, exempt: bool) -> Result<(), Rejected<T>> {
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

    fn close(self: &Arc<Self>, is_orphan: bool) {
        self.room.close();
        self.with(|state| {
            state.phase = state.phase.max(Phase::Closed);
            state.is_orphan |= is_orphan;
        });
    }

    fn end(self: &Arc<Self>) {
        self.room.close();
        let dropped = self.with(|state| {
            state.phase = Phase::Ended;
            (state.machine.clear(), std::mem::take(&mut state.outputs))
        });
        drop(dropped);
    }

    async fn idle(&self) {
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

impl<T: KeyedEvent> KeyedProducer<T> {
    /// Makes a producer without subscribers; events wait for the first one.
    pub fn new(options: KeyedOptions) -> KeyedProducer<T> {
        let cell = Arc::new(Cell {
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
        });
        KeyedProducer { owner: Arc::new(Owner(Arc::clone(&cell))), cell }
    }

    /// Takes a place in the buffer if there is one now.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Closed`] or [`Refused::TooLarge`].
    pub fn try_reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        self.noted(self.cell.room.try_reserve(bytes))
    }

    /// Takes a place in the buffer, waiting or shedding as [`Full`] says; first come, first served.
    /// Cancel safe: a dropped future leaves the line.
    ///
    /// # Errors
    /// As [`try_reserve`](KeyedProducer::try_reserve).
    pub async fn reserve(&self, bytes: usize) -> Result<Permit, Refused> {
        let outcome = self.cell.room.reserve(bytes, &self.cell.metrics).await;
        self.noted(outcome)
    }

    /// Queues an event behind those of its key. Never waits. The permit travels inside the event.
    ///
    /// # Errors
    /// Hands the event back with [`Refused::KeyFull`] or [`Refused::Closed`].
    pub fn push(&self, event: T) -> Result<(), Rejected<T>> {
        self.cell.push(event, false).inspect_err(|error| self.cell.metrics.refused(error.reason))
    }

    /// Queues an event that was admitted before (a routed call): without the bound of its key, and
    /// also while the doors are closed.
    ///
    /// # Errors
    /// Hands the event back with [`Refused::Closed`] after [`end`](KeyedProducer::end).
    pub fn push_exempt(&self, event: T) -> Result<(), Rejected<T>> {
        self.cell.push(event, true).inspect_err(|error| self.cell.metrics.refused(error.reason))
    }

    /// Drops the [abandoned](KeyedEvent::is_abandoned) events of a key that are still queued;
    /// returns how many.
    pub fn sweep(&self, key: &T::Key) -> usize {
        self.cell.with(|state| state.machine.sweep(key, T::is_abandoned)).len()
    }

    /// Bounds how many events of a lane are in flight at once. `usize::MAX`, the default, is no
    /// limit and forgets the lane when it is quiet.
    pub fn set_lane_limit(&self, lane: u32, in_flight: usize) {
        self.cell.with(|state| state.machine.set_lane_limit(lane, in_flight));
    }

    /// Events that wait for their turn.
    pub fn queued(&self) -> usize {
        self.cell.state.lock().machine.queued()
    }

    /// Events that are out and hold demand; parked keys are not counted.
    pub fn in_flight(&self) -> usize {
        self.cell.state.lock().machine.in_flight()
    }

    /// Places taken in the buffer, wherever the events that hold them are.
    pub fn admitted(&self) -> usize {
        self.cell.room.used()
    }

    /// Closes the doors: [`reserve`](KeyedProducer::reserve) and [`push`](KeyedProducer::push) are
    /// refused, what is queued and what is pushed exempt goes on.
    pub fn close(&self) {
        self.cell.close(false);
    }

    /// Whether nothing is queued, in flight or parked.
    pub fn is_idle(&self) -> bool {
        self.cell.state.lock().machine.is_idle()
    }

    /// Waits until nothing is queued, in flight or parked. Cancel safe.
    pub async fn idle(&self) {
        self.cell.idle().await;
    }

    /// Drops what is queued, refuses everything and ends the subscriptions. What is in flight ends
    /// by itself.
    pub fn end(&self) {
        self.cell.end();
    }

    fn noted<R>(&self, outcome: Result<R, Refused>) -> Result<R, Refused> {
        outcome.inspect_err(|reason| self.cell.metrics.refused(*reason))
    }
}

impl<T: KeyedEvent> Clone for KeyedProducer<T> {
    fn clone(&self) -> KeyedProducer<T> {
        KeyedProducer { cell: Arc::clone(&self.cell), owner: Arc::clone(&self.owner) }
    }
}

impl<T: KeyedEvent> sealed::Sealed for KeyedProducer<T> {}

impl<T: KeyedEvent> Subscribe<Turn<T>> for KeyedProducer<T> {
    fn attach(
        &self,
        request: Attach,
        options: SubscribeOptions,
        _: Option<u32>,
    ) -> Result<Link<Turn<T>>, SubscribeError> {
        let account = options.account()?;
        let pair = Pair::new(&request.bell);
        let (id, events) = self.cell.with(|state| {
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
        let upstream = Arc::new(Arc::clone(&self.cell)) as Arc<dyn Upstream>;
        let claim = Arc::new(Claim { id, upstream, account: None, stride: options.stride() });
        Ok(Link { claim, events, pair, cancel: options.cancel, selector: None })
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

impl<T: KeyedEvent> Door for KeyedProducer<T> {
    fn close(&self) {
        self.cell.close(false);
    }

    fn finished(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.cell.idle())
    }

    fn end(&self) {
        self.cell.end();
    }
}

impl<T: KeyedEvent> Turn<T> {
    /// The event.
    pub fn event(&self) -> &T {
        &self.event
    }

    /// Takes the event and its key apart.
    pub fn into_parts(self) -> (T, Hold<T>) {
        (self.event, self.hold)
    }
}

impl<T: KeyedEvent> Hold<T> {
    /// Gives the demand and the lane's permit back and keeps the key: for an event that will be tried
    /// again, so that it neither loses its place nor occupies a worker.
    pub fn park(mut self) -> Parked<T> {
        let cell = Arc::clone(&self.cell);
        let parked = self.held.take().map(|held| {
            let (parked, asked) = cell.with(|state| state.machine.park(held));
            cell.metrics.asked(asked);
            parked
        });
        Parked { cell, parked }
    }
}

impl<T: KeyedEvent> Drop for Hold<T> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let asked = self.cell.with(|state| state.machine.release(held));
            self.cell.metrics.asked(asked);
        }
    }
}

impl<T: KeyedEvent> Parked<T> {
    /// Makes this the next event of its key, granted again when there is demand and a permit. After
    /// [`KeyedProducer::end`] it is dropped.
    pub fn resume(mut self, event: T) {
        let Some(parked) = self.parked.take() else { return };
        let lane = event.lane();
        let refused = self.cell.with(|state| {
            if state.phase == Phase::Ended {
                state.machine.release_parked(parked);
                return Some(event);
            }
            state.machine.resume(parked, event, lane);
            None
        });
        drop(refused);
    }
}

impl<T: KeyedEvent> Drop for Parked<T> {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.cell.with(|state| state.machine.release_parked(parked));
        }
    }
}

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl<T: KeyedEvent> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
opaque!(KeyedProducer, Turn, Hold, Parked);
