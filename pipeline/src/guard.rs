//! Guard: a panic in user code ends its event and nothing else.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};

/// What runs before the process ends by a panic.
static BEFORE_ABORT: OnceLock<fn()> = OnceLock::new();

/// Sets what runs before a panic under a lock ends the process, such as writing what was logged. The first call counts.
///
/// `run` runs under that lock, so it must not use this crate, and must not take long.
pub fn before_abort(run: fn()) {
    BEFORE_ABORT.get_or_init(|| run);
}

/// The message of a panic.
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
        // The payload is user code too: its destructor may panic. That second message is lost.
        catch_unwind(AssertUnwindSafe(|| drop(payload))).ok();
        Panic(text.unwrap_or_else(|| "a panic without a message".to_owned()))
    }
}

/// Runs user code. Returns its panic as an error.
pub(crate) fn run<R>(work: impl FnOnce() -> R) -> Result<R, Panic> {
    // Half-changed values of the work are dropped with the event and never used again.
    catch_unwind(AssertUnwindSafe(work)).map_err(Panic::new)
}

/// Polls user code. Returns its panic as an error.
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

/// Runs a change of state under a lock. A panic in it ends the process: a restart is better than a
/// process that goes on with a broken invariant.
pub(crate) fn or_abort<R>(work: impl FnOnce() -> R) -> R {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            tracing::error!("a dispatcher panicked: the process ends");
            if let Some(run) = BEFORE_ABORT.get() {
                run();
            }
            std::process::abort();
        }
    }
    let abort = Abort;
    let result = work();
    std::mem::forget(abort);
    result
}

/// Awaits user code. Returns its panic as an error.
pub(crate) async fn catch<F: Future>(work: F) -> Result<F::Output, Panic> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| poll(work.as_mut(), cx)).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_set_runs_before_a_panic_under_a_lock_ends_the_process() {
        let this = std::env::current_exe().unwrap();
        let name = "guard::tests::inside_a_process_that_panics_under_a_lock";
        let arguments = ["--exact", name, "--ignored", "--nocapture"];
        let output = Command::new(this).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the last words"), "{said}");
        assert!(output.status.signal().is_some(), "{}", output.status);
    }

    #[test]
    #[ignore = "started by a test above"]
    fn inside_a_process_that_panics_under_a_lock() {
        before_abort(|| eprintln!("the last words"));
        or_abort(|| panic!("on purpose"));
    }
}
