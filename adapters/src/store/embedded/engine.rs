//! Engine: fjall, opened only after its files are checked.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice, Snapshot,
};
use parking_lot::Mutex;

use super::backup::Copying;
use super::damage::Damage;
use super::journal::{self, COMMIT_KEY, commit_number, commit_record};
use super::mark::Acknowledged;
use super::{OpenError, Options, manifest};
use crate::store::vault::Vault;

const CURRENT: &str = "current";
const HISTORY: &str = "history";
/// Near this size the engine seals a journal, then flushes the memtables that keep the oldest journal
/// (fjall's minimum).
const JOURNAL_BYTES: u64 = 64 << 20;
/// At these counts the engine itself would block a commit, forever if its workers have died.
const MAX_SEALED_MEMTABLES: usize = 3;
const MAX_YOUNG_TABLES: usize = 24;
/// At these counts a commit that is larger than a memtable waits. It becomes a memtable of its size; and a compaction holds
/// one block of each young table, which is as large as the value in it.
const FEW_SEALED_MEMTABLES: usize = 1;
const FEW_YOUNG_TABLES: usize = 4;

/// The two keyspaces: every commit writes `current`, appended revisions go to `history`.
///
/// Heads are small, hot and overwritten; history only grows. Two keyspaces keep their compactions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Space {
    Current,
    History,
}

/// One change of a commit; `value` is `None` for a removal. Already in the engine's format: the caller
/// converts it, not the writer's single thread.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) space: Space,
    pub(super) key: Slice,
    pub(super) value: Option<Slice>,
}

impl Op {
    pub(super) fn put(space: Space, key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { space, key: key.into(), value: Some(value.into()) }
    }

    pub(super) fn remove(space: Space, key: Vec<u8>) -> Self {
        Self { space, key: key.into(), value: None }
    }

    pub(super) fn removes(&self) -> bool {
        self.value.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// Whether the engine flushes and merges by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Background {
    On,
    /// Nothing is written but commits, and what [`flush`](Engine::flush) and [`reclaim`](super::reclaim) write: a
    /// merge that fails for want of space takes all of it and ends the engine.
    Off,
}

pub(super) struct Engine {
    pub(super) db: Database,
    pub(super) current: Keyspace,
    pub(super) history: Keyspace,
    /// Opens sealed values that are read.
    pub(super) vault: Arc<Vault>,
    /// The backup that is being read.
    pub(super) copying: Mutex<Option<Copying>>,
    pub(super) background: Background,
    dir: PathBuf,
    pub(super) memtable_bytes: u64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Whether the engine can take a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// Flushing or compaction must catch up first.
    Behind,
    /// A background task failed; the engine refuses writes until it is reopened.
    Broken,
}

fn database(dir: &Path, options: &Options, background: Background) -> fjall::Result<Database> {
    let workers = match background {
        Background::On => 2,
        Background::Off => 0,
    };
    Database::builder(dir)
        .cache_size(options.cache_bytes)
        .max_cached_files(Some(options.files))
        .max_journaling_size(JOURNAL_BYTES)
        // The checked form refuses zero.
        .worker_threads_unchecked(workers)
        .manual_journal_persist(true)
        .open()
}

fn keyspace(db: &Database, name: &str, options: &Options) -> fjall::Result<Keyspace> {
    let memtable_bytes = options.memtable_bytes;
    db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes))
}

/// Runs a read inside the engine and turns a panic into [`Damage`]: on some damage the engine panics.
pub(super) fn guarded<T, E: From<Damage>>(
    dir: &Path,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
        Err(Damage::new(dir, format!("the engine gave up: {text}")).into())
    })
}

impl Engine {
    /// Creates an empty engine in a directory that does not exist.
    pub(super) fn create(dir: &Path, options: &Options) -> Result<(), OpenError> {
        let engine = |error: fjall::Error| {
            let reason = error.to_string();
            OpenError::Engine { dir: dir.into(), reason }
        };
        let db = database(dir, options, Background::On).map_err(engine)?;
        // The order matters: `manifest` knows the keyspaces by their numbers.
        keyspace(&db, CURRENT, options).map_err(engine)?;
        keyspace(&db, HISTORY, options).map_err(engine)?;
        db.persist(PersistMode::SyncAll).map_err(engine)
    }

    /// Checks the files, cuts off a broken tail and commits beyond `limit`, then opens the engine; returns
    /// the newest commit.
    pub(super) fn open(
        dir: &Path,
        options: &Options,
        background: Background,
        acknowledged: Acknowledged,
        limit: u64,
    ) -> Result<(Self, u64), Damage> {
        manifest::check(dir)?;
        let found = journal::check(dir, acknowledged, limit)?;
        if let Some((path, at)) = &found.cut {
            tracing::info!(journal = %path.display(), at, "cutting off an unfinished commit");
            journal::cut(path, *at).map_err(|error| Damage::io(path, &error))?;
        }
        guarded(dir, || Self::open_checked(dir, options, background, acknowledged, found.last))
    }

