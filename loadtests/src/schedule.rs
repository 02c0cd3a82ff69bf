//! Schedule: when calls are due, independent of which connection is free.
//!
//! An open loop sends calls at a fixed rate, whatever the target does. A call's latency counts from when the call was due, not
//! from when it was sent. So a stall of the target cannot hide calls that were delayed by it (no coordinated omission).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Shortest sleep of the pacer, so that it does not use a whole core at high rates.
const PACER_REST: Duration = Duration::from_micros(200);

/// Evenly spaced arrivals at a fixed rate for a fixed time. Times are offsets from the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    rate: f64,
    total: u64,
}

impl Schedule {
    /// `rate` arrivals a second for `duration`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are positive"
    )]
    pub fn new(rate: f64, duration: Duration) -> Self {
        Self { rate, total: (rate * duration.as_secs_f64()).round() as u64 }
    }

    /// Number of arrivals.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When arrival `number`, counted from 0, is due.
    #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^52 arrivals")]
    pub fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many arrivals are due once `elapsed` has passed.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are positive"
    )]
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        ((elapsed.as_secs_f64() * self.rate) as u64 + 1).min(self.total)
    }
}

/// Arrivals in order of their due times, for any number of takers. Untaken arrivals are only a number, so memory does not grow
/// while the target is slow.
#[derive(Debug)]
pub struct Arrivals {
    schedule: Schedule,
    start: Instant,
    due: Semaphore,
    taken: AtomicU64,
}

impl Arrivals {
    /// Starts the arrivals now.
    pub fn new(schedule: Schedule) -> Self {
        let (due, taken) = (Semaphore::new(0), AtomicU64::new(0));
        Self { schedule, start: Instant::now(), due, taken }
    }

    /// Waits for an untaken arrival. Returns its number and its due time; `None` after the end.
    pub async fn next(&self) -> Option<(u64, Instant)> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Some((number, self.start + self.schedule.due(number)))
    }

    /// Number of arrivals, taken or not.
    pub fn total(&self) -> u64 {
        self.schedule.total()
    }

    /// Arrivals that were due and never taken.
    pub fn untaken(&self) -> u64 {
        self.schedule.total().saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Releases arrivals at their due times, until the last. Blocks its thread.
    ///
    /// tokio's timer ticks in milliseconds, which would distort every latency; a thread's sleep is twenty times finer.
    #[expect(
        clippy::disallowed_methods,
        reason = "an own thread that paces; tokio's timer is too coarse"
    )]
    pub fn pace(&self, linger: Duration) {
        let mut released = 0;
        while released < self.schedule.total() && !self.due.is_closed() {
            let due = self.schedule.due_by(self.start.elapsed());
            self.due.add_permits(usize::try_from(due - released).unwrap_or(usize::MAX));
            released = due;
            let next = self.start + self.schedule.due(released);
            std::thread::sleep(next.saturating_duration_since(Instant::now()).max(PACER_REST));
        }
        let end = Instant::now() + linger;
        while !self.due.is_closed() && self.untaken() > 0 && Instant::now() < end {
            std::thread::sleep(PACER_REST);
        }
        self.close();
    }

    /// Ends the arrivals: takers receive no more.
    pub fn close(&self) {
        self.due.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spaced_over_the_whole_duration() {
        let schedule = Schedule::new(1000.0, Duration::from_secs(3));
        assert_eq!(schedule.total(), 3000);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1500), Duration::from_millis(1500));
    }

    #[test]
    fn an_arrival_is_released_when_it_is_due_and_not_before() {
        let schedule = Schedule::new(1000.0, Duration::from_secs(1));
        assert_eq!(schedule.due_by(Duration::ZERO), 1);
        assert_eq!(schedule.due_by(Duration::from_micros(9_900)), 10);
        assert_eq!(schedule.due_by(Duration::from_micros(10_100)), 11);
        assert_eq!(schedule.due_by(Duration::from_secs(9)), 1000);
    }

    #[tokio::test]
    async fn a_late_taker_is_told_when_its_arrival_was_due() {
        let arrivals = Arrivals::new(Schedule::new(1000.0, Duration::from_secs(1)));
        arrivals.due.add_permits(3);
        for expected in 0..3 {
            let (number, due) = arrivals.next().await.unwrap();
            assert_eq!(number, expected);
            assert_eq!(due - arrivals.start, Duration::from_millis(expected));
        }
        assert_eq!(arrivals.untaken(), 997);
        arrivals.close();
        assert_eq!(arrivals.next().await, None);
    }
}
