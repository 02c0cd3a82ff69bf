//! Who may do what, asked by a client on another machine: networks of two machines, made for each test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use support::client::{Client, Reply};
use support::counter::{
    ADD, Counter, SYSTEM, call, definition, register, register_at, registration, spawn,
};
use support::host::Host;
use support::machines::{
    ELSEWHERE, HERE, connect_from_elsewhere, listen_elsewhere, run_on_network,
};
use support::proto::{ActorId, InvocationResponse, Kind, SpawnRequest};
use support::proxy::Proxy;

const TOKEN: &str = "open sesame";
/// The requests of administrators.
const ADMINISTRATION: [(&str, &str); 7] = [
    ("POST", "/checkpoint"),
    ("GET", "/revisions"),
    ("GET", "/revisions/1"),
    ("GET", "/state"),
    ("GET", "/state?at=2040-01-01T00:00:00Z"),
    ("POST", "/restore?revision=1"),
    ("DELETE", ""),
];

/// A proxy that listens on all addresses, with an actor `joe` of the host beside it.
struct Scene {
    proxy: Proxy,
    host: Host,
    port: u16,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let host = Host::start(Arc::new(Counter::default()));
        let host_port = host.port();
        let mut all = vec![
            ("PROXY_DATABASE_TYPE", "memory"),
            ("TIDEGATE_HTTP_ADDRESS", "0.0.0.0"),
            ("USER_FUNCTION_PORT", &host_port),
        ];
        all.extend_from_slice(settings);
        let proxy = Proxy::start(&all).await;
        let port = proxy.address().rsplit(':').next().unwrap().parse().unwrap();
        Self { proxy, host, port }
    }

    async fn with_joe(settings: &[(&str, &str)]) -> Self {
        let scene = Self::start(settings).await;
        register(&mut scene.local().await, vec![definition("joe", Kind::Named)]).await;
        scene
    }

    async fn local(&self) -> Client {
        Client::connect(&format!("127.0.0.1:{}", self.port)).await.unwrap()
    }

    async fn remote(&self) -> Client {
        let address = format!("{HERE}:{}", self.port);
        Client::over(connect_from_elsewhere(&address).await.unwrap()).await.unwrap()
    }

    /// The host beside the proxy still serves joe.
    async fn joe_is_as_before(&self) {
        let (status, answer) = self.remote().await.invoke(&call("joe", ADD)).await.unwrap();
        assert_eq!(status, 200, "{answer:?}");
    }
}

fn on_joe(method: &str, path: &str) -> Request<Full<Bytes>> {
    let path = format!("/api/v1/system/{SYSTEM}/actors/joe{path}");
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    request.body(Full::default()).unwrap()
}

