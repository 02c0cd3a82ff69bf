//! Plan: the workflow that a response asks for: effects to send, and where the call goes on.

use std::sync::Arc;
use std::time::Duration;

use super::{MAX_ROUTE, Planner};
use crate::actor::{ActorId, ActorRef};
use crate::call::{Call, Completion, Placed, PlannedEffect, Task};
use crate::error::Error;
use crate::invocation::{Invocation, Payload, Routing};
use crate::registry::entry::{CheckedOut, Entry};
use crate::retries::Retries;

/// How long a side effect whose target has no room is tried again.
const PATIENCE: Duration = Duration::from_mins(1);

impl Planner {
    pub(super) fn plan_effects(
        &self,
        actor: &CheckedOut,
        effects: Vec<Invocation>,
    ) -> Result<Vec<PlannedEffect>, Error> {
        let mut planned = Vec::with_capacity(effects.len());
        for mut invocation in effects {
            let id = &actor.spec.id;
            if invocation.actor.system.is_empty() {
                invocation.actor.system.clone_from(&id.system);
            }
            // Nobody waits for an effect, whatever its flag says.
            invocation.asynchronous = true;
            let Ok(permit) = self.sender.queue.try_reserve(invocation.bytes()) else {
                let reason = "too many side effects wait to be sent, its state was not kept".into();
                return Err(Error::Overloaded { reason, retry_after: Duration::from_secs(1) });
            };
            let retries = Retries::lasting(PATIENCE);
            planned.push(PlannedEffect::new(invocation, actor.entry.clone(), retries, permit));
        }
        Ok(planned)
    }

    /// How the call ends here: with its answer, or at another actor.
    pub(super) fn completion(
        &self,
        actor: &CheckedOut,
        mut call: Box<Call>,
        payload: Payload,
        routing: Option<Routing>,
    ) -> Completion {
        let (target, action, piped) = match routing {
            None => return Completion::Reply(call.reply, Ok(payload), call.permit),
            Some(Routing::Pipe { actor, action }) => (actor, action, Some(payload)),
            Some(Routing::Forward { actor, action }) => (actor, action, None),
        };
        let system = actor.entry.actor.system();
        call.route.push(actor.entry.actor.clone());
        let unroutable = match self.directory.find(system, &target) {
            _ if call.route.len() > MAX_ROUTE => {
                let path: Vec<&str> = call.route.iter().map(ActorRef::name).collect();
                let path = path.join(" → ");
                Error::TooLarge(format!(
                    "a call may be routed {MAX_ROUTE} times at most: {path} → {target}"
                ))
            }
            None => Error::ActorNotFound { system: system.into(), name: target },
            Some(entry) => {
                let hosted = entry.spec().hosted;
                if hosted.definition.knows(&action) {
                    let placed =
                        routed(&actor.spec.id, *call, piped, action, entry, hosted.host_limit);
                    return Completion::Route(Box::new(placed));
                }
                Error::ActionNotFound { actor: target, action }
            }
        };
        Completion::Reply(call.reply, Err(unroutable), call.permit)
    }
}

/// The same call at its next actor: permit, deadline, identity, metadata and trace stay (decision 10).
fn routed(
    from: &ActorId,
    call: Call,
    piped: Option<Payload>,
    action: String,
    entry: Arc<Entry>,
    host_limit: u32,
) -> Placed {
    let caller = ActorId { parent: String::new(), ..from.clone() };
    let timing = call.timing.routed();
    let payload = piped.unwrap_or(call.payload);
    let call = Call { action, payload, caller: Some(caller), timing, spawns: false, ..call };
    let retries = call.retries();
    Placed { entry, host_limit, task: Task::Call(Box::new(call)), retries }
}

#[cfg(test)]
mod tests {
    use tidegate_pipeline::Bound;

    use super::*;
    use crate::actor::tests::definition;
    use crate::effects::EffectsSender;
    use crate::identity::{Identity, PeerAddress};
    use crate::registry::directory::Directory;
    use crate::registry::entry::{Hosted, Source};
    use crate::reply::{Deadlines, Reply, Timing};

    fn entry(name: &str) -> Arc<Entry> {
        let definition = definition(name);
        let id = Arc::new(definition.id.clone());
        let source = Source::Defined(Hosted { definition: definition.into(), host_limit: 1 });
        Directory::new().put(id, source)
    }

    #[tokio::test(start_paused = true)]
    async fn a_routed_call_keeps_its_identity_and_an_effect_has_that_of_the_mesh() {
        let identity = Identity::of(PeerAddress::Ip([10, 0, 0, 7].into()));
        let invocation = Invocation { identity: identity.clone(), ..Invocation::default() };
        let call = Call {
            action: "add".into(),
            payload: Payload::Unset,
            metadata: invocation.metadata.clone(),
            identity: identity.clone(),
            caller: None,
            traceparent: String::new(),
            timing: Timing::new(Deadlines::default(), None),
            reply: Reply::unwanted(),
            spawns: false,
            route: Vec::new(),
            permit: None,
        };
        let (from, to) = (entry("joe"), entry("moe"));
        let placed = routed(&from.id(), call, None, "add".into(), to, 1);
        let Task::Call(call) = placed.task else { panic!("a call stays one") };
        assert_eq!(call.identity, identity);
        assert_eq!(call.caller, Some(ActorId::clone(&from.id())), "the caller is another matter");

        let sender = EffectsSender::new(Bound { events: 1, bytes: 1 });
        let permit = sender.queue.try_reserve(0).unwrap();
        let effect = PlannedEffect::new(invocation, from, Retries::lasting(PATIENCE), permit);
        assert_eq!(effect.invocation.identity, Identity::default());
    }
}
