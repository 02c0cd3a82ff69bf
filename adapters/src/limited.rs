//! Limited: waits for work up to a time limit. Work that is done at once costs no timer.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Waits for `work`, at most `limit` long. Cancel safe where `work` is.
pub(crate) async fn within<F: Future>(
    limit: Duration,
    mut work: Pin<&mut F>,
) -> Result<F::Output, Elapsed> {
    match poll!(work.as_mut()) {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => timeout(limit, work).await,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_at_once_or_in_time_is_returned_and_what_is_late_is_not() {
        const LIMIT: Duration = Duration::from_secs(2);
        assert_eq!(within(Duration::ZERO, pin!(async { 1 })).await, Ok(1));
        assert_eq!(within(LIMIT, pin!(sleep(LIMIT / 2))).await, Ok(()));
        let started = Instant::now();
        within(LIMIT, pin!(sleep(2 * LIMIT))).await.unwrap_err();
        assert_eq!(started.elapsed(), LIMIT);
    }
}
