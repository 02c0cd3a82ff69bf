//! Invoke: hands an invocation to the user function and brings its response back.
//!
//! The only room that waits for user code, hence the only one with a host limit. A caller's own
//! deadline is shorter and ends only its reply, never the call: the actor stays taken until its host
//! has answered, its connection died or the limit passed (decision 2).

use std::time::Duration;

use metrics::{Histogram, histogram};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tracing::{Instrument, debug_span, warn};

use crate::actor::ActorId;
use crate::caller::Call;
use crate::error::Error;
use crate::invocation::{ActorInvocation, ActorInvocationResponse, Metadata, Payload};
use crate::lookup::{CheckedOut, Halt};
use crate::metrics::INVOKE_DURATION_SECONDS;
use crate::ports::{Host, HostError};

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Invoke<H> {
    host: H,
    host_limit: Duration,
    duration: Histogram,
}

impl<H: Host> Invoke<H> {
    pub(crate) fn new(host: H, host_limit: Duration) -> Self {
        Self { host, host_limit, duration: histogram!(INVOKE_DURATION_SECONDS) }
    }

    /// Runs the actor's init action, if it has one; called once per activation, before the first call.
    /// Only its state and tags count, and its failure is the user function's business.
    pub(crate) async fn init(
        &self,
        actor: &CheckedOut,
    ) -> Result<Option<ActorInvocationResponse>, Halt> {
        let Some(action) = actor.spec.hosted.definition.init_action() else { return Ok(None) };
        let invocation = ActorInvocation {
            caller: Some(ActorId::clone(&actor.spec.id)),
            self_has_parent: false,
            payload: Payload::Noop,
            ..request(actor, action.to_owned(), Metadata::new())
        };
        match self.host(invocation).await {
            Ok(response) => Ok(Some(response)),
            Err(Error::Host(error)) if error.is_unsent() => Err(Halt::again(error)),
            Err(error) => {
                warn!(actor = %actor.entry.actor, %error, "init action failed");
                Ok(None)
            }
        }
    }

    /// Runs the action of a call, at most once. Takes nothing from the call that a second try would need.
    pub(crate) async fn call(
        &self,
        actor: &CheckedOut,
        call: &Call,
    ) -> Result<ActorInvocationResponse, Halt> {
        let definition = &actor.spec.hosted.definition;
        if !definition.knows(&call.action) {
            // The definition was replaced while the call waited.
            let (actor, action) = (actor.entry.actor.name().to_owned(), call.action.clone());
            return Err(Halt::end(Error::ActionNotFound { actor, action }));
        }
        if definition.is_default_action(&call.action) {
            let payload = actor.live.content.state.clone().map_or(Payload::Unset, Payload::Value);
            let tags = actor.live.content.tags.clone();
            return Ok(ActorInvocationResponse {
                tags,
                payload,
                ..ActorInvocationResponse::default()
            });
        }
        let invocation = ActorInvocation {
            caller: call.caller.clone(),
            payload: call.payload.clone(),
            traceparent: call.traceparent.clone(),
            ..request(actor, call.action.clone(), call.metadata.clone())
        };
        // Its client may have gone, or given it up, while the actor was activated.
        if call.is_gone() || !call.timing.start() {
            let why = "it was given up before".into();
            return Err(Halt::end(Error::NotStarted(call.timing.elapsed(), why)));
        }
        let span = debug_span!("invoke", actor = %actor.entry.actor, action = call.action);
        match self.host(invocation).instrument(span).await {
            Ok(response) => Ok(response),
            Err(Error::Host(error)) if error.is_unsent() => {
                if call.route.is_empty() {
                    call.timing.unsent();
                }
                Err(Halt::again(error))
            }
            Err(error) => Err(Halt::end(error)),
        }
    }

    async fn host(&self, invocation: ActorInvocation) -> Result<ActorInvocationResponse, Error> {
        let started = Instant::now();
        let mut host = self.host.clone();
        let answered =
            timeout(self.host_limit, async move { host.ready().await?.call(invocation).await });
        let answered: Result<Result<_, HostError>, _> = answered.await;
        self.duration.record(started.elapsed());
        Ok(answered.map_err(|_| Error::NoAnswer(self.host_limit))??)
    }
}

/// What every invocation of an actor has in common.
fn request(actor: &CheckedOut, action: String, metadata: Metadata) -> ActorInvocation {
    ActorInvocation {
        host: actor.spec.hosted.definition.host.clone(),
        actor: actor.spec.id.clone(),
        action,
        state: actor.live.content.state.clone(),
        tags: actor.live.content.tags.clone(),
        metadata,
        caller: None,
        self_has_parent: true,
        payload: Payload::Unset,
        traceparent: String::new(),
    }
}
