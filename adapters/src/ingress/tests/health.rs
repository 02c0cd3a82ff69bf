//! Health, while the store opens, works, fails, and while the proxy ends.

use super::*;

#[tokio::test]
async fn readiness_ends_first_then_calls_while_liveness_stays() {
    let lifecycle = Lifecycle::default();
    let (ingress, _) = ingress_of(Hosts::Daemon { port: 1, tls: false }, lifecycle.clone());
    let status = async |path: &str| {
        let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
        ask(&ingress, request, HERE).await.0.as_u16()
    };
    let mut seen = Vec::new();
    for phase in [Phase::Serving, Phase::Leaving, Phase::Draining] {
        lifecycle.advance(phase);
        let called = ask(&ingress, post(INVOKE, call("echo")), HERE).await.0.as_u16();
        seen.push((status("/health/readiness").await, status("/health/liveness").await, called));
    }
    assert_eq!(seen, [(200, 200, 200), (503, 200, 200), (503, 200, 503)]);
    lifecycle.advance(Phase::Serving);
    assert_eq!(lifecycle.phase(), Phase::Draining, "there is no way back");
}

#[tokio::test]
async fn readiness_waits_for_the_store_to_open_and_tells_when_it_fails_later() {
    let ready = async |ingress: &Ingress<Scripted>, path: &str| {
        let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
        let (head, body) = handle(ingress, request, HERE).await.into_parts();
        assert!(!head.headers.contains_key(CONTENT_LENGTH), "hyper adds it");
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    let (short, long) = ("/health/readiness", "/health/readiness?verbose");
    let (hosts, lifecycle) = (Hosts::Daemon { port: 1, tls: false }, Lifecycle::default());
    let ingress = Ingress::new(parts(Trust::default(), hosts, lifecycle));
    let calls = Scripted::default();
    assert_eq!(ready(&ingress, short).await, (503, r#"{"status":"down"}"#.into()));
    let said = r#"{"status":"down","phase":"opening","store":"opening"}"#;
    assert_eq!(ready(&ingress, long).await, (503, said.into()));
    assert_eq!(ready(&ingress, "/health/liveness").await.0, 200);
    let (status, headers, _) = ask(&ingress, post(INVOKE, call("echo")), HERE).await;
    assert_eq!((status.as_u16(), headers.contains_key(RETRY_AFTER)), (503, true));
    let works = Arc::new(AtomicBool::new(true));
    let probe = works.clone();
    ingress.open(calls, move || probe.load(Ordering::Relaxed));
    assert_eq!(ready(&ingress, short).await, (200, r#"{"status":"up"}"#.into()));
    works.store(false, Ordering::Relaxed);
    assert_eq!(ready(&ingress, short).await, (200, r#"{"status":"up"}"#.into()));
    let said = r#"{"status":"up","phase":"serving","store":"down"}"#;
    assert_eq!(ready(&ingress, long).await, (200, said.into()));
    assert_eq!(ask(&ingress, post(INVOKE, call("echo")), HERE).await.0, 200);
}
