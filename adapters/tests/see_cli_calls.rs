//! Commands that show what runs, what has ended, and why it took so long.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use support::client::{Client, Reply};
use support::host::{Answer, BoundHost, Call, Host, Script};
use support::json::{Told, register};
use support::proxy::{Proxy, embedded};
use support::pty::OnTerminal;
use support::tool::{Ran, run};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_mins(1);
/// How long a slow action takes.
const SLOW: u64 = 400;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Answers as its payload says, and after the time that it says, or when it is told to.
#[derive(Debug, Default)]
struct Slow {
    told: Arc<Told>,
    open: watch::Sender<bool>,
}

impl Script for Slow {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        let body: Value = serde_json::from_slice(&call.body).expect("a call in JSON");
        let pause = body["payload"]["sleep_ms"].as_u64().unwrap_or(0);
        let (told, mut open) = (Arc::clone(&self.told), self.open.subscribe());
        let waits = body["payload"]["waits"] == true;
        Box::pin(async move {
            if waits {
                open.wait_for(|open| *open).await.expect("the test is there");
            }
            sleep(Duration::from_millis(pause)).await;
            told.answer(call).await
        })
    }
}

struct World {
    proxy: Proxy,
    slow: Arc<Slow>,
    host: Option<Host>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let slow = Arc::<Slow>::default();
        let host = Host::start(Arc::clone(&slow));
        let directory = tempfile::tempdir().unwrap();
        let all =
            [&embedded(directory.path(), "1")[..], &[("TIDEGATE_TRACE_SLOW", "200ms")], settings];
        let proxy = Proxy::start(&all.concat()).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors =
            json!([{ "name": "joe", "actions": ["add"] }, { "name": "ann", "actions": ["add"] }]);
        register(&mut client, &host.port(), &actors).await;
        let world = Self { proxy, slow, host: Some(host), _directory: directory };
        // A warm-up has a turn of its own, which would be counted among those that wait.
        let warm = async {
            loop {
                let system = &world.json(&["ps"]).await["systems"][0];
                if system["in_memory"] == 2 && system["running"] == 0 && system["queued"] == 0 {
                    break;
                }
            }
        };
        timeout(LIMIT, warm).await.expect("both actors are in memory");
        world
    }

    /// Runs a command that asks the proxy.
    async fn ask(&self, args: &[&str]) -> Ran {
        run(&[args, &["--proxy", self.proxy.address()]].concat(), &[]).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let said = self.ask(&[args, &["--output", "json"]].concat()).await.said();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    async fn call(&self, actor: &str, headers: &[(&str, &str)], payload: Value) -> Reply {
        call(self.proxy.address(), actor, headers, payload).await
    }
}

async fn call(address: &str, actor: &str, headers: &[(&str, &str)], payload: Value) -> Reply {
    let mut client = Client::connect(address).await.unwrap();
    let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
    let mut request = Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({ "action": "add", "payload": payload }).to_string();
    client.send(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
}

fn stage<'a>(call: &'a Value, name: &str) -> &'a Value {
    let stages = call["hops"][0]["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("{name}: {call}"))
}

#[tokio::test]
async fn a_slow_and_a_failed_call_are_explained_by_the_id_of_request_or_trace() {
    let world = World::new(&[]).await;
    let none = world.ask(&["explain"]).await.refused(1);
    assert!(none.contains("no such call is kept"), "{none}");
    // Its caller decided against sampling, and nothing is exported: it is kept all the same.
    let parent = format!("00-{TRACE}-b7ad6b7169203331-00");
    let headers = [("x-request-id", "slow-1"), ("traceparent", &parent)];
    assert_eq!(world.call("joe", &headers, json!({ "sleep_ms": SLOW })).await.status, 200);
    let fails = json!({ "status": 409, "answer": { "reason": "no money" } });
    assert_eq!(world.call("ann", &[("x-request-id", "failed-1")], fails).await.status, 409);
    assert_eq!(world.call("joe", &[("x-request-id", "quick-1")], json!({})).await.status, 200);

    let slow = world.ask(&["explain", "slow-1"]).await.said();
    for part in ["shop/joe add: ok after", TRACE, "slow-1", "invoke", "checkpoint"] {
        assert!(slow.contains(part), "{part}: {slow}");
    }
    assert!(!slow.contains('\u{1b}'), "colours on no terminal: {slow}");
    assert_eq!(
        world.ask(&["explain", TRACE]).await.said().split('\n').next(),
        slow.split('\n').next()
    );
    let told = world.json(&["explain", TRACE]).await;
    let [call] = &told["calls"].as_array().unwrap()[..] else { panic!("{told}") };
    let served = stage(call, "invoke")["served_ms"].as_f64().unwrap();
    assert!(served >= 350.0 && call["took_ms"].as_f64().unwrap() >= served, "{call}");

    let failed = world.ask(&["explain", "failed-1"]).await.said();
    assert!(failed.contains("failed here") && failed.contains("(host)"), "{failed}");
    let listed = world.ask(&["explain"]).await.said();
    assert_eq!(listed.lines().count(), 3, "a title, the failed one and the slow one: {listed}");
    let listed = world.ask(&["explain", "--failed", "--actor", "shop/ann"]).await.said();
    assert!(listed.lines().count() == 2 && listed.contains("shop/ann"), "{listed}");
    world.ask(&["explain", "quick-1"]).await.refused(1);
    let none = world.ask(&["explain", "quick-1", "--output", "json"]).await;
    let told: Value = serde_json::from_str(&none.stdout).unwrap();
    assert_eq!((none.code, told), (Some(1), json!({ "calls": [] })));
}

