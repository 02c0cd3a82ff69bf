//! The ingress in front of a scripted mesh: no sockets, paused time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use futures_util::future::pending;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use prost::Message;
use tidegate_stages::error::Error;
use tidegate_stages::history::{Interval, Page};
use tidegate_stages::history_reader::StateAt;
use tidegate_stages::invocation::{Broadcast, Invocation, Payload, Reached, Registration, Spawn};
use tidegate_stages::mesh::HostView;
use tidegate_stages::state::{ActorState, Any, Checkpoint, Revision, Timestamp};

use super::*;
use crate::net::Peer;
use crate::proto::eigr::functions::protocol as proto;
use crate::wire::json::Types;

const HERE: Peer = Peer::Ip(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
const THERE: Peer = Peer::Ip(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)));
const INVOKE: &str = "/api/v1/system/ignored/actors/ignored/invoke";

/// Returns from `invoke` what the action names, and records every call.
#[derive(Clone, Default)]
struct Scripted {
    registered: Arc<Mutex<Vec<Registration>>>,
    spawned: Arc<Mutex<Vec<Spawn>>>,
    invoked: Arc<Mutex<Vec<Invocation>>>,
    deleted: Arc<Mutex<Vec<String>>>,
    /// Calls for an actor's history, as text.
    asked: Arc<Mutex<Vec<String>>>,
    /// Notified when a call that never ends is dropped.
    gone: Arc<tokio::sync::Notify>,
}

