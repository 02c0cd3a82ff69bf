//! Calls: does what an entry of due work is for, and waits for its end.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use metrics::counter;
use parking_lot::Mutex;
use tower::ServiceExt;

use crate::actor::{ActorId, ActorRef, Kind};
use crate::call::{Ack, Origin, Received, Request};
use crate::caller::CallerService;
use crate::due::DueKey;
use crate::due::record::{Purpose, RunId};
use crate::due::window::Ready;
use crate::effects::Effects;
use crate::error::Error;
use crate::invocation::{EFFECT_ID, Invocation};
use crate::metrics::EFFECTS_TOTAL;
use crate::outbox::record::{Dead, Record};
use crate::outbox::{EffectId, EffectSource, OutboxKey};
use crate::placement::Mailboxes;
use crate::ports::{Clock, HostError, StateStore, StoreError};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::schedules::{Run, ScheduleKey, Schedules};
use crate::state::Timestamp;

/// How long an entry is tried (decision 18 g).
const PATIENCE_US: u64 = 24 * 3_600 * 1_000_000;
/// Dead letters of which it is not known whether they are written.
const UNSURE: usize = 1_024;

/// What calls are made with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    pub(crate) caller: CallerService,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) schedules: Schedules,
    pub(crate) directory: Arc<Directory>,
    pub(crate) effects: Effects,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) unsure: Arc<Unsure>,
    /// When this start of the proxy began.
    pub(crate) began: Timestamp,
}

/// Dead letters of which it is not known whether they are written, by the entries that they are made of.
#[derive(Debug, Default)]
pub(crate) struct Unsure(Mutex<HashMap<DueKey, DeadLetter>>);

/// A side effect that cannot be delivered.
#[derive(Debug, Clone)]
struct DeadLetter {
    source: Arc<ActorId>,
    row: OutboxKey,
    end: End,
}

impl Unsure {
    /// Notes a dead letter that may be written. When there are too many it is not noted: its entry is tried anew.
    fn note(&self, key: &DueKey, letter: DeadLetter) {
        let mut letters = self.0.lock();
        if letters.len() < UNSURE {
            letters.insert(key.clone(), letter);
        }
    }
}

/// What came of one try of an entry.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// It was answered, or is none any more.
    Answered,
    /// No later try can succeed.
    Failed(Error),
    /// It got no answer for a day.
    GivenUp(Error),
    /// It is tried again.
    Again(Error),
}

impl End {
    /// What it came to; `None`: it is tried again.
    fn outcome(&self) -> Option<Result<(), &Error>> {
        match self {
            Self::Answered => Some(Ok(())),
            Self::Failed(error) | Self::GivenUp(error) => Some(Err(error)),
            Self::Again(_) => None,
        }
    }
}

impl Calls {
    /// Does what an entry is for. What its end means is durable then, so the entry may go.
    pub(super) async fn make(self, ready: Ready, clock: Arc<dyn Clock>) -> (Ready, End) {
        let outcome = match &ready.record.purpose {
            Purpose::Call => self.call(&ready, Origin::Due).await,
            Purpose::Effect(system, name) => {
                let end = self.effect(&ActorRef::new(system, name), &ready, &clock).await;
                return (ready, end);
            }
            Purpose::Look => {
                let source = &ready.key.source;
                let (system, name) = (source.system.clone(), source.name.clone());
                let key = ScheduleKey { system, name };
                self.schedules.look(&key, ready.key.at).await.map(|()| None)
            }
            Purpose::Run(run) => {
                let end = self.run(run, &ready, &clock).await;
                return (ready, end);
            }
        };
        let end = self.end(&ready, outcome, clock.now());
        (ready, end)
    }

    /// What the outcome of a try means for its entry: an answer, with what is wrong with it, or why there is none.
    fn end(&self, ready: &Ready, outcome: Result<Option<Error>, Error>, now: Timestamp) -> End {
        match outcome {
            Ok(None) => End::Answered,
            Ok(Some(error)) => End::Failed(error),
            Err(error) if !is_tried_again(&error) => End::Failed(error),
            Err(error) if self.is_given_up(ready, &error, now) => End::GivenUp(error),
            Err(error) => End::Again(error),
        }
    }

