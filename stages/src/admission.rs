//! Admission by deadline: a call whose turn cannot come in time is refused at once, not when its time is over.
//!
//! The expected wait of a call is the largest of four:
//!
//! - the calls queued for its actor × the mean turn of that actor;
//! - the turns of all actors that come first ÷ the turns that may run at once × the mean of all turns;
//! - the same for the turns of its host;
//! - the keys in line for a place at the checkpoint × the mean time in which the line moves by one, when the call needs a place.
//!
//! Actors take turns, and hosts take turns. So of another actor's queue only the turns count that come before this call: a
//! long queue of one actor, or of a slow host, does not refuse the calls of another.
//!
//! - A call is refused at admission when its expected wait exceeds what is left of its time to start.
//! - Means change, and a burst comes before any is known. So queued calls are looked at again whenever a turn of their
//!   host ends: the queue of that turn's actor, and those of the last actors in line, each from its end up to the first
//!   call that is in time. At most [`SHED`] calls are refused then. So a backlog that is too long is refused from its
//!   end, [`SHED`] calls per turn, and each queue at the latest when its actor has had a turn. No other promise is made.
//!   The expected wait is wrong by about one turn. A late call stays queued when the call behind it has a longer
//!   deadline and is in time; the late call then ends at its own deadline.
//! - A mean counts after 20 turns. While no turn ends, no queued call is refused.
//! - Calls without a waiting caller are exempt (calls of the mesh itself are among them), and so are routed calls.
//!
//! A refused call was not started. The time of a turn is that of its slot: a turn that is parked does not count.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use metrics::{Counter, counter};
use tidegate_pipeline::{Ahead, KeyedProducer};
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::call::{Admitted, Failed, ParkedWork, Placed, StageResult, Task};
use crate::error::Error;
use crate::hot::{Hot, Weights};
use crate::metrics::CALLS_REFUSED_TOTAL;
use crate::registry::entry::{Entry, Hosted};
use crate::turn_time::MeanTurn;

/// Most calls that are refused when a turn ends.
const SHED: usize = 128;

/// The least time that a refused caller is asked to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A backlog that is shorter than this part of the time to start is not looked through.
const SHORT: u32 = 8;

/// What is known of turns, and the calls that wait for theirs; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: KeyedProducer<Placed>,
    /// Turns that may run at once, in all and for one host.
    at_once: u32,
    at_once_per_host: u32,
    short: Duration,
    mean_turn: MeanTurn,
    hot: Hot,
    refused: Counter,
}

/// The mean turns that a call's wait depends on, as far as they are known.
#[derive(Debug, Clone, Copy)]
struct Means {
    actor: Option<Duration>,
    host: Option<Duration>,
    all: Option<Duration>,
}

impl Admission {
    /// `at_once`: turns that may run at once, in all and for one host. `start`: how long calls may take to start. `hot`: where
    /// turns are noted, too.
    pub(crate) fn new(
        queue: KeyedProducer<Placed>,
        at_once: (usize, usize),
        start: Duration,
        hot: Hot,
    ) -> Self {
        let number = |count: usize| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        Self(Arc::new(Inner {
            queue,
            at_once: number(at_once.0),
            at_once_per_host: number(at_once.1),
            short: start / SHORT,
            mean_turn: MeanTurn::default(),
            hot,
            refused: counter!(CALLS_REFUSED_TOTAL, "reason" => "deadline"),
        }))
    }

    /// Returns the call if it can start in time.
    ///
    /// # Errors
    /// When its turn is expected too late.
    pub(crate) fn in_time(&self, admitted: Admitted) -> Result<Admitted, Error> {
        if !admitted.invocation.is_awaited() {
            return Ok(admitted);
        }
        let left = admitted.timing.start_by.saturating_duration_since(Instant::now());
        let entry = &admitted.entry;
        let action = &admitted.invocation.action;
        let (means, writes, host_limit) = entry.with_hosted(|hosted| {
            let writes = hosted.definition.may_change(action);
            let (limit, _) = hosted.admitted_for(admitted.permit.as_ref(), &entry.mailbox);
            (self.0.means(entry, hosted, limit), writes, limit)
        });
        let is_line = writes && self.0.queue.in_line() > 0;
        if !is_line && self.0.longest(means) <= left {
            return Ok(admitted);
        }
        let ahead = needing(writes, self.0.queue.ahead(&entry.mailbox, host_limit));
        let expected = self.0.wait(means, ahead);
        if expected <= left { Ok(admitted) } else { Err(self.0.refuse(expected, left)) }
    }
}

impl Inner {
    fn means(&self, entry: &Entry, hosted: &Hosted, host_limit: u32) -> Means {
        Means {
            actor: entry.mean_turn.mean(),
            host: hosted.known(host_limit).mean_turn.mean(),
            all: self.mean_turn.mean(),
        }
    }

    fn wait(&self, means: Means, ahead: Ahead) -> Duration {
        let of = |mean: Option<Duration>, turns: usize, at_once: u32| {
            let turns = u32::try_from(turns).unwrap_or(u32::MAX);
            mean.map_or(Duration::ZERO, |mean| mean.saturating_mul(turns) / at_once)
        };
        let of_actor = of(means.actor, ahead.of_key, 1);
        // With several hosts, one has at most half of the turns.
        let share = if self.queue.is_shared() { self.at_once.div_ceil(2) } else { self.at_once };
        let of_host = of(means.host, ahead.of_class, self.at_once_per_host.min(share));
        of_actor.max(of_host).max(of(means.all, ahead.of_all, self.at_once)).max(ahead.in_line)
    }

