//! The built binary on a database: acknowledged data is there after a kill, and a failed start reports why.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tidegate_stages::testkit::conformance::Subject;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::server::{self, Keyspace};
use crate::support::client::Client;
use crate::support::counter::{Counter, definition, register};
use crate::support::host::Host;
use crate::support::ledger::Ledger;
use crate::support::proto::Kind;
use crate::support::proxy::{BINARY, Proxy};

/// How often the process is killed.
const ROUNDS: u32 = 4;
/// How many actors are called at once, by one caller each; the first one by some more.
const ACTORS: u32 = 20;
const HOT_CALLERS: usize = 5;
/// What must have happened before a kill counts.
const ACKNOWLEDGED: u32 = 60;
/// How long the load may take to get there, or the process to end.
const LIMIT: Duration = Duration::from_mins(1);

/// Settings of a proxy in a keyspace.
fn settings<'a>(
    keyspace: &'a str,
    address: &'a str,
    host_port: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let mut settings = server::settings(keyspace, address);
    settings.extend([
        ("TIDEGATE_REVISIONS", "every"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", host_port),
    ]);
    settings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_value_is_lost_when_the_proxy_is_killed() {
    let counter = Arc::new(Counter { takes: Duration::from_millis(1), ..Counter::default() });
    let host = Host::start(counter);
    let (keyspace, address, port) = (Keyspace::take().await, server::address(), host.port());
    let settings = settings(&keyspace.name, &address, &port);
    let names: Vec<String> = (0..ACTORS).map(|number| format!("a{number:02}")).collect();
    let mut callers = names.clone();
    callers.extend(std::iter::repeat_n(names[0].clone(), HOT_CALLERS));
    let ledger: Arc<Ledger> = Arc::default();
    let mut proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    register(&mut client, names.iter().map(|name| definition(name, Kind::Named)).collect()).await;
    for round in 0..ROUNDS {
        let before = ledger.acknowledged();
        let load = ledger.load(proxy.address(), &callers);
        let loaded = timeout(LIMIT, async {
            while ledger.acknowledged() < before + ACKNOWLEDGED || ledger.in_flight() < ACTORS / 2 {
                sleep(Duration::from_millis(1)).await;
            }
        });
        loaded.await.expect("the load gets going");
        sleep(Duration::from_millis(rand::rng().random_range(0..150))).await;
        proxy.kill().await;
        let refusals: Vec<_> = load.join_all().await.into_iter().flatten().collect();
        assert!(refusals.is_empty(), "calls were refused with {refusals:?}");
        proxy = Proxy::start(&settings).await;
        ledger.check(proxy.address(), round % 2 == 1).await;
    }
    eprintln!("{ROUNDS} rounds, {} acknowledged", ledger.acknowledged());
    let status = proxy.terminate(LIMIT).await;
    assert_eq!(status.code(), Some(0), "it ends with {status}");
    keyspace.give_back();
}

/// Starts a proxy that must not come up: its exit code and what it says.
async fn refused(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    command
        .arg("serve")
        .env_clear()
        .env("PROXY_HTTP_PORT", "0")
        .env("TIDEGATE_HTTP_ADDRESS", "127.0.0.1")
        .envs(settings.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(LIMIT, command.output()).await.expect("it ends").expect("it starts");
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[tokio::test]
async fn a_proxy_ends_with_65_on_a_later_schema_and_with_69_without_a_database() {
    let subject = crate::open().await;
    let later = format!("INSERT INTO {}.meta (name, number) VALUES ('schema', 7)", subject.name());
    server::session().await.query_unpaged(later, ()).await.unwrap();
    let address = server::address();
    let (code, said) = refused(&settings(subject.name(), &address, "1")).await;
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("schema 7") && said.contains("up to 2"), "{said}");
    let mut nowhere = settings(subject.name(), "127.0.0.1:1", "1");
    nowhere.extend([("PROXY_DATABASE_USERNAME", "joe"), ("PROXY_DATABASE_SECRET", "hunter2")]);
    let (code, said) = refused(&nowhere).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("127.0.0.1:1") && said.contains("PROXY_DATABASE_HOST"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    drop(subject.states());
}
