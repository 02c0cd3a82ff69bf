//! Held: the places of one actor, or of all actors of one host.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_pipeline::Bound;
use tidegate_pipeline::share::is_fair;

/// What an actor or a host holds. Changed under the lock of the places only.
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

    /// Whether another place of so many bytes leaves less free than is held then. The first one never does. `free` is what is
    /// free before.
    pub(super) fn is_unfair(&self, bytes: usize, free: Bound) -> bool {
        let events = self.events.load(Ordering::Relaxed);
        let held = self.bytes.load(Ordering::Relaxed) + bytes;
        let is_fair = is_fair(events + 1, free.events.saturating_sub(1))
            && is_fair(held, free.bytes.saturating_sub(bytes));
        events > 0 && !is_fair
    }

    pub(super) fn add(&self, events: usize, bytes: usize) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.events.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}
