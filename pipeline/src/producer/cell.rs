//! Cell: a producer's state behind its lock.
//!
//! Events are sent with the lock held, which keeps their order per subscriber; sending never waits,
//! because a channel holds as much as was asked for. Bells are rung, places given back and events
//! dropped after the lock is released.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Notify;

use crate::buffer::{Permit, Room};
use crate::dispatcher::partition::Router;
use crate::dispatcher::{Dispatcher, Entry, Places, SubscriberId};
use crate::guard;
use crate::metrics::ProducerMetrics;
use crate::producer::ProducerOptions;
use crate::subscription::{
    Batch, Bell, Claim, Link, Output, Pair, SubscribeError, SubscribeOptions, Upstream, channel,
};
use crate::sync::Mutex;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing new comes; subscriptions end when nothing waits any more.
    Finishing,
    Ended,
}

pub(crate) struct Cell<T, D> {
    pub(crate) room: Arc<Room>,
    router: Option<Router<T>>,
    state: Mutex<State<T, D>>,
    /// Rung when demand grows or the phase changes; heard by the task that feeds this producer.
    feeder: Bell,
    /// Notified when the producer or a subscription ends.
    changed: Notify,
    pub(crate) metrics: ProducerMetrics,
}

struct State<T, D> {
    dispatcher: D,
    outputs: Vec<Output<T>>,
    /// Subscriptions whose consumers have not let go.
    attached: usize,
    next_id: u64,
    phase: Phase,
}

/// What is left to do when the lock has been released.
struct After<T> {
    /// Who was sent something: the first without an allocation.
    rung: Option<Arc<Pair>>,
    rung_too: Vec<Arc<Pair>>,
    /// What a consumer that has gone was granted.
    dropped: Vec<Batch<T>>,
    /// Subscriptions that have ended.
    ended: Vec<Output<T>>,
    places: Places,
    granted: usize,
    feed: bool,
}

