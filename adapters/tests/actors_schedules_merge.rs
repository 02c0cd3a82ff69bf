//! The built binary: schedules, timers and calls for a later time go on after the engine of the embedded store has merged
//! the tables that they are in, and after a restart on these. Other systems stopped firing then, and said that all was well.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::client::Client;
use support::counter::{ADD, Added, Counter, SYSTEM, add, call, definition, get, register};
use support::host::Host;
use support::proto::{Action, Actor, InvocationRequest, Kind};
use support::proxy::{Proxy, embedded};
use support::schedules::{create, paused, runs, until_runs};
use tidegate::clock::SystemClock;
use tidegate::proto::eigr::functions::protocol::actors::FixedTimerAction;
use tidegate_stages::ports::Clock;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of a state: some of them fill a table.
const PADDING: usize = 16 << 10;

async fn start(host: &Host, directory: &Path) -> (Proxy, Client) {
    let (port, store) = (host.port(), embedded(directory, "1"));
    let mut settings: Vec<(&str, &str)> = store.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    settings.extend([
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &port[..]),
        // Tables of 100 KiB.
        ("TIDEGATE_STORE_BYTES", "1MiB"),
    ]);
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

/// The files of the engine's tables, by keyspace.
type Tables = BTreeMap<PathBuf, BTreeSet<OsString>>;

fn tables(directory: &Path) -> Tables {
    let mut found = Tables::new();
    for keyspace in std::fs::read_dir(directory.join("engine/keyspaces")).unwrap() {
        let keyspace = keyspace.unwrap().path();
        let files = std::fs::read_dir(keyspace.join("tables")).unwrap();
        found.insert(keyspace, files.map(|file| file.unwrap().file_name()).collect());
    }
    found
}

/// Writes states until one keyspace has other tables only, all of what it had is merged. It is that of the states, which has
/// schedules and due work, too.
async fn merge(client: &mut Client, directory: &Path) {
    let written = timeout(PATIENCE, async {
        while tables(directory).values().map(BTreeSet::len).max() < Some(3) {
            assert!(matches!(add(client, "writer").await.unwrap(), Added::To(_)));
        }
        let before = tables(directory);
        let is_merged = |now: &Tables| {
            let mut both = before.iter().filter_map(|(space, was)| Some((was, now.get(space)?)));
            both.any(|(was, now)| !was.is_empty() && !now.is_empty() && was.is_disjoint(now))
        };
        while !is_merged(&tables(directory)) {
            assert!(matches!(add(client, "writer").await.unwrap(), Added::To(_)));
        }
    });
    assert!(written.await.is_ok(), "{:?}", tables(directory));
}

async fn until_more(client: &mut Client, actor: &str, than: u32) {
    let more = timeout(PATIENCE, async {
        while get(client, actor).await <= than {
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(more.await.is_ok(), "{actor} stays at {than}");
}

/// All of them fire, and the proxy is ready.
async fn check(client: &mut Client) {
    assert_eq!(client.get("/health/readiness").await.unwrap().status, 200);
    let begun = runs(client, "tick").await;
    until_runs(client, "tick", begun + 2).await;
    let ticks = get(client, "timed").await;
    until_more(client, "timed", ticks + 2).await;
}

#[tokio::test]
async fn firing_goes_on_after_merges_of_tables_and_after_a_restart_on_merged_ones() {
    let host = Host::start(Arc::new(Counter { padding: PADDING, ..Counter::default() }));
    let directory = tempfile::tempdir().unwrap();
    let (mut proxy, mut client) = start(&host, directory.path()).await;
    let action = Some(Action { name: ADD.into() });
    let timer_actions = vec![FixedTimerAction { seconds: 100, action }];
    let timed = Actor { timer_actions, ..definition("timed", Kind::Named) };
    let mut actors = ["joe", "writer", "later"].map(|name| definition(name, Kind::Named)).to_vec();
    actors.push(timed);
    register(&mut client, actors).await;
    let all = json!({ "catch_up": "all", "overlap": "allow" });
    create(&mut client, "tick", "joe", all).await;
    for after in [Duration::from_secs(10), Duration::from_secs(20)] {
        let at = Duration::from_micros(SystemClock.now().0) + after;
        let scheduled_to = i64::try_from(at.as_millis()).unwrap();
        let later = InvocationRequest { scheduled_to, ..call("later", ADD) };
        assert_eq!(client.invoke(&later).await.unwrap().0, 200);
    }

    until_runs(&mut client, "tick", 2).await;
    merge(&mut client, directory.path()).await;
    check(&mut client).await;
    until_more(&mut client, "later", 0).await;

    proxy.kill().await;
    (proxy, client) = start(&host, directory.path()).await;
    check(&mut client).await;
    merge(&mut client, directory.path()).await;
    check(&mut client).await;
    until_more(&mut client, "later", 1).await;
    let found = paused(&mut client, "tick").await;
    let none = json!(0);
    assert_eq!((&found["failed"], &found["missed"], &found["skipped"]), (&none, &none, &none));
    assert_eq!(found["runs"], json!(get(&mut client, "joe").await), "each run counts once");
    assert_eq!(get(&mut client, "later").await, 2, "calls of {SYSTEM} for a later time");
    assert!(proxy.terminate(PATIENCE).await.success());
}
