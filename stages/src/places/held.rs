//! Held: the places of one actor.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_pipeline::Bound;

/// What an actor holds. Changed under the lock of the places only.
#[derive(Debug, Default)]
pub(crate) struct Held {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

impl Held {
    /// Whether another place of so many bytes is beyond its share. The first one never is.
    pub(super) fn is_over(&self, share: Bound, bytes: usize) -> bool {
        let events = self.events.load(Ordering::Relaxed);
        let held = self.bytes.load(Ordering::Relaxed);
        events > 0 && (events >= share.events || held + bytes > share.bytes)
    }

    pub(super) fn add(&self, events: usize, bytes: usize) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
