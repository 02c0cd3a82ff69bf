//! Merge: what the engine's merges of tables need, and flushes and merges of an engine that does neither by itself.

use std::{fmt, fs};

use fjall::{AbstractTree, Keyspace};

use super::damage::Damage;
use super::engine::{Background, Engine};

/// Young tables at which the engine merges them into the level below (fjall's default).
const YOUNG_TABLES: usize = 4;
/// The engine's size of tables and of the first level below the young ones (fjall's defaults).
const TABLE_BYTES: u64 = 64 << 20;
const FIRST_LEVEL_BYTES: u64 = YOUNG_TABLES as u64 * TABLE_BYTES;
/// One table and those below that it overlaps: a level is ten times as large as the one above.
const MERGED_TABLES: u64 = 12;
/// Bytes that are left free beside a merge.
pub(super) const SPARE: u64 = 4 << 20;
/// What an entry has in a table beside its key and value, at most.
const ENTRY_BYTES: u64 = 64;

impl Engine {
    fn spaces(&self) -> [&Keyspace; 2] {
        [&self.history, &self.current]
    }

    /// Returns about how many bytes one merge of the engine writes at most.
    pub(super) fn largest_merge(&self) -> u64 {
        self.spaces().into_iter().map(largest_merge).max().unwrap_or_default()
    }

    /// Returns about how many bytes the engine's next merge writes at most, once what is in memory is in a table; 0 when it
    /// has nothing to merge.
    fn next_merge(&self) -> u64 {
        let is_due = |space: &&Keyspace| {
            let below = space.disk_space().saturating_sub(young_bytes(space));
            space.tree.l0_run_count() + 1 >= YOUNG_TABLES || below > FIRST_LEVEL_BYTES
        };
        self.spaces().into_iter().filter(is_due).map(largest_merge).max().unwrap_or_default()
    }

    /// Returns about how many bytes must be free so that the engine can flush and merge by itself.
    pub(super) fn background_needs(&self) -> u64 {
        let needs = self.unflushed_bytes() + self.next_merge() + SPARE;
        needs.saturating_sub(self.unlisted_bytes())
    }

    /// Returns the bytes in memory that are not in tables yet.
    pub(super) fn unflushed_bytes(&self) -> u64 {
        let bytes = |space| unflushed_bytes(space, self.memtable_bytes);
        self.spaces().into_iter().map(bytes).sum()
    }

    /// Returns the bytes of files that are not tables of the engine now: a merge is writing them, or they are about to go.
    fn unlisted_bytes(&self) -> u64 {
        let files = |space: &Keyspace| {
            let entries = fs::read_dir(space.path().join("tables")).into_iter().flatten().flatten();
            let bytes = entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len());
            bytes.sum::<u64>().saturating_sub(space.disk_space())
        };
        self.spaces().into_iter().map(files).sum()
    }

    /// Takes tables out of a keyspace that hold nothing but removed values, which needs no space. Returns whether there were
    /// some; their files go when the engine is opened again.
    ///
    /// A table that says what is removed stays: older tables may hold it. The journal says it, too, as long as it holds the
    /// values.
    pub(super) fn drop_removed(&self, space: &Keyspace) -> Result<bool, Damage> {
        let failed = |error: &dyn fmt::Display| Damage::new(self.dir(), error.to_string());
        let version = space.tree.current_version();
        let tables: Vec<_> = version
            .iter_tables()
            .map(|table| (table.metadata.key_range.clone(), table.metadata.tombstone_count > 0))
            .collect();
        let mut is_any = false;
        for (range, _) in &tables {
            let inside = tables.iter().filter(|(other, _)| range.contains_range(other));
            let says_removed = inside.into_iter().any(|(_, says_removed)| *says_removed);
            let (first, last) = (range.min().clone(), range.max().clone());
            if says_removed {
                continue;
            }
            let left = space.range(first.clone()..=last.clone()).next();
            if let Some(left) = left {
                left.key().map_err(|error| failed(&error))?;
            } else {
                space.tree.drop_range(first..=last).map_err(|error| failed(&error))?;
                is_any = true;
            }
        }
        Ok(is_any)
    }

    /// Whether a keyspace can be merged into new tables of at most so many bytes, with a table of what is in memory. Reads
    /// what is left of it, up to that.
    pub(super) fn fits(&self, space: &Keyspace, bytes: u64) -> Result<bool, Damage> {
        let (mut found, unflushed) = (0, unflushed_bytes(space, self.memtable_bytes));
        for entry in space.iter() {
            let (key, value) = entry.into_inner().map_err(|error| self.damage(&error))?;
            found += (key.len() + value.len()) as u64 + ENTRY_BYTES;
            if found + found.min(unflushed) > bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a table of what is in memory of one keyspace, unless the engine does so by itself. What was removed is left out.
    pub(super) fn flush(&self, space: &Keyspace) -> fjall::Result<()> {
        space.rotate_memtable()?;
        self.flush_waiting(space)
    }

    pub(super) fn flush_all(&self) -> fjall::Result<()> {
        self.spaces().into_iter().try_for_each(|space| self.flush(space))
    }

    /// Writes tables of what waits to be written, unless the engine does so by itself.
    pub(super) fn catch_up(&self) -> fjall::Result<()> {
        self.spaces().into_iter().try_for_each(|space| self.flush_waiting(space))
    }

    fn flush_waiting(&self, space: &Keyspace) -> fjall::Result<()> {
        if self.background == Background::Off {
            let removable = self.db.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
            space.tree.flush(&space.tree.get_flush_lock(), removable)?;
        }
        Ok(())
    }
}

fn young_bytes(space: &Keyspace) -> u64 {
    space.tree.current_version().l0().size()
}

/// About: each of those that wait for their flush counts as a full one.
fn unflushed_bytes(space: &Keyspace, full: u64) -> u64 {
    space.tree.active_memtable().size() + space.sealed_memtable_count() as u64 * full
}

fn largest_merge(space: &Keyspace) -> u64 {
    let merged = young_bytes(space).saturating_add(MERGED_TABLES * TABLE_BYTES);
    space.disk_space().min(merged)
}
