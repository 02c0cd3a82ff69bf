//! Side effects: takes a response apart. Plans what is to leave, gives the actor its new state, and
//! says what has to be written first; sends effects once their commit is durable.
//!
//! Everything that can be refused is refused before the state changes: a response that asks for what
//! cannot be done leaves the actor as it was. Effects have a bound of their own, and one effect never
//! touches another, nor the reply of the call that asked for it. They are kept in memory only.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::counter;
use tidegate_pipeline::{
    Bound, Drain, Full, Hold, KeyedEvent, KeyedOptions, KeyedProducer, Permit, Turn,
};
use tokio::time::sleep;
use tower::Service;
use tracing::warn;

use crate::actor::{ActorId, ActorRef};
use crate::caller::{Call, Caller, MAX_ROUTE, Origin, Task, Work};
use crate::directory::{Directory, Entry};
use crate::egress::Completion;
use crate::error::Error;
use crate::invocation::{ActorInvocationResponse, Invocation, Payload, Routing, Workflow};
use crate::lookup::CheckedOut;
use crate::metrics::EFFECTS_TOTAL;
use crate::ports::{Clock, Save};
use crate::registration::Registrar;
use crate::retries::Retries;
use crate::state::{ActorState, Any, Status, Tags};
use crate::timer::Timers;

/// When a stateful actor's change is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the reply that tells of it.
    #[default]
    Acknowledged,
    /// On the snapshot timer and on deactivation, as upstream does.
    Snapshot,
}

/// When the history gets a revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Revisions {
    /// When the snapshot strategy or a checkpoint says so.
    #[default]
    Snapshot,
    /// With every durable change.
    Every,
}

/// What an empty map of tags in a response means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmptyTags {
    /// The actor keeps its tags: several SDKs never send any.
    #[default]
    Keep,
    /// The actor loses its tags, as upstream does.
    Replace,
}

/// The rules by which a response changes an actor.
#[derive(Debug, Clone, Copy)]
pub struct ChangeRules {
    /// When a change is durable.
    pub durability: Durability,
    /// When the history grows.
    pub revisions: Revisions,
    /// What an empty map of tags means.
    pub empty_tags: EmptyTags,
    /// Largest state in bytes, type URL and tags included; one that is larger already may not grow.
    pub max_state_bytes: usize,
    /// Most effects of one actor that are planned and not yet sent.
    pub max_pending_effects: u32,
}

impl Default for ChangeRules {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            revisions: Revisions::default(),
            empty_tags: EmptyTags::default(),
            max_state_bytes: 4 << 20,
            max_pending_effects: 1024,
        }
    }
}

/// How long a side effect that finds no room is tried again.
const PATIENCE: Duration = Duration::from_mins(1);

/// An effect with its place in the sender's buffer.
pub(crate) struct PlannedEffect {
    invocation: Invocation,
    target: ActorRef,
    source: Arc<Entry>,
    /// How long and how often it is tried again when it finds no room.
    retries: Retries,
    _permit: Permit,
}

impl Drop for PlannedEffect {
    fn drop(&mut self) {
        self.source.pending_effects.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for PlannedEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedEffect").field("target", &self.target).finish_non_exhaustive()
    }
}

impl KeyedEvent for PlannedEffect {
    type Key = ActorRef;

    fn key(&self) -> &ActorRef {
        &self.target
    }

    fn lane(&self) -> u32 {
        0
    }
}

/// Where durable effects go: one at a time per target, in order. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EffectsSender {
    pub(crate) queue: KeyedProducer<PlannedEffect>,
}

impl EffectsSender {
    /// A sender with room for that many effects.
    pub(crate) fn new(bound: Bound) -> Self {
        let (name, per_key) = ("side_effects", bound.events);
        let options = KeyedOptions { name, bound, per_key, full: Full::Shed };
        Self { queue: KeyedProducer::new(options) }
    }