/// Notifies on drop.
struct NotifyOnDrop(Arc<tokio::sync::Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Calls for Scripted {
    async fn register(&self, registration: Registration) -> Result<(), Error> {
        self.registered.lock().push(registration);
        Ok(())
    }

    async fn spawn(&self, spawn: Spawn) -> Result<(), Error> {
        self.spawned.lock().push(spawn);
        Ok(())
    }

    type Announced = ();

    fn announce(&self, _: &Identity, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn invoke(&self, invocation: Box<Invocation>, (): ()) -> Result<Payload, Error> {
        let (action, payload) = (invocation.action.clone(), invocation.payload.clone());
        self.invoked.lock().push(*invocation);
        match action.as_str() {
            "echo" => Ok(payload),
            "full" => {
                let retry_after = Duration::from_millis(1_500);
                Err(Error::Overloaded { reason: "the proxy is full".into(), retry_after })
            }
            "panic" => panic!("on command"),
            "hang" => {
                let _notify = NotifyOnDrop(Arc::clone(&self.gone));
                pending().await
            }
            action => Err(Error::ActionNotFound { actor: "joe".into(), action: action.into() }),
        }
    }

    async fn publish(
        &self,
        _: Identity,
        _: &str,
        _: Broadcast,
        _: String,
        (): (),
    ) -> Result<Reached, Error> {
        Ok(Reached { subscribers: 2, dropped: 1 })
    }

    async fn state(&self, _: &Identity, system: &str, name: &str) -> Result<ActorState, Error> {
        if name == "a/b" {
            let state = Some(Any { type_url: "type/x".into(), value: Bytes::from_static(b"1") });
            return Ok(ActorState { tags: BTreeMap::new(), state });
        }
        Err(Error::ActorNotFound { system: system.into(), name: name.into() })
    }

    async fn delete(&self, system: &str, name: &str) -> Result<(), Error> {
        self.deleted.lock().push(format!("{system}/{name}"));
        Ok(())
    }

    fn hosts(&self, _: &str) -> Vec<HostView> {
        Vec::new()
    }

    async fn drain_host(&self, _: &str, _: &HostAddress) -> Result<usize, Error> {
        Ok(0)
    }

    async fn revisions(
        &self,
        system: &str,
        name: &str,
        interval: Interval,
        limit: usize,
    ) -> Result<Page<Revision>, Error> {
        self.asked.lock().push(format!("{system}/{name} {interval:?} {limit}"));
        Ok(Page { items: vec![history::revision(1), history::revision(2)], more: true })
    }

    async fn revision(&self, system: &str, name: &str, number: u64) -> Result<Revision, Error> {
        self.asked.lock().push(format!("{system}/{name} revision {number}"));
        if number == 99 {
            return Err(Error::NotFound("no revision 99".into()));
        }
        Ok(history::revision(number))
    }

    async fn state_at(&self, system: &str, name: &str, at: Timestamp) -> Result<StateAt, Error> {
        self.asked.lock().push(format!("{system}/{name} at {at}"));
        Ok(StateAt { revision: history::revision(3), exact: false })
    }

    async fn latest(&self, system: &str, name: &str) -> Result<Revision, Error> {
        self.asked.lock().push(format!("{system}/{name} latest"));
        Ok(history::revision(4))
    }

    async fn checkpoint(&self, system: &str, name: &str) -> Result<Checkpoint, Error> {
        self.asked.lock().push(format!("{system}/{name} checkpoint"));
        match name {
            "panic" => panic!("on command"),
            _ => Ok(Checkpoint::default()),
        }
    }

    async fn restore(&self, system: &str, name: &str, number: u64) -> Result<Checkpoint, Error> {
        self.asked.lock().push(format!("{system}/{name} restore {number}"));
        let Revision { at, content, .. } = history::revision(number);
        Ok(Checkpoint { revision: 9, at: Some(at), content })
    }
}

/// An ingress that trusts local clients and the network of [`THERE`].
fn ingress_of(hosts: Hosts, lifecycle: Lifecycle) -> (Ingress<Scripted>, Scripted) {
    let networks = ["10.0.0.0/24", "fd00::/64"].map(|network| network.parse().unwrap());
    let trust = Trust { peers: networks.to_vec(), ..Trust::default() };
    ingress_that_trusts(trust, hosts, lifecycle)
}

fn ingress_that_trusts(
    trust: Trust,
    hosts: Hosts,
    lifecycle: Lifecycle,
) -> (Ingress<Scripted>, Scripted) {
    let (ingress, calls) = (Ingress::new(parts(trust, hosts, lifecycle)), Scripted::default());
    ingress.open(calls.clone(), || true);
    (ingress, calls)
}

fn parts(trust: Trust, hosts: Hosts, lifecycle: Lifecycle) -> Parts {
    let limits = Limits {
        connections: 8,
        peer_connections: None,
        head_bytes: 65_536,
        body_bytes: 1_000,
        bodies_bytes: 1_500,
        registered: 10,
        answers_bytes: 1 << 20,
        state_bytes: 1_000,
        head_time: Duration::from_secs(10),
        body_time: Duration::from_secs(30),
        idle_time: Duration::from_secs(75),
        write_time: Duration::from_secs(30),
    };
    Parts {
        limits,
        tls: None,
        hosts,
        trust,
        auth: Auth::default(),
        audit: Audit::on_log(),
        lifecycle,
        reloads: Vec::new(),
        types: Types::default(),
        scrape: None,
    }
}

fn ingress() -> (Ingress<Scripted>, Scripted) {
    let hosts = Hosts::Sidecar(HostAddress::new("127.0.0.1:8090"));
    ingress_of(hosts, Lifecycle::default())
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::new(body.into())).unwrap()
}

fn call(action: &str) -> Vec<u8> {
    let id =
        proto::actors::ActorId { name: "joe".into(), system: "s".into(), parent: String::new() };
    proto::InvocationRequest {
        system: Some(proto::actors::ActorSystem { name: "s".into(), registry: None }),
        actor: Some(proto::actors::Actor { id: Some(id), ..Default::default() }),
        action_name: action.into(),
        payload: Some(proto::invocation_request::Payload::Noop(proto::Noop {})),
        ..Default::default()
    }
    .encode_to_vec()
}

fn registration() -> Vec<u8> {
    let registry = proto::actors::Registry::default();
    let system = proto::actors::ActorSystem { name: "s".into(), registry: Some(registry) };
    proto::RegistrationRequest {
        service_info: Some(proto::ServiceInfo::default()),
        actor_system: Some(system),
    }
    .encode_to_vec()
}

/// Returns status, headers, and the body as an `InvocationResponse`.
async fn handle<B>(
    ingress: &Ingress<Scripted>,
    request: Request<B>,
    peer: Peer,
) -> ::http::Response<Full<Held>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = request.into_parts();
    ingress.handle(&head, &mut body, identity::of(peer)).await
}

