//! Traced: what the trace of a call needs to know of it.

use crate::actor::{ActorId, ActorRef};
use crate::call::Call;
use crate::error::Error;
use crate::invocation::Invocation;
use crate::reply::{Deadlines, Timing};
use crate::traces::{CallOrigin, Ended, Times, Tracer};

/// An actor that has routed a call on.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    pub(crate) actor: ActorRef,
    /// The action that ran there.
    pub(crate) action: String,
    /// Who called it there.
    pub(crate) caller: Option<ActorId>,
    /// What it took there, when the call is traced and has left.
    pub(crate) times: Option<Times>,
}

impl Call {
    /// Exports the trace of the call, if it has one; `actor` is the last one that it came to. The call has ended.
    pub(crate) fn end_trace(&self, actor: &ActorRef, error: Option<&Error>) {
        self.end_trace_of(actor, error, false);
    }

    /// The same for a call that succeeded when its caller had gone. `error`: what such a caller is told.
    pub(crate) fn end_unheard_trace(&self, actor: &ActorRef, error: &Error) {
        self.end_trace_of(actor, Some(error), true);
    }

    fn end_trace_of(&self, actor: &ActorRef, error: Option<&Error>, is_unheard: bool) {
        if !self.timing.is_traced() {
            return;
        }
        let trace = self.timing.trace();
        let is_followed =
            trace.is_followed(actor) || self.route.iter().any(|hop| trace.is_followed(&hop.actor));
        trace.end(self.timing.elapsed(), error, is_followed, || {
            // Those who route a call on become its callers.
            let caller = self.route.first().map_or(&self.caller, |hop| &hop.caller);
            let mut passed: Vec<_> = Vec::with_capacity(self.route.len());
            let mut last = (actor.clone(), self.action.clone());
            for Hop { actor, action, times, .. } in self.route.iter().cloned() {
                match times {
                    Some(times) => passed.push((actor, action, times)),
                    // It never left that actor.
                    None => last = (actor, action),
                }
            }
            Ended {
                began: self.timing.began(),
                context: &self.traceparent,
                is_async: self.is_async,
                is_unheard,
                from: caller.as_ref().map(|caller| caller.name.clone()),
                passed,
                last,
            }
        });
    }
}

/// A sampled call that may end before it is queued.
#[derive(Debug)]
pub(crate) struct Early {
    timing: Timing,
    context: String,
    is_async: bool,
    caller: Option<String>,
    actor: ActorId,
    action: String,
}

impl Early {
    /// Decides whether a call of a client is sampled; `None`: it is not.
    pub(crate) fn begin(tracer: &Tracer, invocation: &mut Invocation) -> Option<Box<Self>> {
        if !tracer.begin(&mut invocation.traceparent) {
            return None;
        }
        let context = invocation.traceparent.clone();
        let is_async = !invocation.is_awaited();
        let trace = tracer.trace(&context, CallOrigin::Client, is_async);
        Some(Box::new(Self {
            timing: Timing::traced(Deadlines::default(), None, trace),
            context,
            is_async,
            caller: invocation.caller.as_ref().map(|caller| caller.name.clone()),
            actor: invocation.actor.clone(),
            action: invocation.action.clone(),
        }))
    }

    /// Exports it. `timing` is its own when it was admitted.
    pub(crate) fn end(self, timing: Option<&Timing>, error: Option<&Error>) {
        let timing = timing.unwrap_or(&self.timing);
        let Self { context, is_async, caller, actor, action, .. } = &self;
        timing.trace().end(timing.elapsed(), error, false, || Ended {
            began: timing.began(),
            context,
            is_async: *is_async,
            is_unheard: false,
            from: caller.clone(),
            passed: Vec::new(),
            last: (ActorRef::new(&actor.system, &actor.name), action.clone()),
        });
    }
}
