//! Timers: the snapshot timer and idle deactivation of every live actor, in one task.
//!
//! A live actor costs one entry in a delay queue while it waits for its idle time, and one more while
//! a change waits for its snapshot. Uses of an actor do not touch the queue: an idle timer that fires
//! looks when the actor was last used and sleeps for the rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;

use crate::actor::Definition;
use crate::actor_timers::ActorTimers;
use crate::call::Task;
use crate::eviction::Eviction;
use crate::placement::Mailboxes;
use crate::ports::Clock;
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::reply::Reply;
use crate::state::Timestamp;

/// Longest time for which the queue takes a timer; a longer idle time is slept in parts.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// A timer to start: its actor, its purpose and its time.
#[derive(Debug)]
struct Arm {
    entry: Arc<Entry>,
    what: What,
    after: Duration,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Snapshot,
    Idle(Duration),
}

/// What waits for the timer task. At most one snapshot and one idle time per actor: its entry says which of them run.
#[derive(Debug, Default)]
struct NewArms {
    arms: Mutex<Vec<Arm>>,
    added: Notify,
}

impl NewArms {
    fn add(&self, arm: Arm) {
        self.arms.lock().push(arm);
        self.added.notify_one();
    }

    fn take(&self) -> Vec<Arm> {
        std::mem::take(&mut *self.arms.lock())
    }
}

/// Where the stages arm timers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    new_arms: Arc<NewArms>,
    clock: Arc<dyn Clock>,
    directory: Arc<Directory>,
    /// Starts the registered timers of actors.
    pub(crate) registered: ActorTimers,
    /// Chooses the actors that have to leave memory.
    pub(crate) eviction: Eviction,
}

/// The receiving side, to be [run](Self::run).
#[derive(Debug)]
pub(crate) struct TimerTask {
    new_arms: Arc<NewArms>,
}

impl Timers {
    /// Makes both ends.
    pub(crate) fn new(
        directory: Arc<Directory>,
        clock: Arc<dyn Clock>,
        eviction: Eviction,
        registered: ActorTimers,
    ) -> (Self, TimerTask) {
        let new_arms = Arc::<NewArms>::default();
        let task = TimerTask { new_arms: new_arms.clone() };
        (Self { new_arms, clock, directory, registered, eviction }, task)
    }

    /// Wall-clock time, for records.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Starts the registered timers and the idle timer of an actor in memory, unless they run or its definition has none.
    pub(crate) fn used(&self, entry: &Arc<Entry>, definition: &Definition) {
        self.registered.start(entry, definition);
        if let Some(idle) = definition.deactivate_after
            && !entry.idle_armed.load(Ordering::Relaxed)
        {
            self.idle_after(entry, idle, idle);
        }
    }

    /// How long an actor was not used.
    pub(crate) fn unused_for(&self, entry: &Entry) -> Duration {
        let unused_ms = self.directory.now_ms().saturating_sub(entry.last_used_ms());
        Duration::from_millis(unused_ms)
    }

    /// Looks after `after` whether the actor has been idle for its time.
    pub(crate) fn idle_after(&self, entry: &Arc<Entry>, idle: Duration, after: Duration) {
        if entry.idle_armed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.new_arms.add(Arm { entry: entry.clone(), what: What::Idle(idle), after });
    }

    /// An actor's content has changed: its next snapshot is due within its period. The first one of an
    /// actor comes at a moment of its own within the period, so that actors do not write all at once.
    pub(crate) fn changed(&self, entry: &Arc<Entry>, definition: &Definition) {
        let Some(period) = definition.snapshot_every.filter(|_| definition.stateful) else {
            return;
        };
        if entry.snapshot_armed.swap(true, Ordering::AcqRel) {
            return;
        }
        let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
        // The actor's ticks stand at a phase given by its hash: jitter without memory.
        let phase = entry.actor.precomputed_hash() % period_ms;
        let since = (self.directory.now_ms() + period_ms - phase) % period_ms;
        let after = Duration::from_millis(period_ms - since);
        self.new_arms.add(Arm { entry: entry.clone(), what: What::Snapshot, after });
    }
}

