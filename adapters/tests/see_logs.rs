//! What the log of the built binary says, how much of it, and how that is changed while it runs.
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
use support::host::{Answer, Call, Host, Script};
use support::json::{Told, answer, register};
use support::proxy::{Proxy, embedded};
use support::tool::{Ran, run};
use tokio::time::{sleep, timeout};

/// How long anything may take here.
const LIMIT: Duration = Duration::from_mins(1);

struct World {
    proxy: Proxy,
    client: Client,
    _host: Host,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let host = Host::start(Arc::new(Told::default()));
        let directory = tempfile::tempdir().unwrap();
        let all = [&embedded(directory.path(), "1")[..], settings].concat();
        let all = [&all[..], &[("TIDEGATE_DRAIN_DELAY", "0")]].concat();
        let proxy = Proxy::start(&all).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors = json!([
            { "name": "joe", "actions": ["add"] },
            { "name": "cart", "kind": "unnamed", "actions": ["add"] },
        ]);
        register(&mut client, &host.port(), &actors).await;
        Self { proxy, client, _host: host, _directory: directory }
    }

    /// Calls `add`, with these headers.
    async fn call(&mut self, actor: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Bytes::from(body.to_string());
        self.client.send(request.body(Full::new(body)).unwrap()).await.unwrap()
    }

    /// Has an action of `joe` fail for which nobody waits.
    async fn fail(&mut self, headers: &[(&str, &str)]) {
        let payload = json!({ "status": 409, "answer": { "reason": "hidden-answer" }, "item": "hidden-payload" });
        let body = json!({ "action": "add", "payload": payload, "async": true });
        assert_eq!(self.call("joe", headers, body).await.status, 200);
    }

    async fn tool(&self, args: &[&str], settings: &[(&str, &str)]) -> Ran {
        run(&[args, &["--proxy", self.proxy.address()]].concat(), settings).await
    }

    /// Waits for lines with this text; returns them.
    async fn lines(&self, text: &str, count: usize) -> Vec<String> {
        let found = || -> Vec<String> {
            self.proxy.log().into_iter().filter(|line| line.contains(text)).collect()
        };
        let waiting = async {
            while found().len() < count {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("no {count} lines with {text}"));
        found()
    }
}

/// Asks for a side effect and a broadcast with each answer.
#[derive(Debug)]
struct Asking;

impl Script for Asking {
    fn answer(self: Arc<Self>, _: Call) -> BoxFuture<'static, Option<Answer>> {
        let effects = json!([{ "actor": "joe", "action": "add" }]);
        let broadcast = json!({ "channel": "news" });
        let body = json!({ "state": 1, "effects": effects, "broadcast": broadcast }).to_string();
        Box::pin(async move { Some(answer(200, &body)) })
    }
}

#[tokio::test]
async fn what_an_init_action_asks_for_and_does_not_get_is_a_line() {
    let mut world = World::new(&[]).await;
    let host = Host::start(Arc::new(Asking));
    let actors = json!([{ "name": "ann", "actions": ["add", "setup"] }]);
    register(&mut world.client, &host.port(), &actors).await;
    // It runs by itself: the actor is activated after the registration.
    let lines = world.lines("an init action changes state and tags only", 1).await;
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for part in ["WARN", "shop/ann", "side effects, a broadcast"] {
        assert!(line.contains(part), "{line}");
    }
}

const FAILED: &str = "a call that nobody waits for has failed";

#[tokio::test]
async fn the_filter_is_shown_and_changed_while_it_runs_by_administrators_only() {
    let mut world = World::new(&[("SPAWN_PROXY_LOGGER_LEVEL", "warning")]).await;
    assert_eq!(world.tool(&["log-level"], &[]).await.said(), "warn\n");
    let wanted = "warn,tidegate_stages::lookup=debug";
    let changed = world.tool(&["log-level", wanted], &[]).await.said();
    assert_eq!(changed, format!("{wanted} (until the restart)\n"));
    let audited = world.lines("audit", 2).await;
    let audited = audited.iter().find(|line| line.contains("PUT /admin/log-level?filter=warn"));
    assert!(audited.is_some_and(|line| line.contains("done")), "{audited:?}");
    assert!(!world.proxy.log().iter().any(|line| line.contains("activated")));
    let body = json!({ "action": "add", "register_ref": "cart" });
    let answer = world.call("ann", &[], body).await;
    assert_eq!(answer.status, 200);
    world.lines("activated", 1).await;

    // Its end cannot be logged.
    assert_eq!(world.tool(&["log-level", "off"], &[]).await.said(), "off (until the restart)\n");
    let silenced = world.lines("PUT /admin/log-level?filter=off", 1).await;
    assert!(silenced[0].contains("begun"), "{silenced:?}");

    let refused = world.tool(&["log-level", "loud"], &[]).await.refused(70);
    assert!(refused.contains("HTTP 400") && refused.contains("not a filter"), "{refused}");
    assert_eq!(world.tool(&["log-level", "--reset"], &[]).await.said(), "warn\n");

    let token = [("TIDEGATE_ADMIN_TOKEN", "a-token-that-is-long-enough-to-be-one")];
    let world = World::new(&token).await;
    let refused = world.tool(&["log-level", "debug"], &[]).await.refused(70);
    assert!(refused.contains("HTTP 401") || refused.contains("HTTP 403"), "{refused}");
    assert_eq!(world.tool(&["log-level"], &token).await.said(), "info\n");
    assert!(!world.proxy.log().join("\n").contains(token[0].1), "the token is in the log");
}

