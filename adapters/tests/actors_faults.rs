//! Each row of the first table in `docs/faults.md`, made to happen: what is answered, whether the action ran, what state is left.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use prost::Message;
use support::client::{ANSWER_LIMIT, Client, Reply};
use support::counter::{ADD, SYSTEM, call, definition, get_state, mark, marks, register};
use support::host::{Answer, Call, Framing, Host, Script};
use support::proto::{
    Action, ActorId, ActorInvocation, ActorInvocationResponse, Any, Context, InvocationRequest,
    Kind, SpawnRequest, Status,
};
use support::proxy::Proxy;
use tidegate::proto::eigr::functions::protocol::{Forward, Pipe, Workflow, workflow};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long the action `slow` takes: longer than a call may wait, shorter than a host may take.
const SLOW: Duration = Duration::from_secs(3);
/// How long the action `silent` takes: longer than a host may take.
const SILENT: Duration = Duration::from_secs(7);
/// Larger than `TIDEGATE_MAX_STATE_BYTES` in these tests.
const LARGE: usize = 100_000;
const ACTIONS: [&str; 10] = [
    ADD,
    "slow",
    "silent",
    "breaks",
    "garbled",
    "empty",
    "for another",
    "large",
    "to nobody",
    "in circles",
];

/// A host whose actions fail as their names say; otherwise they add one.
#[derive(Debug, Default)]
struct Failing {
    runs: AtomicUsize,
    under_way: AtomicUsize,
}

impl Script for Failing {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let answer = respond(call).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

async fn respond(call: Call) -> Option<Answer> {
    let invocation = ActorInvocation::decode(call.body).unwrap();
    let id = invocation.actor.unwrap();
    let state = invocation.current_context.unwrap().state.unwrap_or_default();
    let value = marks(std::str::from_utf8(&state.value).unwrap()).next();
    let padding = if invocation.action_name == "large" { LARGE } else { 0 };
    let text = mark(&id.name, value.map_or(0, |(_, value)| value) + 1) + &" ".repeat(padding);
    let state = Any { type_url: "type.googleapis.com/test.Mark".into(), value: text.into() };
    let mut response = ActorInvocationResponse {
        actor_name: id.name.clone(),
        actor_system: id.system.clone(),
        updated_context: Some(Context { state: Some(state), ..Context::default() }),
        ..ActorInvocationResponse::default()
    };
    let routing = |routing| Some(Workflow { routing: Some(routing), ..Workflow::default() });
    match invocation.action_name.as_str() {
        "breaks" => return None,
        "garbled" => return Some(body("<html>out of order</html>".into())),
        "empty" => return Some(body(Bytes::new())),
        "silent" => sleep(SILENT).await,
        "slow" => sleep(SLOW).await,
        "for another" => response.actor_name = "moe".into(),
        "to nobody" => {
            let pipe = Pipe { actor: "nobody".into(), action_name: ADD.into() };
            response.workflow = routing(workflow::Routing::Pipe(pipe));
        }
        "in circles" => {
            let forward = Forward { actor: id.name, action_name: "in circles".into() };
            response.workflow = routing(workflow::Routing::Forward(forward));
        }
        _ => {}
    }
    Some(Answer::message(&response))
}

fn body(body: Bytes) -> Answer {
    let headers = vec![("Content-Type".into(), "text/html".into())];
    Answer { status: 500, headers, body, framing: Framing::Length }
}

/// A proxy with the actor joe, whose state is 1, and a client of it.
struct Scene {
    script: Arc<Failing>,
    host: Option<Host>,
    proxy: Proxy,
    client: Client,
    /// Whether answers are asked for in JSON.
    in_json: bool,
    /// Calls begun that nobody waits for.
    begun: usize,
}

impl Scene {
    async fn start(settings: &[(&str, &str)], in_json: bool) -> Self {
        let script = Arc::new(Failing::default());
        let host = Host::start(script.clone());
        let port = host.port();
        let mut all = BTreeMap::from([
            ("PROXY_DATABASE_TYPE", "memory"),
            ("USER_FUNCTION_HOST", "127.0.0.1"),
            ("USER_FUNCTION_PORT", &port),
            ("TIDEGATE_START_TIMEOUT", "1s"),
            ("TIDEGATE_HOST_TIMEOUT", "5s"),
            ("TIDEGATE_MAX_STATE_BYTES", "64KiB"),
        ]);
        all.extend(settings.iter().copied());
        let proxy = Proxy::start(&all.into_iter().collect::<Vec<_>>()).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let mut joe = definition("joe", Kind::Named);
        joe.actions = ACTIONS.map(|name| Action { name: name.into() }).to_vec();
        let mut template = definition("template", Kind::Unnamed);
        template.actions.clone_from(&joe.actions);
        register(&mut client, vec![joe, template]).await;
        assert_eq!(client.invoke(&call("joe", ADD)).await.unwrap().0, 200);
        script.runs.store(0, Ordering::SeqCst);
        Self { script, host: Some(host), proxy, client, in_json, begun: 0 }
    }