#[tokio::test]
async fn a_call_that_took_too_long_is_explained_as_its_caller_was_told() {
    let world = World::new(&[]).await;
    let mut client = Client::connect(world.proxy.address()).await.unwrap();
    let body = json!({
        "action": "add",
        "payload": { "sleep_ms": 1_000 },
        "metadata": { "request-timeout": "300" },
    });
    let request = Request::post("/api/v1/system/shop/actors/joe/invoke")
        .header("content-type", "application/json")
        .header("x-request-id", "hasty-1")
        .body(Full::new(Bytes::from(body.to_string())));
    let told = client.send(request.unwrap()).await.unwrap();
    assert_eq!(told.status, 504);
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    // It ends when its action has ended, whose outcome is kept.
    let ended = async {
        loop {
            let kept = client.get("/api/v1/calls?id=hasty-1").await.unwrap();
            let kept: Value = serde_json::from_slice(&kept.body).unwrap();
            if let Some(call) = kept["calls"].get(0) {
                break call.clone();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let call = timeout(LIMIT, ended).await.expect("it has failed for its caller");
    let error = &call["error"];
    assert_eq!((&error["kind"], &error["source"]), (&json!("deadline_exceeded"), &json!("host")));
    assert_eq!((&error["kind"], &error["text"]), (&told["kind"], &told["detail"]), "{told}");
}

#[tokio::test]
async fn a_kept_call_says_what_it_was_blocked_on() {
    // Nobody takes the traces: sampled calls are kept in any case, and slow ones without sampling.
    for setting in
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("TIDEGATE_TRACE_SLOW", "1ms")]
    {
        says_what_it_was_blocked_on(setting).await;
    }
}

async fn says_what_it_was_blocked_on(setting: (&str, &str)) {
    let world = World::new(&[setting]).await;
    let mut calls = JoinSet::new();
    for (id, queued) in [("first", 0), ("second", 1)] {
        let address = world.proxy.address().to_owned();
        calls.spawn(async move {
            call(&address, "joe", &[("x-request-id", id)], json!({ "waits": true })).await.status
        });
        let is_there = async {
            loop {
                let joe = world.json(&["actors", "list", "shop/joe"]).await;
                if joe["running"]["action"] == "add" && joe["queued"] == queued {
                    break;
                }
            }
        };
        timeout(LIMIT, is_there).await.expect("one runs, the other waits");
    }
    world.slow.open.send_replace(true);
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    let told = world.json(&["explain", "second"]).await;
    let lookup = stage(&told["calls"][0], "lookup");
    assert!(lookup["blocked_on_ms"]["turn"].as_f64().is_some_and(|ms| ms > 0.0), "{told}");
    let shown = world.ask(&["explain", "second"]).await.said();
    assert!(shown.contains("turn "), "{shown}");
}

#[tokio::test]
async fn a_call_that_waited_for_a_host_that_was_away_says_so() {
    let settings = [
        ("TIDEGATE_TRACE_SLOW", "1ms"),
        ("TIDEGATE_HOST_GRACE", "300s"),
        ("TIDEGATE_START_TIMEOUT", "300s"),
    ];
    let mut world = World::new(&settings).await;
    assert_eq!(world.call("joe", &[], json!({})).await.status, 200);
    // Refuses connections, and nobody else takes the port.
    let bound = BoundHost::bind_to(world.host.take().unwrap().stop().await);
    let (address, mut calls) = (world.proxy.address().to_owned(), JoinSet::new());
    let mut begin = |actor: &'static str| {
        let address = address.clone();
        calls.spawn(async move {
            call(&address, actor, &[("x-request-id", actor)], json!({})).await.status
        });
    };
    // The first one finds the host away.
    begin("joe");
    let away = async {
        while !world.json(&["hosts", "list", "shop"]).await["hosts"][0]["away_seconds"].is_u64() {}
    };
    timeout(LIMIT, away).await.expect("it is away");
    begin("ann");
    let waits = async {
        loop {
            let ann = world.json(&["actors", "list", "shop/ann"]).await;
            if ann["queued"] == 1 {
                break ann;
            }
        }
    };
    let ann = timeout(LIMIT, waits).await.expect("it waits");
    assert_eq!(ann["waiting"]["blocked_on"], "host_breaker", "{ann}");
    world.host = Some(bound.listen(world.slow.clone()));
    while let Some(status) = timeout(LIMIT, calls.join_next()).await.unwrap() {
        assert_eq!(status.unwrap(), 200);
    }
    let told = world.json(&["explain", "ann"]).await;
    let blocked_on = &stage(&told["calls"][0], "lookup")["blocked_on_ms"];
    assert!(blocked_on["host_breaker"].as_f64().is_some_and(|ms| ms > 0.0), "{told}");
    assert!(blocked_on["host_permit"].is_null(), "{told}");
}

#[tokio::test]
async fn calls_of_an_actor_are_followed_while_they_end() {
    let world = World::new(&[]).await;
    let (address, mut tails) = (world.proxy.address().to_owned(), JoinSet::new());
    for form in ["table", "json"] {
        let address = address.clone();
        tails.spawn(async move {
            let args = ["tail", "shop/joe", "--count", "3", "--output", form, "--proxy", &address];
            (form, run(&args, &[]).await)
        });
    }
    // Both begin at some time.
    let mut ended = Vec::new();
    while ended.len() < 2 {
        world.call("ann", &[], json!({})).await;
        world.call("joe", &[("x-request-id", "own")], json!({})).await;
        world.call("joe", &[], json!({ "status": 409, "answer": {} })).await;
        while let Some(tail) = tails.try_join_next() {
            ended.push(tail.unwrap());
        }
    }
    ended.sort_by_key(|(form, _)| *form);
    let mut told = ended.into_iter().map(|(_, ran)| ran.said());
    let lines: Vec<Value> =
        told.next().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["hops"][0]["actor"] == "joe"), "{lines:?}");
    let ok = lines.iter().find(|line| line["error"].is_null()).unwrap();
    assert_eq!(ok["request_id"], "own");
    assert!(lines.iter().any(|line| line["error"]["source"] == "host"), "{lines:?}");
    let table = told.next().unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("  add  ok  ") && table.contains(", state written"), "{table}");

    // One that is not known begins anew.
    let mut client = Client::connect(&address).await.unwrap();
    let path = "/api/v1/system/shop/actors/joe/calls";
    let request = Request::get(path).header("last-event-id", "4711");
    let unknown = client.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(unknown.status, 404);
    let first = client.get(path).await.unwrap();
    assert_eq!(first.headers["content-type"], "text/event-stream");
    let text = String::from_utf8(first.body.to_vec()).unwrap();
    assert!(text.contains("\nid: ") && text.contains("event: following\ndata: {"), "{text}");
}

