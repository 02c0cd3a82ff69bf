//! Traces of the built binary, as the OpenTelemetry collector receives them; and receivers that fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

#[path = "see_traces/collector.rs"]
mod collector;

use std::sync::Arc;

use bytes::Bytes;
use collector::{Collector, LIMIT, Span, free_port};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message;
use support::client::Client;
use support::counter::{SYSTEM, call, definition, register};
use support::host::{Answer, Call, Host, Script};
use support::proto::{
    Action, Actor, ActorInvocation, ActorInvocationResponse, Any, Context, InvocationRequest, Kind,
};
use support::proxy::Proxy;
use support::scrape::{count, until_count};
use tidegate::clock::SystemClock;
use tidegate::proto::eigr::functions::protocol::actors::Channel;
use tidegate::proto::eigr::functions::protocol::{
    Broadcast, Pipe, SideEffect, Workflow, broadcast, workflow,
};
use tidegate_stages::ports::Clock;
use tokio::net::TcpListener;
use tokio::time::timeout;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// The stages of a call that changes a state.
const STAGES: [&str; 5] = ["caller", "lookup", "invoke", "side_effects", "checkpoint"];
const DROPPED: &str = "tidegate_trace_spans_dropped_total";
const EXPORTED: &str = "tidegate_trace_spans_exported_total";

/// A host that notes the trace contexts of its calls.
#[derive(Debug, Default)]
struct Worker(Mutex<Vec<(String, Option<String>)>>);

impl Worker {
    /// The trace context that an actor was called with.
    fn context_of(&self, actor: &str) -> Option<String> {
        let calls = self.0.lock();
        calls.iter().find(|(name, _)| name == actor).unwrap().1.clone()
    }
}

impl Script for Worker {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let context = call.header("traceparent").map(ToOwned::to_owned);
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let id = invocation.actor.unwrap();
            self.0.lock().push((id.name.clone(), context));
            if invocation.action_name == "fail" {
                return None;
            }
            let state = Any { type_url: "type.googleapis.com/t.T".into(), value: "x".into() };
            Some(Answer::message(&ActorInvocationResponse {
                workflow: (invocation.action_name == "work").then(workflow),
                actor_name: id.name,
                actor_system: id.system,
                updated_context: Some(Context { state: Some(state), ..Context::default() }),
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

/// A pipe, a side effect and a broadcast.
fn workflow() -> Workflow {
    let next = Pipe { actor: "next".into(), action_name: "end".into() };
    let message = broadcast::Payload::Value(Any::default());
    Workflow {
        effects: vec![SideEffect { request: Some(call("third", "end")) }],
        broadcast: Some(Broadcast { channel_group: "news".into(), payload: Some(message) }),
        routing: Some(workflow::Routing::Pipe(next)),
    }
}

fn actor(name: &str) -> Actor {
    let mut actor = definition(name, Kind::Named);
    let action = |name: &str| Action { name: name.into() };
    actor.actions = ["work", "end", "fail", "receive"].map(action).to_vec();
    if name == "listener" {
        let channel = Channel { topic: "news".into(), action: String::new() };
        let channel = Bytes::from(channel.encode_to_vec());
        actor.metadata.as_mut().unwrap().channel_group = vec![channel];
    }
    actor
}

struct World {
    worker: Arc<Worker>,
    _host: Host,
    proxy: Proxy,
    client: Client,
}

/// A proxy with these settings, and its host.
async fn start(settings: &[(&str, &str)]) -> World {
    let worker = Arc::new(Worker::default());
    let host = Host::start(Arc::clone(&worker));
    let port = host.port();
    let mut all = vec![
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &*port),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ];
    all.extend(settings.iter().copied());
    let proxy = Proxy::start(&all).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, ["first", "next", "third", "listener"].map(actor).to_vec()).await;
    World { worker, _host: host, proxy, client }
}

impl World {
    /// Calls an action, perhaps with a trace context. Returns the status.
    async fn invoke(&mut self, asked: &InvocationRequest, traceparent: Option<&str>) -> u16 {
        let path = format!("/api/v1/system/{SYSTEM}/actors/x/invoke");
        let mut request = hyper::Request::post(path).header("host", "localhost");
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let body = http_body_util::Full::new(asked.encode_to_vec().into());
        self.client.send(request.body(body).unwrap()).await.unwrap().status
    }
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, &**value)).collect()
}

