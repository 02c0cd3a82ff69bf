//! Effects: sends planned side effects once their commit is durable, one at a time per target, in order.
//!
//! They have a bound of their own. The failure of one effect changes no other effect, nor the reply of the call that asked
//! for it. Effects are kept in memory only.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use metrics::counter;
use tidegate_pipeline::{Bound, Drain, Full, Hold, KeyedOptions, KeyedProducer, Turn};
use tokio::time::sleep;
use tower::{Service, ServiceExt};
use tracing::warn;

use crate::call::{Origin, PlannedEffect, Request};
use crate::caller::CallerService;
use crate::error::Error;
use crate::metrics::EFFECTS_TOTAL;
use crate::placement::Mailboxes;

/// Where durable effects go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EffectsSender {
    pub(crate) queue: KeyedProducer<PlannedEffect>,
}

impl EffectsSender {
    /// A sender that holds at most that many effects.
    pub(crate) fn new(bound: Bound) -> Self {
        let (name, per_key) = ("side_effects", bound.events);
        let options = KeyedOptions { name, bound, per_key, full: Full::Shed };
        Self { queue: KeyedProducer::new(options) }
    }

    /// Queues an effect that has its permit already.
    pub(crate) fn send(&self, effect: PlannedEffect) {
        if let Err(rejected) = self.queue.push_exempt(effect) {
            warn!(target = %rejected.event.target, "side effect dropped: the proxy has shut down");
            counter!(EFFECTS_TOTAL, "outcome" => "dropped").increment(1);
        }
    }
}

/// Delivers effects: the service behind [`EffectsSender`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Deliver {
    pub(crate) caller: CallerService,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) tasks: Drain,
}

impl Deliver {
    async fn deliver(self, mut effect: PlannedEffect, hold: Hold<PlannedEffect>) {
        let Err(error) = self.admit(&effect).await else {
            counter!(EFFECTS_TOTAL, "outcome" => "sent").increment(1);
            return;
        };
        // Draining: admission closed in between; next time the effect is exempt.
        let again = matches!(error, Error::Overloaded { .. } | Error::Store(_) | Error::Draining);
        if let Some(pause) = effect.retries.next().filter(|_| again) {
            // The target's effects keep their order, those of other targets go on meanwhile.
            let parked = hold.park();
            self.tasks.spawn(async move {
                sleep(pause).await;
                parked.resume(effect);
            });
            return;
        }
        counter!(EFFECTS_TOTAL, "outcome" => "failed").increment(1);
        warn!(source = %effect.source.actor, target = %effect.target, %error, "side effect not delivered");
    }

    async fn admit(&self, effect: &PlannedEffect) -> Result<(), Error> {
        let (invocation, source) = (effect.invocation.clone(), effect.source.actor.clone());
        let request = Request { invocation, origin: Origin::Inside(source) };
        let admitted = self.caller.clone().oneshot(request).await?;
        self.mailboxes.clone().oneshot(admitted).await.map(drop)
    }
}

impl Service<Turn<PlannedEffect>> for Deliver {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, turn: Turn<PlannedEffect>) -> Self::Future {
        let stage = self.clone();
        Box::pin(async move {
            let (effect, hold) = turn.into_parts();
            stage.deliver(effect, hold).await;
            Ok(())
        })
    }
}
