//! Systems: Tidegates that serve different systems call each other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::server::Nats;
use super::support::client::Client;
use super::support::host::{Answer, Call, Host, Script};
use super::support::json::{Told, answer, register, send};
use super::support::proto::{
    ActorInvocationResponse, InvocationRequest, actor_invocation_response,
};
use super::support::scrape::{Scrape, count};
use super::{Caller, add, until};

/// The subject of the system `shop`.
const SUBJECT: &str = "spawn.shop.actors.actions";

/// A proxy that serves the system `shop` with the actor `joe`, and with `moe`.
struct Shop {
    proxy: Caller,
    host: Host,
}

impl Shop {
    async fn start(nats: &Nats, script: Arc<impl Script>, more: &[(&str, &str)]) -> Self {
        let host = Host::start(script);
        let mut proxy = Caller::connected(&nats.servers, more).await;
        let actors = json!([
            { "name": "joe", "actions": ["add"] },
            { "name": "moe", "actions": ["add"] },
        ]);
        register(&mut proxy.client, &host.port(), &actors).await;
        Self { proxy, host }
    }
}

/// Waits until somebody serves `shop`.
async fn until_served(caller: &mut Caller) {
    until("the system is served", async || caller.call("shop", "moe", add()).await.0.status != 404)
        .await;
}

#[tokio::test]
async fn an_actor_of_another_system_is_called_as_if_it_were_here() {
    let nats = Nats::start().await;
    let told = Arc::new(Told::default());
    let mut shop = Shop::start(&nats, told.clone(), &[]).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    until_served(&mut caller).await;
    for count in 1..=3 {
        let (reply, answer) = caller.call("shop", "joe", add()).await;
        assert_eq!((reply.status, answer), (200, json!({ "payload": { "count": count } })));
    }
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let path = "/api/v1/system/shop/actors/joe/invoke";
    let body = add().to_string();
    let headers = [("traceparent", trace)];
    let (reply, _) = send(&mut caller.client, ("POST", path), &headers, &body).await;
    assert_eq!(reply.status, 200);
    let last = told.calls.lock().last().unwrap().0.clone();
    assert!(last.header("traceparent").unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    // What is registered here does not leave: the state is the same, and nothing went out.
    let (_, answer) = shop.proxy.call("shop", "joe", add()).await;
    assert_eq!(answer, json!({ "payload": { "count": 5 } }));
    let out = Scrape::of(&shop.proxy.proxy).await;
    assert_eq!(out.get("tidegate_nats_calls_out_total", &["outcome=\"ok\""]), Some(0.0));
    drop(shop.host);
}

#[tokio::test]
async fn a_failure_there_is_told_here_as_it_is_there() {
    let nats = Nats::start().await;
    let told = Arc::new(Told::default());
    let mut shop = Shop::start(&nats, told, &[]).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    until_served(&mut caller).await;
    let failing = |status: u16, answer: Value| json!({ "action": "add", "payload": { "status": status, "answer": answer } });
    let calls = [
        ("nobody", add()),
        ("joe", json!({ "action": "fly" })),
        ("joe", failing(500, json!({ "no": 1 }))),
        ("joe", failing(422, json!({ "code": 7 }))),
        ("joe", failing(409, json!("no JSON"))),
        ("joe", failing(422, json!("x".repeat(2_000)))),
        ("joe", failing(404, json!(""))),
    ];
    for (actor, call) in calls {
        let (original, expected) = shop.proxy.call("shop", actor, call.clone()).await;
        let (reply, answer) = caller.call("shop", actor, call).await;
        assert!(original.status >= 400, "{expected}");
        assert_eq!(reply.status, original.status, "{answer} {expected}");
        for field in ["kind", "detail", "body", "safe_to_retry"] {
            assert_eq!(answer[field], expected[field], "{answer} {expected}");
        }
        let source = "tidegate-error-source";
        assert_eq!(reply.headers[source], original.headers[source], "{answer}");
    }
}

/// Answers when it may.
#[derive(Debug)]
struct Held {
    told: Arc<Told>,
    open: watch::Receiver<bool>,
    began: Arc<Semaphore>,
}

impl Script for Held {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            self.began.add_permits(1);
            self.open.clone().wait_for(|open| *open).await.unwrap();
            self.told.clone().answer(call).await
        })
    }
}