    async fn post(&mut self, path: &str, body: Vec<u8>) -> Reply {
        let path = format!("/api/v1/system/{SYSTEM}/actors/{path}");
        let accept = if self.in_json { "application/json" } else { "application/octet-stream" };
        let request = Request::post(path).header("host", "localhost").header("accept", accept);
        let request = request.header("content-type", "application/octet-stream");
        self.client.send(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    async fn invoke(&mut self, call: &InvocationRequest) -> Reply {
        self.post("joe/invoke", call.encode_to_vec()).await
    }

    /// Begins a call of joe that takes a while and that nobody waits for.
    async fn begin_slow(&mut self) {
        let slow = InvocationRequest { r#async: true, ..call("joe", "slow") };
        assert_eq!(self.invoke(&slow).await.status, 200);
        self.begun += 1;
    }

    /// How often joe has run since the scene began, calls that were begun apart, and the state that it is left with.
    async fn end(mut self, fault: &str) -> (usize, u32) {
        let left = timeout(ANSWER_LIMIT, async {
            loop {
                // Until the calls that were begun are over a read may come too late.
                let reply =
                    self.client.get(&format!("/api/v1/system/{SYSTEM}/actors/joe")).await.unwrap();
                if reply.status == 200 && self.script.under_way.load(Ordering::SeqCst) == 0 {
                    break get_state(&mut self.client, "joe").await;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        let left = left.await.unwrap_or_else(|_| panic!("{fault}: joe is not read"));
        let begun = u32::try_from(self.begun).unwrap();
        (self.script.runs.load(Ordering::SeqCst) - self.begun, left - begun)
    }
}

/// What a row says.
#[derive(Debug, PartialEq)]
struct Row {
    status: u16,
    source: String,
    /// In JSON.
    kind: Option<String>,
    /// In protobuf.
    outcome: Option<String>,
    again: String,
    state: String,
}

/// The rows of the table, by their fault.
fn rows() -> BTreeMap<String, Row> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/faults.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [fault, status, source, kind, outcome, again, state] = cells[..] else { return None };
        let status = status.parse().ok()?;
        let [source, again, state] = [source, again, state].map(str::to_owned);
        let [kind, outcome] = [kind, outcome].map(|cell| Some(cell.to_owned()));
        Some((fault.to_owned(), Row { status, source, kind, outcome, again, state }))
    };
    page.lines().filter_map(row).collect()
}

/// Compares what came of a fault with its row. `value` is the state that joe is found with afterwards.
fn compare(fault: &str, row: &Row, (reply, in_json): (&Reply, bool), runs: usize, value: u32) {
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let (mut kind, mut outcome) = (row.kind.clone(), row.outcome.clone());
    if in_json {
        let told: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        kind = told["kind"].as_str().map(str::to_owned);
        assert_eq!(told["safe_to_retry"], row.again == "safe", "{fault}: {text}");
        assert_eq!(told["status"], row.status, "{fault}: {text}");
    } else {
        // In each error body field 1, or 1 of field 1, is the status; every message of this port agrees in that.
        let response = support::proto::InvocationResponse::decode(reply.body.clone()).unwrap();
        let is_unknown = response.status.unwrap().status() == Status::ActorNotFound;
        outcome = Some(if is_unknown { "ACTOR_NOT_FOUND" } else { "ERROR" }.to_owned());
    }
    let found = Row {
        status: reply.status,
        source: reply.headers["tidegate-error-source"].to_str().unwrap().into(),
        kind,
        outcome,
        again: match runs {
            0 if matches!(reply.status, 429 | 502 | 503 | 504) => "safe",
            0 => "no use",
            _ => "runs twice",
        }
        .into(),
        state: if value == 1 { "as before" } else { "changed" }.into(),
    };
    assert_eq!(&found, row, "{fault}: {text}");
}

/// Makes a fault happen. Returns the answer, and how often the action that was asked for has run since.
async fn happen(fault: &str, scene: &mut Scene) -> Reply {
    match fault {
        "the body is no message" => scene.post("joe/invoke", vec![0xff; 9]).await,
        "the call names no actor" => {
            scene
                .post(
                    "joe/invoke",
                    InvocationRequest { actor: None, ..call("joe", ADD) }.encode_to_vec(),
                )
                .await
        }
        "the body is larger than allowed" => {
            let reply = scene.post("joe/invoke", vec![0; 8_000_001]).await;
            // hyper's client may never send again over a connection whose answer came before all of the request had left.
            scene.client = Client::connect(scene.proxy.address()).await.unwrap();
            reply
        }
        "the actor is not known" => scene.invoke(&call("nobody", ADD)).await,
        "the system is not known" => {
            let mut call = call("joe", ADD);
            call.system.as_mut().unwrap().name = "nowhere".into();
            call.actor.as_mut().unwrap().id.as_mut().unwrap().system = "nowhere".into();
            scene.invoke(&call).await
        }
        "the action is not known" => scene.invoke(&call("joe", "nothing")).await,
        "the actor is spawned under another parent" => {
            let id = |parent: &str| ActorId {
                name: "jim".into(),
                system: SYSTEM.into(),
                parent: parent.into(),
            };
            let spawn = |parent| SpawnRequest { actors: vec![id(parent)] }.encode_to_vec();
            assert_eq!(scene.post("spawn", spawn("template")).await.status, 200);
            scene.post("spawn", spawn("joe")).await
        }
        "a policy refuses the call" => scene.invoke(&call("joe", "slow")).await,
        "too many calls in a second" => scene.invoke(&call("joe", ADD)).await,
        "no place is free" => {
            scene.begin_slow().await;
            scene.begin_slow().await;
            scene.invoke(&call("joe", ADD)).await
        }
        "the actor is busy for too long" => {
            scene.begin_slow().await;
            scene.invoke(&call("joe", ADD)).await
        }
        "the host refuses connections" | "the host has refused connections for a while" => {
            scene.host.take().unwrap().stop().await;
            if fault.contains("while") {
                while !scene.invoke(&call("joe", ADD)).await.headers.contains_key("retry-after") {}
            }
            scene.invoke(&call("joe", ADD)).await
        }
        "the host breaks off" => scene.invoke(&call("joe", "breaks")).await,
        "the host answers with no message" => scene.invoke(&call("joe", "garbled")).await,
        "the host answers with nothing" => scene.invoke(&call("joe", "empty")).await,
        "the host answers for another actor" => scene.invoke(&call("joe", "for another")).await,
        "the host does not answer in time" => scene.invoke(&call("joe", "silent")).await,
        "the caller's own time is over first" => {
            let mut call = call("joe", "slow");
            call.metadata.insert("request-timeout".into(), "500".into());
            scene.invoke(&call).await
        }
        "the new state is larger than allowed" => scene.invoke(&call("joe", "large")).await,
        "the action routes to an unknown actor" => scene.invoke(&call("joe", "to nobody")).await,
        "the action routes for ever" => scene.invoke(&call("joe", "in circles")).await,
        _ => panic!("{fault}: no test makes it happen"),
    }
}

/// What a fault needs to be set.
fn settings<'a>(fault: &str, policies: &'a str) -> Vec<(&'a str, &'a str)> {
    match fault {
        "a policy refuses the call" => vec![("TIDEGATE_POLICIES_DIR", policies)],
        // The first call of the scene is its burst.
        "too many calls in a second" => vec![("TIDEGATE_RATE_LIMIT_DEFINITION", "1/m:1")],
        "no place is free" => {
            vec![("TIDEGATE_ADMISSION_EVENTS", "8"), ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "1")]
        }
        "the host refuses connections" => vec![("TIDEGATE_HOST_GRACE", "200ms")],
        "the host has refused connections for a while" => vec![("TIDEGATE_HOST_GRACE", "0")],
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_answered_and_leaves_what_the_table_says() {
    let policies = tempfile::tempdir().unwrap();
    std::fs::write(policies.path().join("all.policy"), "type: allow\n").unwrap();
    std::fs::write(policies.path().join("slow.policy"), "type: deny\nactions: [slow]\n").unwrap();
    let path: Arc<str> = policies.path().to_str().unwrap().into();
    let rows = rows();
    assert!(rows.len() > 20, "{rows:?}");
    let mut faults = JoinSet::new();
    let rows = rows.into_iter().map(|(fault, row)| (fault, Arc::new(row)));
    let twice =
        rows.flat_map(|(fault, row)| [false, true].map(|json| (fault.clone(), row.clone(), json)));
    for (fault, row, in_json) in twice {
        let policies = path.clone();
        faults.spawn(async move {
            let mut scene = Scene::start(&settings(&fault, &policies), in_json).await;
            let reply = happen(&fault, &mut scene).await;
            let (runs, value) = scene.end(&fault).await;
            compare(&fault, &row, (&reply, in_json), runs, value);
        });
        // A few at once: each is a process.
        if faults.len() == 4 {
            faults.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(fault) = faults.join_next().await {
        fault.unwrap();
    }
}