    fn open_checked(
        dir: &Path,
        options: &Options,
        background: Background,
        acknowledged: Acknowledged,
        last: Option<u64>,
    ) -> Result<(Self, u64), Damage> {
        let damage = |error: fjall::Error| Damage::new(dir, error.to_string());
        let db = database(dir, options, background).map_err(damage)?;
        for name in [CURRENT, HISTORY] {
            if !db.keyspace_exists(name) {
                return Err(Damage::new(dir, format!("the keyspace `{name}` is gone")));
            }
        }
        let current = keyspace(&db, CURRENT, options).map_err(damage)?;
        let history = keyspace(&db, HISTORY, options).map_err(damage)?;
        // Writes of the last process that were not synced are visible now. Readers may return them, so they
        // must be durable.
        db.persist(PersistMode::SyncAll).map_err(damage)?;
        let newest = current.get(COMMIT_KEY).map_err(damage)?;
        let newest = match newest {
            None => 0,
            Some(value) => commit_number(&value)
                .ok_or_else(|| Damage::new(dir, "the newest commit's record is malformed"))?,
        };
        if newest < acknowledged.commit || last.is_some_and(|last| last != newest) {
            let acknowledged = acknowledged.commit;
            let what =
                format!("commit {acknowledged} was acknowledged, the newest found is {newest}");
            return Err(Damage::new(dir, what));
        }
        let (vault, memtable_bytes) = (options.vault.clone(), options.memtable_bytes);
        let copying = Mutex::new(None);
        let dir = dir.into();
        let engine = Self { db, current, history, vault, copying, background, dir, memtable_bytes };
        Ok((engine, newest))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Turns an engine's read error into [`Damage`].
    pub(super) fn damage(&self, error: &fjall::Error) -> Damage {
        Damage::new(&self.dir, error.to_string())
    }

    /// Whether a commit of so many bytes would succeed without blocking inside the engine. A large one
    /// waits until the engine is hardly behind.
    pub(super) fn readiness(&self, bytes: usize) -> Readiness {
        // Writes nothing, because nothing is buffered between commits; fails if the engine's workers have
        // failed.
        if self.db.persist(PersistMode::Buffer).is_err() {
            return Readiness::Broken;
        }
        let is_large = bytes as u64 > self.memtable_bytes;
        let (sealed, young) = if is_large {
            (FEW_SEALED_MEMTABLES, FEW_YOUNG_TABLES)
        } else {
            (MAX_SEALED_MEMTABLES, MAX_YOUNG_TABLES)
        };
        let is_behind = [&self.current, &self.history].into_iter().any(|space| {
            space.sealed_memtable_count() >= sealed || space.l0_table_count() >= young
        });
        if is_behind { Readiness::Behind } else { Readiness::Ready }
    }

    /// Applies changes durably as commit `number`; returns the next sequence number.
    pub(super) fn commit(&self, number: u64, ops: Vec<Op>) -> fjall::Result<u64> {
        let sync = if super::SYNCED { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), ops.len() + 1)
            .durability(Some(sync));
        batch.insert(&self.current, COMMIT_KEY, commit_record(number, self.db.seqno()));
        for Op { space, key, value } in ops {
            let space = match space {
                Space::Current => &self.current,
                Space::History => &self.history,
            };
            match value {
                Some(value) => batch.insert(space, key, value),
                None => batch.remove(space, key),
            }
        }
        batch.commit()?;
        for space in [&self.current, &self.history] {
            // The engine does so by itself, at the size that was set when the store was created.
            if space.tree.active_memtable().size() > self.memtable_bytes {
                space.rotate_memtable()?;
            }
        }
        Ok(self.db.seqno())
    }

    /// Returns the bytes on disk of the tables of `current` and of `history`.
    pub(super) fn table_bytes(&self) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge; disks have fewer than 2^52 bytes")]
        let bytes = |space: &Keyspace| space.disk_space() as f64;
        (bytes(&self.current), bytes(&self.history))
    }

    /// Everything as it is now. What is overwritten stays on the disk until the snapshot is dropped.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// Returns about how many bytes all entries have.
    pub(super) fn about_bytes(&self) -> u64 {
        let bytes = |space: &Keyspace| space.disk_space() + space.tree.active_memtable().size();
        bytes(&self.current) + bytes(&self.history)
    }

    /// Gives up a backup that nobody reads any more.
    pub(super) fn drop_forgotten_backup(&self) {
        if let Some(mut copying) = self.copying.try_lock() {
            copying.take_if(|copying| copying.is_forgotten());
        }
    }

    /// Whether a backup is being read.
    pub(super) fn is_copied(&self) -> bool {
        self.copying.lock().is_some()
    }

    pub(super) fn next_seqno(&self) -> u64 {
        self.db.seqno()
    }

    /// Makes everything durable.
    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncAll)
    }
}
