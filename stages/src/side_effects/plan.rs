//! Plan: the workflow that a response asks for: effects to send, and where the call goes on.

use std::sync::Arc;

use super::{MAX_ROUTE, Planner};
use crate::access::{Access, CallKind, Subject};
use crate::activation::incarnation::Incarnation;
use crate::actor::{ActorId, ActorRef};
use crate::call::{Call, Completion, Emitted, EmittedEffect, Hop, Placed, Task};
use crate::error::Error;
use crate::identity::Identity;
use crate::invocation::{Invocation, Metadata, Payload, Routing};
use crate::last_errors;
use crate::outbox::pending::{MAX_EFFECT_BYTES, MAX_EFFECTS};
use crate::outbox::record::Record;
use crate::outbox::{EffectId, OutboxKey, OutboxRow};
use crate::registry::entry::{CheckedOut, Entry};
use crate::registry::known_host::KnownHost;
use crate::reply::Reply;
use crate::state::Timestamp;
use crate::traces::{Mark, Stage};

/// Text of the error when a response cannot be carried out.
pub(super) const NOT_KEPT: &str = "the action ran, its state was not kept";

impl Planner {
    /// Gives each effect its number and its row. They are no effects before the commit is durable.
    ///
    /// # Errors
    /// When there are too many of them, or one is for a later time.
    pub(super) fn plan_effects(
        &self,
        actor: &CheckedOut,
        call: &Call,
        effects: Vec<Invocation>,
    ) -> Result<Option<Box<Emitted>>, Error> {
        if effects.is_empty() {
            return Ok(None);
        }
        let (count, now) = (effects.len(), self.clock.now());
        let mut emitted = Vec::with_capacity(count.min(MAX_EFFECTS));
        let mut bytes = 0;
        let context = call.timing.context(call.route.len(), Stage::SideEffects, &call.traceparent);
        for mut invocation in effects {
            if invocation.actor.system.is_empty() {
                invocation.actor.system.clone_from(&actor.spec.id.system);
            }
            bytes += invocation.bytes();
            if count > MAX_EFFECTS || bytes > MAX_EFFECT_BYTES {
                return Err(Error::TooLarge(format!(
                    "one response may have {MAX_EFFECTS} side effects of {MAX_EFFECT_BYTES} bytes together, this one has \
                     {count}; {NOT_KEPT}"
                )));
            }
            invocation.traceparent.clone_from(&context);
            // An effect has no waiting caller, whatever its flag says, and the identity of the mesh.
            (invocation.asynchronous, invocation.identity) = (true, Identity::default());
            emitted.push(self.emitted(&actor.live.incarnation, invocation, now));
        }
        let (source, incarnation) = (actor.entry.clone(), &actor.live.incarnation);
        Ok(Some(Box::new(Emitted::new(source, incarnation, emitted))))
    }

    /// An effect with a number and a row of its own.
    pub(crate) fn emitted(
        &self,
        incarnation: &Incarnation,
        invocation: Invocation,
        at: Timestamp,
    ) -> EmittedEffect {
        let (epoch, activation) = (incarnation.epoch, incarnation.number);
        let number = self.effects.next_number();
        let record = Record { at, dead: None, invocation };
        let row = OutboxRow {
            key: OutboxKey { epoch, place: number },
            id: EffectId { epoch, activation, number },
            record: record.encode(),
        };
        EmittedEffect { row, invocation: record.invocation, at }
    }

    /// Returns the actor to which a response routes its call; `None` when the response answers the call.
    ///
    /// # Errors
    /// When there is no such actor or action, the actor may not call it, or the call was routed too often.
    pub(super) fn route(
        &self,
        actor: &CheckedOut,
        call: &Call,
        routing: Option<Routing>,
    ) -> Result<Option<Route>, Error> {
        let (target, action, is_piped) = match routing {
            None => return Ok(None),
            Some(Routing::Pipe { actor, action }) => (actor, action, true),
            Some(Routing::Forward { actor, action }) => (actor, action, false),
        };
        let from = &actor.entry.actor;
        if call.route.len() >= MAX_ROUTE {
            let path: Vec<&str> =
                call.route.iter().map(|hop| &hop.actor).chain([from]).map(ActorRef::name).collect();
            let path = path.join(" → ");
            return Err(Error::TooLarge(format!(
                "a call may be routed {MAX_ROUTE} times at most: {path} → {target}; {NOT_KEPT}"
            )));
        }
        let (name, system) = (from.name(), from.system());
        let kind = if is_piped { CallKind::Pipe } else { CallKind::Forward };
        let subject = Subject::Actor(from);
        self.policies
            .check(&Access { subject, kind, system, name: &target, action: &action })
            .map_err(|error| Error::NotAllowed(format!("{error}; {NOT_KEPT}")))?;
        let Some(entry) = self.directory.find(system, &target) else {
            return Err(Error::BadRoute(format!(
                "Actor {name} routed its call to {target}, which is not registered on ActorSystem {system}; {NOT_KEPT}"
            )));
        };
        let hosted = entry.spec().hosted;
        if !hosted.definition.knows(&action) {
            return Err(Error::BadRoute(format!(
                "Actor {name} routed its call to action {action} of {target}, which has no such action; {NOT_KEPT}"
            )));
        }
        let writes = hosted.definition.may_change(&action);
        let (host_limit, host) = hosted.choose(&entry.mailbox, None);
        let host_limit = if hosted.needs_host(&action) { host_limit } else { 0 };
        let host = host.clone();
        Ok(Some(Route { entry, host_limit, host, action, writes, is_piped }))
    }
}

