//! A keyspace of its own for each test, on the server that `./test cql` starts.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidegate::store::{Consistency, CqlOptions, Replication, Vault};

/// Where the server is.
#[allow(clippy::disallowed_methods, reason = "a test is told where its server is")]
pub(crate) fn address() -> String {
    let address = std::env::var("TIDEGATE_TEST_CQL");
    address.expect(
        "TIDEGATE_TEST_CQL must say where a CQL server listens (host:port): `./test cql` sets it",
    )
}

/// A keyspace that is dropped with this value.
#[derive(Debug)]
pub(crate) struct Keyspace {
    pub(crate) name: String,
}

impl Keyspace {
    /// A name that no other test has.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("t{}_{number}", std::process::id()) }
    }

    /// Settings of a store in it.
    pub(crate) fn options(&self) -> CqlOptions {
        CqlOptions {
            hosts: vec![address()],
            port: 9042,
            keyspace: self.name.clone(),
            credentials: None,
            tls: None,
            connections: None,
            consistency: Consistency::LocalQuorum,
            replication: Replication::Everywhere(1),
            request_time: Duration::from_secs(20),
            time_to_live: None,
            max_state_bytes: 4 << 20,
            writes: 1_024,
            vault: Arc::new(Vault::default()),
        }
    }
}
