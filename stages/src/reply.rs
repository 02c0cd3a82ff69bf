//! Reply: every admitted call gets exactly one (I2).
//!
//! The call carries [`Reply`]. When `Reply` is dropped unused, the caller receives an error, so a panic, a cancel or a drain
//! never leaves a caller waiting; the error says whether the action may have run. [`Waiting`] is the caller's end. It ends
//! at the call's deadline; this ends only the reply, never the call (decision 2).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tidegate_pipeline::EventId;
use tidegate_pipeline::alarm::Alarms;
use tokio::sync::oneshot;

use crate::actor::ActorRef;
use crate::error::Error;

mod timing;

pub use timing::{Deadlines, Timing};

pub(crate) use timing::{BUSY, SignalHandle};

use timing::{GIVEN_UP, NEVER, Progress, QUEUED, ROUTED};

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

    /// Creates both ends of a reply to a write that has begun already. After `limit` the caller is told that the outcome is not
    /// known, and not that it was never started.
    pub(crate) fn started(limit: Duration) -> (Self, Waiting<T>) {
        let timing = Timing::of_store(Deadlines::default(), Some(limit));
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
            after_us => owed.progress.unanswered(after_us),
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
            // A defect ends a turn by a panic; without one, a turn is dropped only when the proxy ends.
            let error = match progress.phase.load(Ordering::Acquire) {
                _ if std::thread::panicking() => {
                    let text = "the call was dropped on its way; the action may have run";
                    Error::Internal(text.into())
                }
                QUEUED => Error::Draining,
                ROUTED => Error::Draining.after_action(),
                _ => Error::Ended,
            };
            drop(sender.send(Err(error)));
        }
    }
}

impl<T> Waiting<T> {
    /// The turn that the call has at the actor to which it was routed last.
    pub(crate) fn last_route(&self) -> Option<(ActorRef, EventId)> {
        self.timing.last_route()
    }

    /// Waits for the reply, until the call's deadline. Cancel safe: dropping the future means that the caller has gone.
    ///
    /// # Errors
    /// The call's error, or a timeout before or after the start of the action.
    pub async fn answer(mut self) -> Result<T, Error> {
        self.answer_with(&Alarms::keeping(0)).await
    }