/// Where a call goes on.
pub(super) struct Route {
    entry: Arc<Entry>,
    host_limit: u32,
    host: Arc<KnownHost>,
    action: String,
    writes: bool,
    /// Whether the next actor gets the response instead of the request.
    is_piped: bool,
}

/// Returns how the call ends at this actor: with its answer, or routed on.
pub(super) fn completion(
    actor: &CheckedOut,
    mut call: Box<Call>,
    payload: Payload,
    route: Option<Route>,
) -> (Completion, Option<(ActorRef, Box<Call>)>) {
    call.timing.mark(Mark::Planned);
    let from = actor.entry.actor.clone();
    let Some(route) = route else { return replied(from, call, Ok(payload)) };
    let (action, caller) = (std::mem::take(&mut call.action), call.caller.take());
    call.route.push(Hop { actor: from, action, caller, times: None });
    (Completion::Route(Box::new(routed(&actor.spec.id, *call, payload, route))), None)
}

/// Returns how the call ends with an answer, and what is left of it for its trace.
pub(super) fn replied(
    from: ActorRef,
    mut call: Box<Call>,
    answer: Result<Payload, Error>,
) -> (Completion, Option<(ActorRef, Box<Call>)>) {
    if let Err(error) = &answer
        && !call.reply.is_wanted()
    {
        last_errors::note(&from, error);
    }
    if !call.timing.is_traced() {
        return (Completion::Reply(call.reply, answer, call.permit), None);
    }
    let reply = std::mem::replace(&mut call.reply, Reply::unwanted());
    let permit = call.permit.take();
    // Whatever else counts for something goes now.
    let (payload, metadata) = (Payload::Unset, Metadata::new());
    let place_for_paused = None;
    *call = Call { payload, metadata, place_for_paused, _delivery: None, _load: None, ..*call };
    (Completion::Reply(reply, answer, permit), Some((from, call)))
}

/// Returns the call for its next actor. Permit, identity, metadata and trace stay (decision 10). The permit counts against the
/// next actor's host; the deadline is set when the call is queued there.
fn routed(from: &ActorId, call: Call, response: Payload, route: Route) -> Placed {
    let Route { entry, host_limit, host, action, writes, is_piped } = route;
    let caller = Some(ActorId { parent: String::new(), ..from.clone() });
    let payload = if is_piped { response } else { call.payload };
    let mut call = Call { action, payload, caller, spawns: false, writes, _load: None, ..call };
    if let Some(permit) = &mut call.permit {
        permit.charge(&host.admitted);
    }
    let retries = call.retries();
    Placed { entry, host_limit, task: Task::Call(Box::new(call)), place: None, retries }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::tests::definition;
    use crate::identity::PeerAddress;
    use crate::registry::directory::Directory;
    use crate::registry::entry::{Hosted, Source};
    use crate::reply::{Deadlines, Timing};

    fn entry(name: &str) -> Arc<Entry> {
        let definition = definition(name);
        let id = Arc::new(definition.id.clone());
        let source = Source::Defined(Hosted {
            definition: definition.into(),
            host_limit: 1,
            host: Arc::default(),
            several: None,
        });
        Directory::new().put(id, source)
    }

    #[tokio::test(start_paused = true)]
    async fn a_routed_call_keeps_its_identity() {
        let identity = Identity::of(PeerAddress::Ip([10, 0, 0, 7].into()));
        let invocation = Invocation { identity: identity.clone(), ..Invocation::default() };
        let call = Call {
            action: "add".into(),
            payload: Payload::Unset,
            metadata: invocation.metadata,
            identity: identity.clone(),
            caller: None,
            traceparent: String::new(),
            timing: Timing::new(Deadlines::default(), None),
            reply: Reply::unwanted(),
            spawns: false,
            writes: true,
            route: Vec::new(),
            is_async: true,
            permit: None,
            place_for_paused: None,
            effect: None,
            _delivery: None,
            _load: None,
        };
        let (from, to) = (entry("joe"), entry("moe"));
        let route = Route {
            entry: to,
            host_limit: 1,
            host: Arc::default(),
            action: "add".into(),
            writes: true,
            is_piped: false,
        };
        let placed = routed(&from.id(), call, Payload::Unset, route);
        let Task::Call(call) = placed.task else { panic!("a call stays one") };
        assert_eq!(call.identity, identity);
        assert_eq!(call.caller, Some(ActorId::clone(&from.id())), "the caller is another matter");
    }
}
