//! Error: why a store was not opened.

use std::io;
use std::path::PathBuf;

use super::damage::Damage;

/// Why a store was not opened; nothing was changed, except that an unfinished commit at the end was cut off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no store, and none was to be made.
    #[error("{} holds no store of Tidegate", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Another process has it open.
    #[error("{} is in use by another Tidegate{}", dir.display(), holder.map_or_else(String::new, |id| format!(" (process {id})")))]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// Its process, when it could be read.
        holder: Option<u32>,
    },
    /// A later Tidegate wrote it.
    #[error("{} has format {found}, this Tidegate knows formats up to {known}", dir.display())]
    Newer {
        /// The data directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// It holds something that no Tidegate wrote.
    #[error("{} is not a data directory of Tidegate: it holds {}", dir.display(), entry.display())]
    Stranger {
        /// The directory.
        dir: PathBuf,
        /// What lies in it.
        entry: PathBuf,
    },
    /// Stored bytes are damaged: opening would lose what was acknowledged.
    #[error("the data directory is damaged: {0}")]
    Damaged(#[from] Damage),
    /// A new engine could not be made.
    #[error("{}: {reason}", dir.display())]
    Engine {
        /// Where.
        dir: PathBuf,
        /// What the engine said.
        reason: String,
    },
}
