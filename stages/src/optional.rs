//! Optional: a branch of a `select!` whose work may not be there.

use std::future;

use futures_util::future::BoxFuture;

/// Returns the result of the work, which is gone then. Without work it never returns.
pub(crate) async fn result_of<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(running) => {
            let done = running.await;
            *work = None;
            done
        }
        None => future::pending().await,
    }
}
