//! Routes: pipes and forwards keep what their call brought, in any combination with effects and broadcasts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use support::client::Client;
use support::counter::{SYSTEM, call, definition, register};
use support::host::{Answer, Call, Host, Script};
use support::proto::{
    Action, Actor, ActorInvocation, ActorInvocationResponse, ActorState, Any, Context,
    InvocationRequest, Kind, actor_invocation, actor_invocation_response, invocation_request,
    invocation_response,
};
use support::proxy::Proxy;
use tidegate::proto::eigr::functions::protocol::actors::Channel;
use tidegate::proto::eigr::functions::protocol::{
    Broadcast, Forward, Pipe, SideEffect, Workflow, broadcast, workflow,
};
use tokio::time::{sleep, timeout};

/// How long something that has to happen may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A host that notes its calls and answers by the action: see [`workflow_of`].
#[derive(Debug, Default)]
struct Crossing(Mutex<Vec<Called>>);

#[derive(Debug, Clone)]
struct Called {
    invocation: ActorInvocation,
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Called {
    fn actor(&self) -> &str {
        &self.invocation.actor.as_ref().unwrap().name
    }

    fn text(&self) -> &str {
        match &self.invocation.payload {
            Some(actor_invocation::Payload::Value(value)) => text_of(value),
            _ => "",
        }
    }

    /// Who called it.
    fn caller(&self) -> Option<&str> {
        self.invocation.caller.as_ref().map(|id| &*id.name)
    }
}

impl Script for Crossing {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let header = |name| call.header(name).map(ToOwned::to_owned);
            let (traceparent, tracestate) = (header("traceparent"), header("tracestate"));
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let called = Called { invocation: invocation.clone(), traceparent, tracestate };
            let said = format!("{}<{}", called.actor(), called.text());
            let round = self.rounds_of(called.actor());
            self.0.lock().push(called);
            let id = invocation.actor.unwrap();
            // Metadata of an answer counts for nothing: it cannot grow along a chain.
            let metadata = [("grown".to_owned(), "x".repeat(1_000))].into();
            let context = Context { state: Some(text(&said)), metadata, ..Context::default() };
            Some(Answer::message(&ActorInvocationResponse {
                workflow: Some(workflow_of(&invocation.action_name, &id.name, round)),
                actor_name: id.name,
                actor_system: id.system,
                updated_context: Some(context),
                payload: Some(actor_invocation_response::Payload::Value(text(&said))),
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

impl Crossing {
    /// How often an actor was called before.
    fn rounds_of(&self, actor: &str) -> usize {
        self.0.lock().iter().filter(|called| called.actor() == actor).count()
    }

    /// Waits until so many calls came; returns all of them.
    async fn called(&self, count: usize) -> Vec<Called> {
        let came = async {
            while self.0.lock().len() < count {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let came = timeout(LIMIT, came).await;
        came.unwrap_or_else(|_| panic!("called: {:?}", self.0.lock()));
        // One too many would come now.
        sleep(Duration::from_millis(100)).await;
        std::mem::take(&mut *self.0.lock())
    }
}

fn workflow_of(action: &str, actor: &str, round: usize) -> Workflow {
    let pipe = |to: &str, action: &str| {
        workflow::Routing::Pipe(Pipe { actor: to.into(), action_name: action.into() })
    };
    let forward = |to: &str, action: &str| {
        workflow::Routing::Forward(Forward { actor: to.into(), action_name: action.into() })
    };
    let routing = match (action, actor) {
        ("everything", _) => Some(pipe("next", "end")),
        ("lost", _) => Some(pipe("nobody", "end")),
        ("chain", "first") => Some(forward("second", "chain")),
        ("chain", "second") => Some(pipe("third", "end")),
        // To itself, twice.
        ("again", _) if round < 2 => Some(pipe(actor, "again")),
        ("forever", _) => Some(forward(if actor == "first" { "second" } else { "first" }, action)),
        _ => None,
    };
    let asks_for_all = matches!(action, "everything" | "lost");
    let effect = |to: &str| {
        let payload = Some(invocation_request::Payload::Value(text("effect")));
        SideEffect { request: Some(InvocationRequest { payload, ..call(to, "end") }) }
    };
    let effects = if asks_for_all { vec![effect("third"), effect("unknown")] } else { Vec::new() };
    let broadcast = asks_for_all.then(|| Broadcast {
        channel_group: "news".into(),
        payload: Some(broadcast::Payload::Value(text("broadcast"))),
    });
    Workflow { effects, broadcast, routing }
}

fn text(text: &str) -> Any {
    Any { type_url: "type.googleapis.com/tidegate.test.Text".into(), value: text.to_owned().into() }
}

fn text_of(value: &Any) -> &str {
    std::str::from_utf8(&value.value).unwrap()
}

fn actor(name: &str) -> Actor {
    let mut actor = definition(name, Kind::Named);
    let action = |name: &str| Action { name: name.into() };
    let actions = ["everything", "lost", "chain", "again", "forever", "end", "receive"];
    actor.actions = actions.map(action).to_vec();
    if name == "listener" {
        let channel = Channel { topic: "news".into(), action: String::new() };
        let channel = Bytes::from(channel.encode_to_vec());
        actor.metadata.as_mut().unwrap().channel_group = vec![channel];
    }
    actor
}

async fn start() -> (Arc<Crossing>, Host, Proxy, Client) {
    let crossing = Arc::new(Crossing::default());
    let host = Host::start(Arc::clone(&crossing));
    let port = host.port();
    let settings = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &*port),
    ];
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let names = ["first", "second", "third", "next", "listener"];
    register(&mut client, names.map(actor).to_vec()).await;
    (crossing, host, proxy, client)
}

/// Calls an action with a text; its status, and the text of the answer.
async fn ask(client: &mut Client, call: &InvocationRequest) -> (u16, String) {
    let (status, response) = client.invoke(call).await.unwrap();
    let text = match response.payload {
        Some(invocation_response::Payload::Value(value)) => text_of(&value).to_owned(),
        _ => response.status.map(|status| status.message).unwrap_or_default(),
    };
    (status, text)
}

fn asking(actor: &str, action: &str) -> InvocationRequest {
    let payload = Some(invocation_request::Payload::Value(text("asked")));
    InvocationRequest { payload, ..call(actor, action) }
}

async fn state(client: &mut Client, actor: &str) -> Option<String> {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
    let reply = client.get(&path).await.unwrap();
    let state = (reply.status == 200).then(|| reply.decode::<ActorState>().state.unwrap());
    state.map(|state| text_of(&state).to_owned())
}

#[tokio::test]
async fn one_response_asks_for_effects_a_broadcast_and_a_pipe() {
    let (crossing, _host, _proxy, mut client) = start().await;
    let answer = ask(&mut client, &asking("first", "everything")).await;
    assert_eq!(answer, (200, "next<first<asked".into()));
    let called = crossing.called(4).await;
    let mut seen: Vec<_> =
        called.iter().map(|called| (called.actor(), called.text(), called.caller())).collect();
    seen.sort_unstable();
    let expected = [
        ("first", "asked", None),
        ("listener", "broadcast", Some("first")),
        ("next", "first<asked", Some("first")),
        ("third", "effect", None),
    ];
    let without_caller_of_effects = seen
        .into_iter()
        .map(|(actor, text, caller)| (actor, text, if text == "effect" { None } else { caller }));
    assert_eq!(without_caller_of_effects.collect::<Vec<_>>(), expected);
    assert_eq!(state(&mut client, "first").await.as_deref(), Some("first<asked"));

    // The target is looked for before anything of the response counts.
    let (status, text) = ask(&mut client, &asking("second", "lost")).await;
    assert_eq!(status, 502, "{text}");
    assert!(text.contains("nobody") && text.contains("not kept"), "{text}");
    assert_eq!(crossing.called(1).await.len(), 1, "neither effects nor the broadcast left");
    assert_eq!(state(&mut client, "second").await, None);
}

#[tokio::test]
async fn a_chain_keeps_metadata_trace_and_deadline() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (crossing, _host, _proxy, mut client) = start().await;
    let mut chained = asking("first", "chain");
    chained.metadata.insert("request-timeout".into(), "20000".into());
    chained.metadata.insert("order".into(), "17".into());
    let path = format!("/api/v1/system/{SYSTEM}/actors/first/invoke");
    let request = hyper::Request::post(path)
        .header("host", "localhost")
        .header("traceparent", TRACE)
        .body(http_body_util::Full::new(chained.encode_to_vec().into()))
        .unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 200);
    let called = crossing.called(3).await;
    // A forward hands on the request, a pipe the answer.
    let seen: Vec<_> =
        called.iter().map(|called| (called.actor(), called.text(), called.caller())).collect();
    let expected = [
        ("first", "asked", None),
        ("second", "asked", Some("first")),
        ("third", "second<asked", Some("second")),
    ];
    assert_eq!(seen, expected);
    for called in &called {
        let context = called.invocation.current_context.as_ref().unwrap();
        assert_eq!(context.metadata, chained.metadata, "{called:?}");
        assert_eq!(called.traceparent.as_deref(), Some(TRACE), "{called:?}");
    }
}

#[tokio::test]
async fn what_a_call_causes_has_its_trace_context() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (crossing, _host, _proxy, mut client) = start().await;
    let path = format!("/api/v1/system/{SYSTEM}/actors/first/invoke");
    let asked = asking("first", "everything").encode_to_vec();
    let request = hyper::Request::post(path)
        .header("host", "localhost")
        .header("traceparent", TRACE)
        .header("tracestate", "a=1")
        .body(http_body_util::Full::new(asked.into()))
        .unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 200);
    for called in crossing.called(4).await {
        assert_eq!(called.traceparent.as_deref(), Some(TRACE), "{called:?}");
        assert_eq!(called.tracestate.as_deref(), Some("a=1"), "{called:?}");
    }
}

#[tokio::test]
async fn an_actor_routes_to_itself_and_a_circle_ends_with_its_path() {
    let (crossing, _host, _proxy, mut client) = start().await;
    let answer = ask(&mut client, &asking("first", "again")).await;
    assert_eq!(answer, (200, "first<first<first<asked".into()));
    crossing.called(3).await;
    // In the original, this one waits for itself.
    let asynchronous = InvocationRequest { r#async: true, ..asking("second", "again") };
    assert_eq!(ask(&mut client, &asynchronous).await.0, 200);
    assert_eq!(crossing.called(3).await.len(), 3);

    let (status, text) = ask(&mut client, &asking("first", "forever")).await;
    assert_eq!(status, 413, "{text}");
    assert!(text.contains("first → second → first → second"), "{text}");
    assert_eq!(crossing.called(33).await.len(), 33);
}
