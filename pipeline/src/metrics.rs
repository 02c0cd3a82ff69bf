//! Metrics: their names as scraped, and the handles that each stage makes once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::refused::Refused;

/// Events that consumers asked a stage for.
pub const DEMAND_ASKED_TOTAL: &str = "tidegate_demand_asked_total";
/// Events that a stage granted to its consumers.
pub const DEMAND_GRANTED_TOTAL: &str = "tidegate_demand_granted_total";
/// Whole seconds that callers waited for a place in a stage's buffer.
pub const BACKPRESSURE_SECONDS_TOTAL: &str = "tidegate_backpressure_seconds_total";
/// Calls that a stage refused, by reason: `full`, `key_full`, `closed`, `too_large`.
pub const CALLS_SHED_TOTAL: &str = "tidegate_calls_shed_total";
/// Events for which the service of a consumer returned an error.
pub const EVENTS_FAILED_TOTAL: &str = "tidegate_events_failed_total";
/// Events (or batches) whose service panicked.
pub const EVENTS_PANICKED_TOTAL: &str = "tidegate_events_panicked_total";
/// Seconds that a service took, by stage and outcome (`ok`, `error`).
pub const STAGE_DURATION_SECONDS: &str = "tidegate_stage_duration_seconds";
/// Seconds that an event waited in its producer, by stage: from its push, or from when it was resumed, to its grant.
pub const QUEUE_DURATION_SECONDS: &str = "tidegate_queue_duration_seconds";
/// Seconds of a turn, by stage: from the grant until its key is free or parked.
pub const TURN_DURATION_SECONDS: &str = "tidegate_turn_duration_seconds";

/// How long the events of a producer wait.
pub(crate) fn queue_duration(stage: &'static str) -> Histogram {
    histogram!(QUEUE_DURATION_SECONDS, "stage" => stage)
}

/// The handles of a keyed producer: how long its events wait, and how long their turns take.
#[derive(Debug)]
pub(crate) struct TurnTimes {
    pub(crate) queued: Histogram,
    pub(crate) turns: Histogram,
}

impl TurnTimes {
    pub(crate) fn new(stage: &'static str) -> TurnTimes {
        TurnTimes {
            queued: queue_duration(stage),
            turns: histogram!(TURN_DURATION_SECONDS, "stage" => stage),
        }
    }
}

/// A producer's handles.
#[derive(Debug)]
pub(crate) struct ProducerMetrics {
    asked: Counter,
    granted: Counter,
    waited: Counter,
    waited_micros: AtomicU64,
    shed: [Counter; 5],
}

impl ProducerMetrics {
    pub(crate) fn new(stage: &'static str) -> ProducerMetrics {
        let shed = |reason| counter!(CALLS_SHED_TOTAL, "stage" => stage, "reason" => reason);
        ProducerMetrics {
            asked: counter!(DEMAND_ASKED_TOTAL, "stage" => stage),
            granted: counter!(DEMAND_GRANTED_TOTAL, "stage" => stage),
            waited: counter!(BACKPRESSURE_SECONDS_TOTAL, "stage" => stage),
            waited_micros: AtomicU64::new(0),
            shed: [
                shed("full"),
                shed("share_full"),
                shed("key_full"),
                shed("closed"),
                shed("too_large"),
            ],
        }
    }

    pub(crate) fn asked(&self, events: usize) {
        self.asked.increment(events as u64);
    }

    pub(crate) fn granted(&self, events: usize) {
        self.granted.increment(events as u64);
    }

    /// Adds to the whole seconds. A counter holds whole numbers, so fractions are kept until they add up
    /// to a second.
    pub(crate) fn waited(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let before = self.waited_micros.fetch_add(micros, Ordering::Relaxed);
        let seconds = before.wrapping_add(micros) / 1_000_000 - before / 1_000_000;
        self.waited.increment(seconds);
    }

    pub(crate) fn refused(&self, reason: Refused) {
        let [full, share_full, key_full, closed, too_large] = &self.shed;
        match reason {
            Refused::Full => full,
            Refused::ShareFull => share_full,
            Refused::KeyFull => key_full,
            Refused::Closed => closed,
            Refused::TooLarge => too_large,
        }
        .increment(1);
    }
}

/// A consumer's handles.
#[derive(Debug)]
pub(crate) struct ConsumerMetrics {
    pub(crate) failed: Counter,
    pub(crate) panicked: Counter,
}

impl ConsumerMetrics {
    pub(crate) fn new(stage: &'static str) -> ConsumerMetrics {
        ConsumerMetrics {
            failed: counter!(EVENTS_FAILED_TOTAL, "stage" => stage),
            panicked: counter!(EVENTS_PANICKED_TOTAL, "stage" => stage),
        }
    }
}
