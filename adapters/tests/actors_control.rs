//! Actor control of the built binary: a stuck call is seen and cancelled, pauses are kept over a SIGKILL, filters count first.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use support::client::{Client, Reply};
use support::counter::{
    ADD, Added, Counter, SYSTEM, add, add_within, call, definition, get, register, spawn,
};
use support::host::{Host, read_call};
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::run;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(300);

async fn start(port: &str, directory: &Path, more: &[(&str, &str)]) -> (Proxy, Client) {
    let settings = [&embedded(directory, port)[..], more].concat();
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

/// Lists actors until the first one is as it should be.
async fn listed(client: &mut Client, query: &str, right: fn(&Value) -> bool) -> Value {
    let right = async {
        loop {
            let list = json(&ask(client, "GET", query, None).await);
            if right(&list["actors"][0]) {
                return list;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, right).await.unwrap()
}

/// Runs `tidegate actors …` against the proxy: exit code and what it says.
async fn actors(proxy: &Proxy, args: &[&str]) -> (Option<i32>, String) {
    let args = [&["actors"], args, &["--proxy", proxy.address()]].concat();
    let ran = run(&args, &[]).await;
    (ran.code, ran.stdout + &ran.stderr)
}

async fn done(proxy: &Proxy, args: &[&str]) -> String {
    let (code, said) = actors(proxy, args).await;
    assert_eq!(code, Some(0), "{args:?}: {said}");
    said
}

async fn ask(client: &mut Client, method: &str, path: &str, token: Option<&str>) -> Reply {
    let path = format!("/api/v1/actors{path}");
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn a_stuck_call_is_seen_and_freed_and_its_host_connection_closes() {
    // A host that never answers, and tells when a connection of it ends.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (arrived, mut arrivals) = mpsc::channel(8);
    let (ended, mut ends) = mpsc::channel(8);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (arrived, ended) = (arrived.clone(), ended.clone());
            connections.spawn(async move {
                while let Ok(Some(_)) = read_call(&mut stream, &mut BytesMut::new()).await {
                    arrived.send(()).await.unwrap();
                    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "it ends");
                    ended.send(()).await.unwrap();
                }
            });
        }
    });
    let directory = tempfile::tempdir().unwrap();
    // Commands may take their time on a busy machine.
    let slow = [("TIDEGATE_START_TIMEOUT", "300000"), ("TIDEGATE_HOST_TIMEOUT", "300000")];
    let (proxy, mut client) = start(&port, directory.path(), &slow).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    // Its warm-up, which has a turn of its own, is over.
    let idle =
        |joe: &Value| joe["active"] == true && joe["queued"] == 0 && joe["running"].is_null();
    listed(&mut client, "?system=counting&name=joe", idle).await;
    let mut callers = JoinSet::new();
    let mut start_call = async |number: u32| {
        let mut caller = Client::connect(proxy.address()).await.unwrap();
        callers.spawn(async move { (number, caller.invoke(&call("joe", ADD)).await.unwrap()) });
    };
    start_call(1).await;
    timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    start_call(2).await;
    let first = json(&ask(&mut client, "GET", "?system=counting&name=joe", None).await);
    let turn = first["actors"][0]["running"]["turn"].as_str().unwrap().to_owned();
    let list = listed(&mut client, "?stuck=1ms", |joe| joe["queued"] == 1).await;
    let joe = &list["actors"][0];
    assert_eq!((&joe["running"]["action"], &joe["running"]["kind"]), (&ADD.into(), &"call".into()));
    assert_eq!(joe["waiting"]["blocked_on"], format!("turn {turn}"), "{list}");
    let shown = done(&proxy, &["list", "counting/joe"]).await;
    assert!(shown.contains("runs: turn") && shown.contains("1 queued"), "{shown}");

    let waiting = joe["waiting"]["turn"].as_str().unwrap();
    let said = done(&proxy, &["cancel", "counting/joe", "--turn", waiting]).await;
    assert!(said.contains("0 calls that ran, 1 that waited"), "{said}");
    let (number, (status, answer)) = callers.join_next().await.unwrap().unwrap();
    let text = answer.status.unwrap().message;
    assert_eq!((number, status), (2, 409));
    assert!(text.contains("not started, it is safe to retry"), "{text}");

    let said = done(&proxy, &["cancel", "counting/joe"]).await;
    assert!(said.contains("1 calls that ran, 0 that waited"), "{said}");
    let (number, (status, answer)) = callers.join_next().await.unwrap().unwrap();
    let text = answer.status.unwrap().message;
    assert_eq!((number, status), (1, 409));
    assert!(text.contains("may have run"), "{text}");
    timeout(PATIENCE, ends.recv()).await.unwrap().unwrap();
    assert_eq!(get(&mut client, "joe").await, 0, "the key is free");
    let (code, said) = actors(&proxy, &["cancel", "counting/joe", "--turn", &turn]).await;
    assert!(code == Some(70) && said.contains("no such turn"), "{code:?} {said}");
}

