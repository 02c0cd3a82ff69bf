//! Error: why work on a stopped store was not done.

use std::io;
use std::path::{Path, PathBuf};

use tidegate_stages::ports::StoreError;

use crate::store::KeyError;

/// Why it was not done, or not to its end; run again, it goes on where it stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// The store failed; what was done before is done.
    #[error("{doing}: {error}")]
    Store {
        /// What was being done.
        doing: String,
        /// What the store said.
        error: StoreError,
    },
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The file is there and is not to be overwritten.
    #[error("{} is there already; --resume goes on with an export that was interrupted", .0.display())]
    Exists(PathBuf),
    /// A later Tidegate wrote the file; nothing was done.
    #[error("{} has format {found}, this Tidegate knows formats up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this version knows.
        known: u32,
    },
    /// The file is not what an export writes, or is cut short.
    #[error("{} is damaged in line {line}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The keys that are set do not open what the file holds; nothing was done.
    #[error("{} is sealed: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why it was not opened.
        why: String,
    },
    /// The keys that are set are not those of the store, or cannot be noted in it.
    #[error(transparent)]
    StoreKey(#[from] KeyError),
    /// It must not be done as things are; nothing was done.
    #[error("{0}")]
    Refused(String),
}

impl OfflineError {
    /// The exit code, as `sysexits.h` has them.
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
            Self::Exists(_) => 73,
            Self::File { .. } => 74,
        }
    }

    /// Turns a store's error into one that says what was being done.
    pub(super) fn store(doing: impl Into<String>) -> impl FnOnce(StoreError) -> Self {
        let doing = doing.into();
        move |error| Self::Store { doing, error }
    }

    /// Turns an error of the operating system into one that names the file.
    pub(super) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path: path.clone(), error }
    }
}
