//! Append: brings events into the logs of durable topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, oneshot};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::warn;

use crate::actor::{ActorId, ActorRef, check_name};
use crate::call::{Ack, Admitted, Answered, Received};
use crate::error::Error;
use crate::history::Position;
use crate::identity::Identity;
use crate::invocation::{Broadcast, EFFECT_ID, Invocation, Metadata, Payload, Reached};
use crate::outbox::{EffectId, EffectSource};
use crate::placement::{Mailboxes, overloaded};
use crate::ports::StateStore;
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::store_limit::in_time;
use crate::topics::event::{OPEN, PUBLISH, definition, key, topic_of};
use crate::topics::log::{Log, TopicView};
use crate::topics::rules::TopicRules;
use crate::topics::subscribed::{is_bound, look};
use crate::traces::CallOrigin;

/// Durable topics that are in memory.
const MOST_TOPICS: usize = 1_024;
/// A topic that no definition binds is taken into memory only while there are fewer than these. The rest is for topics that are
/// bound: publishers alone cannot fill it.
const MOST_BEFORE_UNBOUND: usize = 768;

/// Bytes of one event, if a state may have as many.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// What a state has beside the payload of its event: names, and numbers.
const BESIDE: usize = 8 << 10;

/// The durable topics; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Topics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: TopicRules,
    max_event_bytes: usize,
    directory: Arc<Directory>,
    mailboxes: Mailboxes,
    store: Arc<dyn StateStore>,
    epoch: u64,
    /// Numbers the messages of clients.
    next_message: AtomicU64,
    known: Mutex<Known>,
    has_new: Notify,
    /// Ends deliveries.
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<(String, String), Arc<Topic>>,
    /// Those whose deliveries do not run yet.
    new: Vec<Arc<Topic>>,
}

/// A topic, and the actor that keeps it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) log: Arc<Log>,
    pub(crate) entry: Arc<Entry>,
    is_open: OnceCell<()>,
}

impl Topics {
    pub(crate) fn new(
        (rules, max_state_bytes): (TopicRules, usize),
        directory: &Arc<Directory>,
        mailboxes: &Mailboxes,
        store: &Arc<dyn StateStore>,
        epoch: u64,
    ) -> Self {
        let (directory, mailboxes, store) = (directory.clone(), mailboxes.clone(), store.clone());
        let (next_message, known, has_new) = (AtomicU64::new(0), Mutex::default(), Notify::new());
        let stop = CancellationToken::new();
        Self(Arc::new(Inner {
            rules,
            max_event_bytes: MAX_EVENT_BYTES.min(max_state_bytes.saturating_sub(BESIDE)),
            directory,
            mailboxes,
            store,
            epoch,
            next_message,
            known,
            has_new,
            stop,
        }))
    }

    /// Cancelled when no event is delivered any more.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// The epoch of this start.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Whether no topic is durable.
    pub(crate) fn are_none(&self) -> bool {
        self.0.rules.is_empty()
    }

    /// Whether a topic is durable.
    pub(crate) fn has(&self, topic: &str) -> bool {
        self.0.rules.of(topic).is_some()
    }

    /// The effect by which an actor publishes to a durable topic.
    ///
    /// # Errors
    /// When the topic has no valid name, or the event is too large.
    pub(crate) fn effect(
        &self,
        caller: ActorId,
        system: &str,
        broadcast: Broadcast,
    ) -> Result<Invocation, Error> {
        let Broadcast { channel, payload } = broadcast;
        self.check(&channel, &payload)?;
        let (actor, action) = (key(system, &channel), PUBLISH.to_owned());
        Ok(Invocation { actor, action, payload, caller: Some(caller), ..Invocation::default() })
    }

    /// The topic, its log loaded.
    ///
    /// # Errors
    /// When it is not durable, there are too many, or the store fails.
    pub(crate) async fn open(&self, system: &str, name: &str) -> Result<Arc<Topic>, Error> {
        let topic = self.topic(system, name)?;
        topic.is_open.get_or_try_init(|| self.load(&topic)).await?;
        Ok(topic)
    }

