//! Batcher: a consumer whose service takes many events at once.
//!
//! A batch goes out when it is full in events or in bytes, when it has lingered, or, without a
//! linger, as soon as nothing more is there. While `in_flight` batches are out the next one fills.

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
use tracing::error;

use crate::consumer::{Tally, note};
use crate::guard::{self, Panic};
use crate::inbox::{Ended, Inbox, Received};
use crate::metrics::ConsumerMetrics;
use crate::subscription::{Batch, Claim};

/// How a batching consumer is made.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// Most events in a batch, at least 1. A subscription's demand should be at least as large.
    pub max_events: usize,
    /// Most bytes in a batch; a single event that is larger goes alone.
    pub max_bytes: usize,
    /// How long a batch waits to become full; zero sends what is there.
    pub linger: Duration,
    /// Most batches with the service at once, at least 1.
    pub in_flight: usize,
}

impl BatchOptions {
    /// Batches of up to `max_events`, without a byte bound and without lingering, one at a time.
    pub fn new(name: &'static str, max_events: usize) -> BatchOptions {
        let linger = Duration::ZERO;
        BatchOptions { name, max_events, max_bytes: usize::MAX, linger, in_flight: 1 }
    }
}

/// A batch that fills.
struct Filling<E> {
    events: Vec<E>,
    bytes: usize,
    /// Whose events they are, to give demand back when they are done.
    tallies: Vec<Tally>,
    /// When it goes out, however full.
    until: Option<Instant>,
}

/// What came in, in part in a batch already.
struct Rest<E> {
    claim: Arc<Claim>,
    /// The next event with its bytes, when it did not fit into the last batch.
    next: Option<(E, usize)>,
    events: <Batch<E> as IntoIterator>::IntoIter,
}

/// The batching consumer's task.
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
    let metrics = ConsumerMetrics::new(options.name);
    let mut batcher = Batcher::new(options, weigh);
    let mut working = FuturesUnordered::new();
    let mut linger: Pin<Box<Sleep>> = Box::pin(sleep_until(Instant::now()));
    let ended = loop {
        let may_send = working.len() < options.in_flight.max(1);
        let step = poll_fn(|cx| {
            while let Poll::Ready(Some(outcome)) = working.poll_next_unpin(cx) {
                note(options.name, &metrics, outcome);
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
                        // Batches that are out go on while the service is not ready for the next.
                        while let Poll::Ready(Some(outcome)) = working.poll_next_unpin(cx) {
                            note(options.name, &metrics, outcome);
                        }
                        ready.as_mut().poll(cx)
                    })
                    .await
                };
                if let Some(ended) = refused(options.name, ready) {
                    break ended;
                }
                match guard::run(|| service.call(events)) {
                    Err(panic) => note::<S::Error>(options.name, &metrics, Err(panic)),
                    Ok(answer) => working.push(async move {
                        let outcome = guard::catch(answer).await;
                        drop(tallies);
                        outcome
                    }),
                }
            }
        }
        tokio::task::coop::consume_budget().await;
    };
    while let Some(outcome) = working.next().await {
        note(options.name, &metrics, outcome);
    }
    inbox.end(ended);
}

fn refused<X: Display>(name: &'static str, ready: Result<Result<(), X>, Panic>) -> Option<Ended> {
    match ready {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error!(consumer = name, %error, "the service takes no more batches"),
        Err(panic) => {
            error!(consumer = name, %panic, "the service panicked when asked for readiness");
        }
    }
    Some(Ended::ServiceFailed)
}

/// How often the task has let others run since the batch began to fill, and what the batch held then.
#[derive(Debug, Default)]
struct GaveWay {
    times: u32,
    events: usize,
}

/// Most times that a batch lets others run before it goes out.
const GIVE_WAY: u32 = 8;

enum Step<E> {
    Again,
    Send(Filling<E>),
    Ended(Ended),
}

/// Makes batches of what comes in.
struct Batcher<E> {
    options: BatchOptions,
    weigh: fn(&E) -> usize,
    filling: Filling<E>,
    rest: Option<Rest<E>>,
    /// The inbox has ended: what is left goes out, then the consumer ends.
    ended: Option<Ended>,
    gave_way: GaveWay,
}

impl<E> Filling<E> {
    fn new() -> Filling<E> {
        Filling { events: Vec::new(), bytes: 0, tallies: Vec::new(), until: None }
    }

    fn add(&mut self, claim: &Arc<Claim>, event: E, bytes: usize) {
        self.events.push(event);
        self.bytes = self.bytes.saturating_add(bytes);
        match self.tallies.last_mut() {
            Some(tally) if tally.is_of(claim) => tally.add(1),
            _ => {
                let mut tally = Tally::new(Arc::clone(claim));
                tally.add(1);
                self.tallies.push(tally);
            }
        }
    }
}

impl<E> Batcher<E> {
    fn new(options: BatchOptions, weigh: fn(&E) -> usize) -> Batcher<E> {
        let filling = Filling::new();
        Batcher { options, weigh, filling, rest: None, ended: None, gave_way: GaveWay::default() }
    }

    fn is_full(&self) -> bool {
        let next = self.rest.as_ref().and_then(|rest| rest.next.as_ref());
        let next_bytes = next.map_or(0, |(_, bytes)| *bytes);
        self.filling.events.len() >= self.options.max_events.max(1)
            || self.filling.bytes >= self.options.max_bytes.max(1)
            || (!self.filling.events.is_empty()
                && self.filling.bytes.saturating_add(next_bytes) > self.options.max_bytes)
    }

    /// Whether to go behind whoever is about to hand in an event: once, and again as long as that
    /// brings some. A busy runtime makes larger batches, an idle one makes no delay.
    fn gives_way(&mut self) -> bool {
        let events = self.filling.events.len();
        let has_grown = events > std::mem::replace(&mut self.gave_way.events, events);
        self.gave_way.times += 1;
        has_grown && self.gave_way.times <= GIVE_WAY && !self.is_full() && self.ended.is_none()
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
            // What comes meanwhile gathers in the subscriptions, without a wake-up for each event.
            return Poll::Pending;
        }
        self.fill(inbox, cx);
        if self.filling.events.is_empty() {
            return match self.ended {
                Some(ended) if is_quiet => Poll::Ready(Step::Ended(ended)),
                _ => Poll::Pending,
            };
        }
        if self.gives_way() {
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
        self.gave_way = GaveWay::default();
        Poll::Ready(Step::Send(std::mem::replace(&mut self.filling, Filling::new())))
    }

    /// Takes what is there until the batch is full.
    fn fill(&mut self, inbox: &mut Inbox<E>, cx: &Context<'_>) {
        while !self.is_full() {
            if let Some(Rest { claim, next, events }) = &mut self.rest {
                if let Some((event, bytes)) = next.take() {
                    self.filling.add(claim, event, bytes);
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
                Poll::Ready(Received::Events(claim, events)) => {
                    self.rest = Some(Rest { claim, next: None, events: events.into_iter() });
                }
            }
        }
    }
}
