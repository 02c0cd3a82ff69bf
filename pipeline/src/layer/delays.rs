//! Delays: how long to wait before each further try. Only this file uses the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use crate::randomness::chance;

/// Computes delays. Each is half as long again as the one before, plus or minus half of it at random.
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
    /// Starts at about `first` and grows to about `longest`.
    pub fn new(first: Duration, longest: Duration) -> Delays {
        Delays(ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            max_interval: longest,
            // Drawn from the source that a simulation begins anew; its own cannot be.
            randomization_factor: 0.0,
            // Its clock is not tokio's. The caller limits the time of all tries together.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// Returns the next delay.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.0.next_backoff().unwrap_or(self.0.max_interval);
        delay.mul_f64(0.5 + chance())
    }
}
