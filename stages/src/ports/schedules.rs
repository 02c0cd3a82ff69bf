//! Schedules: the table of schedules of a store.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::history::Page;
use crate::schedules::{ScheduleKey, ScheduleRow};

/// Keeps schedules. Futures are owned. Writes of one schedule do not overlap.
pub trait ScheduleStore: Debug + Send + Sync + 'static {
    /// Durably writes a schedule; one with the same key is replaced.
    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Returns a schedule.
    fn schedule(
        &self,
        key: &ScheduleKey,
    ) -> BoxFuture<'static, Result<Option<ScheduleRow>, StoreError>>;

    /// Returns schedules: a page of at most `limit`, fewer when they are large, starting after `after`. Those of one system
    /// follow each other, the first one after an empty name. The store chooses the order, and keeps it.
    fn schedules(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<ScheduleRow>, StoreError>>;

    /// Durably removes a schedule. A missing one is no error.
    fn remove_schedule(&self, key: &ScheduleKey) -> BoxFuture<'static, Result<(), StoreError>>;
}