    /// Whether an entry is tried no longer, although it got no answer. Time while its target is paused does not count, and neither
    /// does time before this start: nobody tried.
    fn is_given_up(&self, ready: &Ready, error: &Error, now: Timestamp) -> bool {
        let target = &ready.record.invocation.actor;
        let target = ActorRef::new(&target.system, &target.name);
        let pauses = &self.directory.pauses;
        let since = pauses.counts_since(&target, ready.key.at.max(self.began));
        let is_over = now.0.saturating_sub(since.0) > PATIENCE_US;
        is_over && !pauses.is_paused(&target) && !matches!(error, Error::Draining)
    }

    /// Makes a side effect, or a dead letter of its source when it cannot be delivered. When it is not known whether that is
    /// written, only that is tried again.
    async fn effect(&self, source: &ActorRef, ready: &Ready, clock: &Arc<dyn Clock>) -> End {
        let unsure = self.unsure.0.lock().get(&ready.key).cloned();
        let letter = if let Some(letter) = unsure {
            letter
        } else {
            let outcome = self.call(ready, Origin::Inside(source.clone())).await;
            let is_answered = outcome.is_ok();
            let end = self.end(ready, outcome, clock.now());
            if is_answered || end.outcome().is_none() {
                return end;
            }
            DeadLetter { source: self.key_of(source), row: self.effects.next_row(), end }
        };
        self.bury(letter, ready, clock.now()).await
    }

    /// The key under which the rows of a source lie. Of a source that is not registered the parent is not known.
    fn key_of(&self, source: &ActorRef) -> Arc<ActorId> {
        let (system, name) = (source.system(), source.name());
        self.directory.find(system, name).map_or_else(
            || {
                let (system, name) = (system.to_owned(), name.to_owned());
                Arc::new(ActorId { name, system, parent: String::new() })
            },
            |entry| entry.key.clone(),
        )
    }

    /// Writes a dead letter, durably.
    async fn bury(&self, letter: DeadLetter, ready: &Ready, at: Timestamp) -> End {
        let error = letter.end.outcome().and_then(Result::err);
        let reason = error.map_or_else(String::new, ToString::to_string);
        // Nobody has counted the tries.
        let dead = Some(Dead { at, attempts: 0, reason });
        let invocation = ready.record.invocation.clone();
        let record = Record { at: ready.key.at, dead, invocation };
        let row = (letter.row, ready.key.effect_id(), record);
        match self.effects.bury(&*self.store, &letter.source, row, at).await {
            Ok(()) => {
                self.unsure.0.lock().remove(&ready.key);
                counter!(EFFECTS_TOTAL, "outcome" => "dead").increment(1);
                letter.end
            }
            Err(error) => {
                if error.may_have_happened() {
                    self.unsure.note(&ready.key, letter);
                }
                End::Again(error.into())
            }
        }
    }

    /// Makes the call of an entry.
    async fn call(&self, ready: &Ready, origin: Origin) -> Result<Option<Error>, Error> {
        let (source, id) = self.own_effect(ready);
        let effect_id = match (&ready.record.purpose, ready.key.effect_id()) {
            (Purpose::Effect(system, name), Some(id)) => format!("{system}/{name}/{id}"),
            _ => format!("due/{}/{}", source.system, source.name),
        };
        let mut invocation = ready.record.invocation.clone();
        invocation.metadata.insert(EFFECT_ID.to_owned(), effect_id);
        let request = Request { invocation: Box::new(invocation), origin };
        self.deliver(request, (source, id)).await
    }

    /// What the call of an entry is for its target: the only effect of a source of its own. It is noted as made.
    fn own_effect(&self, ready: &Ready) -> (Arc<EffectSource>, EffectId) {
        let source = ready.key.call_source();
        self.effects.made_calls().made(&source);
        // Epoch 0: a target that has seen too many sources looks at those of due work first.
        (source.into(), EffectId { number: ready.key.at.0, ..EffectId::default() })
    }

