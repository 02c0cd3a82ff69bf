//! Eviction: takes actors out of memory while there are too many of them or they take too many bytes.
//!
//! The least recently used actors leave first, and stateful ones before stateless ones, because they lose nothing. Busy
//! actors, and those with a commit in flight, stay for now.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::{Gauge, gauge};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::call::Task;
use crate::error::Error;
use crate::metrics::{LIVE_ACTORS, LIVE_BYTES};
use crate::placement::Mailboxes;
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::registry::live_set::Choice;
use crate::reply::{Reply, Timing};

/// Actors that leave memory at the same time.
const LEAVING: usize = 1024;

/// How long actors that could not leave are left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// How much may be in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveBounds {
    pub(crate) actors: usize,
    /// Of states, tags and a fixed part for each actor.
    pub(crate) bytes: usize,
}

/// Keeps the actors in memory within their bounds. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Eviction {
    directory: Arc<Directory>,
    bounds: LiveBounds,
    exceeded: Arc<Notify>,
    live_actors: Gauge,
    live_bytes: Gauge,
}

impl Eviction {
    pub(crate) fn new(directory: Arc<Directory>, bounds: LiveBounds) -> Self {
        let (live_actors, live_bytes) = (gauge!(LIVE_ACTORS), gauge!(LIVE_BYTES));
        Self { directory, bounds, exceeded: Arc::default(), live_actors, live_bytes }
    }

    /// Notes an actor that has come into memory.
    pub(crate) fn activated(&self, entry: &Arc<Entry>, stateful: bool, bytes: usize) {
        self.directory.live.add(entry, stateful, bytes);
        self.note();
        if self.is_full() {
            self.exceeded.notify_one();
        }
    }

    /// Notes how much an actor takes after its turn.
    pub(crate) fn resized(&self, entry: &Entry, bytes: usize) {
        if self.directory.live.resize(entry, bytes) {
            self.note_bytes();
        }
        if self.directory.live.bytes() > self.bounds.bytes {
            self.exceeded.notify_one();
        }
    }

    /// Notes that an actor has left memory.
    pub(crate) fn left(&self, entry: &Entry) {
        self.directory.live.remove(entry);
        self.note();
    }

    fn note(&self) {
        let count = u32::try_from(self.directory.live.len()).unwrap_or(u32::MAX);
        self.live_actors.set(f64::from(count));
        self.note_bytes();
    }

    #[allow(clippy::cast_precision_loss, reason = "a gauge")]
    fn note_bytes(&self) {
        self.live_bytes.set(self.directory.live.bytes() as f64);
    }

    /// Whether there is too much in memory.
    pub(crate) fn is_full(&self) -> bool {
        self.is_exceeded(0, 0)
    }

    /// Whether there is too much in memory, when so many actors with so many bytes are about to leave.
    fn is_exceeded(&self, leaving: usize, bytes: usize) -> bool {
        let live = &self.directory.live;
        live.bytes().saturating_sub(bytes) > self.bounds.bytes
            || live.len().saturating_sub(leaving) > self.bounds.actors
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self, mailboxes: Mailboxes, stop: CancellationToken) {
        let mut leaving = FuturesUnordered::new();
        let (mut leaving_bytes, mut seed) = (0, 0);
        let mut choice = Choice { stateful: true, stateless: false };
        // When those are looked at again that could not leave.
        let mut again_at = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.exceeded.notified(), if again_at.is_none() => {}
                () = sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {
                    choice = Choice { stateful: true, stateless: true };
                    again_at = None;
                }
                Some((bytes, left)) = leaving.next() => {
                    leaving_bytes -= bytes;
                    if Result::<(), Error>::is_err(&left) {
                        choice = Choice { stateful: false, stateless: true };
                        again_at.get_or_insert_with(|| Instant::now() + PAUSE);
                    }
                }
            }
            while leaving.len() < LEAVING && self.is_exceeded(leaving.len(), leaving_bytes) {
                seed += 1;
                let Some(entry) = self.directory.live.next_to_leave(seed, choice) else {
                    again_at.get_or_insert_with(|| Instant::now() + PAUSE);
                    break;
                };
                // Read once: a turn may change it at any time.
                let bytes = entry.live_bytes();
                leaving_bytes += bytes;
                leaving.push(evict(&mailboxes, entry, bytes));
            }
            // Stateful ones that are busy for a moment get a pause before a stateless one loses its memory.
            choice.stateless &= !choice.stateful;
        }
    }
}

/// Asks an actor to leave that takes so many bytes. Returns these, and an error if it has to leave and cannot.
fn evict(
    mailboxes: &Mailboxes,
    entry: Arc<Entry>,
    bytes: usize,
) -> impl Future<Output = (usize, Result<(), Error>)> + use<> {
    entry.leaving.store(true, Ordering::Relaxed);
    let last_used_ms = entry.last_used_ms();
    let deadlines = mailboxes.deadlines();
    let (done, waiting) = Reply::new(&Timing::new(deadlines, Some(deadlines.host)));
    mailboxes.ask(&entry, Task::Evict { last_used_ms, done });
    async move {
        let left = waiting.answer().await;
        entry.leaving.store(false, Ordering::Relaxed);
        (bytes, left)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_pipeline::{Bound, Full, KeyedOptions, KeyedProducer};

    use super::*;
    use crate::actor::tests::definition;
    use crate::placement::OneNode;
    use crate::registry::entry::Source;
    use crate::reply::Deadlines;

    #[tokio::test(start_paused = true)]
    async fn what_counts_as_leaving_is_given_back_whatever_the_actor_takes_meanwhile() {
        let bound = Bound { events: 1, bytes: 1 };
        let options = KeyedOptions { name: "caller", bound, per_key: 1, full: Full::Shed };
        let (queue, placement) = (KeyedProducer::new(options), Arc::new(OneNode { epoch: 1 }));
        let mailboxes = Mailboxes::new(queue, placement, Deadlines::default());
        let directory = Directory::new();
        let definition = Arc::new(definition("a"));
        let id = Arc::new(definition.id.clone());
        let entry = directory.put(id, Source::Defined(directory.hosted(definition).0));
        directory.live.add(&entry, true, 100);
        let counted = entry.live_bytes();
        directory.live.resize(&entry, 1_000);
        let leaving = evict(&mailboxes, entry.clone(), counted);
        directory.live.resize(&entry, 10);
        mailboxes.queue.end();
        assert_eq!(leaving.await.0, 100);
    }
}
