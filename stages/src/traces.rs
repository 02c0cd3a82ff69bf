//! Traces: what a call tells of itself to OpenTelemetry.
//!
//! Whether a call is sampled is decided once, when it comes in. Every call carries the times at which it reached its stages, in
//! memory that it has anyway. Its spans are made of them when it has ended, and only when it is exported: because it was
//! sampled, has failed or was slow. Other calls allocate nothing for their trace, and take no lock.

pub mod context;
mod marks;
mod spans;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tidegate_pipeline::randomness::chance;

use crate::actor::ActorRef;
use crate::blocked_on::RetryOf;
use crate::request_id::RequestId;
use context::SpanContext;
pub(crate) use marks::{Mark, Times};
pub(crate) use spans::{Ended, Stage, span_id};
pub use spans::{TracedCall, TracedHop, TracedStage};

/// Which calls are exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceRules {
    /// Whether the decision of a call's caller counts, if there is one.
    pub parent_based: bool,
    /// The part of the other calls that is sampled, from 0 to 1.
    pub ratio: f64,
    /// Whether calls that fail are exported although they are not sampled.
    pub failed: bool,
    /// How long a call takes that is exported although it is not sampled; `None`: none is.
    pub slow: Option<Duration>,
    /// Whether these two also count for calls whose caller decided against sampling.
    pub overrides_parent: bool,
}

/// Where traces go.
pub trait TraceSink: Debug + Send + Sync {
    /// Draws an id: other numbers than those of any other process.
    fn draw(&self) -> u128;
    /// Takes an ended call, at once.
    fn take(&self, call: TracedCall);
    /// Whether somebody follows the calls of this actor. Asked at the end of each call: it must cost next to nothing.
    fn is_followed(&self, _actor: &ActorRef) -> bool {
        false
    }
    /// Takes an ended call that only those ask for who follow its actor.
    fn follow(&self, _call: TracedCall) {}
}

/// What makes a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallOrigin {
    /// A client.
    #[default]
    Client,
    /// A side effect.
    Effect,
    /// A call for a later time whose time has come, or a schedule.
    Due,
    /// A broadcast.
    Broadcast,
    /// A timer of the actor.
    Timer,
}

/// Decides which calls are traced. The default traces none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    rules: TraceRules,
    /// Whether calls are sampled, and leave the proxy as traces.
    exports: bool,
    sink: Arc<dyn TraceSink>,
}

/// The ids of a call that is sampled.
#[derive(Debug, Clone, Copy)]
struct Ids {
    trace_id: u128,
    span_id: u64,
    parent: Option<u64>,
    link: Option<(u128, u64)>,
}

/// The trace of one call. Part of what both ends of its reply share.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// `None`: the call is not exported, whatever happens.
    inner: Option<Arc<Inner>>,
    /// `None`: it is not sampled.
    ids: Option<Box<Ids>>,
    marks: marks::Marks,
    /// What it waited for when it was queued: the number of a [`FirstWait`], plus 1.
    first_wait: AtomicU8,
    origin: CallOrigin,
    is_linked: bool,
    /// Which request made the call; also known of calls that are not traced.
    request: RequestId,
}

/// What a call waits for in the mailbox of its actor, in the words of `tidegate actors list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstWait {
    Turn,
    Paused,
    Worker,
    HostPermit,
    HostBreaker,
    Checkpoint,
}

impl FirstWait {
    const NAMES: [&str; 6] =
        ["turn", "paused", "worker", "host_permit", "host_breaker", "checkpoint_place"];
}

impl Tracer {
    /// Traces go to this sink.
    pub fn new(rules: TraceRules, sink: Arc<dyn TraceSink>) -> Self {
        Self(Some(Arc::new(Inner { rules, exports: true, sink })))
    }

    /// Failed and slow calls, and those that somebody follows, go to this sink. None is sampled, and the trace contexts of calls
    /// stay as they come.
    pub fn keeping(rules: TraceRules, sink: Arc<dyn TraceSink>) -> Self {
        Self(Some(Arc::new(Inner { rules, exports: false, sink })))
    }

