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
                    let placed = routed(actor, *call, piped, action, entry, hosted.host_limit);
                    return Completion::Route(Box::new(placed));
                }
                Error::ActionNotFound { actor: target, action }
            }
        };
        Completion::Reply(call.reply, Err(unroutable), call.permit)
    }
}

/// The same call at its next actor: permit, deadline, metadata and trace stay (decision 10).
fn routed(
    from: &CheckedOut,
    call: Call,
    piped: Option<Payload>,
    action: String,
    entry: Arc<Entry>,
    host_limit: u32,
) -> Placed {
    let caller = ActorId { parent: String::new(), ..ActorId::clone(&from.spec.id) };
    let timing = call.timing.routed();
    let payload = piped.unwrap_or(call.payload);
    let call = Call { action, payload, caller: Some(caller), timing, spawns: false, ..call };
    let retries = call.retries();
    Placed { entry, host_limit, task: Task::Call(Box::new(call)), retries }
}
