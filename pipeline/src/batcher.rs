//! Batcher: a consumer whose service takes many events at once.
//!
//! A batch is sent to the service when it is full in events or in bytes, or when `linger` is over.
//! Without a linger it is sent as soon as no more events are there. The next batch fills while up to
//! `in_flight` batches are with the service.

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use crate::guard;
use crate::inbox::{Ended, Inbox, Received};
use crate::outcomes::Outcomes;
use crate::subscription::{Batch, DemandSender};
use crate::tally::Tally;

/// How a batching consumer is made.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// How many events a batch may hold; at least 1. The maximum demand of a subscription should be at
    /// least as large.
    pub max_events: usize,
    /// How many bytes a batch may hold. A larger event gets a batch of its own.
    pub max_bytes: usize,
    /// How long a batch waits to become full. Zero sends the events that are there.
    pub linger: Duration,
    /// How many batches may be with the service at once; at least 1.
    pub in_flight: usize,
}

impl BatchOptions {
    /// Batches of up to `max_events` events, without a bound in bytes, without a linger, one at a time.
    pub fn new(name: &'static str, max_events: usize) -> BatchOptions {
        let linger = Duration::ZERO;
        BatchOptions { name, max_events, max_bytes: usize::MAX, linger, in_flight: 1 }
    }
}

/// A batch that is not sent yet.
struct Filling<E> {
    events: Vec<E>,
    bytes: usize,
    /// One tally per subscription, to give demand back when the events are done.
    tallies: Vec<Tally>,
    /// When it is sent, even if it is not full.
    until: Option<Instant>,
}

/// Received events that are not in a batch yet.
struct Rest<E> {
    demand: Arc<DemandSender>,
    /// The next event and its bytes.
    next: Option<(E, usize)>,
    events: <Batch<E> as IntoIterator>::IntoIter,
}

/// Runs as the task of a batching consumer.
pub(crate) async fn run<E, S>(
    options: BatchOptions,
    weigh: fn(&E) -> usize,
    mut service: S,
    mut inbox: Inbox<E>,
) where
    E: Send + 'static,
    S: Service<Vec<E>, Response = ()>,
    S::Error: Display,
    S::Future: Send + 'static,
{
    let outcomes = Outcomes::new(options.name);
    let mut batcher = Batcher::new(options, weigh);
    let mut working = FuturesUnordered::new();
    let mut linger: Pin<Box<Sleep>> = Box::pin(sleep_until(Instant::now()));
    let ended = loop {
        let may_send = working.len() < options.in_flight.max(1);
        let step = poll_fn(|cx| {
            while let Poll::Ready(Some(outcome)) = working.poll_next_unpin(cx) {
                outcomes.record(outcome);
                if !may_send {
                    return Poll::Ready(Step::Again);
                }
            }
            batcher.poll(&mut inbox, may_send, working.is_empty(), linger.as_mut(), cx)
        });
        match step.await {
            Step::Again => {}
            Step::Ended(ended) => break ended,
            Step::Send(Filling { events, tallies, .. }) => {
                let ready = {
                    let mut ready = pin!(guard::catch(poll_fn(|cx| service.poll_ready(cx))));
                    poll_fn(|cx| {
                        // Batches with the service go on while it is not ready for the next one.
                        while let Poll::Ready(Some(outcome)) = working.poll_next_unpin(cx) {
                            outcomes.record(outcome);
                        }
                        ready.as_mut().poll(cx)
                    })
                    .await
                };
                if let Err(ended) = outcomes.ready(ready) {
                    break ended;
                }
                match guard::run(|| service.call(events)) {
                    Err(panic) => {
                        outcomes.record::<(), S::Error>(Err(panic));
                    }
                    Ok(future) => working.push(async move {
                        let outcome = guard::catch(future).await;
                        drop(tallies);
                        outcome
                    }),
                }
            }
        }
        tokio::task::coop::consume_budget().await;
    };
    while let Some(outcome) = working.next().await {
        outcomes.record(outcome);
    }
    inbox.end(ended);
}

/// How often the task has yielded since the batch began to fill, and how many events the batch had
/// then.
#[derive(Debug, Default)]
struct Yielded {
    times: u32,
    events: usize,
}

