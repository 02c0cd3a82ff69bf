//! Spans: what is exported of a call that has ended.

use std::time::Duration;

use tokio::time::Instant;

use super::context::{SpanContext, split};
use super::marks::{Mark, Times, micros};
use super::{CallOrigin, FirstWait, Ids, Inner, Trace};
use crate::actor::ActorRef;
use crate::blocked_on::RetryOf;
use crate::error::Error;
use crate::request_id::RequestId;

/// A call that has ended: its root span, with those of its stages below it.
#[derive(Debug, Clone)]
pub struct TracedCall {
    /// Its trace.
    pub trace_id: u128,
    /// The id of its root span.
    pub span_id: u64,
    /// The span of its caller, which waited for it.
    pub parent: Option<u64>,
    /// The trace and the span of what caused it, when nobody waited for it.
    pub link: Option<(u128, u64)>,
    /// The `tracestate` of its caller.
    pub state: String,
    /// What made it.
    pub origin: CallOrigin,
    /// Whether nobody waited for its answer.
    pub is_async: bool,
    /// Which request made it.
    pub request: RequestId,
    /// Whether it was sampled. If not, it has failed or was slow, or somebody follows its actor.
    pub is_sampled: bool,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// The actor that made it.
    pub from: Option<String>,
    /// The actors that it passed: one, unless it was piped or forwarded.
    pub hops: Vec<TracedHop>,
    /// Why it failed.
    pub error: Option<Error>,
}

/// What a call did at one actor.
#[derive(Debug, Clone)]
pub struct TracedHop {
    /// The actor.
    pub actor: ActorRef,
    /// Its action.
    pub action: String,
    /// The stages that the call came to, in order.
    pub stages: Vec<TracedStage>,
}

/// What a call did in one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedStage {
    /// Its name.
    pub name: &'static str,
    /// The id of its span.
    pub span_id: u64,
    /// When the call came to it, after the call began.
    pub starts: Duration,
    /// How long it waited there.
    pub queued: Duration,
    /// How long it was worked on, after that.
    pub served: Duration,
    /// What it waited for, and for how long.
    pub blocked_on: Vec<(&'static str, Duration)>,
    /// How often it was tried again.
    pub retries: u32,
    /// Whether the call failed there.
    pub is_failed: bool,
}

/// A stage that has a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Caller,
    Lookup,
    Invoke,
    SideEffects,
    Checkpoint,
}

/// The id of a stage's span. It is made from that of the root, so it is known before the span is, and is kept nowhere.
pub(crate) fn span_id(root: u64, hop: usize, stage: Stage) -> u64 {
    // SplitMix64: one root gives each of its spans another number.
    let place = (hop as u64) << 3 | (stage as u64 + 1);
    let seed = root.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}

/// What is known of a call that has ended, beside its trace.
pub(crate) struct Ended<'a> {
    pub(crate) began: Instant,
    /// The trace context that it came with.
    pub(crate) context: &'a str,
    pub(crate) is_async: bool,
    /// Whether the error of the call says only that its caller had gone: no stage failed, and what was to be written is durable.
    pub(crate) is_unheard: bool,
    pub(crate) from: Option<String>,
    /// The actors before the last one.
    pub(crate) passed: Vec<(ActorRef, String, Times)>,
    pub(crate) last: (ActorRef, String),
}

impl Trace {
    /// Exports the call, if it is one to be exported. Call it once, when the call has ended.
    pub(crate) fn end<'a>(
        &self,
        took: Duration,
        error: Option<&Error>,
        is_followed: bool,
        ended: impl FnOnce() -> Ended<'a>,
    ) {
        let Some(inner) = &self.inner else { return };
        let is_kept = self.ids.is_some() || inner.keeps(took, error);
        if !is_kept && !is_followed {
            return;
        }
        let Ended { began, context, is_async, is_unheard, from, passed, last } = ended();
        let (actor, action) = last;
        let ids = self.ids.as_deref().copied();
        let ids = ids.unwrap_or_else(|| inner.ids(SpanContext::parse(context), self.is_linked));
        let Ids { trace_id, span_id, parent, link } = ids;
        let mut hops: Vec<TracedHop> = Vec::with_capacity(passed.len() + 1);
        let mut passed = passed.into_iter().peekable();
        let times = self.marks.end(took);
        while let Some((actor, action, at)) = passed.next() {
            let next = passed.peek().map_or(&times, |(.., next)| next);
            let end = next.of(Mark::Placed).unwrap_or_else(|| micros(took));
            let stages = Stages { root: span_id, hop: hops.len(), times: &at, end, wait: None };
            hops.push(TracedHop { actor, action, stages: stages.all(false) });
        }
        let wait = self.first_wait();
        let end = micros(took);
        let stages = Stages { root: span_id, hop: hops.len(), times: &times, end, wait };
        hops.push(TracedHop { actor, action, stages: stages.all(error.is_some() && !is_unheard) });
        let call = TracedCall {
            trace_id,
            span_id,
            parent,
            link,
            state: split(context).1.to_owned(),
            origin: self.origin,
            is_async,
            request: self.request.clone(),
            is_sampled: self.ids.is_some(),
            began,
            took,
            from,
            hops,
            error: error.cloned(),
        };
        if is_kept {
            inner.sink.take(call);
        } else {
            inner.sink.follow(call);
        }
    }

    fn first_wait(&self) -> Option<&'static str> {
        let number = self.first_wait.load(std::sync::atomic::Ordering::Relaxed).checked_sub(1)?;
        FirstWait::NAMES.get(usize::from(number)).copied()
    }
}