    /// Whether an actor is a pool now.
    fn is_pool(&self, ActorId { system, name, .. }: &ActorId) -> bool {
        let is_pool = |entry: Arc<Entry>| {
            entry.with_hosted(|hosted| matches!(hosted.definition.kind, Kind::Pooled { .. }))
        };
        self.directory.find(system, name).is_some_and(is_pool)
    }

    /// Makes a run at a pool, which does not recognise it, and waits for its answer.
    async fn run_beside(&self, invocation: Invocation) -> Result<(), Error> {
        let request = Request { invocation: Box::new(invocation), origin: Origin::Due };
        let admitted = self.caller.clone().oneshot(request).await?;
        match (&self.mailboxes).oneshot(admitted).await? {
            Some(pending) => pending.answer().await.map(drop),
            None => Ok(()),
        }
    }

    /// Makes a run of a schedule. It is noted that it has ended before its entry goes.
    async fn run(&self, run: &RunId, ready: &Ready, clock: &Arc<dyn Clock>) -> End {
        let begun = match self.schedules.begin(run, ready.key.at).await {
            Ok(begun) => begun,
            Err(error) => return self.end(ready, Err(error), clock.now()),
        };
        let Some(Run { mut invocation, effect, being_made: _being_made }) = begun else {
            return End::Answered;
        };
        self.mailboxes.tracer.begin(&mut invocation.traceparent);
        let outcome = match effect {
            None if self.is_pool(&invocation.actor) => {
                self.run_beside(invocation).await.map(|()| None)
            }
            effect => {
                // It may have been a pool when the schedule was stored.
                let effect = effect.unwrap_or_else(|| self.own_effect(ready));
                let request = Request { invocation: Box::new(invocation), origin: Origin::Due };
                self.deliver(request, effect).await
            }
        };
        let end = self.end(ready, outcome, clock.now());
        let Some(outcome) = end.outcome() else { return end };
        let noted = self.schedules.ended(run, outcome).await;
        match noted {
            Ok(()) => end,
            Err(error) => End::Again(error),
        }
    }

    /// Makes a call that its target recognises when it comes again. Waits until the answer is durable. Returns what is wrong with
    /// the answer, if anything is. A call that has not started in time leaves the mailbox, as one of a client does.
    async fn deliver(
        &self,
        request: Request,
        (source, id): (Arc<EffectSource>, EffectId),
    ) -> Result<Option<Error>, Error> {
        let mut admitted = self.caller.clone().oneshot(request).await?;
        let (ack, mut answered) = Ack::new();
        admitted.effect = Some(Box::new(Received { source, id, ack, failed: None }));
        let pending = (&self.mailboxes).oneshot(admitted).await?;
        let dropped = |_| Err(Error::Internal("the call was dropped on its way".into()));
        let Some(pending) = pending else {
            return answered.await.unwrap_or_else(dropped).map(|_| None);
        };
        let mut reply = pin!(pending.answer());
        let told = tokio::select! {
            biased;
            acknowledged = &mut answered => {
                acknowledged.unwrap_or_else(dropped)?;
                // The reply leaves before the acknowledgement, unless the call was routed on.
                return Ok(reply.now_or_never().and_then(Result::err));
            }
            told = &mut reply => told,
        };
        if let Err(error @ Error::NotStarted(..)) = told {
            return Err(error);
        }
        answered.await.unwrap_or_else(dropped)?;
        Ok(told.err().filter(is_of_answer))
    }
}

/// Whether the error of a reply is one of the answer. Others say that the reply took too long: the call goes on.
fn is_of_answer(error: &Error) -> bool {
    !matches!(error, Error::NoAnswer(_) | Error::Store(_) | Error::ActionRan(_))
}

/// Whether the call got no answer that counts: then it is made again (decision 18 g).
fn is_tried_again(error: &Error) -> bool {
    match error {
        Error::Store(StoreError::TooLarge(_)) | Error::Cancelled => false,
        Error::Host(HostError::Broken { .. } | HostError::Unread { .. })
        | Error::NoAnswer(_)
        | Error::Ended
        | Error::Internal(_)
        | Error::Store(_) => true,
        Error::ActionRan(source) => is_tried_again(source),
        other => other.is_retryable(),
    }
}