/// How often the task yields at most before it sends a batch.
const MAX_YIELDS: u32 = 8;

enum Step<E> {
    Again,
    Send(Filling<E>),
    Ended(Ended),
}

/// Makes batches of received events.
struct Batcher<E> {
    options: BatchOptions,
    weigh: fn(&E) -> usize,
    filling: Filling<E>,
    rest: Option<Rest<E>>,
    /// How the inbox ended. The rest is sent, then the consumer ends.
    ended: Option<Ended>,
    yielded: Yielded,
}

impl<E> Filling<E> {
    fn new() -> Filling<E> {
        Filling { events: Vec::new(), bytes: 0, tallies: Vec::new(), until: None }
    }

    fn add(&mut self, demand: &Arc<DemandSender>, event: E, bytes: usize) {
        self.events.push(event);
        self.bytes = self.bytes.saturating_add(bytes);
        match self.tallies.last_mut() {
            Some(tally) if Arc::ptr_eq(tally.demand(), demand) => tally.add(1),
            _ => {
                let mut tally = Tally::new(Arc::clone(demand));
                tally.add(1);
                self.tallies.push(tally);
            }
        }
    }
}

impl<E> Batcher<E> {
    fn new(options: BatchOptions, weigh: fn(&E) -> usize) -> Batcher<E> {
        let filling = Filling::new();
        Batcher { options, weigh, filling, rest: None, ended: None, yielded: Yielded::default() }
    }

    fn is_full(&self) -> bool {
        let next = self.rest.as_ref().and_then(|rest| rest.next.as_ref());
        let next_bytes = next.map_or(0, |(_, bytes)| *bytes);
        self.filling.events.len() >= self.options.max_events.max(1)
            || self.filling.bytes >= self.options.max_bytes.max(1)
            || (!self.filling.events.is_empty()
                && self.filling.bytes.saturating_add(next_bytes) > self.options.max_bytes)
    }

    /// Whether to yield to tasks that may be about to send an event: once, and again while that brings
    /// more. So a busy runtime makes larger batches, and an idle one adds no delay.
    fn yields(&mut self) -> bool {
        let events = self.filling.events.len();
        let has_grown = events > std::mem::replace(&mut self.yielded.events, events);
        self.yielded.times += 1;
        has_grown && self.yielded.times <= MAX_YIELDS && !self.is_full() && self.ended.is_none()
    }

    fn poll(
        &mut self,
        inbox: &mut Inbox<E>,
        may_send: bool,
        is_quiet: bool,
        mut linger: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Step<E>> {
        if !may_send {
            // Events wait in the subscriptions meanwhile, without a wake-up for each of them.
            return Poll::Pending;
        }
        self.fill(inbox, cx);
        if self.filling.events.is_empty() {
            return match self.ended {
                Some(ended) if is_quiet => Poll::Ready(Step::Ended(ended)),
                _ => Poll::Pending,
            };
        }
        if self.yields() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.is_full() && self.ended.is_none() && !self.options.linger.is_zero() {
            let started = || Instant::now() + self.options.linger;
            let until = *self.filling.until.get_or_insert_with(started);
            if linger.deadline() != until {
                linger.as_mut().reset(until);
            }
            if linger.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.yielded = Yielded::default();
        Poll::Ready(Step::Send(std::mem::replace(&mut self.filling, Filling::new())))
    }

    /// Takes received events until the batch is full.
    fn fill(&mut self, inbox: &mut Inbox<E>, cx: &Context<'_>) {
        while !self.is_full() {
            if let Some(Rest { demand, next, events }) = &mut self.rest {
                if let Some((event, bytes)) = next.take() {
                    self.filling.add(demand, event, bytes);
                } else if let Some(event) = events.next() {
                    let bytes = (self.weigh)(&event);
                    *next = Some((event, bytes));
                } else {
                    self.rest = None;
                }
                continue;
            }
            if self.ended.is_some() {
                return;
            }
            match inbox.poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Received::Ended(ended)) => self.ended = Some(ended),
                Poll::Ready(Received::Events(demand, events)) => {
                    self.rest = Some(Rest { demand, next: None, events: events.into_iter() });
                }
            }
        }
    }
}