fn with_token(mut request: Request<Full<Bytes>>, token: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// 403 by a rule, with a text that names this setting.
fn is_refused(reply: &Reply, setting: &str) {
    assert_eq!(reply.status, 403, "{}", text(reply));
    assert_eq!(reply.headers["tidegate-error-source"], "policy");
    assert!(text(reply).contains(setting), "{setting} in {}", text(reply));
}

#[test]
fn another_machine_takes_no_actor_over() {
    run_on_network("take_over");
}

#[tokio::test]
#[ignore = "runs on a network of its own"]
async fn take_over() {
    let scene = Scene::with_joe(&[]).await;
    scene.joe_is_as_before().await;
    let attacker = listen_elsewhere().await;
    let taken = Arc::new(Counter::default());
    let address = format!("http://{}", attacker.local_addr().unwrap());
    let _attacker = Host::serve(attacker, taken.clone());
    let mut remote = scene.remote().await;
    for host in [Some(address.as_str()), Some("unix:/run/docker.sock"), None] {
        for definitions in [vec![definition("joe", Kind::Named)], Vec::new()] {
            let reply = remote.send(registration(host, definitions)).await.unwrap();
            is_refused(&reply, "TIDEGATE_TRUSTED_PEERS");
            scene.joe_is_as_before().await;
        }
    }
    assert!(taken.called.lock().is_empty());
    let id = ActorId { name: "jim".into(), system: SYSTEM.into(), parent: "joe".into() };
    let spawning = SpawnRequest { actors: vec![id] }.encode_to_vec();
    let path = format!("/api/v1/system/{SYSTEM}/actors/spawn");
    is_refused(&remote.post(&path, spawning.into()).await.unwrap(), "TIDEGATE_TRUSTED_PEERS");
    assert_eq!(remote.invoke(&call("jim", ADD)).await.unwrap().0, 404);
}

#[test]
fn another_machine_may_call_and_read_and_not_administer() {
    run_on_network("calls_and_reads");
}

#[tokio::test]
#[ignore = "runs on a network of its own"]
async fn calls_and_reads() {
    let scene = Scene::with_joe(&[("TIDEGATE_TRUSTED_PEERS", "10.77.0.0/16")]).await;
    let (mut local, mut remote) = (scene.local().await, scene.remote().await);
    assert_eq!(remote.invoke(&call("joe", ADD)).await.unwrap().0, 200);
    // A name that is registered with its call is part of the call.
    let mut spawning = call("jim", ADD);
    spawning.register_ref = "joe".into();
    assert_eq!(remote.invoke(&spawning).await.unwrap().0, 200);
    for path in ["/health", "/health/liveness", "/health/readiness", "/metrics"] {
        assert_eq!(remote.get(path).await.unwrap().status, 200, "{path}");
    }
    assert_eq!(remote.send(on_joe("GET", "")).await.unwrap().status, 200);
    for (method, path) in ADMINISTRATION {
        is_refused(&remote.send(on_joe(method, path)).await.unwrap(), "TIDEGATE_ADMIN_TOKEN");
    }
    for (method, path) in ADMINISTRATION {
        let reply = local.send(on_joe(method, path)).await.unwrap();
        assert_eq!(reply.status, 200, "{method} {path}: {}", text(&reply));
    }
}

#[test]
fn a_trusted_machine_registers_itself_and_nobody_else() {
    run_on_network("trusted_machine");
}

#[tokio::test]
#[ignore = "runs on a network of its own"]
async fn trusted_machine() {
    let settings = [("TIDEGATE_TRUSTED_PEERS", "10.77.0.0/24"), ("TIDEGATE_ADMIN_TOKEN", TOKEN)];
    let scene = Scene::start(&settings).await;
    let mut remote = scene.remote().await;
    let (listener, counter) = (listen_elsewhere().await, Arc::new(Counter::default()));
    let own = format!("http://{}", listener.local_addr().unwrap());
    let _host = Host::serve(listener, counter.clone());
    register_at(&mut remote, &own, vec![definition("ann", Kind::Named)]).await;
    assert_eq!(remote.invoke(&call("ann", ADD)).await.unwrap().0, 200);
    assert!(counter.called.lock().contains_key("ann"));
    spawn(&mut remote, "ann", &["ben"]).await;
    // Ports of other machines, open or closed: the same answer, and no connection.
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    open.set_nonblocking(true).unwrap();
    let open_port = open.local_addr().unwrap().port();
    let mut told = Vec::new();
    for port in [open_port, 1] {
        for name in ["127.0.0.1", "localhost", "10.77.0.1", "metadata.internal"] {
            let address = format!("http://{name}:{port}");
            let scan = registration(Some(&address), vec![definition("ann", Kind::Named)]);
            let reply = remote.send(scan).await.unwrap();
            is_refused(&reply, "TIDEGATE_ADMIN_TOKEN");
            told.push(text(&reply));
        }
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(open.accept().is_err(), "somebody connected");
    // The token opens it; not for a Unix socket.
    let there = format!("http://127.0.0.1:{}", scene.host.port());
    let named = |host: &str| registration(Some(host), vec![definition("joe", Kind::Named)]);
    is_refused(&remote.send(with_token(named(&there), "wrong")).await.unwrap(), "ADMIN_TOKEN");
    assert_eq!(remote.send(with_token(named(&there), TOKEN)).await.unwrap().status, 200);
    scene.joe_is_as_before().await;
    let socket = with_token(named("unix:/run/docker.sock"), TOKEN);
    is_refused(&remote.send(socket).await.unwrap(), "PROXY_UDS_ENABLED");
}

#[test]
fn another_machine_is_not_told_where_a_host_is() {
    run_on_network("hosts_are_not_told");
}

#[tokio::test]
#[ignore = "runs on a network of its own"]
async fn hosts_are_not_told() {
    let scene =
        Scene::with_joe(&[("TIDEGATE_HOST_GRACE", "0"), ("TIDEGATE_START_TIMEOUT", "1s")]).await;
    scene.joe_is_as_before().await;
    let (mut local, mut remote) = (scene.local().await, scene.remote().await);
    let port = scene.host.stop().await;
    let failed = |(status, answer): (u16, InvocationResponse)| {
        assert_eq!(status, 502);
        answer.status.unwrap().message
    };
    for _ in 0..3 {
        let told = failed(local.invoke(&call("joe", ADD)).await.unwrap());
        assert!(told.contains(&format!("127.0.0.1:{port}")), "{told}");
        let told = failed(remote.invoke(&call("joe", ADD)).await.unwrap());
        assert!(!told.contains("127.0.0.1") && !told.contains(&port.to_string()), "{told}");
        assert!(told.contains("safe to retry") && !told.contains("refused"), "{told}");
    }
    drop(scene.proxy);
}

#[test]
fn the_machine_of_the_user_function_registers() {
    run_on_network("user_function");
}

#[tokio::test]
#[ignore = "runs on a network of its own"]
async fn user_function() {
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("hosts");
    std::fs::write(&names, format!("127.0.0.1 localhost\n{ELSEWHERE} actors\n")).unwrap();
    let mounted = Command::new("mount").arg("--bind").arg(&names).arg("/etc/hosts").status();
    assert!(mounted.unwrap().success(), "the name of the other machine is known");
    let users = directory.path().join("users");
    std::fs::write(&users, format!("joe:{}\n", bcrypt::hash("one", 4).unwrap())).unwrap();
    let credentials =
        [("TIDEGATE_USERS", users.to_str().unwrap()), ("TIDEGATE_AUTHENTICATION", "network")];
    for (name, more, status) in [
        ("actors", &[][..], 200),
        ("actors", &credentials[..], 200),
        ("10.77.0.2", &[], 200),
        ("10.77.0.2", &credentials, 200),
        ("localhost", &[], 403),
        ("localhost", &credentials, 401),
    ] {
        let (listener, counter) = (listen_elsewhere().await, Arc::new(Counter::default()));
        let port = listener.local_addr().unwrap().port().to_string();
        let host = Host::serve(listener, counter);
        let own = [
            ("USER_FUNCTION_HOST", name),
            ("USER_FUNCTION_PORT", port.as_str()),
            ("TIDEGATE_HOST_GRACE", "0"),
            ("TIDEGATE_START_TIMEOUT", "1s"),
        ];
        let scene = Scene::start(&[&own[..], more].concat()).await;
        let mut remote = scene.remote().await;
        let asked = registration(None, vec![definition("ann", Kind::Named)]);
        let reply = remote.send(asked).await.unwrap();
        assert_eq!(reply.status, status, "{name} {more:?}: {}", text(&reply));
        if status == 200 {
            assert_eq!(remote.invoke(&call("ann", ADD)).await.unwrap().0, 200, "{name} {more:?}");
            // Like other trusted clients it is told what happened, and where.
            host.stop().await;
            let (status, answer) = remote.invoke(&call("ann", ADD)).await.unwrap();
            let told = answer.status.unwrap().message;
            assert_eq!((status, told.contains(&port)), (502, true), "{name} {more:?}: {told}");
        }
    }
}

#[test]
fn hosts_of_a_daemon_are_where_they_register_from() {
    run_on_network("daemon");
}

#[tokio::test]
#[ignore = "runs on a network of its own"]
async fn daemon() {
    let (listener, counter) = (listen_elsewhere().await, Arc::new(Counter::default()));
    let port = listener.local_addr().unwrap().port().to_string();
    let _host = Host::serve(listener, counter.clone());
    let daemon = [("PROXY_DEPLOYMENT_MODE", "daemon"), ("USER_FUNCTION_PORT", port.as_str())];
    // The machine that USER_FUNCTION_HOST names is nothing to a daemon.
    let scene = Scene::start(&[&daemon[..], &[("USER_FUNCTION_HOST", "10.77.0.2")]].concat()).await;
    let asked = || registration(None, vec![definition("ann", Kind::Named)]);
    let reply = scene.remote().await.send(asked()).await.unwrap();
    is_refused(&reply, "TIDEGATE_TRUSTED_PEERS");
    let trusted = [("TIDEGATE_TRUSTED_PEERS", "192.0.2.0/24, 10.77.0.2")];
    let scene = Scene::start(&[&daemon[..], &trusted].concat()).await;
    let mut remote = scene.remote().await;
    assert_eq!(remote.send(asked()).await.unwrap().status, 200);
    assert_eq!(remote.invoke(&call("ann", ADD)).await.unwrap().0, 200);
    assert!(counter.called.lock().contains_key("ann"));
}

#[test]
fn a_host_joins_others_and_is_drained_at_its_own_address_only() {
    run_on_network("several_hosts");
}

#[tokio::test]
#[ignore = "runs on a network of its own"]
async fn several_hosts() {
    let many = [("TIDEGATE_HOSTS", "many"), ("TIDEGATE_HOSTS_STRATEGY", "round_robin")];
    let asked = |host: &str| registration(Some(host), vec![definition("joe", Kind::Named)]);
    let drain = |address: &str| {
        let path = format!("/api/v1/system/{SYSTEM}/hosts/{address}");
        let request = Request::builder().method("DELETE").uri(path).header("host", "localhost");
        request.body(Full::default()).unwrap()
    };
    let (listener, counter) = (listen_elsewhere().await, Arc::new(Counter::default()));
    let own = listener.local_addr().unwrap().to_string();
    let _remote_host = Host::serve(listener, counter.clone());

    // A machine that nobody trusts joins no host, drains none and sees none.
    let scene = Scene::with_joe(&many).await;
    let beside = format!("127.0.0.1:{}", scene.host.port());
    let mut remote = scene.remote().await;
    let reply = remote.send(asked(&format!("http://{own}"))).await.unwrap();
    is_refused(&reply, "TIDEGATE_TRUSTED_PEERS");
    for address in [&own, &beside] {
        is_refused(&remote.send(drain(address)).await.unwrap(), "TIDEGATE_ADMIN_TOKEN");
    }
    let list = format!("/api/v1/system/{SYSTEM}/hosts");
    is_refused(&remote.get(&list).await.unwrap(), "TIDEGATE_ADMIN_TOKEN");

    // One that is trusted joins with its own address, and takes only that one out again.
    let trusted = [("TIDEGATE_TRUSTED_PEERS", "10.77.0.2"), ("TIDEGATE_ADMIN_TOKEN", TOKEN)];
    let scene = Scene::with_joe(&[&many[..], &trusted].concat()).await;
    let beside = format!("127.0.0.1:{}", scene.host.port());
    let mut remote = scene.remote().await;
    is_refused(&remote.send(asked(&format!("http://{beside}"))).await.unwrap(), "tidegate-host");
    is_refused(&remote.send(asked("http://10.77.0.1:8090")).await.unwrap(), "tidegate-host");
    assert_eq!(remote.send(asked(&format!("http://{own}"))).await.unwrap().status, 200);
    for _ in 0..4 {
        assert_eq!(remote.invoke(&call("joe", ADD)).await.unwrap().0, 200);
    }
    assert!(counter.called.lock().contains_key("joe"));
    is_refused(&remote.send(drain(&beside)).await.unwrap(), "TIDEGATE_ADMIN_TOKEN");
    is_refused(&remote.get(&list).await.unwrap(), "TIDEGATE_ADMIN_TOKEN");
    let reply = remote.send(drain(&own)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", text(&reply));
    counter.called.lock().clear();
    for _ in 0..4 {
        assert_eq!(remote.invoke(&call("joe", ADD)).await.unwrap().0, 200);
    }
    assert!(counter.called.lock().is_empty(), "the host beside the proxy has all calls");

    // An administrator drains any.
    assert_eq!(remote.send(asked(&format!("http://{own}"))).await.unwrap().status, 200);
    let reply = scene.local().await.send(with_token(drain(&beside), TOKEN)).await.unwrap();
    assert_eq!(reply.status, 200, "{}", text(&reply));
    let reply = scene.local().await.send(drain(&own)).await.unwrap();
    is_refused(&reply, "TIDEGATE_ADMIN_TOKEN");
}

#[tokio::test]
async fn a_local_client_needs_the_token_to_administer_once_there_is_one() {
    let scene = Scene::with_joe(&[("TIDEGATE_ADMIN_TOKEN", TOKEN)]).await;
    let mut local = scene.local().await;
    assert_eq!(local.invoke(&call("joe", ADD)).await.unwrap().0, 200);
    for (method, path) in ADMINISTRATION {
        is_refused(&local.send(on_joe(method, path)).await.unwrap(), "TIDEGATE_ADMIN_TOKEN");
        let wrong = with_token(on_joe(method, path), "close sesame");
        is_refused(&local.send(wrong).await.unwrap(), "TIDEGATE_ADMIN_TOKEN");
    }
    for (method, path) in ADMINISTRATION {
        let reply = local.send(with_token(on_joe(method, path), TOKEN)).await.unwrap();
        assert_eq!(reply.status, 200, "{method} {path}: {}", text(&reply));
    }
}

#[tokio::test]
async fn a_local_client_is_nobody_behind_a_proxy_that_makes_everybody_local() {
    let settings = [("TIDEGATE_TRUST_LOOPBACK", "false"), ("TIDEGATE_ADMIN_TOKEN", TOKEN)];
    let scene = Scene::start(&settings).await;
    let mut local = scene.local().await;
    let asked = || registration(None, vec![definition("joe", Kind::Named)]);
    is_refused(&local.send(asked()).await.unwrap(), "TIDEGATE_TRUST_LOOPBACK");
    assert_eq!(local.send(with_token(asked(), TOKEN)).await.unwrap().status, 200);
    assert_eq!(local.invoke(&call("joe", ADD)).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_unix_socket_is_no_host_of_a_client_over_tcp() {
    let scene = Scene::with_joe(&[]).await;
    let mut local = scene.local().await;
    let host = Some("unix:/run/docker.sock");
    let asked = registration(host, vec![definition("joe", Kind::Named)]);
    is_refused(&local.send(asked).await.unwrap(), "PROXY_UDS_ENABLED");
    assert_eq!(local.invoke(&call("joe", ADD)).await.unwrap().0, 200);
}
