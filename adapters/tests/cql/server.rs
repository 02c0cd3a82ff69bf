//! Gives each test its own keyspace on the server that `./test cql` starts.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tidegate::store::{Consistency, CqlOptions, NewestEpoch, Replication, Vault};
use tokio::sync::OnceCell;

/// Where the server is.
#[allow(clippy::disallowed_methods, reason = "a test is told where its server is")]
pub(crate) fn address() -> String {
    let address = std::env::var("TIDEGATE_TEST_CQL");
    address.expect(
        "TIDEGATE_TEST_CQL must say where a CQL server listens (host:port): `./test cql` sets it",
    )
}

/// Keyspaces that nobody uses now. Making one takes a second, emptying one a tenth of that.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The tables that a store writes. The others have no rows yet.
const WRITTEN: [&str; 12] = [
    "meta",
    "heads",
    "revisions",
    "actors",
    "pending",
    "registrations",
    "visible",
    "members",
    "due",
    "due_minutes",
    "schedules",
    "pauses",
];

/// An empty keyspace, for one test at a time.
#[derive(Debug)]
pub(crate) struct Keyspace {
    pub(crate) name: String,
}

impl Keyspace {
    /// One that no other test has; it need not be there yet.
    pub(crate) async fn take() -> Self {
        static SWEPT: OnceCell<()> = OnceCell::const_new();
        SWEPT.get_or_init(sweep).await;
        let free = FREE.lock().pop();
        let Some(name) = free else { return Self::new() };
        let session = session().await;
        // Also one without rows: deletions of a store whose clock was ahead hide what is written next.
        for table in WRITTEN {
            session.query_unpaged(format!("TRUNCATE {name}.{table}"), ()).await.expect("emptied");
        }
        Self { name }
    }

    /// One that is not there yet.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("t{}_{number}", std::process::id()) }
    }

    /// For the next test.
    pub(crate) fn give_back(self) {
        FREE.lock().push(self.name);
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
            ownership: Arc::new(NewestEpoch),
        }
    }
}

/// A session of the test's own, to look at what the store wrote, or to damage it.
pub(crate) async fn session() -> Session {
    SessionBuilder::new().known_node(address()).build().await.expect("the server is there")
}

/// The tables of a keyspace, in order.
pub(crate) async fn tables(session: &Session, keyspace: &str) -> Vec<String> {
    let query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let found = session.query_unpaged(query, (keyspace,)).await.expect("an answer");
    let found = found.into_rows_result().expect("rows");
    let names = found.rows::<(String,)>().expect("names").map(|row| row.expect("a name").0);
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

/// Drops what earlier runs left: each table costs the server some memory.
async fn sweep() {
    let session = session().await;
    let query = "SELECT keyspace_name FROM system_schema.keyspaces";
    let found = session.query_unpaged(query, ()).await.expect("an answer").into_rows_result();
    let found = found.expect("rows");
    for (name,) in found.rows::<(String,)>().expect("names").map(|row| row.expect("a name")) {
        let process = name.strip_prefix('t').and_then(|rest| rest.split_once('_')).map(|it| it.0);
        let Some(process) = process.filter(|id| id.parse::<u32>().is_ok()) else { continue };
        if !std::path::Path::new("/proc").join(process).exists() {
            let dropped =
                session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {name}"), ()).await;
            dropped.expect("dropped");
        }
    }
}

/// Settings of a proxy, or of a command, that works in a keyspace of the server at `address`.
pub(crate) fn settings<'a>(keyspace: &'a str, address: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("PROXY_DATABASE_TYPE", "scylla"),
        ("PROXY_DATABASE_HOST", address),
        ("PROXY_DATABASE_NAME", keyspace),
        ("TIDEGATE_DATABASE_TIMEOUT", "20s"),
    ]
}
