//! The built binary: schedules over HTTP and at a terminal, with SIGKILL in between.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::ACCEPT;
use http::{Method, Request};
use http_body_util::Full;
use parking_lot::Mutex;
use prost::Message;
use serde_json::{Value, json};
use support::client::Client;
use support::counter::{ADD, Counter, SYSTEM, definition, get, register, spawn};
use support::host::{Answer, Call, Host, Script};
use support::proto::{ActorInvocation, Kind};
use support::proxy::{Proxy, embedded};
use support::schedules::{create, path, paused, send, shown, until_runs};
use support::tool::run;
use tidegate::proto::tidegate::api::v1 as proto;
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_mins(1);

async fn start(host: &Host, directory: &Path, more: &[(&str, &str)]) -> (Proxy, Client) {
    let (port, store) = (host.port(), embedded(directory, "1"));
    let mut settings: Vec<(&str, &str)> = store.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    settings.extend([("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &port[..])]);
    settings.extend(more);
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

#[tokio::test]
async fn schedules_go_on_after_each_kill_and_each_run_counts_once_at_a_stateful_actor() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (mut proxy, mut client) = start(&host, directory.path(), &[]).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let all = json!({ "catch_up": "all", "overlap": "allow" });
    create(&mut client, "tick", "joe", all).await;
    for round in 1..=5 {
        until_runs(&mut client, "tick", round * 2).await;
        // In the middle of whatever it does.
        sleep(Duration::from_millis(200 * round)).await;
        proxy.kill().await;
        (proxy, client) = start(&host, directory.path(), &[]).await;
    }
    until_runs(&mut client, "tick", 14).await;
    let found = paused(&mut client, "tick").await;
    let runs = found["runs"].as_u64().unwrap();
    assert_eq!(
        (&found["failed"], &found["missed"], &found["skipped"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert_eq!(u64::from(get(&mut client, "joe").await), runs, "{found}");
    let history = found["history"].as_array().unwrap();
    let numbers: Vec<_> = history.iter().map(|run| run["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=runs).rev().take(20).collect::<Vec<_>>());
    let due: BTreeSet<_> = history.iter().map(|run| run["due"].as_str().unwrap()).collect();
    assert_eq!(due.len(), history.len(), "each for a time of its own");
    assert!(proxy.terminate(PATIENCE).await.success());
}

/// A host that never answers actors whose names begin with `slow`, and answers all others like [`Counter`].
#[derive(Debug, Default)]
struct Slow {
    counter: Arc<Counter>,
    called: Mutex<Vec<String>>,
}

impl Script for Slow {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        let name = ActorInvocation::decode(call.body.clone()).unwrap().actor.unwrap().name;
        self.called.lock().push(name.clone());
        if name.starts_with("slow") {
            Box::pin(std::future::pending())
        } else {
            self.counter.clone().answer(call)
        }
    }
}

#[tokio::test]
async fn targets_that_never_answer_do_not_delay_the_schedules_of_others() {
    let script = Arc::new(Slow::default());
    let host = Host::start(script.clone());
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = start(&host, directory.path(), &[]).await;
    let slow: Vec<_> = (0..40).map(|n| format!("slow{n}")).collect();
    let names = slow.iter().map(String::as_str).chain(["quick"]);
    register(&mut client, names.map(|name| definition(name, Kind::Named)).collect()).await;
    // Twenty for one target, and one for each of the others.
    for n in 0..20 {
        create(&mut client, &format!("slow-{n}"), "slow0", json!({ "overlap": "allow" })).await;
    }
    for name in &slow[1..] {
        create(&mut client, name, name, json!({})).await;
    }
    create(&mut client, "quick", "quick", json!({})).await;
    let quick = until_runs(&mut client, "quick", 5).await;
    assert_eq!((&quick["failed"], &quick["missed"]), (&json!(0), &json!(0)), "{quick}");
    let called: BTreeSet<_> = script.called.lock().iter().cloned().collect();
    assert!(called.len() > 20, "most of them are called: {called:?}");
    let slow = shown(&mut client, "slow-0").await;
    assert_eq!(slow["history"], json!([]), "{slow}");
    proxy.kill().await;
}

#[tokio::test]
async fn what_is_malformed_is_refused_and_the_proxy_serves_on() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = start(&host, directory.path(), &[]).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let spec = |more: Value| {
        let mut spec = json!({ "name": "n", "actor": "joe", "action": ADD });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    for (more, status, says) in [
        (json!({ "cron": "0 0 30 2 *" }), 400, "never run"),
        (json!({ "cron": "* * * *" }), 400, "cron has 4 fields"),
        (json!({ "cron": "x".repeat(10_000) }), 400, "cron has 10000 bytes"),
        (json!({ "cron": "* * * * *", "zone": "Mars/Olympus" }), 400, "no time zone"),
        (json!({ "cron": "* * * * *", "zone": "../../etc/passwd" }), 400, "no time zone"),
        (json!({ "every_ms": 60_000, "zone": "Europe/Berlin" }), 400, "zone is for cron only"),
        (json!({ "every_ms": 10 }), 400, "every must be from a second"),
        (json!({}), 400, "one of cron, every_ms and at"),
        (json!({ "at": "yesterday" }), 400, "RFC 3339"),
        (json!({ "at": "1000" }), 400, "never run"),
        (json!({ "every_ms": 1000, "overlap": "maybe" }), 400, "overlap"),
        (json!({ "every_ms": 1000, "catch_up": "-1" }), 400, "catch_up"),
        (json!({ "every_ms": 1000, "colour": "red" }), 400, "colour"),
        (json!({ "every_ms": 1000, "actor": "nobody" }), 404, "nobody"),
        (json!({ "every_ms": 1000, "action": "nothing" }), 404, "nothing"),
        (json!({ "every_ms": 1000, "name": "a\nb" }), 400, "control character"),
    ] {
        let (found, answer) = send(&mut client, Method::POST, "", spec(more.clone())).await;
        let text = answer["error"].as_str().unwrap();
        assert!(found == status && text.contains(says), "{more}: {found} {text}");
    }
    let (none, answer) = send(&mut client, Method::GET, "/n", Value::Null).await;
    assert_eq!(answer["kind"], "not_found", "{answer}");
    let (status, listed) = send(&mut client, Method::GET, "", Value::Null).await;
    assert_eq!((none, status, &listed["schedules"]), (404, 200, &json!([])));
    assert!(proxy.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn any_name_works_deleting_test_leaves_test_1_and_a_deleted_target_fails_runs_only() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = start(&host, directory.path(), &[]).await;
    register(&mut client, ["joe", "base"].map(|name| definition(name, Kind::Named)).to_vec()).await;
    spawn(&mut client, "base", &["gone"]).await;
    let names = [
        ("test", "test"),
        ("test-1", "test-1"),
        ("a|b@c d", "a%7Cb%40c%20d"),
        ("ü\u{202e}", "%C3%BC%E2%80%AE"),
    ];
    for (name, _) in names {
        create(&mut client, name, "joe", json!({})).await;
    }
    create(&mut client, "gone", "gone", json!({})).await;
    for (name, encoded) in names {
        assert_eq!(until_runs(&mut client, encoded, 1).await["spec"]["name"], name);
    }
    until_runs(&mut client, "gone", 1).await;
    let (status, _) = send(&mut client, Method::DELETE, "/test", Value::Null).await;
    let (again, _) = send(&mut client, Method::DELETE, "/test", Value::Null).await;
    assert_eq!((status, again), (200, 404));
    let delete = Request::delete(format!("/api/v1/system/{SYSTEM}/actors/gone"));
    let deleted = client.send(delete.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(deleted.status, 200);
    let runs = shown(&mut client, "gone").await["runs"].as_u64().unwrap();
    let gone = until_runs(&mut client, "gone", runs + 2).await;
    assert_eq!(gone["history"][0]["outcome"], "failed", "{gone}");
    assert!(gone["history"][0]["error"].as_str().unwrap().contains("not found"), "{gone}");
    let left = shown(&mut client, "test-1").await["runs"].as_u64().unwrap();
    until_runs(&mut client, "test-1", left + 2).await;
    assert!(proxy.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn protobuf_says_the_same_and_a_put_replaces_what_is_there() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = start(&host, directory.path(), &[]).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let spec = proto::ScheduleSpec {
        name: "nightly".into(),
        actor: "joe".into(),
        action: ADD.into(),
        cron: "30 2 * * *".into(),
        zone: "Europe/Berlin".into(),
        ..proto::ScheduleSpec::default()
    };
    let created = Request::post(path("")).header(ACCEPT, "application/octet-stream");
    let created = created.body(Full::new(spec.encode_to_vec().into())).unwrap();
    let reply = client.send(created).await.unwrap();
    let schedule = reply.decode::<proto::Schedule>();
    assert_eq!((reply.status, schedule.next.len(), &schedule.state[..]), (200, 5, "active"));
    assert_eq!(schedule.spec.unwrap().zone, "Europe/Berlin");
    // Twice is a conflict, but as a PUT.
    let json = json!({ "actor": "joe", "action": ADD, "cron": "0 3 * * *", "zone": "UTC" });
    let twice = json!({ "name": "nightly", "actor": "joe", "action": ADD, "every_ms": 1000 });
    assert_eq!(send(&mut client, Method::POST, "", twice).await.0, 409);
    let (status, put) = send(&mut client, Method::PUT, "/nightly", json).await;
    assert_eq!((status, &put["spec"]["cron"]), (200, &json!("0 3 * * *")));
    assert!(put["next"][0].as_str().unwrap().ends_with("T03:00:00.000000Z"), "{put}");
    let (status, ran) = send(&mut client, Method::POST, "/nightly/run", Value::Null).await;
    assert_eq!((status, &ran["runs"]), (200, &json!(1)), "{ran}");
    until_runs(&mut client, "nightly", 1).await;
    assert_eq!(get(&mut client, "joe").await, 1);
    assert!(proxy.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn schedules_can_be_made_and_looked_at_at_a_terminal() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = start(&host, directory.path(), &[]).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let address = proxy.address().to_owned();
    let tidegate = async |words: &[&str]| {
        let mut all = vec!["schedules"];
        all.extend(words);
        all.extend(["--proxy", &address]);
        run(&all, &[]).await
    };
    let poll = &format!("{SYSTEM}/poll it");
    let created =
        tidegate(&["create", poll, "joe", ADD, "--every", "1s", "--overlap", "queue_one"]).await;
    assert!(created.said().starts_with(&format!("created {poll}: active, next ")));
    until_runs(&mut client, "poll%20it", 2).await;
    let shown = tidegate(&["show", poll]).await.said();
    assert!(shown.contains("overlap queue_one") && shown.contains("answered"), "{shown}");
    assert_eq!(shown.matches("next     ").count(), 5, "{shown}");
    let listed = tidegate(&["list", SYSTEM]).await.said();
    assert!(listed.starts_with("poll it  every 1000 ms"), "{listed}");
    assert!(tidegate(&["pause", poll]).await.said().ends_with(": paused\n"));
    assert!(tidegate(&["resume", poll]).await.said().contains("active"));
    assert!(tidegate(&["run", poll]).await.said().starts_with("begun a run of"));
    assert_eq!(tidegate(&["delete", poll]).await.said(), format!("deleted {poll}\n"));
    assert!(tidegate(&["show", poll]).await.refused(70).contains("HTTP 404"));
    let wrong = tidegate(&["create", poll, "joe", ADD, "--cron", "0 0 30 2 *"]).await;
    assert!(wrong.refused(70).contains("never run"));
    let timeless = tidegate(&["create", poll, "joe", ADD]).await.refused(2);
    let all = ["--cron", "--every", "--at"];
    assert!(all.iter().all(|way| timeless.contains(way)), "{timeless}");
    let both = ["create", poll, "joe", ADD, "--every", "1s", "--at", "2999-01-01T00:00:00Z"];
    assert!(tidegate(&both).await.refused(2).contains("cannot be used with"));
    assert!(proxy.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn schedules_need_a_trusted_client_and_are_refused_where_they_are_off() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let off = [("SPAWN_DELAYED_INVOKES", "false")];
    let (proxy, mut client) = start(&host, directory.path(), &off).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let spec = json!({ "name": "n", "actor": "joe", "action": ADD, "every_ms": 1000 });
    let (status, answer) = send(&mut client, Method::POST, "", spec.clone()).await;
    assert!(status == 501 && answer["error"].as_str().unwrap().contains("SPAWN_DELAYED_INVOKES"));
    assert!(proxy.terminate(PATIENCE).await.success());
    let (proxy, mut client) =
        start(&host, directory.path(), &[("TIDEGATE_TRUST_LOOPBACK", "false")]).await;
    for (method, rest, body) in [
        (Method::POST, "", spec),
        (Method::GET, "", Value::Null),
        (Method::DELETE, "/n", Value::Null),
    ] {
        assert_eq!(send(&mut client, method, rest, body).await.0, 403);
    }
    assert!(proxy.terminate(PATIENCE).await.success());
}
