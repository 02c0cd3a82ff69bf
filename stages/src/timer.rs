//! Timers: the snapshot timer and idle deactivation of every live actor, in one task.
//!
//! A live actor costs one entry in a delay queue while it waits for its idle time, and one more while
//! a change waits for its snapshot. Uses of an actor do not touch the queue: an idle timer that fires
//! looks when the actor was last used and sleeps for the rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tracing::warn;

use crate::actor::Definition;
use crate::caller::{Caller, Task};
use crate::directory::{Directory, Entry};
use crate::metrics::DEACTIVATIONS_TOTAL;
use crate::ports::Clock;
use crate::reply::Reply;
use crate::state::Timestamp;

/// Arms that may wait for the timer task.
const WAITING_ARMS: usize = 4096;

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

/// Where the rooms arm timers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    arms: flume::Sender<Arm>,
    clock: Arc<dyn Clock>,
    directory: Arc<Directory>,
    max_live: usize,
    evictions: flume::Sender<Arc<Entry>>,
}

/// The receiving side, to be [run](Self::run).
#[derive(Debug)]
pub(crate) struct TimerTask {
    arms: flume::Receiver<Arm>,
    evictions: flume::Receiver<Arc<Entry>>,
}

impl Timers {
    /// Timers for at most `max_live` actors in memory; beyond it the least recently used leave.
    pub(crate) fn new(
        directory: Arc<Directory>,
        clock: Arc<dyn Clock>,
        max_live: usize,
    ) -> (Self, TimerTask) {
        let (arms, armed) = flume::bounded(WAITING_ARMS);
        let (evictions, evicted) = flume::bounded(WAITING_ARMS);
        let task = TimerTask { arms: armed, evictions: evicted };
        (Self { arms, clock, directory, max_live, evictions }, task)
    }

    /// Wall-clock time, for records.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An actor has come into memory; `live` actors are there now.
    pub(crate) async fn activated(&self, entry: &Arc<Entry>, definition: &Definition, live: usize) {
        if let Some(idle) = definition.deactivate_after {
            self.idle_after(entry, idle, idle).await;
        }
        if live > self.max_live {
            let seed = entry.actor.precomputed_hash() ^ self.directory.now_ms();
            let candidate = self.directory.eviction_candidate(seed);
            if let Some(victim) = candidate.filter(|victim| !Arc::ptr_eq(victim, entry)) {
                // When the line is full the next activation tries again.
                drop(self.evictions.try_send(victim));
            }
        }
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
        caller: Caller,
        directory: Arc<Directory>,
        stop: CancellationToken,
    ) {
        let mut queue: DelayQueue<Arm> = DelayQueue::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(arm) = self.arms.recv_async() => {
                    let after = arm.after;
                    queue.insert(arm, after);
                }
                Ok(victim) = self.evictions.recv_async() => {
                    counter!(DEACTIVATIONS_TOTAL, "reason" => "evicted").increment(1);
                    let task = Task::Deactivate { idle: None, done: Reply::unwanted() };
                    caller.ask(&victim, task);
                }
                Some(fired) = queue.next() => {
                    let arm = fired.into_inner();
                    if let Some(rest) = fire(&arm, &caller, &directory) {
                        queue.insert(arm, rest);
                    }
                }
            }
        }
    }
}

/// What a timer does when it fires; the time to sleep on, if it was too early.
fn fire(arm: &Arm, caller: &Caller, directory: &Directory) -> Option<Duration> {
    let entry = &arm.entry;
    match arm.what {
        What::Snapshot => {
            entry.snapshot_armed.store(false, Ordering::Release);
            caller.ask(entry, Task::Snapshot);
        }
        What::Idle(idle) => {
            let used =
                Duration::from_millis(directory.now_ms().saturating_sub(entry.last_used_ms()));
            if used < idle && entry.is_live() {
                return Some(idle.saturating_sub(used));
            }
            entry.idle_armed.store(false, Ordering::Release);
            if entry.is_live() {
                caller.ask(entry, Task::Deactivate { idle: Some(idle), done: Reply::unwanted() });
            }
        }
    }
    None
}
