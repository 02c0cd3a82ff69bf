//! A durable counter. Needs `tidegate serve`; docs/json.md of Tidegate has all that an action may answer.
//!
//!     cargo run
//!     curl localhost:9001/api/v1/system/demo/actors/counter/invoke -H 'content-type: application/json' -d '{"action": "increment"}'
use std::{env, error::Error};

use axum::{Json, Router, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn act(Json(call): Json<Value>) -> (StatusCode, Json<Value>) {
    let by = call["payload"]["by"].as_i64().unwrap_or(1);
    if by < 1 {
        // The state stays; the caller gets this.
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "reason": "it only counts up" })));
    }
    let count = json!({ "count": call["state"]["count"].as_i64().unwrap_or(0) + by });
    (StatusCode::OK, Json(json!({ "self": call["self"], "state": count, "payload": count })))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::var("USER_FUNCTION_PORT").unwrap_or("8090".into());
    let proxy = env::var("PROXY_HTTP_PORT").unwrap_or("9001".into());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    ureq::post(format!("http://127.0.0.1:{proxy}/api/v1/system"))
        .header("tidegate-host", format!("http://127.0.0.1:{port}"))
        .send_json(json!({ "system": "demo", "actors": [{ "name": "counter", "actions": ["increment"] }] }))?;
    Ok(axum::serve(listener, Router::new().route("/api/v1/actors/actions", post(act))).await?)
}
