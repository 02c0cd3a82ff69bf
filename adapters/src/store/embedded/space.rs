//! Space: measures the free space of the device, and refuses writes when there is too little.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use metrics::{Gauge, gauge};
use rustix::fs::statvfs;
use tidegate_stages::ports::StoreError;

use super::Options;
use crate::metrics::{STORE_DISK_FREE_BYTES, STORE_DISK_FULL};

/// Bytes that even a write which frees space leaves free: the engine's own files need some.
const LEAST: u64 = 256 << 10;

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

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It keeps something.
    Keep,
    /// It is small and frees space, or is needed for that: it may use the reserve.
    Free,
}

/// Refuses a write that would leave less free space than the reserve: a full device inside a write stops
/// the engine, and the engine's background work needs space too.
///
/// # Errors
/// When there is too little, or the operating system reports an error.
pub fn check(dir: &Path, options: &Options, needed: usize) -> Result<(), StoreError> {
    let found = measure(dir, options)?;
    check_for(Purpose::Keep, dir, found, options.reserve_of(found.total), needed)
}

pub(super) fn measure(dir: &Path, options: &Options) -> Result<FreeSpace, StoreError> {
    (options.free_space)(dir)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", dir.display())))
}

/// As [`check`], given what is free. A write that frees space may use the reserve.
pub(super) fn check_for(
    purpose: Purpose,
    dir: &Path,
    found: FreeSpace,
    reserve: u64,
    needed: usize,
) -> Result<(), StoreError> {
    let reserve = match purpose {
        Purpose::Keep => reserve,
        Purpose::Free => reserve.min(LEAST),
    };
    // Twice: once for the journal, once for the table made from it.
    let needed = 2 * needed as u64;
    if found.free < reserve.saturating_add(needed) {
        let (free, reserve) = (found.free >> 10, reserve >> 10);
        let dir = dir.display();
        let text = format!("{dir} has {free} KiB free, {reserve} KiB are kept in reserve");
        return Err(StoreError::Full(text));
    }
    Ok(())
}

/// Whether less than the reserve is free. Not when the operating system reports an error.
pub(super) fn is_low(dir: &Path, options: &Options) -> bool {
    (options.free_space)(dir).is_ok_and(|space| space.free < options.reserve_of(space.total))
}

/// What is known of the space of an open store: for the log, metrics and readiness.
#[derive(Debug)]
pub(super) struct SpaceWatch {
    is_full: AtomicBool,
    /// Size of the last write that was refused.
    refused: AtomicU64,
    /// Bytes that merges of the engine may write.
    merging: AtomicU64,
    /// What was free when it was looked last, and what is kept free.
    seen: (AtomicU64, AtomicU64),
    free_bytes: Gauge,
    full: Gauge,
}

impl SpaceWatch {
    pub(super) fn new() -> Self {
        Self {
            is_full: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            merging: AtomicU64::new(0),
            seen: (AtomicU64::new(0), AtomicU64::new(0)),
            free_bytes: gauge!(STORE_DISK_FREE_BYTES),
            full: gauge!(STORE_DISK_FULL),
        }
    }

    /// Whether writes are refused.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// The bytes that were free when it was looked last, and those that are kept free.
    pub(super) fn seen(&self) -> (u64, u64) {
        let (free, reserve) = &self.seen;
        (free.load(Ordering::Relaxed), reserve.load(Ordering::Relaxed))
    }

    /// Notes that a write was refused.
    pub(super) fn refuse(&self, needed: usize) {
        self.refused.store(needed as u64, Ordering::Relaxed);
        self.is_full.store(true, Ordering::Relaxed);
    }

    /// Returns the bytes that are kept free for merges, if these are more than the reserve.
    pub(super) fn merging(&self) -> u64 {
        self.merging.load(Ordering::Relaxed)
    }

    pub(super) fn keep_for_merging(&self, bytes: u64) {
        self.merging.store(bytes, Ordering::Relaxed);
    }

    /// Looks again, given what in memory will become a table. Tells when the disk has become full, and when it is so no more.
    pub(super) fn look(
        &self,
        dir: &Path,
        options: &Options,
        unflushed: u64,
        was_full: bool,
    ) -> bool {
        let Ok(space) = (options.free_space)(dir) else { return was_full };
        let reserve = options.reserve_of(space.total).max(self.merging());
        let reserve = reserve.saturating_add(unflushed);
        self.seen.0.store(space.free, Ordering::Relaxed);
        self.seen.1.store(reserve, Ordering::Relaxed);
        let needed = self.refused.load(Ordering::Relaxed).saturating_mul(2);
        let is_full = space.free < reserve.saturating_add(needed);
        self.is_full.store(is_full, Ordering::Relaxed);
        if is_full && !was_full {
            tracing::warn!(
                "the disk is full: {} has {} KiB free, {} KiB are kept in reserve; changes are refused with 503, reads are \
                 served, deletes and pruning free space",
                dir.display(),
                space.free >> 10,
                reserve >> 10
            );
        } else if was_full && !is_full {
            self.refused.store(0, Ordering::Relaxed);
            tracing::info!(free_kib = space.free >> 10, "the disk has space again");
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge; disks have fewer than 2^52 bytes"
        )]
        self.free_bytes.set(space.free as f64);
        self.full.set(f64::from(u8::from(is_full)));
        is_full
    }
}
