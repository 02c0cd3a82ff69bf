//! Retry: repeats a call that failed in a way that is safe to repeat.
//!
//! The delays grow exponentially, with jitter. All calls of a layer share one budget, which limits
//! retries to a part of the traffic: retries do not multiply the load on a failing service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tower::retry::Policy;
use tower::retry::budget::{Budget, TpsBudget};

use super::Delays;

/// An error that says whether the same call may be made again.
pub trait Retryable {
    /// Whether the call certainly had no effect, or has the same effect when made twice.
    fn is_retryable(&self) -> bool;
}

/// When to retry, and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryOptions {
    /// How many times a call is repeated at most.
    pub retries: u32,
    /// The first delay, approximately. Each further delay is half as long again.
    pub first_delay: Duration,
    /// The longest delay, approximately.
    pub longest_delay: Duration,
    /// Retries per second that are always allowed, for all calls of the layer together.
    pub budget_per_second: u32,
    /// Further retries, as a share of the successful calls: 0.2 allows one retry for five calls.
    pub budget_share: f32,
}

impl Default for RetryOptions {
    /// 5 retries with delays from 50 ms to 2 s; a budget of 10 per second and one for five calls.
    fn default() -> RetryOptions {
        RetryOptions {
            retries: 5,
            first_delay: Duration::from_millis(50),
            longest_delay: Duration::from_secs(2),
            budget_per_second: 10,
            budget_share: 0.2,
        }
    }
}

/// tower's retry layer with this crate's policy. The request must be `Clone`, the error
/// [`Retryable`].
pub type RetryLayer = tower::retry::RetryLayer<RetryPolicy>;

/// How long a successful call counts for the budget.
const BUDGET_MEMORY: Duration = Duration::from_secs(10);

impl RetryOptions {
    /// Makes the layer. Its clones and the services made with it share one budget.
    pub fn layer(self) -> RetryLayer {
        let budget = TpsBudget::new(
            BUDGET_MEMORY,
            self.budget_per_second,
            self.budget_share.clamp(0.0, 1000.0),
        );
        RetryLayer::new(RetryPolicy {
            options: self,
            budget: Arc::new(budget),
            tried: 0,
            delays: None,
        })
    }
}

/// Decides whether one call is repeated. Made by [`RetryOptions::layer`].
pub struct RetryPolicy {
    options: RetryOptions,
    budget: Arc<TpsBudget>,
    tried: u32,
    delays: Option<Box<Delays>>,
}

/// A clone is for another call. It shares the budget.
impl Clone for RetryPolicy {
    fn clone(&self) -> RetryPolicy {
        RetryPolicy {
            options: self.options,
            budget: Arc::clone(&self.budget),
            tried: 0,
            delays: None,
        }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("RetryPolicy");
        text.field("options", &self.options).field("tried", &self.tried).finish_non_exhaustive()
    }
}

impl<Q: Clone, R, E: Retryable> Policy<Q, R, E> for RetryPolicy {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Q, result: &mut Result<R, E>) -> Option<Sleep> {
        let is_retryable = match result {
            Ok(_) => {
                self.budget.deposit();
                return None;
            }
            Err(error) => error.is_retryable(),
        };
        // Checked last: a call that is not repeated for another reason must not use the budget.
        if !is_retryable || self.tried >= self.options.retries || !self.budget.withdraw() {
            return None;
        }
        self.tried += 1;
        let RetryOptions { first_delay, longest_delay, .. } = self.options;
        let delays =
            self.delays.get_or_insert_with(|| Box::new(Delays::new(first_delay, longest_delay)));
        Some(sleep(delays.next_delay()))
    }

    fn clone_request(&mut self, request: &Q) -> Option<Q> {
        Some(request.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::Instant;
    use tower::{Layer, Service, ServiceExt, service_fn};

    #[derive(Debug, PartialEq)]
    struct Failed {
        safe: bool,
    }

    impl Retryable for Failed {
        fn is_retryable(&self) -> bool {
            self.safe
        }
    }

    async fn try_it(
        options: RetryOptions,
        fails: u32,
        safe: bool,
    ) -> (Result<(), Failed>, u32, Duration) {
        let tries = Arc::new(AtomicU32::new(0));
        let service = {
            let tries = Arc::clone(&tries);
            service_fn(move |()| {
                let before = tries.fetch_add(1, Ordering::SeqCst);
                async move { if before < fails { Err(Failed { safe }) } else { Ok(()) } }
            })
        };
        let started = Instant::now();
        let outcome = options.layer().layer(service).oneshot(()).await;
        (outcome, tries.load(Ordering::SeqCst), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_safe_failure_is_tried_again_after_growing_delays() {
        let (outcome, tries, took) = try_it(RetryOptions::default(), 3, true).await;
        assert_eq!((outcome, tries), (Ok(()), 4));
        // 50, 75 and 112 ms, each between half and one and a half of it.
        assert!((118..=356).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsafe_failure_is_never_tried_again() {
        let (outcome, tries, took) = try_it(RetryOptions::default(), 1, false).await;
        assert_eq!((outcome, tries, took), (Err(Failed { safe: false }), 1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end() {
        let options = RetryOptions { retries: 2, ..RetryOptions::default() };
        let (outcome, tries, _) = try_it(options, 100, true).await;
        assert_eq!((outcome, tries), (Err(Failed { safe: true }), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_of_all_calls_together_bounds_retries() {
        let tries = Arc::new(AtomicU32::new(0));
        let service = {
            let tries = Arc::clone(&tries);
            service_fn(move |()| {
                tries.fetch_add(1, Ordering::SeqCst);
                async { Err::<(), _>(Failed { safe: true }) }
            })
        };
        let options =
            RetryOptions { budget_per_second: 1, budget_share: 0.0, ..RetryOptions::default() };
        let mut service = options.layer().layer(service);
        for _ in 0..100 {
            let call = service.ready().await.unwrap().call(());
            assert!(call.await.is_err());
        }
        let retries = tries.load(Ordering::SeqCst) - 100;
        assert!(retries <= 20, "{retries} retries for 100 failing calls");
    }
}
