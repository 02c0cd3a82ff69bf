//! Known: the entries of due work in memory, and how many of them are looks at schedules.

use std::collections::HashSet;

use crate::due::DueKey;
use crate::outbox::SourceKind;
use crate::state::Timestamp;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: HashSet<DueKey>,
    /// Each is of a schedule that has a next time.
    schedules: usize,
}

impl Known {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn schedules(&self) -> usize {
        self.schedules
    }

    pub(super) fn contains(&self, key: &DueKey) -> bool {
        self.keys.contains(key)
    }

    /// Whether one of the entries has an earlier time.
    pub(super) fn has_before(&self, time: Timestamp) -> bool {
        self.keys.iter().any(|key| key.at < time)
    }

    pub(super) fn insert(&mut self, key: DueKey) {
        let is_look = is_look(&key);
        self.schedules += usize::from(self.keys.insert(key) && is_look);
    }

    pub(super) fn remove(&mut self, key: &DueKey) {
        self.schedules -= usize::from(self.keys.remove(key) && is_look(key));
    }
}

fn is_look(key: &DueKey) -> bool {
    key.source.kind == SourceKind::Schedule
}
