//! Runner: the task that makes the calls of due work at their times.
//!
//! An entry is removed when its call has been answered, durably where its target has a state. So each is made at least once: a
//! kill in between, or an answer that got lost, makes it again, and a target that has a state recognises it. Calls start slowly
//! after a start and after failures, and more at once with each success, so a backlog does not overrun hosts or crowd out other
//! calls. Those that get no answer make way for calls to other targets.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use metrics::counter;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::actor::ActorRef;
use crate::due::calls::{Calls, End};
use crate::due::places::Places;
use crate::due::record::Record;
use crate::due::tries::{FIRST_PAUSE, LONGEST_PAUSE, Tries};
use crate::due::window::{Ready, Target, Window, target};
use crate::due::work::{Change, DueWork, Inner};
use crate::due::{DueEntry, DueKey};
use crate::error::ErrorKind;
use crate::history::Page;
use crate::metrics::DUE_CALLS_TOTAL;
use crate::optional::result_of;
use crate::ports::StoreError;
use crate::store_limit::in_time;
use crate::traces::context::trace_id;

/// One pool has at most this part of the places.
const TARGETS: usize = 4;
/// Entries that are read, and removed, together.
const PAGE: usize = 1_024;
/// How often the whole table is looked at, in case anything was missed.
const SWEEP: Duration = Duration::from_mins(10);
/// Longest sleep: the wall clock may be set.
const LOOK: Duration = Duration::from_secs(1);

type Read = BoxFuture<'static, Result<Page<DueEntry>, StoreError>>;
type Removal = BoxFuture<'static, (Vec<DueKey>, Result<(), StoreError>)>;
type Call = BoxFuture<'static, (u64, Ready, End)>;

/// The task; see the [module](self).
pub(crate) struct DueRunner {
    due: Arc<Inner>,
    calls: Calls,
    /// The ends of pauses that it has seen.
    seen_ends: u64,
    window: Window,
    running: FuturesUnordered<Call>,
    places: Places<Target>,
    reading: Option<Read>,
    removing: Option<Removal>,
    /// Done, to be removed.
    done: Vec<DueKey>,
    tries: Tries,
    /// When it is looked at whether the entries are gone that a former start may have called.
    look_at: Instant,
    /// How long what is left in the store is not read again; it doubles while everything fails.
    pause: Duration,
    retry_at: Option<Instant>,
    /// When to read again after a read that failed.
    read_again_at: Option<Instant>,
    sweep_at: Instant,
}

