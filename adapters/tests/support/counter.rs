//! Counting actors: a host whose every action adds one, and the calls to it.
//!
//! A state is a unique text, a [`mark`], so that a trace of system calls shows which state a write carried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::Request;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
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

/// Three copies of its mark, and more: a store that splits a write somewhere leaves one whole.
fn state_of(actor: &str, value: u32, padding: usize) -> Any {
    let text = mark(actor, value).repeat(3) + &" ".repeat(padding);
    Any { type_url: "type.googleapis.com/tidegate.test.Mark".into(), value: text.into() }
}

/// The host.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// How long an action takes.
    pub(crate) takes: Duration,
    /// Bytes that its states have besides their marks.
    pub(crate) padding: usize,
    /// The identities that were called, by name.
    pub(crate) called: Mutex<BTreeMap<String, ActorId>>,
}

impl Script for Counter {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).expect("an invocation");
            let id = invocation.actor.expect("an actor");
            let context = invocation.current_context.expect("a context");
            let value = value_of(context.state.as_ref()) + 1;
            let now = state_of(&id.name, value, self.padding);
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

/// Counts as soon as it is open.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) counter: Arc<Counter>,
    pub(crate) open: watch::Receiver<bool>,
}

impl Script for Gate {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            self.open.clone().wait_for(|open| *open).await.expect("the test keeps the other end");
            self.counter.clone().answer(call).await
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

/// The same of one whose state is nowhere but in memory.
pub(crate) fn stateless(name: &str) -> Actor {
    let mut actor = definition(name, Kind::Named);
    actor.settings.as_mut().expect("it has settings").stateful = false;
    actor
}

/// Registers definitions of the host that the settings name.
pub(crate) async fn register(client: &mut Client, definitions: Vec<Actor>) {
    register_with(client, None, definitions).await;
}

/// Registers definitions of the host at `http://host:port`.
pub(crate) async fn register_at(client: &mut Client, host: &str, definitions: Vec<Actor>) {
    register_with(client, Some(host), definitions).await;
}

async fn register_with(client: &mut Client, host: Option<&str>, definitions: Vec<Actor>) {
    let reply = client.send(registration(host, definitions)).await;
    let reply = reply.expect("a registration is answered");
    let status = reply.decode::<RegistrationResponse>().status.expect("a status");
    assert_eq!((reply.status, status.status()), (200, Status::Ok), "{}", status.message);
}

/// The request that registers definitions, of the host at this address if one is named.
pub(crate) fn registration(host: Option<&str>, definitions: Vec<Actor>) -> Request<Full<Bytes>> {
    let name = |actor: &Actor| actor.id.as_ref().expect("named").name.clone();
    let actors = definitions.into_iter().map(|actor| (name(&actor), actor)).collect();
    let registration = RegistrationRequest {
        service_info: Some(ServiceInfo::default()),
        actor_system: Some(ActorSystem {
            name: SYSTEM.into(),
            registry: Some(Registry { actors }),
        }),
    };
    let mut request = Request::post("/api/v1/system")
        .header("host", "localhost")
        .header("content-type", "application/octet-stream");
    if let Some(host) = host {
        request = request.header("tidegate-host", host);
    }
    let request = request.body(Full::new(registration.encode_to_vec().into()));
    request.expect("a valid request")
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
    sum(client, &call(actor, ADD)).await
}

/// Adds one, and waits no longer for it than this.
pub(crate) async fn add_within(
    client: &mut Client,
    actor: &str,
    patience: Duration,
) -> Result<Added, NoAnswer> {
    let mut call = call(actor, ADD);
    call.metadata.insert("request-timeout".into(), patience.as_millis().to_string());
    sum(client, &call).await
}

async fn sum(client: &mut Client, call: &InvocationRequest) -> Result<Added, NoAnswer> {
    let (http, response) = client.invoke(call).await?;
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
