//! Share: keeps one of several users of a bound from taking all of it.
//!
//! When several share a bound (turns, places of a buffer), each may hold at most as much as is free. One that never gives
//! anything back leaves half. With n of them, 1 of n + 1 parts is free once what they hold has been given back and taken
//! anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Whether one of several may hold `held` of a bound of which `free` is left, both counted after the grant. One is always
/// allowed, so that a small bound is of use.
pub fn is_fair(held: usize, free: usize) -> bool {
    held <= free.max(1)
}

/// What one of several users holds of a buffer; see the [module](self).
#[derive(Debug, Default)]
pub struct Share {
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// How many wait until it holds less.
    waiting: AtomicUsize,
    pub(crate) freed: Notify,
}

/// Counts one who waits until a share holds less.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Share);

impl Share {
    /// Returns how many places it holds.
    pub fn events(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }

    /// Adds a place. Returns the places and bytes that it holds then.
    pub(crate) fn add(&self, bytes: usize) -> (usize, usize) {
        (self.events.fetch_add(1, Ordering::SeqCst) + 1, self.widen(bytes))
    }

    /// Adds bytes to a place. Returns the bytes that it holds then.
    pub(crate) fn widen(&self, bytes: usize) -> usize {
        self.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes
    }

    /// Takes back an addition that was too much.
    pub(crate) fn undo(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.events.fetch_sub(1, Ordering::SeqCst);
    }

    /// Removes a place. The caller that waits longest tries again.
    pub(crate) fn remove(&self, bytes: usize) {
        self.undo(bytes);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
