//! Retries: delays between tries to reach the store or the host. Only a try that certainly had no effect is repeated (decision
//! 4).

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::layer::Delays;
use tokio::time::Instant;

use crate::retry_budget::RetryBudget;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);
/// How late a timer may be: what ends at the same moment as the call's time comes too late.
const TICK: Duration = Duration::from_millis(1);

/// Delays that grow until a deadline; see the [module](self).
#[derive(Debug)]
pub(crate) struct Retries {
    limit: Limit,
    delays: Option<Box<Delays>>,
    /// The budget that paid for the next try; `None` for the first try, which costs nothing.
    pub(crate) paid: Option<Arc<RetryBudget>>,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Until(Instant),
    /// For this long from the first failure.
    Lasting(Duration),
}

impl Retries {
    /// Retries until an instant.
    pub(crate) fn until(until: Instant) -> Self {
        Self { limit: Limit::Until(until), delays: None, paid: None }
    }

    /// Retries for this long after the first failure.
    pub(crate) fn lasting(duration: Duration) -> Self {
        Self { limit: Limit::Lasting(duration), delays: None, paid: None }
    }

    /// Retries for this long from now on.
    pub(crate) fn within(duration: Duration) -> Self {
        Self::until(Instant::now() + duration)
    }

    /// Whether nothing has failed yet.
    pub(crate) fn is_first(&self) -> bool {
        self.delays.is_none()
    }

    /// The pause before the next try, or `None` when it would come too late.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        let delays = self.delays.get_or_insert_with(|| Box::new(Delays::new(FIRST, LONGEST)));
        let pause = delays.next_delay();
        let now = Instant::now();
        let until = match self.limit {
            Limit::Until(until) => until,
            Limit::Lasting(duration) => now + duration,
        };
        self.limit = Limit::Until(until);
        (now + pause + TICK < until).then_some(pause)
    }
}
