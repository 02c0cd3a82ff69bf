//! Channels: brings a message of a topic into the mailbox of each subscribed actor.
//!
//! A broadcast leaves after its commit, and after the reply and the effects of its turn. Those of one topic are fanned out one
//! after the other, in order. Each subscriber gets it once, as an asynchronous call of the action that its channel names; the
//! sender too when it is subscribed. At most once: what waits is in memory only.
//!
//! Messages and deliveries have a bound of their own. A subscriber that is slow may hold as much of it as is free: beyond that
//! it is left out, and counted; so it delays no other.
//!
//! Members of a system are the proxies that have subscribers of it. A broadcast goes to the other members first, through the port
//! [`OtherMembers`], which does not wait. A broadcast that came from another member is not passed on to members.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::counter;
use parking_lot::Mutex;
use tidegate_pipeline::{Bound, Full, KeyedOptions, KeyedProducer, Refused, Turn};
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tracing::warn;

use crate::actor::{ActorId, Kind};
use crate::call::{Admitted, BroadcastBound, Message, PlannedBroadcast};
use crate::identity::PeerAddress;
use crate::invocation::{Invocation, Payload, Reached};
use crate::metrics::{BROADCASTS_TOTAL, DELIVERIES_TOTAL};
use crate::placement::Mailboxes;
use crate::ports::{MemberBroadcast, OtherMembers};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::registry::subscribers::Topic;
use crate::traces::CallOrigin;

/// How long the deliveries of one broadcast wait for free places, in all.
const FAN_OUT_LIMIT: Duration = Duration::from_secs(10);

/// Where broadcasts go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    pub(crate) queue: KeyedProducer<PlannedBroadcast>,
    pub(crate) bound: Arc<BroadcastBound>,
}

impl Channels {
    /// Channels that hold at most so many messages and deliveries, and so many bytes of messages.
    pub(crate) fn new(bound: Bound) -> Self {
        let (name, per_key) = ("broadcasts", bound.events);
        let options = KeyedOptions { name, bound, per_key, full: Full::Shed };
        Self { queue: KeyedProducer::new(options), bound: Arc::new(BroadcastBound::new(bound)) }
    }

    /// Takes what a broadcast counts for.
    ///
    /// # Errors
    /// When a bound is reached; it is counted.
    pub(crate) fn plan(
        &self,
        topic: Topic,
        payload: Payload,
        caller: Option<ActorId>,
        traceparent: String,
    ) -> Result<PlannedBroadcast, Refused> {
        let reserved = self.queue.try_reserve(Message::bytes(topic.name(), &payload));
        let permit = reserved.inspect_err(|refused| {
            static LAST: Mutex<Option<Instant>> = Mutex::new(None);
            counter!(BROADCASTS_TOTAL, "outcome" => "dropped").increment(1);
            if is_time_for_a_line(&LAST) {
                warn!(topic = topic.name(), system = topic.system(), %refused, "broadcasts are dropped: their bound is reached");
            }
        })?;
        let counted = (self.bound.clone(), permit);
        Ok(PlannedBroadcast::new((topic, payload), caller, traceparent, counted))
    }

    /// Queues a broadcast behind those of its topic.
    pub(crate) fn send(&self, broadcast: PlannedBroadcast) {
        if self.queue.push_exempt(broadcast).is_err() {
            counter!(BROADCASTS_TOTAL, "outcome" => "dropped").increment(1);
            warn!("a broadcast was dropped: the proxy has shut down");
        }
    }
}

/// At most one line per second, since what it tells of comes in crowds.
fn is_time_for_a_line(last: &Mutex<Option<Instant>>) -> bool {
    let mut last = last.lock();
    let is_time = last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
    if is_time {
        *last = Some(Instant::now());
    }
    is_time
}

/// Fans broadcasts out: the service behind [`Channels`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct FanOut {
    pub(crate) directory: Arc<Directory>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) bound: Arc<BroadcastBound>,
    /// `None`: this proxy is the only member.
    pub(crate) members: Option<Arc<dyn OtherMembers>>,
}

/// What became of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivered {
    /// It is in the mailbox.
    Queued,
    /// The subscriber was left out.
    Dropped,
    /// The subscriber has no such action, or was deleted.
    Failed,
}

