//! Reply: every admitted call gets exactly one (I2).
//!
//! The call carries [`Reply`]. When `Reply` is dropped unused, the caller receives an error, so a panic, a cancel or a drain
//! never leaves a caller waiting; the error says whether the action may have run. [`Waiting`] is the caller's end. It ends
//! at the call's deadline; this ends only the reply, never the call (decision 2).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_pipeline::alarm::Alarms;
use tokio::sync::oneshot;

use crate::error::Error;

mod timing;

pub use timing::{Deadlines, Timing};

pub(crate) use timing::{BUSY, SignalHandle};

use timing::{GIVEN_UP, NEVER, Progress, QUEUED};

/// The sending end; see the [module](self).
#[derive(Debug)]
pub struct Reply<T>(Option<Owed<T>>);

#[derive(Debug)]
struct Owed<T> {
    sender: oneshot::Sender<Result<T, Error>>,
    progress: Arc<Progress>,
}

/// The caller's end; see the [module](self).
#[derive(Debug)]
pub struct Waiting<T> {
    receiver: oneshot::Receiver<Result<T, Error>>,
    timing: Timing,
}

impl<T> Reply<T> {
    /// Creates both ends of a reply.
    pub fn new(timing: &Timing) -> (Self, Waiting<T>) {
        let (sender, receiver) = oneshot::channel();
        (
            Self(Some(Owed { sender, progress: timing.progress.clone() })),
            Waiting { receiver, timing: timing.clone() },
        )
    }

    /// Creates both ends of a reply to work that has begun already. After `limit` the caller is told that the work may have been
    /// done, and not that it was never started.
    pub(crate) fn started(limit: Duration) -> (Self, Waiting<T>) {
        let timing = Timing::new(Deadlines::default(), Some(limit));
        let is_first = timing.start();
        debug_assert!(is_first, "nobody can have given it up");
        Self::new(&timing)
    }

    /// A reply without a caller.
    pub fn unwanted() -> Self {
        Self(None)
    }

    /// Whether the caller has gone. False without a caller.
    pub fn is_abandoned(&self) -> bool {
        self.0.as_ref().is_some_and(|owed| owed.sender.is_closed())
    }

    /// The error of a call whose caller has gone before the answer: the one that the caller was told when its time ran out, or
    /// `Conflict` when the caller went by itself. `None` when the caller still waits, or when the call has none.
    pub(crate) fn unheard(&self) -> Option<Error> {
        let owed = self.0.as_ref().filter(|owed| owed.sender.is_closed())?;
        Some(match owed.progress.unanswered_after_us.load(Ordering::Acquire) {
            // As a call that somebody cancels.
            NEVER => Error::Conflict("it has ended, and its caller had stopped waiting".into()),
            after => Error::NoAnswer(Duration::from_micros(after)),
        })
    }

    /// Whether the reply has a caller.
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Sends the reply. A caller that has gone is no error.
    pub fn send(mut self, answer: Result<T, Error>) {
        if let Some(owed) = self.0.take() {
            drop(owed.sender.send(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(Owed { sender, progress }) = self.0.take() {
            let is_queued = progress.phase.load(Ordering::Acquire) == QUEUED;
            // A defect ends a turn by a panic; without one, a turn that waits is dropped only when the proxy ends.
            let error = if is_queued && !std::thread::panicking() {
                Error::Draining
            } else {
                Error::Internal("the call was dropped on its way; the action may have run".into())
            };
            drop(sender.send(Err(error)));
        }
    }
}

impl<T> Waiting<T> {
    /// Waits for the reply, until the call's deadline. Cancel safe: dropping the future means that the caller has gone.
    ///
    /// # Errors
    /// The call's error, or a timeout before or after the start of the action.
    pub async fn answer(self) -> Result<T, Error> {
        self.answer_with(&Alarms::keeping(0)).await
    }

    /// The same, with a timer out of `alarms`.
    pub(crate) async fn answer_with(self, alarms: &Alarms) -> Result<T, Error> {
        let Self { mut receiver, timing } = self;
        loop {
            let ends_after_us = timing.progress.ends_after_us.load(Ordering::Acquire);
            let ends_after = Duration::from_micros(ends_after_us);
            let ends_at = timing.progress.admitted + ends_after;
            if let Some(received) = alarms.until(ends_at, Pin::new(&mut receiver)).await {
                return received.unwrap_or_else(|_| {
                    Err(Error::Internal("the call was lost; the action may have run".into()))
                });
            }
            let phase = &timing.progress.phase;
            if phase.compare_exchange(QUEUED, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                return Err(Error::NotStarted(ends_after, timing.why_late().into()));
            }
            let latest = timing.progress.ends_after_us.load(Ordering::Acquire);
            if Duration::from_micros(latest) <= ends_after {
                // Before the receiver is dropped, so that whoever finds the caller gone sees why.
                timing.progress.unanswered_after_us.store(ends_after_us, Ordering::Release);
                return Err(Error::NoAnswer(ends_after));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reply_dropped_unused_says_whether_its_action_may_have_run() {
        for is_started in [false, true] {
            let timing = Timing::new(Deadlines::default(), None);
            let (reply, waiting) = Reply::<()>::new(&timing);
            assert!(!is_started || timing.start());
            drop(reply);
            match waiting.answer().await {
                Err(Error::Draining) => assert!(!is_started),
                Err(Error::Internal(_)) => assert!(is_started),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_has_begun_is_never_told_as_not_started() {
        let limit = Duration::from_secs(7);
        let (_reply, waiting) = Reply::<()>::started(limit);
        assert!(matches!(waiting.answer().await, Err(Error::NoAnswer(after)) if after == limit));
        let (reply, waiting) = Reply::<()>::started(limit);
        drop(reply);
        assert!(matches!(waiting.answer().await, Err(Error::Internal(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_told_as_a_defect() {
        let timing = Timing::new(Deadlines::default(), None);
        let (reply, waiting) = Reply::<()>::new(&timing);
        let turn = move || {
            let _reply = reply;
            panic!("as the test wants it");
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).unwrap_err();
        assert!(matches!(waiting.answer().await, Err(Error::Internal(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_starts_ends_at_the_start_deadline() {
        let timing = Timing::new(Deadlines::default(), None);
        let (_reply, waiting) = Reply::<()>::new(&timing);
        let began = Instant::now();
        let error = waiting.answer().await.unwrap_err();
        assert!(matches!(error, Error::NotStarted(..)), "{error}");
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_started_call_has_the_host_s_time_from_its_start() {
        let timing = Timing::new(Deadlines::default(), None);
        let (_reply, waiting) = Reply::<()>::new(&timing);
        let began = Instant::now();
        let waiting = tokio::join!(waiting.answer(), async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(timing.start());
        });
        assert!(matches!(waiting.0, Err(Error::NoAnswer(_))));
        assert_eq!(began.elapsed(), Duration::from_secs(4 + 60 + 30));
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_s_own_bound_holds_for_the_whole_call() {
        let timing = Timing::new(Deadlines::default(), Some(Duration::from_millis(700)));
        let (_reply, waiting) = Reply::<()>::new(&timing);
        assert!(timing.start());
        let began = Instant::now();
        assert!(matches!(waiting.answer().await, Err(Error::NoAnswer(_))));
        assert_eq!(began.elapsed(), Duration::from_millis(700));
    }
}
