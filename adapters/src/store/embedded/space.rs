//! Space: measures the free space of the device, and refuses writes when there is too little.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;
use tidegate_stages::ports::StoreError;

use super::Options;

/// Free space and size of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes that can still be written.
    pub free: u64,
    /// Size of the device, in bytes.
    pub total: u64,
}

impl FreeSpace {
    /// Asks the operating system about the device that holds a path.
    ///
    /// # Errors
    /// When the operating system reports an error.
    pub fn of(path: &Path) -> io::Result<Self> {
        let space = statvfs(path)?;
        Ok(Self {
            free: space.f_bavail.saturating_mul(space.f_frsize),
            total: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }
}

/// Refuses a write that would leave less free space than the reserve: a full device inside a write stops
/// the engine, and the engine's background work needs space too.
///
/// # Errors
/// When there is too little, or the operating system reports an error.
pub fn check(dir: &Path, options: &Options, needed: usize) -> Result<(), StoreError> {
    let space = (options.free_space)(dir)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", dir.display())))?;
    let reserve = options.reserve_of(space.total);
    // Twice: once for the journal, once for the table made from it.
    let needed = 2 * needed as u64;
    if space.free < reserve.saturating_add(needed) {
        let (free, reserve) = (space.free >> 10, reserve >> 10);
        let dir = dir.display();
        let text = format!("{dir} has {free} KiB free, {reserve} KiB are kept in reserve");
        return Err(StoreError::Full(text));
    }
    Ok(())
}