#[tokio::test]
async fn a_proxy_without_capacity_says_so_at_once() {
    let nats = Nats::start().await;
    let (open, is_open) = watch::channel(false);
    let began = Arc::new(Semaphore::new(0));
    let held = Held { told: Arc::default(), open: is_open, began: began.clone() };
    let limit = [("TIDEGATE_NATS_CALLS", "2")];
    let shop = Shop::start(&nats, Arc::new(held), &limit).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    let mut waiting = JoinSet::new();
    for actor in ["joe", "moe"] {
        let mut client = Client::connect(caller.proxy.address()).await.unwrap();
        waiting.spawn(async move {
            let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
            let body = add().to_string();
            // The subscription may not be there yet.
            loop {
                match send(&mut client, ("POST", &path), &[], &body).await.0.status {
                    404 => sleep(Duration::from_millis(20)).await,
                    status => return status,
                }
            }
        });
    }
    began.acquire_many(2).await.unwrap().forget();
    let (reply, answer) = caller.call("shop", "joe", add()).await;
    assert_eq!((reply.status, &answer["kind"]), (503, &json!("overloaded")), "{answer}");
    assert_eq!(answer["safe_to_retry"], true);
    assert!(reply.headers.contains_key("retry-after"));
    open.send_replace(true);
    assert_eq!(waiting.join_all().await, [200, 200]);
    drop(shop);
}

#[tokio::test]
async fn a_host_that_fails_there_is_told_without_its_address() {
    let nats = Nats::start().await;
    let grace = [("TIDEGATE_HOST_GRACE", "50ms")];
    let shop = Shop::start(&nats, Arc::new(Told::default()), &grace).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    until_served(&mut caller).await;
    let port = shop.host.stop().await;
    let (reply, answer) = caller.call("shop", "joe", add()).await;
    assert_eq!(reply.status, 502, "{answer}");
    assert_eq!(reply.headers["tidegate-error-source"], "host");
    assert!(!answer.to_string().contains(&port.to_string()), "{answer}");
}

#[tokio::test]
async fn policies_there_can_name_calls_over_nats() {
    let nats = Nats::start().await;
    let policies = tempfile::tempdir().unwrap();
    let policy = "type: deny\nidentities: nats:\ntargets: shop/joe\n";
    std::fs::write(policies.path().join("joe.policy"), policy).unwrap();
    let folder = [("TIDEGATE_POLICIES_DIR", policies.path().to_str().unwrap())];
    let mut shop = Shop::start(&nats, Arc::new(Told::default()), &folder).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    until_served(&mut caller).await;
    let (reply, answer) = caller.call("shop", "joe", add()).await;
    assert_eq!((reply.status, &answer["kind"]), (403, &json!("forbidden")), "{answer}");
    assert_eq!(reply.headers["tidegate-error-source"], "policy");
    assert_eq!(caller.call("shop", "moe", add()).await.0.status, 200);
    assert_eq!(shop.proxy.call("shop", "joe", add()).await.0.status, 200);
}

#[tokio::test]
async fn a_call_that_came_over_nats_does_not_leave_again() {
    let nats = Nats::start().await;
    let shop = Shop::start(&nats, Arc::new(Told::default()), &[]).await;
    let client = nats.client().await;
    let elsewhere = client.subscribe("spawn.elsewhere.actors.actions").await;
    let mut elsewhere = elsewhere.unwrap();
    client.flush().await.unwrap();
    until_served(&mut Caller::connected(&nats.servers, &[]).await).await;
    // It names another system than that of its subject.
    let call = request("elsewhere", "joe");
    let answer = client.request(SUBJECT, call.encode_to_vec().into()).await.unwrap();
    let header = answer.headers.unwrap().get("tidegate-error").unwrap().to_string();
    assert!(header.starts_with("invalid; source=proxy; retry=false"), "{header}");
    let received = tokio::time::timeout(Duration::from_millis(500), elsewhere.next()).await;
    assert!(received.is_err(), "{received:?}");
    let out = Scrape::of(&shop.proxy.proxy).await;
    assert_eq!(out.get("tidegate_nats_calls_out_total", &["outcome=\"ok\""]), Some(0.0));
}

/// A call as Spawn sends it.
fn request(system: &str, actor: &str) -> InvocationRequest {
    use super::support::proto::{Actor, ActorId, ActorSystem};
    let id = ActorId { name: actor.into(), system: system.into(), parent: String::new() };
    InvocationRequest {
        system: Some(ActorSystem { name: system.into(), registry: None }),
        actor: Some(Actor { id: Some(id), ..Actor::default() }),
        action_name: "add".into(),
        ..InvocationRequest::default()
    }
}

