//! Schedules of [counting actors](super::counter) over HTTP, in JSON.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::client::Client;
use super::counter::{ADD, SYSTEM};

const PATIENCE: Duration = Duration::from_mins(1);
const JSON: &str = "application/json";

/// The path of what schedules have below their system.
pub(crate) fn path(rest: &str) -> String {
    format!("/api/v1/system/{SYSTEM}/schedules{rest}")
}

/// Sends a request for schedules; returns the status and the body of its answer.
pub(crate) async fn send(
    client: &mut Client,
    method: Method,
    rest: &str,
    body: Value,
) -> (u16, Value) {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let request = Request::builder().method(method).uri(path(rest));
    let request = request.header(CONTENT_TYPE, JSON).body(Full::new(body)).expect("a request");
    let reply = client.send(request).await.expect("an answer");
    (reply.status, serde_json::from_slice(&reply.body).expect("JSON"))
}

/// Creates a schedule that runs each second.
pub(crate) async fn create(client: &mut Client, name: &str, actor: &str, more: Value) -> Value {
    let mut spec = json!({ "name": name, "actor": actor, "action": ADD, "every_ms": 1000 });
    let more = more.as_object().expect("fields").clone();
    spec.as_object_mut().expect("fields").extend(more);
    let (status, answer) = send(client, Method::POST, "", spec).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Returns a schedule.
pub(crate) async fn shown(client: &mut Client, name: &str) -> Value {
    let (status, answer) = send(client, Method::GET, &format!("/{name}"), Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// How many runs a schedule has begun.
pub(crate) async fn runs(client: &mut Client, name: &str) -> u64 {
    shown(client, name).await["runs"].as_u64().expect("a count")
}

/// Waits until a schedule has begun so many runs and all have ended; returns it.
pub(crate) async fn until_runs(client: &mut Client, name: &str, runs: u64) -> Value {
    let reached = timeout(PATIENCE, async {
        loop {
            let found = shown(client, name).await;
            if found["runs"].as_u64().expect("a count") >= runs && found["open"] == json!([]) {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    reached.await.unwrap_or_else(|_| panic!("{name} has not run {runs} times"))
}

/// Pauses a schedule, waits until its last run has ended, and returns it.
pub(crate) async fn paused(client: &mut Client, name: &str) -> Value {
    let (status, paused) = send(client, Method::POST, &format!("/{name}/pause"), Value::Null).await;
    assert_eq!((status, &paused["state"]), (200, &json!("paused")));
    until_runs(client, name, 0).await
}
