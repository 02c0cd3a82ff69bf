//! JSON: actors and callers without protobuf, among each other and with those that speak it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};
use serde_json::{Value, json};
use support::client::Client;
use support::counter::{Counter, SYSTEM, definition, register_at};
use support::host::Host;
use support::json::{Told, call, register, send};
use support::proto::{
    Actor, ActorId, ActorState, ActorSystem, InvocationRequest, InvocationResponse, Kind, Status,
    invocation_response,
};
use support::proxy::{Proxy, embedded};
use support::scrape::Scrape;
use support::tool;
use tidegate::proto::eigr::functions::protocol::JsonType;
use tokio::time::{sleep, timeout};

/// How long something that has to happen may take.
const LIMIT: Duration = Duration::from_secs(30);
const JSON_URL: &str = "type.googleapis.com/eigr.functions.protocol.JSONType";

struct World {
    proxy: Proxy,
    told: Arc<Told>,
    host: Host,
    client: Client,
    directory: tempfile::TempDir,
}

impl World {
    /// A proxy, and a JSON host with these actors.
    async fn new(actors: &Value) -> Self {
        let told = Arc::new(Told::default());
        let host = Host::start(Arc::clone(&told));
        let directory = tempfile::tempdir().unwrap();
        let mut settings = embedded(directory.path(), "1");
        // A body that is too large fits into the socket: it is sent whole, and its refusal is read.
        settings.push(("TIDEGATE_HTTP_BODY_BYTES", "65536"));
        let proxy = Proxy::start(&settings).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        register(&mut client, &host.port(), actors).await;
        Self { proxy, told, host, client, directory }
    }

    async fn call(&mut self, actor: &str, given: Value) -> (u16, Value) {
        let (reply, body) = call(&mut self.client, actor, &given).await;
        (reply.status, body)
    }

    /// Has the action answer this.
    async fn tell(&mut self, actor: &str, answer: Value) -> (u16, Value) {
        self.call(actor, json!({ "action": "add", "payload": { "answer": answer } })).await
    }

    async fn state(&mut self, actor: &str) -> (u16, Value) {
        let path = format!("/api/v1/system/shop/actors/{actor}");
        let accept = [("accept", "application/json")];
        let (reply, body) = send(&mut self.client, ("GET", &path), &accept, "").await;
        (reply.status, body)
    }
}

fn counter() -> Value {
    json!([{ "name": "joe", "actions": ["add"] }])
}

#[tokio::test]
async fn a_host_is_called_in_json_and_its_state_is_kept_over_restarts() {
    let mut world = World::new(&counter()).await;
    let first = json!({ "action": "add", "metadata": { "k": "v" } });
    assert_eq!(world.call("joe", first.clone()).await, (200, json!({"payload": {"count": 1}})));
    let asked = json!({
        "action": "add", "payload": null, "state": null, "tags": {}, "metadata": {"k": "v"},
        "self": {"name": "joe", "system": "shop", "parent": ""}, "caller": null,
    });
    assert_eq!(world.told.last("add"), asked);
    let (heard, _) = world.told.calls.lock()[0].clone();
    assert_eq!((heard.method.as_str(), heard.path.as_str()), ("POST", "/api/v1/actors/actions"));
    assert_eq!(heard.header("content-type"), Some("application/json"));

    // Neither the proxy nor the host says again that the host speaks JSON.
    world.proxy.kill().await;
    let proxy = Proxy::start(&embedded(world.directory.path(), "1")).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let (reply, body) = call(&mut client, "joe", &first).await;
    assert_eq!((reply.status, body), (200, json!({"payload": {"count": 2}})));
    assert_eq!(reply.headers["content-type"], "application/json");
    drop(world.host);
}

