//! Examine: checks the files of a data directory as opening it does, and changes nothing.

use std::path::Path;

use super::backup::is_backup;
use super::layout::{self, FORMAT};
use super::mark::Mark;
use super::{OpenError, journal, manifest};

/// What a data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examined {
    /// Its format; `serve` brings an older one to [`FORMAT`].
    pub format: u32,
    /// Number of the newest commit that was acknowledged.
    pub commits: u64,
}

impl Examined {
    /// Whether `serve` migrates the directory when it starts.
    pub fn is_older(&self) -> bool {
        self.format < FORMAT
    }
}

/// Checks format, mark, tables and journals of a data directory that no process has open. Blocks.
///
/// Tables are checked as far as opening them does: a damaged block is found when it is read.
///
/// # Errors
/// The error that opening the directory to serve would have.
pub fn examine(dir: &Path) -> Result<Examined, OpenError> {
    // Held for a moment only: a proxy that starts meanwhile is not kept out.
    let (format, lock) = match layout::share(dir) {
        Err(missing @ OpenError::Missing { .. }) => {
            layout::check_free(dir)?;
            return Err(missing);
        }
        shared => shared?,
    };
    drop(lock);
    let checked = check(dir, format);
    if checked.is_err() {
        // A proxy that started meanwhile changes what is being read.
        layout::share(dir)?;
    }
    checked
}

fn check(dir: &Path, format: u32) -> Result<Examined, OpenError> {
    let engine = layout::engine_of(dir);
    if !engine.exists() {
        return Err(layout::gone(&engine).into());
    }
    if is_backup(&engine) {
        return Err(OpenError::IsBackup { dir: dir.into() });
    }
    let newest = Mark::peek(&engine)?;
    manifest::check(&engine)?;
    journal::check(&engine, newest, u64::MAX)?;
    Ok(Examined { format, commits: newest.commit })
}
