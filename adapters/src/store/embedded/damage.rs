//! Damage: a file of the store does not hold what was written.

use std::io;
use std::path::{Path, PathBuf};

use tidegate_stages::ports::StoreError;

/// Stored bytes are not what was written, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct Damage {
    /// The file, or the directory when the engine does not report the file.
    pub path: PathBuf,
    /// What is wrong with the file.
    pub what: String,
}

impl Damage {
    pub(super) fn new(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        Self::new(path, format!("cannot be read: {error}"))
    }
}

/// Why stored bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The bytes are damaged.
    #[error("{0}")]
    Damaged(#[from] Damage),
    /// The bytes are sealed and cannot be opened.
    #[error("{0}")]
    Sealed(String),
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(damage) => StoreError::Corrupt(damage.to_string()),
            ReadError::Sealed(what) => StoreError::Sealed(what),
        }
    }
}
