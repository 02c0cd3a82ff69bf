//! Dead letters of the built binary: listed, shown, delivered again, dropped; over HTTP and by commands.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use support::counter::SYSTEM;
use support::letters::{Post, live};
use support::proxy::embedded;
use tokio::time::sleep;

fn settings(directory: &tempfile::TempDir) -> Vec<(String, String)> {
    let settings = embedded(directory.path(), "1").into_iter();
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn dead_letters_are_delivered_again_exactly_once_also_over_a_kill_or_dropped_for_good() {
    let directory = tempfile::tempdir().unwrap();
    live(settings(&directory)).await;
}

#[tokio::test]
async fn only_administrators_see_and_change_them_and_metrics_tell_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(&directory);
    settings.push(("TIDEGATE_ADMIN_TOKEN".into(), "open sesame".into()));
    let post = Post::with(settings, 1).await;
    let no_token = post.effects_with(&["list"], &[("TIDEGATE_ADMIN_TOKEN", "")]).await;
    assert!(no_token.refused(70).contains("HTTP 403"));
    let mut client = post.client().await;
    let one = format!("/api/v1/system/{SYSTEM}/actors/source/effects/1.1.0");
    for (method, path, status) in [
        ("GET", "/api/v1/effects", 403),
        ("GET", one.as_str(), 403),
        ("DELETE", one.as_str(), 403),
        ("POST", "/api/v1/effects/drop?all=true", 403),
        ("POST", "/api/v1/effects", 405),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let reply = client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(reply.status, status, "{method} {path}");
    }
    let mut ask = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("authorization", "Bearer open sesame");
        let reply = client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        (reply.status, serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap())
    };
    assert_eq!(ask("POST", "/api/v1/effects/drop").await.0, 400);
    assert_eq!(ask("GET", "/api/v1/effects?sorce=a/b").await.0, 400);
    let missing = format!("/api/v1/system/{SYSTEM}/actors/source/effects/9.9.9");
    assert_eq!(ask("GET", &missing).await.0, 404);
    assert_eq!(ask("DELETE", &missing).await.0, 404);
    assert_eq!(ask("GET", &missing.replace("9.9.9", "9")).await.0, 400);
    let (_, first) = ask("GET", "/api/v1/effects?limit=1").await;
    let next = first["next"].as_str().unwrap();
    let (_, second) = ask("GET", &format!("/api/v1/effects?next={next}")).await;
    assert_eq!(second["effects"].as_array().unwrap().len(), 1);
    assert_ne!(first["effects"][0]["id"], second["effects"][0]["id"]);

    let mut client = post.client().await;
    let mut letters = async || {
        let text = client.get("/metrics").await.unwrap().body;
        let text = String::from_utf8(text.to_vec()).unwrap();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap().parse::<f64>().unwrap()
        };
        (of("tidegate_dead_letters"), of("tidegate_dead_letters_oldest_seconds"))
    };
    // The gauges are set every five seconds.
    while !matches!(letters().await, (2.0, age) if age > 0.0) {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(post.effects(&["drop", "--all", "--yes"]).await, "2 dead letters dropped\n");
    while letters().await != (0.0, 0.0) {
        sleep(Duration::from_millis(100)).await;
    }
    post.end().await;
}
