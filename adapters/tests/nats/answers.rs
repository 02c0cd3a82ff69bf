//! Answers: what a caller is told of what another system answers, or does not. The other system is no Tidegate: it answers as
//! Spawn does.

use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message as _;
use serde_json::{Value, json};
use tidegate::proto::eigr::functions::protocol::JsonType;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::server::Nats;
use super::support::proto::{
    ActorInvocationResponse, Any, Context, InvocationRequest, actor_invocation_response,
};
use super::support::scrape::count;
use super::{Caller, LIMIT, add, until};

const SUBJECT: &str = "spawn.spawn-system.actors.actions";
const SYSTEM: &str = "spawn-system";

/// A system of Spawn, whose answers the test makes.
struct Spawn {
    client: async_nats::Client,
    calls: Subscriber,
}

impl Spawn {
    async fn on(nats: &Nats) -> Self {
        let client = nats.client().await;
        let calls = client.queue_subscribe(SUBJECT, SUBJECT.into()).await.unwrap();
        // The server takes what comes over a connection in order: it knows the subscription when this message is back.
        let inbox = client.new_inbox();
        let mut back = client.subscribe(inbox.clone()).await.unwrap();
        client.publish(inbox, Bytes::new()).await.unwrap();
        timeout(LIMIT, back.next()).await.expect("a message").unwrap();
        Self { client, calls }
    }

    /// The next call.
    async fn next(&mut self) -> (Message, InvocationRequest) {
        let call = timeout(LIMIT, self.calls.next()).await.expect("a call").unwrap();
        let request = InvocationRequest::decode(call.payload.clone()).unwrap();
        (call, request)
    }

    async fn answer(&self, call: &Message, body: Bytes) {
        self.client.publish(call.reply.clone().unwrap(), body).await.unwrap();
        self.client.flush().await.unwrap();
    }
}

/// What Spawn answers, as its host answered.
fn response(system: &str, value: &Value) -> Bytes {
    let content = JsonType { content: value.to_string() }.encode_to_vec();
    let url = "type.googleapis.com/eigr.functions.protocol.JSONType";
    let value = Any { type_url: url.into(), value: content.into() };
    let response = ActorInvocationResponse {
        actor_name: "joe".into(),
        actor_system: system.into(),
        updated_context: Some(Context::default()),
        payload: Some(actor_invocation_response::Payload::Value(value)),
        ..ActorInvocationResponse::default()
    };
    response.encode_to_vec().into()
}

#[tokio::test]
async fn the_bodies_that_spawn_answers_are_understood() {
    let nats = Nats::start().await;
    let mut spawn = Spawn::on(&nats).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    let sum = json!({ "sum": 7 });
    let cases: [(Bytes, u16, &str); 5] = [
        (response(SYSTEM, &sum), 200, "sum"),
        // An older host names nobody.
        (response("", &sum), 200, "sum"),
        (response("elsewhere", &sum), 502, "answered with an error"),
        ("no_content".into(), 502, "gave no answer"),
        ("Actor joe is not authorized".into(), 502, "Actor joe is not authorized"),
    ];
    for (body, status, told) in cases {
        let answering = async {
            let (call, request) = spawn.next().await;
            let id = request.actor.unwrap().id.unwrap();
            assert_eq!((id.name.as_str(), request.action_name.as_str()), ("joe", "add"));
            assert_eq!(request.system.unwrap().name, SYSTEM);
            spawn.answer(&call, body.clone()).await;
        };
        let ((reply, answer), ()) = tokio::join!(caller.call(SYSTEM, "joe", add()), answering);
        assert_eq!(reply.status, status, "{answer}");
        assert!(answer.to_string().contains(told), "{answer}");
        if status == 502 {
            assert_eq!(reply.headers["tidegate-error-source"], "host");
            assert_eq!(answer["safe_to_retry"], false, "{answer}");
        }
    }
    let ok = "tidegate_nats_calls_out_total{outcome=\"ok\"}";
    assert_eq!(count(&caller.proxy, ok).await, 2);
}

