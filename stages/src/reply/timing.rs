//! Timing: the deadlines of a call, and its progress, which both ends of a reply share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

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

/// As a time: the caller was not told that there is no answer.
pub(super) const NEVER: u64 = u64::MAX;

/// The call's progress, shared by both ends of a reply.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) admitted: Instant,
    /// [`QUEUED`], [`STARTED`] or [`GIVEN_UP`]. Either the call starts or its caller receives `NotStarted`, never both.
    pub(super) phase: AtomicU8,
    /// When the caller stops waiting, in microseconds after `admitted`.
    pub(super) ends_after_us: AtomicU64,
    /// When the caller was told that there is no answer, in microseconds after `admitted`, or [`NEVER`].
    pub(super) unanswered_after_us: AtomicU64,
    /// Whether the caller set a bound on the whole call.
    bounded: bool,
    limits: Deadlines,
    signal: Signal,
    trace: Trace,
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

    /// The same for a call that has a trace.
    pub(crate) fn traced(limits: Deadlines, whole: Option<Duration>, trace: Trace) -> Self {
        let admitted = Instant::now();
        // A bound too large to count is no bound.
        let ends_after_us = micros(whole.unwrap_or(limits.start));
        let start_by = admitted + Duration::from_micros(ends_after_us);
        let progress = Progress {
            admitted,
            phase: AtomicU8::new(QUEUED),
            ends_after_us: AtomicU64::new(ends_after_us),
            unanswered_after_us: AtomicU64::new(NEVER),
            bounded: whole.is_some(),
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
        let Progress { phase, .. } = &*self.progress;
        // Before the phase, so that a caller that sees `STARTED` also sees the new end.
        self.extend(self.progress.limits.host + self.progress.limits.commit);
        self.mark(Mark::Called);
        let began = phase.compare_exchange(QUEUED, STARTED, Ordering::AcqRel, Ordering::Acquire);
        began != Err(GIVEN_UP)
    }

    /// Records that the host was not reached: the call waits as before.
    pub fn unsent(&self) {
        if !self.progress.bounded {
            let ends = self.start_by.saturating_duration_since(self.progress.admitted);
            self.progress.ends_after_us.store(micros(ends), Ordering::Release);
        }
        self.progress.phase.store(QUEUED, Ordering::Release);
    }

    fn extend(&self, phase: Duration) {
        if !self.progress.bounded {
            let ends = self.progress.admitted.elapsed() + phase;
            self.progress.ends_after_us.store(micros(ends), Ordering::Release);
        }
    }

    /// How long to try to reach a host when no caller waits.
    pub fn patience(&self) -> Duration {
        self.progress.limits.patience
    }

    /// Returns the deadlines of the call at its next actor. A caller's own bound stays; without one, the phases start again.
    #[must_use]
    pub fn routed(mut self) -> Self {
        if !self.progress.bounded {
            self.start_by = Instant::now() + self.progress.limits.start;
            self.extend(self.progress.limits.start + self.progress.limits.commit);
        }
        self
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
