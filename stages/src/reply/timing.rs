//! Timing: the deadlines of a call, and its progress, which both ends of a reply share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tidegate_pipeline::EventId;
use tokio::time::Instant;

use crate::actor::ActorRef;
use crate::error::Error;
use crate::ports::StoreError;
use crate::request_id::RequestId;
use crate::signal::Signal;
use crate::traces::{Mark, Stage, Times, Trace};

/// Time limits of the phases of a call (decision 1).
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Queueing, lookup, activation and connecting, together.
    pub start: Duration,
    /// The host, from its receipt of the call.
    pub host: Duration,
    /// The commit, from the host's response.
    pub commit: Duration,
    /// How long an accepted asynchronous call may wait for its host or the store.
    pub patience: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(10),
            host: Duration::from_mins(1),
            commit: Duration::from_secs(30),
            patience: Duration::from_mins(1),
        }
    }
}

/// Why a call was not started in time, as far as its times tell.
pub(crate) const BUSY: &str = "the actor was busy or not reachable";

pub(super) const QUEUED: u8 = 0;
const STARTED: u8 = 1;
pub(super) const GIVEN_UP: u8 = 2;
/// As [`QUEUED`], at the next actor of the call's route: an action of the call has run.
pub(super) const ROUTED: u8 = 3;

/// As a time: it has not happened.
pub(super) const NEVER: u64 = u64::MAX;

/// The call's progress, shared by both ends of a reply.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) admitted: Instant,
    /// [`QUEUED`], [`STARTED`], [`GIVEN_UP`] or [`ROUTED`]. Either the call starts or its caller receives `NotStarted`, never both.
    pub(super) phase: AtomicU8,
    /// When the caller stops waiting, in microseconds after `admitted`.
    pub(super) ends_after_us: AtomicU64,
    /// Woken when the caller may have to stop waiting earlier than it was told.
    sooner: AtomicWaker,
    /// When the host of the running action has answered, in microseconds after `admitted`, or [`NEVER`].
    answered_after_us: AtomicU64,
    /// When the caller was told that there is no answer, in microseconds after `admitted`, or [`NEVER`].
    pub(super) unanswered_after_us: AtomicU64,
    /// Whether the caller set a bound on the whole call.
    bounded: bool,
    /// Whether only the store is waited for: no host is called.
    of_store: bool,
    /// The mailbox to which the call was routed last, and its turn there.
    routed_to: Mutex<Option<(ActorRef, EventId)>>,
    pub(super) limits: Deadlines,
    signal: Signal,
    trace: Trace,
}

impl Progress {
    /// What a caller is told that stops waiting after so many microseconds: the action was started.
    pub(super) fn unanswered(&self, after_us: u64) -> Error {
        let answered_us = self.answered_after_us.load(Ordering::Acquire);
        let since_us = if self.of_store { 0 } else { answered_us };
        let Some(waited_us) = after_us.checked_sub(since_us) else {
            return Error::NoAnswer(Duration::from_micros(after_us));
        };
        let waited = Duration::from_micros(waited_us);
        // The caller's own bound was over before the commit's time. Who is to blame took the larger part of it.
        if !self.of_store && waited < self.limits.commit && waited_us < after_us / 2 {
            return Error::NoAnswer(Duration::from_micros(after_us));
        }
        let text = format!("no answer within {waited:?}; the change is not known to be kept");
        let error = Error::Store(StoreError::Unknown(text));
        if self.of_store { error } else { error.after_action() }
    }

    /// Whether the caller has to stop waiting earlier than after so many microseconds. If not, its task is woken when that changes.
    pub(super) fn ends_before(&self, after_us: u64, cx: &Context<'_>) -> bool {
        self.sooner.register(cx.waker());
        self.ends_after_us.load(Ordering::Acquire) < after_us
    }

    fn end_after(&self, time: Duration) {
        if !self.bounded {
            self.ends_after_us.store(micros(time), Ordering::Release);
        }
    }
}

/// The signal of a call's turn, for tasks other than its own.
#[derive(Debug, Clone)]
pub(crate) struct SignalHandle(Arc<Progress>);