impl Inner {
    fn keeps(&self, took: Duration, error: Option<&Error>) -> bool {
        let is_slow = self.rules.slow.is_some_and(|slow| took >= slow);
        is_slow || self.rules.failed && error.is_some()
    }
}

/// What the spans of one hop are made of.
struct Stages<'a> {
    root: u64,
    hop: usize,
    times: &'a Times,
    /// When the call left this actor.
    end: u32,
    wait: Option<&'static str>,
}

impl Stages<'_> {
    fn all(&self, has_failed: bool) -> Vec<TracedStage> {
        let mut all = Vec::with_capacity(5);
        let at = |mark| self.times.of(mark);
        let mut is_over = false;
        if self.hop == 0 {
            let reserved = at(Mark::Reserved);
            let mut stage = self.stage(Stage::Caller, 0, reserved, at(Mark::Placed));
            if reserved.is_some() {
                stage.blocked_on.push(("admission", stage.queued));
            }
            is_over = at(Mark::Placed).is_none();
            stage.is_failed = is_over && has_failed;
            all.push(stage);
        }
        // Each begins where the one before it ended.
        let rest = [
            (Stage::Lookup, Mark::Placed, Some(Mark::Granted), Mark::Activated),
            (Stage::Invoke, Mark::Activated, Some(Mark::Called), Mark::Answered),
            (Stage::SideEffects, Mark::Answered, None, Mark::Planned),
        ];
        for (name, from, served, to) in rest {
            let Some(start) = at(from).filter(|_| !is_over) else { break };
            let mut stage = self.stage(name, start, served.and_then(at), at(to));
            if name == Stage::Lookup {
                self.waited(&mut stage);
            }
            is_over = at(to).is_none();
            stage.is_failed = is_over && has_failed;
            all.push(stage);
        }
        if let Some(planned) = at(Mark::Planned)
            && let Some(writing) = at(Mark::Writing).or_else(|| has_failed.then_some(self.end))
        {
            let mut stage = self.stage(Stage::Checkpoint, planned, Some(writing), None);
            stage.blocked_on.push(("commit", stage.queued));
            stage.is_failed = has_failed;
            all.push(stage);
        }
        all
    }

    /// A stage from `start` to `end`, or until the call left. It is worked on since `served`, or at once.
    fn stage(
        &self,
        stage: Stage,
        start: u32,
        served: Option<u32>,
        end: Option<u32>,
    ) -> TracedStage {
        let end = end.unwrap_or(self.end).max(start);
        let never_served = stage == Stage::Lookup && served.is_none();
        let served = if never_served { end } else { served.unwrap_or(start).clamp(start, end) };
        let between = |from: u32, to: u32| Duration::from_micros(u64::from(to - from));
        TracedStage {
            name: match stage {
                Stage::Caller => "caller",
                Stage::Lookup => "lookup",
                Stage::Invoke => "invoke",
                Stage::SideEffects => "side_effects",
                Stage::Checkpoint => "checkpoint",
            },
            span_id: span_id(self.root, self.hop, stage),
            starts: between(0, start),
            queued: between(start, served),
            served: between(served, end),
            blocked_on: Vec::new(),
            retries: 0,
            is_failed: false,
        }
    }

    /// Adds what a call waited for in the mailbox: the next try of what failed, and before that its turn.
    fn waited(&self, stage: &mut TracedStage) {
        stage.retries = self.times.retries;
        let mut left = stage.queued;
        for (of, parked) in RetryOf::ALL.into_iter().zip(self.times.parked_us) {
            let parked = Duration::from_micros(u64::from(parked));
            if !parked.is_zero() {
                let name = match of {
                    RetryOf::Host => "retry_host",
                    RetryOf::Store => "retry_store",
                    RetryOf::Spawn => "retry_spawn",
                };
                left = left.saturating_sub(parked);
                stage.blocked_on.push((name, parked));
            }
        }
        if let Some(wait) = self.wait {
            stage.blocked_on.push((wait, left));
        }
    }
}
