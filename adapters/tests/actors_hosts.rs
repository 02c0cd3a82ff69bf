//! Several hosts of one definition, over real sockets: they die, freeze, leave and return, and the proxy is killed in between.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use support::client::{Client, Reply};
use support::counter::{ADD, Added, Counter, Gate, SYSTEM, add, call, definition, register_at};
use support::host::Host;
use support::proto::{Actor, Kind};
use support::proxy::{Proxy, embedded};
use support::tool;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_mins(1);
const ACTORS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn definitions() -> Vec<Actor> {
    ACTORS.map(|name| definition(name, Kind::Named)).into()
}

/// A host, its address, and who was called there.
struct Replica {
    host: Host,
    address: String,
    counter: Arc<Counter>,
}

impl Replica {
    async fn start(port: u16) -> Self {
        let counter = Arc::new(Counter::default());
        let host = Host::start_on(port, counter.clone()).await;
        let address = format!("127.0.0.1:{}", host.port());
        Self { host, address, counter }
    }

    async fn register(&self, client: &mut Client) {
        register_at(client, &format!("http://{}", self.address), definitions()).await;
    }

    /// Whether it was called since the last look.
    fn was_called(&self) -> bool {
        !std::mem::take(&mut *self.counter.called.lock()).is_empty()
    }
}

