//! Delivery: brings the next events of a topic to one subscriber, one after the other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tidegate_pipeline::layer::Delays;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, error, warn};

use crate::actor::ActorId;
use crate::call::{Ack, Admitted, Answered, Received};
use crate::effects::{Effects, is_final};
use crate::error::Error;
use crate::history::{Interval, Position};
use crate::invocation::{EFFECT_ID, Invocation, Metadata};
use crate::metrics::{TOPIC_DELIVERIES_TOTAL, TOPIC_EVENTS_MISSED_TOTAL};
use crate::outbox::record::{Dead, Record};
use crate::placement::Mailboxes;
use crate::ports::{Clock, StateStore, StoreError};
use crate::registry::entry::Entry;
use crate::registry::pauses::{Pauses, REMEMBERED};
use crate::state::{Revision, Timestamp};
use crate::store_limit::in_time;
use crate::topics::append::{Topic, until_answered};
use crate::topics::event::read;
use crate::topics::log::event_id;
use crate::topics::places::{PAGE_BYTES, TopicPlaces};
use crate::traces::CallOrigin;

/// Events that are read at once.
const PAGE: usize = 32;
/// How long a delivery holds its place without an answer.
const IMPATIENT: Duration = Duration::from_millis(500);
/// Pauses between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What deliveries are made with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) effects: Effects,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) places: TopicPlaces,
    pub(crate) stop: CancellationToken,
}

/// A subscriber, and the tries to deliver its next event.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) entry: Arc<Entry>,
    /// Of the next event: when it failed first, how often, and the pauses between tries.
    failing: Option<(Timestamp, u32, Delays)>,
    /// When it is tried again.
    pub(super) again_at: Option<Instant>,
    /// Bytes of the last event.
    last_bytes: usize,
}

impl Subscription {
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        Self { entry, failing: None, again_at: None, last_bytes: 0 }
    }
}

/// Why a delivery ends before its page does.
enum Halt {
    /// It is no subscriber any more, or the proxy ends.
    Over,
    /// To be tried again.
    Failed(Error),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Halt::Failed(error.into())
    }
}

impl Carrier {
    /// Delivers a page of events. Afterwards the subscription says when to go on.
    pub(super) async fn run(
        self,
        topic: Arc<Topic>,
        mut to: Subscription,
        place: OwnedSemaphorePermit,
    ) -> Subscription {
        to.again_at = None;
        match self.deliver(&topic, &mut to, place).await {
            Ok(()) => {}
            // By then the topic has looked who is subscribed.
            Err(Halt::Over) => to.again_at = Some(Instant::now() + FIRST_PAUSE),
            Err(Halt::Failed(error)) => {
                let now = self.clock.now();
                let new = || (now, 0, Delays::new(FIRST_PAUSE, LONGEST_PAUSE));
                let (_, attempts, delays) = to.failing.get_or_insert_with(new);
                *attempts = attempts.saturating_add(1);
                to.again_at = Some(Instant::now() + delays.next_delay());
                counter!(TOPIC_DELIVERIES_TOTAL, "outcome" => "retried").increment(1);
                debug!(topic = %topic.log.topic, subscriber = %to.entry.actor, %error, "event not answered, it is delivered again");
            }
        }
        to
    }

