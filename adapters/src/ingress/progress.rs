//! Progress: what a connection does at the moment, and since when. The connection, its streams and its bytes note it; [`Watch`]
//! reads it.
//!
//! [`Watch`]: super::pace::Watch

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

/// Most requests in flight on one HTTP/2 connection.
pub(super) const STREAMS: u32 = 128;

/// Most answers of one connection whose progress is watched: a connection has as many streams at most.
const WATCHED: usize = STREAMS as usize;
/// Not now.
const NEVER: u64 = 0;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Progress {
    /// Times are the milliseconds since then, and one.
    began: Instant,
    /// Requests so far.
    requests: AtomicU32,
    in_flight: AtomicU32,
    /// When the last byte of the last answer was taken.
    idle_since: AtomicU64,
    /// Since when the rest of a head is waited for.
    head_since: AtomicU64,
    /// Since when the peer takes no byte.
    stuck_since: AtomicU64,
    /// For each answer of an HTTP/2 connection, when a byte of it was last taken.
    answers: OnceLock<Box<[AtomicU64; WATCHED]>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            requests: AtomicU32::default(),
            in_flight: AtomicU32::default(),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(NEVER),
            stuck_since: AtomicU64::new(NEVER),
            answers: OnceLock::new(),
        }
    }
}

impl Progress {
    /// Counts a request as in flight until the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head(false);
        InFlight { progress: Arc::clone(self), answer: None }
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether a request is in flight: its answer has not left.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// Notes whether the rest of a head is waited for.
    pub(super) fn head(&self, is_waited_for: bool) {
        self.since(&self.head_since, is_waited_for);
    }

    /// Notes whether the peer takes no byte.
    pub(super) fn stuck(&self, is_stuck: bool) {
        self.since(&self.stuck_since, is_stuck);
    }

    /// The idle time begins anew.
    pub(super) fn rest(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    /// Since when the peer takes no byte, of the connection or of the answer that has waited longest.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        let answers = self.answers.get().into_iter().flat_map(|answers| answers.iter());
        let all = answers.chain([&self.stuck_since]).filter_map(|since| self.at(since));
        all.min()
    }

    /// Since when the rest of a head is waited for.
    pub(super) fn head_since(&self) -> Option<Instant> {
        self.at(&self.head_since)
    }

    /// Since when there is no request.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        if self.is_busy() { None } else { self.at(&self.idle_since) }
    }

    fn since(&self, noted: &AtomicU64, is_now: bool) {
        let is_noted = noted.load(Ordering::Relaxed) != NEVER;
        if is_noted != is_now {
            noted.store(if is_now { self.now() } else { NEVER }, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        elapsed_ms.saturating_add(1)
    }

    fn at(&self, noted: &AtomicU64) -> Option<Instant> {
        let since_ms = noted.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.began + Duration::from_millis(since_ms))
    }
}

/// A request in flight: until the last byte of its answer was taken.
#[derive(Debug)]
pub(super) struct InFlight {
    progress: Arc<Progress>,
    /// Where `Progress::answers` holds its answer.
    answer: Option<usize>,
}

impl InFlight {
    /// Watches its answer from now on, as one of many of an HTTP/2 connection. A client that keeps the window of one stream
    /// closed cannot be seen in the writes of the connection.
    pub(super) fn answered(&mut self) {
        let answers = self
            .progress
            .answers
            .get_or_init(|| Box::new([const { AtomicU64::new(NEVER) }; WATCHED]));
        let now = self.progress.now();
        self.answer = answers.iter().position(|answer| {
            answer.compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        });
    }

    /// Bytes of its answer were taken.
    pub(super) fn advanced(&self) {
        if self.answer.is_some() {
            self.note(self.progress.now());
        }
    }

    fn note(&self, taken: u64) {
        let answer = self.answer.and_then(|answer| self.progress.answers.get()?.get(answer));
        if let Some(answer) = answer {
            answer.store(taken, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.note(NEVER);
        self.progress.rest();
        self.progress.in_flight.fetch_sub(1, Ordering::Release);
    }
}
