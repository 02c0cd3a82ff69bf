//! Backup: a copy of everything in the store, as it was at one moment, while the store serves calls.
//!
//! A [`Copying`] holds a snapshot of the engine and reads it in pages. A [page](Page) holds entries in the order of their
//! keys, byte for byte as they are stored: heads, revisions, rows of effects, registrations, notes and the epoch. Sealed
//! values stay sealed. The last page ends with [`Totals`]. [`write`] makes a store of the pages in a directory of its own,
//! and [`restore`] makes a data directory of that. Both read the new store to its end and compare it with the totals.

mod copying;
mod totals;
mod target;

use std::time::Duration;

pub(super) use copying::Copying;
pub(super) use target::is_backup;
pub use target::{restore, write};
pub use totals::{Page, Totals};

use tidegate_stages::ports::StoreError;

/// A copy that nobody asks for its next page ends after this time: its snapshot keeps what was overwritten on the disk.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// A page ends with the entry that makes it this large, in bytes.
pub const BACKUP_PAGE_BYTES: usize = 1 << 20;

/// A copy that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Names the copy.
    pub id: u64,
    /// About how large it will be, in bytes.
    pub about_bytes: u64,
}

/// Why a running store gives no copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Another copy is being read.
    #[error("another backup is running; one that asks for nothing is given up after {PATIENCE:?}")]
    Running,
    /// There is no such copy.
    #[error(
        "there is no such backup: it took longer than {PATIENCE:?} to ask for more, or the store was opened again"
    )]
    Gone,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
