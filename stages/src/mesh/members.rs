//! Members: broadcasts that come from other proxies of the same systems.

use crate::access::{Access, CallKind, Subject};
use crate::actor::check_name;
use crate::error::Error;
use crate::identity::{Identity, PeerAddress};
use crate::mesh::Mesh;
use crate::placement::overloaded;
use crate::ports::MemberBroadcast;
use crate::registry::subscribers::Topic;

impl Mesh {
    /// Queues a broadcast of another member for the subscribers here, behind those of its topic. It goes to no further member.
    /// Policies see a call of the kind `broadcast` of the peer `NATS`, whose target is the topic.
    ///
    /// # Errors
    /// When a name is not allowed, a policy refuses it, a bound is reached, or the mesh is draining. It reaches nobody then.
    pub fn receive(&self, broadcast: MemberBroadcast) -> Result<(), Error> {
        self.refuse_while_closed()?;
        let MemberBroadcast { system, topic, payload, caller, mut traceparent } = broadcast;
        let caller_names =
            caller.iter().flat_map(|id| [("caller", &id.name), ("caller", &id.system)]);
        for (part, name) in [("system", &system), ("topic", &topic)].into_iter().chain(caller_names)
        {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        let identity = Identity::of(PeerAddress::Nats);
        let (subject, kind) = (Subject::Client(&identity), CallKind::Broadcast);
        let (system, name, action) = (system.as_str(), topic.as_str(), kind.name());
        self.policies.check(&Access { subject, kind, system, name, action })?;
        self.mailboxes.tracer.begin(&mut traceparent);
        let planned = self
            .channels
            .plan(Topic::new(system, name), payload, caller, traceparent)
            .map_err(|_| {
                overloaded("broadcasts", "too many broadcasts wait for their subscribers".into())
            })?;
        self.channels.send(planned.of_member(identity));
        Ok(())
    }
}
