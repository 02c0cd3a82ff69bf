//! Actors that count: a host whose every action adds one, and callers that remember what they were told.
//!
//! A state is a text that no other state shares, a [`mark`], so that a trace of system calls shows which
//! state a write carried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::{Client, NoAnswer};
use super::host::{Answer, Call, Script};
use super::proto::{
    Action, Actor, ActorDeactivationStrategy, ActorId, ActorInvocation, ActorInvocationResponse,
    ActorSettings, ActorState, ActorSystem, Any, Context, InvocationRequest, Kind, Metadata,
    RegistrationRequest, RegistrationResponse, Registry, ServiceInfo, SpawnRequest, Status,
    TimeoutStrategy, actor_deactivation_strategy, actor_invocation_response, invocation_response,
};

/// The system that all of them live in.
pub(crate) const SYSTEM: &str = "counting";
/// The action that adds one.
pub(crate) const ADD: &str = "add";

/// The text that stands for an actor's nth value.
pub(crate) fn mark(actor: &str, value: u32) -> String {
    format!("<mark:{actor}:{value:08}>")
}

/// All marks in a text, with their actors.
pub(crate) fn marks(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.split("<mark:").skip(1).filter_map(|rest| {
        let (actor, rest) = rest.split_once(':')?;
        let value = rest.get(..8)?.parse().ok()?;
        rest.get(8..)?.starts_with('>').then_some((actor, value))
    })
}

/// The value that a state stands for; 0 for none.
fn value_of(state: Option<&Any>) -> u32 {
    let Some(state) = state else { return 0 };
    let text = std::str::from_utf8(&state.value).expect("a state is text");
    marks(text).next().expect("a state holds its mark").1
}

/// Three copies of its mark: a store that splits a write somewhere leaves one whole.
fn state_of(actor: &str, value: u32) -> Any {
    let text = mark(actor, value).repeat(3);
    Any { type_url: "type.googleapis.com/tidegate.test.Mark".into(), value: text.into() }
}

/// The host.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// How long an action takes.
    pub(crate) takes: Duration,
    /// The identities that were called, by name.
    pub(crate) called: Mutex<BTreeMap<String, ActorId>>,
}

