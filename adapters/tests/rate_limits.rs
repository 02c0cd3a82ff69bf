//! Rate limits of the built binary: per system, per peer address, per definition.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use support::client::{Client, Reply};
use support::counter::{ADD, Counter, SYSTEM, call, definition, register, spawn};
use support::host::Host;
use support::proto::{
    ActorSystem, InvocationRequest, InvocationResponse, Kind, RegistrationRequest, Registry,
    ServiceInfo, Status,
};
use support::proxy::Proxy;
use tokio::net::TcpSocket;
use tokio::time::sleep;

async fn start(limit: (&str, &str)) -> (Host, Proxy, Client) {
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let settings = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &port),
        limit,
    ];
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (host, proxy, client)
}

/// A client whose connection comes from this address.
async fn client_from(address: &str, proxy: &Proxy) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(proxy.address().parse().unwrap()).await.unwrap();
    Client::over(stream).await.unwrap()
}

async fn invoke(client: &mut Client, request: &InvocationRequest) -> Reply {
    client.post("/api/v1/system/s/actors/a/invoke", request.encode_to_vec().into()).await.unwrap()
}

async fn status(client: &mut Client, actor: &str) -> u16 {
    invoke(client, &call(actor, ADD)).await.status
}

/// A call that a limit refuses; when it may be made again.
async fn refused(client: &mut Client, actor: &str, setting: &str) -> Duration {
    let reply = invoke(client, &call(actor, ADD)).await;
    let told = reply.decode::<InvocationResponse>().status.unwrap();
    assert_eq!((reply.status, told.status()), (429, Status::Error), "{}", told.message);
    assert!(told.message.contains(setting), "{}", told.message);
    Duration::from_secs(reply.headers["retry-after"].to_str().unwrap().parse().unwrap())
}

async fn metrics(client: &mut Client) -> String {
    let reply = client.get("/metrics").await.unwrap();
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_calls_too_often_is_told_when_to_come_back_and_others_are_served() {
    let setting = "TIDEGATE_RATE_LIMIT_SYSTEM";
    let (_host, _proxy, mut client) = start((setting, "12/m:1")).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let mut elsewhere = definition("joe", Kind::Named);
    "elsewhere".clone_into(&mut elsewhere.id.as_mut().unwrap().system);
    let registry = Some(Registry { actors: [("joe".into(), elsewhere)].into() });
    let registration = RegistrationRequest {
        service_info: Some(ServiceInfo::default()),
        actor_system: Some(ActorSystem { name: "elsewhere".into(), registry }),
    };
    let reply = client.post("/api/v1/system", registration.encode_to_vec().into()).await.unwrap();
    assert_eq!(reply.status, 200);

    assert_eq!(status(&mut client, "joe").await, 200);
    let retry_after = refused(&mut client, "joe", setting).await;
    assert!((1..=5).contains(&retry_after.as_secs()), "{retry_after:?}");
    let mut other = call("joe", ADD);
    "elsewhere".clone_into(&mut other.system.as_mut().unwrap().name);
    "elsewhere".clone_into(&mut other.actor.as_mut().unwrap().id.as_mut().unwrap().system);
    assert_eq!(invoke(&mut client, &other).await.status, 200, "{SYSTEM} alone is limited");
    let told = metrics(&mut client).await;
    for line in [
        r#"tidegate_calls_refused_total{reason="rate_limit"} 1"#,
        r#"tidegate_http_requests_total{route="invoke",status="429"} 1"#,
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    sleep(retry_after).await;
    assert_eq!(status(&mut client, "joe").await, 200, "it came back when it was told to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_calls_too_often_takes_nothing_from_another_address() {
    let setting = "TIDEGATE_RATE_LIMIT_PEER";
    let (_host, proxy, mut client) = start((setting, "2/m")).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    for address in ["127.0.0.1", "127.0.0.2"] {
        let mut client = client_from(address, &proxy).await;
        assert_eq!(status(&mut client, "joe").await, 200, "{address}");
        assert_eq!(status(&mut client, "nobody").await, 404, "{address}");
        refused(&mut client, "joe", setting).await;
        // It is the address that counts, not the connection.
        refused(&mut client_from(address, &proxy).await, "joe", setting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actors_of_one_template_share_a_rate_and_another_template_has_its_own() {
    let setting = "TIDEGATE_RATE_LIMIT_DEFINITION";
    let (_host, _proxy, mut client) = start((setting, "2/m:2")).await;
    let templates = ["cats", "dogs"].map(|name| definition(name, Kind::Unnamed));
    register(&mut client, templates.to_vec()).await;
    spawn(&mut client, "cats", &["tom", "kit"]).await;
    spawn(&mut client, "dogs", &["rex"]).await;
    assert_eq!(status(&mut client, "tom").await, 200);
    assert_eq!(status(&mut client, "kit").await, 200);
    for name in ["tom", "kit"] {
        refused(&mut client, name, setting).await;
    }
    assert_eq!(status(&mut client, "rex").await, 200);
    let mut spawning = call("tiger", ADD);
    "cats".clone_into(&mut spawning.register_ref);
    assert_eq!(invoke(&mut client, &spawning).await.status, 429);
    assert_eq!(status(&mut client, "tiger").await, 404, "a refused call spawns nobody");
}

#[tokio::test]
async fn a_rate_that_is_none_ends_the_start() {
    let names = ["PEER", "SYSTEM", "DEFINITION"].map(|of| format!("TIDEGATE_RATE_LIMIT_{of}"));
    let wrong: Vec<_> = names.iter().map(|name| (name.as_str(), "100 per second")).collect();
    let (code, told) = Proxy::refused(&wrong).await;
    assert_eq!(code, Some(64), "{told}");
    for name in &names {
        assert!(
            told.contains(&format!("{name} (environment): must be calls per second")),
            "{told}"
        );
    }
}