    /// Decides whether a call that comes from outside is sampled. Notes it in its trace context, which begins here unless the
    /// caller has one.
    pub(crate) fn begin(&self, context: &mut String) -> bool {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.exports) else { return false };
        let (parent, rules) = (SpanContext::parse(context), &inner.rules);
        let is_sampled = match parent {
            Some(parent) if rules.parent_based => return parent.is_sampled,
            Some(parent) => rules.hits(parent.trace_id),
            None => chance() < rules.ratio,
        };
        match parent {
            Some(parent) if parent.is_sampled != is_sampled => {
                *context = SpanContext { is_sampled, ..parent }.with_state_of(context);
            }
            None if is_sampled => {
                let trace_id = inner.sink.draw();
                *context = SpanContext { trace_id, span_id: 0, is_sampled }.with_state_of("");
            }
            _ => {}
        }
        is_sampled
    }

    /// The trace of a call with this context. `is_linked`: nobody waits for it, so it is a trace of its own, with a link to what
    /// caused it.
    pub(crate) fn trace(&self, context: &str, origin: CallOrigin, is_linked: bool) -> Trace {
        let Some(inner) = &self.0 else { return Trace::default() };
        if !inner.exports {
            return Trace { inner: Some(inner.clone()), origin, is_linked, ..Trace::default() };
        }
        let (parent, rules) = (SpanContext::parse(context), &inner.rules);
        let ids = parent
            .filter(|parent| parent.is_sampled)
            .map(|parent| Box::new(inner.ids(Some(parent), is_linked)));
        let may_be_kept = rules.failed || rules.slow.is_some();
        let is_kept = may_be_kept && (parent.is_none() || rules.overrides_parent);
        let inner = (ids.is_some() || is_kept).then(|| inner.clone());
        Trace { inner, ids, origin, is_linked, ..Trace::default() }
    }
}

impl TraceRules {
    /// Whether a trace is in the part that is sampled, as samplers of OpenTelemetry decide it.
    fn hits(&self, trace_id: u128) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "as many digits as a ratio has")]
        let place = ((trace_id & u128::from(u64::MAX)) >> 1) as f64 / (1_u64 << 63) as f64;
        place < self.ratio
    }
}

impl Inner {
    fn ids(&self, context: Option<SpanContext>, is_linked: bool) -> Ids {
        let new = Ids { trace_id: 0, span_id: self.draw_span(), parent: None, link: None };
        match context {
            None => Ids { trace_id: self.sink.draw(), ..new },
            // It begins here.
            Some(SpanContext { trace_id, span_id: 0, .. }) => Ids { trace_id, ..new },
            Some(SpanContext { trace_id, span_id, .. }) if is_linked => {
                Ids { trace_id: self.sink.draw(), link: Some((trace_id, span_id)), ..new }
            }
            Some(SpanContext { trace_id, span_id, .. }) => {
                Ids { trace_id, parent: Some(span_id), ..new }
            }
        }
    }

    fn draw_span(&self) -> u64 {
        u64::try_from(self.sink.draw() & u128::from(u64::MAX)).unwrap_or(1).max(1)
    }
}

impl Trace {
    /// Whether it is exported, perhaps.
    pub(crate) fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// The same trace, of a call that this request makes.
    #[must_use]
    pub(crate) fn of_request(self, request: RequestId) -> Self {
        Self { request, ..self }
    }

    /// Which request made the call.
    pub(crate) fn request(&self) -> &RequestId {
        &self.request
    }

    /// Whether somebody follows the calls of this actor.
    pub(crate) fn is_followed(&self, actor: &ActorRef) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.sink.is_followed(actor))
    }

    /// Notes that the call has reached something, so long after it began.
    pub(crate) fn mark(&self, mark: Mark, after: Duration) {
        self.marks.set(mark, after);
    }

    /// Notes that it is parked, to be tried again.
    pub(crate) fn parked(&self, of: RetryOf, after: Duration) {
        self.marks.parked(of, after);
    }

    /// Notes what it waits for in its mailbox.
    pub(crate) fn waits_for(&self, what: FirstWait) {
        self.first_wait.store(what as u8 + 1, Ordering::Relaxed);
    }

    /// Begins with the next actor. Returns the times at the last one.
    pub(crate) fn next_hop(&self) -> Times {
        self.first_wait.store(0, Ordering::Relaxed);
        self.marks.take()
    }

    /// The trace context of what a stage at one actor of the call's route causes; `None`: that of its caller stays.
    pub(crate) fn context(&self, hop: usize, stage: Stage, of_caller: &str) -> Option<String> {
        let Ids { trace_id, span_id: root, .. } = **self.ids.as_ref()?;
        let span_id = span_id(root, hop, stage);
        Some(SpanContext { trace_id, span_id, is_sampled: true }.with_state_of(of_caller))
    }
}

#[cfg(test)]
mod tests;
