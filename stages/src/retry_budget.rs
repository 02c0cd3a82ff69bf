//! Retry budget: bounds how often a failing host or store is tried again, however many turns wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Error;

/// Retries that are allowed, per host and for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRates {
    /// Per 100 first attempts.
    pub percent: u32,
    /// Per second, in any case.
    pub per_second: u32,
}

impl Default for RetryRates {
    fn default() -> Self {
        Self { percent: 20, per_second: 10 }
    }
}

/// What one retry costs: per second and microsecond a whole number is earned.
const RETRY: u64 = 1_000_000;

/// Most retries that first attempts earn in advance, so that a long quiet time does not pay for a flood of retries.
const SAVED: u64 = 100;

/// How long an unused budget of a host is kept. After that time it equals a new one.
const KEPT: Duration = Duration::from_secs(10);

/// The retries that one host or store may have now. A retry that succeeds gives its price back: the turns that waited
/// for the end of an outage are not slowed down after the outage.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    rates: RetryRates,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// What is left, in the unit of [`RETRY`].
    earned: u64,
    /// When time was last counted.
    at: Instant,
}

impl RetryBudget {
    /// A budget with the retries of one second.
    pub(crate) fn new(rates: RetryRates) -> Self {
        let held = Held { earned: u64::from(rates.per_second) * RETRY, at: Instant::now() };
        Self { rates, held: Mutex::new(held) }
    }

    /// Counts a first attempt.
    pub(crate) fn deposit(&self) {
        self.earn(u64::from(self.rates.percent) * (RETRY / 100));
    }

    /// Takes back what a retry has cost, because it succeeded.
    pub(crate) fn refund(&self) {
        self.earn(RETRY);
    }

    fn earn(&self, amount: u64) {
        let most = SAVED.max(self.rates.per_second.into()) * RETRY;
        let mut held = self.held.lock();
        held.earned = (held.earned + amount).min(most);
    }

    /// Takes the price of a retry. Returns whether there was enough.
    pub(crate) fn withdraw(&self) -> bool {
        let per_second = u64::from(self.rates.per_second);
        let mut held = self.held.lock();
        let now = Instant::now();
        let elapsed_us = u64::try_from((now - held.at).as_micros()).unwrap_or(u64::MAX);
        held.at = now;
        // Time fills it up to the retries of one second, calls beyond that.
        let filled = held.earned.saturating_add(elapsed_us.saturating_mul(per_second));
        held.earned = held.earned.max(filled.min(per_second * RETRY));
        let Some(rest) = held.earned.checked_sub(RETRY) else { return false };
        held.earned = rest;
        true
    }

    fn is_idle(&self) -> bool {
        self.held.lock().at.elapsed() >= KEPT
    }
}

/// The budgets of the store and of every host that has failed lately.
#[derive(Debug)]
pub(crate) struct RetryBudgets {
    rates: RetryRates,
    /// That of the store.
    pub(crate) store: Arc<RetryBudget>,
    /// By the number of the host's limit.
    hosts: Mutex<HashMap<u32, Arc<RetryBudget>>>,
    /// How many there are, so that calls of hosts that work take no lock.
    failing: AtomicUsize,
}

impl RetryBudgets {
    pub(crate) fn new(rates: RetryRates) -> Self {
        Self {
            rates,
            store: Arc::new(RetryBudget::new(rates)),
            hosts: Mutex::default(),
            failing: AtomicUsize::new(0),
        }
    }

    /// Counts the first attempt of a call at its host.
    pub(crate) fn host_called(&self, host_limit: u32) {
        if self.failing.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(budget) = self.hosts.lock().get(&host_limit) {
            budget.deposit();
        }
    }

    /// The budget that pays for another try of a turn that failed with `error`.
    pub(crate) fn of(&self, error: &Error, host_limit: u32) -> Arc<RetryBudget> {
        if matches!(error, Error::Host(_)) { self.of_host(host_limit) } else { self.store.clone() }
    }

    fn of_host(&self, host_limit: u32) -> Arc<RetryBudget> {
        let mut hosts = self.hosts.lock();
        if let Some(budget) = hosts.get(&host_limit) {
            return budget.clone();
        }
        // Hosts that work again, or are gone.
        hosts.retain(|_, budget| !budget.is_idle());
        let budget = Arc::new(RetryBudget::new(self.rates));
        hosts.insert(host_limit, budget.clone());
        self.failing.store(hosts.len(), Ordering::Relaxed);
        budget
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn retries(budget: &RetryBudget) -> usize {
        std::iter::repeat_with(|| budget.withdraw()).take_while(|paid| *paid).count()
    }

    #[tokio::test(start_paused = true)]
    async fn time_saves_up_the_retries_of_one_second_and_calls_a_fixed_number() {
        let budget = RetryBudget::new(RetryRates::default());
        assert_eq!(retries(&budget), 10);
        advance(Duration::from_millis(250)).await;
        assert_eq!(retries(&budget), 2);
        advance(Duration::from_hours(1)).await;
        assert_eq!(retries(&budget), 10);
        (0..15).for_each(|_| budget.deposit());
        assert_eq!(retries(&budget), 3);
        (0..100_000).for_each(|_| budget.deposit());
        assert_eq!(retries(&budget), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_that_succeeds_costs_nothing() {
        let budget = RetryBudget::new(RetryRates { percent: 0, per_second: 1 });
        for _ in 0..1_000 {
            assert!(budget.withdraw());
            budget.refund();
        }
        assert_eq!(retries(&budget), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_of_a_host_that_is_gone_is_forgotten() {
        let budgets = RetryBudgets::new(RetryRates::default());
        for host_limit in 1..1_000 {
            budgets.of_host(host_limit);
            advance(Duration::from_secs(1)).await;
        }
        assert!(budgets.hosts.lock().len() <= 11);
    }
}
