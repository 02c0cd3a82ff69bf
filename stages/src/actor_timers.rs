//! Timers of actors: each registered timer calls its action at a fixed rate, without a reply.
//!
//! They start when the actor is activated for the first time and go on when it leaves memory: the next tick activates it
//! again. They end when the actor is deleted, when its definition is retired, and when the pool whose member it is has it no
//! more; a definition with other timers replaces them
//! ([decision 044](../../../docs/decisions/044-timers-outlive-a-deactivation.md)).
//!
//! One task serves all of them. Of a timer it keeps when the next tick is due; nothing is written. A tick is queued in
//! the mailbox of its actor like a call. It is skipped and counted when the call of the tick before still runs, when
//! the admission is full or when the host is away. After a delay one tick catches up; the others are skipped.

mod ticks;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::warn;

use crate::actor::Definition;
use crate::call::Admitted;
use crate::invocation::{Invocation, Payload};
use crate::metrics::TIMER_TICKS_TOTAL;
use crate::placement::Mailboxes;
use crate::registry::directory::Directory;
use crate::registry::entry::{Entry, Spec};
use crate::reply::SignalHandle;
use crate::traces::CallOrigin;

use ticks::{Due, Ticks};

/// Timers that run at most.
const TIMERS: usize = 1_000_000;
/// Ticks after which the task lets others run.
const AT_ONCE: usize = 256;
/// Least time between two looks at all actors with timers.
const LOOKS: Duration = Duration::from_secs(1);
/// How long to sleep when no tick is due.
const LONG: Duration = Duration::from_hours(24);

/// What waits for the task: actors whose timers are to be started, each at most once.
#[derive(Debug)]
struct NewActors {
    /// Each with its [`ticks_ended`](Entry::ticks_ended) at that time.
    entries: Mutex<Vec<(Arc<Entry>, u32)>>,
    added: Notify,
    /// False when timers are switched off.
    run: bool,
}

/// Where timers are started. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ActorTimers(Arc<NewActors>);

/// The task of the timers, to be [run](Self::run).
#[derive(Debug)]
pub(crate) struct TickTask {
    new: Arc<NewActors>,
    ticks: Ticks,
    mailboxes: Mailboxes,
    directory: Arc<Directory>,
}

impl ActorTimers {
    /// Makes both ends. Without `run` no timer is ever started.
    pub(crate) fn new(
        mailboxes: Mailboxes,
        directory: Arc<Directory>,
        run: bool,
    ) -> (Self, TickTask) {
        let (entries, added) = (Mutex::default(), Notify::new());
        let new = Arc::new(NewActors { entries, added, run });
        let ticks = Ticks::new(TIMERS);
        (Self(new.clone()), TickTask { new, ticks, mailboxes, directory })
    }

    /// Whether timers tick at all.
    pub(crate) fn are_on(&self) -> bool {
        self.0.run
    }

    /// Starts the timers of an active actor, unless they run.
    pub(crate) fn start(&self, entry: &Arc<Entry>, definition: &Definition) {
        if definition.timers.is_empty() || entry.ticks_armed.load(Ordering::Relaxed) {
            return;
        }
        let ended = entry.ticks_ended.load(Ordering::Acquire);
        if self.0.run && !entry.ticks_armed.swap(true, Ordering::AcqRel) {
            self.0.entries.lock().push((entry.clone(), ended));
            self.0.added.notify_one();
        }
    }
}