    /// Queues an effect that has its place already.
    pub(crate) fn send(&self, effect: PlannedEffect) {
        if let Err(rejected) = self.queue.push_exempt(effect) {
            warn!(target = %rejected.event.target, "side effect dropped: the proxy has shut down");
            counter!(EFFECTS_TOTAL, "outcome" => "dropped").increment(1);
        }
    }
}

/// What a response comes to.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What is to be written first, if anything.
    pub(crate) save: Option<Save>,
    /// What leaves then.
    pub(crate) completion: Completion,
    /// What leaves after that.
    pub(crate) effects: Vec<PlannedEffect>,
}

/// The stage; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SideEffects {
    pub(crate) rules: ChangeRules,
    pub(crate) directory: Arc<Directory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sender: EffectsSender,
    pub(crate) timers: Timers,
}

impl SideEffects {
    /// Applies a call's response to the actor.
    ///
    /// # Errors
    /// The call and why its response cannot be carried out; the actor is as it was.
    pub(crate) fn plan(
        &self,
        actor: &mut CheckedOut,
        call: Box<Call>,
        response: ActorInvocationResponse,
    ) -> Result<Plan, (Box<Call>, Error)> {
        let ActorInvocationResponse { state, tags, payload, workflow, checkpoint } = response;
        let Workflow { effects, broadcast, routing } = workflow;
        if let Some(broadcast) = broadcast {
            let text = format!(
                "broadcasting (here to channel {:?}) is not built yet; the action ran, its state was not kept",
                broadcast.channel
            );
            return Err((call, Error::Unsupported(text)));
        }
        let content = match self.new_content(actor, state, tags) {
            Ok(content) => content,
            Err(error) => return Err((call, error)),
        };
        let effects = match self.plan_effects(actor, effects) {
            Ok(effects) => effects,
            Err(error) => return Err((call, error)),
        };
        let changed = actor.live.change(content);
        let save = self.save(actor, changed, checkpoint);
        let completion = self.completion(actor, call, payload, routing);
        Ok(Plan { save, completion, effects })
    }

    /// Applies the response of an init action: state and tags only.
    pub(crate) fn plan_init(
        &self,
        actor: &mut CheckedOut,
        response: ActorInvocationResponse,
    ) -> Option<Save> {
        match self.new_content(actor, response.state, response.tags) {
            Ok(content) => {
                let changed = actor.live.change(content);
                self.save(actor, changed, false)
            }
            Err(error) => {
                warn!(actor = %actor.entry.actor, %error, "the init action's state was not taken");
                None
            }
        }
    }

    fn new_content(
        &self,
        actor: &CheckedOut,
        state: Option<Any>,
        tags: Tags,
    ) -> Result<ActorState, Error> {
        let current = &actor.live.content;
        let tags = if tags.is_empty() && self.rules.empty_tags == EmptyTags::Keep {
            current.tags.clone()
        } else {
            tags
        };
        let state = state.or_else(|| current.state.clone());
        let content = ActorState { tags, state };
        let bytes = content.bytes();
        // What is above the limit already, because that was lowered, may stay or shrink.
        if bytes > self.rules.max_state_bytes && bytes > current.bytes() {
            return Err(Error::TooLarge(format!(
                "the new state has {bytes} bytes with its tags, at most {} are allowed (TIDEGATE_MAX_STATE_BYTES); \
                 the action ran, the old state stays",
                self.rules.max_state_bytes
            )));
        }
        Ok(content)
    }

    /// What has to be written before anything leaves.
    fn save(&self, actor: &mut CheckedOut, changed: bool, checkpoint: bool) -> Option<Save> {
        let definition = &actor.spec.hosted.definition;
        if !definition.stateful {
            return None;
        }
        let acknowledged = self.rules.durability == Durability::Acknowledged;
        let every = self.rules.revisions == Revisions::Every && acknowledged && changed;
        let append = (checkpoint || every) && actor.live.is_unrevised();
        let write = append || (actor.live.is_dirty() && (acknowledged || checkpoint));
        let save = write.then(|| {
            let now = self.clock.now();
            actor.live.save(&actor.entry, &actor.spec.id, Status::Activated, append, now)
        });
        if changed && !append {
            self.timers.changed(&actor.entry, definition);
        }
        save
    }