impl Script for Counter {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).expect("an invocation");
            let id = invocation.actor.expect("an actor");
            let context = invocation.current_context.expect("a context");
            let now = state_of(&id.name, value_of(context.state.as_ref()) + 1);
            self.called.lock().insert(id.name.clone(), id.clone());
            sleep(self.takes).await;
            Some(Answer::message(&ActorInvocationResponse {
                actor_name: id.name,
                actor_system: id.system,
                payload: Some(actor_invocation_response::Payload::Value(now.clone())),
                updated_context: Some(Context { state: Some(now), ..Context::default() }),
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

/// A definition of a counting actor that is never unloaded within a test.
pub(crate) fn definition(name: &str, kind: Kind) -> Actor {
    let strategy =
        actor_deactivation_strategy::Strategy::Timeout(TimeoutStrategy { timeout: 600_000 });
    Actor {
        id: Some(ActorId { name: name.into(), system: SYSTEM.into(), parent: String::new() }),
        state: Some(ActorState::default()),
        settings: Some(ActorSettings {
            kind: kind as i32,
            stateful: true,
            deactivation_strategy: Some(ActorDeactivationStrategy { strategy: Some(strategy) }),
            ..ActorSettings::default()
        }),
        actions: vec![Action { name: ADD.into() }],
        metadata: Some(Metadata::default()),
        ..Actor::default()
    }
}

/// Registers definitions.
pub(crate) async fn register(client: &mut Client, definitions: Vec<Actor>) {
    let name = |actor: &Actor| actor.id.as_ref().expect("named").name.clone();
    let actors = definitions.into_iter().map(|actor| (name(&actor), actor)).collect();
    let request = RegistrationRequest {
        service_info: Some(ServiceInfo::default()),
        actor_system: Some(ActorSystem {
            name: SYSTEM.into(),
            registry: Some(Registry { actors }),
        }),
    };
    let reply = client.post("/api/v1/system", request.encode_to_vec().into()).await;
    let reply = reply.expect("a registration is answered");
    let status = reply.decode::<RegistrationResponse>().status.expect("a status");
    assert_eq!((reply.status, status.status()), (200, Status::Ok), "{}", status.message);
}

/// Spawns instances of a definition.
pub(crate) async fn spawn(client: &mut Client, parent: &str, names: &[&str]) {
    let id = |name: &&str| ActorId {
        name: (*name).into(),
        system: SYSTEM.into(),
        parent: parent.into(),
    };
    let request = SpawnRequest { actors: names.iter().map(id).collect() };
    let path = format!("/api/v1/system/{SYSTEM}/actors/spawn");
    let reply = client.post(&path, request.encode_to_vec().into()).await;
    assert_eq!(reply.expect("a spawn is answered").status, 200);
}

/// A call of an action, without payload.
pub(crate) fn call(actor: &str, action: &str) -> InvocationRequest {
    let id = ActorId { name: actor.into(), system: SYSTEM.into(), parent: String::new() };
    InvocationRequest {
        system: Some(ActorSystem { name: SYSTEM.into(), registry: None }),
        actor: Some(Actor { id: Some(id), ..Actor::default() }),
        action_name: action.into(),
        ..InvocationRequest::default()
    }
}

/// What a call of `add` came to.
#[derive(Debug)]
pub(crate) enum Added {
    /// The new value.
    To(u32),
    /// Another status than 200.
    Refused(u16, String),
}

/// Adds one.
pub(crate) async fn add(client: &mut Client, actor: &str) -> Result<Added, NoAnswer> {
    let (http, response) = client.invoke(&call(actor, ADD)).await?;
    if http != 200 {
        let status = response.status.expect("a failure has a status");
        assert!(!status.message.is_empty(), "a failure has a text");
        return Ok(Added::Refused(http, status.message));
    }
    let Some(invocation_response::Payload::Value(value)) = response.payload else {
        panic!("an answer of `add` without a value");
    };
    Ok(Added::To(value_of(Some(&value))))
}

/// The current value, by the action that the proxy answers itself.
pub(crate) async fn get(client: &mut Client, actor: &str) -> u32 {
    let (http, response) = client.invoke(&call(actor, "get")).await.expect("`get` is answered");
    assert_eq!(http, 200, "{:?}", response.status);
    match response.payload {
        Some(invocation_response::Payload::Value(value)) => value_of(Some(&value)),
        _ => 0,
    }
}

/// The current value, by the state's own address.
pub(crate) async fn get_state(client: &mut Client, actor: &str) -> u32 {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
    let reply = client.get(&path).await.expect("a GET is answered");
    match reply.status {
        200 => value_of(reply.decode::<ActorState>().state.as_ref()),
        404 => 0,
        status => panic!("GET of a state answers {status}: {:?}", Bytes::clone(&reply.body)),
    }
}

/// What is known of one actor.
#[derive(Debug, Default)]
struct Known {
    /// Values that were acknowledged; each may be so only once.
    acknowledged: BTreeSet<u32>,
    /// Calls that were sent since the last look.
    attempted: u32,
    /// Value at the last look.
    looked: u32,
}

/// Callers of counting actors, and what they were told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: Mutex<BTreeMap<String, Known>>,
    in_flight: AtomicU32,
    acknowledged: AtomicU32,
}

impl Ledger {
    /// How many calls wait for their answer now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// How many calls were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// One caller for each entry of `actors`, until its connection fails or it is refused. The answers that were refusals.
    pub(crate) fn load(self: &Arc<Self>, address: &str, actors: &[String]) -> JoinSet<Option<u16>> {
        let mut callers = JoinSet::new();
        for actor in actors {
            let (ledger, address, actor) = (Arc::clone(self), address.to_owned(), actor.clone());
            callers.spawn(async move { ledger.call_until_refused(&address, &actor).await });
        }
        callers
    }

    async fn call_until_refused(&self, address: &str, actor: &str) -> Option<u16> {
        let mut client = Client::connect(address).await.ok()?;
        loop {
            self.known.lock().entry(actor.to_owned()).or_default().attempted += 1;
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            let added = add(&mut client, actor).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            match added {
                Ok(Added::To(value)) => self.acknowledge(actor, value),
                Ok(Added::Refused(status, _)) => return Some(status),
                Err(NoAnswer::Connection(_)) => return None,
                Err(NoAnswer::Silence) => panic!("a call of {actor} was never answered"),
            }
        }
    }

    fn acknowledge(&self, actor: &str, value: u32) {
        let mut known = self.known.lock();
        let new = known.get_mut(actor).expect("it was called").acknowledged.insert(value);
        assert!(new, "{actor} acknowledged {value} twice: an update was lost");
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    /// Compares what every actor says with what its callers know, and starts over from there.
    ///
    /// # Panics
    /// When an acknowledged value is gone, or a value appeared that nobody asked for.
    pub(crate) async fn check(&self, address: &str, by_get_state: bool) {
        let mut client = Client::connect(address).await.expect("the proxy is there");
        let names: Vec<String> = self.known.lock().keys().cloned().collect();
        for actor in names {
            let value = if by_get_state {
                get_state(&mut client, &actor).await
            } else {
                get(&mut client, &actor).await
            };
            let mut known = self.known.lock();
            let known = known.get_mut(&actor).expect("it was listed");
            let acknowledged = known.acknowledged.last().copied().unwrap_or_default();
            assert!(
                value >= acknowledged,
                "{actor} is at {value}, {acknowledged} was acknowledged"
            );
            let attempted = known.looked + known.attempted;
            assert!(value <= attempted, "{actor} is at {value}, at most {attempted} was attempted");
            (known.looked, known.attempted) = (value, 0);
        }
    }
}