impl FanOut {
    async fn fan_out(self, broadcast: PlannedBroadcast) {
        let PlannedBroadcast { message, timing, reply } = broadcast;
        if timing.is_some_and(|timing| !timing.start()) {
            // Its client was told that it was not started.
            return;
        }
        self.tell_members(&message);
        let until = Instant::now() + FAN_OUT_LIMIT;
        let mut reached = Reached::default();
        let subscribers = &self.directory.subscribers;
        for shard in 0..subscribers.shards() {
            for definition in subscribers.definitions(shard, &message.topic) {
                if definition.spec().hosted.definition.kind != Kind::Unnamed {
                    self.to(&message, &definition, until, &mut reached).await;
                }
                if definition.instances() == 0 {
                    continue;
                }
                for shard in 0..subscribers.shards() {
                    for entry in subscribers.instances(shard, &definition.actor) {
                        if entry.definition() == definition.actor {
                            self.to(&message, &entry, until, &mut reached).await;
                        }
                    }
                }
            }
        }
        counter!(BROADCASTS_TOTAL, "outcome" => "sent").increment(1);
        if reached.dropped > 0 {
            static LAST: Mutex<Option<Instant>> = Mutex::new(None);
            if is_time_for_a_line(&LAST) {
                let (topic, Reached { subscribers, dropped }) = (message.topic.name(), reached);
                warn!(topic, subscribers, dropped, "a broadcast did not reach all subscribers");
            }
        }
        reply.send(Ok(reached));
    }

    /// Sends a message of this proxy to other members.
    fn tell_members(&self, message: &Message) {
        let Some(members) = &self.members else { return };
        if message.identity.peer == Some(PeerAddress::Nats) {
            return;
        }
        members.publish(MemberBroadcast {
            system: message.topic.system().to_owned(),
            topic: message.topic.name().to_owned(),
            payload: message.payload.clone(),
            caller: message.caller.clone(),
            traceparent: message.traceparent.clone(),
        });
    }

    /// Delivers a message to an actor, if that is subscribed.
    async fn to(
        &self,
        message: &Arc<Message>,
        entry: &Arc<Entry>,
        until: Instant,
        reached: &mut Reached,
    ) {
        let definition = entry.spec().hosted.definition;
        let Some(action) = definition.action_on(message.topic.name()) else { return };
        if entry.is_removed() {
            return;
        }
        let delivered = if definition.knows(action) {
            self.deliver(message, entry, action.to_owned(), until).await
        } else {
            Delivered::Failed
        };
        let outcome = match delivered {
            Delivered::Queued => "queued",
            Delivered::Dropped => "dropped",
            Delivered::Failed => "failed",
        };
        counter!(DELIVERIES_TOTAL, "outcome" => outcome).increment(1);
        let count = if delivered == Delivered::Queued {
            &mut reached.subscribers
        } else {
            &mut reached.dropped
        };
        *count += 1;
    }

    async fn deliver(
        &self,
        message: &Arc<Message>,
        entry: &Arc<Entry>,
        action: String,
        until: Instant,
    ) -> Delivered {
        let Some(delivery) = self.bound.reserve(message, entry, until).await else {
            return Delivered::Dropped;
        };
        let invocation = Invocation {
            actor: ActorId::clone(&entry.id()),
            action,
            payload: message.payload.clone(),
            identity: message.identity.clone(),
            caller: message.caller.clone(),
            asynchronous: true,
            traceparent: message.traceparent.clone(),
            ..Invocation::default()
        };
        let admitted = Admitted {
            entry: entry.clone(),
            timing: self.mailboxes.timing(&invocation, CallOrigin::Broadcast),
            invocation: Box::new(invocation),
            // It counts as a delivery instead, also while the proxy drains.
            permit: None,
            delivery: Some(delivery),
            effect: None,
            load: None,
        };
        match (&self.mailboxes).oneshot(admitted).await {
            Ok(_) => Delivered::Queued,
            Err(_) => Delivered::Failed,
        }
    }
}

impl Service<Turn<PlannedBroadcast>> for FanOut {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, turn: Turn<PlannedBroadcast>) -> Self::Future {
        let stage = self.clone();
        Box::pin(async move {
            let (broadcast, _topic) = turn.into_parts();
            stage.fan_out(broadcast).await;
            Ok(())
        })
    }
}
