//! Deliver: brings one effect to its target until that has answered, or the effect is dead.
//!
//! The (source, target) stays taken meanwhile, so that the next effect comes after this one; no slot of the consumer does. When
//! others need its place in memory, it [makes way](super::making_way). A
//! target that has a state recognises an effect that it has answered (see [`side_effects`](crate::side_effects)), so one
//! delivery too many does no harm.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Ready, ready};
use metrics::{Counter, counter};
use tidegate_pipeline::{Drain, KeyedEvent, Permit, Turn};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use super::Effects;
use super::source::{Delivered, Died, Source};
use super::stuck::Tries;
use crate::actor::ActorRef;
use crate::call::{Ack, EmittedEffect, Origin, Received, Request};
use crate::caller::CallerService;
use crate::due::DueWork;
use crate::elsewhere::Elsewhere;
use crate::error::Error;
use crate::invocation::{EFFECT_ID, Invocation};
use crate::metrics::EFFECTS_TOTAL;
use crate::outbox::record::{Dead, Record};
use crate::outbox::{EffectId, OutboxKey, OutboxRow};
use crate::placement::Mailboxes;
use crate::ports::Clock;
use crate::registry::pauses::Pauses;
use crate::state::Timestamp;
use crate::topics::append::Topics;
use crate::topics::event::topic_of;
use crate::traces::context::trace_id;

/// How long an effect waits at least whose target has as many calls as it may have.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// How long an effect is tried.
const LIFETIME: Duration = Duration::from_hours(24);

/// From which actor to which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    source: ActorRef,
    target: ActorRef,
}

/// What stays of its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) key: OutboxKey,
    id: EffectId,
    pub(super) bytes: usize,
}

/// An effect in memory.
#[derive(Debug)]
pub(crate) struct Delivery {
    path: Path,
    pub(super) row: Row,
    invocation: Invocation,
    pub(super) at: Timestamp,
    source: Arc<Source>,
    /// `None`: it leaves uncounted.
    effects: Option<Effects>,
    tries: Tries,
    _permit: Permit,
    /// What it counts for when its target was stuck.
    probe: Option<OwnedSemaphorePermit>,
}

impl Delivery {
    pub(super) fn new(
        effects: Effects,
        source: Arc<Source>,
        effect: EmittedEffect,
        permit: Permit,
    ) -> Self {
        let EmittedEffect { row, invocation, at } = effect;
        let target = ActorRef::new(&invocation.actor.system, &invocation.actor.name);
        let path = Path { source: source.actor.clone(), target };
        let row = Row { key: row.key, id: row.id, bytes: row.bytes() };
        let (effects, tries) = (Some(effects), Tries::default());
        Self { path, row, invocation, at, source, effects, tries, _permit: permit, probe: None }
    }

    /// It was tried before.
    pub(super) fn after(self, tries: Tries, probe: Option<OwnedSemaphorePermit>) -> Self {
        let mut again = self;
        (again.tries, again.probe) = (tries, probe);
        again
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn target(&self) -> &ActorRef {
        &self.path.target
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Whether its target was stuck, and is tried again.
    pub(super) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// How often it was tried.
    pub(super) fn attempts(&self) -> u32 {
        self.tries.attempts
    }

    /// Drops it uncounted.
    pub(super) fn forget(mut self) {
        self.effects = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(effects) = self.effects.take() {
            effects.left(&self.source, &self.path.target, self.row.key);
        }
    }
}

impl KeyedEvent for Delivery {
    type Key = Path;

    fn key(&self) -> &Path {
        &self.path
    }

    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
}

/// The service behind the queue of [`Effects`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Deliver(pub(crate) Arc<DeliverInner>);

#[derive(Debug)]
pub(crate) struct DeliverInner {
    pub(crate) effects: Effects,
    pub(crate) caller: CallerService,
    pub(crate) due: DueWork,
    pub(crate) elsewhere: Elsewhere,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) topics: Topics,
    pub(crate) tasks: Drain,
    pub(crate) delivered: Counter,
}

impl DeliverInner {
    async fn deliver(&self, mut delivery: Delivery) {
        let stop = &self.effects.0.stop;
        while !stop.is_cancelled() {
            let is_paused = self.pauses.is_paused(delivery.target());
            let may_call = async {
                self.pauses.resumed(delivery.target()).await;
                self.effects.may_call(&delivery).await
            };
            let call = tokio::select! {
                biased;
                call = may_call => call,
                () = self.effects.needs_place(&delivery) => {
                    let pause = (!is_paused).then(|| delivery.tries.delays.next_delay().max(LEAST_PAUSE));
                    match self.put_back(delivery, pause) {
                        Some(kept) => delivery = kept,
                        None => return,
                    }
                    continue;
                }
                () = stop.cancelled() => return,
            };
            let attempt = self.attempt_making_way(&delivery).await;
            drop(call);
            let Err(error) = attempt else {
                self.delivered.increment(1);
                let Row { key, bytes, .. } = delivery.row;
                return self.effects.answered(&delivery.source, Delivered { key, bytes });
            };
            let attempts = delivery.tries.attempts.saturating_add(1);
            delivery.tries.attempts = attempts;
            let now = self.clock.now();
            let since = self.pauses.counts_since(delivery.target(), delivery.at);
            let age = Duration::from_micros(now.0.saturating_sub(since.0));
            let is_too_old = age >= LIFETIME && !self.pauses.is_paused(delivery.target());
            if is_final(&error) || is_too_old {
                return self.die(&delivery, now, attempts, &error);
            }
            delivery.source.state.lock().tried(delivery.row.key, attempts);
            counter!(EFFECTS_TOTAL, "outcome" => "retried").increment(1);
            let Path { source, target } = &delivery.path;
            let trace_id = trace_id(&delivery.invocation.traceparent);
            debug!(%source, %target, %error, trace_id, "side effect not answered, it is delivered again");
            let next = Instant::now() + delivery.tries.delays.next_delay();
            loop {
                tokio::select! {
                    () = sleep_until(next) => break,
                    () = self.effects.needs_place(&delivery) => {
                        let left = next.saturating_duration_since(Instant::now());
                        match self.put_back(delivery, Some(left)) {
                            Some(kept) => delivery = kept,
                            None => return,
                        }
                    }
                    () = stop.cancelled() => break,
                }
            }
        }
    }