    fn topic(&self, system: &str, name: &str) -> Result<Arc<Topic>, Error> {
        let mut known = self.0.known.lock();
        let by_name = (system.to_owned(), name.to_owned());
        if let Some(topic) = known.by_name.get(&by_name) {
            return Ok(topic.clone());
        }
        let rule = self.0.rules.of(name).ok_or_else(|| {
            let text = format!("topic {name} is not durable (TIDEGATE_DURABLE_TOPICS)");
            Error::NotFound(text)
        })?;
        let is_bound = is_bound(&self.0.directory, system, name);
        let most = if is_bound { MOST_TOPICS } else { MOST_BEFORE_UNBOUND };
        if known.by_name.len() >= most {
            let reason = format!("{most} durable topics are in memory already");
            return Err(overloaded("topics", reason));
        }
        let log = Arc::new(Log::new(ActorRef::new(system, name), rule));
        let key = key(system, name);
        let definition = Arc::new(definition(&key));
        let entry = Arc::new(Entry::of_topic(log.clone(), key.into(), definition));
        let topic = Arc::new(Topic { log, entry, is_open: OnceCell::new() });
        known.by_name.insert(by_name, topic.clone());
        known.new.push(topic.clone());
        drop(known);
        self.0.has_new.notify_one();
        Ok(topic)
    }

    /// Loads what the store has of a topic, before its first event.
    async fn load(&self, topic: &Topic) -> Result<(), Error> {
        let Inner { directory, store, .. } = &*self.0;
        // Then this start owns it, and the newest event is in the history.
        let invocation = Invocation { action: OPEN.into(), ..Invocation::default() };
        if let Some(pending) = self.queue(topic, invocation, None).await? {
            pending.answer().await?;
        }
        let head = in_time(store.load(&topic.entry.key)).await?;
        let seen = in_time(store.seen(&topic.entry.key)).await?;
        let newest = head.map(|head| Position { at: head.at, revision: head.revision });
        let newest = newest.unwrap_or_default();
        topic.log.load(newest.revision, seen);
        look(directory, &topic.log, newest);
        Ok(())
    }

    async fn queue(
        &self,
        topic: &Topic,
        invocation: Invocation,
        effect: Option<Box<Received>>,
    ) -> Result<Option<crate::placement::PendingReply<Payload>>, Error> {
        let Inner { mailboxes, .. } = &*self.0;
        let origin = if effect.is_some() { CallOrigin::Effect } else { CallOrigin::Client };
        let timing = mailboxes.timing(&invocation, origin);
        let permit = if effect.is_some() || invocation.action == OPEN {
            None
        } else {
            Some(mailboxes.reserve(invocation.bytes(), &timing, &topic.entry).await?)
        };
        let admitted = Admitted {
            entry: topic.entry.clone(),
            invocation: Box::new(invocation),
            timing,
            permit,
            effect,
            delivery: None,
            load: None,
        };
        mailboxes.oneshot(admitted).await
    }

    /// Appends what an actor has published, unless the topic has it. Returns when it is durable.
    ///
    /// # Errors
    /// When the topic is not durable any more, there are too many, or the store fails.
    pub(crate) async fn append(
        &self,
        invocation: &Invocation,
        number: String,
        (source, id): (Arc<EffectSource>, EffectId),
    ) -> Result<(), Error> {
        let ActorId { system, name, .. } = &invocation.actor;
        let topic = self.open(system, topic_of(name).unwrap_or_default()).await?;
        let metadata = Metadata::from([(EFFECT_ID.to_owned(), number)]);
        let invocation = Invocation { metadata, ..invocation.clone() };
        let (ack, answered) = Ack::new();
        let received = Received { source, id, ack, failed: None };
        self.queue(&topic, invocation, Some(Box::new(received))).await?;
        until_answered(answered).await?;
        Ok(())
    }