#[tokio::test]
async fn the_trace_of_the_caller_and_its_time_limit_go_along() {
    let nats = Nats::start().await;
    let mut spawn = Spawn::on(&nats).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = json!({ "action": "add", "metadata": { "request-timeout": "300" } });
    let path = format!("/api/v1/system/{SYSTEM}/actors/joe/invoke");
    let headers = [("traceparent", trace)];
    let text = call.to_string();
    let calling = super::support::json::send(&mut caller.client, ("POST", &path), &headers, &text);
    let ((reply, answer), (call, request)) = tokio::join!(calling, spawn.next());
    assert_eq!(call.headers.unwrap().get("traceparent").unwrap().as_str(), trace);
    assert_eq!(request.metadata["request-timeout"], "300");
    // Nobody answers.
    assert_eq!(reply.status, 504, "{answer}");
    assert_eq!(answer["safe_to_retry"], false);
    assert!(answer.to_string().contains("may have run"), "{answer}");
    let unanswered = "tidegate_nats_calls_out_total{outcome=\"unanswered\"}";
    assert_eq!(count(&caller.proxy, unanswered).await, 1);
    // It was sent once.
    let again = timeout(Duration::from_secs(1), spawn.calls.next()).await;
    assert!(again.is_err(), "{again:?}");
}