impl DueRunner {
    pub(crate) fn new(due: &DueWork, calls: Calls) -> Self {
        calls.effects.made_calls().begin(due.now());
        Self {
            due: due.0.clone(),
            calls,
            seen_ends: 0,
            window: Window::default(),
            running: FuturesUnordered::new(),
            places: Places::new(),
            reading: None,
            removing: None,
            done: Vec::new(),
            tries: Tries::default(),
            look_at: Instant::now(),
            pause: FIRST_PAUSE,
            retry_at: None,
            read_again_at: None,
            sweep_at: Instant::now() + SWEEP,
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let due = self.due.clone();
        loop {
            self.start_what_is_due();
            *due.view.lock() = self.window.view();
            let wake = self.next_wake();
            tokio::select! {
                () = stop.cancelled() => break,
                () = due.added.notified(), if !self.window.is_reading() => {}
                page = result_of(&mut self.reading) => self.read(page),
                removed = result_of(&mut self.removing) => self.removed(removed),
                Some((number, ready, end)) = self.running.next(), if !self.running.is_empty() => {
                    self.places.ended(number);
                    self.ended(ready, end);
                }
                () = sleep_until(wake) => {}
            }
        }
        self.finish().await;
    }

    /// Starts reads, removals and calls, as far as the bounds allow.
    fn start_what_is_due(&mut self) {
        self.take_new();
        let now = Instant::now();
        while let Some(target) = self.places.pass(now) {
            self.window.waits(&target);
        }
        self.find_former(now);
        if !self.window.is_reading() {
            self.take_resumed(now);
            let is_time = self.retry_at.is_some_and(|at| at <= now);
            if now >= self.sweep_at {
                (self.sweep_at, self.retry_at) = (now + SWEEP, None);
                self.window.sweep();
            } else if is_time || self.window.has_drained() {
                self.retry_at = None;
                self.window.go_back();
            }
        }
        if self.window.has_left() && self.retry_at.is_none() {
            self.retry_at = Some(now + self.pause);
        }
        if self.reading.is_none()
            && self.read_again_at.is_none_or(|at| at <= now)
            && let Some(next) = self.window.next_read()
        {
            self.reading = Some(self.due.store.due(next.after.as_ref(), PAGE));
        }
        if self.removing.is_none() && !self.done.is_empty() {
            let keys = take(&mut self.done);
            let removing = self.due.store.remove_due(keys.clone());
            self.removing = Some(in_time(removing).map(move |removed| (keys, removed)).boxed());
        }
        while self.places.has_free() && !self.calls.mailboxes.is_closed() {
            let at_once = (self.places.limit() / TARGETS).max(1);
            let pauses = &self.calls.directory.pauses;
            let is_paused = |record: &Record| {
                let id = &record.invocation.actor;
                pauses.paused() > 0 && pauses.is_paused(&ActorRef::new(&id.system, &id.name))
            };
            let wall = self.due.clock.now();
            let may_hang = self.places.may_hang();
            let Some(ready) = self.window.take_due(wall, at_once, may_hang, is_paused) else {
                break;
            };
            if self.window.take_replaced(&ready.key) || self.due.is_replaced(&ready.key) {
                self.window.put_off(&ready);
                continue;
            }
            let called = target(&ready.record);
            let hung_before = self.window.hangs(&called);
            let number = self.places.take(now, called, hung_before);
            let call = self.calls.clone().make(ready, self.due.clock.clone());
            self.running.push(call.map(move |(ready, end)| (number, ready, end)).boxed());
        }
    }

    /// Tells targets when no entry is left that a former start may have called.
    fn find_former(&mut self, now: Instant) {
        let made = self.calls.effects.made_calls();
        let Some(before) = made.unknown_before() else { return };
        if now < self.look_at || self.due.clock.now() < before {
            return;
        }
        self.look_at = now + LOOK;
        if self.window.has_none_before(before) {
            made.none_before(before);
        }
    }

    /// Has what was held back of resumed actors read again. Not during a read, whose page may have some of it.
    fn take_resumed(&mut self, now: Instant) {
        let ends = self.calls.directory.pauses.ends();
        if ends == self.seen_ends {
            return;
        }
        self.seen_ends = ends;
        let pauses = &self.calls.directory.pauses;
        let is_paused = |system: &str, name: &str| pauses.is_paused(&ActorRef::new(system, name));
        if self.window.let_go(is_paused) {
            self.retry_at = Some(now);
        }
    }

    /// Takes what was stored since. Not during a read, whose page may lack it.
    fn take_new(&mut self) {
        if self.window.is_reading() {
            return;
        }
        let new = self.due.new.lock().take();
        for change in new.changes {
            match change {
                Change::Put(entry) => self.window.offer(entry),
                Change::Cancelled(key) => self.window.cancel(&key),
            }
        }
        if new.has_forgotten {
            self.window.forget();
        }
        if let Some(first) = new.first_left {
            self.window.leave_from(first);
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + LOOK;
        let has_place = self.places.has_free() && !self.calls.mailboxes.is_closed();
        if has_place && let Some(at) = self.window.next_due() {
            let micros = at.0.saturating_sub(self.due.clock.now().0);
            // Not at once again: what is due now was looked at just now.
            wake = wake.min(now + Duration::from_micros(micros).max(Duration::from_millis(1)));
        }
        for at in [self.retry_at, self.read_again_at, self.places.next_pass()].into_iter().flatten()
        {
            wake = wake.min(at.max(now + Duration::from_millis(1)));
        }
        wake
    }

    fn read(&mut self, page: Result<Page<DueEntry>, StoreError>) {
        match page {
            Ok(page) => {
                self.read_again_at = None;
                let (tries, now) = (&self.tries, Instant::now());
                for key in self.window.loaded(page, |key| tries.is_early(key, now)) {
                    warn!(?key, "due work cannot be decoded; it stays in the store");
                    count("damaged");
                }
            }
            Err(error) => {
                warn!(%error, "due work cannot be read now");
                self.window.not_read();
                self.slow_down();
                self.retry_at = Some(Instant::now() + self.pause);
                self.read_again_at = self.retry_at;
            }
        }
    }

    fn removed(&mut self, (keys, removed): (Vec<DueKey>, Result<(), StoreError>)) {
        match removed {
            Ok(()) => {
                for key in keys {
                    self.calls.effects.made_calls().removed(&key.call_source());
                    self.window.removed(key);
                }
            }
            Err(error) => {
                warn!(%error, entries = keys.len(), "due work that is done cannot be removed now");
                let store = self.due.store.clone();
                let again = async move {
                    sleep(FIRST_PAUSE).await;
                    let removed = in_time(store.remove_due(keys.clone())).await;
                    (keys, removed)
                };
                self.removing = Some(again.boxed());
            }
        }
    }

    fn ended(&mut self, ready: Ready, end: End) {
        let (target, action, trace_id) = {
            let called = &ready.record.invocation;
            (&called.actor, &called.action, trace_id(&called.traceparent))
        };
        let is_done = match end {
            End::Answered => {
                count("run");
                true
            }
            End::Again(error) => {
                count("again");
                info!(%target, action, %error, trace_id, "due call failed, it is tried again");
                false
            }
            End::GivenUp(error) => {
                count("given_up");
                warn!(%target, action, %error, trace_id, "due call given up after a day");
                true
            }
            End::Failed(error) => {
                let is_unknown = matches!(
                    error.kind(),
                    ErrorKind::ActorNotFound | ErrorKind::ActionNotFound | ErrorKind::NotFound
                );
                count(if is_unknown { "unknown_target" } else { "failed" });
                warn!(%target, action, %error, trace_id, "due call failed");
                true
            }
        };
        self.window.ended(&ready, is_done);
        if is_done {
            self.tries.ended(&ready.key);
            self.done.push(ready.key);
            self.places.widen();
            self.pause = FIRST_PAUSE;
        } else {
            self.tries.failed(&ready.key, Instant::now());
            self.slow_down();
        }
    }

    fn slow_down(&mut self) {
        self.places.narrow();
        if self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Removes what is done, so that the next start does not do it again.
    async fn finish(mut self) {
        while let Some(Some((_, ready, end))) = self.running.next().now_or_never() {
            self.ended(ready, end);
        }
        if let Some(removing) = self.removing.take() {
            let (keys, removed) = removing.await;
            if removed.is_err() {
                self.done.extend(keys);
            }
        }
        let done = take(&mut self.done);
        let count = done.len();
        if count > 0
            && let Err(error) = in_time(self.due.store.remove_due(done)).await
        {
            warn!(%error, count, "due work that is done is still stored: it runs again");
        }
    }
}

fn count(outcome: &'static str) {
    counter!(DUE_CALLS_TOTAL, "outcome" => outcome).increment(1);
}
