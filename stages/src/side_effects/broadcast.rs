//! Broadcast: what a response sends to a channel.

use super::Planner;
use super::plan::NOT_KEPT;
use crate::access::{Access, CallKind, Subject};
use crate::actor::ActorId;
use crate::call::{Call, PlannedBroadcast};
use crate::error::Error;
use crate::invocation::Broadcast;
use crate::registry::entry::CheckedOut;
use crate::registry::subscribers::Topic;
use crate::traces::Stage;

impl Planner {
    /// Plans the broadcast of a response. One for which a bound leaves no place is dropped and counted: it fails no call.
    ///
    /// # Errors
    /// When the actor may not send to the channel.
    pub(super) fn plan_broadcast(
        &self,
        actor: &CheckedOut,
        call: &Call,
        broadcast: Option<Broadcast>,
    ) -> Result<Option<Box<PlannedBroadcast>>, Error> {
        let Some(Broadcast { channel, payload }) = broadcast else { return Ok(None) };
        let from = &actor.entry.actor;
        let (subject, kind) = (Subject::Actor(from), CallKind::Broadcast);
        let (system, name, action) = (from.system(), channel.as_str(), kind.name());
        self.policies
            .check(&Access { subject, kind, system, name, action })
            .map_err(|error| Error::NotAllowed(format!("{error}; {NOT_KEPT}")))?;
        let topic = Topic::new(system, &channel);
        let caller = ActorId { parent: String::new(), ..ActorId::clone(&actor.spec.id) };
        let context = call.timing.context(call.route.len(), Stage::SideEffects, &call.traceparent);
        let planned = self.channels.plan(topic, payload, Some(caller), context);
        Ok(planned.ok().map(Box::new))
    }
}
