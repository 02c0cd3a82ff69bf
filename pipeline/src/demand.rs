//! Demand: how many events were asked for and how many were granted. Pure arithmetic.
//!
//! Each pair of one producer and one consumer has two counts. The producer keeps a [`Ledger`]: it may
//! grant what was asked and not one event more (I1). The consumer keeps an [`Account`]: it asks for
//! [`max`](Account::new) events at first, and asks again when at most `min` of them are not done.

/// The producer's count of one pair: all events asked for and all events granted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    asked: u64,
    granted: u64,
}

impl Ledger {
    /// Records demand for more events.
    pub(crate) fn ask(&mut self, events: usize) {
        self.asked += events as u64;
    }

    /// Records granted events, which must have been asked for (I1).
    pub(crate) fn grant(&mut self, events: usize) {
        self.granted += events as u64;
        debug_assert!(self.granted <= self.asked, "I1: granted {} of {}", self.granted, self.asked);
    }

    /// Returns how many events are asked for and not granted yet.
    pub(crate) fn outstanding(&self) -> usize {
        usize::try_from(self.asked - self.granted).unwrap_or(usize::MAX)
    }
}

/// The consumer's count of one pair: how much it may ask for, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    max: usize,
    min: usize,
    automatic: bool,
    /// Events asked for and not done: not granted yet, in the channel, or running.
    out: usize,
    /// Events done and not asked for again.
    returned: usize,
}

impl Account {
    /// At most `max` events are ever asked for and not done. An automatic account asks again when at
    /// most `min` are.
    pub(crate) fn new(max: usize, min: usize, automatic: bool) -> Account {
        debug_assert!(min < max, "min demand is below max demand");
        Account { max, min, automatic, out: 0, returned: 0 }
    }

    /// Returns how much to ask for when the subscription starts.
    pub(crate) fn open(&mut self) -> usize {
        if self.automatic { self.ask(self.max) } else { 0 }
    }

    /// Asks for up to `events`, at most what `max` leaves. Returns how much to ask for.
    pub(crate) fn ask(&mut self, events: usize) -> usize {
        let events = events.min(self.max - self.out);
        self.out += events;
        events
    }

    /// Records finished events. Returns how much to ask for now.
    pub(crate) fn give_back(&mut self, events: usize) -> usize {
        debug_assert!(events <= self.out, "I1: {events} done of {}", self.out);
        self.out = self.out.saturating_sub(events);
        if !self.automatic {
            return 0;
        }
        self.returned += events;
        if self.returned < self.max - self.min {
            return 0;
        }
        let again = std::mem::take(&mut self.returned);
        self.ask(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_automatic_account_asks_for_max_and_again_at_min() {
        let mut account = Account::new(1000, 750, true);
        assert_eq!(account.open(), 1000);
        assert_eq!(account.give_back(249), 0);
        assert_eq!(account.give_back(1), 250);
        assert_eq!(account.give_back(600), 600);
    }

    #[test]
    fn a_manual_account_asks_only_by_hand_and_never_beyond_max() {
        let mut account = Account::new(10, 0, false);
        assert_eq!(account.open(), 0);
        assert_eq!(account.ask(7), 7);
        assert_eq!(account.ask(7), 3);
        assert_eq!(account.give_back(10), 0);
        assert_eq!(account.ask(2), 2);
    }

    proptest! {
        /// A pair never grants more than was asked, and never has more than `max` events out. An
        /// automatic pair whose events are all done has its demand at the producer again.
        #[test]
        fn the_counts_of_a_pair_agree(
            max in 1usize..50,
            min in 0usize..50,
            steps in prop::collection::vec((any::<bool>(), 1usize..60), 0..200),
        ) {
            let min = min.min(max - 1);
            let (mut ledger, mut account) = (Ledger::default(), Account::new(max, min, true));
            ledger.ask(account.open());
            let (mut working, mut asked, mut granted) = (0, max, 0);
            for (grant, count) in steps {
                if grant {
                    let count = count.min(ledger.outstanding());
                    ledger.grant(count);
                    granted += count;
                    working += count;
                } else {
                    let count = count.min(working);
                    working -= count;
                    let again = account.give_back(count);
                    asked += again;
                    ledger.ask(again);
                }
                prop_assert!(granted <= asked);
                prop_assert_eq!(ledger.outstanding(), asked - granted);
                prop_assert!(working + ledger.outstanding() <= max);
                if working == 0 {
                    prop_assert!(ledger.outstanding() > min.min(max - 1), "all done, yet nothing asked");
                }
            }
        }
    }
}
