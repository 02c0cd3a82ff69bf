//! Due: the table of due work of a store.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::due::{DueEntry, DueKey};
use crate::history::Page;

/// Keeps due work, ordered by time. Futures are owned.
pub trait DueStore: Debug + Send + Sync + 'static {
    /// Durably adds entries; one with the same key is replaced. Times are not before the current minute.
    fn put_due(&self, entries: Vec<DueEntry>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Returns entries in the order of their times: a page of at most `limit`, fewer when entries are large, starting after
    /// `after`. The store chooses the order of entries with the same time, and keeps it.
    fn due(
        &self,
        after: Option<&DueKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<DueEntry>, StoreError>>;

    /// Durably removes entries. A missing one is no error.
    fn remove_due(&self, keys: Vec<DueKey>) -> BoxFuture<'static, Result<(), StoreError>>;
}