async fn proxy(directory: &Path, more: &[(&str, &str)]) -> (Proxy, Client) {
    let mut settings = embedded(directory, "1");
    settings.extend([("TIDEGATE_HOSTS", "many"), ("TIDEGATE_HOSTS_STRATEGY", "round_robin")]);
    settings.extend(more);
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

/// Adds one to each actor; each has this value then.
async fn add_to_all(client: &mut Client, value: u32) {
    for name in ACTORS {
        let added = add(client, name).await.unwrap();
        assert!(matches!(added, Added::To(now) if now == value), "{name}: {added:?}, not {value}");
    }
}

async fn asked(client: &mut Client, method: &str, path: &str) -> Reply {
    let path = format!("/api/v1/system/{SYSTEM}/hosts{path}");
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

/// The hosts as the proxy lists them: address and state.
async fn listed(client: &mut Client) -> Vec<(String, String)> {
    let reply = asked(client, "GET", "").await;
    assert_eq!(reply.status, 200);
    let list: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let text = |host: &serde_json::Value, field: &str| host[field].as_str().unwrap().to_owned();
    let hosts = list["hosts"].as_array().unwrap().iter();
    hosts.map(|host| (text(host, "address"), text(host, "state"))).collect()
}

async fn wait_for_hosts(client: &mut Client, addresses: &[&str]) {
    let found = async {
        while listed(client).await.iter().map(|(address, _)| address).ne(addresses) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, found).await.expect("the hosts are as they should be");
}

#[tokio::test]
async fn two_replicas_share_the_calls_and_one_goes_on_while_the_other_is_dead() {
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = proxy(directory.path(), &[]).await;
    let (one, two) = (Replica::start(0).await, Replica::start(0).await);
    one.register(&mut client).await;
    two.register(&mut client).await;
    add_to_all(&mut client, 1).await;
    assert!(one.was_called() && two.was_called());

    let port = one.host.stop().await;
    for value in 2..5 {
        add_to_all(&mut client, value).await;
    }
    assert!(two.was_called());
    // What was registered is on disk, with both hosts; the dead one costs no call.
    proxy.kill().await;
    let (proxy, mut client) = self::proxy(directory.path(), &[]).await;
    add_to_all(&mut client, 5).await;
    let states = listed(&mut client).await;
    let state = |address: &str| &states.iter().find(|(known, _)| known == address).unwrap().1;
    assert_eq!((state(&one.address), state(&two.address)), (&"away".into(), &"up".into()));

    // It is back where it was, and registers nothing: a probe finds it.
    let back = Replica::start(port).await;
    let found = async {
        let mut value = 6;
        while !back.was_called() {
            add_to_all(&mut client, value).await;
            value += 1;
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, found).await.expect("a host that is back is called");
    drop(proxy);
}

#[tokio::test]
async fn a_host_that_stays_away_leaves_for_good_and_comes_back_with_its_registration() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("TIDEGATE_HOSTS_LEAVE_AFTER", "1s")];
    let (proxy, mut client) = proxy(directory.path(), &settings).await;
    let (one, two) = (Replica::start(0).await, Replica::start(0).await);
    one.register(&mut client).await;
    two.register(&mut client).await;
    let port = one.host.stop().await;
    proxy.kill().await;
    // After a start no host is in its first contact, so a refusal counts at once.
    let (proxy, mut client) = self::proxy(directory.path(), &settings).await;
    assert_eq!(listed(&mut client).await.len(), 2);
    add_to_all(&mut client, 1).await;
    wait_for_hosts(&mut client, &[&two.address]).await;
    let back = Replica::start(port).await;
    proxy.kill().await;
    let (_proxy, mut client) = self::proxy(directory.path(), &settings).await;
    assert_eq!(listed(&mut client).await.len(), 1, "it is written that it has left");
    add_to_all(&mut client, 2).await;
    assert!(!back.was_called());
    back.register(&mut client).await;
    add_to_all(&mut client, 3).await;
    assert!(back.was_called() && two.was_called());
}

#[tokio::test]
async fn a_frozen_host_keeps_only_its_own_calls_and_answers_them_when_it_thaws() {
    let directory = tempfile::tempdir().unwrap();
    let least = [("TIDEGATE_HOSTS_STRATEGY", "least_loaded")];
    let (proxy, mut client) = proxy(directory.path(), &least).await;
    let (thaw, open) = watch::channel(false);
    let gate = Gate { counter: Arc::default(), open };
    let frozen = Host::start(Arc::new(gate));
    let address = format!("http://127.0.0.1:{}", frozen.port());
    register_at(&mut client, &address, definitions()).await;
    let two = Replica::start(0).await;
    two.register(&mut client).await;
    // One of the first calls goes to the frozen host; while it is there the other one has fewer.
    let mut calls: JoinSet<_> = ACTORS[..4]
        .iter()
        .map(|name| {
            let address = proxy.address().to_owned();
            async move {
                let mut client = Client::connect(&address).await.unwrap();
                let (status, _) = client.invoke(&call(name, ADD)).await.unwrap();
                (status, *name)
            }
        })
        .collect();
    let mut held = 4;
    while let Ok(Some(ended)) = timeout(Duration::from_secs(1), calls.join_next()).await {
        assert_eq!(ended.unwrap().0, 200);
        held -= 1;
    }
    assert!((1..4).contains(&held), "{held} calls are at the frozen host");
    for value in 1..20 {
        for name in &ACTORS[4..] {
            let added = timeout(LIMIT, add(&mut client, name)).await.expect("it is not held up");
            assert!(matches!(added.unwrap(), Added::To(now) if now == value));
        }
    }
    thaw.send(true).unwrap();
    while let Some(ended) = calls.join_next().await {
        assert_eq!(ended.unwrap().0, 200, "it is answered late, and counts");
    }
}

#[tokio::test]
async fn a_host_is_drained_by_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = proxy(directory.path(), &[]).await;
    let (one, two) = (Replica::start(0).await, Replica::start(0).await);
    one.register(&mut client).await;
    let path = format!("/{}", one.address);
    let reply = asked(&mut client, "DELETE", &path).await;
    assert_eq!(reply.status, 409, "the last host stays: {:?}", Bytes::clone(&reply.body));
    two.register(&mut client).await;
    assert_eq!(asked(&mut client, "DELETE", "/nobody").await.status, 400);
    assert_eq!(asked(&mut client, "DELETE", "/127.0.0.1:9").await.status, 404);
    assert_eq!(asked(&mut client, "POST", &path).await.status, 405);
    add_to_all(&mut client, 1).await;
    assert!(one.was_called() && two.was_called());
    // A spelling that registrations may have, too.
    let encoded = format!("/http:%2F%2F{}", one.address);
    let reply = asked(&mut client, "DELETE", &encoded).await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(
        (reply.status, text),
        (200, format!("{{\"drained\":\"{}\",\"running\":0}}\n", one.address))
    );
    for value in 2..4 {
        add_to_all(&mut client, value).await;
    }
    assert!(!one.was_called() && two.was_called());

    // And at a terminal.
    one.register(&mut client).await;
    let at = ["--proxy", proxy.address()];
    let list = tool::run(&[&["hosts", "list", SYSTEM], &at[..]].concat(), &[]).await.said();
    for address in [&one.address, &two.address] {
        let line = list.lines().find(|line| line.starts_with(address.as_str())).unwrap();
        assert!(line.ends_with("8 definitions, 0 turns run"), "{line}");
    }
    let drain = ["hosts", "drain", SYSTEM, &two.address];
    let said = tool::run(&[&drain, &at[..]].concat(), &[]).await.said();
    assert_eq!(said, format!("drained {}\n", two.address));
    assert_eq!(listed(&mut client).await.len(), 1);
    let refused =
        tool::run(&[&["hosts", "drain", SYSTEM, &one.address], &at[..]].concat(), &[]).await;
    assert!(refused.stderr.contains("no other host"), "{}", refused.stderr);
    assert_eq!(refused.code, Some(70));
}
