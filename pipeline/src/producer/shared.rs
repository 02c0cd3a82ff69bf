//! Shared: a producer's state behind its lock.
//!
//! Events are sent with the lock held, which keeps their order per subscriber. Sending never waits,
//! because a channel holds as many events as were asked for. Consumers are woken, places freed and
//! events dropped after the lock is released.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use metrics::Histogram;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::buffer::{Capacity, Permit};
use crate::dispatcher::partition::Router;
use crate::dispatcher::{Dispatcher, Entry, Places};
use crate::guard;
use crate::metrics::{ProducerMetrics, queue_duration};
use crate::producer::ProducerOptions;
use crate::subscription::{Batch, Output, Pair};
use crate::sync::Mutex;

mod attach;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No event is admitted. The subscriptions end when no event waits any more.
    Finishing,
    Ended,
}

/// What the clones of a producer and its subscriptions share.
pub(crate) struct ProducerShared<T, D> {
    pub(crate) capacity: Arc<Capacity>,
    router: Option<Router<T>>,
    state: Mutex<State<T, D>>,
    /// Wakes the task that feeds this producer when demand grows or the phase changes.
    feeder: AtomicWaker,
    /// Notified when the producer or a subscription ends.
    changed: Notify,
    pub(crate) metrics: ProducerMetrics,
    /// How long events wait until they are granted.
    queued: Histogram,
}

struct State<T, D> {
    dispatcher: D,
    outputs: Vec<Output<T>>,
    /// How many subscriptions consumers still hold.
    attached: usize,
    next_id: u64,
    phase: Phase,
}

/// What remains to be done after the lock is released.
struct After<T> {
    /// The pairs whose consumers to wake. The first is apart, which saves an allocation.
    wake: Option<Arc<Pair>>,
    wake_too: Vec<Arc<Pair>>,
    /// Events granted to a consumer that has left.
    dropped: Vec<Batch<T>>,
    /// Subscriptions that have ended.
    ended: Vec<Output<T>>,
    places: Places,
    granted: usize,
    feed: bool,
}

impl<T: Send + 'static, D: Dispatcher<T>> State<T, D> {
    /// Sends all events that can be granted.
    fn dispatch(&mut self, queued: &Histogram) -> After<T> {
        let mut after = After {
            wake: None,
            wake_too: Vec::new(),
            dropped: Vec::new(),
            ended: Vec::new(),
            places: Places::default(),
            granted: 0,
            feed: false,
        };
        let mut now = None;
        let mut granted = |since| {
            let now = *now.get_or_insert_with(Instant::now);
            queued.record(now.saturating_duration_since(since));
        };
        while let Some(grant) = self.dispatcher.grant(&mut granted) {
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
            if after.wake.is_none() {
                after.wake = Some(pair);
            } else {
                after.wake_too.push(pair);
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

impl<T: Send + 'static, D: Dispatcher<T>> ProducerShared<T, D> {
    pub(crate) fn new(options: ProducerOptions, dispatcher: D) -> ProducerShared<T, D> {
        ProducerShared {
            capacity: Capacity::new(options.bound, options.full),
            router: dispatcher.router(),
            state: Mutex::new(State {
                dispatcher,
                outputs: Vec::new(),
                attached: 0,
                next_id: 0,
                phase: Phase::Open,
            }),
            feeder: AtomicWaker::new(),
            changed: Notify::new(),
            metrics: ProducerMetrics::new(options.name),
            queued: queue_duration(options.name),
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut State<T, D>) -> R) -> R {
        let (result, after) = guard::or_abort(|| {
            let mut state = self.state.lock();
            let result = change(&mut state);
            (result, state.dispatch(&self.queued))
        });
        self.finish(after);
        result
    }

    fn finish(&self, after: After<T>) {
        after.wake.iter().chain(&after.wake_too).for_each(|pair| pair.waker.wake());
        self.capacity.give_back(after.places.events, after.places.bytes);
        self.metrics.granted(after.granted);
        if after.feed {
            self.feeder.wake();
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

    pub(crate) fn cast(&self, event: T, permit: Option<Permit>) -> Result<(), T> {
        let partition = self.partition(&event);
        let unused = self.with(|state| {
            if state.phase != Phase::Open {
                return Err((event, permit));
            }
            let place = permit.map(Permit::into_bytes);
            state.dispatcher.push(Entry { event, partition, place, since: Instant::now() });
            Ok(())
        });
        unused.map_err(|(event, permit)| {
            drop(permit);
            event
        })
    }

    /// Takes the events that the feeding task made. Their number is bounded by what that task was asked
    /// for. Returns them when the producer has ended.
    pub(crate) fn feed(&self, events: Vec<T>) -> Result<(), Vec<T>> {
        // A router is user code, so it runs before the lock is taken.
        let partitions: Option<Vec<u32>> =
            self.router.as_ref().map(|router| events.iter().map(|event| router(event)).collect());
        self.with(|state| {
            if state.phase == Phase::Ended {
                return Err(events);
            }
            let mut partitions = partitions.into_iter().flatten();
            let since = Instant::now();
            for event in events {
                let partition = partitions.next().unwrap_or(0);
                state.dispatcher.push(Entry { event, partition, place: None, since });
            }
            Ok(())
        })
    }

    /// Waits until subscribers ask for events that are not there. Returns how many: the feeding task
    /// makes that many. Returns `None` when the producer is closed.
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
        if let Poll::Ready(wanted) = look() {
            return Poll::Ready(wanted);
        }
        self.feeder.register(cx.waker());
        look()
    }

    /// Waits until the producer is closed.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        self.feeder.register(cx.waker());
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
        self.capacity.close();
        self.with(|state| {
            if state.phase == Phase::Open {
                state.phase = Phase::Finishing;
            }
        });
        self.changed.notify_waiters();
    }

    /// Closes. Subscribers learn at the end that the producer failed.
    pub(crate) fn close_failed(&self) {
        self.with(|state| state.outputs.iter().for_each(|output| output.pair.0.fail()));
        self.close();
    }

    /// Ends at once. With `failed`, subscribers learn that the producer failed.
    pub(crate) fn end(&self, failed: bool) {
        self.capacity.close();
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
        self.capacity.give_back(places.events, places.bytes);
        drop(left);
        self.changed.notify_waiters();
    }

    pub(crate) async fn finished(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the check, so that no notification is missed.
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
}
