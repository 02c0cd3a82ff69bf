//! Byte bound: counts bytes against a bound. When too few are free it refuses; no caller waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound in bytes.
#[derive(Debug)]
pub(crate) struct ByteBound {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes that are counted against a [`ByteBound`] until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    bound: Arc<ByteBound>,
    bytes: usize,
}

impl ByteBound {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// The whole bound, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns a guard that holds no bytes yet.
    pub(crate) fn enter(self: &Arc<Self>) -> HeldBytes {
        HeldBytes { bound: Arc::clone(self), bytes: 0 }
    }

    /// Holds that many bytes, if they are free.
    pub(crate) fn try_hold(self: &Arc<Self>, bytes: usize) -> Option<HeldBytes> {
        let mut held = self.enter();
        held.try_grow(bytes).then_some(held)
    }
}

impl HeldBytes {
    /// The whole bound, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.bound.limit()
    }

    /// Holds that many more bytes. Returns false and changes nothing when they are not free.
    pub(crate) fn try_grow(&mut self, bytes: usize) -> bool {
        let before = self.bound.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bound.limit {
            self.bound.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.bound.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_beyond_the_bound_are_refused_and_dropped_ones_are_free_again() {
        let bound = ByteBound::new(10);
        let mut held = bound.try_hold(4).unwrap();
        assert!(bound.try_hold(7).is_none());
        assert!(held.try_grow(6));
        assert!(!held.try_grow(1));
        drop(held);
        assert!(bound.try_hold(10).is_some());
    }
}
