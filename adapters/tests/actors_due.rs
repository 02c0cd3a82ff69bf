//! The built binary: calls for a later time survive a SIGKILL between acceptance and time, and run at it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use support::client::Client;
use support::counter::{ADD, Counter, SYSTEM, call, definition, get, register};
use support::host::Host;
use support::proto::{InvocationRequest, InvocationResponse, Kind, Status};
use support::proxy::{Proxy, embedded};
use tidegate::clock::SystemClock;
use tidegate_stages::ports::Clock;
use tokio::time::{sleep, timeout};

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

/// A call that is due after so long.
fn later(actor: &str, after: Duration) -> InvocationRequest {
    let at = Duration::from_micros(SystemClock.now().0) + after;
    let scheduled_to = i64::try_from(at.as_millis()).unwrap();
    InvocationRequest { scheduled_to, ..call(actor, ADD) }
}

/// The status of the answer, and its payload's presence.
async fn invoke(client: &mut Client, request: &InvocationRequest) -> (u16, Status, bool) {
    let actor = &request.actor.as_ref().unwrap().id.as_ref().unwrap().name;
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}/invoke");
    let reply = client.post(&path, request.encode_to_vec().into()).await.unwrap();
    let answer = reply.decode::<InvocationResponse>();
    (reply.status, answer.status.unwrap().status(), answer.payload.is_some())
}

async fn until_value(client: &mut Client, actor: &str, value: u32) {
    let reached = timeout(PATIENCE, async {
        while get(client, actor).await != value {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let reached = reached.await.is_ok();
    assert!(reached, "{actor} is at {}, not {value}", get(client, actor).await);
}

#[tokio::test]
async fn an_accepted_call_survives_a_kill_and_runs_at_its_time_and_not_before() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (mut proxy, mut client) = start(&host, directory.path(), &[]).await;
    let names = ["joe", "moe", "late"];
    register(&mut client, names.map(|name| definition(name, Kind::Named)).to_vec()).await;
    // Two of one actor, one whose time comes while the proxy is down, one that is far away.
    let accepted = (200, Status::Ok, false);
    let due = Duration::from_secs(8);
    for request in [later("joe", due), later("joe", due), later("moe", Duration::from_secs(1))] {
        assert_eq!(invoke(&mut client, &request).await, accepted);
    }
    assert_eq!(invoke(&mut client, &later("late", Duration::from_hours(1))).await, accepted);
    let (unknown, _, _) = invoke(&mut client, &later("nobody", due)).await;
    assert_eq!(unknown, 404);

    proxy.kill().await;
    sleep(Duration::from_millis(1_500)).await;
    let began = SystemClock.now();
    (proxy, client) = start(&host, directory.path(), &[]).await;
    until_value(&mut client, "moe", 1).await;
    until_value(&mut client, "joe", 2).await;
    let passed = Duration::from_micros(SystemClock.now().0 - began.0);
    assert!(passed > Duration::from_secs(1), "not before their time");

    // What has run does not run again.
    assert!(proxy.terminate(PATIENCE).await.success());
    (proxy, client) = start(&host, directory.path(), &[]).await;
    sleep(Duration::from_secs(2)).await;
    for (name, value) in [("joe", 2), ("moe", 1)] {
        assert_eq!(get(&mut client, name).await, value, "{name}");
    }
    // Not yet, and it is no loss to end now.
    assert_eq!(get(&mut client, "late").await, 0);
    assert!(proxy.terminate(PATIENCE).await.success());
}

#[tokio::test]
async fn a_past_time_is_now_and_schedules_can_be_switched_off() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let off = [("SPAWN_DELAYED_INVOKES", "false")];
    let (proxy, mut client) = start(&host, directory.path(), &off).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let (status, _, _) = invoke(&mut client, &later("joe", Duration::from_mins(1))).await;
    assert_eq!(status, 501);
    let past = InvocationRequest { scheduled_to: 1, ..call("joe", ADD) };
    assert_eq!(invoke(&mut client, &past).await, (200, Status::Ok, false));
    until_value(&mut client, "joe", 1).await;
    assert!(proxy.terminate(PATIENCE).await.success());
}
