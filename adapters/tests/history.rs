//! An actor's history in black-box tests: over HTTP, and with the command line, with a running and with a
//! stopped proxy.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use serde_json::Value;
use support::client::{Client, Reply};
use support::counter::{ADD, SYSTEM, call, definition, register, spawn};
use support::host::{Answer, BoundHost, Call, Host, Script};
use support::proto::{
    ActorInvocation, ActorInvocationResponse, Any, Context, InvocationResponse, Kind, SpawnRequest,
    actor_invocation_response, invocation_response,
};
use support::proxy::{BINARY, Proxy, embedded};
use tidegate::proto::eigr::functions::protocol::JsonType;
use tidegate::proto::tidegate::api::v1 as api;
use tokio::process::Command;

const TYPE_URL: &str = "type.googleapis.com/eigr.functions.protocol.JSONType";
const END_LIMIT: Duration = Duration::from_secs(30);

/// A host whose every action adds one to a count that is kept as JSON.
struct JsonCounter;

fn count(state: Option<&Any>) -> i64 {
    let Some(state) = state else { return 0 };
    assert_eq!(state.type_url, TYPE_URL);
    let content = JsonType::decode(state.value.clone()).unwrap().content;
    serde_json::from_str::<Value>(&content).unwrap()["count"].as_i64().unwrap()
}