#[tokio::test]
async fn a_pause_survives_a_kill_and_a_shutdown_and_ends_when_it_is_resumed() {
    let host = Host::start(Arc::new(Counter::default()));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let fast = [("TIDEGATE_DRAIN_DELAY", "0")];
    let (proxy, mut client) = start(&port, directory.path(), &fast).await;
    let names = ["joe", "ann"];
    register(&mut client, names.map(|name| definition(name, Kind::Named)).to_vec()).await;
    for name in names {
        assert!(matches!(add(&mut client, name).await.unwrap(), Added::To(1)));
    }
    let said = done(&proxy, &["pause", "counting/joe"]).await;
    assert_eq!(said, "paused 1 of 1 actors\n");
    proxy.kill().await;

    for round in 0..2 {
        let (proxy, mut client) = start(&port, directory.path(), &fast).await;
        let paused = add_within(&mut client, "joe", SHORT).await.unwrap();
        assert!(matches!(paused, Added::Refused(504, _)), "{paused:?}");
        let ann = add(&mut client, "ann").await.unwrap();
        assert!(matches!(ann, Added::To(count) if count == round + 2), "{ann:?}");
        let listed = done(&proxy, &["list", "--paused"]).await;
        assert!(listed.contains("counting/joe") && listed.contains("paused since"), "{listed}");
        assert!(!listed.contains("counting/ann"), "{listed}");
        // Somebody waits for it: the shutdown does not.
        let mut waiting = Client::connect(proxy.address()).await.unwrap();
        let mut caller = JoinSet::new();
        caller.spawn(async move { add(&mut waiting, "joe").await });
        sleep(SHORT).await;
        let status = proxy.terminate(PATIENCE).await;
        assert_eq!(status.code(), Some(0), "{status}");
        let refused = caller.join_next().await.unwrap().unwrap().unwrap();
        assert!(matches!(refused, Added::Refused(503, _)), "{refused:?}");
    }

    let (proxy, mut client) = start(&port, directory.path(), &fast).await;
    assert_eq!(done(&proxy, &["resume", "counting/joe"]).await, "resumed 1 of 1 actors\n");
    assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(2)));
    proxy.kill().await;
    let (_proxy, mut client) = start(&port, directory.path(), &fast).await;
    assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(3)));
}

#[tokio::test]
async fn an_eighth_of_the_setting_waits_for_paused_actors() {
    let host = Host::start(Arc::new(Counter::default()));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let few = [("TIDEGATE_ADMISSION_EVENTS", "80"), ("TIDEGATE_START_TIMEOUT", "300000")];
    let (proxy, mut client) = start(&port, directory.path(), &few).await;
    let names = ["joe", "ann"];
    register(&mut client, names.map(|name| definition(name, Kind::Named)).to_vec()).await;
    for name in names {
        let said = done(&proxy, &["pause", &format!("counting/{name}")]).await;
        assert_eq!(said, "paused 1 of 1 actors\n");
    }
    let mut callers = JoinSet::new();
    for number in 0..12 {
        let mut caller = Client::connect(proxy.address()).await.unwrap();
        callers.spawn(async move { add(&mut caller, names[number % 2]).await.unwrap() });
    }
    // Whichever two come last.
    for _ in 0..2 {
        let refused = timeout(PATIENCE, callers.join_next()).await.unwrap().unwrap().unwrap();
        let Added::Refused(503, text) = &refused else { panic!("{refused:?}") };
        assert!(text.contains("too many calls wait for paused actors"), "{text}");
    }
    sleep(SHORT).await;
    assert!(callers.try_join_next().is_none(), "ten wait");
    for name in names {
        done(&proxy, &["resume", &format!("counting/{name}")]).await;
    }
    for added in callers.join_all().await {
        assert!(matches!(added, Added::To(_)), "{added:?}");
    }
}