impl TickTask {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (directory, new) = (self.directory.clone(), self.new.clone());
        let mut next_look = Instant::now();
        // When to look again, if the timers of a definition have changed.
        let mut look_at = None;
        loop {
            let pause = self.ticks.next_due().map_or(LONG, |due| {
                Duration::from_millis(due.saturating_sub(directory.now_ms())).min(LONG)
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = new.added.notified() => self.add_new(),
                () = directory.timers_changed.notified(), if look_at.is_none() => {
                    look_at = Some(next_look);
                }
                () = sleep_until(look_at.unwrap_or(next_look)), if look_at.is_some() => {
                    (look_at, next_look) = (None, Instant::now() + LOOKS);
                    self.look_again();
                }
                () = sleep(pause) => {
                    for _ in 0..AT_ONCE {
                        let now_ms = directory.now_ms();
                        let Some(due) = self.ticks.take_due(now_ms) else { break };
                        self.tick(&due, now_ms);
                    }
                    yield_now().await;
                }
            }
        }
    }

    fn add_new(&mut self) {
        let entries = std::mem::take(&mut *self.new.entries.lock());
        for (entry, ended) in entries {
            self.add(&entry, ended);
        }
    }

    /// Starts the timers of an actor anew, the first tick of each after its period. They end at once when it was deleted since
    /// they had `ended` so often.
    fn add(&mut self, entry: &Arc<Entry>, ended: u32) {
        let definition = entry.spec().hosted.definition;
        let is_ended = entry.is_removed() || definition.timers.is_empty();
        let now_ms = self.directory.now_ms();
        if !is_ended && self.ticks.add((entry, ended), &definition, now_ms) {
            return;
        }
        entry.ticks_armed.store(false, Ordering::Release);
        if !is_ended {
            warn!(actor = %entry.actor, most = TIMERS, "too many timers run: those of an actor were not started");
        }
    }

    /// Looks at all actors after definitions got other timers, or actors with timers were deleted.
    fn look_again(&mut self) {
        for (entry, ended) in self.ticks.take_changed() {
            self.add(&entry, ended);
        }
        let timers = ActorTimers(self.new.clone());
        for entry in self.directory.all_live() {
            timers.start(&entry, &entry.spec().hosted.definition);
        }
    }

    /// Runs a tick, or skips it.
    fn tick(&mut self, due: &Due, now_ms: u64) {
        let entry = due.entry.clone();
        let spec = entry.spec();
        if entry.is_removed() || due.is_replaced(&spec.hosted.definition) {
            self.ticks.remove(due);
            self.add(&entry, due.ended);
            return;
        }
        let missed = self.ticks.wait_for_next(due, now_ms);
        let outcome = if self.mailboxes.is_closed() {
            return;
        } else if self.ticks.is_running(due) {
            "running"
        } else if entry.is_paused() {
            "paused"
        } else if spec.hosted.refusal().is_some() {
            "host_away"
        } else if let Some(running) = self.call(entry, &spec, due.action()) {
            self.ticks.runs(due, running);
            "run"
        } else {
            "refused"
        };
        counter!(TIMER_TICKS_TOTAL, "outcome" => outcome).increment(1);
        if missed > 0 {
            counter!(TIMER_TICKS_TOTAL, "outcome" => "missed").increment(missed);
        }
    }

    /// Queues the call of a tick. `None` when it is refused.
    fn call(&self, entry: Arc<Entry>, spec: &Spec, action: &str) -> Option<SignalHandle> {
        let mut invocation = Invocation {
            actor: (*spec.id).clone(),
            action: action.to_owned(),
            payload: Payload::Noop,
            caller: Some((*spec.id).clone()),
            asynchronous: true,
            ..Invocation::default()
        };
        self.mailboxes.tracer.begin(&mut invocation.traceparent);
        let timing = self.mailboxes.timing(&invocation, CallOrigin::Timer);
        let running = timing.signal_handle();
        // Where calls wait for a free place, a tick does not.
        let reserved = self.mailboxes.reserve(invocation.bytes(), &timing, &entry).now_or_never();
        let permit = Some(reserved?.ok()?);
        let admitted = Admitted {
            entry,
            invocation: Box::new(invocation),
            timing,
            permit,
            effect: None,
            delivery: None,
            load: None,
        };
        let placed = (&self.mailboxes).call(admitted).into_inner();
        placed.is_ok().then_some(running)
    }
}
