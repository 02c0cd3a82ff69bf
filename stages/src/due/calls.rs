//! Calls: does what an entry of due work is for, and waits for its end.

use std::sync::Arc;

use futures_util::FutureExt;
use tower::ServiceExt;

use crate::actor::ActorRef;
use crate::call::{Ack, Answered, Origin, Received, Request};
use crate::caller::CallerService;
use crate::due::record::{Purpose, RunId};
use crate::due::window::Ready;
use crate::error::Error;
use crate::invocation::Invocation;
use crate::placement::Mailboxes;
use crate::ports::{Clock, HostError, StoreError};
use crate::registry::pauses::Pauses;
use crate::schedules::{Run, ScheduleKey, Schedules};
use crate::state::Timestamp;

/// How long an entry is tried (decision 18 g).
const PATIENCE_US: u64 = 24 * 3_600 * 1_000_000;

/// What calls are made with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    pub(crate) caller: CallerService,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) schedules: Schedules,
    pub(crate) pauses: Arc<Pauses>,
}

impl Calls {
    /// Does what an entry is for.
    pub(super) async fn make(
        self,
        ready: Ready,
        clock: Arc<dyn Clock>,
    ) -> (Ready, Result<(), Error>) {
        let call = || ready.record.invocation.clone();
        let outcome = match &ready.record.purpose {
            Purpose::Call => self.call(call(), Origin::Due).await,
            Purpose::Effect(system, name) => {
                self.call(call(), Origin::Inside(ActorRef::new(system, name))).await
            }
            Purpose::Look => {
                let source = &ready.key.source;
                let (system, name) = (source.system.clone(), source.name.clone());
                self.schedules.look(&ScheduleKey { system, name }, ready.key.at).await
            }
            Purpose::Run(run) => self.run(run, &ready, &clock).await,
        };
        (ready, outcome)
    }

    /// Whether an entry is tried no longer, although it got no answer. Time while its target is paused does not count.
    pub(super) fn is_given_up(&self, ready: &Ready, error: &Error, now: Timestamp) -> bool {
        let target = &ready.record.invocation.actor;
        let target = ActorRef::new(&target.system, &target.name);
        let since = self.pauses.counts_since(&target, ready.key.at);
        let is_over = now.0.saturating_sub(since.0) > PATIENCE_US;
        is_over && !self.pauses.is_paused(&target) && !matches!(error, Error::Draining)
    }

    /// Makes a call and waits for its answer.
    async fn call(&self, invocation: Invocation, origin: Origin) -> Result<(), Error> {
        let request = Request { invocation: Box::new(invocation), origin };
        let admitted = self.caller.clone().oneshot(request).await?;
        match (&self.mailboxes).oneshot(admitted).await? {
            Some(pending) => pending.answer().await.map(drop),
            None => Ok(()),
        }
    }

    /// Makes a run of a schedule. It is noted that it has ended before its entry goes.
    async fn run(&self, run: &RunId, ready: &Ready, clock: &Arc<dyn Clock>) -> Result<(), Error> {
        let begun = self.schedules.begin(run, ready.key.at).await?;
        let Some(Run { mut invocation, effect, being_made: _being_made }) = begun else {
            return Ok(());
        };
        self.mailboxes.tracer.begin(&mut invocation.traceparent);
        let outcome = match effect {
            None => self.call(invocation, Origin::Due).await,
            Some((source, id)) => {
                let (ack, answered) = Ack::new();
                let received = Received { source, id, ack, failed: None };
                let request = Request { invocation: Box::new(invocation), origin: Origin::Due };
                self.deliver(request, received, answered).await
            }
        };
        if let Err(error) = &outcome
            && is_tried_again(error)
            && !self.is_given_up(ready, error, clock.now())
        {
            return outcome;
        }
        self.schedules.ended(run, outcome.as_ref().copied()).await?;
        outcome
    }

    /// Makes a call that its target recognises when it comes again. Waits until the answer is durable.
    async fn deliver(
        &self,
        request: Request,
        received: Received,
        answered: tokio::sync::oneshot::Receiver<Result<Answered, Error>>,
    ) -> Result<(), Error> {
        let mut admitted = self.caller.clone().oneshot(request).await?;
        admitted.effect = Some(Box::new(received));
        let pending = (&self.mailboxes).oneshot(admitted).await?;
        let dropped = || Error::Internal("the call was dropped on its way".into());
        answered.await.unwrap_or_else(|_| Err(dropped()))?;
        // The reply leaves before the acknowledgement, unless the call was routed on. It says what was wrong with the answer.
        match pending.and_then(|pending| pending.answer().now_or_never()) {
            Some(reply) => reply.map(drop),
            None => Ok(()),
        }
    }
}

/// Whether the call got no answer that counts: then it is made again (decision 18 g).
pub(super) fn is_tried_again(error: &Error) -> bool {
    match error {
        Error::Store(StoreError::TooLarge(_)) | Error::Cancelled => false,
        Error::Host(HostError::Broken { .. })
        | Error::NoAnswer(_)
        | Error::Ended
        | Error::Internal(_)
        | Error::Store(_) => true,
        Error::ActionRan(source) => is_tried_again(source),
        other => other.is_retryable(),
    }
}
