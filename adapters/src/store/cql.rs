//! CQL: states and registrations in ScyllaDB or Apache Cassandra.
//!
//! [`CqlStore`] keeps an actor's latest state in one partition, with one row per owner, and its history in
//! partitions of bounded size: see `docs/decisions/009-revisions-in-cql.md`. Writes of one actor run one
//! after the other, writes of different actors run concurrently. Each write is tried once and its outcome
//! is reported as known. The store reads the newest epoch after a write is acknowledged and before the
//! result is returned: see `docs/decisions/010-fencing-in-cql.md`.

mod book;
mod bucket;
mod concerns;
mod connect;
mod database;
mod due;
mod pauses;
mod schedules;
mod effects;
mod entries;
mod error;
mod fence;
mod filling;
mod heartbeat;
mod history;
mod interval;
mod known;
mod lines;
mod limit;
mod list;
mod migrate;
mod owner;
mod pending;
mod ports;
mod prune;
mod reader;
mod registry;
mod rows;
mod schema;
mod server;
mod shards;
mod shared;
mod stamps;
mod statements;
mod tables;
mod take_over;
mod tls;
mod errors;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use metrics::histogram;
use tidegate_stages::ports::{Clock, StoreError};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use error::CqlOpenError;

use super::access::Access;
use super::cql_options::CqlOptions;
use super::ownership::Ownership;
use super::records::DecodeDefinition;
use crate::metrics::STORE_COMMIT_SECONDS;
use database::Database;
use fence::Fence;
use filling::Filling;
use heartbeat::Heart;
use known::Memory;
use lines::Lines;
use schema::Found;
use shared::{Expiry, Shared};
use stamps::Stamps;
use statements::Statements;

/// How long closing waits for pending writes.
const CLOSING: Duration = Duration::from_secs(30);
/// How often the newest owner is read, even when nothing is written.
const WATCH: Duration = Duration::from_secs(2);
/// Longest time to live that the databases accept, in seconds.
const LONGEST_TTL: i32 = 20 * 365 * 24 * 3_600;
/// How much longer a bucket's index rows live than its last revision, in seconds.
const INDEX_TTL: i32 = 60;

/// States and registrations in a cluster; made by [`open`](CqlStore::open), ended by [`close`](CqlStore::close).
///
/// Implements the ports [`StateStore`](tidegate_stages::ports::StateStore) and
/// [`Registry`](tidegate_stages::ports::Registry). Clones are the same store.
#[derive(Debug, Clone)]
pub struct CqlStore {
    shared: Arc<Shared>,
    lines: Lines,
    /// Ends the watch and the heartbeat.
    ended: CancellationToken,
    _end_when_dropped: Arc<DropGuard>,
}

impl CqlStore {
    /// As [`open_to`](Self::open_to) with [`Access::Create`].
    ///
    /// # Errors
    /// See [`CqlOpenError`].
    pub async fn open(
        options: &CqlOptions,
        clock: Arc<dyn Clock>,
        decode: DecodeDefinition,
    ) -> Result<Self, CqlOpenError> {
        Self::open_to(Access::Create, options, clock, decode).await
    }

    /// Connects and checks the version of keyspace and tables.
    ///
    /// # Errors
    /// See [`CqlOpenError`].
    pub async fn open_to(
        access: Access,
        options: &CqlOptions,
        clock: Arc<dyn Clock>,
        decode: DecodeDefinition,
    ) -> Result<Self, CqlOpenError> {
        let session = connect::session(options).await?;
        let limit = limit::of_write(&session, options).await?;
        let found = schema::prepare(&session, options, access).await?;
        // Boxed: it holds all statements.
        let cql = Box::pin(Statements::prepare(&session, options)).await?;
        let database = Arc::new(Database::new(session, cql));
        let addresses = || options.addresses().join(", ");
        let failed = |error: StoreError| CqlOpenError::Request {
            addresses: addresses(),
            reason: error.to_string(),
        };
        let epoch = fence::read(&database).await.map_err(failed)?;
        let ceiling = fence::former_ceiling(&database).await.map_err(failed)?;
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let shared = Arc::new(Shared {
            stamps: Stamps::new(clock, ceiling),
            fence: Arc::new(Fence::new(
                options.consistency.of_claims(),
                epoch,
                options.ownership.clone(),
            )),
            memory: Memory::new(),
            book: tokio::sync::Mutex::default(),
            filling: Filling::default(),
            writes: Semaphore::new(options.writes.clamp(1, Semaphore::MAX_PERMITS)),
            tasks: tasks.clone(),
            vault: options.vault.clone(),
            limit,
            expiry: expiry(options.time_to_live),
            decode,
            commit_seconds: histogram!(STORE_COMMIT_SECONDS),
            heart: Heart::default(),
            closing: CancellationToken::new(),
            database,
        });
        if found == Found::Former {
            // Boxed: it is rare and large.
            let migrated = Box::pin(shared.migrate(options)).await;
            migrated.map_err(|error| CqlOpenError::Migration {
                keyspace: options.keyspace_name(),
                reason: error.to_string(),
            })?;
        }
        let lines = Lines::new(tasks.clone());
        if access == Access::Read {
            // All writes go through the lines.
            lines.close();
        } else {
            shared.try_expiry().await?;
        }
        info!(
            addresses = addresses(),
            keyspace = options.keyspace_name(),
            limit,
            "database opened"
        );
        tasks.spawn(watch(shared.clone(), ended.clone()));
        let end_when_dropped = Arc::new(ended.clone().drop_guard());
        Ok(Self { shared, lines, ended, _end_when_dropped: end_when_dropped })
    }

