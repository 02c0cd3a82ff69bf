//! Prunings: those that are under way, so that a delete ends them.
//!
//! An actor that is deleted may get a new history under the same keys, which a pruning that began before must not touch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A pruning that is under way.
#[derive(Debug)]
pub(super) struct Pruning {
    /// The prefix of the history's keys.
    pub(super) history: Vec<u8>,
    /// Whether the history was removed since the pruning began.
    is_void: AtomicBool,
}

impl Pruning {
    pub(super) fn is_void(&self) -> bool {
        self.is_void.load(Ordering::Relaxed)
    }
}

/// The prunings that are under way.
#[derive(Debug, Default)]
pub(super) struct Prunings(Mutex<Vec<Weak<Pruning>>>);

impl Prunings {
    pub(super) fn begin(&self, history: Vec<u8>) -> Arc<Pruning> {
        let pruning = Arc::new(Pruning { history, is_void: AtomicBool::new(false) });
        let mut under_way = self.0.lock();
        under_way.retain(|other| other.strong_count() > 0);
        under_way.push(Arc::downgrade(&pruning));
        pruning
    }

    /// Ends the prunings of the histories below a prefix, which are removed. The writer's thread calls this, so no step of
    /// theirs runs at the same time.
    pub(super) fn end(&self, prefix: &[u8]) {
        let under_way = self.0.lock();
        let removed = under_way.iter().filter_map(Weak::upgrade);
        for pruning in removed.filter(|pruning| pruning.history.starts_with(prefix)) {
            pruning.is_void.store(true, Ordering::Relaxed);
        }
    }
}
