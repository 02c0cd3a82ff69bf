//! Invoke: hands an activated turn to the user function and brings its response back.
//!
//! In [`Activated`], out [`Invoked`], through the [`Host`] port. The only stage that waits for user code, hence the only
//! one with a host limit. A caller's own deadline is shorter and ends only its reply, never the call: the actor stays
//! taken until its host has answered, its connection died or the limit passed (decision 2).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{Histogram, histogram};
use tidegate_pipeline::alarm::Alarms;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tracing::{Instrument, debug_span, warn};

use crate::actor::ActorId;
use crate::call::{Activated, Call, Failed, Invoked, StageResult, Task};
use crate::error::Error;
use crate::invocation::{ActorInvocation, ActorInvocationResponse, Metadata, Payload};
use crate::metrics::INVOKE_DURATION_SECONDS;
use crate::places::Place;
use crate::places::answering::Answering;
use crate::ports::{Host, HostError};
use crate::registry::entry::CheckedOut;
use crate::reply::{SignalHandle, Timing};
use crate::signal::Signal;
use crate::topics::event::published;
use crate::traces::Stage;

/// Timers that are kept for the next calls: each keeps some memory of the task that had it last, until it rings.
const KEPT_ALARMS: usize = 256;

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug)]
pub(crate) struct Invoke<H>(Arc<Inner<H>>);

#[derive(Debug)]
struct Inner<H> {
    host: H,
    host_limit: Duration,
    max_pending_effects: u32,
    duration: Histogram,
    /// Timers of the host limit.
    alarms: Alarms,
}

impl<H> Clone for Invoke<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Host> Invoke<H> {
    /// `host_limit`: how long a host may take for one action. `max_pending_effects`: see [`ChangeRules`](crate::rules::ChangeRules).
    pub(crate) fn new(host: H, host_limit: Duration, max_pending_effects: u32) -> Self {
        let duration = histogram!(INVOKE_DURATION_SECONDS);
        let alarms = Alarms::keeping(KEPT_ALARMS);
        Self(Arc::new(Inner { host, host_limit, max_pending_effects, duration, alarms }))
    }
}

impl<H: Host> Inner<H> {
    async fn invoke(&self, mut activated: Box<Activated>) -> StageResult<Invoked> {
        let Activated { actor, task, place, .. } = &mut *activated;
        let outcome = match task {
            Task::Call(call) if has_seen(actor, call) => Ok(None),
            Task::Call(call) => {
                let outcome = self.call(actor, call, place).await;
                match (outcome, &mut call.effect) {
                    // A complete answer, however useless, answers an effect (decision 18 f).
                    (Err((Error::Host(error), _)), Some(effect)) if error.is_answer() => {
                        effect.failed = Some(error.into());
                        Ok(None)
                    }
                    (outcome, _) => outcome.map(Some),
                }
            }
            // Boxed: few turns need it.
            Task::Init(signal) => {
                let signal = signal.as_ref();
                Box::pin(self.initialise(actor, place, signal)).await
            }
            _ => Ok(None),
        };
        match outcome {
            Ok(response) => Ok(Invoked { activated, response }),
            Err((error, fail)) => Err(activated.fail(|placed| fail(placed, error))),
        }
    }

    /// Runs the actor's init action, once per activation, before the first call. When the user function fails there is no
    /// response, and the actor goes on.
    async fn initialise(
        &self,
        actor: &mut CheckedOut,
        place: &mut Option<Place>,
        signal: Option<&SignalHandle>,
    ) -> Result<Option<Box<ActorInvocationResponse>>, (Error, FailWith)> {
        let Some(action) = actor.spec.hosted.definition.init_action() else { return Ok(None) };
        let invocation = ActorInvocation {
            caller: Some(ActorId::clone(&actor.spec.id)),
            self_has_parent: false,
            payload: Payload::Noop,
            ..request(actor, action.to_owned(), Metadata::new())
        };
        let answered = self.host(invocation, place, None);
        let answered = match signal {
            Some(signal) => or_cancelled(pin!(answered), signal).await,
            None => answered.await,
        };
        let response = match answered {
            Ok(response) => Some(response),
            // The action of the call did not run. The next call runs the init action again.
            Err(Error::CancelledRunning) => {
                return Err((Error::Cancelled, Failed::before_action));
            }
            Err(Error::Host(error)) if error.is_unsent() => {
                return Err((error.into(), Failed::retryable));
            }
            Err(error) => {
                let request_id = signal.and_then(|signal| signal.request().field());
                warn!(actor = %actor.entry.actor, %error, request_id, "init action failed");
                None
            }
        };
        actor.live.initialised = true;
        Ok(response)
    }