async fn ask<B>(
    ingress: &Ingress<Scripted>,
    request: Request<B>,
    peer: Peer,
) -> (StatusCode, ::http::HeaderMap, proto::InvocationResponse)
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, body) = handle(ingress, request, peer).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert!(!body.is_empty(), "no answer is empty");
    (head.status, head.headers, proto::InvocationResponse::decode(body).unwrap_or_default())
}

async fn refused(ingress: &Ingress<Scripted>, request: Request<Full<Bytes>>) -> (u16, i32, String) {
    let (status, headers, answer) = ask(ingress, request, HERE).await;
    assert_eq!(headers[CONTENT_TYPE], "application/octet-stream; charset=utf-8");
    let told = answer.status.expect("a failure has a status");
    assert!(!told.message.is_empty(), "a failure has a text");
    (status.as_u16(), told.status, told.message)
}

const NOT_FOUND: i32 = proto::Status::ActorNotFound as i32;
const ERROR: i32 = proto::Status::Error as i32;

#[tokio::test]
async fn a_call_is_answered_with_its_own_system_and_actor() {
    let (ingress, calls) = ingress();
    let mut request = post(INVOKE, call("echo"));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.headers_mut().insert("traceparent", traceparent.parse().unwrap());
    for state in ["a=1", "b=2"] {
        request.headers_mut().append("tracestate", state.parse().unwrap());
    }
    let (status, headers, answer) = ask(&ingress, request, HERE).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[CONTENT_TYPE], "application/octet-stream; charset=utf-8");
    assert_eq!(answer.status.unwrap().status, proto::Status::Ok as i32);
    assert_eq!(answer.system.unwrap().name, "s");
    assert_eq!(answer.actor.unwrap().id.unwrap().name, "joe");
    assert!(matches!(answer.payload, Some(proto::invocation_response::Payload::Noop(_))));
    let invoked = calls.invoked.lock();
    assert_eq!(invoked[0].actor.to_string(), "s/joe", "the body decides, not the path");
    assert_eq!(invoked[0].traceparent, format!("{traceparent}\na=1,b=2"));
}

#[tokio::test]
async fn a_call_has_the_identity_of_its_peer_whatever_its_caller_says() {
    let (ingress, calls) = ingress();
    let mut request = proto::InvocationRequest::decode(&call("echo")[..]).unwrap();
    let claimed = proto::actors::ActorId { name: "admin".into(), ..Default::default() };
    request.caller = Some(claimed);
    for (peer, address) in [
        (THERE, PeerAddress::Ip([10, 0, 0, 7].into())),
        (Peer::Ip("::ffff:10.0.0.8".parse().unwrap()), PeerAddress::Ip([10, 0, 0, 8].into())),
        (Peer::Ip("fd00::1".parse().unwrap()), PeerAddress::Ip("fd00::1".parse().unwrap())),
        (Peer::Local, PeerAddress::UnixSocket),
    ] {
        let asked = ask(&ingress, post(INVOKE, request.encode_to_vec()), peer).await;
        assert_eq!(asked.0, StatusCode::OK);
        let invoked = calls.invoked.lock().pop().unwrap();
        assert_eq!(invoked.identity, Identity::of(address));
        assert_eq!(invoked.caller.unwrap().name, "admin");
    }
}

