//! Damage: a file of the store that is not what was written.

use std::io;
use std::path::{Path, PathBuf};

/// Stored bytes are not what was written; says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct Damage {
    /// The file, or the directory when the engine does not tell more.
    pub path: PathBuf,
    /// What is wrong.
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
