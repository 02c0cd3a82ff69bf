//! Answering: what the answer of a host may take while its turn waits for it.
//!
//! The place of the turn counts the answer up to a largest state. So a place grows by the length that the answer
//! announces *before its body is read*; unread, the answer waits in its host's socket. Without an announced length it grows
//! as the answer arrives, and to a largest state as soon as nothing is free: whoever has had the reserve waits for it no
//! more. What an answer has beyond a largest state is no state; the client of the host counts that, after the place has
//! grown and never before. So no answer waits for bytes of another one that waits for its own.
//!
//! A turn without a place leaves all of its answer to the client.

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tidegate_pipeline::alarm::Alarms;
use tokio::time::Instant;

use super::{Count, Place};
use crate::invocation::{AnswerBound, NoBytes};

/// The least time for which a host is waited for once more.
const LEAST_WAIT: Duration = Duration::from_millis(10);

/// What one turn's answer may take; see the [module](self).
#[derive(Debug)]
pub(crate) struct Answering {
    /// Bytes of the turn's own place.
    has: usize,
    /// What that place has grown by. `None` when the turn has no place.
    grown: Option<Mutex<Place>>,
    line: Mutex<Line>,
}

/// How long the answer has waited in lines.
#[derive(Debug, Default)]
struct Line {
    waited: Duration,
    since: Option<Instant>,
}

impl Answering {
    /// For a turn with this place.
    pub(crate) fn new(place: Option<&Place>) -> Arc<Self> {
        let grown = place.map(|place| Mutex::new(place.empty()));
        Arc::new(Self { has: place.map_or(0, Place::counts), grown, line: Mutex::default() })
    }

    /// Waits for the host for `limit` from `started` on, without the time in which its answer waits in a line. `None` when
    /// that is over.
    pub(crate) async fn within<T>(
        &self,
        (started, limit): (Instant, Duration),
        alarms: &Alarms,
        mut answered: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut ends_at = started + limit;
        loop {
            if let Some(answer) = alarms.until(ends_at, answered.as_mut()).await {
                return Some(answer);
            }
            let now = Instant::now();
            let of_host = (now - started).saturating_sub(self.waited());
            if of_host >= limit {
                return None;
            }
            ends_at = now + limit.saturating_sub(of_host).max(LEAST_WAIT);
        }
    }

    /// The answer is there: the place of its turn is as large as it has become.
    pub(crate) fn end(&self, place: &mut Option<Place>) {
        if let (Some(place), Some(grown)) = (place, &self.grown) {
            place.absorb(&mut grown.lock());
        }
    }

    fn waited(&self) -> Duration {
        let line = self.line.lock();
        line.waited + line.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Grows the place for an answer of so many bytes. Returns how many of them it does not count.
    fn grow(&self, bytes: usize, counted: usize, reserve: Count) -> Option<usize> {
        let Some(grown) = &self.grown else { return Some(bytes) };
        let mut grown = grown.lock();
        let places = grown.places.clone();
        let largest = places.0.largest;
        let wanted = counted.min(largest).saturating_sub(self.has);
        let fits = wanted <= grown.bytes || places.grow(&mut grown, (0, wanted), reserve);
        fits.then(|| bytes.saturating_sub(largest.max(self.has)))
    }

    async fn wait_to_grow(&self, bytes: usize, counted: usize) -> Option<usize> {
        let (places, entry) = {
            let grown = self.grown.as_ref()?.lock();
            (grown.places.clone(), grown.entry.clone())
        };
        let is_in_doubt = || {
            let memory = entry.memory.lock();
            memory.incarnation.as_ref().is_some_and(|incarnation| incarnation.is_in_doubt())
        };
        let grown = places.in_line(|reserve| {
            // What an actor in doubt has of the reserve is free only when its store works again.
            if is_in_doubt() { Some(None) } else { self.grow(bytes, counted, reserve).map(Some) }
        });
        grown.await.flatten()
    }
}

impl AnswerBound for Answering {
    fn try_reach(&self, bytes: usize) -> Option<usize> {
        self.grow(bytes, bytes, Count::default())
    }

    fn reach(
        self: Arc<Self>,
        bytes: usize,
        is_whole: bool,
    ) -> BoxFuture<'static, Result<usize, NoBytes>> {
        Box::pin(async move {
            self.waits(true);
            let counted = if is_whole { bytes } else { usize::MAX };
            let beyond = self.wait_to_grow(bytes, counted).await;
            self.waits(false);
            beyond.ok_or(NoBytes)
        })
    }

    fn waits(&self, waits: bool) {
        let mut line = self.line.lock();
        if let Some(since) = line.since.take() {
            line.waited += since.elapsed();
        }
        line.since = waits.then(Instant::now);
    }
}