#[tokio::test]
async fn what_runs_is_shown_in_tables_and_json() {
    let world = World::new(&[("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0")]).await;
    let (address, mut calls) = (world.proxy.address().to_owned(), JoinSet::new());
    for _ in 0..3 {
        let address = address.clone();
        calls.spawn(
            async move { call(&address, "joe", &[], json!({ "waits": true })).await.status },
        );
    }
    let seen = timeout(LIMIT, async {
        loop {
            let seen = world.json(&["ps"]).await;
            if seen["systems"][0]["queued"] == 2 {
                return seen;
            }
        }
    });
    let seen = seen.await.expect("one runs and two wait");
    let system = &seen["systems"][0];
    assert_eq!((&system["name"], &system["actors"]), (&json!("shop"), &json!(2)));
    assert_eq!((&system["running"], &system["paused"]), (&json!(1), &json!(0)));
    assert_eq!(seen["hosts"][0]["actors"], 2);
    let busiest = &seen["busiest"][0];
    assert_eq!((&busiest["name"], &busiest["running"]["action"]), (&json!("joe"), &json!("add")));

    let frame = world.ask(&["top", "--once"]).await.said();
    for part in ["STAGE", "caller", "checkpoint", "GRANTED/S", "ACTOR", "shop/joe"] {
        assert!(frame.contains(part), "{part}: {frame}");
    }
    // Only the admin port says what holds calls up.
    let held = "calls wait for other calls of the same actors: 2 wait, ";
    assert!(!frame.contains(held), "{frame}");
    let admin = run(&["top", "--once", "--proxy", &world.proxy.admin().await], &[]).await.said();
    assert!(admin.contains(held) && admin.contains("STAGE"), "{admin}");
    let table = world.ask(&["ps"]).await.said();
    for part in ["SYSTEM", "HOST", "127.0.0.1:", "shop/joe"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    for text in [frame, table] {
        assert!(!text.contains('\u{1b}'), "colours on no terminal: {text}");
    }
    for (no_colour, is_bold) in [("", true), ("1", false)] {
        let mut top = OnTerminal::start(&["top", "--proxy", &address], &[("NO_COLOR", no_colour)]);
        // What the actor waits for is below the stages.
        while !top.screen().contents().contains("shop/joe") {
            assert!(top.changed().await, "it ended with {:?}", top.ended().await);
        }
        let title = (0..40).find(|row| top.screen().cell(*row, 0).unwrap().contents() == "S");
        assert_eq!(top.screen().cell(title.unwrap(), 0).unwrap().bold(), is_bold);
        assert_eq!(top.screen().contents().matches("STAGE").count(), 1);
    }
    let short = world.ask(&["actors", "list", "shop/joe", "--json"]).await.said();
    let short: Value = serde_json::from_str(&short).unwrap();
    let long = world.json(&["actors", "list", "shop/joe"]).await;
    assert_eq!((&short["name"], &long["name"]), (&json!("joe"), &json!("joe")));
    assert_eq!(world.json(&["hosts", "list", "shop"]).await["hosts"][0]["definitions"], 2);
    assert_eq!(world.json(&["log-level"]).await["filter"], "info");
    world.ask(&["ps", "--json", "--output", "table"]).await.refused(2);
    world.slow.open.send_replace(true);
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_call_that_is_watched_shows_its_path() {
    let world = World::new(&[]).await;
    let ran = world.ask(&["invoke", "shop/joe", "add", "--watch"]).await;
    assert!(ran.stderr.contains("shop/joe add: ok after"), "{}", ran.stderr);
    assert!(ran.stderr.contains("    invoke "), "{}", ran.stderr);
    assert_eq!(ran.said(), "{\"count\":1}\n");
    let fails = r#"{"status": 409, "answer": {}}"#;
    let failed = world.ask(&["invoke", "shop/joe", "add", "--watch", "--json", fails]).await;
    let said = failed.refused(70);
    assert!(said.contains("failed here") && said.contains("HTTP 409"), "{said}");
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_fails_at_no_stage_when_its_state_is_written() {
    let world = World::new(&[]).await;
    let mut client = Client::connect(world.proxy.address()).await.unwrap();
    let request = Request::post("/api/v1/system/shop/actors/joe/invoke")
        .header("content-type", "application/json")
        .header("x-request-id", "late-1");
    let (payload, metadata) = (json!({ "sleep_ms": SLOW }), json!({ "request-timeout": "100" }));
    let body = json!({ "action": "add", "payload": payload, "metadata": metadata }).to_string();
    let late = client.send(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    assert_eq!(late.status, 504);
    // The action goes on, and its state is written.
    let ended = async {
        loop {
            let ended = world.ask(&["explain", "late-1"]).await;
            if ended.stdout.contains("checkpoint") {
                break ended.said();
            }
        }
    };
    let said = timeout(LIMIT, ended).await.expect("it ends");
    assert!(said.contains("no answer within"), "{said}");
    assert!(!said.contains("failed here"), "{said}");
}

#[tokio::test]
async fn nothing_is_kept_when_that_is_switched_off() {
    let world = World::new(&[("TIDEGATE_KEPT_CALLS", "0")]).await;
    for args in [&["explain"][..], &["tail", "shop/joe"]] {
        let refused = world.ask(args).await.refused(70);
        assert!(refused.contains("TIDEGATE_KEPT_CALLS"), "{refused}");
    }
}
