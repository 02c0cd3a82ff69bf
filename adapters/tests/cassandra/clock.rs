//! Clock: write timestamps decide which of two writes is later; here their clock is set back.

#[path = "../support/clock.rs"]
mod story;

use std::sync::Arc;
use std::time::Duration;

use tidegate::store::{Consistency, CqlOptions, CqlStore, NewestEpoch, Replication, Vault};
use tidegate_stages::ports::{Registry, StateStore};
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::registries::plain_definition;

use crate::cassandra::{keyspace, told};

struct Cql {
    store: CqlStore,
    clock: Arc<SetClock>,
    options: CqlOptions,
}

async fn open(options: CqlOptions, clock: Arc<SetClock>) -> Cql {
    let store = CqlStore::open(&options, clock.clone(), plain_definition).await;
    Cql { store: store.expect("it opens"), clock, options }
}

impl Subject for Cql {
    fn states(&self) -> Arc<dyn StateStore> {
        Arc::new(self.store.clone())
    }
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.store.clone())
    }
    async fn reopen(self) -> Self {
        self.store.close().await.expect("it closes");
        open(self.options, self.clock).await
    }
}

#[tokio::test]
async fn histories_keep_their_order_when_the_clock_is_set_back() {
    let options = CqlOptions {
        hosts: vec![told("TIDEGATE_TEST_CQL")],
        port: 9042,
        keyspace: keyspace(),
        credentials: None,
        tls: None,
        connections: None,
        consistency: Consistency::LocalQuorum,
        replication: Replication::Everywhere(1),
        request_time: Duration::from_secs(20),
        time_to_live: None,
        max_state_bytes: 1 << 20,
        writes: 64,
        vault: Arc::new(Vault::default()),
        ownership: Arc::new(NewestEpoch),
    };
    let clock = Arc::new(SetClock::default());
    let subject = open(options, clock.clone()).await;
    story::histories_keep_their_order_when_the_clock_is_set_back(subject, clock).await;
}
