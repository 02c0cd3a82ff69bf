//! Tally: counts finished events and gives their demand back in steps.

use std::sync::Arc;

use crate::subscription::DemandSender;

/// Counts the finished events of one subscription. Reports what is left when it is dropped.
pub(crate) struct Tally {
    demand: Arc<DemandSender>,
    done: usize,
}

impl Tally {
    pub(crate) fn new(demand: Arc<DemandSender>) -> Tally {
        Tally { demand, done: 0 }
    }

    /// The subscription whose events are counted.
    pub(crate) fn demand(&self) -> &Arc<DemandSender> {
        &self.demand
    }

    /// Counts one event and reports when enough are finished to matter.
    pub(crate) fn one(&mut self) {
        self.done += 1;
        if self.done >= self.demand.stride {
            self.report();
        }
    }

    /// Counts events without reporting.
    pub(crate) fn add(&mut self, events: usize) {
        self.done += events;
    }

    /// Gives back the demand of all events counted so far.
    pub(crate) fn report(&mut self) {
        self.demand.done(std::mem::take(&mut self.done));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.report();
    }
}
