//! JSON: hosts and callers that know nothing of protobuf.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::Request;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::client::{Client, NoAnswer, Reply};
use super::host::{Answer, Call, Framing, Script};

/// An answer with this body.
pub(crate) fn answer(status: u16, body: &str) -> Answer {
    let headers = vec![("Content-Type".into(), "application/json".into())];
    Answer { status, headers, body: body.to_owned().into(), framing: Framing::Length }
}

/// A host that notes each call, and answers as its payload says: `{"status", "answer"}`. Without one it counts.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) calls: Mutex<Vec<(Call, Value)>>,
}

impl Told {
    /// The last call of an action.
    pub(crate) fn last(&self, action: &str) -> Value {
        let calls = self.calls.lock();
        let last = calls.iter().rev().find(|(_, body)| body["action"] == action);
        last.unwrap_or_else(|| panic!("no call of {action}: {calls:?}")).1.clone()
    }
}

impl Script for Told {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let body: Value = serde_json::from_slice(&call.body).expect("a call in JSON");
            let payload = body["payload"].clone();
            let count = body["state"]["count"].as_u64().unwrap_or(0);
            self.calls.lock().push((call, body));
            let status = payload["status"]
                .as_u64()
                .map_or(200, |status| status.try_into().expect("a status"));
            let told = match payload.get("answer") {
                Some(Value::String(text)) => text.clone(),
                Some(told) => told.to_string(),
                None => {
                    let state = json!({ "count": count + 1 });
                    json!({ "state": state, "payload": state }).to_string()
                }
            };
            Some(answer(status, &told))
        })
    }
}

/// A host that counts, in the time that `takes_ms` of the payload says; `wait` is answered when the gate is open, `drop` never, and `fail`
/// with 422.
#[derive(Debug)]
pub(crate) struct Gated {
    told: Arc<Told>,
    open: watch::Receiver<bool>,
}

impl Gated {
    /// The host, and its gate.
    pub(crate) fn new(is_open: bool) -> (Arc<Self>, watch::Sender<bool>) {
        let (gate, open) = watch::channel(is_open);
        (Arc::new(Self { told: Arc::default(), open }), gate)
    }
}

impl Script for Gated {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let body: Value = serde_json::from_slice(&call.body).expect("a call in JSON");
            match body["action"].as_str() {
                Some("wait") => {
                    self.open.clone().wait_for(|open| *open).await.expect("a gate");
                }
                Some("drop") => return None,
                Some("fail") => return Some(answer(422, "{\"reason\":\"it only counts up\"}")),
                _ => {}
            }
            sleep(Duration::from_millis(body["payload"]["takes_ms"].as_u64().unwrap_or(0))).await;
            self.told.clone().answer(call).await
        })
    }
}

/// Sends JSON; returns the reply, and its body.
pub(crate) async fn send(
    client: &mut Client,
    to: (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> (Reply, Value) {
    try_send(client, to, headers, body).await.expect("an answer")
}

/// As [`send`], of a proxy that may be gone.
pub(crate) async fn try_send(
    client: &mut Client,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(Reply, Value), NoAnswer> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.to_owned().into())).expect("a valid request");
    let reply = client.send(request).await?;
    let read = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    Ok((reply, read))
}

/// Registers actors in the system `shop`.
pub(crate) async fn register(client: &mut Client, port: &str, actors: &Value) {
    let here = format!("http://127.0.0.1:{port}");
    let body = json!({ "system": "shop", "actors": actors }).to_string();
    let headers = [("tidegate-host", here.as_str())];
    let (reply, body) = send(client, ("POST", "/api/v1/system"), &headers, &body).await;
    assert_eq!((reply.status, body), (200, json!({ "status": "OK" })));
}

/// Calls an actor of `shop`.
pub(crate) async fn call(client: &mut Client, actor: &str, call: &Value) -> (Reply, Value) {
    let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
    send(client, ("POST", &path), &[], &call.to_string()).await
}