#[tokio::test]
async fn spawn_gets_the_bodies_that_it_knows() {
    let nats = Nats::start().await;
    let told = Arc::new(Told::default());
    let shop = Shop::start(&nats, told.clone(), &[]).await;
    until_served(&mut Caller::connected(&nats.servers, &[]).await).await;
    let client = nats.client().await;
    let ask = async |call: InvocationRequest| {
        client.request(SUBJECT, call.encode_to_vec().into()).await.unwrap()
    };
    let answer = ask(request("shop", "joe")).await;
    assert!(answer.headers.is_none(), "{answer:?}");
    let response = ActorInvocationResponse::decode(answer.payload).unwrap();
    assert_eq!((response.actor_name.as_str(), response.actor_system.as_str()), ("joe", "shop"));
    assert!(response.updated_context.is_some(), "a context, without the state");
    assert!(response.updated_context.unwrap().state.is_none());
    assert!(matches!(response.payload, Some(actor_invocation_response::Payload::Value(_))));
    let asynchronous = InvocationRequest { r#async: true, ..request("shop", "joe") };
    assert_eq!(ask(asynchronous.clone()).await.payload, "async");
    let unknown = ask(request("shop", "nobody")).await;
    assert_eq!(unknown.payload, "Actor nobody not found on ActorSystem shop");
    assert!(ask_broken(&client).await.starts_with("invalid;"));
    // Without a subject for the answer, as Spawn sends asynchronous calls: it runs.
    let before = told.calls.lock().len();
    client.publish(SUBJECT, asynchronous.encode_to_vec().into()).await.unwrap();
    until("it has run", async || told.calls.lock().len() > before).await;
    drop(shop);
}

async fn ask_broken(client: &async_nats::Client) -> String {
    let answer = client.request(SUBJECT, "\u{1}\u{2}broken".into()).await.unwrap();
    answer.headers.unwrap().get("tidegate-error").unwrap().to_string()
}

/// Answers more than it was asked.
#[derive(Debug)]
struct Talker;

impl Script for Talker {
    fn answer(self: Arc<Self>, _: Call) -> BoxFuture<'static, Option<Answer>> {
        let body = json!({ "payload": "x".repeat(5_000) }).to_string();
        Box::pin(async move { Some(answer(200, &body)) })
    }
}

#[tokio::test]
async fn an_answer_that_is_larger_than_nats_carries_is_an_error_that_says_so() {
    let nats = Nats::with(1, &[("NATS_MAX_PAYLOAD", "4096")]).await;
    let mut shop = Shop::start(&nats, Arc::new(Talker), &[]).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    until_served(&mut caller).await;
    let (reply, answer) = caller.call("shop", "joe", add()).await;
    assert_eq!((reply.status, &answer["safe_to_retry"]), (413, &json!(false)), "{answer}");
    assert!(answer.to_string().contains("the action ran"), "{answer}");
    assert_eq!(shop.proxy.call("shop", "joe", add()).await.0.status, 200);
}

#[tokio::test]
async fn an_effect_whose_answer_is_larger_than_nats_carries_is_delivered() {
    let nats = Nats::with(1, &[("NATS_MAX_PAYLOAD", "4096")]).await;
    let shop = Shop::start(&nats, Arc::new(Talker), &[]).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    until_served(&mut caller).await;
    let host = Host::start(Arc::new(Told::default()));
    let here = format!("http://127.0.0.1:{}", host.port());
    let actors = json!([{ "name": "ann", "actions": ["add"] }]);
    let office = json!({ "system": "office", "actors": actors }).to_string();
    let headers = [("tidegate-host", here.as_str())];
    let (reply, _) = send(&mut caller.client, ("POST", "/api/v1/system"), &headers, &office).await;
    assert_eq!(reply.status, 200);
    let effect = json!({ "system": "shop", "actor": "joe", "action": "add" });
    let payload = json!({ "answer": { "effects": [effect] } });
    let (reply, answer) =
        caller.call("office", "ann", json!({ "action": "add", "payload": payload })).await;
    assert_eq!(reply.status, 200, "{answer}");
    until("no effect is pending or dead", async || {
        let listed = send(&mut caller.client, ("GET", "/api/v1/effects"), &[], "").await.1;
        listed["effects"] == json!([])
    })
    .await;
    let delivered = "tidegate_effects_total{outcome=\"delivered\"}";
    assert_eq!(count(&caller.proxy, delivered).await, 1);
    drop(shop);
}