#[tokio::test]
async fn lines_of_one_kind_have_a_bound_and_one_line_says_how_many_were_left_out() {
    let mut world = World::new(&[("TIDEGATE_LOG_LINES_PER_KIND", "5")]).await;
    for _ in 0..30 {
        world.fail(&[]).await;
    }
    // Told when ten seconds are over.
    let told = world.lines("lines of one kind are left out", 1).await;
    let told = told.first().unwrap();
    assert!(told.contains("lines=25") && told.contains(FAILED), "{told}");
    assert!(told.contains("WARN"), "as loud as what was left out: {told}");
    let scraped = world.client.get("/metrics").await.unwrap().body;
    let scraped = String::from_utf8(scraped.to_vec()).unwrap();
    assert!(scraped.contains("tidegate_log_lines_left_out_total 25"), "{scraped}");
    // A new window has begun; what it leaves out is told at the end.
    for _ in 0..8 {
        world.fail(&[]).await;
    }
    world.lines(&format!("{FAILED} "), 10).await;
    let log = world.proxy.said(LIMIT).await;
    let (mut logged, mut left_out) = (0, 0);
    for line in &log {
        if let Some(lines) = line.split("left out lines=").nth(1) {
            left_out += lines.split(' ').next().unwrap().parse::<u32>().unwrap();
        } else if line.contains(FAILED) {
            logged += 1;
        }
    }
    assert_eq!((logged, left_out), (10, 28), "{log:#?}");
}

#[tokio::test]
async fn a_request_has_an_id_that_its_lines_and_its_failure_share() {
    let mut world = World::new(&[]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    world.fail(&[("x-request-id", "order-4711"), ("traceparent", trace)]).await;
    let line = world.lines(FAILED, 1).await.remove(0);
    assert!(line.contains("request_id=order-4711"), "{line}");
    assert!(line.contains("trace_id=\"0af7651916cd43dd8448eb211c80319c\""), "{line}");

    // One that could forge a field is not taken; one is made.
    world.fail(&[("x-request-id", "a b=c")]).await;
    let line = world.lines(FAILED, 2).await.remove(1);
    let made = line.split("request_id=").nth(1).unwrap();
    let made = made.split([' ', '\u{1b}']).next().unwrap();
    assert!(made.len() == 16 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    assert!(!line.contains("trace_id"), "{line}");

    // A client hears the id that it chose, and that of its failure.
    let add = json!({ "action": "add" });
    let named = world.call("joe", &[("x-request-id", "mine")], add.clone()).await;
    assert_eq!((named.status, named.headers["x-request-id"].as_bytes()), (200, &b"mine"[..]));
    let plain = world.call("joe", &[], add.clone()).await;
    assert_eq!((plain.status, plain.headers.get("x-request-id")), (200, None));
    let failed = world.call("nobody", &[], add).await;
    assert_eq!((failed.status, failed.headers["x-request-id"].len()), (404, 16));
}

#[tokio::test]
async fn lines_are_json_for_machines_and_hold_no_payload_and_no_secret_at_any_level() {
    let token = "a-token-that-is-long-enough-to-be-one";
    let settings = [
        ("TIDEGATE_LOG_FORMAT", "json"),
        ("SPAWN_PROXY_LOGGER_LEVEL", "all"),
        ("TIDEGATE_ADMIN_TOKEN", token),
    ];
    let mut world = World::new(&settings).await;
    world.fail(&[("authorization", "Bearer hidden-credentials")]).await;
    world.tool(&["log-level"], &settings[2..]).await.said();
    world.lines(FAILED, 1).await;
    let log = world.proxy.said(LIMIT).await;
    let lines = log.iter().filter(|line| !line.starts_with("listening on "));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        for key in ["timestamp", "level", "target"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    let failed = lines.iter().find(|line| line["fields"]["message"] == FAILED).unwrap();
    assert_eq!(
        (&failed["level"], &failed["fields"]["actor"]),
        (&json!("WARN"), &json!("shop/joe"))
    );
    let all = log.join("\n");
    for hidden in ["hidden-", token] {
        assert!(!all.contains(hidden), "{hidden} is in the log: {all}");
    }
}