#[tokio::test]
async fn an_asynchronous_call_is_answered_when_it_is_accepted() {
    let nats = Nats::start().await;
    let mut spawn = Spawn::on(&nats).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    for more in [json!({ "async": true }), json!({ "scheduled_to": 99_999_999_999_999_u64 })] {
        let mut call = add();
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answering = async {
            let (call, request) = spawn.next().await;
            assert!(request.r#async || request.scheduled_to > 0);
            spawn.answer(&call, "async".into()).await;
        };
        let ((reply, answer), ()) = tokio::join!(caller.call(SYSTEM, "joe", call), answering);
        assert_eq!(reply.status, 200, "{answer}");
    }
}

#[tokio::test]
async fn a_system_that_nobody_serves_is_told_at_once() {
    let nats = Nats::start().await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    for more in [json!({}), json!({ "async": true })] {
        let mut call = add();
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        // The limit of a call is far above that of the test.
        let (reply, answer) = caller.call("nowhere", "joe", call).await;
        assert_eq!(reply.status, 404, "{answer}");
        assert_eq!(
            (&answer["kind"], &answer["safe_to_retry"]),
            (&json!("actor_not_found"), &json!(true))
        );
        assert!(answer.to_string().contains("no proxy on NATS serves it"), "{answer}");
    }
}

#[tokio::test]
async fn without_a_connection_nothing_is_sent_and_the_proxy_stays_ready() {
    let nats = Nats::start().await;
    nats.kill(1).await;
    // It starts without a server.
    let mut caller = Caller::start(&nats.servers, &[]).await;
    let (reply, answer) = caller.call(SYSTEM, "joe", add()).await;
    assert_eq!(reply.status, 503, "{answer}");
    assert_eq!((&answer["kind"], &answer["safe_to_retry"]), (&json!("overloaded"), &json!(true)));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(caller.client.get("/health/readiness").await.unwrap().status, 200);
    nats.restart(1).await;
    caller.until_connected(true).await;
    let mut spawn = Spawn::on(&nats).await;
    let answering = async {
        let (call, _) = spawn.next().await;
        spawn.answer(&call, response(SYSTEM, &json!(1))).await;
    };
    let ((reply, answer), ()) = tokio::join!(caller.call(SYSTEM, "joe", add()), answering);
    assert_eq!(reply.status, 200, "{answer}");
    nats.kill(1).await;
    caller.until_connected(false).await;
    assert_eq!(caller.client.get("/health/readiness").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_call_that_is_larger_than_nats_carries_is_refused_before_it_is_sent() {
    let nats = Nats::with(1, &[("NATS_MAX_PAYLOAD", "4096")]).await;
    let mut spawn = Spawn::on(&nats).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    let call = json!({ "action": "add", "payload": { "text": "x".repeat(5_000) } });
    let (reply, answer) = caller.call(SYSTEM, "joe", call).await;
    assert_eq!((reply.status, &answer["kind"]), (413, &json!("too_large")), "{answer}");
    assert!(answer.to_string().contains("max_payload"), "{answer}");
    assert!(timeout(Duration::from_millis(500), spawn.calls.next()).await.is_err());
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused_at_once() {
    let nats = Nats::start().await;
    let mut spawn = Spawn::on(&nats).await;
    let mut caller = Caller::connected(&nats.servers, &[("TIDEGATE_NATS_CALLS", "2")]).await;
    let mut waiting = JoinSet::new();
    for _ in 0..2 {
        let mut client = super::Client::connect(caller.proxy.address()).await.unwrap();
        waiting.spawn(async move {
            let path = format!("/api/v1/system/{SYSTEM}/actors/joe/invoke");
            let text = add().to_string();
            super::send(&mut client, ("POST", &path), &[], &text).await.0.status
        });
    }
    let calls = [spawn.next().await.0, spawn.next().await.0];
    let (reply, answer) = caller.call(SYSTEM, "joe", add()).await;
    assert_eq!((reply.status, &answer["safe_to_retry"]), (503, &json!(true)), "{answer}");
    assert!(answer.to_string().contains("TIDEGATE_NATS_CALLS"), "{answer}");
    for call in calls {
        spawn.answer(&call, response(SYSTEM, &json!(1))).await;
    }
    assert_eq!(waiting.join_all().await, [200, 200]);
}

#[tokio::test]
async fn what_policies_refuse_is_not_sent() {
    let nats = Nats::start().await;
    let mut spawn = Spawn::on(&nats).await;
    let policies = tempfile::tempdir().unwrap();
    let policy = format!("type: deny\ntargets: {SYSTEM}/joe\n");
    std::fs::write(policies.path().join("joe.policy"), policy).unwrap();
    let folder = [("TIDEGATE_POLICIES_DIR", policies.path().to_str().unwrap())];
    let mut caller = Caller::connected(&nats.servers, &folder).await;
    assert_eq!(caller.call(SYSTEM, "joe", add()).await.0.status, 403);
    let answering = async {
        let (call, request) = spawn.next().await;
        assert_eq!(request.actor.unwrap().id.unwrap().name, "moe");
        spawn.answer(&call, response(SYSTEM, &json!(1))).await;
    };
    let ((reply, _), ()) = tokio::join!(caller.call(SYSTEM, "moe", add()), answering);
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn calls_go_on_over_another_server_when_one_dies() {
    let nats = Nats::with(2, &[]).await;
    let (first, _) = nats.servers.split_once(',').unwrap();
    // The one that does not die.
    let second = nats.servers.rsplit(',').next().unwrap();
    let client = async_nats::connect(second).await.unwrap();
    let mut calls = client.queue_subscribe(SUBJECT, SUBJECT.into()).await.unwrap();
    client.flush().await.unwrap();
    let answering = {
        let client = client.clone();
        async move {
            while let Some(call) = calls.next().await {
                let body = response(SYSTEM, &json!(1));
                client.publish(call.reply.unwrap(), body).await.unwrap();
            }
        }
    };
    let mut answerers = JoinSet::new();
    answerers.spawn(answering);
    // Connected to the first one, because the second is only told.
    let servers = format!("{first},{second}");
    let mut caller =
        Caller::connected(&servers, &[("SPAWN_INTERNAL_NATS_BACKOFF_PERIOD", "100")]).await;
    let call = json!({ "action": "add", "metadata": { "request-timeout": "1000" } });
    until("the first call is answered", async || {
        caller.call(SYSTEM, "joe", call.clone()).await.0.status == 200
    })
    .await;
    nats.kill(1).await;
    until("calls are answered without the first server", async || {
        sleep(Duration::from_millis(50)).await;
        caller.call(SYSTEM, "joe", call.clone()).await.0.status == 200
    })
    .await;
}