    /// Appends the message of a client. Returns when it is durable.
    ///
    /// # Errors
    /// When the topic has no valid name, the message is too large, a bound is reached, or the store fails.
    pub(crate) async fn publish(
        &self,
        client: Identity,
        system: &str,
        broadcast: Broadcast,
        traceparent: String,
    ) -> Result<Reached, Error> {
        let Broadcast { channel, payload } = broadcast;
        self.check(&channel, &payload)?;
        let topic = self.open(system, &channel).await?;
        let number = self.0.next_message.fetch_add(1, Ordering::Relaxed);
        let id = format!("client/{}.{number}", self.0.epoch);
        let invocation = Invocation {
            actor: key(system, &channel),
            action: PUBLISH.into(),
            payload,
            metadata: Metadata::from([(EFFECT_ID.to_owned(), id)]),
            identity: client,
            traceparent,
            ..Invocation::default()
        };
        if let Some(pending) = self.queue(&topic, invocation, None).await? {
            pending.answer().await?;
        }
        Ok(Reached { subscribers: topic.log.subscribers(), dropped: 0 })
    }

    /// Checks what is published.
    fn check(&self, topic: &str, payload: &Payload) -> Result<(), Error> {
        check_name(topic).map_err(|error| Error::Invalid(format!("topic {error}")))?;
        let (bytes, most) = (payload.len(), self.0.max_event_bytes);
        if bytes > most {
            let text = "an event of a durable topic may have";
            return Err(Error::TooLarge(format!("{text} {most} bytes, this one has {bytes}")));
        }
        Ok(())
    }

    /// Makes the topics known that definitions bind.
    pub(crate) fn find_bound(&self) {
        for topic in self.0.directory.subscribers.topics() {
            let is_one = self.has(topic.name()) && check_name(topic.name()).is_ok();
            // One too many: its publishers are told.
            if is_one && let Err(error) = self.topic(topic.system(), topic.name()) {
                warn!(topic = topic.name(), %error, "a durable topic is not delivered");
            }
        }
    }

    /// The topics whose deliveries do not run yet; they have to run from now on.
    pub(crate) fn take_new(&self) -> Vec<Arc<Topic>> {
        std::mem::take(&mut self.0.known.lock().new)
    }

    /// Waits until there may be [new](Self::take_new) ones.
    pub(crate) async fn new_ones(&self) {
        self.0.has_new.notified().await;
    }

    /// Takes a topic out of memory that nobody uses but its deliveries, which ask for this. Not while something is on its way to the
    /// topic, or is to be stored. Returns whether the topic is out; its next use reads it from the store.
    pub(crate) fn forget(&self, topic: &Arc<Topic>) -> bool {
        let mut known = self.0.known.lock();
        // Whoever uses a topic got it under this lock. A turn, a commit and the state in memory hold its entry.
        let is_used = Arc::strong_count(topic) > 2 || Arc::strong_count(&topic.entry) > 1;
        if is_used || topic.log.subscribers() > 0 || topic.log.is_to_store() {
            return false;
        }
        let name = &topic.log.topic;
        known.by_name.remove(&(name.system().to_owned(), name.name().to_owned()));
        drop(known);
        // A definition may bind it by now.
        self.0.has_new.notify_one();
        true
    }

    /// The topics that are in memory: how far each is.
    pub(crate) fn views(&self) -> Vec<TopicView> {
        let topics: Vec<_> = self.0.known.lock().by_name.values().cloned().collect();
        topics.iter().map(|topic| topic.log.view()).collect()
    }

    /// The log of one of them.
    pub(crate) fn log_of(&self, system: &str, topic: &str) -> Option<Arc<Log>> {
        let by_name = (system.to_owned(), topic.to_owned());
        self.0.known.lock().by_name.get(&by_name).map(|topic| topic.log.clone())
    }
}

/// Waits until a delivery is answered.
pub(crate) async fn until_answered(
    answered: oneshot::Receiver<Result<Answered, Error>>,
) -> Result<Answered, Error> {
    let dropped = || Error::Internal("the call was dropped on its way".into());
    answered.await.unwrap_or_else(|_| Err(dropped()))
}
