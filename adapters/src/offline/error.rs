//! Error: why work on a stopped store failed.

use std::io;
use std::path::{Path, PathBuf};

use tidegate_stages::ports::StoreError;

use crate::store::KeyError;

/// Why the work was not done or not completed; a repeated run continues where this one stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// The store failed; earlier work is kept.
    #[error("{doing}: {error}")]
    Store {
        /// The operation that failed.
        doing: String,
        /// The store's error.
        error: StoreError,
    },
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The file to write cannot be made or opened; nothing was written.
    #[error("cannot write {}: {error}", path.display())]
    NotMade {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The file exists and must not be overwritten.
    #[error("{} is there already; --resume goes on with an export that was interrupted", .0.display())]
    Exists(PathBuf),
    /// A later version of Tidegate wrote the file; nothing was done.
    #[error("{} has format {found}, this Tidegate knows formats up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u64,
        /// The newest format that this version knows.
        known: u32,
    },
    /// The file is not a valid export, or is cut short.
    #[error("{} is damaged in line {line}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with the line.
        why: String,
    },
    /// The configured keys do not open the file; nothing was done.
    #[error("{} is sealed: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why the file cannot be opened.
        why: String,
    },
    /// The configured keys do not fit the store, or cannot be noted in it.
    #[error(transparent)]
    StoreKey(#[from] KeyError),
    /// The work is not allowed in this state; nothing was done.
    #[error("{0}")]
    Refused(String),
}

impl OfflineError {
    /// Returns the exit code, as in `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 64,
            Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::StoreKey(KeyError::Damaged(_))
            | Self::Store { error: StoreError::Corrupt(_), .. } => 65,
            Self::StoreKey(KeyError::Store(_)) => 69,
            Self::Store { error: StoreError::Sealed(_), .. }
            | Self::Key { .. }
            | Self::StoreKey(_) => 78,
            Self::File { error, .. } if error.kind() == io::ErrorKind::NotFound => 66,
            Self::Store { .. } => 69,
            Self::Exists(_) | Self::NotMade { .. } => 73,
            Self::File { .. } => 74,
        }
    }

    /// Adds the operation that failed to a store's error.
    pub(super) fn store(doing: impl Into<String>) -> impl FnOnce(StoreError) -> Self {
        let doing = doing.into();
        move |error| Self::Store { doing, error }
    }

    /// Adds the file to an operating system's error.
    pub(super) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path: path.clone(), error }
    }
}
