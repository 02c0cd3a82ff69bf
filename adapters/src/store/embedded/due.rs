//! Due: the table of due work, ordered by time by its keys.

use std::ops::Bound;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tidegate_stages::due::{DueEntry, DueKey};
use tidegate_stages::history::Page;
use tidegate_stages::ports::{DueStore, StoreError};

use super::damage::ReadError;
use super::engine::{Engine, Op, Space};
use super::queue::Work;
use super::reader::{malformed, page, unreadable};
use super::{EmbeddedStore, keys};
use crate::store::records;

impl DueStore for EmbeddedStore {
    fn put_due(&self, entries: Vec<DueEntry>) -> BoxFuture<'static, Result<(), StoreError>> {
        let vault = &self.shared.options.vault;
        let put = |entry: DueEntry| {
            let value = records::encode_due(&entry.key, entry.record, vault);
            Ok(Op::put(Space::Current, keys::due(&entry.key)?, value))
        };
        self.apply_all(entries.into_iter().map(put).collect())
    }

    fn due(
        &self,
        after: Option<&DueKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<DueEntry>, StoreError>> {
        match after.map(keys::due).transpose() {
            Ok(after) => self.read(move |engine| read(engine, after, limit)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn remove_due(&self, keys: Vec<DueKey>) -> BoxFuture<'static, Result<(), StoreError>> {
        let remove = |key: &DueKey| Ok(Op::remove(Space::Current, keys::due(key)?));
        self.apply_all(keys.iter().map(remove).collect())
    }
}

impl EmbeddedStore {
    /// Writes what belongs together.
    pub(super) fn apply_all(
        &self,
        ops: Result<Vec<Op>, StoreError>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        match ops {
            Ok(ops) if ops.is_empty() => ready(Ok(())).boxed(),
            ops => self.ask(|answer| Ok(Work::Apply(ops?, answer))),
        }
    }
}

/// Returns a page of the table; `after` is the key of the last entry before the page.
fn read(
    engine: &Engine,
    after: Option<Vec<u8>>,
    limit: usize,
) -> Result<Page<DueEntry>, ReadError> {
    let first = after.map_or_else(|| Bound::Included(vec![keys::DUE]), Bound::Excluded);
    let last = Bound::Excluded(vec![keys::DUE + 1]);
    page(engine, (first, last), limit, DueEntry::bytes, |key, value| {
        let key = keys::parse_due(key);
        let key = key.ok_or_else(|| malformed(engine, "a key of due work", "its parts"))?;
        let record = records::decode_due(&key, value, &engine.vault);
        let record = record.map_err(|error| unreadable(engine, "due work", error))?;
        Ok(DueEntry { key, record })
    })
}
