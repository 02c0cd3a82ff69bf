//! Tally: what the demo's callers have tried and been told, actor by actor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Names that fit six to a line; further actors are numbered.
const NAMES: [&str; 6] = ["tern", "gull", "knot", "teal", "coot", "swan"];
/// The longest latency told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// One actor, as its only caller knows it.
#[derive(Debug)]
pub(super) struct Actor {
    /// Its name.
    pub(super) name: String,
    tried: AtomicU64,
    acknowledged: AtomicU64,
}

impl Actor {
    /// Notes that a call is about to leave and returns the count that its answer must tell.
    pub(super) fn trying(&self) -> u64 {
        self.tried.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that the call noted last was turned away at admission.
    pub(super) fn turned_away(&self) {
        self.tried.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes an answer.
    pub(super) fn acknowledge(&self, count: u64) {
        self.acknowledged.store(count, Ordering::Relaxed);
    }

    /// Calls that have left.
    pub(super) fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// The last count that was answered.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// All actors and the time their answers took.
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

/// Percentiles of a stretch of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    /// Answers.
    pub(super) calls: u64,
    /// Median.
    pub(super) p50: Duration,
    /// 99 of 100 were faster.
    pub(super) p99: Duration,
}

impl Tally {
    /// `actors` actors at nought.
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

    /// Notes how long an answer took.
    pub(super) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US);
        let mut latencies = self.latencies.lock();
        latencies.since_last_asked.saturating_record(micros);
        latencies.all.saturating_record(micros);
    }

    /// Latency since this was asked last.
    pub(super) fn lately(&self) -> Latency {
        let mut latencies = self.latencies.lock();
        let lately = Latency::of(&latencies.since_last_asked);
        latencies.since_last_asked.reset();
        lately
    }

    /// Latency since the start.
    pub(super) fn overall(&self) -> Latency {
        Latency::of(&self.latencies.lock().all)
    }

    /// Calls that have left and are not answered.
    pub(super) fn in_flight(&self) -> u64 {
        self.actors.iter().map(|actor| actor.tried() - actor.acknowledged()).sum()
    }

    /// Counts that were answered, all actors together.
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