#[tokio::test]
async fn every_refusal_has_a_status_an_outcome_and_a_text() {
    let (ingress, _) = ingress();
    let get = |path: &str| Request::get(path).body(Full::default()).unwrap();
    let (status, outcome, text) = refused(&ingress, post(INVOKE, call("nope"))).await;
    assert_eq!(
        (status, outcome, text.as_str()),
        (404, ERROR, "Action [nope] not found for Actor [joe]")
    );
    let (status, outcome, text) = refused(&ingress, get("/api/v1/system/s/actors/nobody")).await;
    assert_eq!(
        (status, outcome, text.as_str()),
        (404, NOT_FOUND, "Actor nobody not found on ActorSystem s")
    );
    assert_eq!(refused(&ingress, get("/nowhere")).await.0, 404);
    assert_eq!(refused(&ingress, get(INVOKE)).await.0, 405);
    assert_eq!(refused(&ingress, get("/api/v1/system/s/actors/%ff")).await.0, 400);
    assert_eq!(refused(&ingress, post("/health", "")).await.0, 405);
    assert_eq!(refused(&ingress, get("/metrics")).await.0, 404, "metrics are off");
    let (status, _, text) = refused(&ingress, post(INVOKE, "")).await;
    assert_eq!((status, text.as_str()), (400, "InvocationRequest.system is missing"));
    let (status, _, text) = refused(&ingress, post(INVOKE, &b"\x0a\xff"[..])).await;
    assert!(status == 400 && text.contains("no InvocationRequest"), "{text}");
    let spawn = "/api/v1/system/s/actors/spawn?revision=latest";
    assert_eq!(refused(&ingress, post(spawn, "")).await.0, 400);
    assert_eq!(refused(&ingress, post(INVOKE, vec![0; 1_001])).await.0, 413);
}

#[tokio::test]
async fn an_overload_says_when_to_come_back() {
    let (ingress, _) = ingress();
    let (status, headers, answer) = ask(&ingress, post(INVOKE, call("full")), HERE).await;
    assert_eq!((status.as_u16(), headers[RETRY_AFTER].to_str().unwrap()), (503, "2"));
    assert_eq!(answer.status.unwrap().message, "the proxy is full; try again in 1.5s");
}

#[tokio::test]
async fn a_panic_ends_one_request_and_the_ingress_goes_on() {
    let (ingress, _) = ingress();
    assert_eq!(refused(&ingress, post(INVOKE, call("panic"))).await.0, 500);
    assert_eq!(ask(&ingress, post(INVOKE, call("echo")), HERE).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_media_types_of_protobuf_are_understood_and_others_are_not() {
    let (ingress, _) = ingress();
    for (given, status) in [
        (None, 200),
        (Some("application/octet-stream"), 200),
        (Some("Application/Octet-Stream; charset=utf-8"), 200),
        (Some("application/protobuf"), 200),
        (Some("application/x-protobuf"), 200),
        // Read as JSON, which it is not.
        (Some("application/json"), 400),
        (Some("text/plain"), 415),
        (Some(""), 415),
    ] {
        let mut request = post(INVOKE, call("echo"));
        if let Some(given) = given {
            request.headers_mut().insert(CONTENT_TYPE, given.parse().unwrap());
        }
        assert_eq!(ask(&ingress, request, HERE).await.0.as_u16(), status, "{given:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let (ingress, _) = ingress();
    let started = tokio::time::Instant::now();
    let first = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"\x0a")));
    let slow = futures_util::stream::once(async { first });
    let slow = futures_util::StreamExt::chain(slow, futures_util::stream::once(pending()));
    let request = Request::post(INVOKE).body(StreamBody::new(Box::pin(slow))).unwrap();
    let (status, _, _) = ask(&ingress, request, HERE).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn bodies_in_flight_share_their_room_and_give_it_back() {
    let (ingress, _) = ingress();
    let held = async {
        let sent = Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![0; 1_000])));
        let body = futures_util::stream::once(async { sent });
        let body = futures_util::StreamExt::chain(body, futures_util::stream::once(pending()));
        let request = Request::post(INVOKE).body(StreamBody::new(Box::pin(body))).unwrap();
        ask(&ingress, request, HERE).await.0
    };
    let second = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ask(&ingress, post(INVOKE, vec![0; 600]), HERE).await.0
    };
    let (first, second) = tokio::join!(held, second);
    assert_eq!((first.as_u16(), second.as_u16()), (408, 503));
    let request = post(INVOKE, vec![0; 600]);
    assert_eq!(ask(&ingress, request, HERE).await.0.as_u16(), 400, "there is a free place again");
}