impl TimerTask {
    /// Runs until `stop`.
    pub(crate) async fn run(
        self,
        mailboxes: Mailboxes,
        directory: Arc<Directory>,
        stop: CancellationToken,
    ) {
        let mut queue: DelayQueue<Arm> = DelayQueue::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.new_arms.added.notified() => {
                    for arm in self.new_arms.take() {
                        let after = arm.after.min(LONGEST);
                        queue.insert(arm, after);
                    }
                }
                Some(fired) = queue.next() => {
                    let arm = fired.into_inner();
                    if let Some(rest) = fire(&arm, &mailboxes, &directory) {
                        queue.insert(arm, rest.min(LONGEST));
                    }
                }
            }
        }
    }
}

/// Does what a fired timer is for. Returns how long to sleep on, if the timer fired too early.
fn fire(arm: &Arm, mailboxes: &Mailboxes, directory: &Directory) -> Option<Duration> {
    let entry = &arm.entry;
    match arm.what {
        What::Snapshot => {
            entry.snapshot_armed.store(false, Ordering::Release);
            mailboxes.ask(entry, Task::Snapshot);
        }
        What::Idle(idle) => {
            let used =
                Duration::from_millis(directory.now_ms().saturating_sub(entry.last_used_ms()));
            // The strategy may have been replaced while this slept.
            let idle = entry.spec().hosted.definition.deactivate_after.unwrap_or(idle);
            if used < idle && entry.is_live() {
                return Some(idle.saturating_sub(used));
            }
            entry.idle_armed.store(false, Ordering::Release);
            if entry.is_live() {
                mailboxes
                    .ask(entry, Task::Deactivate { idle: Some(idle), done: Reply::unwanted() });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tidegate_pipeline::{Bound, Drain, Full, KeyedOptions, KeyedProducer};
    use tokio::time::sleep;

    use super::*;
    use crate::actor::tests::definition;
    use crate::eviction::LiveBounds;
    use crate::placement::OneNode;
    use crate::registry::entry::{Hosted, Source};
    use crate::reply::Deadlines;
    use crate::testkit::clock::SetClock;

    #[tokio::test(start_paused = true)]
    async fn every_actor_of_a_burst_gets_its_snapshot() {
        let directory = Arc::new(Directory::new());
        let clock = Arc::new(SetClock::at(Timestamp(1)));
        let bounds = LiveBounds { actors: usize::MAX, bytes: usize::MAX };
        let eviction = Eviction::new(directory.clone(), bounds);
        let bound = Bound { events: 1, bytes: 1 };
        let options = KeyedOptions { name: "caller", bound, per_key: 1, full: Full::Shed };
        let placement = Arc::new(OneNode { epoch: 1 });
        let queue = KeyedProducer::new(options);
        let mailboxes = Mailboxes::new(queue, placement, Deadlines::default());
        let (ticks, _) = ActorTimers::new(mailboxes.clone(), directory.clone(), true);
        let (timers, task) = Timers::new(directory.clone(), clock, eviction, ticks);
        // The task of the timers does not get to run meanwhile.
        for number in 0..10_000 {
            let mut definition = definition(&format!("a{number}"));
            definition.stateful = true;
            definition.snapshot_every = Some(Duration::from_secs(5));
            let id = Arc::new(definition.id.clone());
            let definition = Arc::new(definition);
            let hosted = Hosted {
                definition: definition.clone(),
                host_limit: 1,
                host: Arc::default(),
                several: None,
            };
            timers.changed(&directory.put(id, Source::Defined(hosted)), &definition);
        }
        let (tasks, stop) = (Drain::new(), CancellationToken::new());
        tasks.spawn(task.run(mailboxes.clone(), directory, stop.clone()));
        sleep(Duration::from_secs(6)).await;
        assert_eq!(mailboxes.queue.queued(), 10_000);
        stop.cancel();
        assert!(tasks.drain(Duration::from_secs(1)).await.finished);
    }
}