    /// Gives a delivery's place in memory to others. Returns it when it has to keep the place.
    fn put_back(&self, mut delivery: Delivery, pause: Option<Duration>) -> Option<Delivery> {
        let tries = std::mem::take(&mut delivery.tries);
        let (mut delivery, tries) = self.effects.put_back(delivery, tries, pause)?;
        delivery.tries = tries;
        Some(delivery)
    }

    /// An attempt. When it takes long, and others need places in memory, those behind it make way.
    async fn attempt_making_way(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut attempt = pin!(self.attempt(delivery));
        tokio::select! {
            outcome = &mut attempt => return outcome,
            () = self.effects.needs_place(delivery) => {}
        }
        self.effects.make_way(delivery);
        attempt.await
    }

    /// Has the target of an effect called once. An effect for a later time is handed over to the table of due work instead. The
    /// answer comes in every case, because the mesh ends each call that it admits.
    async fn attempt(&self, delivery: &Delivery) -> Result<(), Error> {
        let Delivery { path, row, source, .. } = delivery;
        let id = || format!("{}/{}", path.source, row.id);
        let effect = (source.name.clone(), row.id);
        if topic_of(&delivery.invocation.actor.name).is_some() {
            return self.topics.append(&delivery.invocation, id(), effect).await;
        }
        let is_elsewhere = self.elsewhere.takes(&delivery.invocation);
        if !is_elsewhere && self.due.is_later(&delivery.invocation, delivery.at) {
            // The source is done with an effect that was handed over; its target is called later.
            let invocation = delivery.invocation.clone();
            return self.due.hand_over(&path.source, row.id, invocation).await;
        }
        let mut invocation = delivery.invocation.clone();
        invocation.metadata.insert(EFFECT_ID.into(), id());
        let request = Request {
            invocation: Box::new(invocation),
            origin: Origin::Inside(path.source.clone()),
        };
        if is_elsewhere {
            return self.elsewhere.deliver(request).await;
        }
        let mut admitted = self.caller.clone().oneshot(request).await?;
        let (ack, answered) = Ack::new();
        let (source, id) = effect;
        admitted.effect = Some(Box::new(Received { source, id, ack, failed: None }));
        (&self.mailboxes).oneshot(admitted).await?;
        let dropped = || Error::Internal("the call was dropped on its way".into());
        answered.await.unwrap_or_else(|_| Err(dropped()))?;
        Ok(())
    }

    /// Makes it a dead letter, in the store too.
    fn die(&self, delivery: &Delivery, at: Timestamp, attempts: u32, error: &Error) {
        counter!(EFFECTS_TOTAL, "outcome" => "dead").increment(1);
        let Delivery { path: Path { source, target }, row, .. } = delivery;
        let trace_id = trace_id(&delivery.invocation.traceparent);
        warn!(%source, %target, id = %row.id, %error, trace_id, "side effect not delivered: it is a dead letter");
        let dead = Some(Dead { at, attempts, reason: error.to_string() });
        let record = Record { at: delivery.at, dead, invocation: delivery.invocation.clone() };
        let Row { key, id, bytes } = *row;
        let row = OutboxRow { key, id, record: record.encode() };
        self.effects.died(&delivery.source, Died { row, at, bytes });
    }
}

/// Counts the effects that were delivered.
pub(crate) fn effects_delivered() -> Counter {
    counter!(EFFECTS_TOTAL, "outcome" => "delivered")
}

/// Whether no later try can succeed.
pub(crate) fn is_final(error: &Error) -> bool {
    // What may have run in another system is never sent again.
    if let Error::Elsewhere(failed) = error {
        return !failed.is_retryable;
    }
    matches!(
        error,
        Error::ActorNotFound { .. }
            | Error::NotFound(_)
            | Error::ActionNotFound { .. }
            | Error::Invalid(_)
            | Error::Forbidden(_)
            | Error::NotAllowed(_)
            | Error::TooLarge(_)
            | Error::Unsupported(_)
            | Error::Cancelled
            | Error::CancelledRunning
    )
}

impl Service<Turn<Delivery>> for Deliver {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, turn: Turn<Delivery>) -> Self::Future {
        let (delivery, hold) = turn.into_parts();
        // Others need the slot: this may take as long as its target is away.
        let (parked, stage) = (hold.park(), self.0.clone());
        self.0.tasks.spawn(async move {
            stage.deliver(delivery).await;
            drop(parked);
        });
        ready(Ok(()))
    }
}
