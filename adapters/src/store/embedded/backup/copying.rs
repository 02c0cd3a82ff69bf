//! Copying: reads a snapshot of the engine in pages.

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use fjall::{Readable, Snapshot};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::super::EmbeddedStore;
use super::super::damage::Damage;
use super::super::engine::{Engine, Space};
use super::super::journal::COMMIT_KEY;
use super::totals::{Sum, Totals, end};
use super::{BACKUP_PAGE_BYTES, BackupError, Begun, PATIENCE};

/// A copy that is being read; see the [module](self).
pub(crate) struct Copying {
    id: u64,
    snapshot: Snapshot,
    /// Where the next page begins.
    space: Space,
    after: Option<Vec<u8>>,
    sum: Sum,
    asked: Instant,
}

impl fmt::Debug for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copying").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Copying {
    /// Everything as it is now.
    pub(crate) fn of(engine: &Engine, id: u64) -> Self {
        let snapshot = engine.snapshot();
        Self {
            id,
            snapshot,
            space: Space::Current,
            after: None,
            sum: Sum::new(),
            asked: Instant::now(),
        }
    }

    /// Whether nobody has asked for a page for too long.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.asked.elapsed() > PATIENCE
    }

    /// Returns how many bytes were read.
    pub(super) fn bytes(&self) -> u64 {
        self.sum.bytes()
    }

    /// Appends the next entries to `page`; returns the totals when these are the last.
    ///
    /// The number of the newest commit is left out: each store counts its own commits.
    pub(super) fn next(
        &mut self,
        engine: &Engine,
        page: &mut Vec<u8>,
    ) -> Result<Option<Totals>, Damage> {
        loop {
            let keyspace = match self.space {
                Space::Current => &engine.current,
                Space::History => &engine.history,
            };
            let first = self.after.take().map_or(Bound::Unbounded, Bound::Excluded);
            for entry in self.snapshot.range::<Vec<u8>, _>(keyspace, (first, Bound::Unbounded)) {
                let (key, value) = entry.into_inner().map_err(|error| engine.damage(&error))?;
                if self.space == Space::Current && &*key == COMMIT_KEY {
                    continue;
                }
                self.sum.put(page, self.space, &key, &value);
                if page.len() >= BACKUP_PAGE_BYTES {
                    self.after = Some(key.to_vec());
                    return Ok(None);
                }
            }
            match self.space {
                Space::Current => self.space = Space::History,
                Space::History => return Ok(Some(self.sum.totals())),
            }
        }
    }
}

impl EmbeddedStore {
    /// Begins a copy of everything as it is now. Only one is read at a time.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn begin_backup(&self) -> BoxFuture<'static, Result<Begun, BackupError>> {
        let begun = self.read(|engine| {
            let mut copying = engine.copying.lock();
            if copying.as_ref().is_some_and(|copying| !copying.is_forgotten()) {
                return Ok(None);
            }
            let id = rand::random();
            *copying = Some(Copying::of(engine, id));
            Ok(Some(Begun { id, about_bytes: engine.about_bytes() }))
        });
        Box::pin(async { begun.await?.ok_or(BackupError::Running) })
    }

    /// Returns the next [page](super::Page) of a copy. The copy has ended when its last page was read.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub fn backup_page(&self, id: u64) -> BoxFuture<'static, Result<Bytes, BackupError>> {
        let page = self.read(move |engine| {
            let mut running = engine.copying.lock();
            let Some(copying) = running.as_mut().filter(|copying| copying.id == id) else {
                return Ok(None);
            };
            let mut page = Vec::with_capacity(BACKUP_PAGE_BYTES + BACKUP_PAGE_BYTES / 8);
            if let Some(totals) = copying.next(engine, &mut page)? {
                end(&mut page, totals);
                *running = None;
            } else {
                copying.asked = Instant::now();
            }
            Ok(Some(Bytes::from(page)))
        });
        Box::pin(async { page.await?.ok_or(BackupError::Gone) })
    }
}