#[tokio::test]
async fn an_absent_state_stays_and_null_removes_it() {
    let actors =
        json!([{ "name": "joe", "actions": ["add"], "state": {"count": 7}, "tags": {"a": "b"} }]);
    let mut world = World::new(&actors).await;
    assert_eq!(
        world.call("joe", json!({"action": "add"})).await.1,
        json!({"payload": {"count": 8}})
    );
    assert_eq!(world.tell("joe", json!({})).await, (200, json!({"payload": null})));
    assert_eq!(world.tell("joe", json!("")).await, (200, json!({"payload": null})));
    assert_eq!(world.state("joe").await, (200, json!({"state": {"count": 8}, "tags": {"a": "b"}})));
    assert_eq!(world.tell("joe", json!({"tags": {"c": "d"}})).await.0, 200);
    assert_eq!(world.tell("joe", json!({"state": null})).await.0, 200);
    assert_eq!(world.state("joe").await, (200, json!({"state": null, "tags": {"c": "d"}})));
    assert_eq!(
        world.call("joe", json!({"action": "add"})).await.1,
        json!({"payload": {"count": 1}})
    );
    // Also when it is loaded again.
    assert_eq!(world.tell("joe", json!({"state": null})).await.0, 200);
    world.proxy.kill().await;
    world.proxy = Proxy::start(&embedded(world.directory.path(), "1")).await;
    world.client = Client::connect(world.proxy.address()).await.unwrap();
    assert_eq!(
        world.call("joe", json!({"action": "add"})).await.1,
        json!({"payload": {"count": 1}})
    );
}

#[tokio::test]
async fn an_action_that_fails_keeps_the_state_and_its_body_reaches_the_caller() {
    let mut world = World::new(&counter()).await;
    assert_eq!(world.call("joe", json!({"action": "add"})).await.0, 200);
    let fails = |status: u16| {
        let answer = json!({"reason": "no money", "state": 9});
        json!({"action": "add", "payload": {"status": status, "answer": answer}})
    };
    let (reply, body) = call(&mut world.client, "joe", &fails(409)).await;
    assert_eq!(reply.status, 409);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert_eq!(reply.headers["tidegate-error-source"], "host");
    assert_eq!(body["body"], json!({"reason": "no money", "state": 9}));
    assert_eq!(
        (&body["kind"], &body["status"], &body["safe_to_retry"]),
        (&json!("action_failed"), &json!(409), &json!(false))
    );
    assert_eq!(world.call("joe", fails(500)).await.0, 502);
    let (status, body) = world
        .call("joe", json!({"action": "add", "payload": {"status": 422, "answer": "plain text"}}))
        .await;
    assert_eq!((status, &body["body"]), (422, &json!("plain text")));
    // A misspelt state is not lost in silence, and no success.
    let (status, body) = world.tell("joe", json!({"sate": 1})).await;
    assert_eq!((status, &body["kind"]), (502, &json!("host_failed")));
    assert!(body["detail"].as_str().unwrap().contains("unknown field `sate`"), "{body}");
    let (status, body) =
        world.call("joe", json!({"action": "add", "payload": {"status": 302, "answer": {}}})).await;
    assert_eq!((status, &body["kind"]), (502, &json!("host_failed")));
    assert_eq!(world.state("joe").await.1["state"], json!({"count": 1}));
    // A caller of protobuf finds the body in the text.
    let (status, response) =
        world.client.invoke(&protobuf_call("shop", "joe", &fails(409))).await.unwrap();
    let told = response.status.unwrap();
    assert_eq!((status, told.status()), (409, Status::Error));
    assert!(told.message.contains("no money"), "{}", told.message);
    // An alert tells what the caller is refused from what fails.
    let scrape = Scrape::of(&world.proxy).await;
    let counted = |status: &str| {
        let labels = ["kind=\"action_failed\"", "source=\"host\"", status];
        scrape.get("tidegate_errors_total", &labels)
    };
    let statuses = ["status=\"409\"", "status=\"4xx\"", "status=\"502\""];
    assert_eq!(statuses.map(counted), [Some(2.0), Some(1.0), Some(1.0)]);
}

/// A call whose payload is JSON, as the Node SDK sends it.
fn protobuf_call(system: &str, actor: &str, call: &Value) -> InvocationRequest {
    use support::proto::invocation_request::Payload;
    let id = ActorId { name: actor.into(), system: system.into(), parent: String::new() };
    let content = call["payload"].to_string();
    let value = JsonType { content }.encode_to_vec().into();
    InvocationRequest {
        system: Some(ActorSystem { name: system.into(), registry: None }),
        actor: Some(Actor { id: Some(id), ..Actor::default() }),
        action_name: call["action"].as_str().unwrap().into(),
        payload: Some(Payload::Value(support::proto::Any { type_url: JSON_URL.into(), value })),
        ..InvocationRequest::default()
    }
}

