//! Channels: what a client sends to a topic.

use tidegate_pipeline::Refused;

use crate::access::{Access, CallKind, Subject};
use crate::actor::check_name;
use crate::error::Error;
use crate::history::Page;
use crate::identity::Identity;
use crate::invocation::{Broadcast, Reached};
use crate::mesh::{Announced, Mesh};
use crate::placement::overloaded;
use crate::registry::subscribers::Topic;
use crate::reply::{Reply, Timing};
pub use crate::topics::log::{SubscriberView, TopicView};

impl Mesh {
    /// Sends a message of a client, [announced](Self::announce) like a call, to all subscribers of a topic: returns when it is in their mailboxes; of a
    /// durable topic when it is durable. A topic without
    /// subscribers is no error. Policies see a call of the kind `broadcast` whose target is the topic.
    ///
    /// # Errors
    /// When a name is not allowed, the client may not send to the topic, a bound is reached, or the mesh is draining.
    pub async fn publish(
        &self,
        client: Identity,
        system: &str,
        broadcast: Broadcast,
        mut traceparent: String,
        _: Announced,
    ) -> Result<Reached, Error> {
        self.refuse_while_closed()?;
        let Broadcast { channel, payload } = broadcast;
        for (part, name) in [("system", system), ("topic", channel.as_str())] {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        let (subject, kind) = (Subject::Client(&client), CallKind::Broadcast);
        let (name, action) = (channel.as_str(), kind.name());
        self.policies.check(&Access { subject, kind, system, name, action })?;
        self.mailboxes.tracer.begin(&mut traceparent);
        if self.topics.has(&channel) {
            let broadcast = Broadcast { channel, payload };
            return self.topics.publish(client, system, broadcast, traceparent).await;
        }
        let topic = Topic::new(system, &channel);
        let planned = self.channels.plan(topic, payload, None, traceparent);
        let planned = planned.map_err(|refused| match refused {
            Refused::TooLarge => {
                Error::TooLarge("the message is larger than the bound of all broadcasts".into())
            }
            _ => overloaded("broadcasts", "too many broadcasts wait for their subscribers".into()),
        })?;
        let timing = Timing::new(self.mailboxes.deadlines(), None);
        let (reply, waiting) = Reply::new(&timing);
        self.channels.send(planned.of_client(client, timing, reply));
        waiting.answer().await
    }

    /// How far each durable topic is that a definition binds, or that was used in the last minutes.
    pub fn durable_topics(&self) -> Vec<TopicView> {
        self.topics.views()
    }

    /// How far the subscribers of one of them are, by name: a page of at most `limit`, after a name.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn topic_subscribers(
        &self,
        system: &str,
        topic: &str,
        after: &str,
        limit: usize,
    ) -> Result<(TopicView, Page<SubscriberView>), Error> {
        let log = self.topics.log_of(system, topic).ok_or_else(|| {
            let text = format!("no durable topic {topic} is in use on ActorSystem {system}");
            Error::NotFound(text)
        })?;
        Ok((log.view(), log.subscriber_views(after, limit)))
    }
}