#[tokio::test]
async fn what_a_filter_matches_is_counted_before_it_is_changed() {
    let host = Host::start(Arc::new(Counter::default()));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let (proxy, mut client) = start(&port, directory.path(), &[]).await;
    let template = definition("cart", Kind::Unnamed);
    register(&mut client, vec![template, definition("other", Kind::Named)]).await;
    let names: Vec<String> = (0..300).map(|number| format!("cart {number}")).collect();
    spawn(&mut client, "cart", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let (code, said) = actors(&proxy, &["pause", "--definition", "cart"]).await;
    assert_eq!(code, Some(70), "nobody can be asked");
    assert!(said.contains("301 actors match\n"), "{said}");
    assert!(said.contains("whether to pause 301 actors, --yes does it"), "{said}");
    let dry = done(&proxy, &["pause", "--definition", "cart", "--dry-run"]).await;
    assert_eq!(dry, "301 actors match\n");
    assert_eq!(done(&proxy, &["list", "--paused"]).await, "no actor matches\n");
    let said = done(&proxy, &["pause", "--definition", "cart", "--yes"]).await;
    assert_eq!(said, "paused 301 of 301 actors\n");
    let listed = done(&proxy, &["list", "--paused", "--json"]).await;
    assert_eq!(listed.lines().count(), 301, "page by page");
    assert!(matches!(add(&mut client, "other").await.unwrap(), Added::To(1)));
    assert_eq!(done(&proxy, &["resume", "--paused", "--yes"]).await, "resumed 301 of 301 actors\n");
    let unknown = actors(&proxy, &["pause", "counting/nobody"]).await;
    assert!(unknown.0 == Some(70) && unknown.1.contains("not found"), "{unknown:?}");
    let unfiltered = actors(&proxy, &["pause", "--yes"]).await;
    assert!(unfiltered.1.contains("needs a filter"), "{unfiltered:?}");

    let listed = done(&proxy, &["list", "counting/other"]).await;
    assert!(
        listed.contains("named other at 127.0.0.1:") && listed.contains(", in memory"),
        "{listed}"
    );
    let said = done(&proxy, &["deactivate", "counting/other"]).await;
    assert_eq!(said, "deactivated 1 of 1 actors\n");
    let listed = done(&proxy, &["list", "counting/other"]).await;
    assert!(listed.contains("not in memory"), "{listed}");
    assert!(matches!(add(&mut client, "other").await.unwrap(), Added::To(2)));
    for wrong in ["?stuck=long", "?paused=maybe", "?nmae=joe", "?limit=0", "?next=x"] {
        assert_eq!(ask(&mut client, "GET", wrong, None).await.status, 400, "{wrong}");
    }
    assert_eq!(ask(&mut client, "POST", "/stop?all=true", None).await.status, 404);
    assert_eq!(ask(&mut client, "GET", "/pause?all=true", None).await.status, 405);
}

#[tokio::test]
async fn only_administrators_control_actors_and_it_is_in_the_audit() {
    let host = Host::start(Arc::new(Counter::default()));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let audit = directory.path().join("audit");
    let more =
        [("TIDEGATE_ADMIN_TOKEN", "secret"), ("TIDEGATE_AUDIT_FILE", audit.to_str().unwrap())];
    let (_proxy, mut client) = start(&port, &directory.path().join("data"), &more).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let pause = format!("/pause?system={SYSTEM}&name=joe");
    for (method, path) in [("GET", ""), ("POST", pause.as_str())] {
        let refused = ask(&mut client, method, path, None).await;
        assert_eq!(refused.status, 403, "{method} {path}");
    }
    let paused = ask(&mut client, "POST", &pause, Some("secret")).await;
    assert_eq!((paused.status, &json(&paused)["changed"]), (200, &1.into()));
    let listed = json(&ask(&mut client, "GET", "", Some("secret")).await);
    assert!(listed["actors"][0]["paused"]["by"].is_string(), "{listed}");
    let lines = std::fs::read_to_string(&audit).unwrap();
    let of_pause: Vec<_> = lines.lines().filter(|line| line.contains("/pause?")).collect();
    assert!(of_pause.iter().any(|line| line.contains("refused")), "{lines}");
    assert!(of_pause.iter().any(|line| line.contains("begun")), "{lines}");
    assert!(of_pause.iter().any(|line| line.contains("administrator's token")), "{lines}");
}