    /// Runs the action of a call, at most once. Takes nothing from the call that a second try would need.
    async fn call(
        &self,
        actor: &CheckedOut,
        call: &Call,
        place: &mut Option<Place>,
    ) -> Result<Box<ActorInvocationResponse>, (Error, FailWith)> {
        let definition = &actor.spec.hosted.definition;
        if !definition.knows(&call.action) {
            // The definition was replaced while the call waited.
            let (actor, action) = (actor.entry.actor.name().to_owned(), call.action.clone());
            return Err((Error::ActionNotFound { actor, action }, Failed::before_action));
        }
        if definition.is_default_action(&call.action) {
            let payload = actor.live.content.state.clone().map_or(Payload::Unset, Payload::Value);
            let tags = actor.live.content.tags.clone();
            let rest = ActorInvocationResponse::default();
            return Ok(Box::new(ActorInvocationResponse { tags, payload, ..rest }));
        }
        to_own_task().await;
        let invocation = ActorInvocation {
            caller: call.caller.clone(),
            payload: call.payload.clone(),
            traceparent: call.timing.context(call.route.len(), Stage::Invoke, &call.traceparent),
            ..request(actor, call.action.clone(), call.metadata.clone())
        };
        if call.timing.signal().is_cancelled() {
            return Err((Error::Cancelled, Failed::before_action));
        }
        let pending = &actor.entry.pending_effects;
        if pending.is_full(self.max_pending_effects, call.effect.is_some()) {
            let reason = format!("too many side effects of {} wait to be sent", actor.entry.actor);
            let retry_after = Duration::from_secs(1);
            return Err((Error::Overloaded { reason, retry_after }, Failed::before_action));
        }
        // Its client may have gone, or given it up, while the actor was activated.
        if call.is_gone() || !call.timing.start() {
            let why = "it was given up before".into();
            let error = Error::NotStarted(call.timing.elapsed(), why);
            return Err((error, Failed::before_action));
        }
        if actor.entry.topic.is_some() {
            call.timing.answered(Instant::now());
            return Ok(Box::new(published(actor.entry.actor.name(), call)));
        }
        let span = debug_span!("invoke", actor = %actor.entry.actor, action = call.action);
        // Pinned here: a future that is passed on by value is stored once more.
        let answered = pin!(self.host(invocation, place, Some(&call.timing)).instrument(span));
        match or_cancelled(answered, call.timing.signal()).await {
            Ok(response) => Ok(response),
            Err(Error::Host(error)) if error.is_unsent() => {
                call.timing.unsent(!call.route.is_empty());
                Err((error.into(), Failed::retryable))
            }
            Err(error) => Err((error, Failed::after_action)),
        }
    }

    /// Calls the host, and notes in the timing of the call that it has answered. The place of the turn is as large as the answer
    /// then.
    async fn host(
        &self,
        mut invocation: ActorInvocation,
        place: &mut Option<Place>,
        timing: Option<&Timing>,
    ) -> Result<Box<ActorInvocationResponse>, Error> {
        let started = Instant::now();
        let mut host = self.host.clone();
        let answering = Answering::new(place.as_ref());
        invocation.answer = Some(answering.clone());
        // Boxed at once: it passes many futures.
        let answered =
            pin!(async move { host.ready().await?.call(invocation).await.map(Box::new) });
        let answered: Option<Result<_, HostError>> =
            answering.within((started, self.host_limit), &self.alarms, answered).await;
        answering.end(place);
        let ended = Instant::now();
        self.duration.record(ended.saturating_duration_since(started));
        let answer = answered.ok_or(Error::NoAnswer(self.host_limit))??;
        if let Some(timing) = timing {
            timing.answered(ended);
        }
        Ok(answer)
    }
}

/// Whether a call delivers an effect that its actor has answered: it is not run again.
fn has_seen(actor: &CheckedOut, call: &Call) -> bool {
    let effect = call.effect.as_ref();
    effect.is_some_and(|effect| actor.live.has_seen(&effect.source, effect.id))
}

/// Is not ready at first. A worker polls a turn once and then moves it to a task of its own: the host is called there, by the
/// task that its answer wakes.
async fn to_own_task() {
    let mut is_there = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_there, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for a host call. Drops the call and its connection when its turn is cancelled.
async fn or_cancelled<T>(
    mut answered: Pin<&mut impl Future<Output = Result<T, Error>>>,
    signal: &Signal,
) -> Result<T, Error> {
    poll_fn(|cx| match answered.as_mut().poll(cx) {
        Poll::Pending => signal.poll_cancelled(cx).map(|()| Err(Error::CancelledRunning)),
        ready @ Poll::Ready(_) => ready,
    })
    .await
}

/// How a turn fails.
type FailWith = fn(crate::call::Placed, Error) -> Box<Failed>;

/// What every invocation of an actor has in common.
fn request(actor: &CheckedOut, action: String, metadata: Metadata) -> ActorInvocation {
    ActorInvocation {
        host: actor.spec.hosted.address().clone(),
        encoding: actor.spec.hosted.definition.encoding,
        actor: actor.spec.id.clone(),
        action,
        state: actor.live.content.state.clone(),
        tags: actor.live.content.tags.clone(),
        metadata,
        caller: None,
        self_has_parent: true,
        payload: Payload::Unset,
        traceparent: String::new(),
        answer: None,
    }
}

impl<H: Host> Service<Box<Activated>> for Invoke<H> {
    type Response = Invoked;
    type Error = Box<Failed>;
    type Future = BoxFuture<'static, StageResult<Invoked>>;

    /// The permit of the turn's host was taken at the grant: see [`Placed::host_limit`](crate::call::Placed).
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Box<Failed>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, activated: Box<Activated>) -> Self::Future {
        let stage = self.0.clone();
        Box::pin(async move { stage.invoke(activated).await })
    }
}
