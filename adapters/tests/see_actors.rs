//! The list of actors of the built binary: what a filter can ask for, and what a list of many costs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use support::client::Client;
use support::counter::{
    ADD, Added, Counter, Gate, add, add_within, call, definition, register, spawn,
};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::run;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);
/// How many actors there are in the list that is long.
const MANY: usize = 100_000;
/// How many one request spawns.
const SPAWNED: usize = 10_000;

async fn list(client: &mut Client, query: &str) -> Value {
    let reply = client.get(&format!("/api/v1/actors?{query}")).await.unwrap();
    serde_json::from_slice(&reply.body).unwrap()
}

async fn names(client: &mut Client, query: &str) -> String {
    let list = list(client, query).await;
    let actors = list["actors"].as_array().unwrap_or_else(|| panic!("{query}: {list}"));
    actors.iter().map(|actor| actor["name"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// Asks until these actors are listed.
async fn until(client: &mut Client, query: &str, expected: &str) {
    let right = async {
        while names(client, query).await != expected {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, right).await.unwrap_or_else(|_| panic!("{query} never lists {expected:?}"));
}

#[tokio::test]
async fn actors_are_chosen_by_what_is_known_of_them() {
    let (open, seen) = watch::channel(true);
    let host = Host::start(Arc::new(Gate { counter: Arc::default(), open: seen }));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&embedded(directory.path(), &port)).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let all = ["ann", "bob", "joe"].map(|name| definition(name, Kind::Named));
    register(&mut client, all.to_vec()).await;
    for name in ["ann", "bob", "joe"] {
        assert!(matches!(add(&mut client, name).await.unwrap(), Added::To(1)));
    }
    assert_eq!(names(&mut client, "failed=true").await, "");
    assert_eq!(names(&mut client, "unused=1h").await, "");

    let (code, said) = {
        let args = ["actors", "deactivate", "counting/ann", "--proxy", proxy.address()];
        let ran = run(&args, &[]).await;
        (ran.code, ran.stdout)
    };
    assert_eq!(code, Some(0), "{said}");
    until(&mut client, "state=stored", "ann").await;
    until(&mut client, "state=live", "bob joe").await;

    // Its host does not answer, and one caller does not wait for it.
    open.send_replace(false);
    let late = add_within(&mut client, "bob", Duration::from_millis(300)).await.unwrap();
    assert!(matches!(late, Added::Refused(504, _)), "{late:?}");
    until(&mut client, "failed=true", "bob").await;
    let listed = list(&mut client, "error=within&state=live").await;
    let error = &listed["actors"][0]["last_error"];
    assert_eq!(error["kind"], "deadline_exceeded", "{listed}");
    assert_eq!(names(&mut client, "failed=false").await, "ann joe");
    assert_eq!(names(&mut client, "error=nothing%20of%20the%20kind").await, "");
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let mut caller = Client::connect(proxy.address()).await.unwrap();
        callers.spawn(async move { caller.invoke(&call("joe", ADD)).await });
    }
    until(&mut client, "mailbox=3", "joe").await;
    assert_eq!(names(&mut client, "mailbox=4").await, "");
    until(&mut client, "unused=100ms&state=stored", "ann").await;
    let listed = run(&["actors", "list", "--failed", "--proxy", proxy.address()], &[]).await.said();
    assert!(listed.contains("counting/bob") && listed.contains("last error"), "{listed}");
    // The same filters choose what is changed.
    let query = "/api/v1/actors/pause?failed=true&dry_run=true";
    let counted = client.post(query, bytes::Bytes::new()).await.unwrap();
    let counted: Value = serde_json::from_slice(&counted.body).unwrap();
    assert_eq!(counted["matched"], 1, "{counted}");
    for wrong in ["state=dead", "unused=soon", "mailbox=many", "failed=perhaps"] {
        let reply = client.get(&format!("/api/v1/actors?{wrong}")).await.unwrap();
        assert_eq!(reply.status, 400, "{wrong}");
    }
    open.send_replace(true);
    while let Some(answered) = callers.join_next().await {
        assert_eq!(answered.unwrap().unwrap().0, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_actors_holds_up_no_call() {
    let host = Host::start(Arc::new(Counter::default()));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&embedded(directory.path(), &port)).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let template = definition("cart", Kind::Unnamed);
    register(&mut client, vec![template, definition("joe", Kind::Named)]).await;
    for from in (0..MANY).step_by(SPAWNED) {
        let all: Vec<_> = (from..from + SPAWNED).map(|number| format!("c{number:06}")).collect();
        spawn(&mut client, "cart", &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let mut alone = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(_)));
        alone.push(began.elapsed());
    }
    // One client calls while another one lists.
    let (done, is_done) = watch::channel(false);
    let mut callers = JoinSet::new();
    let address = proxy.address().to_owned();
    callers.spawn(async move {
        let mut caller = Client::connect(&address).await.unwrap();
        let mut took = Vec::new();
        while !*is_done.borrow() {
            let began = Instant::now();
            assert!(matches!(add(&mut caller, "joe").await.unwrap(), Added::To(_)));
            took.push(began.elapsed());
        }
        took
    });
    let (mut seen, mut pages, mut next) = (0, Vec::new(), String::new());
    loop {
        let began = Instant::now();
        let page = list(&mut client, &format!("definition=cart&limit=1000{next}")).await;
        pages.push(began.elapsed());
        seen += page["actors"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(after) => next = format!("&next={after}"),
            None => break,
        }
    }
    // The template itself, too.
    assert_eq!(seen, MANY + 1);
    let mut found = Vec::new();
    for query in ["error=no&state=live", "mailbox=1", "stuck=1m", "unused=1h"] {
        let began = Instant::now();
        assert_eq!(names(&mut client, query).await, "");
        found.push(format!("{query} {:?}", began.elapsed()));
    }
    done.send_replace(true);
    let mut beside = callers.join_next().await.unwrap().unwrap();
    for took in [&mut alone, &mut beside, &mut pages] {
        took.sort_unstable();
    }
    let median = |took: &[Duration]| took[took.len() / 2];
    eprintln!(
        "{MANY} actors in {} pages of {:?} each, filters: {}; a call beside it {:?}, at most {:?} of {}; alone {:?}",
        pages.len(),
        median(&pages),
        found.join(", "),
        median(&beside),
        beside.last().unwrap(),
        beside.len(),
        median(&alone),
    );
    assert!(beside.len() > 10, "calls went on");
}
