//! Ledger: records the calls and counts of each actor, to find lost and doubled calls.
//!
//! Each call increments its actor's count by one and returns the new count. Hence, for every actor: no count is returned twice;
//! no count is lower than one acknowledged before the call was sent; no count is higher than the number of calls sent so far. At
//! the end, the highest count lies between the number of acknowledged calls and that number plus the calls with unknown outcome.

use parking_lot::Mutex;

/// A response that cannot be correct.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Wrong {
    #[error("actor {actor}: count {count} was answered twice")]
    Twice { actor: usize, count: u64 },
    #[error("actor {actor}: count {count} was answered after {floor} had been acknowledged")]
    WentBack { actor: usize, count: u64, floor: u64 },
    #[error("actor {actor}: count {count} was answered, but only {asked} calls were made")]
    TooHigh { actor: usize, count: u64, asked: u64 },
    #[error(
        "actor {actor}: counted to {highest} for {acknowledged} acknowledged and {unknown} unknown calls"
    )]
    Lost { actor: usize, highest: u64, acknowledged: u64, unknown: u64 },
}

/// A call in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The actor's index.
    pub actor: usize,
    /// Number of earlier calls to this actor in this ledger.
    pub before: u64,
    floor: u64,
}

/// One account per actor.
#[derive(Debug)]
pub struct Ledger {
    accounts: Vec<Mutex<Account>>,
}

#[derive(Debug, Default)]
struct Account {
    /// The actor's count before this ledger was opened.
    base: u64,
    asked: u64,
    acknowledged: u64,
    unknown: u64,
    not_run: u64,
    highest: u64,
    /// One bit per returned count; bounded by the number of calls.
    seen: Vec<u64>,
}

impl Ledger {
    /// Empty accounts for `actors` actors.
    pub fn new(actors: usize) -> Self {
        Self { accounts: (0..actors).map(|_| Mutex::default()).collect() }
    }

    /// Number of actors.
    pub fn actors(&self) -> usize {
        self.accounts.len()
    }

    /// Sets an actor's count before its first call in this ledger.
    pub fn opens_at(&self, actor: usize, base: u64) {
        self.accounts[actor].lock().base = base;
    }

    /// Records a call, before it is sent.
    pub fn asks(&self, actor: usize) -> Asked {
        let mut account = self.accounts[actor].lock();
        account.asked += 1;
        Asked { actor, before: account.asked - 1, floor: account.highest }
    }

    /// Records the count that a call returned.
    ///
    /// # Errors
    /// When no correct proxy can return this count.
    pub fn answered(&self, asked: Asked, count: u64) -> Result<(), Wrong> {
        let Asked { actor, floor, .. } = asked;
        let mut account = self.accounts[actor].lock();
        let base = account.base;
        account.acknowledged += 1;
        let relative = count.saturating_sub(base);
        if relative > account.asked - account.not_run {
            return Err(Wrong::TooHigh { actor, count, asked: account.asked });
        }
        if relative <= floor {
            return Err(Wrong::WentBack { actor, count, floor: base + floor });
        }
        if !account.mark(relative) {
            return Err(Wrong::Twice { actor, count });
        }
        account.highest = account.highest.max(relative);
        Ok(())
    }

    /// Records that a call certainly did not run.
    pub fn did_not_run(&self, asked: Asked) {
        self.accounts[asked.actor].lock().not_run += 1;
    }

    /// Records that a call may have run.
    pub fn is_unknown(&self, asked: Asked) {
        self.accounts[asked.actor].lock().unknown += 1;
    }

    /// Checks the balance of every account. Call this when no call is in flight.
    pub fn audit(&self) -> Vec<Wrong> {
        let balance = |(actor, account): (usize, &Mutex<Account>)| {
            let Account { highest, acknowledged, unknown, .. } = *account.lock();
            let balanced = (acknowledged..=acknowledged + unknown).contains(&highest);
            (!balanced).then_some(Wrong::Lost { actor, highest, acknowledged, unknown })
        };
        self.accounts.iter().enumerate().filter_map(balance).collect()
    }
}

impl Account {
    /// Returns whether this count is new.
    fn mark(&mut self, count: u64) -> bool {
        let (word, bit) = (usize::try_from(count / 64).unwrap_or(usize::MAX), 1 << (count % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_may_be_answered_in_any_order_of_concurrent_calls() {
        let ledger = Ledger::new(1);
        let (first, second) = (ledger.asks(0), ledger.asks(0));
        assert_eq!(ledger.answered(first, 2), Ok(()));
        assert_eq!(ledger.answered(second, 1), Ok(()));
        assert_eq!(ledger.audit(), []);
    }

    #[test]
    fn a_count_that_is_answered_twice_is_wrong() {
        let ledger = Ledger::new(1);
        let (first, second) = (ledger.asks(0), ledger.asks(0));
        ledger.answered(first, 1).unwrap();
        assert_eq!(ledger.answered(second, 1), Err(Wrong::Twice { actor: 0, count: 1 }));
    }

    #[test]
    fn a_count_that_forgets_an_acknowledged_call_is_wrong() {
        let ledger = Ledger::new(1);
        for count in 1..=3 {
            ledger.answered(ledger.asks(0), count).unwrap();
        }
        let wrong = Wrong::WentBack { actor: 0, count: 1, floor: 3 };
        assert_eq!(ledger.answered(ledger.asks(0), 1), Err(wrong));
    }

    #[test]
    fn a_call_that_ran_more_often_than_it_was_asked_is_wrong() {
        let ledger = Ledger::new(1);
        let wrong = Wrong::TooHigh { actor: 0, count: 2, asked: 1 };
        assert_eq!(ledger.answered(ledger.asks(0), 2), Err(wrong));
    }

    #[test]
    fn a_shed_call_must_not_have_run() {
        let ledger = Ledger::new(1);
        ledger.did_not_run(ledger.asks(0));
        let wrong = Wrong::TooHigh { actor: 0, count: 2, asked: 2 };
        assert_eq!(ledger.answered(ledger.asks(0), 2), Err(wrong));
    }

    #[test]
    fn an_unknown_call_may_have_run_or_not() {
        for count in [1, 2] {
            let ledger = Ledger::new(1);
            ledger.is_unknown(ledger.asks(0));
            ledger.answered(ledger.asks(0), count).unwrap();
            assert_eq!(ledger.audit(), []);
        }
    }

    #[test]
    fn an_actor_may_have_counted_before() {
        let ledger = Ledger::new(1);
        ledger.opens_at(0, 100);
        ledger.answered(ledger.asks(0), 101).unwrap();
        let wrong = Wrong::WentBack { actor: 0, count: 99, floor: 101 };
        assert_eq!(ledger.answered(ledger.asks(0), 99), Err(wrong));
    }
}
