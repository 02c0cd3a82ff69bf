//! Lane: a class of events with its own limit of events in flight, and its line of keys.

use crate::dispatcher::keyed::line::Line;

/// One lane. By default it has no limit.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) limit: usize,
    pub(crate) in_flight: usize,
    pub(crate) line: Line,
    /// Whether it is among the lanes that take turns.
    pub(crate) in_turns: bool,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane { limit: usize::MAX, in_flight: 0, line: Line::default(), in_turns: false }
    }
}

impl Lane {
    /// A key is in line and a permit to spare.
    pub(crate) fn is_ready(&self) -> bool {
        self.in_flight < self.limit && !self.line.is_empty()
    }

    /// Nothing is lost when it is made anew.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.limit == usize::MAX && self.in_flight == 0 && self.line.is_empty()
    }
}
