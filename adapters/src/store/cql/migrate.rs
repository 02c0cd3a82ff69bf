//! Migrate: brings the content of schema 1 into schema 2.
//!
//! States and histories stay where they are: `heads` got columns and kinds of rows. What is registered moves to new
//! partitions. The version is written when all of it is there, so an interrupted migration starts again. It copies what
//! it finds, and what an earlier one copied counts until it is done: that one may be slow and not dead, and end with the
//! version written and the former table gone. The former table is removed last.

use bytes::Bytes;
use scylla::response::PagingState;
use tidegate_stages::ports::StoreError;
use tracing::{info, warn};

use super::book::{Book, Entry, Slot};
use super::database::{Changes, Rows};
use super::errors::of_read;
use super::rows::signed;
use super::schema::{SCHEMA, VERSION};
use super::shared::Shared;
use super::tables::OLD_REGISTRY;
use crate::store::cql_options::CqlOptions;

/// Entries in one page.
const PAGE: usize = 512;
/// Number of the change that has all entries.
const CHANGE: i64 = 1;

impl Shared {
    /// Migrates the keyspace.
    ///
    /// # Errors
    /// When a request fails. The next start begins again; nothing is lost.
    pub(super) async fn migrate(&self, options: &CqlOptions) -> Result<(), StoreError> {
        let (database, keyspace) = (&self.database, options.keyspace_name());
        info!(keyspace, to = VERSION, "migrating the keyspace");
        // A former Tidegate that still runs acknowledges nothing from here on.
        let epoch = signed(self.claim(0).await?)?;
        let version: Option<(Option<i64>,)> =
            database.read_one(&database.cql.number, (SCHEMA,)).await?;
        if version.is_some_and(|(version,)| version == Some(VERSION)) {
            info!(keyspace, "another start has migrated the keyspace");
            return Ok(());
        }
        let count = self.copy_registry(epoch, options).await?;
        // What an interrupted migration copied may be out of date, so it ceases to count in the same write.
        let mut flip = Changes::default();
        flip.add(&database.cql.drop_visible, (epoch,));
        flip.add(&database.cql.put_visible, (epoch, CHANGE));
        self.commit(flip, self.stamp().await?).await?;
        *self.book.lock().await = Book::new(epoch, CHANGE);
        self.look().await?;
        self.fence.check_own()?;
        let version = (SCHEMA, VERSION, 0);
        database.write(&database.cql.put_number, version, self.stamp().await?).await?;
        info!(keyspace, registered = count, "the keyspace is migrated");
        let drop = format!("DROP TABLE IF EXISTS \"{keyspace}\".{OLD_REGISTRY}");
        if let Err(error) = database.session.query_unpaged(drop, ()).await {
            warn!(%error, "the former registry is still there: the next start removes it");
        }
        Ok(())
    }

    async fn copy_registry(&self, epoch: i64, options: &CqlOptions) -> Result<usize, StoreError> {
        let keyspace = options.keyspace_name();
        let query = format!("SELECT system, name, record FROM \"{keyspace}\".{OLD_REGISTRY}");
        // Boxed: the driver's future is large.
        let former = Box::pin(self.database.session.prepare(query)).await;
        let mut former = former.map_err(of_read)?;
        former.set_consistency(options.consistency.of_reads());
        let (mut count, mut from) = (0, PagingState::start());
        loop {
            let page = self.database.read_page(&former, (), PAGE, from).await?;
            let Rows::<(String, String, Option<Bytes>)> { rows, next } = page;
            let entry = |(system, name, record): (_, _, Option<Bytes>)| {
                (Slot::new(system, name), Some(Vec::from(record.unwrap_or_default())))
            };
            let mut entries: Vec<Entry> = rows.into_iter().map(entry).collect();
            entries.sort_unstable();
            count += entries.len();
            self.put_entries(epoch, CHANGE, &entries).await?;
            match next {
                Some(next) => from = next,
                None => return Ok(count),
            }
        }
    }
}