    /// Writes what waits, then clears the heartbeat; later calls are refused.
    ///
    /// # Errors
    /// When closing takes longer than 30 s; it continues in the background.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.lines.close();
        self.shared.closing.cancel();
        self.shared.tasks.close();
        if timeout(CLOSING, self.shared.tasks.wait()).await.is_err() {
            return Err(StoreError::Unavailable(format!("not closed within {CLOSING:?}")));
        }
        self.shared.end_heartbeat(&self.ended).await;
        Ok(())
    }

    /// Whether this store is still the owner of the keyspace.
    pub fn ownership(&self) -> Ownership {
        self.shared.fence.ownership().clone()
    }

    /// `false` once all requests have failed for 5 s, or a later owner has claimed the database.
    pub fn is_healthy(&self) -> bool {
        self.shared.check_open().is_ok()
            && self.shared.database.is_healthy()
            && !self.shared.fence.is_fenced()
    }
}

impl Shared {
    /// Checks that the database accepts rows that live as long as revisions do; some databases have a
    /// latest date.
    async fn try_expiry(&self) -> Result<(), CqlOpenError> {
        let seconds = self.expiry.index;
        if seconds == 0 {
            return Ok(());
        }
        let refused =
            |error: StoreError| CqlOpenError::Retention { seconds, reason: error.to_string() };
        let stamp = self.stamp().await.map_err(refused)?;
        let values = ("expiry", i64::from(seconds), seconds);
        self.database.write(&self.database.cql.put_number, values, stamp).await.map_err(refused)
    }
}

/// Reads the newest owner at intervals: an idle store learns of a later owner, and a store whose requests
/// failed notices that the database works again.
async fn watch(shared: Arc<Shared>, ended: CancellationToken) {
    let looking = async {
        loop {
            sleep(WATCH).await;
            let was_failing = shared.database.is_failing();
            match shared.look().await {
                Ok(()) if was_failing => info!("the database answers again"),
                Err(error) if !was_failing => warn!(%error, "the database does not answer"),
                _ => {}
            }
        }
    };
    tokio::select! {
        () = looking => {}
        () = shared.closing.cancelled() => {}
        () = ended.cancelled() => {}
    }
}

fn expiry(time_to_live: Option<Duration>) -> Expiry {
    let Some(time_to_live) = time_to_live else { return Expiry { revisions: 0, index: 0 } };
    let seconds = time_to_live.as_secs() + u64::from(time_to_live.subsec_nanos() > 0);
    let longest = LONGEST_TTL - INDEX_TTL;
    let revisions = i32::try_from(seconds).unwrap_or(longest).clamp(1, longest);
    Expiry { revisions, index: revisions + INDEX_TTL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_live_at_least_as_long_as_is_asked() {
        let of = |time| expiry(Some(time));
        assert_eq!(expiry(None), Expiry { revisions: 0, index: 0 });
        assert_eq!(of(Duration::from_millis(1)), Expiry { revisions: 1, index: 61 });
        assert_eq!(of(Duration::from_secs(90)), Expiry { revisions: 90, index: 150 });
        let longest = of(Duration::from_secs(1 << 40));
        assert_eq!(longest.index, LONGEST_TTL);
    }
}
