//! Broadcast: what a response sends to a channel.

use super::Planner;
use super::plan::NOT_KEPT;
use crate::access::{Access, CallKind, Subject};
use crate::actor::ActorId;
use crate::call::{Call, PlannedBroadcast};
use crate::error::Error;
use crate::invocation::{Broadcast, Invocation};
use crate::registry::entry::CheckedOut;
use crate::registry::subscribers::Topic;
use crate::traces::Stage;

impl Planner {
    /// Plans the broadcast of a response. A broadcast to a durable topic becomes one more effect of the response. A broadcast to
    /// any other topic is dropped and counted when the bound of broadcasts is reached; the call does not fail.
    ///
    /// # Errors
    /// When the actor may not send to the channel.
    pub(super) fn plan_broadcast(
        &self,
        actor: &CheckedOut,
        call: &Call,
        broadcast: Option<Broadcast>,
        effects: &mut Vec<Invocation>,
    ) -> Result<Option<Box<PlannedBroadcast>>, Error> {
        let Some(broadcast) = broadcast else { return Ok(None) };
        let from = &actor.entry.actor;
        let (subject, kind) = (Subject::Actor(from), CallKind::Broadcast);
        let (system, name, action) = (from.system(), broadcast.channel.as_str(), kind.name());
        self.policies
            .check(&Access { subject, kind, system, name, action })
            .map_err(|error| Error::NotAllowed(format!("{error}; {NOT_KEPT}")))?;
        let caller = ActorId::clone(&actor.spec.id);
        if self.topics.has(name) {
            effects.push(self.topics.effect(caller, system, broadcast)?);
            return Ok(None);
        }
        let Broadcast { channel, payload } = broadcast;
        let topic = Topic::new(system, &channel);
        let context = call.timing.context(call.route.len(), Stage::SideEffects, &call.traceparent);
        let planned = self.channels.plan(topic, payload, Some(caller), context);
        Ok(planned.ok().map(Box::new))
    }
}
