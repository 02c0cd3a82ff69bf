//! Broadcast: a message to a topic, its deliveries, and what they count for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_pipeline::share::is_fair;
use tidegate_pipeline::{Bound, KeyedEvent, Permit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::actor::ActorId;
use crate::identity::Identity;
use crate::invocation::{Payload, Reached};
use crate::registry::entry::Entry;
use crate::registry::subscribers::Topic;
use crate::reply::{Reply, Timing};

/// What all broadcasts share: the places of deliveries, and the bytes of the messages.
#[derive(Debug)]
pub(crate) struct BroadcastBound {
    bound: Bound,
    bytes: AtomicUsize,
    places: Arc<Semaphore>,
}

impl BroadcastBound {
    pub(crate) fn new(bound: Bound) -> Self {
        Self {
            bound,
            bytes: AtomicUsize::new(0),
            places: Arc::new(Semaphore::new(bound.events.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Takes a place for the delivery of a message to an actor; waits for one until then. `None` when there was none, or when
    /// the actor has more than its share: as much as is free.
    pub(crate) async fn reserve(
        &self,
        message: &Arc<Message>,
        entry: &Arc<Entry>,
        until: Instant,
    ) -> Option<Box<Delivery>> {
        let place = timeout_at(until, self.places.clone().acquire_owned()).await.ok()?.ok()?;
        let events = entry.deliveries.fetch_add(1, Ordering::SeqCst) + 1;
        let bytes = entry.delivery_bytes.fetch_add(message.bytes, Ordering::SeqCst) + message.bytes;
        let delivery = Delivery { message: message.clone(), entry: entry.clone(), _place: place };
        let free = self.bound.bytes.saturating_sub(self.bytes.load(Ordering::SeqCst));
        let is_fair = is_fair(events, self.places.available_permits()) && is_fair(bytes, free);
        (events == 1 || is_fair).then(|| Box::new(delivery))
    }
}

/// A message to a topic. It counts for its bytes until the last delivery is done.
pub(crate) struct Message {
    pub(crate) topic: Topic,
    pub(crate) payload: Payload,
    /// The actor that sends it; `None` for a client.
    pub(crate) caller: Option<ActorId>,
    /// Who sends it.
    pub(crate) identity: Identity,
    pub(crate) traceparent: String,
    bytes: usize,
    bound: Arc<BroadcastBound>,
    _permit: Permit,
}

impl Message {
    /// The bytes that a message counts for.
    pub(crate) fn bytes(topic: &str, payload: &Payload) -> usize {
        size_of::<Self>() + topic.len() + payload.len()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.bound.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// The delivery of a message to one subscriber. It counts until its action has run.
pub(crate) struct Delivery {
    message: Arc<Message>,
    entry: Arc<Entry>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.entry.delivery_bytes.fetch_sub(self.message.bytes, Ordering::SeqCst);
        self.entry.deliveries.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A broadcast that waits for its commit, or for its turn in its topic.
pub(crate) struct PlannedBroadcast {
    pub(crate) message: Arc<Message>,
    /// The time of the client that sends it; `None` for an actor.
    pub(crate) timing: Option<Timing>,
    /// Where the client is told whom it reached.
    pub(crate) reply: Reply<Reached>,
}

impl PlannedBroadcast {
    /// A broadcast of an actor. It has its permit.
    pub(crate) fn new(
        (topic, payload): (Topic, Payload),
        caller: Option<ActorId>,
        traceparent: String,
        (bound, permit): (Arc<BroadcastBound>, Permit),
    ) -> Self {
        let bytes = permit.bytes();
        bound.bytes.fetch_add(bytes, Ordering::SeqCst);
        let message = Message {
            topic,
            payload,
            caller,
            identity: Identity::default(),
            traceparent,
            bytes,
            bound,
            _permit: permit,
        };
        Self { message: Arc::new(message), timing: None, reply: Reply::unwanted() }
    }

    /// The same of a client, which waits for the reply.
    pub(crate) fn of_client(
        mut self,
        identity: Identity,
        timing: Timing,
        reply: Reply<Reached>,
    ) -> Self {
        if let Some(message) = Arc::get_mut(&mut self.message) {
            message.identity = identity;
        }
        Self { message: self.message, timing: Some(timing), reply }
    }
}

impl PlannedBroadcast {
    /// The same of another member, for which nobody waits.
    pub(crate) fn of_member(mut self, identity: Identity) -> Self {
        if let Some(message) = Arc::get_mut(&mut self.message) {
            message.identity = identity;
        }
        self
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("message", &self.message).finish_non_exhaustive()
    }
}

impl fmt::Debug for PlannedBroadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedBroadcast").field("message", &self.message).finish_non_exhaustive()
    }
}

impl KeyedEvent for PlannedBroadcast {
    type Key = Topic;

    fn key(&self) -> &Topic {
        &self.message.topic
    }

    fn class(&self) -> u32 {
        0
    }

    type Handle = ();

    fn handle(&self) {}
}
