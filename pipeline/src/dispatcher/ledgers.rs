//! Ledgers: the outstanding demand of one producer's subscribers, largest first.

use crate::demand::Ledger;
use crate::subscription::SubscriberId;

/// Ledgers sorted by outstanding demand, largest first. Of equal ones, the one that has waited longest
/// is first.
#[derive(Debug, Default)]
pub(crate) struct Ledgers {
    ordered: Vec<(SubscriberId, Ledger)>,
}

impl Ledgers {
    pub(crate) fn subscribe(&mut self, id: SubscriberId) {
        self.ordered.push((id, Ledger::default()));
    }

    pub(crate) fn cancel(&mut self, id: SubscriberId) -> bool {
        let before = self.ordered.len();
        self.ordered.retain(|(other, _)| *other != id);
        self.ordered.len() < before
    }

    pub(crate) fn ask(&mut self, id: SubscriberId, events: usize) {
        let Some(at) = self.ordered.iter().position(|(other, _)| *other == id) else { return };
        let (_, ledger) = &mut self.ordered[at];
        ledger.ask(events);
        self.reorder(at);
    }

    /// Returns the largest outstanding demand; 0 without subscribers.
    pub(crate) fn largest(&self) -> usize {
        self.ordered.first().map_or(0, |(_, ledger)| ledger.outstanding())
    }

    /// Grants up to `events` to the subscriber with the largest outstanding demand.
    pub(crate) fn grant(&mut self, events: usize) -> Option<(SubscriberId, usize)> {
        let (id, ledger) = self.ordered.first_mut()?;
        let granted = events.min(ledger.outstanding());
        if granted == 0 {
            return None;
        }
        ledger.grant(granted);
        let id = *id;
        self.reorder(0);
        Some((id, granted))
    }

    /// Returns the outstanding demand of all subscribers together.
    pub(crate) fn total(&self) -> usize {
        self.ordered.iter().map(|(_, ledger)| ledger.outstanding()).sum()
    }

    /// Moves the ledger at `at` to its new position: behind all with as much demand.
    fn reorder(&mut self, at: usize) {
        if self.ordered.len() == 1 {
            return;
        }
        let pair = self.ordered.remove(at);
        let outstanding = pair.1.outstanding();
        let to = self.ordered.partition_point(|(_, other)| other.outstanding() >= outstanding);
        self.ordered.insert(to, pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_demands_the_one_that_has_waited_longest_is_served() {
        let (one, two, three) = (SubscriberId(1), SubscriberId(2), SubscriberId(3));
        let mut ledgers = Ledgers::default();
        for id in [one, two, three] {
            ledgers.subscribe(id);
            ledgers.ask(id, 1);
        }
        assert_eq!(ledgers.grant(5), Some((one, 1)));
        // Asking again at once does not put it before those who wait.
        ledgers.ask(one, 1);
        assert_eq!(ledgers.grant(5), Some((two, 1)));
        assert_eq!(ledgers.grant(5), Some((three, 1)));
        ledgers.ask(three, 2);
        assert_eq!((ledgers.largest(), ledgers.total()), (2, 3));
        assert_eq!(ledgers.grant(1), Some((three, 1)));
        assert_eq!(ledgers.grant(5), Some((one, 1)), "it has had its one for longer");
        assert!(ledgers.cancel(three));
        assert_eq!(ledgers.grant(5), None);
    }
}