    /// The same, with a timer out of `alarms`. To be called once.
    pub(crate) async fn answer_with(&mut self, alarms: &Alarms) -> Result<T, Error> {
        let Self { receiver, timing } = self;
        let progress = &*timing.progress;
        // The first end is the earliest, unless the host answers so early that the commit's time ends before it.
        let mut is_first = progress.limits.start <= progress.limits.commit;
        loop {
            let ends_after_us = progress.ends_after_us.load(Ordering::Acquire);
            let ends_after = Duration::from_micros(ends_after_us);
            let ends_at = progress.admitted + ends_after;
            let may_end_sooner = !std::mem::replace(&mut is_first, false);
            let receiving = poll_fn(|cx| match Pin::new(&mut *receiver).poll(cx) {
                Poll::Pending if may_end_sooner && progress.ends_before(ends_after_us, cx) => {
                    Poll::Ready(None)
                }
                polled => polled.map(Some),
            });
            if let Some(received) = alarms.until(ends_at, pin!(receiving)).await.flatten() {
                return received.unwrap_or_else(|_| {
                    Err(Error::Internal("the call was lost; the action may have run".into()))
                });
            }
            // Before the end, which changes before the phase does.
            let phase = progress.phase.load(Ordering::Acquire);
            if progress.ends_after_us.load(Ordering::Acquire) != ends_after_us {
                continue;
            }
            if phase != QUEUED && phase != ROUTED {
                // Before the receiver is dropped, so that whoever finds the caller gone sees why.
                progress.unanswered_after_us.store(ends_after_us, Ordering::Release);
                return Err(progress.unanswered(ends_after_us));
            }
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            if progress.phase.compare_exchange(phase, GIVEN_UP, success, failure).is_ok() {
                let error = Error::NotStarted(ends_after, timing.why_late().into());
                return Err(if phase == ROUTED { error.after_action() } else { error });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::ports::StoreError;

    #[tokio::test(start_paused = true)]
    async fn a_reply_dropped_unused_says_whether_its_action_may_have_run() {
        for is_started in [false, true] {
            let timing = Timing::new(Deadlines::default(), None);
            let (reply, waiting) = Reply::<()>::new(&timing);
            assert!(!is_started || timing.start());
            drop(reply);
            match waiting.answer().await {
                Err(Error::Draining) => assert!(!is_started),
                Err(Error::Ended) => assert!(is_started),
                other => panic!("{other:?}"),
            }
        }
        let mut timing = Timing::new(Deadlines::default(), None);
        let (reply, waiting) = Reply::<()>::new(&timing);
        assert!(timing.start());
        timing.routed();
        drop(reply);
        match waiting.answer().await {
            Err(Error::ActionRan(source)) => assert!(matches!(*source, Error::Draining)),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_has_begun_is_never_told_as_not_started() {
        let limit = Duration::from_secs(7);
        let (_reply, waiting) = Reply::<()>::started(limit);
        let began = Instant::now();
        let error = waiting.answer().await.unwrap_err();
        assert!(matches!(error, Error::Store(StoreError::Unknown(_))), "{error}");
        assert_eq!(began.elapsed(), limit);
        let (reply, waiting) = Reply::<()>::started(limit);
        drop(reply);
        assert!(matches!(waiting.answer().await, Err(Error::Ended)));
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
    async fn a_routed_call_has_its_time_to_start_from_its_arrival() {
        // The second one arrives when its caller knows of the end that the host's time would have.
        for (called, ends) in [(4, 4 + 10), (15, 15 + 10)] {
            let mut timing = Timing::new(Deadlines::default(), None);
            let (_reply, waiting) = Reply::<()>::new(&timing);
            let began = Instant::now();
            let (answer, ()) = tokio::join!(waiting.answer(), async {
                assert!(timing.start());
                tokio::time::sleep(Duration::from_secs(called)).await;
                timing.routed();
            });
            let error = answer.unwrap_err();
            let Error::ActionRan(source) = &error else { panic!("{error}") };
            assert!(matches!(**source, Error::NotStarted(..)), "{error}");
            assert_eq!(began.elapsed(), Duration::from_secs(ends));
            assert!(!timing.start(), "its caller was told that it is not started");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_routed_call_that_is_started_has_the_host_s_time_again() {
        let mut timing = Timing::new(Deadlines::default(), None);
        let (_reply, waiting) = Reply::<()>::new(&timing);
        let began = Instant::now();
        let (answer, ()) = tokio::join!(waiting.answer(), async {
            assert!(timing.start());
            timing.answered(Instant::now());
            timing.routed();
            tokio::time::sleep(Duration::from_secs(9)).await;
            assert!(timing.start());
        });
        assert!(matches!(answer, Err(Error::NoAnswer(_))));
        assert_eq!(began.elapsed(), Duration::from_secs(9 + 60 + 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_host_has_answered_waits_for_the_store_as_long_as_a_commit_may_take() {
        for seconds in [1, 20] {
            let timing = Timing::new(Deadlines::default(), None);
            let (reply, waiting) = Reply::<()>::new(&timing);
            let began = Instant::now();
            let waiting = waiting.answer();
            let (answer, told) = tokio::join!(
                async {
                    let answer = waiting.await;
                    (answer, began.elapsed())
                },
                async {
                    assert!(timing.start());
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    timing.answered(Instant::now());
                    tokio::time::sleep(Duration::from_secs(40)).await;
                    reply.unheard()
                }
            );
            let (Err(error), elapsed) = answer else { panic!("it has no answer") };
            assert_eq!(elapsed, Duration::from_secs(seconds + 30));
            let Error::ActionRan(source) = &error else { panic!("{error}") };
            assert!(matches!(**source, Error::Store(StoreError::Unknown(_))), "{error}");
            assert_eq!(told.unwrap().to_string(), error.to_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_s_time_that_ends_before_the_time_to_start_ends_the_wait() {
        let limits = Deadlines { start: Duration::from_mins(2), ..Deadlines::default() };
        let timing = Timing::new(limits, None);
        let (_reply, waiting) = Reply::<()>::new(&timing);
        let began = Instant::now();
        let (answer, ()) = tokio::join!(waiting.answer(), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(timing.start());
            timing.answered(Instant::now());
        });
        assert!(matches!(answer, Err(Error::ActionRan(_))));
        assert_eq!(began.elapsed(), Duration::from_secs(1 + 30));
    }

    #[tokio::test(start_paused = true)]
    async fn the_caller_s_own_bound_holds_for_the_whole_call() {
        // Who took the larger part of it is to blame.
        for (answered_after, is_store) in [(None, false), (Some(690), false), (Some(10), true)] {
            let timing = Timing::new(Deadlines::default(), Some(Duration::from_millis(700)));
            let (_reply, waiting) = Reply::<()>::new(&timing);
            assert!(timing.start());
            let began = Instant::now();
            if let Some(after) = answered_after {
                timing.answered(began + Duration::from_millis(after));
            }
            let error = waiting.answer().await.unwrap_err();
            assert_eq!(matches!(error, Error::ActionRan(_)), is_store, "{error}");
            assert_eq!(matches!(error, Error::NoAnswer(_)), !is_store, "{error}");
            assert_eq!(began.elapsed(), Duration::from_millis(700));
        }
    }
}