    fn plan_effects(
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
            let target = ActorRef::new(&invocation.actor.system, &invocation.actor.name);
            let Ok(permit) = self.sender.queue.try_reserve(invocation.bytes()) else {
                let reason = "too many side effects wait to be sent, its state was not kept".into();
                let retry_after = Duration::from_secs(1);
                return Err(Error::Overloaded { reason, retry_after }.after_action());
            };
            actor.entry.pending_effects.fetch_add(1, Ordering::Relaxed);
            let source = actor.entry.clone();
            let retries = Retries::lasting(PATIENCE);
            planned.push(PlannedEffect { invocation, target, source, retries, _permit: permit });
        }
        Ok(planned)
    }

    fn completion(
        &self,
        actor: &CheckedOut,
        call: Box<Call>,
        payload: Payload,
        routing: Option<Routing>,
    ) -> Completion {
        let (target, action, piped) = match routing {
            None => return Completion::Reply(call.reply, Ok(payload), call.permit),
            Some(Routing::Pipe { actor, action }) => (actor, action, Some(payload)),
            Some(Routing::Forward { actor, action }) => (actor, action, None),
        };
        let system = actor.entry.actor.system();
        let mut call = call;
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
                let spec = entry.spec();
                if spec.hosted.definition.knows(&action) {
                    return Completion::Route(Box::new(routed(
                        actor,
                        *call,
                        piped,
                        action,
                        entry,
                        spec.hosted.host_limit,
                    )));
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
) -> Work {
    let caller = ActorId { parent: String::new(), ..ActorId::clone(&from.spec.id) };
    let timing = call.timing.routed();
    let payload = piped.unwrap_or(call.payload);
    let call = Call { action, payload, caller: Some(caller), timing, spawns: false, ..call };
    let retries = call.retries();
    Work { entry, host_limit, task: Task::Call(Box::new(call)), retries }
}

/// Sends effects: the consumer behind [`EffectsSender`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Deliver {
    pub(crate) caller: Caller,
    pub(crate) registrar: Registrar,
    pub(crate) tasks: Drain,
}

impl Deliver {
    async fn deliver(self, mut effect: PlannedEffect, hold: Hold<PlannedEffect>) {
        let Err(error) = self.admit(effect.invocation.clone()).await else {
            counter!(EFFECTS_TOTAL, "outcome" => "sent").increment(1);
            return;
        };
        // Draining: the doors closed in between; next time it is exempt.
        let again = matches!(error, Error::Overloaded { .. } | Error::Store(_) | Error::Draining);
        if let Some(pause) = effect.retries.next().filter(|_| again) {
            // The target's effects keep their order, those of other targets go on meanwhile.
            let parked = hold.park();
            self.tasks.spawn(async move {
                sleep(pause).await;
                parked.resume(effect);
            });
            return;
        }
        counter!(EFFECTS_TOTAL, "outcome" => "failed").increment(1);
        warn!(source = %effect.source.actor, target = %effect.target, %error, "side effect not delivered");
    }

    async fn admit(&self, invocation: Invocation) -> Result<(), Error> {
        let spawned = self.registrar.spawn_referenced(&invocation).await?;
        let checked = self.caller.check(invocation, spawned)?;
        self.caller.admit(checked, Origin::Inside).await.map(drop)
    }
}

impl Service<Turn<PlannedEffect>> for Deliver {
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, turn: Turn<PlannedEffect>) -> Self::Future {
        let stage = self.clone();
        Box::pin(async move {
            let (effect, hold) = turn.into_parts();
            stage.deliver(effect, hold).await;
            Ok(())
        })
    }
}
