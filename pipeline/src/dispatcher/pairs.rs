//! Pairs: the ledgers of one producer's subscribers, largest outstanding demand first.

use crate::demand::Ledger;
use crate::dispatcher::SubscriberId;

/// Ledgers in order of outstanding demand, largest first; equal ones in the order in which they
/// came to have it, so that of two equally hungry subscribers the one that has waited longer is served.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    ordered: Vec<(SubscriberId, Ledger)>,
}

impl Pairs {
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
        self.settle(at);
    }

    /// The largest outstanding demand; 0 without subscribers.
    pub(crate) fn largest(&self) -> usize {
        self.ordered.first().map_or(0, |(_, ledger)| ledger.outstanding())
    }

    /// Books up to `events` for the subscriber with the largest outstanding demand.
    pub(crate) fn grant(&mut self, events: usize) -> Option<(SubscriberId, usize)> {
        let (id, ledger) = self.ordered.first_mut()?;
        let granted = events.min(ledger.outstanding());
        if granted == 0 {
            return None;
        }
        ledger.grant(granted);
        let id = *id;
        self.settle(0);
        Some((id, granted))
    }

    /// Outstanding demand of all together.
    pub(crate) fn total(&self) -> usize {
        self.ordered.iter().map(|(_, ledger)| ledger.outstanding()).sum()
    }

    /// Moves the pair at `at` to where it belongs now: behind all that have as much.
    fn settle(&mut self, at: usize) {
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
        let mut pairs = Pairs::default();
        for id in [one, two, three] {
            pairs.subscribe(id);
            pairs.ask(id, 1);
        }
        assert_eq!(pairs.grant(5), Some((one, 1)));
        // Asking again at once does not put it before those who wait.
        pairs.ask(one, 1);
        assert_eq!(pairs.grant(5), Some((two, 1)));
        assert_eq!(pairs.grant(5), Some((three, 1)));
        pairs.ask(three, 2);
        assert_eq!((pairs.largest(), pairs.total()), (2, 3));
        assert_eq!(pairs.grant(1), Some((three, 1)));
        assert_eq!(pairs.grant(5), Some((one, 1)), "it has had its one for longer");
        assert!(pairs.cancel(three));
        assert_eq!(pairs.grant(5), None);
    }
}
