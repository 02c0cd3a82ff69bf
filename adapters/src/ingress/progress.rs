//! Progress: the requests of a connection in flight, and how far their answers were taken.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

/// Most requests in flight on one HTTP/2 connection.
pub(super) const STREAMS: u32 = 128;

/// Most answers of one connection whose progress is watched: a connection has as many streams at most.
const WATCHED: usize = STREAMS as usize;
/// No answer.
const NONE: u64 = 0;

/// Requests of a connection, as its service counts them.
#[derive(Debug)]
pub(super) struct Progress {
    in_flight: AtomicU32,
    finished: AtomicU32,
    began: Instant,
    /// For each answer of an HTTP/2 connection, when a byte of it was last taken: milliseconds after `began`, plus 1.
    answers: OnceLock<Box<[AtomicU64; WATCHED]>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::default(),
            finished: AtomicU32::default(),
            began: Instant::now(),
            answers: OnceLock::new(),
        }
    }
}

impl Progress {
    /// Counts a request as in flight until the returned guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { progress: Arc::clone(self), answer: None }
    }

    fn now(&self) -> u64 {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        elapsed_ms.saturating_add(1)
    }

    /// Requests whose answers have not left.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests whose answers have left.
    pub(super) fn finished(&self) -> u32 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Of the answer that has waited longest: when a byte of it was last taken.
    pub(super) fn slowest(&self) -> Option<Instant> {
        let taken = self.answers.get()?.iter().map(|taken| taken.load(Ordering::Relaxed));
        let slowest = taken.filter(|taken| *taken != NONE).min()?;
        Some(self.began + Duration::from_millis(slowest - 1))
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
            .get_or_init(|| Box::new([const { AtomicU64::new(NONE) }; WATCHED]));
        let now = self.progress.now();
        self.answer = answers.iter().position(|answer| {
            answer.compare_exchange(NONE, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
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
        self.note(NONE);
        self.progress.finished.fetch_add(1, Ordering::Relaxed);
        self.progress.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
