//! Timers: the snapshot timer and idle deactivation of every live actor, in one task.
//!
//! A live actor costs one entry in a delay queue while it waits for its idle time, and one more while
//! a change waits for its snapshot. Uses of an actor do not touch the queue: an idle timer that fires
//! looks when the actor was last used and sleeps for the rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tracing::warn;

use crate::actor::Definition;
use crate::call::Task;
use crate::error::Error;
use crate::metrics::DEACTIVATIONS_TOTAL;
use crate::placement::Mailboxes;
use crate::ports::Clock;
use crate::registry::directory::Directory;
use crate::registry::entry::{CheckedOut, Entry};
use crate::reply::{Reply, Timing, Waiting};
use crate::state::Timestamp;

/// Arms that may wait for the timer task.
const WAITING_ARMS: usize = 4096;

/// Longest time for which the queue takes a timer; a longer idle time is slept in parts.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Actors that are on their way out of memory at the same time because there are too many.
const LEAVING: usize = 1024;

/// What is to happen to an actor, and after which time.
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

/// Where the stages arm timers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    arms: flume::Sender<Arm>,
    clock: Arc<dyn Clock>,
    directory: Arc<Directory>,
    max_live: usize,
    over_cap: Arc<Notify>,
}

/// The receiving side, to be [run](Self::run).
#[derive(Debug)]
pub(crate) struct TimerTask {
    arms: flume::Receiver<Arm>,
    max_live: usize,
    over_cap: Arc<Notify>,
}

impl Timers {
    /// Timers for at most `max_live` actors in memory; beyond it the least recently used leave.
    pub(crate) fn new(
        directory: Arc<Directory>,
        clock: Arc<dyn Clock>,
        max_live: usize,
    ) -> (Self, TimerTask) {
        let (arms, armed) = flume::bounded(WAITING_ARMS);
        let over_cap = Arc::new(Notify::new());
        let task = TimerTask { arms: armed, max_live, over_cap: over_cap.clone() };
        (Self { arms, clock, directory, max_live, over_cap }, task)
    }

    /// Wall-clock time, for records.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An actor has come into memory; `live` actors are there now.
    pub(crate) async fn activated(&self, entry: &Arc<Entry>, definition: &Definition, live: usize) {
        self.used(entry, definition).await;
        if live > self.max_live {
            self.over_cap.notify_one();
        }
    }

    /// An actor in memory is used; sees to it that its idle time runs, also when it has none only since it was activated.
    pub(crate) async fn used(&self, entry: &Arc<Entry>, definition: &Definition) {
        if let Some(idle) = definition.deactivate_after
            && !entry.idle_armed.load(Ordering::Relaxed)
        {
            self.idle_after(entry, idle, idle).await;
        }
    }

    /// Whether nothing has to be done for an actor in memory when it is used: its idle time runs, or it has none.
    pub(crate) fn is_armed(actor: &CheckedOut) -> bool {
        actor.spec.hosted.definition.deactivate_after.is_none()
            || actor.entry.idle_armed.load(Ordering::Relaxed)
    }

    /// How long an actor was not used.
    pub(crate) fn unused_for(&self, entry: &Entry) -> Duration {
        let unused_ms = self.directory.now_ms().saturating_sub(entry.last_used_ms());
        Duration::from_millis(unused_ms)
    }

    /// Looks after `after` whether the actor has been idle for its time.
    pub(crate) async fn idle_after(&self, entry: &Arc<Entry>, idle: Duration, after: Duration) {
        if entry.idle_armed.swap(true, Ordering::AcqRel) {
            return;
        }
        let arm = Arm { entry: entry.clone(), what: What::Idle(idle), after };
        if self.arms.send_async(arm).await.is_err() {
            warn!(actor = %entry.actor, "timers have stopped; the actor stays in memory");
        }
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
        let arm = Arm { entry: entry.clone(), what: What::Snapshot, after };
        if self.arms.try_send(arm).is_err() {
            // No room: the next change tries again.
            entry.snapshot_armed.store(false, Ordering::Release);
        }
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
        let mut leaving: FuturesUnordered<BoxFuture<'static, Result<(), Error>>> =
            FuturesUnordered::new();
        let mut seed = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(arm) = self.arms.recv_async() => {
                    let after = arm.after.min(LONGEST);
                    queue.insert(arm, after);
                    continue;
                }
                () = self.over_cap.notified() => {}
                Some(left) = leaving.next() => {
                    if left.is_err() {
                        // The store fails: the next activation looks again.
                        continue;
                    }
                }
                Some(fired) = queue.next() => {
                    let arm = fired.into_inner();
                    if let Some(rest) = fire(&arm, &mailboxes, &directory) {
                        queue.insert(arm, rest.min(LONGEST));
                    }
                    continue;
                }
            }
            // Looked at again whenever one has left: two picks may have been the same actor.
            while leaving.len() < LEAVING && directory.live_count() > self.max_live + leaving.len()
            {
                seed += 1;
                let Some(victim) = directory.eviction_candidate(seed) else { break };
                leaving.push(evict(&mailboxes, &victim).answer().boxed());
            }
        }
    }
}

/// Asks an actor to leave; the word that it has, or could not.
fn evict(mailboxes: &Mailboxes, victim: &Arc<Entry>) -> Waiting<()> {
    counter!(DEACTIVATIONS_TOTAL, "reason" => "evicted").increment(1);
    let deadlines = mailboxes.deadlines();
    let (done, waiting) = Reply::new(&Timing::new(deadlines, Some(deadlines.host)));
    mailboxes.ask(victim, Task::Deactivate { idle: None, done });
    waiting
}

/// What a timer does when it fires; the time to sleep on, if it was too early.
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
