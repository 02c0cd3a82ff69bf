//! Options: the settings of an embedded store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::space::FreeSpace;
use crate::store::vault::Vault;

/// Settings of an [`EmbeddedStore`](super::EmbeddedStore).
#[derive(Debug, Clone)]
pub struct Options {
    /// Free space kept on the device, in bytes; at most an eighth of the device. Saves are refused as
    /// [`StoreError::Full`](tidegate_stages::ports::StoreError::Full) below it.
    pub reserve_bytes: u64,
    /// How free space is measured: [`FreeSpace::of`], unless a test says otherwise.
    pub free_space: fn(&Path) -> io::Result<FreeSpace>,
    /// Cache of stored blocks, in bytes.
    pub cache_bytes: u64,
    /// Size at which what was written lately moves from memory into a table, in bytes; twice, for heads and for
    /// history. Taken from here when a store is made; later it is what it was then.
    pub memtable_bytes: u64,
    /// Changes that may wait to be written; more are refused.
    pub queue_events: usize,
    /// Bytes that may wait to be written; more are refused. At least what calls in flight can hold.
    pub queue_bytes: usize,
    /// Reads at a time; more wait.
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
