//! Options: the settings of an embedded store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::space::FreeSpace;
use crate::store::vault::Vault;

/// Settings of an [`EmbeddedStore`](super::EmbeddedStore).
#[derive(Debug, Clone)]
pub struct Options {
    /// Free space kept on the device, in bytes; at most an eighth of the device. Below it, saves are
    /// refused as [`StoreError::Full`](tidegate_stages::ports::StoreError::Full).
    pub reserve_bytes: u64,
    /// Measures free space: [`FreeSpace::of`], except in tests.
    pub free_space: fn(&Path) -> io::Result<FreeSpace>,
    /// Cache of stored blocks, in bytes.
    pub cache_bytes: u64,
    /// Size at which recent writes move from memory into a table, in bytes; applies to heads and to history
    /// separately. An existing store keeps the value that it was created with, unless this one is less.
    pub memtable_bytes: u64,
    /// Largest number of changes that wait to be written; further ones are refused.
    pub queue_events: usize,
    /// Largest number of bytes that wait to be written; further ones are refused. At least what calls in
    /// flight can hold.
    pub queue_bytes: usize,
    /// Concurrent reads; further ones wait.
    pub reads: usize,
    /// Files of the engine that stay open.
    pub files: usize,
    /// Seals states.
    pub vault: Arc<Vault>,
}

/// Parts of the engine's memory: one table of recent writes has one part, the cache the rest.
const PARTS: u64 = 10;
/// Tables of recent writes in memory at most: of heads and of history, one that is written to and three that wait for their
/// flush each.
const MEMTABLES: u64 = 8;
/// A larger table of recent writes makes no difference: the journal is flushed before.
const MAX_MEMTABLE_BYTES: u64 = 16 << 20;

impl Options {
    /// Returns how many bytes are kept free on a device of this size.
    pub fn reserve_of(&self, device_bytes: u64) -> u64 {
        self.reserve_bytes.min(device_bytes / 8)
    }

    /// These options with a cache and memtables that take at most `bytes`.
    #[must_use]
    pub fn within(self, bytes: u64) -> Self {
        let memtable_bytes = (bytes / PARTS).min(MAX_MEMTABLE_BYTES);
        Self { memtable_bytes, cache_bytes: bytes - MEMTABLES * memtable_bytes, ..self }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reserve_bytes: 64 << 20,
            free_space: FreeSpace::of,
            cache_bytes: 32 << 20,
            memtable_bytes: 16 << 20,
            queue_events: 65_536,
            queue_bytes: 64 << 20,
            reads: 16,
            files: 900,
            vault: Arc::default(),
        }
    }
}
