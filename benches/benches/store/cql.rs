//! CQL: the store in ScyllaDB or Cassandra, beside the bare driver.

use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::SystemClock;
use tidegate::store::{Consistency, CqlOptions, CqlStore, NewestEpoch, Replication, Vault};
use tidegate::wire;
use tidegate_benches::harness::Bench;
use tidegate_benches::store::bare_cql::{BareCql, drop_keyspace};
use tidegate_benches::store::ported::Ported;
use tidegate_benches::store::workload::Workload;
use tidegate_stages::ports::StateStore;

use super::histories;
use super::pairs::against_each_other;

/// Settings of a store in a keyspace that only this process uses.
fn options(address: &str, what: &str) -> CqlOptions {
    CqlOptions {
        hosts: vec![address.into()],
        port: 9042,
        keyspace: format!("bench_{what}_{}", std::process::id()),
        credentials: None,
        tls: None,
        connections: None,
        consistency: Consistency::LocalQuorum,
        replication: Replication::Everywhere(1),
        request_time: Duration::from_secs(30),
        time_to_live: None,
        max_state_bytes: 4 << 20,
        writes: 1_024,
        vault: Arc::new(Vault::default()),
        ownership: Arc::new(NewestEpoch),
    }
}

async fn open(options: &CqlOptions) -> CqlStore {
    let opened = Box::pin(CqlStore::open(options, Arc::new(SystemClock), wire::definition)).await;
    opened.expect("the store opens")
}

/// Saves and loads.
pub(crate) fn pairs(bench: &Bench, address: &str) {
    let (raw, ours) = (options(address, "raw"), options(address, "ours"));
    let at = address.to_owned();
    let keyspaces = [raw.keyspace.clone(), ours.keyspace.clone()];
    let (engine, store) = bench.block_on(async move {
        // Creates the tables.
        open(&raw).await.close().await.expect("the store closes");
        (BareCql::open(&at, &raw.keyspace).await, open(&ours).await)
    });
    let engine = bench.block_on(Workload::gather(engine));
    let opened = store.clone();
    let workload = bench
        .block_on(async move { Workload::gather(Ported::claim(Arc::new(opened)).await).await });
    against_each_other(bench, &engine, &workload);
    bench.block_on(engine.verify());
    bench.block_on(workload.verify());
    finish(bench, address, store, keyspaces);
}

/// A long history.
pub(crate) fn history(bench: &Bench, address: &str) {
    let revisions = if bench.options().quick { 10_000 } else { 1_000_000 };
    let options = options(address, "history");
    let keyspace = options.keyspace.clone();
    let store = bench.block_on(async move { open(&options).await });
    let port: Arc<dyn StateStore> = Arc::new(store.clone());
    histories::fill(bench, &port, revisions);
    histories::read(bench, &port, revisions);
    finish(bench, address, store, [keyspace]);
}

fn finish<const N: usize>(bench: &Bench, address: &str, store: CqlStore, keyspaces: [String; N]) {
    let at = address.to_owned();
    bench.block_on(async move {
        store.close().await.expect("the store closes");
        for keyspace in keyspaces {
            drop_keyspace(&at, &keyspace).await;
        }
    });
}