#[tokio::test]
async fn a_host_says_where_it_listens_or_the_setting_does() {
    let (sidecar, calls) = ingress();
    let register = |given: Option<&str>| {
        let mut request = post("/api/v1/system", registration());
        if let Some(given) = given {
            request.headers_mut().insert("tidegate-host", given.parse().unwrap());
        }
        request
    };
    for (peer, given, address) in [
        (THERE, None, "127.0.0.1:8090"),
        (THERE, Some("http://10.0.0.7:99"), "10.0.0.7:99"),
        (HERE, Some("http://localhost:99/"), "localhost:99"),
        (HERE, Some("http://[::1]:99"), "[::1]:99"),
        (Peer::Local, Some("unix:/run/host.sock"), "unix:/run/host.sock"),
        (HERE, Some("https://localhost:99"), "https://localhost:99"),
    ] {
        assert_eq!(ask(&sidecar, register(given), peer).await.0, StatusCode::OK);
        assert_eq!(calls.registered.lock().pop().unwrap().host.as_str(), address);
    }
    for wrong in [
        "",
        "10.1.1.1:99",
        "https://a",
        "ftp://a:1",
        "http://a",
        "http://a:0",
        "http://u@a:1",
        "unix:x",
    ] {
        assert_eq!(refused(&sidecar, register(Some(wrong))).await.0, 400, "{wrong}");
    }
    let (daemon, calls) =
        ingress_of(Hosts::Daemon { port: 8090, tls: false }, Lifecycle::default());
    for (peer, address) in [
        (THERE, "10.0.0.7:8090"),
        (Peer::Ip("::ffff:10.0.0.8".parse().unwrap()), "10.0.0.8:8090"),
        (Peer::Ip("fd00::1".parse().unwrap()), "[fd00::1]:8090"),
        (Peer::Local, "127.0.0.1:8090"),
    ] {
        assert_eq!(ask(&daemon, register(None), peer).await.0, StatusCode::OK);
        assert_eq!(calls.registered.lock().pop().unwrap().host.as_str(), address);
    }
}

#[tokio::test]
async fn a_spawn_carries_its_revision() {
    let (ingress, calls) = ingress();
    let path = "/api/v1/system/s/actors/spawn?revision=7";
    assert_eq!(ask(&ingress, post(path, ""), HERE).await.0, StatusCode::OK);
    assert_eq!(calls.spawned.lock()[0].revision, Some(7));
}

#[tokio::test]
async fn the_state_of_an_actor_is_an_encoded_actor_state() {
    let (ingress, _) = ingress();
    let request =
        Request::get("/api/v1/system/s/actors/a%2Fb").body(Full::<Bytes>::default()).unwrap();
    let body =
        handle(&ingress, request, HERE).await.into_body().collect().await.unwrap().to_bytes();
    let state = proto::actors::ActorState::decode(body).unwrap().state.unwrap();
    assert_eq!((state.type_url.as_str(), &state.value[..]), ("type/x", &b"1"[..]));
}

#[tokio::test]
async fn only_a_local_client_deletes_without_a_token() {
    let (ingress, calls) = ingress();
    let delete = || {
        let request = Request::builder().method(Method::DELETE).uri("/api/v1/system/s/actors/joe");
        request.body(Full::<Bytes>::default()).unwrap()
    };
    assert_eq!(ask(&ingress, delete(), THERE).await.0, StatusCode::FORBIDDEN);
    assert!(calls.deleted.lock().is_empty());
    assert_eq!(ask(&ingress, delete(), HERE).await.0, StatusCode::OK);
    assert_eq!(*calls.deleted.lock(), ["s/joe"]);
}

mod audited;
mod health;
mod history;
mod simulated;
