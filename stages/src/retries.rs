//! Retries: when reaching the store or the host is tried again. Only what certainly had no effect
//! is ever tried again (decision 4).

use std::time::Duration;

use tidegate_pipeline::layer::Delays;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Delays that grow until a deadline; see the [module](self).
#[derive(Debug)]
pub(crate) struct Retries {
    limit: Limit,
    delays: Option<Box<Delays>>,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Until(Instant),
    /// From the first failure on.
    Lasting(Duration),
}

impl Retries {
    /// Retries until a moment.
    pub(crate) fn until(until: Instant) -> Self {
        Self { limit: Limit::Until(until), delays: None }
    }

    /// Retries for a while after the first failure, whenever that is.
    pub(crate) fn lasting(duration: Duration) -> Self {
        Self { limit: Limit::Lasting(duration), delays: None }
    }

    /// Retries for a while from now on.
    pub(crate) fn within(duration: Duration) -> Self {
        Self::until(Instant::now() + duration)
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
        (now + pause < until).then_some(pause)
    }
}
