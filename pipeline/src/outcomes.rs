//! Outcomes: counts and logs what a consumer's service returned. An error of a service stops here.

use std::fmt::Display;

use tracing::{error, warn};

use crate::guard::Panic;
use crate::inbox::Ended;
use crate::metrics::ConsumerMetrics;

/// Records the outcomes of one consumer's service.
pub(crate) struct Outcomes {
    consumer: &'static str,
    metrics: ConsumerMetrics,
}

impl Outcomes {
    pub(crate) fn new(consumer: &'static str) -> Outcomes {
        Outcomes { consumer, metrics: ConsumerMetrics::new(consumer) }
    }

    /// Counts and logs a failed event. Returns the response of one that did not fail.
    pub(crate) fn record<R, X: Display>(&self, outcome: Result<Result<R, X>, Panic>) -> Option<R> {
        match outcome {
            Ok(Ok(response)) => return Some(response),
            Ok(Err(error)) => {
                self.metrics.failed.increment(1);
                warn!(consumer = self.consumer, %error, "event failed");
            }
            Err(panic) => {
                self.metrics.panicked.increment(1);
                error!(consumer = self.consumer, %panic, "event panicked");
            }
        }
        None
    }

    /// Ends the consumer when its service failed in `poll_ready`: for tower, it is broken for good.
    pub(crate) fn ready<X: Display>(
        &self,
        ready: Result<Result<(), X>, Panic>,
    ) -> Result<(), Ended> {
        match ready {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                error!(consumer = self.consumer, %error, "the service takes no more events");
            }
            Err(panic) => {
                error!(consumer = self.consumer, %panic, "the service panicked in poll_ready");
            }
        }
        Err(Ended::ServiceFailed)
    }
}
