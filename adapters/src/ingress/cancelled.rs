//! Cancelled: waits for a token, cheaply where a task polls often.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;

/// Waits until the token is cancelled. Once the token knows the task, a look at the token is enough.
pub(super) async fn cancelled(token: &CancellationToken) {
    // Its own budget: it must not be pending without having told the token.
    let mut cancelled = pin!(unconstrained(token.cancelled()));
    let mut told: Option<Waker> = None;
    poll_fn(|cx| {
        let is_told = told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_told && !token.is_cancelled() {
            return Poll::Pending;
        }
        told = Some(cx.waker().clone());
        cancelled.as_mut().poll(cx)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_is_woken_by_its_token_also_when_it_has_polled_often() {
        let token = CancellationToken::new();
        let waits = token.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut cancelled = pin!(cancelled(&waits));
            for _ in 0..3 {
                let still = timeout(Duration::from_millis(10), cancelled.as_mut()).await;
                assert!(still.is_err());
            }
            cancelled.await;
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(tasks.try_join_next().is_none());
        token.cancel();
        timeout(Duration::from_secs(1), tasks.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(timeout(Duration::ZERO, cancelled(&token)).await, Ok(()), "it is over already");
    }
}
