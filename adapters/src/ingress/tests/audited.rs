//! Which requests that their head condemns are in the audit.

use serde_json::Value;

use super::*;

#[tokio::test]
async fn what_administers_has_a_line_also_when_its_head_condemns_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit");
    let (audit, writer) = Audit::in_file(file.clone()).unwrap();
    let writer = std::thread::spawn(|| writer.run());
    let (hosts, lifecycle) = (Hosts::Daemon { port: 1, tls: false }, Lifecycle::default());
    let parts = Parts { audit, ..parts(Trust::default(), hosts, lifecycle.clone()) };
    let ingress = Ingress::new(parts);
    ingress.open(Scripted::default(), || true);
    lifecycle.advance(Phase::Draining);
    let joe = "/api/v1/system/s/actors/joe";
    for (method, path, status) in [
        (Method::DELETE, joe, 503),
        (Method::POST, "/api/v1/actors/pause", 503),
        (Method::GET, "/api/v1/actors/pause", 405),
        // Nobody administers with these.
        (Method::POST, INVOKE, 503),
        (Method::PUT, joe, 405),
        (Method::POST, "/health", 405),
    ] {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Full::<Bytes>::default()).unwrap();
        assert_eq!(handle(&ingress, request, HERE).await.status().as_u16(), status, "{path}");
    }
    drop(ingress);
    writer.join().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ending = "refused: not started: the proxy is shutting down";
    let expected = [
        (format!("DELETE {joe}"), ending),
        ("POST /api/v1/actors/pause".into(), ending),
        ("GET /api/v1/actors/pause".into(), "refused: method not allowed here, use POST"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, (what, outcome)) in lines.iter().zip(&expected) {
        assert_eq!(line["who"], "127.0.0.1");
        assert_eq!(line["what"], *what);
        assert_eq!(line["outcome"], *outcome);
    }
}
