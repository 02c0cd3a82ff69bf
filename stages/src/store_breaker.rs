//! Store breaker: refuses turns that need the store while the store fails.
//!
//! It opens when a write or a load fails, or the outcome of a write is unknown, for a pause that grows with each failure.
//! After the pause it is half open: exactly one turn passes, the [`Probe`]. The others pass when the store has worked again.
//! A probe reads from the store before its action runs, so that no action runs in vain during an outage. After it has read,
//! its turn may have to wait for a permit of its host: it asks again when it goes on, and until then others may read.

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
    /// The running probe.
    probe: Option<Running>,
    /// How many probes there were.
    probes: u64,
}

/// The probe that runs.
#[derive(Debug)]
struct Running {
    number: u64,
    /// Whether its turn has read from the store and goes on; otherwise it reads.
    has_read: bool,
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
    /// Whether its turn may go on: it has read from the store since the last failure.
    pub(crate) has_read: bool,
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(open) = &mut *self.breaker.open.lock()
            && open.probe.as_ref().is_some_and(|probe| probe.number == self.number)
        {
            open.probe = None;
        }
    }
}

impl StoreBreaker {
    /// Asks whether a turn may use the store now. `read_at`: when it has read from the store as a probe. Such a turn goes on at
    /// once, so it does not wait for a probe that reads.
    pub(crate) fn ask(self: &Arc<Self>, read_at: Option<Instant>) -> StoreAccess {
        if !self.is_open.load(Ordering::Acquire) {
            return StoreAccess::Free;
        }
        let mut held = self.open.lock();
        let Some(open) = &mut *held else { return StoreAccess::Free };
        let left = open.until.saturating_duration_since(Instant::now());
        // Not before the last failure.
        let has_read = read_at.is_some_and(|at| at + open.pause >= open.until);
        let is_taken = open.probe.as_ref().is_some_and(|probe| probe.has_read || !has_read);
        if !left.is_zero() || is_taken {
            let retry_after = if left.is_zero() { open.pause } else { left };
            let (error, by_write) = (open.error.clone(), open.by_write);
            return StoreAccess::Refused(Refusal { error, retry_after, by_write });
        }
        open.probes += 1;
        let number = open.probes;
        open.probe = Some(Running { number, has_read });
        StoreAccess::Probe(Probe { breaker: self.clone(), number, has_read })
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
        assert!(matches!(breaker.ask(None), StoreAccess::Free));
        fails(&breaker, Access::Write);
        assert!(is_refused(&breaker.ask(None)));
        advance(FIRST_PAUSE).await;
        let StoreAccess::Probe(probe) = breaker.ask(None) else {
            panic!("the first one is the probe")
        };
        for _ in 0..100 {
            advance(Duration::from_secs(1)).await;
            assert!(is_refused(&breaker.ask(None)));
        }
        drop(probe);
        let StoreAccess::Probe(probe) = breaker.ask(None) else {
            panic!("the one before said nothing")
        };
        fails(&breaker, Access::Write);
        drop(probe);
        assert!(is_refused(&breaker.ask(None)));
        advance(FIRST_PAUSE * 2).await;
        assert!(matches!(breaker.ask(None), StoreAccess::Probe(_)));
        breaker.record_success(Access::Write);
        assert!(matches!(breaker.ask(None), StoreAccess::Free));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_has_read_goes_on_alone_and_waits_for_none_that_reads() {
        let breaker = Arc::new(StoreBreaker::default());
        let probe = |read_at| match breaker.ask(read_at) {
            StoreAccess::Probe(probe) => Some(probe),
            StoreAccess::Free | StoreAccess::Refused(_) => None,
        };
        fails(&breaker, Access::Write);
        advance(FIRST_PAUSE).await;
        let reads = probe(None).unwrap();
        assert!(!reads.has_read && probe(None).is_none());
        let read_at = Some(Instant::now());
        let goes_on = probe(read_at).unwrap();
        assert!(goes_on.has_read);
        drop(reads);
        assert!(probe(None).is_none() && probe(read_at).is_none());
        // What was read before the store failed again shows nothing.
        advance(FIRST_PAUSE).await;
        fails(&breaker, Access::Write);
        drop(goes_on);
        advance(FIRST_PAUSE * 2).await;
        assert!(!probe(read_at).unwrap().has_read);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_does_not_show_that_writes_work() {
        let breaker = Arc::new(StoreBreaker::default());
        fails(&breaker, Access::Read);
        breaker.record_success(Access::Read);
        assert!(matches!(breaker.ask(None), StoreAccess::Free));
        fails(&breaker, Access::Write);
        breaker.record_success(Access::Read);
        assert!(is_refused(&breaker.ask(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_with_one_actor_keeps_nobody_else() {
        let breaker = Arc::new(StoreBreaker::default());
        breaker.record_failure(Access::Write, &StoreError::Fenced(7));
        breaker.record_failure(Access::Read, &StoreError::Corrupt("its record".into()));
        assert!(matches!(breaker.ask(None), StoreAccess::Free));
    }
}
