//! Alarm: timers of waits that nearly always end before their time.
//!
//! A wait with a timer of its own puts it into the runtime's list of timers and takes it out again: two locks and more work than
//! the rest of a short wait. An [`Alarm`] stays in that list when its wait ends, and [`Alarms`] gives it to the next one. That
//! one most often ends later than the alarm rings: it lets it ring too early once, and sets it anew. A wait never ends before
//! its time, and never later than a timer of its own would have ended it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that stays set, for one wait after another. See the [module](self).
#[derive(Debug)]
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Whom it wakes when it rings. `None` after it was set anew.
    wakes: Option<Waker>,
}

impl Alarm {
    /// Sets an alarm.
    pub fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(at)), wakes: None }
    }

    /// When it rings, if nobody asks for an earlier time.
    pub fn rings_at(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Is ready when that time has come. Until then its task is woken at that time, or earlier.
    pub fn poll_at(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if at < self.rings_at() {
            self.set(at);
        }
        loop {
            let wakes_it = self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if wakes_it && !self.sleep.is_elapsed() {
                return Poll::Pending;
            }
            self.wakes = None;
            // Its own budget: it must not be pending without having noted whom to wake.
            if Pin::new(&mut unconstrained(self.sleep.as_mut())).poll(cx).is_pending() {
                self.wakes = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if at <= self.rings_at() {
                return Poll::Ready(());
            }
            self.set(at);
        }
    }

    fn set(&mut self, at: Instant) {
        self.sleep.as_mut().reset(at);
        self.wakes = None;
    }
}

/// Alarms that are kept between waits. See the [module](self).
#[derive(Debug)]
pub struct Alarms {
    kept: Mutex<Vec<Alarm>>,
    most: usize,
}

impl Alarms {
    /// Keeps at most so many alarms that no wait has.
    pub const fn keeping(most: usize) -> Self {
        Self { kept: Mutex::new(Vec::new()), most }
    }

    /// Waits for `work` until that time; `None` when it is not done by then. Cancel safe where `work` is.
    pub async fn until<F: Future>(&self, at: Instant, mut work: Pin<&mut F>) -> Option<F::Output> {
        let mut taken = Taken { alarms: self, alarm: None };
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let alarm = taken.alarm.get_or_insert_with(|| self.take(at));
            ready!(alarm.poll_at(at, cx));
            Poll::Ready(None)
        })
        .await
    }

    fn take(&self, at: Instant) -> Alarm {
        let kept = self.kept.lock().pop();
        kept.unwrap_or_else(|| Alarm::new(at))
    }
}

/// The alarm of a wait.
#[derive(Debug)]
struct Taken<'a> {
    alarms: &'a Alarms,
    alarm: Option<Alarm>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(alarm) = self.alarm.take() else { return };
        let mut kept = self.alarms.kept.lock();
        if kept.len() < self.alarms.most {
            kept.push(alarm);
        }
    }
}

#[cfg(all(test, not(pipeline_loom)))]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_time_whatever_the_alarm_was_set_to_before() {
        let alarms = Alarms::keeping(1);
        // Later than the one before, earlier, the same, and over already.
        for seconds in [3, 60, 5, 5, 0, 70] {
            let began = Instant::now();
            let at = began + seconds * SECOND;
            assert_eq!(alarms.until(at, pin!(pending::<()>())).await, None);
            assert_eq!(began.elapsed(), seconds * SECOND);
            // Most waits end early, and leave an alarm that is set.
            assert_eq!(
                alarms.until(Instant::now() + 30 * SECOND, pin!(sleep(SECOND))).await,
                Some(())
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_wakes_the_task_that_has_it_now() {
        let alarms = std::sync::Arc::new(Alarms::keeping(1));
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let waits = alarms.clone();
            tasks.spawn(async move {
                waits.until(Instant::now() + 10 * SECOND, pin!(sleep(SECOND))).await
            });
            assert_eq!(tasks.join_next().await.unwrap().unwrap(), Some(()));
            assert_eq!(alarms.kept.lock().len(), 1);
            let (waits, began) = (alarms.clone(), Instant::now());
            tasks.spawn(async move {
                waits.until(Instant::now() + 20 * SECOND, pin!(pending::<()>())).await
            });
            assert_eq!(tasks.join_next().await.unwrap().unwrap(), None);
            assert_eq!(began.elapsed(), 20 * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_at_once_each_have_an_alarm_and_no_more_are_kept_than_said() {
        let alarms = Alarms::keeping(2);
        let began = Instant::now();
        let wait = |seconds: u32| {
            let alarms = &alarms;
            async move {
                alarms.until(began + seconds * SECOND, pin!(pending::<()>())).await;
                assert_eq!(began.elapsed(), seconds * SECOND);
            }
        };
        tokio::join!(wait(3), wait(1), wait(2), wait(5));
        assert_eq!(alarms.kept.lock().len(), 2);
    }

    #[tokio::test]
    async fn a_task_without_budget_is_woken_at_its_time_too() {
        let alarms = Alarms::keeping(1);
        let spent = async {
            // Takes the budget of this poll.
            while !std::future::poll_fn(|cx| {
                let proceeds = tokio::task::coop::poll_proceed(cx);
                Poll::Ready(match proceeds {
                    Poll::Ready(budget) => {
                        budget.made_progress();
                        false
                    }
                    Poll::Pending => true,
                })
            })
            .await
            {}
            pending::<()>().await;
        };
        let at = Instant::now() + Duration::from_millis(20);
        assert_eq!(alarms.until(at, pin!(spent)).await, None);
    }
}