impl Script for JsonCounter {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let id = invocation.actor.unwrap();
            let count = count(invocation.current_context.unwrap().state.as_ref()) + 1;
            let content = format!(r#"{{"name":"{}","count":{count}}}"#, id.name);
            let value = JsonType { content }.encode_to_vec().into();
            let state = Any { type_url: TYPE_URL.into(), value };
            Some(Answer::message(&ActorInvocationResponse {
                actor_name: id.name,
                actor_system: id.system,
                payload: Some(actor_invocation_response::Payload::Value(state.clone())),
                updated_context: Some(Context { state: Some(state), ..Context::default() }),
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

struct Scene {
    directory: tempfile::TempDir,
    host: Host,
    revisions: &'static str,
}

impl Scene {
    fn new(revisions: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, host: Host::start(Arc::new(JsonCounter)), revisions }
    }

    fn settings<'a>(
        directory: &'a Path,
        port: &'a str,
        revisions: &'a str,
    ) -> Vec<(&'a str, &'a str)> {
        let mut settings = embedded(directory, port);
        settings.extend([("TIDEGATE_REVISIONS", revisions), ("TIDEGATE_DRAIN_DELAY", "0")]);
        settings
    }

    async fn start(&self) -> (Proxy, Client) {
        let port = self.host.port();
        let settings = Self::settings(self.directory.path(), &port, self.revisions);
        let proxy = Proxy::start(&settings).await;
        let client = Client::connect(proxy.address()).await.unwrap();
        (proxy, client)
    }

    /// Runs a command with the settings of a proxy that listens on this port.
    async fn run(&self, port: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(BINARY);
        command.env_clear().envs(Self::settings(self.directory.path(), "1", self.revisions));
        let command = command.env("PROXY_HTTP_PORT", port).args(arguments).kill_on_drop(true);
        let output = tokio::time::timeout(END_LIMIT, command.output()).await;
        Ran::new(&output.expect("it ends").unwrap())
    }
}

#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Self { code: output.status.code().unwrap(), out, err }
    }

    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

async fn add(client: &mut Client, actor: &str) -> i64 {
    let (status, answer) = client.invoke(&call(actor, ADD)).await.unwrap();
    assert_eq!(status, 200, "{:?}", answer.status);
    told(answer)
}

fn told(answer: InvocationResponse) -> i64 {
    match answer.payload {
        Some(invocation_response::Payload::Value(state)) => count(Some(&state)),
        other => panic!("expected a state, got {other:?}"),
    }
}

async fn ask(client: &mut Client, method: &str, rest: &str, accept: &str) -> Reply {
    let uri = format!("/api/v1/system/{SYSTEM}/actors/{rest}");
    let request = Request::builder().method(method).uri(uri);
    let request = request.header(HOST, "localhost").header(ACCEPT, accept).body(Full::default());
    client.send(request.unwrap()).await.unwrap()
}

/// Status and JSON of an answer.
async fn json(client: &mut Client, method: &str, rest: &str) -> (u16, Value) {
    let reply = ask(client, method, rest, "application/json").await;
    let is_success = reply.status == 200;
    let form = if is_success { "application/json" } else { "application/problem+json" };
    assert_eq!(reply.headers[CONTENT_TYPE], form);
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

async fn found(client: &mut Client, rest: &str) -> Value {
    let (status, answer) = json(client, "GET", rest).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn numbers(listing: &Value) -> Vec<u64> {
    let entries = listing["revisions"].as_array().unwrap();
    entries.iter().map(|entry| entry["revision"].as_u64().unwrap()).collect()
}

/// The count in an entry's state.
fn counted(entry: &Value) -> i64 {
    use base64::Engine;
    let value = entry["state"]["value"].as_str().unwrap();
    let value = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
    let type_url = entry["state"]["type_url"].as_str().unwrap().to_owned();
    count(Some(&Any { type_url, value: value.into() }))
}

async fn spawn_from(client: &mut Client, actor: &str, revision: u64) {
    let id = support::proto::ActorId {
        name: actor.into(),
        system: SYSTEM.into(),
        parent: "template".into(),
    };
    let request = SpawnRequest { actors: vec![id] };
    let path = format!("/api/v1/system/{SYSTEM}/actors/spawn?revision={revision}");
    let reply = client.post(&path, request.encode_to_vec().into()).await.unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_history_is_listed_by_interval_page_and_number_and_restored() {
    let scene = Scene::new("every");
    let (proxy, mut client) = scene.start().await;
    register(&mut client, vec![definition("template", Kind::Unnamed)]).await;
    spawn(&mut client, "template", &["joe"]).await;
    for n in 1..=5 {
        assert_eq!(add(&mut client, "joe").await, n);
    }

    let all = found(&mut client, "joe/revisions").await;
    assert_eq!((numbers(&all), &all["next"]), (vec![1, 2, 3, 4, 5], &Value::Null));
    assert!(
        all["revisions"].as_array().unwrap().iter().zip(1..).all(|(entry, n)| counted(entry) == n)
    );
    let at = |n: usize| all["revisions"][n - 1]["at"].as_str().unwrap().to_owned();

    let path = format!("joe/revisions?from={}&to={}&limit=2", at(2), at(4));
    let page = found(&mut client, &path).await;
    assert_eq!(numbers(&page), [2, 3]);
    let next = page["next"].as_str().unwrap();
    let page = found(&mut client, &format!("joe/revisions?next={next}")).await;
    assert_eq!((numbers(&page), &page["next"]), (vec![4], &Value::Null), "its end is kept");

    assert_eq!(found(&mut client, "joe/revisions/3").await, all["revisions"][2]);
    assert_eq!(json(&mut client, "GET", "joe/revisions/6").await.0, 404);
    assert_eq!(json(&mut client, "GET", "nobody/revisions").await.0, 404);
    let then = found(&mut client, &format!("joe/state?at={}", at(3))).await;
    assert_eq!((then["revision"].as_u64(), then["exact"].as_bool()), (Some(3), Some(true)));
    let latest = found(&mut client, "joe/state").await;
    assert_eq!((counted(&latest), latest["exact"].as_bool()), (5, Some(true)));
    let (status, error) = json(&mut client, "GET", "joe/state?at=1000").await;
    assert_eq!(status, 404);
    assert!(error["error"].as_str().unwrap().contains("no revision at or before"), "{error}");

    let reply = ask(&mut client, "GET", "joe/revisions?limit=3", "application/protobuf").await;
    let message = api::Revisions::decode(reply.body).unwrap();
    assert_eq!((message.revisions.len(), message.next.is_empty()), (3, false));
    assert_eq!(count(message.revisions[2].state.as_ref()), 3);
    let head = ask(&mut client, "HEAD", "joe/revisions", "*/*").await;
    assert_eq!((head.status, head.body), (200, Bytes::new()));

    let (status, restored) = json(&mut client, "POST", "joe/restore?revision=2").await;
    assert_eq!((status, restored["revision"].as_u64(), counted(&restored)), (200, Some(6), 2));
    assert_eq!(found(&mut client, "joe/revisions/6").await, restored);
    assert_eq!(json(&mut client, "POST", "joe/restore?revision=99").await.0, 404);
    let metrics = client.get("/metrics").await.unwrap().body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    for counted in ["route=\"revision\",status=\"404\"} 1", "route=\"restore\",status=\"200\"} 1"] {
        assert!(metrics.contains(counted), "{counted} in {metrics}");
    }

    // A kill takes nothing of it back.
    proxy.kill().await;
    let (proxy, mut client) = scene.start().await;
    assert_eq!(add(&mut client, "joe").await, 3);
    assert_eq!(numbers(&found(&mut client, "joe/revisions").await), [1, 2, 3, 4, 5, 6, 7]);

    // An orderly end, then an activation from a revision: once, and not from one that there is none of.
    assert!(proxy.terminate(END_LIMIT).await.success());
    let (proxy, mut client) = scene.start().await;
    spawn_from(&mut client, "joe", 5).await;
    assert_eq!(add(&mut client, "joe").await, 6);
    assert_eq!(add(&mut client, "joe").await, 7);
    assert_eq!(numbers(&found(&mut client, "joe/revisions?limit=1000").await).last(), Some(&10));
    assert!(proxy.terminate(END_LIMIT).await.success());
    let (_proxy, mut client) = scene.start().await;
    spawn_from(&mut client, "joe", 999).await;
    assert_eq!(add(&mut client, "joe").await, 8);
}

#[tokio::test]
async fn what_the_history_lacks_is_said_and_a_checkpoint_adds_it() {
    let scene = Scene::new("snapshot");
    let (_proxy, mut client) = scene.start().await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let (status, empty) = json(&mut client, "POST", "joe/checkpoint").await;
    assert_eq!((status, &empty["revision"], &empty["state"]), (200, &0.into(), &Value::Null));
    assert_eq!(json(&mut client, "GET", "joe/state").await.0, 404);
    add(&mut client, "joe").await;
    let (_, first) = json(&mut client, "POST", "joe/checkpoint").await;
    assert_eq!((first["revision"].as_u64(), counted(&first)), (Some(1), 1));
    add(&mut client, "joe").await;
    add(&mut client, "joe").await;
    let latest = found(&mut client, "joe/state").await;
    assert_eq!((latest["revision"].as_u64(), counted(&latest)), (Some(1), 3));
    let now = latest["at"].as_str().unwrap();
    let then = found(&mut client, &format!("joe/state?at={now}")).await;
    assert_eq!((counted(&then), then["exact"].as_bool()), (1, Some(false)));
    let (_, second) = json(&mut client, "POST", "joe/checkpoint").await;
    assert_eq!((second["revision"].as_u64(), counted(&second)), (Some(2), 3));
    let then =
        found(&mut client, &format!("joe/state?at={}", second["at"].as_str().unwrap())).await;
    assert_eq!((counted(&then), then["exact"].as_bool()), (3, Some(true)));
}

#[tokio::test]
async fn the_command_line_shows_compares_and_restores_also_beside_a_stopped_proxy() {
    let scene = Scene::new("every");
    let (proxy, mut client) = scene.start().await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    for _ in 0..3 {
        add(&mut client, "joe").await;
    }
    let joe = format!("{SYSTEM}/joe");
    let at = found(&mut client, "joe/revisions/2").await["at"].as_str().unwrap().to_owned();
    let running = proxy.address().rsplit(':').next().unwrap().to_owned();
    let nobody = BoundHost::bind();

    let locked = scene.run(&nobody.port(), &["state", &joe]).await;
    assert_eq!(locked.code, 73, "{locked:?}");
    assert!(locked.err.contains("itself") && locked.err.contains("another"), "{locked:?}");
    let given = scene.run(&nobody.port(), &["state", &joe, "--proxy", "127.0.0.1:1"]).await;
    assert_eq!(given.code, 70, "another proxy than the one of this store is meant: {given:?}");

    let restored = scene.run(&running, &["restore", &joe, "--revision", "1"]).await;
    assert_eq!((restored.code, restored.err.as_str()), (0, ""), "{restored:?}");
    assert_eq!(restored.out, format!("restored {joe} to revision 1, as revision 4\n"));
    let refused = scene.run(&running, &["restore", &joe, "--revision", "99"]).await;
    assert!(refused.code == 70 && refused.err.contains("HTTP 404: the history of"), "{refused:?}");

    let by_proxy = look(&scene, &running, &joe, &at).await;
    drop(client);
    assert!(proxy.terminate(END_LIMIT).await.success());
    let by_store = look(&scene, &nobody.port(), &joe, &at).await;
    assert_eq!(by_proxy, by_store, "the store itself says the same as the proxy");

    let beside = scene.run(&nobody.port(), &["state", &joe]).await;
    let said = format!("nothing listens on 127.0.0.1:{}: reading ", nobody.port());
    assert!(beside.err.contains(&said) && beside.err.lines().count() == 1, "{beside:?}");
    assert!(beside.out.contains("DEACTIVATED"), "{beside:?}");
    let restore = scene.run(&nobody.port(), &["restore", &joe, "--revision", "1"]).await;
    assert!(restore.code == 70 && restore.err.contains("cannot ask the proxy"), "{restore:?}");
    let unknown = scene.run(&nobody.port(), &["history", &format!("{SYSTEM}/nobody")]).await;
    assert!(unknown.code == 70 && unknown.err.contains("Actor nobody not found"), "{unknown:?}");
}

/// What the commands say that only look; the same whoever is asked.
async fn look(scene: &Scene, port: &str, joe: &str, at: &str) -> Vec<String> {
    let mut said = Vec::new();
    let state = scene.run(port, &["state", joe, "--revision", "3"]).await;
    assert_eq!(state.code, 0, "{state:?}");
    for line in ["revision   3", "status     ACTIVATED", "tags       none", "  \"count\": 3\n"] {
        assert!(state.out.contains(line), "{line:?} in {}", state.out);
    }
    said.push(state.out);

    let then = scene.run(port, &["state", joe, "--at", at]).await;
    assert!(then.out.contains("exact      yes") && then.out.contains("\"count\": 2"), "{then:?}");
    said.push(then.out);
    let then = scene.run(port, &["state", joe, "--at", at, "--json"]).await.json();
    assert_eq!((counted(&then), then["exact"].as_bool()), (2, Some(true)));
    said.push(then.to_string());

    let history = scene.run(port, &["history", joe, "--from", at, "--limit", "2"]).await;
    assert_eq!((history.code, history.out.lines().count()), (0, 3), "{history:?}");
    assert!(history.out.contains("JSONType"), "{history:?}");
    let next = history.err.rsplit("--next ").next().unwrap().trim();
    let rest = scene.run(port, &["history", joe, "--next", next, "--json"]).await.json();
    assert_eq!(numbers(&rest), [4]);
    said.extend([history.out, rest.to_string()]);

    let (first, third) = (format!("{joe}@1"), format!("{joe}@3"));
    let diff = scene.run(port, &["diff", &first, &third]).await;
    assert_eq!(diff.code, 1, "{diff:?}");
    let expected = " type type.googleapis.com/eigr.functions.protocol.JSONType\n {\n   \"name\": \"joe\",\n-  \"count\": 1\n+  \"count\": 3\n }\n";
    assert!(diff.out.ends_with(expected), "{}", diff.out);
    assert!(diff.out.starts_with(&format!("--- {joe}  revision 1, ")), "{}", diff.out);
    said.push(diff.out);
    let timed = format!("{joe}@{at}");
    let equal = scene.run(port, &["diff", &timed, &format!("{joe}@2")]).await;
    assert_eq!((equal.code, equal.out.lines().count()), (0, 2), "{equal:?}");
    said.push(equal.out);

    let missing = scene.run(port, &["state", joe, "--revision", "99"]).await;
    assert!(missing.code == 70 && missing.err.contains("no revision 99"), "{missing:?}");
    said
}

#[tokio::test]
async fn what_the_command_line_cannot_do_is_said_before_anything_is_touched() {
    let scene = Scene::new("every");
    let nobody = BoundHost::bind();
    for wrong in [
        &["state", "joe"][..],
        &["state", "s/joe", "--at", "noon"],
        &["state", "s/joe", "--at", "1", "--revision", "1"],
        &["state", "s/joe", "--revision", "0"],
        &["history", "s/joe", "--limit", "0"],
        &["diff", "s/joe"],
        &["diff", "s/joe", "joe@1"],
        &["restore", "s/joe"],
    ] {
        assert_eq!(scene.run(&nobody.port(), wrong).await.code, 2, "{wrong:?}");
    }
    let none = scene.run(&nobody.port(), &["state", "s/joe"]).await;
    assert!(none.code == 66 && none.err.contains("holds no store"), "{none:?}");
    assert_eq!(scene.directory.path().read_dir().unwrap().count(), 0, "none was made");
    let wrong = scene.run("http", &["history", "s/joe"]).await;
    assert!(wrong.code == 64 && wrong.err.contains("PROXY_HTTP_PORT"), "{wrong:?}");
    let file = scene.run(&nobody.port(), &["diff", "s/a", "s/b", "--descriptor", "/nowhere"]).await;
    assert!(file.code == 66 && file.err.contains("cannot read /nowhere"), "{file:?}");
    for command in ["state", "history", "diff", "restore"] {
        let help = scene.run(&nobody.port(), &[command, "--help"]).await;
        assert!(
            help.code == 0 && help.out.contains(&format!("tidegate {command} shop/cart-7")),
            "{help:?}"
        );
    }
}