fn one(spans: &[Span], is_it: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<_> = spans.iter().filter(|span| is_it(span)).collect();
    let [span] = found[..] else { panic!("{} of {spans:#?}", found.len()) };
    span
}

/// The spans below a root at one actor, in the order of the stages.
fn stages<'a>(spans: &'a [Span], root: &Span, actor: &str) -> Vec<&'a Span> {
    let mut found: Vec<_> = spans
        .iter()
        .filter(|span| span.parent == root.id && span.attribute("actor_name") == actor)
        .collect();
    found.sort_by_key(|span| STAGES.iter().position(|stage| *stage == span.name));
    for span in &found {
        assert_eq!(span.trace, root.trace, "{span:?}");
        assert!(span.starts >= root.starts && span.ends <= root.ends, "{span:?} {root:?}");
        for time in ["tidegate.queue_ms", "tidegate.service_ms"] {
            assert!(span.attribute(time).parse::<f64>().unwrap() >= 0.0, "{span:?}");
        }
    }
    found
}

fn names<'a>(spans: &[&'a Span]) -> Vec<&'a str> {
    spans.iter().map(|span| &*span.name).collect()
}

async fn a_workflow_over(protocol: &'static str) {
    let collector = Collector::start().await;
    let settings = collector.settings(protocol);
    let mut world = start(&borrowed(&settings)).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    assert_eq!(world.invoke(&call("first", "work"), Some(&parent)).await, 200);
    // A root and five stages of one actor, four more of the next; a root and five stages of each of the others.
    let spans = collector.spans(10 + 6 + 6).await;

    let root = one(&spans, |span| span.name == "client invoke");
    assert_eq!((&*root.trace, &*root.parent), (TRACE, CALLER));
    assert_eq!((&*root.kind, &*root.status, &*root.service), ("Server", "Unset", "tidegate"));
    for (name, value) in [
        ("async", "false"),
        ("from", "external"),
        ("target", "first"),
        ("system_name", SYSTEM),
        ("actor_name", "first"),
        ("tidegate.action", "work"),
        ("tidegate.route", "first → next"),
    ] {
        assert_eq!(root.attribute(name), value);
    }
    let first = stages(&spans, root, "first");
    assert_eq!(names(&first), STAGES);
    let next = stages(&spans, root, "next");
    assert_eq!(names(&next), STAGES[1..]);
    let context = |invoke: &Span| Some(format!("00-{}-{}-01", invoke.trace, invoke.id));
    assert_eq!(world.worker.context_of("first"), context(first[2]), "our span is the parent");
    assert_eq!(world.worker.context_of("next"), context(next[1]));

    for (actor, name) in [("third", "effect invoke"), ("listener", "broadcast invoke")] {
        let caused = one(&spans, |span| span.name == name);
        assert_eq!((&*caused.parent, &*caused.kind), ("", "Consumer"), "{caused:?}");
        assert_ne!(caused.trace, TRACE, "a trace of its own");
        let cause = (TRACE.to_owned(), first[3].id.clone());
        assert_eq!(caused.links, [cause], "a link to what caused it");
        assert_eq!(caused.attribute("async"), "true");
        let below = stages(&spans, caused, actor);
        assert_eq!(names(&below), STAGES);
        assert_eq!(world.worker.context_of(actor), context(below[2]));
    }
    until_count(&world.proxy, EXPORTED, 22).await;
    assert_eq!(count(&world.proxy, DROPPED).await, 0);
    assert!(world.proxy.terminate(LIMIT).await.success());
}

#[tokio::test]
async fn a_pipe_an_effect_and_a_broadcast_are_traced_over_http() {
    a_workflow_over("http/protobuf").await;
}

#[tokio::test]
async fn a_pipe_an_effect_and_a_broadcast_are_traced_over_grpc() {
    a_workflow_over("grpc").await;
}