impl SignalHandle {
    /// Whether nobody else knows the call any more: it has ended.
    pub(crate) fn is_ended(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl SignalHandle {
    /// Which request made the call.
    pub(crate) fn request(&self) -> &RequestId {
        self.0.trace.request()
    }
}

impl Deref for SignalHandle {
    type Target = Signal;

    fn deref(&self) -> &Signal {
        &self.0.signal
    }
}

/// The deadlines of a call: for its start, and for its caller's wait.
#[derive(Debug, Clone)]
pub struct Timing {
    pub(super) progress: Arc<Progress>,
    /// The host must have the action by then.
    pub start_by: Instant,
}

impl Timing {
    /// Starts the time of a call; `whole` is the caller's own bound on the whole call.
    pub fn new(limits: Deadlines, whole: Option<Duration>) -> Self {
        Self::traced(limits, whole, Trace::default())
    }

    /// The same for what calls no host: once it is started, only the store is waited for.
    pub(crate) fn of_store(limits: Deadlines, whole: Option<Duration>) -> Self {
        Self::begin(limits, whole, Trace::default(), true)
    }

    /// The same for a call that has a trace.
    pub(crate) fn traced(limits: Deadlines, whole: Option<Duration>, trace: Trace) -> Self {
        Self::begin(limits, whole, trace, false)
    }

    fn begin(limits: Deadlines, whole: Option<Duration>, trace: Trace, of_store: bool) -> Self {
        let admitted = Instant::now();
        // A bound too large to count is no bound.
        let ends_after_us = micros(whole.unwrap_or(limits.start));
        let start_by = admitted + Duration::from_micros(ends_after_us);
        let progress = Progress {
            admitted,
            phase: AtomicU8::new(QUEUED),
            ends_after_us: AtomicU64::new(ends_after_us),
            unanswered_after_us: AtomicU64::new(NEVER),
            sooner: AtomicWaker::new(),
            answered_after_us: AtomicU64::new(NEVER),
            bounded: whole.is_some(),
            of_store,
            routed_to: Mutex::default(),
            limits,
            signal: Signal::default(),
            trace,
        };
        Self { progress: Arc::new(progress), start_by }
    }

    /// Marks the call as started: from now on the action may have run. Returns false when the caller has already received
    /// `NotStarted`; then the call must not start.
    #[must_use]
    pub fn start(&self) -> bool {
        let Progress { phase, limits, .. } = &*self.progress;
        // Before the phase, so that a caller that sees `STARTED` also sees the new end.
        if !self.progress.bounded {
            self.progress.end_after(self.elapsed() + limits.host + limits.commit);
        }
        self.mark(Mark::Called);
        let may_start = |phase: u8| (phase != GIVEN_UP).then_some(STARTED);
        phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, may_start).is_ok()
    }

    /// Records that the host has answered at this time: from now on only the store is waited for.
    pub(crate) fn answered(&self, at: Instant) {
        let progress = &*self.progress;
        let after = at.saturating_duration_since(progress.admitted);
        progress.answered_after_us.store(micros(after), Ordering::Release);
        progress.end_after(after + progress.limits.commit);
        progress.sooner.wake();
    }

    /// Records that the host was not reached: the call waits as before. `has_run`: an action of the call has run, at another
    /// actor.
    pub(crate) fn unsent(&self, has_run: bool) {
        self.wait_to_start(if has_run { ROUTED } else { QUEUED });
    }

    fn wait_to_start(&self, phase: u8) {
        let progress = &*self.progress;
        progress.end_after(self.start_by.saturating_duration_since(progress.admitted));
        progress.phase.store(phase, Ordering::Release);
    }

    /// How long to try to reach a host when no caller waits.
    pub fn patience(&self) -> Duration {
        self.progress.limits.patience
    }

    /// The call begins to wait for its start at its next actor. A caller's own bound stays; without one, the phases start again.
    pub(crate) fn routed(&mut self) {
        if !self.progress.bounded {
            self.start_by = Instant::now() + self.progress.limits.start;
        }
        self.progress.answered_after_us.store(NEVER, Ordering::Release);
        self.wait_to_start(ROUTED);
        self.progress.sooner.wake();
    }

    /// Records the turn that the call has at its next actor. Returns whether its caller has given the call up already.
    pub(crate) fn routed_to(&self, mailbox: ActorRef, id: EventId) -> bool {
        let mut routed_to = self.progress.routed_to.lock();
        // It may have been routed on again meanwhile: later turns have larger numbers.
        if routed_to.as_ref().is_none_or(|(_, last)| *last < id) {
            *routed_to = Some((mailbox, id));
        }
        drop(routed_to);
        self.progress.phase.load(Ordering::Acquire) == GIVEN_UP
    }

    /// The turn that the call has at the actor to which it was routed last.
    pub(crate) fn last_route(&self) -> Option<(ActorRef, EventId)> {
        self.progress.routed_to.lock().clone()
    }

    /// The signal of the call's turn.
    pub(crate) fn signal(&self) -> &Signal {
        &self.progress.signal
    }

    /// An owned handle to the signal of the call's turn.
    pub(crate) fn signal_handle(&self) -> SignalHandle {
        SignalHandle(self.progress.clone())
    }

    /// Whether the call may be exported as a trace.
    pub(crate) fn is_traced(&self) -> bool {
        self.progress.trace.is_on()
    }

    /// The trace of the call.
    pub(crate) fn trace(&self) -> &Trace {
        &self.progress.trace
    }

    /// Notes for the trace that the call has reached something.
    pub(crate) fn mark(&self, mark: Mark) {
        if self.is_traced() {
            self.progress.trace.mark(mark, self.elapsed());
        }
    }

    /// Begins with the next actor of the call's route. Returns the times at the last one, when the call is traced.
    pub(crate) fn next_hop(&self) -> Option<Times> {
        let times = self.is_traced().then(|| self.progress.trace.next_hop());
        self.mark(Mark::Placed);
        times
    }

    /// The trace context of what a stage causes at an actor; `of_caller` is that of the call.
    pub(crate) fn context(&self, hop: usize, stage: Stage, of_caller: &str) -> String {
        let own = self.progress.trace.context(hop, stage, of_caller);
        own.unwrap_or_else(|| of_caller.to_owned())
    }

    /// When the call began.
    pub(crate) fn began(&self) -> Instant {
        self.progress.admitted
    }

    /// Time since admission.
    pub fn elapsed(&self) -> Duration {
        self.progress.admitted.elapsed()
    }

    /// Why a call that did not start in time did not.
    pub(crate) fn why_late(&self) -> &'static str {
        if self.progress.bounded && self.start_by <= self.progress.admitted {
            "its request-timeout leaves no time for it"
        } else {
            BUSY
        }
    }

    /// Whether the deadline for the start has passed.
    pub fn is_late(&self) -> bool {
        Instant::now() >= self.start_by
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
