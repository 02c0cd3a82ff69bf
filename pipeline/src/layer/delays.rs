//! Delays: how long to wait before each further try. This file alone knows the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// Delays that grow by half each time, with jitter of half a delay either way.
///
/// ```
/// use std::time::Duration;
/// use tidegate_pipeline::layer::Delays;
///
/// let mut delays = Delays::new(Duration::from_millis(10), Duration::from_secs(1));
/// assert!(delays.next_delay() <= Duration::from_millis(15));
/// ```
#[derive(Debug)]
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Delays of about `first` at first and about `longest` at most.
    pub fn new(first: Duration, longest: Duration) -> Delays {
        Delays(ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            max_interval: longest,
            // Its own clock is not tokio's; how long a call may take is its caller's matter.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// The next delay; tokio sleeps it.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }
}
