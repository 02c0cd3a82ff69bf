//! Store breaker: refuses turns that need the store while the store fails.
//!
//! It opens when a write or a load fails, or the outcome of a write is unknown, for a pause that grows with each failure.
//! After the pause it is half open: exactly one turn passes, the [`Probe`]. The others pass when the store has worked again.
//! A probe reads from the store before its action runs, so that no action runs in vain during an outage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

use crate::ports::StoreError;

/// How long a failing store is left alone at first.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long it is left alone at most.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The breaker; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct StoreBreaker {
    /// Whether `open` holds something: read without its lock.
    is_open: AtomicBool,
    open: Mutex<Option<Open>>,
    /// For how long it was open before, in microseconds.
    was_open_us: AtomicU64,
}

/// The state of the breaker while the store fails.
#[derive(Debug)]
struct Open {
    since: Instant,
    until: Instant,
    pause: Duration,
    error: StoreError,
    /// Whether a write failed: then only a write shows that the store works.
    by_write: bool,
    /// The number of the running probe; probes are counted.
    probe: Option<u64>,
    probes: u64,
}

/// What is done with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Whether a turn may use the store.
#[derive(Debug)]
pub(crate) enum StoreAccess {
    /// The store works, as far as is known.
    Free,
    /// The turn shows whether it works.
    Probe(Probe),
    /// The store fails.
    Refused(Refusal),
}

/// A store that fails.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: StoreError,
    pub(crate) retry_after: Duration,
    /// Whether writes failed, not only reads.
    pub(crate) by_write: bool,
}

/// The one turn that passes a half open breaker. If it is dropped before the store has answered, another turn may pass.
#[derive(Debug)]
pub(crate) struct Probe {
    breaker: Arc<StoreBreaker>,
    number: u64,
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(open) = &mut *self.breaker.open.lock()
            && open.probe == Some(self.number)
        {
            open.probe = None;
        }
    }
}

impl StoreBreaker {
    /// Asks whether a turn may use the store now.
    pub(crate) fn ask(self: &Arc<Self>) -> StoreAccess {
        if !self.is_open.load(Ordering::Acquire) {
            return StoreAccess::Free;
        }
        let mut held = self.open.lock();
        let Some(open) = &mut *held else { return StoreAccess::Free };
        let left = open.until.saturating_duration_since(Instant::now());
        if !left.is_zero() || open.probe.is_some() {
            let retry_after = if left.is_zero() { open.pause } else { left };
            let (error, by_write) = (open.error.clone(), open.by_write);
            return StoreAccess::Refused(Refusal { error, retry_after, by_write });
        }
        open.probes += 1;
        open.probe = Some(open.probes);
        StoreAccess::Probe(Probe { breaker: self.clone(), number: open.probes })
    }

    /// Whether it is open, and for how long it was in all.
    pub(crate) fn view(&self) -> (bool, Duration) {
        let open_for = self.open.lock().as_ref().map(|open| open.since.elapsed());
        let before = Duration::from_micros(self.was_open_us.load(Ordering::Relaxed));
        (open_for.is_some(), before + open_for.unwrap_or_default())
    }

    /// Notes that the store failed.
    pub(crate) fn record_failure(&self, access: Access, error: &StoreError) {
        let is_of_one_actor = match access {
            Access::Read => error.is_final(),
            Access::Write => error.is_final() && !matches!(error, StoreError::Corrupt(_)),
        };
        if is_of_one_actor {
            return;
        }
        let (now, by_write) = (Instant::now(), access == Access::Write);
        let mut held = self.open.lock();
        match &mut *held {
            None => {
                error!(%error, "the state store fails; what needs it is refused until it works again");
                let (pause, error) = (FIRST_PAUSE, error.clone());
                let open = Open {
                    since: now,
                    until: now + pause,
                    pause,
                    error,
                    by_write,
                    probe: None,
                    probes: 0,
                };
                *held = Some(open);
            }
            Some(open) => {
                if open.until <= now {
                    open.pause = (open.pause * 2).min(LONGEST_PAUSE);
                }
                open.until = now + open.pause;
                open.by_write |= by_write;
                open.error = error.clone();
            }
        }
        self.is_open.store(true, Ordering::Release);
    }

    /// Notes that the store works.
    pub(crate) fn record_success(&self, access: Access) {
        if !self.is_open.load(Ordering::Acquire) {
            return;
        }
        let mut held = self.open.lock();
        if held.as_ref().is_some_and(|open| access == Access::Write || !open.by_write) {
            let open_for = held.take().map_or(Duration::ZERO, |open| open.since.elapsed());
            self.was_open_us.fetch_add(micros(open_for), Ordering::Relaxed);
            self.is_open.store(false, Ordering::Release);
            info!("the state store works again");
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn fails(breaker: &StoreBreaker, access: Access) {
        breaker.record_failure(access, &StoreError::Unavailable("as the test wants it".into()));
    }

    fn is_refused(passage: &StoreAccess) -> bool {
        matches!(passage, StoreAccess::Refused(_))
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_lets_exactly_one_through_until_it_is_over() {
        let breaker = Arc::new(StoreBreaker::default());
        assert!(matches!(breaker.ask(), StoreAccess::Free));
        fails(&breaker, Access::Write);
        assert!(is_refused(&breaker.ask()));
        advance(FIRST_PAUSE).await;
        let StoreAccess::Probe(probe) = breaker.ask() else { panic!("the first one is the probe") };
        for _ in 0..100 {
            advance(Duration::from_secs(1)).await;
            assert!(is_refused(&breaker.ask()));
        }
        drop(probe);
        let StoreAccess::Probe(probe) = breaker.ask() else {
            panic!("the one before said nothing")
        };
        fails(&breaker, Access::Write);
        drop(probe);
        assert!(is_refused(&breaker.ask()));
        advance(FIRST_PAUSE * 2).await;
        assert!(matches!(breaker.ask(), StoreAccess::Probe(_)));
        breaker.record_success(Access::Write);
        assert!(matches!(breaker.ask(), StoreAccess::Free));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_does_not_show_that_writes_work() {
        let breaker = Arc::new(StoreBreaker::default());
        fails(&breaker, Access::Read);
        breaker.record_success(Access::Read);
        assert!(matches!(breaker.ask(), StoreAccess::Free));
        fails(&breaker, Access::Write);
        breaker.record_success(Access::Read);
        assert!(is_refused(&breaker.ask()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_with_one_actor_keeps_nobody_else() {
        let breaker = Arc::new(StoreBreaker::default());
        breaker.record_failure(Access::Write, &StoreError::Fenced(7));
        breaker.record_failure(Access::Read, &StoreError::Corrupt("its record".into()));
        assert!(matches!(breaker.ask(), StoreAccess::Free));
    }
}
