//! Guard: a panic in user code ends the event it was working on, and nothing else.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// What a panic said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panic(String);

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Panic {
    fn new(payload: Box<dyn Any + Send>) -> Panic {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        // The payload is user code too: its destructor may panic in turn, and what it says then is lost.
        catch_unwind(AssertUnwindSafe(|| drop(payload))).ok();
        Panic(text.unwrap_or_else(|| "a panic without a text".to_owned()))
    }
}

/// Runs user code.
pub(crate) fn run<R>(work: impl FnOnce() -> R) -> Result<R, Panic> {
    // What the work has left half done is dropped with the event, never used again.
    catch_unwind(AssertUnwindSafe(work)).map_err(Panic::new)
}

/// Polls user code.
pub(crate) fn poll<F: Future>(
    work: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panic>> {
    match run(|| work.poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

/// Runs what keeps an invariant, under a lock: a panic in it ends the process, because a restart beats
/// a broken invariant that goes on working.
pub(crate) fn or_abort<R>(work: impl FnOnce() -> R) -> R {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            tracing::error!("a dispatcher panicked: the process ends");
            std::process::abort();
        }
    }
    let abort = Abort;
    let result = work();
    std::mem::forget(abort);
    result
}

/// A future that ends in an error when the work panics.
pub(crate) async fn catch<F: Future>(work: F) -> Result<F::Output, Panic> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| poll(work.as_mut(), cx)).await
}
