//! Space: how much room the device has left, and when that is too little to write.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;
use tidegate_stages::ports::StoreError;

use super::Options;

/// Room on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes that may still be written.
    pub free: u64,
    /// Size of the device, in bytes.
    pub total: u64,
}

impl FreeSpace {
    /// Asks the operating system about the device of a path.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn of(path: &Path) -> io::Result<Self> {
        let space = statvfs(path)?;
        Ok(Self {
            free: space.f_bavail.saturating_mul(space.f_frsize),
            total: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }
}

/// Refuses a write that would leave less than the reserve free: running out inside a write stops the engine,
/// and its background work needs room to live.
pub(super) fn check(dir: &Path, options: &Options, needed: usize) -> Result<(), StoreError> {
    let space = (options.free_space)(dir)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", dir.display())))?;
    let reserve = options.reserve_bytes.min(space.total / 8);
    // Twice: the journal, and the table that it becomes.
    let needed = 2 * needed as u64;
    if space.free < reserve.saturating_add(needed) {
        let (free, reserve) = (space.free >> 10, reserve >> 10);
        let dir = dir.display();
        let text = format!("{dir} has {free} KiB free, {reserve} KiB are kept in reserve");
        return Err(StoreError::Full(text));
    }
    Ok(())
}
