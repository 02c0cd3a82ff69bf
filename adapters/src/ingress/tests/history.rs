//! Histories through the ingress: forms, parameters, and who may change what.

use ::http::header::{ACCEPT, ALLOW};
use serde_json::{Value, json};

use super::*;
use crate::proto::tidegate::api::v1 as api;

const ACTOR: &str = "/api/v1/system/s/actors/a%2Fb";

pub(super) fn revision(number: u64) -> Revision {
    let state = Some(Any { type_url: "type/x".into(), value: Bytes::from_static(b"1") });
    let content = ActorState { tags: BTreeMap::new(), state };
    let at = Timestamp(1_769_860_800_000_000 + number);
    Revision { revision: number, at, content, ..Revision::default() }
}

fn request(method: &str, path: &str, accept: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("{ACTOR}{path}"));
    if let Some(accept) = accept {
        request = request.header(ACCEPT, accept);
    }
    request.body(Full::default()).unwrap()
}

async fn answered(
    ingress: &Ingress<Scripted>,
    request: Request<Full<Bytes>>,
    peer: Peer,
) -> (u16, ::http::HeaderMap, Bytes) {
    let (head, body) = handle(ingress, request, peer).await.into_parts();
    (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
}

async fn json_of(ingress: &Ingress<Scripted>, method: &str, path: &str) -> (u16, Value) {
    let (status, headers, body) = answered(ingress, request(method, path, None), HERE).await;
    let form = if status == 200 { "application/json" } else { "application/problem+json" };
    assert_eq!(headers[CONTENT_TYPE], form, "{path}");
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn every_question_reaches_the_mesh_and_is_answered_in_json() {
    let (ingress, calls) = ingress();
    let entry = |number: u64| {
        json!({
            "revision": number, "at": format!("2026-01-31T12:00:00.{number:06}Z"), "status": "ACTIVATED",
            "tags": {}, "state": {"type_url": "type/x", "value": "MQ=="},
        })
    };
    let exact = |number: u64, exact: bool| {
        let mut entry = entry(number);
        entry["exact"] = exact.into();
        entry
    };
    let mut restored = entry(5);
    restored["revision"] = 9.into();
    let empty =
        json!({"revision": 0, "at": null, "status": "ACTIVATED", "tags": {}, "state": null});
    let next = "649add4493002.2.f4240";
    for (method, path, asked, answer) in [
        ("GET", "/revisions/7", "s/a/b revision 7", entry(7)),
        ("GET", "/state?at=1000", "s/a/b at 1.000000", exact(3, false)),
        ("GET", "/state", "s/a/b latest", exact(4, true)),
        ("POST", "/restore?revision=5", "s/a/b restore 5", restored),
        ("POST", "/checkpoint", "s/a/b checkpoint", empty),
        (
            "GET",
            "/revisions?to=1000&limit=2",
            "s/a/b Interval { from: None, to: Some(Timestamp(1000000)), after: None } 2",
            json!({"revisions": [entry(1), entry(2)], "next": next}),
        ),
    ] {
        assert_eq!(json_of(&ingress, method, path).await, (200, answer), "{method} {path}");
        assert_eq!(calls.asked.lock().pop().unwrap(), asked);
    }
    let (status, _) = json_of(&ingress, "GET", &format!("/revisions?next={next}")).await;
    assert_eq!(status, 200);
    let asked = calls.asked.lock().pop().unwrap();
    assert!(asked.contains("to: Some(Timestamp(1000000))"), "{asked}");
    assert!(asked.contains("Position { at: Timestamp(1769860800000002), revision: 2 }"), "{asked}");
}

#[tokio::test]
async fn a_client_that_asks_for_protobuf_gets_it_errors_included() {
    let (ingress, _) = ingress();
    let protobuf = Some("application/x-protobuf");
    let (status, headers, body) =
        answered(&ingress, request("GET", "/state?at=1", protobuf), HERE).await;
    assert_eq!(status, 200);
    assert_eq!(headers[CONTENT_TYPE], "application/octet-stream; charset=utf-8");
    let message = api::Revision::decode(body).unwrap();
    assert_eq!((message.revision, message.exact), (3, Some(false)));
    let (_, _, body) = answered(&ingress, request("GET", "/revisions", protobuf), HERE).await;
    let message = api::Revisions::decode(body).unwrap();
    assert_eq!((message.revisions.len(), message.next.is_empty()), (2, false));
    let (status, outcome, text) =
        refused(&ingress, request("GET", "/revisions/99", protobuf)).await;
    assert_eq!((status, outcome, text.as_str()), (404, NOT_FOUND, "no revision 99"));
}

#[tokio::test]
async fn every_refusal_is_readable() {
    let (ingress, calls) = ingress();
    let (status, error) = json_of(&ingress, "GET", "/revisions/99").await;
    assert_eq!(
        (status, error),
        (
            404,
            json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no revision 99", "error": "no revision 99", "kind": "not_found", "tidegate-error-source": "proxy", "safe_to_retry": false})
        )
    );
    calls.asked.lock().clear();
    for (method, path, status, told) in [
        ("GET", "/state?at=noon", 400, "at in the query must be RFC 3339 such as"),
        ("GET", "/revisions?from=x", 400, "Unix milliseconds such as"),
        ("GET", "/revisions?limit=0", 400, "must be 1 to 1000"),
        ("GET", "/revisions?next=x", 400, "what the last answer gave"),
        ("GET", "/revisions/seven", 400, "a whole number from 1"),
        ("GET", "/revisions?until=1", 400, "is not known, use from, to, limit, next"),
        ("POST", "/restore", 400, "needs ?revision="),
        ("POST", "/restore?revision=0", 400, "a whole number from 1"),
        ("POST", "/checkpoint?revision=1", 400, "no parameter is"),
        ("POST", "/state", 405, "use GET, HEAD"),
        ("DELETE", "/revisions", 405, "use GET, HEAD"),
        ("GET", "/restore?revision=1", 405, "use POST"),
        ("GET", "/checkpoint", 405, "use POST"),
    ] {
        let (answered, error) = json_of(&ingress, method, path).await;
        assert_eq!((answered, &error["status"]), (status, &json!(status)), "{method} {path}");
        assert!(error["error"].as_str().unwrap().contains(told), "{method} {path}: {error}");
    }
    let (status, _, _) =
        answered(&ingress, request("GET", "/state", Some("text/html")), HERE).await;
    assert_eq!(status, 406);
    let (_, headers, _) = answered(&ingress, request("PUT", "/checkpoint", None), HERE).await;
    assert_eq!(headers[ALLOW], "POST");
    assert_eq!(*calls.asked.lock(), [""; 0], "none of them reached the mesh");
    let request = Request::post("/api/v1/system/s/actors/panic/checkpoint");
    let (status, _, body) = answered(&ingress, request.body(Full::default()).unwrap(), HERE).await;
    assert_eq!((status, body.first()), (500, Some(&b'{')));
}

#[tokio::test]
async fn a_history_is_for_local_clients_until_there_is_a_token() {
    let (ingress, calls) = ingress();
    for (method, path) in [
        ("POST", "/restore?revision=1"),
        ("POST", "/checkpoint"),
        ("GET", "/revisions"),
        ("HEAD", "/revisions/1"),
        ("GET", "/state"),
    ] {
        let (status, headers, body) = answered(&ingress, request(method, path, None), THERE).await;
        assert_eq!((status, headers["tidegate-error-source"].as_bytes()), (403, &b"policy"[..]));
        let error: Value = serde_json::from_slice(&body).unwrap();
        assert!(error["error"].as_str().unwrap().contains("TIDEGATE_ADMIN_TOKEN"));
        assert_eq!(error["tidegate-error-source"], "policy");
        assert_eq!(*calls.asked.lock(), [""; 0]);
        assert_eq!(answered(&ingress, request(method, path, None), HERE).await.0, 200);
        calls.asked.lock().clear();
    }
}

#[tokio::test]
async fn a_posted_body_is_of_no_account() {
    let (ingress, _) = ingress();
    let mut request = request("POST", "/checkpoint", None);
    request.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    *request.body_mut() = Full::new(Bytes::from_static(b"{}"));
    assert_eq!(answered(&ingress, request, HERE).await.0, 200);
}