    async fn deliver(
        &self,
        topic: &Topic,
        to: &mut Subscription,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Halt> {
        let mut place = Some(place);
        let subscribed = to.entry.subscribed();
        let Some(position) = topic.log.position(&subscribed) else { return Err(Halt::Over) };
        if position.revision >= topic.log.end() {
            return Ok(());
        }
        let mut page = self.page(topic, to, position).await?;
        let first_bytes = page.first().map_or(0, |first| first.content.bytes());
        if first_bytes > PAGE_BYTES {
            // It is read again when there is place for it.
            to.last_bytes = first_bytes;
            drop((page, place.take()));
            place = self.places.take(first_bytes).await;
            page = self.page(topic, to, position).await?;
        }
        if page.is_empty() {
            let text = "the log of the topic ends before its newest event";
            return Err(Halt::Failed(Error::Internal(text.into())));
        }
        for revision in page {
            if self.stop.is_cancelled() {
                return Err(Halt::Over);
            }
            let next = Position::of(&revision);
            let before = Position { revision: next.revision.saturating_sub(1), ..next };
            if let Some(missed) = topic.log.skip(&subscribed, before) {
                // What has failed was another event.
                to.failing = None;
                if missed > 0 {
                    counter!(TOPIC_EVENTS_MISSED_TOTAL).increment(missed);
                    warn!(topic = %topic.log.topic, subscriber = %to.entry.actor, missed, "events were dropped before a subscriber got them");
                }
            }
            to.last_bytes = revision.content.bytes();
            self.event(topic, to, revision, &mut place).await?;
            to.failing = None;
            topic.log.advance(&subscribed, next);
            if place.is_none() {
                // It took long: others go first.
                break;
            }
        }
        Ok(())
    }

    /// The next events after a position that are not too old. The newest event never is.
    async fn page(
        &self,
        topic: &Topic,
        to: &Subscription,
        position: Position,
    ) -> Result<Vec<Revision>, StoreError> {
        let after = (position != Position::default()).then_some(position);
        let from = topic.log.rule.retention.keep(self.clock.now()).since;
        let interval = Interval { from, after, ..Interval::ALL };
        let limit = (PAGE_BYTES / to.last_bytes.max(1)).clamp(1, PAGE);
        let page = in_time(self.store.load_by_interval(&topic.entry.key, interval, limit)).await?;
        let mut items = page.items;
        if items.is_empty()
            && let Some(head) = in_time(self.store.load(&topic.entry.key)).await?
            && head.revision > position.revision
        {
            // The store has dropped the whole log, or all of it is too old. The newest event is the topic's state.
            items.push(head.as_revision());
        }
        let (end, mut bytes) = (topic.log.end(), 0);
        let is_taken = |revision: &Revision| {
            let is_first = bytes == 0;
            bytes += revision.content.bytes();
            // What is not known to be durable may be lost yet.
            revision.revision <= end && (is_first || bytes <= PAGE_BYTES)
        };
        Ok(items.into_iter().take_while(is_taken).collect())
    }

    /// Delivers one event, or makes it a dead letter.
    async fn event(
        &self,
        topic: &Topic,
        to: &Subscription,
        revision: Revision,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), Halt> {
        let at = revision.at;
        let Some(event) = read(&revision) else {
            error!(topic = %topic.log.topic, event = revision.revision, "an event cannot be read: it is left out");
            return Ok(());
        };
        let id = event_id(revision.revision);
        let definition = to.entry.spec().hosted.definition;
        let Some(action) = definition.action_on(topic.log.topic.name()) else {
            return Err(Halt::Over);
        };
        if to.entry.is_removed() {
            return Err(Halt::Over);
        }
        let effect_id = format!("topic/{}/{}", topic.log.topic, revision.revision);
        let invocation = Invocation {
            actor: ActorId::clone(&to.entry.id()),
            action: action.to_owned(),
            metadata: Metadata::from([(EFFECT_ID.to_owned(), effect_id)]),
            asynchronous: true,
            ..event
        };
        let error = if definition.knows(action) {
            let outcome = {
                let mut answered = pin!(self.call(topic, to, invocation.clone(), id));
                if let Ok(outcome) = timeout(IMPATIENT, &mut answered).await {
                    outcome
                } else {
                    let waiting = self.places.wait();
                    if waiting.is_some() {
                        drop(place.take());
                    }
                    answered.await
                }
            };
            match outcome {
                Ok(answered) => {
                    counter!(TOPIC_DELIVERIES_TOTAL, "outcome" => label(answered)).increment(1);
                    return Ok(());
                }
                Err(_) if to.entry.is_removed() => return Err(Halt::Over),
                Err(error) => error,
            }
        } else {
            let actor = to.entry.actor.name().to_owned();
            Error::ActionNotFound { actor, action: action.to_owned() }
        };
        if is_final(&error) || self.is_over(to) {
            return self.bury(topic, to, Record { at, dead: None, invocation }, error).await;
        }
        Err(Halt::Failed(error))
    }

    async fn call(
        &self,
        topic: &Topic,
        to: &Subscription,
        invocation: Invocation,
        id: crate::outbox::EffectId,
    ) -> Result<Answered, Error> {
        let (ack, answered) = Ack::new();
        let received = Received { source: topic.log.source.clone(), id, ack, failed: None };
        let admitted = Admitted {
            entry: to.entry.clone(),
            timing: self.mailboxes.timing(&invocation, CallOrigin::Broadcast),
            invocation: Box::new(invocation),
            // It counts as a delivery instead.
            permit: None,
            effect: Some(Box::new(received)),
            delivery: None,
            load: None,
        };
        (&self.mailboxes).oneshot(admitted).await?;
        until_answered(answered).await
    }

    /// Whether an event was tried for long enough. Time while its subscriber is paused does not count.
    fn is_over(&self, to: &Subscription) -> bool {
        let Some((first, ..)) = &to.failing else { return false };
        let since = self.pauses.counts_since(&to.entry.actor, *first);
        let age = Duration::from_micros(self.clock.now().0.saturating_sub(since.0));
        age >= REMEMBERED && !self.pauses.is_paused(&to.entry.actor)
    }

    /// Makes an event a dead letter of the topic, durably.
    async fn bury(
        &self,
        topic: &Topic,
        to: &Subscription,
        record: Record,
        error: Error,
    ) -> Result<(), Halt> {
        let attempts = to.failing.as_ref().map_or(0, |(_, attempts, _)| *attempts);
        let at = self.clock.now();
        let dead =
            Some(Dead { at, attempts: attempts.saturating_add(1), reason: error.to_string() });
        let letter = (self.effects.next_row(), None, Record { dead, ..record });
        self.effects.bury(&*self.store, &topic.entry.key, letter, at).await?;
        counter!(TOPIC_DELIVERIES_TOTAL, "outcome" => "dead").increment(1);
        warn!(topic = %topic.log.topic, subscriber = %to.entry.actor, %error, "event not delivered: it is a dead letter");
        Ok(())
    }
}

/// The outcome as which a delivery is counted that has an answer.
fn label(answered: Answered) -> &'static str {
    match answered {
        Answered::Done => "delivered",
        Answered::Failed => "failed",
        Answered::Before => "repeated",
    }
}