#[tokio::test]
async fn what_fails_is_kept_although_it_is_not_sampled() {
    let collector = Collector::start().await;
    let mut settings = collector.settings("http/protobuf").to_vec();
    settings.push(("OTEL_TRACES_SAMPLER", "parentbased_always_off".into()));
    settings.push(("OTEL_SERVICE_NAME", "shop".into()));
    let mut world = start(&borrowed(&settings)).await;
    let unsampled = format!("00-{TRACE}-{CALLER}-00");
    assert_eq!(world.invoke(&call("first", "end"), None).await, 200, "it is neither");
    assert_eq!(world.invoke(&call("next", "fail"), Some(&unsampled)).await, 502);
    assert_eq!(world.worker.context_of("next").as_deref(), Some(&*unsampled), "as it came");
    assert_eq!(world.invoke(&call("third", "fail"), None).await, 502);
    assert_eq!(world.worker.context_of("third"), None);
    // The end waits for the receiver.
    assert!(world.proxy.terminate(LIMIT).await.success());
    let spans = collector.spans(4).await;
    let root = one(&spans, |span| span.name == "client invoke");
    assert_eq!((&*root.status, &*root.parent, &*root.service), ("Error", "", "shop"));
    assert!(root.message.contains("the action may have run"), "{root:?}");
    assert_eq!(root.attribute("actor_name"), "third");
    assert_eq!(root.attribute("tidegate.kept"), "failed");
    assert_eq!(root.attribute("error.type"), "host_failed");
    assert_eq!(root.attribute("tidegate.error_source"), "host");
    let stages = stages(&spans, root, "third");
    assert_eq!(names(&stages), STAGES[..3]);
    let statuses: Vec<_> = stages.iter().map(|span| &*span.status).collect();
    assert_eq!(statuses, ["Unset", "Unset", "Error"]);
}

#[tokio::test]
async fn a_call_for_a_later_time_is_linked_to_the_call_that_asked_for_it() {
    let collector = Collector::start().await;
    let settings = collector.settings("grpc");
    let mut world = start(&borrowed(&settings)).await;
    let at = SystemClock.now().0 / 1_000 + 300;
    let later =
        InvocationRequest { scheduled_to: i64::try_from(at).unwrap(), ..call("first", "end") };
    assert_eq!(world.invoke(&later, None).await, 200);
    let spans = collector.spans(2 + 6).await;
    let asked = one(&spans, |span| span.name == "client invoke");
    let kept = one(&spans, |span| span.parent == asked.id);
    let due = one(&spans, |span| span.name == "due invoke");
    assert_eq!(due.links, [(asked.trace.clone(), kept.id.clone())]);
    assert_ne!(due.trace, asked.trace);
    assert_eq!(names(&stages(&spans, due, "first")), STAGES);

    // A call that is refused has a trace too, when it is sampled.
    assert_eq!(world.invoke(&call("nobody", "end"), None).await, 404);
    let is_there = |spans: &[Span]| spans.iter().any(|span| span.status == "Error");
    let spans = collector.spans_when(is_there).await;
    let refused = one(&spans, |span| span.name == "client invoke" && span.status == "Error");
    assert_eq!(refused.attribute("error.type"), "actor_not_found");
    assert_eq!(names(&stages(&spans, refused, "nobody")), ["caller"]);
}

/// Calls that go on as if there were no receiver: none of them fails, and all of their spans are counted as dropped.
async fn calls_go_on(world: &mut World) {
    const CALLS: u64 = 200;
    let before = count(&world.proxy, DROPPED).await;
    let calls = async {
        for _ in 0..CALLS {
            assert_eq!(world.invoke(&call("first", "end"), None).await, 200);
        }
    };
    timeout(LIMIT, calls).await.expect("no call waits for the receiver");
    // All but the first change nothing, so they have no commit.
    until_count(&world.proxy, DROPPED, before + CALLS * 5).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_neither_calls_nor_the_end() {
    // Connections are accepted by the kernel; nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    for protocol in ["http/protobuf", "grpc"] {
        let mut world = start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ])
        .await;
        calls_go_on(&mut world).await;
        assert_eq!(world.invoke(&call("first", "end"), None).await, 200);
        assert!(world.proxy.terminate(LIMIT).await.success(), "{protocol}");
    }
}

#[tokio::test]
async fn a_receiver_that_refuses_or_dies_delays_no_call() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let mut world = start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
    ])
    .await;
    calls_go_on(&mut world).await;
    assert_eq!(count(&world.proxy, EXPORTED).await, 0);

    let collector = Collector::start().await;
    let mut settings = collector.settings("grpc").to_vec();
    settings.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "500".into()));
    let mut world = start(&borrowed(&settings)).await;
    assert_eq!(world.invoke(&call("first", "end"), None).await, 200);
    until_count(&world.proxy, EXPORTED, 6).await;
    collector.kill().await;
    calls_go_on(&mut world).await;
}

#[tokio::test]
async fn a_receiver_that_cannot_be_used_ends_the_start() {
    let (code, said) = Proxy::refused(&[
        ("PROXY_DATABASE_TYPE", "memory"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ])
    .await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("https://host:port") && said.contains("from 0 to 1"), "{said}");
}
