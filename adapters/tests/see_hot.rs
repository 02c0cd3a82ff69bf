//! `/admin/hot` of the built binary, and `tidegate hot`: of three thousand actors, those that make most of the calls, take most of
//! the time, write most of the bytes or have the longest queues are named, in their order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::host::Host;
use support::json::{Gated, call, register, send};
use support::proxy::{Proxy, embedded};
use support::tool::run;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_mins(2);
const QUIET: usize = 3_000;
const CALLERS: usize = 8;

async fn hot(client: &mut Client, query: &str) -> Value {
    let (reply, body) = send(client, ("GET", &format!("/admin/hot?{query}")), &[], "").await;
    assert_eq!(reply.status, 200, "{body}");
    body
}

fn names(hot: &Value) -> Vec<&str> {
    hot["actors"].as_array().unwrap().iter().map(|actor| actor["name"].as_str().unwrap()).collect()
}

/// Asserts that a count and its error say the truth of the actor at this place.
fn check(hot: &Value, place: usize, least: u64, most: u64) {
    let actor = &hot["actors"][place];
    let (count, error) = (actor["count"].as_u64().unwrap(), actor["error"].as_u64().unwrap());
    assert!(count >= least && count - error <= most, "{actor}");
    let share = actor["share"].as_f64().unwrap();
    let total = hot["total"].as_f64().unwrap();
    assert!((share * total - actor["count"].as_f64().unwrap()).abs() < 1.0, "{actor} of {total}");
}

async fn called(client: &mut Client, actor: &str, times: usize, payload: &Value) {
    for _ in 0..times {
        let body = json!({"action": "add", "payload": payload});
        let (reply, told) = call(client, actor, &body).await;
        assert_eq!(reply.status, 200, "{told}");
    }
}

/// Registers the hot actors, and spawns the quiet ones.
async fn register_all(client: &mut Client, port: &str) {
    let hottest =
        ["many-1", "many-2", "slow-1", "slow-2", "large-1", "large-2", "deep-1", "deep-2"];
    let actions = ["add", "wait"];
    let mut actors: Vec<_> =
        hottest.iter().map(|name| json!({"name": name, "actions": actions})).collect();
    actors.push(json!({"name": "quiet", "kind": "unnamed", "actions": actions}));
    register(client, port, &actors.into()).await;
    let spawned: Vec<_> = (0..QUIET)
        .map(|number| json!({"name": format!("quiet-{number}"), "parent": "quiet"}))
        .collect();
    let spawn = json!({ "actors": spawned }).to_string();
    let path = ("POST", "/api/v1/system/shop/actors/spawn");
    assert_eq!(send(client, path, &[], &spawn).await.0.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_hot_among_three_thousand_actors_is_named_in_order() {
    let (gated, open) = Gated::new(false);
    let host = Host::start(gated);
    let directory = tempfile::tempdir().unwrap();
    let settings = [("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"), ("TIDEGATE_HOST_TIMEOUT", "300s")];
    let proxy = Proxy::start(&[&embedded(directory.path(), "1")[..], &settings].concat()).await;
    let mut admin = Client::connect(&proxy.admin().await).await.unwrap();
    register_all(&mut admin, &host.port()).await;
    assert_eq!(names(&hot(&mut admin, "by=queue").await), [""; 0]);

    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        callers.spawn(async move {
            for number in (caller..QUIET).step_by(CALLERS) {
                called(&mut client, &format!("quiet-{number}"), 1, &Value::Null).await;
            }
        });
    }
    while let Some(called) = callers.join_next().await {
        called.unwrap();
    }
    let large = |bytes: usize| json!({"answer": {"state": {"text": "x".repeat(bytes)}}});
    for (actor, times, payload) in [
        ("many-1", 160, Value::Null),
        ("many-2", 80, Value::Null),
        ("slow-1", 3, json!({"takes_ms": 2_000})),
        ("slow-2", 3, json!({"takes_ms": 1_000})),
        ("large-1", 3, large(200_000)),
        ("large-2", 3, large(100_000)),
    ] {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        callers.spawn(async move { called(&mut client, actor, times, &payload).await });
    }
    while let Some(called) = callers.join_next().await {
        called.unwrap();
    }

    let calls = hot(&mut admin, "limit=2").await;
    assert_eq!((names(&calls), &calls["unit"]), (vec!["many-1", "many-2"], &json!("calls")));
    check(&calls, 0, 160, 160);
    check(&calls, 1, 80, 80);
    let time = hot(&mut admin, "by=time").await;
    assert_eq!(
        (names(&time)[..2].to_vec(), &time["unit"]),
        (vec!["slow-1", "slow-2"], &json!("us"))
    );
    check(&time, 0, 6_000_000, u64::MAX);
    check(&time, 1, 3_000_000, u64::MAX);
    let bytes = hot(&mut admin, "by=bytes").await;
    assert_eq!(names(&bytes)[..2], ["large-1", "large-2"]);
    // Each is written once: the other two answers change nothing.
    check(&bytes, 0, 200_000, 210_000);
    check(&bytes, 1, 100_000, 110_000);
    // There is one table of a thousand per minute: not all that were called are counted by name.
    let all = hot(&mut admin, "limit=1000").await;
    assert_eq!(names(&all).len(), 1_000);
    assert!(all["others_at_most"].as_u64().unwrap() >= 1, "{all:#}");
    assert!(all["covers_ms"].as_u64().unwrap() >= 1, "{all:#}");

    // The longest queues now; also at the port of the API, as the command asks there.
    for (actor, count) in [("deep-1", 5), ("deep-2", 3)] {
        for _ in 0..count {
            let mut client = Client::connect(proxy.address()).await.unwrap();
            callers.spawn(async move {
                let (reply, told) = call(&mut client, actor, &json!({"action": "wait"})).await;
                assert_eq!(reply.status, 200, "{told}");
            });
        }
    }
    let mut api = Client::connect(proxy.address()).await.unwrap();
    let queue = timeout(PATIENCE, async {
        loop {
            let queue = hot(&mut api, "by=queue").await;
            if queue["total"] == 6 {
                return queue;
            }
        }
    });
    let queue = queue.await.expect("two of eight run");
    assert_eq!((names(&queue), &queue["covers_ms"]), (vec!["deep-1", "deep-2"], &json!(0)));
    check(&queue, 0, 4, 4);
    check(&queue, 1, 2, 2);

    let ask = async |args: &[&str]| run(&[args, &["--proxy", proxy.address()]].concat(), &[]).await;
    let told = ask(&["hot", "--by", "bytes", "--limit", "2", "--output", "json"]).await.said();
    assert_eq!(names(&serde_json::from_str(&told).unwrap()), ["large-1", "large-2"]);
    let table = ask(&["hot", "--by", "queue"]).await.said();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "6 turns wait now");
    assert!(
        lines[2].starts_with("shop/deep-1") && lines[2].ends_with("4 turns  66.7 %"),
        "{table}"
    );
    let frame = ask(&["top", "--once", "--by", "time"]).await.said();
    assert!(frame.contains(" of turns in the last ") && frame.contains("shop/slow-1"), "{frame}");
    ask(&["hot", "--by", "heat"]).await.refused(2);
    let wrong = send(&mut api, ("GET", "/admin/hot?by=heat"), &[], "").await;
    assert_eq!(wrong.0.status, 400);
    assert!(wrong.1.to_string().contains("calls, time, bytes or queue"), "{}", wrong.1);

    open.send_replace(true);
    while let Some(called) = callers.join_next().await {
        called.unwrap();
    }
}