    /// The longest wait that calls can cause, however they are queued. Reading it takes no lock of the queues.
    fn longest(&self, means: Means) -> Duration {
        let admitted = self.queue.admitted();
        let in_line = Duration::ZERO;
        self.wait(means, Ahead { of_key: admitted, of_class: admitted, of_all: admitted, in_line })
    }

    fn refuse(&self, expected: Duration, left: Duration) -> Error {
        self.refused.increment(1);
        let reason = format!("the actor's turn is expected in {expected:.1?} only");
        Error::Overloaded { reason, retry_after: expected.saturating_sub(left).max(RETRY_AFTER) }
    }

    /// Notes what a turn came to. The turns of a durable topic are no actor's.
    fn note(&self, entry: &Entry, weights: Weights, now: Instant) {
        let bytes = u64::try_from(entry.take_turn_bytes()).unwrap_or(u64::MAX);
        if entry.topic.is_none() {
            self.hot.turn(&entry.actor, Weights { bytes, ..weights }, now);
        }
    }

    /// Records a turn, and refuses calls that wait in vain.
    fn ended(&self, entry: &Entry, host_limit: u32, (began, is_call): (Instant, bool)) {
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        self.note(entry, Weights { calls: u64::from(is_call), took, bytes: 0 }, now);
        entry.mean_turn.record(took);
        self.mean_turn.record(took);
        if host_limit == 0 {
            return;
        }
        let means = entry.with_hosted(|hosted| {
            let known = hosted.known(host_limit);
            known.mean_turn.record(took);
            known.turn_times.record(took);
            self.means(entry, hosted, host_limit)
        });
        if self.queue.in_line() == 0 && self.longest(means) <= self.short {
            return;
        }
        let (now, mut waits) = (Instant::now(), Vec::new());
        let late = self.queue.shed_late(&entry.mailbox, host_limit, SHED, |ahead, placed| {
            let Some(start_by) = start_by(placed) else { return false };
            let actor = placed.entry.mean_turn.mean();
            let ahead = needing(writes(placed), ahead);
            let wait = self.wait(Means { actor, ..means }, ahead);
            let left = start_by.saturating_duration_since(now);
            let is_late = wait > left;
            if is_late {
                waits.push((wait, left));
            }
            is_late
        });
        for (placed, (wait, left)) in late.into_iter().zip(waits) {
            placed.fail(self.refuse(wait, left));
        }
    }
}

/// What comes before a call that needs a place at the checkpoint, or needs none.
fn needing(place: bool, ahead: Ahead) -> Ahead {
    if place { ahead } else { Ahead { in_line: Duration::ZERO, ..ahead } }
}

fn writes(placed: &Placed) -> bool {
    matches!(&placed.task, Task::Call(call) if call.writes)
}

/// When a call must have been started that may be refused.
fn start_by(placed: &Placed) -> Option<Instant> {
    let Task::Call(call) = &placed.task else { return None };
    let may_be_refused = call.reply.is_wanted() && call.route.is_empty();
    may_be_refused.then_some(call.timing.start_by)
}

/// Whether a turn says nothing about how long turns take: it is not over, or its call was given up before.
fn is_no_turn(failed: &Failed) -> bool {
    failed.may_be_parked || matches!(failed.error, Error::NotStarted(..))
}

/// Measures turns: worn by the path, inside of what parks them.
#[derive(Debug, Clone)]
pub(crate) struct TurnTimeLayer {
    /// Where the times go.
    pub(crate) admission: Admission,
}

/// See [`TurnTimeLayer`].
#[derive(Debug, Clone)]
pub(crate) struct TurnTime<S> {
    path: S,
    admission: Admission,
}

/// A turn that runs.
#[derive(Debug)]
pub(crate) struct Running<F> {
    turn: F,
    entry: Arc<Entry>,
    host_limit: u32,
    began: Instant,
    is_call: bool,
    admission: Admission,
}

impl<S> Layer<S> for TurnTimeLayer {
    type Service = TurnTime<S>;

    fn layer(&self, path: S) -> TurnTime<S> {
        TurnTime { path, admission: self.admission.clone() }
    }
}

impl<S> Service<Placed> for TurnTime<S>
where
    S: Service<Placed, Response = Option<ParkedWork>, Error = Box<Failed>, Future: Unpin>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Running<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<StageResult<()>> {
        self.path.poll_ready(cx)
    }

    fn call(&mut self, placed: Placed) -> Self::Future {
        let (entry, host_limit) = (placed.entry.clone(), placed.host_limit);
        let is_call = matches!(placed.task, Task::Call(_));
        let (began, admission) = (Instant::now(), self.admission.clone());
        Running { turn: self.path.call(placed), entry, host_limit, began, is_call, admission }
    }
}

impl<F: Future<Output = StageResult<Option<ParkedWork>>> + Unpin> Future for Running<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let result = ready!(Pin::new(&mut self.turn).poll(cx));
        let is_turn = match &result {
            Ok(work) => work.is_none(),
            Err(failed) => !is_no_turn(failed),
        };
        if is_turn {
            self.admission.0.ended(&self.entry, self.host_limit, (self.began, self.is_call));
        }
        Poll::Ready(result)
    }
}
