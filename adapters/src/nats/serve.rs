//! Serve: takes the calls of other systems for those that are registered here.
//!
//! There is one subscription for each registered system. A call that nobody here has capacity for is answered at once. A call
//! that came this way never goes to another system.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tidegate_stages::error::Error;
use tidegate_stages::identity::{Identity, PeerAddress};
use tidegate_stages::invocation::ActorInvocationResponse;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Bus, BusError, BusMessage, BusSubscription, Delivered};
use tidegate_stages::request_id::RequestId;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::calls::ACCEPTED;
use super::metrics::CallsIn;
use super::{context, subject, systems, told};
use crate::ingress::http::Refusal;
use crate::wire::{self, Malformed};

/// How long messages that are on their way to an ended subscription are waited for.
const LAST_MESSAGES: Duration = Duration::from_secs(2);
/// When a caller may come back that found no place.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The calls of other systems; see the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NatsServing {
    mesh: Mesh,
    bus: Arc<dyn Bus>,
    free: Arc<Semaphore>,
    calls: TaskTracker,
    leaving: CancellationToken,
    counted: CallsIn,
}

impl NatsServing {
    /// Begins to take calls, at most so many at the same time.
    pub fn start(mesh: Mesh, bus: Arc<dyn Bus>, at_once: usize) -> Self {
        let serving = Self {
            mesh,
            bus,
            free: Arc::new(Semaphore::new(at_once)),
            calls: TaskTracker::new(),
            leaving: CancellationToken::new(),
            counted: CallsIn::new(),
        };
        serving.calls.spawn(serving.clone().follow());
        serving
    }

    /// Asks for no more calls. Those that are here, or on their way, are answered.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Waits up to `limit` until all calls are answered, given that no more are asked for.
    pub async fn finish(&self, limit: Duration) {
        self.calls.close();
        if timeout(limit, self.calls.wait()).await.is_err() {
            warn!("not all calls of other actor systems are answered");
        }
    }

    /// Keeps a subscription for each registered system.
    async fn follow(self) {
        let begin = |system, stop| {
            self.calls.spawn(self.clone().serve(system, stop));
        };
        systems::follow(&self.mesh, &self.leaving, begin).await;
    }

    /// Takes the calls of one system.
    async fn serve(self, system: String, stop: CancellationToken) {
        let subject = subject::actions(&system);
        let subscribed = systems::subscribe(&*self.bus, &subject, Some(&subject), &stop).await;
        let Some(mut subscription) = subscribed else { return };
        info!(system, "calls of other actor systems are taken");
        while let Some(Some(call)) = stop.run_until_cancelled(subscription.next()).await {
            self.take(&system, call).await;
        }
        let rest = self.take_rest(&system, &mut *subscription);
        if timeout(LAST_MESSAGES, rest).await.is_err() {
            warn!(system, "the subscription did not end in time");
        }
    }

    async fn take_rest(&self, system: &str, subscription: &mut dyn BusSubscription) {
        subscription.close().await;
        while let Some(call) = subscription.next().await {
            self.take(system, call).await;
        }
    }

    /// Runs a call in a task of its own, or refuses it.
    async fn take(&self, system: &str, call: Delivered) {
        let Ok(place) = self.free.clone().try_acquire_owned() else {
            let reason =
                "too many calls of other actor systems are under way (TIDEGATE_NATS_CALLS)";
            let error = Error::Overloaded { reason: reason.into(), retry_after: RETRY_AFTER };
            self.counted.refused.increment(1);
            return self.answer(call.reply, Err(error.into())).await;
        };
        let (serving, system) = (self.clone(), system.to_owned());
        self.calls.spawn(async move {
            let Delivered { message, reply } = call;
            let run = AssertUnwindSafe(serving.run(&system, message));
            let outcome = run.catch_unwind().await.unwrap_or_else(|_| {
                // The panic hook has logged the place and the cause.
                error!("a call of another actor system ended in a panic");
                Err(Error::Internal("a defect ended this call".into()).into())
            });
            let count = if outcome.is_ok() { &serving.counted.ok } else { &serving.counted.error };
            count.increment(1);
            serving.answer(reply, outcome).await;
            drop(place);
        });
    }

    /// Runs a call. Returns the body of its answer.
    async fn run(&self, system: &str, message: BusMessage) -> Result<Bytes, Refusal> {
        let traceparent = context::of(&message);
        let mut invocation = wire::invocation(message.body)?.invocation;
        if invocation.actor.system != system {
            let field = "InvocationRequest.system".into();
            let reason = format!("is not that of the subject: {:?}", invocation.actor.system);
            return Err(Malformed::Wrong { field, reason }.into());
        }
        invocation.identity = Identity::of(PeerAddress::Nats);
        invocation.traceparent = traceparent;
        invocation.request = RequestId::make();
        let is_awaited = !invocation.asynchronous && invocation.scheduled_to == 0;
        let actor = invocation.actor.clone();
        // What another system is told names no host.
        let announced = self.mesh.announce(&invocation.identity, system)?;
        let called = self.mesh.invoke_announced(invocation, announced).await;
        let payload = called.map_err(Refusal::without_hosts)?;
        if !is_awaited {
            return Ok(Bytes::from_static(ACCEPTED));
        }
        let response = ActorInvocationResponse { payload, ..ActorInvocationResponse::default() };
        Ok(wire::encode_action_response(actor, response))
    }

    /// Answers a call whose sender waits.
    async fn answer(&self, reply: Option<String>, outcome: Result<Bytes, Refusal>) {
        let Some(reply) = reply else { return };
        let message = match &outcome {
            Ok(body) => BusMessage { headers: Vec::new(), body: body.clone() },
            Err(refusal) => told::message(refusal),
        };
        let mut sent = self.bus.publish(reply.clone(), message).await;
        if let Err(error @ BusError::TooLarge { .. }) = &sent {
            let refusal = match outcome {
                Ok(_) => {
                    let text = format!(
                        "the action ran, but its answer cannot be sent: {error} (max_payload of NATS)"
                    );
                    Refusal::from(Error::TooLarge(text)).of_lost_answer()
                }
                Err(refusal) => refusal.without_body(),
            };
            sent = self.bus.publish(reply, told::message(&refusal)).await;
        }
        if let Err(error) = sent {
            warn!(%error, "a call of another actor system is not answered");
        }
    }
}
