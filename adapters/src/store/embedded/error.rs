//! Error: why a store was not opened.

use std::io;
use std::path::PathBuf;

use super::damage::Damage;

/// Why a store was not opened. Nothing was changed, except that an unfinished commit at the end may be cut
/// off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be created, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path that failed.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// There is no store, and the access mode does not create one.
    #[error("{} holds no store of Tidegate", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process has the store open.
    #[error("{} is in use by another Tidegate{}", dir.display(), holder.map_or_else(String::new, |id| format!(" (process {id})")))]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The process id of the holder, if readable.
        holder: Option<u32>,
    },
    /// A later version of Tidegate wrote the store.
    #[error("{} has format {found}, this Tidegate knows formats up to {known}", dir.display())]
    Newer {
        /// The data directory.
        dir: PathBuf,
        /// The store's format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// An earlier version of Tidegate wrote the store, and the access mode does not migrate it.
    #[error(
        "{} has format {found}; `tidegate serve` brings it to format {known} when it starts, then run this again",
        dir.display()
    )]
    Older {
        /// The data directory.
        dir: PathBuf,
        /// The store's format.
        found: u32,
        /// The format that this version writes.
        known: u32,
    },
    /// The directory holds a file that Tidegate did not write.
    #[error("{} is not a data directory of Tidegate: it holds {}", dir.display(), entry.display())]
    UnknownEntry {
        /// The directory.
        dir: PathBuf,
        /// The unknown entry.
        entry: PathBuf,
    },
    /// The directory for a new store holds something.
    #[error("{} is not empty: it holds {}; name an empty directory", dir.display(), entry.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// What it holds.
        entry: PathBuf,
    },
    /// The directory holds a backup, which is not written to.
    #[error(
        "{} is a backup: `tidegate restore-backup` makes a data directory of it, and leaves it as it is",
        dir.display()
    )]
    IsBackup {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds a store that is no backup.
    #[error("{} is no backup: `tidegate backup` makes one", dir.display())]
    NoBackup {
        /// The directory.
        dir: PathBuf,
    },
    /// Stored bytes are damaged: opening would lose acknowledged data.
    #[error("the data directory is damaged: {0}")]
    Damaged(#[from] Damage),
    /// A new engine cannot be created.
    #[error("{}: {reason}", dir.display())]
    Engine {
        /// The directory.
        dir: PathBuf,
        /// The engine's error.
        reason: String,
    },
}
