//! The built binary is killed between two writes that belong together.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::server::{self, Keyspace};
use crate::support::client::Client;
use crate::support::counter::{Added, Counter, add, definition, get, mark, register};
use crate::support::host::Host;
use crate::support::proto::Kind;
use crate::support::proxy::Proxy;
use crate::wire::{EXECUTE, Wire};

const END_LIMIT: Duration = Duration::from_mins(1);

fn settings<'a>(
    keyspace: &'a str,
    address: &'a str,
    host_port: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let mut settings = server::settings(keyspace, address);
    settings.extend([
        ("TIDEGATE_DATABASE_REPLICATION", "1"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", host_port),
    ]);
    settings
}

/// The numbers of all revisions in a keyspace.
async fn revisions(keyspace: &str) -> Vec<i64> {
    let query = format!("SELECT revision FROM {keyspace}.revisions");
    let found = server::session().await.query_unpaged(query, ()).await.unwrap();
    let found = found.into_rows_result().unwrap();
    found.rows::<(i64,)>().unwrap().map(|row| row.unwrap().0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_revision_of_a_deactivation_that_a_kill_kept_away_is_appended_again() {
    let (keyspace, wire) = (Keyspace::take().await, Wire::new().await);
    let host = Host::start(Arc::new(Counter::default()));
    let (port, address) = (host.port(), server::address());
    let proxy = Proxy::start(&settings(&keyspace.name, &wire.address, &port)).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    for value in 1..=2 {
        let added = add(&mut client, "joe").await.unwrap();
        assert!(matches!(added, Added::To(reached) if reached == value), "{added:?}");
    }
    drop(client);
    assert!(revisions(&keyspace.name).await.is_empty());
    // The head and the index of the history are a batch, the revision is a write of its own.
    wire.hold(EXECUTE, &mark("joe", 2));
    proxy.signal(Signal::TERM);
    wire.holds(1).await;
    proxy.kill().await;
    assert!(revisions(&keyspace.name).await.is_empty());

    let proxy = Proxy::start(&settings(&keyspace.name, &address, &port)).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(get(&mut client, "joe").await, 2);
    assert_eq!(revisions(&keyspace.name).await, [1]);
    drop(client);
    assert!(proxy.terminate(END_LIMIT).await.success());
    assert_eq!(revisions(&keyspace.name).await, [1], "the same content is no new revision");
    keyspace.give_back();
}
