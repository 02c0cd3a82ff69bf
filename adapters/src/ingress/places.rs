//! Places: how many connections may be open. When all places are taken, the connections that are idle longest give theirs up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::metrics::CONNECTIONS_CLOSED_TOTAL;
use super::progress::Progress;

/// How long a connection must have been idle to give its place up: a client that uses it again and again keeps it.
const SPARED: Duration = Duration::from_secs(1);
/// One in so many connections gives its place up at once: all are looked at for it.
const PART: usize = 128;

/// The places; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    free: Arc<Semaphore>,
    number: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    progress: Arc<Progress>,
    closing: CancellationToken,
}

/// The place of an open connection.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.open.lock().remove(&self.number);
    }
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        let free = Arc::new(Semaphore::new(limit));
        Self(Arc::new(Inner { limit, free, number: AtomicU64::default(), open: Mutex::default() }))
    }

    /// Returns a free place; waits for one. Cancel safe.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        let free = Arc::clone(&self.0.free).acquire_owned();
        tokio::pin!(free);
        loop {
            let scarce = async {
                // Whoever gets a free place at once does not come here.
                tokio::task::yield_now().await;
                sleep(self.close_idle()).await;
            };
            tokio::select! {
                biased;
                place = free.as_mut() => return place.expect("it is never closed"),
                () = scarce => {}
            }
        }
    }

    /// Gives a free place to a connection, which ends soon after `closing`.
    pub(super) fn take(
        &self,
        permit: OwnedSemaphorePermit,
        progress: Arc<Progress>,
        closing: CancellationToken,
    ) -> Place {
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        self.0.open.lock().insert(number, Open { progress, closing });
        Place { places: self.clone(), number, _permit: permit }
    }

    /// Asks the connections that are idle longest to end. Returns when to look again.
    fn close_idle(&self) -> Duration {
        let now = Instant::now();
        let open = self.0.open.lock();
        let mut idle: Vec<_> = open
            .values()
            .filter(|open| !open.closing.is_cancelled())
            .filter_map(|open| {
                // Half a head is no request: it does not keep a place.
                let since = open.progress.idle_since()?;
                Some((now.saturating_duration_since(since), &open.closing))
            })
            .collect();
        let longest = idle.iter().map(|(idle, _)| *idle).max().unwrap_or_default();
        if longest < SPARED {
            return SPARED.saturating_sub(longest);
        }
        let most = self.0.limit.div_ceil(PART);
        idle.sort_unstable_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        let closed = idle.iter().take(most).take_while(|(idle, _)| *idle >= SPARED);
        for (_, closing) in closed {
            closing.cancel();
            counter!(CONNECTIONS_CLOSED_TOTAL, "reason" => "place").increment(1);
        }
        SPARED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_idle_longest_give_their_places_up_and_busy_ones_do_not() {
        let places = Places::new(3);
        let mut open = Vec::new();
        for _ in 0..3 {
            let (progress, closing) = (Arc::<Progress>::default(), CancellationToken::new());
            let permit = places.free().await;
            open.push((
                places.take(permit, Arc::clone(&progress), closing.clone()),
                closing,
                progress,
            ));
            sleep(Duration::from_secs(5)).await;
        }
        let _busy = open[0].2.begin();
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.free().await }
        });
        open[1].1.cancelled().await;
        assert!(!open[0].1.is_cancelled() && !open[2].1.is_cancelled());
        drop(open.remove(1));
        drop(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_just_used_is_spared() {
        let places = Places::new(1);
        let (progress, closing) = (Arc::<Progress>::default(), CancellationToken::new());
        let _place = places.take(places.free().await, Arc::clone(&progress), closing.clone());
        let waiting = tokio::time::timeout(Duration::from_secs(60), places.free());
        let using = async {
            for _ in 0..100 {
                sleep(SPARED / 2).await;
                drop(progress.begin());
            }
        };
        let (waited, ()) = tokio::join!(waiting, using);
        assert!(waited.is_err() && closing.is_cancelled(), "it was silent after 50 s");
    }
}
