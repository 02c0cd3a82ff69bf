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
    /// separately. Read only when a store is created; an existing store keeps its value.
    pub memtable_bytes: u64,
    /// Largest number of changes that wait to be written; further ones are refused.
    pub queue_events: usize,
    /// Largest number of bytes that wait to be written; further ones are refused. At least what calls in
    /// flight can hold.
    pub queue_bytes: usize,
    /// Concurrent reads; further ones wait.
    pub reads: usize,
    /// Seals states.
    pub vault: Arc<Vault>,
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
            vault: Arc::default(),
        }
    }
}
