//! Writes: writes to a store concurrently, within bounds, and retries while the store is unavailable.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tidegate_stages::ports::StoreError;
use tokio::time::{Instant, sleep};

use super::OfflineError;

/// How long a failing store is retried.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// Limit of concurrent writes.
const MAX_WRITES: usize = 64;

/// Runs idempotent work; retries it while the store is unavailable, for at most 30 s.
pub(super) async fn retried<T>(
    work: impl Fn() -> BoxFuture<'static, Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let until = Instant::now() + RETRY_LIMIT;
    loop {
        match work().await {
            Err(error) if !error.is_final() && Instant::now() < until => sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// Concurrent writes and the bytes that each holds.
pub(super) struct Writes {
    in_flight: FuturesUnordered<BoxFuture<'static, (usize, Result<(), OfflineError>)>>,
    bytes: usize,
    max_bytes: usize,
}

impl Writes {
    /// Allows at most `max_bytes` in concurrent writes; a larger write runs alone.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { in_flight: FuturesUnordered::new(), bytes: 0, max_bytes }
    }

    /// Waits for capacity, then starts a write.
    ///
    /// # Errors
    /// When an earlier write failed.
    pub(super) async fn put(
        &mut self,
        bytes: usize,
        write: BoxFuture<'static, Result<(), OfflineError>>,
    ) -> Result<(), OfflineError> {
        while !self.in_flight.is_empty()
            && (self.in_flight.len() >= MAX_WRITES || self.bytes + bytes > self.max_bytes)
        {
            self.take().await?;
        }
        self.bytes += bytes;
        self.in_flight.push(Box::pin(async move { (bytes, write.await) }));
        Ok(())
    }

    /// Waits for all writes.
    ///
    /// # Errors
    /// With the first write that failed.
    pub(super) async fn finish(&mut self) -> Result<(), OfflineError> {
        while !self.in_flight.is_empty() {
            self.take().await?;
        }
        Ok(())
    }

    async fn take(&mut self) -> Result<(), OfflineError> {
        let Some((bytes, done)) = self.in_flight.next().await else { return Ok(()) };
        self.bytes -= bytes;
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_store_is_tried_again_for_a_while_and_a_broken_one_is_not() {
        let tried = Arc::new(AtomicU32::new(0));
        let count = tried.clone();
        let busy = retried(move || {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            async move {
                if nth < 3 { Err(StoreError::Unavailable("busy".into())) } else { Ok(nth) }
            }
            .boxed()
        });
        assert_eq!(busy.await.unwrap(), 3);
        let started = Instant::now();
        let never = || async { Err::<(), _>(StoreError::Unknown("cut".into())) }.boxed();
        assert!(retried(never).await.is_err());
        assert!(started.elapsed() >= RETRY_LIMIT);
        let count = tried.clone();
        let broken = retried(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { Err::<(), _>(StoreError::Corrupt("x".into())) }.boxed()
        });
        assert!(broken.await.is_err());
        assert_eq!(tried.load(Ordering::SeqCst), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_are_under_way_together_within_their_bounds() {
        let started = Instant::now();
        let mut under_way = Writes::new(10);
        for bytes in [4, 4, 4, 100] {
            let write = async {
                sleep(Duration::from_secs(1)).await;
                Ok(())
            };
            under_way.put(bytes, write.boxed()).await.unwrap();
        }
        under_way.finish().await.unwrap();
        // Two run together, the third beside the second's end, the giant alone.
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }
}