impl<T: Send + 'static, D: Dispatcher<T>> State<T, D> {
    /// Hands out what can be handed out.
    fn settle(&mut self) -> After<T> {
        let mut after = After {
            rung: None,
            rung_too: Vec::new(),
            dropped: Vec::new(),
            ended: Vec::new(),
            places: Places::default(),
            granted: 0,
            feed: false,
        };
        while let Some(grant) = self.dispatcher.grant() {
            after.granted += grant.events.len();
            after.places.events += grant.places.events;
            after.places.bytes += grant.places.bytes;
            let Some(output) = self.outputs.iter().find(|output| output.id == grant.to) else {
                after.dropped.push(grant.events);
                continue;
            };
            if let Err(events) = output.send(grant.events) {
                after.dropped.push(events);
                continue;
            }
            let pair = Arc::clone(&output.pair.0);
            if after.rung.is_none() {
                after.rung = Some(pair);
            } else {
                after.rung_too.push(pair);
            }
        }
        if self.phase == Phase::Finishing && self.dispatcher.queued() == 0 {
            self.phase = Phase::Ended;
        }
        if self.phase == Phase::Ended {
            after.ended = std::mem::take(&mut self.outputs);
        }
        after.feed = self.phase != Phase::Open || self.dispatcher.wanted() > 0;
        after
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Cell<T, D> {
    pub(crate) fn new(options: ProducerOptions, dispatcher: D) -> Cell<T, D> {
        Cell {
            room: Room::new(options.bound, options.full),
            router: dispatcher.router(),
            state: Mutex::new(State {
                dispatcher,
                outputs: Vec::new(),
                attached: 0,
                next_id: 0,
                phase: Phase::Open,
            }),
            feeder: Bell::default(),
            changed: Notify::new(),
            metrics: ProducerMetrics::new(options.name),
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut State<T, D>) -> R) -> R {
        let (result, after) = guard::or_abort(|| {
            let mut state = self.state.lock();
            let result = change(&mut state);
            (result, state.settle())
        });
        self.finish(after);
        result
    }

    fn finish(&self, after: After<T>) {
        after.rung.iter().chain(&after.rung_too).for_each(|pair| pair.bell.ring());
        self.room.give_back(after.places.events, after.places.bytes);
        self.metrics.granted(after.granted);
        if after.feed {
            self.feeder.ring();
        }
        if !after.ended.is_empty() {
            drop(after.ended);
            self.changed.notify_waiters();
        }
        drop(after.dropped);
    }

    fn partition(&self, event: &T) -> u32 {
        self.router.as_ref().map_or(0, |router| router(event))
    }

    pub(crate) fn cast(&self, event: T, permit: Permit) -> Result<(), T> {
        let partition = self.partition(&event);
        let unused = self.with(|state| {
            if state.phase != Phase::Open {
                return Err((event, permit));
            }
            let place = Some(permit.into_bytes());
            state.dispatcher.push(Entry { event, partition, place });
            Ok(())
        });
        unused.map_err(|(event, permit)| {
            drop(permit);
            event
        })
    }

    /// Takes what the feeding task made; it is bounded by what was asked of that task. Hands it back
    /// when the producer has ended.
    pub(crate) fn feed(&self, events: Vec<T>) -> Result<(), Vec<T>> {
        // The partitions are asked before the lock is taken: a router is user code.
        let partitions: Option<Vec<u32>> =
            self.router.as_ref().map(|router| events.iter().map(|event| router(event)).collect());
        self.with(|state| {
            if state.phase == Phase::Ended {
                return Err(events);
            }
            let mut partitions = partitions.into_iter().flatten();
            for event in events {
                let partition = partitions.next().unwrap_or(0);
                state.dispatcher.push(Entry { event, partition, place: None });
            }
            Ok(())
        })
    }

    /// How many events subscribers wait for: the feeding task makes that many. `None` when the
    /// producer is closed.
    pub(crate) fn poll_wanted(&self, cx: &Context<'_>) -> Poll<Option<usize>> {
        let look = || {
            let state = self.state.lock();
            if state.phase != Phase::Open {
                return Poll::Ready(None);
            }
            match state.dispatcher.wanted() {
                0 => Poll::Pending,
                wanted => Poll::Ready(Some(wanted)),
            }
        };
        if let Poll::Ready(answer) = look() {
            return Poll::Ready(answer);
        }
        self.feeder.listen(cx);
        look()
    }

    /// Ready when the producer is closed.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.feeder.listen(cx);
        if self.state.lock().phase == Phase::Open { Poll::Pending } else { Poll::Ready(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().phase != Phase::Open
    }

    pub(crate) fn queued(&self) -> usize {
        self.state.lock().dispatcher.queued()
    }

    pub(crate) fn wanted(&self) -> usize {
        self.state.lock().dispatcher.wanted()
    }

    pub(crate) fn close(&self) {
        self.room.close();
        self.with(|state| {
            if state.phase == Phase::Open {
                state.phase = Phase::Finishing;
            }
        });
        self.changed.notify_waiters();
    }

    /// Closes, and tells subscribers when they come to the end that it was not in good order.
    pub(crate) fn close_failed(&self) {
        self.with(|state| state.outputs.iter().for_each(|output| output.pair.0.fail()));
        self.close();
    }

    /// Ends at once; `failed` tells subscribers that it was not in good order.
    pub(crate) fn end(&self, failed: bool) {
        self.room.close();
        let left = self.with(|state| {
            if failed {
                state.outputs.iter().for_each(|output| output.pair.0.fail());
            }
            state.phase = Phase::Ended;
            state.dispatcher.clear()
        });
        let mut places = Places::default();
        for entry in &left {
            places.add(entry.place);
        }
        self.room.give_back(places.events, places.bytes);
        drop(left);
        self.changed.notify_waiters();
    }

    pub(crate) async fn finished(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look, so that what happens in between is not missed.
            changed.as_mut().enable();
            let is_over = {
                let state = self.state.lock();
                state.phase == Phase::Ended && state.attached == 0
            };
            if is_over {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn attach(
        self: &Arc<Self>,
        bell: &Arc<Bell>,
        options: SubscribeOptions,
        partition: Option<u32>,
    ) -> Result<Link<T>, SubscribeError> {
        let account = options.account()?;
        let pair = Pair::new(bell);
        let (id, events) = self.with(|state| {
            if state.phase == Phase::Ended {
                return Err(SubscribeError::ProducerEnded);
            }
            let id = SubscriberId(state.next_id);
            state.dispatcher.subscribe(id, partition)?;
            state.next_id += 1;
            state.attached += 1;
            let (output, events) = channel(id, &pair, options.max_demand);
            state.outputs.push(output);
            Ok((id, events))
        })?;
        let upstream = Arc::clone(self) as Arc<dyn Upstream>;
        let account = Some(Mutex::new(account));
        let claim = Arc::new(Claim { id, upstream, account, stride: options.stride() });
        Ok(Link { claim, events, pair, cancel: options.cancel, selector: None })
    }
}

impl<T: Send + 'static, D: Dispatcher<T>> Upstream for Cell<T, D> {
    /// The account is the consumer's.
    fn open(&self, _: SubscriberId) {}

    fn ask(&self, id: SubscriberId, events: usize) -> usize {
        self.metrics.asked(events);
        self.with(|state| state.dispatcher.ask(id, events));
        events
    }

    fn cancel(&self, id: SubscriberId) {
        let output = self.with(|state| {
            state.dispatcher.cancel(id);
            let at = state.outputs.iter().position(|output| output.id == id);
            at.map(|at| state.outputs.remove(at))
        });
        drop(output);
    }

    fn detached(&self, _: SubscriberId) {
        self.state.lock().attached -= 1;
        self.changed.notify_waiters();
    }
}
