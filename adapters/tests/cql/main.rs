//! The CQL store passes the unchanged conformance suite against a real server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod doctor;
mod due;
mod effects;
mod fencing;
mod history;
mod migration;
mod owner;
mod proxy;
mod reading;
mod registry;
mod schedules;
mod sealing;
mod server;
mod store;
mod take_over;
mod wire;

use std::sync::Arc;

use server::Keyspace;
use tidegate::clock::SystemClock;
use tidegate::store::{CqlOpenError, CqlOptions, CqlStore};
use tidegate_stages::ports::{Registry, StateStore};
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::registries::plain_definition;

struct Cql {
    store: CqlStore,
    keyspace: Option<Keyspace>,
}

impl Drop for Cql {
    fn drop(&mut self) {
        if let Some(keyspace) = self.keyspace.take() {
            keyspace.give_back();
        }
    }
}

async fn open() -> Cql {
    let keyspace = Keyspace::take().await;
    Cql { store: open_in(&keyspace).await, keyspace: Some(keyspace) }
}

async fn open_in(keyspace: &Keyspace) -> CqlStore {
    open_with(&keyspace.options()).await.unwrap()
}

async fn open_with(options: &CqlOptions) -> Result<CqlStore, CqlOpenError> {
    CqlStore::open(options, Arc::new(SystemClock), plain_definition).await
}

impl Cql {
    /// The settings that it was opened with.
    fn options(&self) -> CqlOptions {
        self.keyspace.as_ref().unwrap().options()
    }

    /// Its keyspace.
    fn name(&self) -> &str {
        &self.keyspace.as_ref().unwrap().name
    }
}

impl Subject for Cql {
    fn states(&self) -> Arc<dyn StateStore> {
        Arc::new(self.store.clone())
    }
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.store.clone())
    }
    async fn reopen(mut self) -> Self {
        self.store.close().await.unwrap();
        self.store = open_in(self.keyspace.as_ref().unwrap()).await;
        self
    }
}

tidegate_stages::store_conformance!(open);