#[tokio::test]
async fn json_and_protobuf_call_each_other() {
    let mut world = World::new(&counter()).await;
    // Protobuf to JSON.
    let answer = json!({"action": "add", "payload": {"answer": {"payload": {"n": 1.50}}}});
    let (status, response) =
        world.client.invoke(&protobuf_call("shop", "joe", &answer)).await.unwrap();
    let Some(invocation_response::Payload::Value(value)) = response.payload else {
        panic!("{response:?}")
    };
    assert_eq!((status, value.type_url.as_str()), (200, JSON_URL));
    assert_eq!(JsonType::decode(value.value).unwrap().content, r#"{"n":1.5}"#);
    // JSON to protobuf: the type of its state is not known here.
    let host = Host::start(Arc::new(Counter::default()));
    let actor = definition("moe", Kind::Named);
    let here = format!("http://127.0.0.1:{}", host.port());
    register_at(&mut world.client, &here, vec![actor]).await;
    let path = format!("/api/v1/system/{SYSTEM}/actors/moe");
    let invoke = format!("{path}/invoke");
    let (reply, body) =
        send(&mut world.client, ("POST", &invoke), &[], r#"{"action":"add"}"#).await;
    assert_eq!(reply.status, 200, "{body}");
    assert_eq!(body["payload"]["@type"], "type.googleapis.com/tidegate.test.Mark");
    assert!(body["payload"]["value"].is_string());
    // Either form of an answer, whatever the form of the call.
    let accept = [("accept", "application/protobuf")];
    let (reply, _) =
        send(&mut world.client, ("POST", &invoke), &accept, r#"{"action":"get"}"#).await;
    assert!(reply.decode::<InvocationResponse>().payload.is_some());
    let reply = world.client.get(&path).await.unwrap();
    assert!(
        reply.decode::<ActorState>().state.is_some(),
        "protobuf, when nothing else is asked for"
    );
}

#[tokio::test]
async fn what_leaves_a_json_actor_reaches_others() {
    let actors = json!([
        { "name": "joe", "actions": ["add"] },
        { "name": "moe", "actions": ["add", "note"] },
        { "name": "listener", "actions": ["read"], "channels": [{"topic": "news", "action": "read"}] },
        { "name": "template", "kind": "unnamed", "actions": ["add"] },
        { "name": "clock", "actions": ["tick"], "timers": [{"action": "tick", "every_ms": 20}] },
    ]);
    let mut world = World::new(&actors).await;
    let told = world.told.clone();
    let pipe = json!({"payload": {"piped": 1}, "pipe": {"actor": "moe", "action": "add"},
        "effects": [{"actor": "moe", "action": "note", "payload": {"answer": {}}}],
        "broadcast": {"channel": "news", "payload": {"answer": {}, "text": "hi"}}});
    assert_eq!(world.tell("joe", pipe).await, (200, json!({"payload": {"count": 1}})));
    assert_eq!(told.last("add")["payload"], json!({"piped": 1}));
    let arrived = async {
        while !["note", "read", "tick"]
            .iter()
            .all(|action| told.calls.lock().iter().any(|(_, body)| body["action"] == *action))
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, arrived).await.unwrap();
    assert_eq!(told.last("note")["caller"]["name"], "joe");
    assert_eq!(told.last("read")["payload"]["text"], "hi");
    // Spawned by a call, and by a request of its own.
    let by_call = json!({"action": "add", "register_ref": "template"});
    assert_eq!(world.call("one", by_call).await.0, 200);
    assert_eq!(
        told.last("add")["self"],
        json!({"name": "one", "system": "shop", "parent": "template"})
    );
    let spawn = r#"{"actors":[{"name":"two","parent":"template"}]}"#;
    let (reply, body) =
        send(&mut world.client, ("POST", "/api/v1/system/shop/actors/spawn"), &[], spawn).await;
    assert_eq!((reply.status, body), (200, json!({"status": "OK"})));
    assert_eq!(world.call("two", json!({"action": "add"})).await.0, 200);
    let publish = ("POST", "/api/v1/system/shop/channels/news");
    let (_, body) = send(&mut world.client, publish, &[], r#"{"payload":{"answer":{}}}"#).await;
    assert_eq!(body, json!({"subscribers": 1, "dropped": 0}));
    // Accepted, and run later.
    let later = json!({"action": "add", "async": true, "payload": {"answer": {"state": "async"}}});
    assert_eq!(world.call("two", later).await, (200, json!({"payload": null})));
    let ran = async {
        while world.state("two").await.1["state"] != "async" {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, ran).await.unwrap();
}

#[tokio::test]
async fn the_state_of_a_json_actor_is_shown_as_json() {
    let mut world = World::new(&counter()).await;
    assert_eq!(world.call("joe", json!({"action": "add"})).await.0, 200);
    let url = world.proxy.address().to_owned();
    let shown = tool::run(&["state", "shop/joe", "--proxy", &url], &[]).await.said();
    assert!(shown.contains("\"count\": 1"), "{shown}");
}

#[tokio::test]
async fn mistakes_are_problems_that_say_where() {
    let mut world = World::new(&counter()).await;
    let invoke = "/api/v1/system/shop/actors/joe/invoke";
    let deep = "[".repeat(65) + &"]".repeat(65);
    let (deep, large) = (format!(r#"{{"action":"add","payload":{deep}}}"#), "x".repeat(70_000));
    for (path, body, status, kind, told) in [
        (invoke, "{\"action\":\n\"add\",}", 400, "invalid", "line 2 column 7"),
        (invoke, r#"{"action":"add","async":"soon"}"#, 400, "invalid", "expected a boolean"),
        (invoke, &deep, 400, "invalid", "nested deeper than 64"),
        (invoke, r#"{"action":"sub"}"#, 404, "action_not_found", "sub"),
        (invoke, &large, 413, "too_large", "larger than"),
        (
            "/api/v1/system/shop/actors/nobody/invoke",
            r#"{"action":"add"}"#,
            404,
            "actor_not_found",
            "nobody",
        ),
        ("/api/v1/system/shop/actors/%ff/invoke", r#"{"action":"add"}"#, 400, "invalid", "UTF-8"),
        ("/api/v1/system", r#"{"system":"s","actors":[{"nam":"a"}]}"#, 400, "invalid", "actors[0]"),
        ("/api/v1/nothing", "{}", 404, "not_found", "no such path"),
    ] {
        // A refused upload closes its connection.
        let mut client = Client::connect(world.proxy.address()).await.unwrap();
        let (reply, problem) = send(&mut client, ("POST", path), &[], body).await;
        assert_eq!((reply.status, &problem["kind"]), (status, &json!(kind)), "{path}: {problem}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["tidegate-error-source"], "proxy");
        assert_eq!(problem["safe_to_retry"], false);
    }
    // A host that cannot be reached has run nothing.
    register(&mut world.client, "1", &json!([{"name": "gone", "actions": ["add"]}])).await;
    let given = json!({"action": "add", "metadata": {"request-timeout": "300"}});
    let (_, problem) = world.call("gone", given).await;
    assert_eq!(
        (&problem["safe_to_retry"], problem["kind"].is_string()),
        (&json!(true), true),
        "{problem}"
    );
}

/// What protoc makes of `package shop; message Item { string name = 1; int64 count = 2; }`.
fn shop_types() -> Vec<u8> {
    let field = |name: &str, number, of: Type| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(of.into()),
        json_name: Some(name.into()),
        ..FieldDescriptorProto::default()
    };
    let message = DescriptorProto {
        name: Some("Item".into()),
        field: vec![field("name", 1, Type::String), field("count", 2, Type::Int64)],
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("shop.proto".into()),
        package: Some("shop".into()),
        message_type: vec![message],
        syntax: Some("proto3".into()),
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

#[tokio::test]
async fn descriptors_tell_how_messages_are_written_in_json() {
    let directory = tempfile::tempdir().unwrap();
    let set = directory.path().join("shop.binpb");
    std::fs::write(&set, shop_types()).unwrap();
    let data = directory.path().join("data");
    let mut settings = embedded(&data, "1");
    settings.push(("TIDEGATE_DESCRIPTORS", set.to_str().unwrap()));
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let told = Arc::new(Told::default());
    let host = Host::start(told.clone());
    register(&mut client, &host.port(), &counter()).await;
    let item = json!({"@type": "type.googleapis.com/shop.Item", "name": "tea", "count": "9007199254740993"});
    let given = json!({"action": "add", "payload": item});
    let (reply, body) = call(&mut client, "joe", &given).await;
    assert_eq!(reply.status, 200, "{body}");
    assert_eq!(told.last("add")["payload"], item);
    let wrong = json!({"action": "add", "payload": {"@type": "type.googleapis.com/shop.Item", "nam": "tea"}});
    let (reply, body) = call(&mut client, "joe", &wrong).await;
    assert_eq!(
        (reply.status, body["detail"].as_str().unwrap().contains("nam")),
        (400, true),
        "{body}"
    );
    std::fs::write(&set, b"\xff").unwrap();
    let (code, said) = Proxy::refused(&settings).await;
    assert!(code == Some(64) && said.contains("TIDEGATE_DESCRIPTORS"), "{code:?} {said}");
}
