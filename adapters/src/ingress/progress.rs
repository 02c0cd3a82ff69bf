//! Progress: what a connection does at the moment, and since when. The connection, its streams and its bytes note it; [`Watch`]
//! reads it.
//!
//! [`Watch`]: super::pace::Watch

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

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
        }
    }
}

impl Progress {
    /// Counts a request as in flight until the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.head(false);
        InFlight { progress: Arc::clone(self) }
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

    /// Since when the peer takes no byte.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.at(&self.stuck_since)
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
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.progress.rest();
        self.progress.in_flight.fetch_sub(1, Ordering::Release);
    }
}

/// How far the bytes of an answer over HTTP/2 were taken.
#[derive(Debug)]
pub(super) struct Taken {
    last: Mutex<Instant>,
    all: AtomicBool,
    waker: AtomicWaker,
}

impl Default for Taken {
    fn default() -> Self {
        let last = Mutex::new(Instant::now());
        Self { last, all: AtomicBool::new(false), waker: AtomicWaker::new() }
    }
}

impl Taken {
    /// Bytes were taken.
    pub(super) fn some(&self) {
        *self.last.lock() = Instant::now();
    }

    /// The last byte was taken, or the bytes were dropped.
    pub(super) fn all(&self) {
        self.all.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// When bytes were last taken.
    pub(super) fn last(&self) -> Instant {
        *self.last.lock()
    }

    /// Whether the last byte was taken.
    pub(super) fn is_all(&self) -> bool {
        self.all.load(Ordering::Acquire)
    }

    /// Waits until the last byte was taken.
    pub(super) fn poll_all(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_all() { Poll::Ready(()) } else { Poll::Pending }
    }
}
