//! Schedules: the table of schedules.

use std::ops::Bound;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tidegate_stages::history::Page;
use tidegate_stages::ports::{ScheduleStore, StoreError};
use tidegate_stages::schedules::{ScheduleKey, ScheduleRow};

use super::damage::ReadError;
use super::engine::{Engine, Op, Space};
use super::reader::{malformed, page, unreadable};
use super::{EmbeddedStore, keys};
use crate::store::records;

impl ScheduleStore for EmbeddedStore {
    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'static, Result<(), StoreError>> {
        let key = keys::schedule(&row.key);
        let value = records::encode_schedule(row, &self.shared.options.vault);
        self.apply_all(key.map(|key| vec![Op::put(Space::Current, key, value)]))
    }

    fn schedule(
        &self,
        key: &ScheduleKey,
    ) -> BoxFuture<'static, Result<Option<ScheduleRow>, StoreError>> {
        match keys::schedule(key) {
            Ok(key) => self.read(move |engine| {
                let value = engine.current.get(&key).map_err(|error| engine.damage(&error))?;
                value.map(|value| decode(engine, &key, &value)).transpose()
            }),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn schedules(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<ScheduleRow>, StoreError>> {
        match after.map(keys::schedule).transpose() {
            Ok(after) => self.read(move |engine| {
                let first =
                    after.map_or_else(|| Bound::Included(vec![keys::SCHEDULE]), Bound::Excluded);
                let range = (first, Bound::Excluded(vec![keys::SCHEDULE + 1]));
                page(engine, range, limit, ScheduleRow::bytes, |key, value| {
                    decode(engine, key, value)
                })
            }),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn remove_schedule(&self, key: &ScheduleKey) -> BoxFuture<'static, Result<(), StoreError>> {
        self.apply_all(keys::schedule(key).map(|key| vec![Op::remove(Space::Current, key)]))
    }
}

fn decode(engine: &Engine, key: &[u8], value: &[u8]) -> Result<ScheduleRow, ReadError> {
    let key = keys::parse_schedule(key);
    let key = key.ok_or_else(|| malformed(engine, "a key of a schedule", "its parts"))?;
    let row = records::decode_schedule(key, value, &engine.vault);
    row.map_err(|error| unreadable(engine, "a schedule", error))
}
