//! The store in a CQL server passes the conformance suite, unchanged, against a real one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "cql_support/mod.rs"]
mod cql_support;

use std::sync::Arc;

use cql_support::Keyspace;
use tidegate::clock::SystemClock;
use tidegate::store::CqlStore;
use tidegate_stages::ports::{Registry, StateStore};
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::registries::plain_definition;

struct Cql {
    store: CqlStore,
    keyspace: Keyspace,
}

async fn open() -> Cql {
    let keyspace = Keyspace::new();
    Cql { store: open_in(&keyspace).await, keyspace }
}

async fn open_in(keyspace: &Keyspace) -> CqlStore {
    CqlStore::open(&keyspace.options(), Arc::new(SystemClock), plain_definition).await.unwrap()
}

impl Subject for Cql {
    fn states(&self) -> Arc<dyn StateStore> {
        Arc::new(self.store.clone())
    }
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.store.clone())
    }
    async fn reopen(self) -> Self {
        self.store.close().await.unwrap();
        Self { store: open_in(&self.keyspace).await, keyspace: self.keyspace }
    }
}

tidegate_stages::store_conformance!(open);
