//! Class: events with their own limit in flight, and the queue of their ready keys.

use crate::dispatcher::keyed::ready_queue::ReadyQueue;
use crate::share::is_fair;

/// One class of events. It has no limit by default.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) limit: usize,
    pub(crate) in_flight: usize,
    pub(crate) ready: ReadyQueue,
    /// Whether it is among the classes that take turns to grant.
    pub(crate) in_rotation: bool,
    /// Whether the gate has said that it holds as much as it may.
    pub(crate) is_refused: bool,
}

impl Default for Class {
    fn default() -> Class {
        Class {
            limit: usize::MAX,
            in_flight: 0,
            ready: ReadyQueue::default(),
            in_rotation: false,
            is_refused: false,
        }
    }
}

impl Class {
    /// Whether it has a ready key and a free permit.
    pub(crate) fn can_grant(&self) -> bool {
        self.has_permit() && !self.ready.is_empty()
    }

    /// Whether it has a free permit, and the gate has not refused it.
    pub(crate) fn has_permit(&self) -> bool {
        self.in_flight < self.limit && !self.is_refused
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limit != usize::MAX
    }

    /// Whether it may have one more event in flight when several classes have limits. `free` is the demand that is left
    /// after that event.
    pub(crate) fn may_share(&self, free: usize) -> bool {
        !self.is_limited() || is_fair(self.in_flight + 1, free)
    }

    /// Whether it holds nothing that a new class would not have.
    pub(crate) fn is_forgettable(&self) -> bool {
        !self.is_limited() && self.in_flight == 0 && self.ready.is_empty() && !self.is_refused
    }
}