#[tokio::test]
async fn a_proxy_that_ends_takes_no_more_calls_and_answers_those_that_it_has() {
    let nats = Nats::start().await;
    let (open, is_open) = watch::channel(false);
    let began = Arc::new(Semaphore::new(0));
    let held = Held { told: Arc::default(), open: is_open, began: began.clone() };
    let Shop { proxy: mut shop, host } = Shop::start(&nats, Arc::new(held), &[]).await;
    let mut caller = Caller::connected(&nats.servers, &[]).await;
    let mut client = Client::connect(caller.proxy.address()).await.unwrap();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        let path = "/api/v1/system/shop/actors/joe/invoke";
        let body = add().to_string();
        loop {
            match send(&mut client, ("POST", path), &[], &body).await.0.status {
                404 => sleep(Duration::from_millis(20)).await,
                status => return status,
            }
        }
    });
    began.acquire().await.unwrap().forget();
    shop.proxy.signal(Signal::TERM);
    until("nobody serves the system any more", async || {
        let call = json!({ "action": "add", "metadata": { "request-timeout": "200" } });
        caller.call("shop", "moe", call).await.0.status == 404
    })
    .await;
    open.send_replace(true);
    assert_eq!(waiting.join_all().await, [200]);
    let ended = shop.proxy.wait(Duration::from_secs(30)).await;
    assert!(ended.success());
    drop(host);
}

/// Notes which calls ran, by their number.
#[derive(Debug, Default)]
struct Ledger(Mutex<Vec<u64>>);

impl Script for Ledger {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        if let Some(number) = body["payload"]["number"].as_u64() {
            self.0.lock().push(number);
        }
        Box::pin(async move { Some(answer(200, "{\"payload\": {\"ok\": true}}")) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_has_one_answer_and_runs_at_most_once_though_nats_is_killed_under_load() {
    const CALLERS: u64 = 16;
    const KILLS: u32 = 5;
    let nats = Nats::start().await;
    let ledger = Arc::new(Ledger::default());
    let backoff = [("SPAWN_INTERNAL_NATS_BACKOFF_PERIOD", "200")];
    let shop = Shop::start(&nats, ledger.clone(), &backoff).await;
    let mut caller = Caller::connected(&nats.servers, &backoff).await;
    until_served(&mut caller).await;
    let (over, is_over) = watch::channel(false);
    let mut load = JoinSet::new();
    for caller_number in 0..CALLERS {
        let mut client = Client::connect(caller.proxy.address()).await.unwrap();
        let is_over = is_over.clone();
        load.spawn(async move {
            let actor = if caller_number % 2 == 0 { "joe" } else { "moe" };
            let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
            let mut outcomes = Vec::new();
            for round in 0_u64.. {
                if *is_over.borrow() {
                    break;
                }
                let number = round * CALLERS + caller_number;
                let metadata = json!({ "request-timeout": "2000" });
                let payload = json!({ "number": number });
                let call = json!({ "action": "add", "payload": payload, "metadata": metadata });
                let (reply, answer) =
                    send(&mut client, ("POST", &path), &[], &call.to_string()).await;
                let is_safe = answer["safe_to_retry"].as_bool();
                outcomes.push((number, reply.status, is_safe));
                if reply.status != 200 {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            outcomes
        });
    }
    for _ in 0..KILLS {
        sleep(Duration::from_millis(500)).await;
        nats.kill(1).await;
        sleep(Duration::from_millis(300)).await;
        nats.restart(1).await;
        until("calls are answered again", async || {
            let call = json!({ "action": "add", "metadata": { "request-timeout": "1000" } });
            caller.call("shop", "joe", call).await.0.status == 200
        })
        .await;
    }
    over.send_replace(true);
    let outcomes: Vec<_> = load.join_all().await.into_iter().flatten().collect();
    let mut runs = ledger.0.lock().clone();
    let all_runs = runs.len();
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), all_runs, "no call has run twice");
    let has_run = |number: &u64| runs.binary_search(number).is_ok();
    let (mut answered, mut refused, mut unknown) = (0, 0, 0);
    for (number, status, is_safe) in &outcomes {
        match (status, is_safe) {
            (200, _) => {
                assert!(has_run(number), "call {number} was answered and has run");
                answered += 1;
            }
            (_, Some(true)) => {
                assert!(!has_run(number), "call {number} is safe to retry, but has run");
                refused += 1;
            }
            (504, Some(false)) => unknown += 1,
            other => panic!("call {number}: {other:?}"),
        }
    }
    assert!(answered > 100 && refused + unknown > 0, "{answered} {refused} {unknown}");
    println!(
        "{KILLS} kills of NATS: {answered} calls answered, {refused} not sent, {unknown} may have run; none ran twice"
    );
    drop(shop);
}
