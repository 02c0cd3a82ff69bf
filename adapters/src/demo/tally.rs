//! Tally: the calls that the demo's callers sent, and the counts they received, per actor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::cast::CRIER;

/// Names for one line of output; further actors are numbered.
const NAMES: [&str; 6] = [CRIER, "gull", "knot", "teal", "coot", "swan"];
/// Longest latency that is distinguished, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// One actor, as seen by its only caller.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: String,
    tried: AtomicU64,
    acknowledged: AtomicU64,
}

impl Actor {
    /// Counts a call before it is sent; returns the count that the response must have.
    pub(super) fn trying(&self) -> u64 {
        self.tried.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Removes the last call from the count, because admission refused the call.
    pub(super) fn turned_away(&self) {
        self.tried.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records an acknowledged count.
    pub(super) fn acknowledge(&self, count: u64) {
        self.acknowledged.store(count, Ordering::Relaxed);
    }

    /// Returns the number of calls sent.
    pub(super) fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// Returns the last acknowledged count.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// All actors and their latencies.
#[derive(Debug)]
pub(super) struct Tally {
    /// The actors.
    pub(super) actors: Vec<Actor>,
    latencies: Mutex<Latencies>,
}

#[derive(Debug)]
struct Latencies {
    since_last_asked: Histogram<u64>,
    all: Histogram<u64>,
}

/// Percentiles of an interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    pub(super) calls: u64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Tally {
    /// Creates `actors` actors with count 0.
    pub(super) fn new(actors: u32) -> anyhow::Result<Tally> {
        let names = NAMES
            .into_iter()
            .map(str::to_owned)
            .chain((NAMES.len() + 1..).map(|n| format!("bird-{n}")));
        let actor =
            |name| Actor { name, tried: AtomicU64::new(0), acknowledged: AtomicU64::new(0) };
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
        let latencies = Latencies { since_last_asked: histogram.clone(), all: histogram };
        Ok(Tally {
            actors: names.take(actors as usize).map(actor).collect(),
            latencies: Mutex::new(latencies),
        })
    }

    /// Records the latency of a response.
    pub(super) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US);
        let mut latencies = self.latencies.lock();
        latencies.since_last_asked.saturating_record(micros);
        latencies.all.saturating_record(micros);
    }

    /// Returns the latency since the last call of this method.
    pub(super) fn lately(&self) -> Latency {
        let mut latencies = self.latencies.lock();
        let lately = Latency::of(&latencies.since_last_asked);
        latencies.since_last_asked.reset();
        lately
    }

    pub(super) fn overall(&self) -> Latency {
        Latency::of(&self.latencies.lock().all)
    }

    /// Returns the number of calls without a response.
    pub(super) fn in_flight(&self) -> u64 {
        self.actors.iter().map(|actor| actor.tried() - actor.acknowledged()).sum()
    }

    /// Returns the sum of the acknowledged counts.
    pub(super) fn acknowledged(&self) -> u64 {
        self.actors.iter().map(Actor::acknowledged).sum()
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Latency { calls: histogram.len(), p50: at(0.5), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_flight_until_it_is_answered_or_turned_away() {
        let tally = Tally::new(8).unwrap();
        assert_eq!(tally.actors[7].name, "bird-8");
        assert_eq!((tally.actors[0].trying(), tally.actors[7].trying()), (1, 1));
        assert_eq!(tally.in_flight(), 2);
        tally.actors[0].acknowledge(1);
        tally.actors[7].turned_away();
        assert_eq!((tally.in_flight(), tally.acknowledged()), (0, 1));
    }

    #[test]
    fn what_was_told_lately_is_not_told_again_but_stays_in_the_whole() {
        let tally = Tally::new(1).unwrap();
        tally.record(Duration::from_millis(2));
        assert_eq!(tally.lately().calls, 1);
        assert_eq!(tally.lately().calls, 0);
        assert_eq!(tally.overall().calls, 1);
    }
}
