//! Metrics: their names as scraped, and the handles that each stage makes once.

mod described;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};

pub use described::{Described, Kind};

use crate::refused::Refused;

crate::described! {
    /// Events that consumers asked a stage for.
    Counter DEMAND_ASKED_TOTAL = "tidegate_demand_asked_total" {stage};
    /// Events that a stage granted to its consumers.
    Counter DEMAND_GRANTED_TOTAL = "tidegate_demand_granted_total" {stage};
    /// Whole seconds that callers waited for a place in a stage's buffer.
    Counter BACKPRESSURE_SECONDS_TOTAL = "tidegate_backpressure_seconds_total" {stage};
    /// Events that a stage refused, by reason: `full` (its buffer), `share_full` (one host holds its share), `key_full` (one actor has
    /// too many), `too_large` (the event), `closed` (the stage).
    Counter CALLS_SHED_TOTAL = "tidegate_calls_shed_total" {stage, reason};
    /// Events for which the service of a consumer returned an error.
    Counter EVENTS_FAILED_TOTAL = "tidegate_events_failed_total" {stage};
    /// Events, or batches, whose service panicked.
    Counter EVENTS_PANICKED_TOTAL = "tidegate_events_panicked_total" {stage};
    /// Events that wait in a stage until they are granted.
    Gauge QUEUED_EVENTS = "tidegate_queued_events" {stage};
    /// Events in flight: granted, and their turns are not over. Parked ones do not count.
    Gauge IN_FLIGHT_EVENTS = "tidegate_in_flight_events" {stage};
    /// Events whose turns are parked: they hold their actor and no slot.
    Gauge PARKED_EVENTS = "tidegate_parked_events" {stage};
    /// Events that consumers ask for now and that the stage has not granted: free slots.
    Gauge DEMAND_EVENTS = "tidegate_demand_events" {stage};
    /// Events that hold a place in the buffer of a stage.
    Gauge BUFFER_EVENTS = "tidegate_buffer_events" {stage};
    /// Bytes of these places.
    Gauge BUFFER_BYTES = "tidegate_buffer_bytes" {stage};
    /// Most events that the buffer of a stage takes.
    Gauge BUFFER_LIMIT_EVENTS = "tidegate_buffer_limit_events" {stage};
    /// Most bytes that the buffer of a stage takes.
    Gauge BUFFER_LIMIT_BYTES = "tidegate_buffer_limit_bytes" {stage};
    /// Time that the service of a stage took (ok, error).
    Histogram STAGE_DURATION_SECONDS = "tidegate_stage_duration_seconds" {stage, outcome};
    /// Time that an event waited in a stage, from its push, or from when it was resumed, to its grant.
    Histogram QUEUE_DURATION_SECONDS = "tidegate_queue_duration_seconds" {stage};
    /// Time of a turn, from the grant until its key is free or parked.
    Histogram TURN_DURATION_SECONDS = "tidegate_turn_duration_seconds" {stage};
}

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

/// What a stage holds at one moment; see the gauges of the same names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StageView {
    pub(crate) queued: usize,
    /// `None` where the stage does not know when the work is done.
    pub(crate) in_flight: Option<usize>,
    pub(crate) parked: Option<usize>,
    pub(crate) demand: usize,
    /// Events and bytes that hold a place in its buffer.
    pub(crate) held: (usize, usize),
    /// As many as there may be; no events where the buffer is somewhere else.
    pub(crate) limit: (usize, usize),
}

/// Sets the gauges of a stage.
pub(crate) fn show(stage: &'static str, view: &StageView) {
    let set = |name, count: usize| gauge!(name, "stage" => stage).set(to_f64(count));
    set(QUEUED_EVENTS, view.queued);
    set(DEMAND_EVENTS, view.demand);
    view.in_flight.into_iter().for_each(|count| set(IN_FLIGHT_EVENTS, count));
    view.parked.into_iter().for_each(|count| set(PARKED_EVENTS, count));
    if view.limit.0 > 0 {
        show_buffer(stage, view.held, view.limit);
    }
}

/// Sets the gauges of the buffer of a stage: events and bytes, held and at most.
pub fn show_buffer(stage: &'static str, held: (usize, usize), limit: (usize, usize)) {
    let set = |name, count: usize| gauge!(name, "stage" => stage).set(to_f64(count));
    set(BUFFER_EVENTS, held.0);
    set(BUFFER_BYTES, held.1);
    set(BUFFER_LIMIT_EVENTS, limit.0);
    set(BUFFER_LIMIT_BYTES, limit.1);
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^52 nobody counts single events")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

/// A counter of whole seconds. It holds whole numbers, so fractions are kept until they add up to a second.
#[derive(Debug)]
pub struct Seconds {
    counter: Counter,
    micros: AtomicU64,
}

impl Seconds {
    /// Counts with this counter.
    pub fn new(counter: Counter) -> Seconds {
        Seconds { counter, micros: AtomicU64::new(0) }
    }

    /// Adds a time.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let before = self.micros.fetch_add(micros, Ordering::Relaxed);
        self.counter.increment(before.wrapping_add(micros) / 1_000_000 - before / 1_000_000);
    }
}

/// A producer's handles.
#[derive(Debug)]
pub(crate) struct ProducerMetrics {
    pub(crate) stage: &'static str,
    asked: Counter,
    granted: Counter,
    waited: Seconds,
    shed: [Counter; 5],
}

impl ProducerMetrics {
    pub(crate) fn new(stage: &'static str) -> ProducerMetrics {
        let shed = |reason| counter!(CALLS_SHED_TOTAL, "stage" => stage, "reason" => reason);
        ProducerMetrics {
            stage,
            asked: counter!(DEMAND_ASKED_TOTAL, "stage" => stage),
            granted: counter!(DEMAND_GRANTED_TOTAL, "stage" => stage),
            waited: Seconds::new(counter!(BACKPRESSURE_SECONDS_TOTAL, "stage" => stage)),
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

    /// Notes how long a caller waited for a place.
    pub(crate) fn waited(&self, time: Duration) {
        self.waited.add(time);
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
