//! Keeper: changes schedules in the store, and keeps their entries of due work in step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::counter;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use crate::actor::{ActorId, check_name};
use crate::due::{DueEntry, DueKey, DueWork, Purpose, Record, RunId, bounded_name};
use crate::error::Error;
use crate::history::Page;
use crate::invocation::{EFFECT_ID, Invocation, SCHEDULE_DUE, SCHEDULE_NAME};
use crate::metrics::SCHEDULE_RUNS_TOTAL;
use crate::outbox::{EffectId, EffectSource, SourceKind};
use crate::ports::StoreError;
use crate::schedules::bounds::{Counted, ScheduleBounds};
use crate::schedules::open_runs::{BeingMade, OpenRuns};
use crate::schedules::{Creation, Outcome, Schedule, ScheduleKey, Spec};
use crate::state::Timestamp;
use crate::store_limit::in_time;

/// Locks over the names of schedules.
const LOCKS: usize = 64;
/// Schedules that are read together.
const PAGE: usize = 256;
/// Bytes of the text of an outcome.
const TEXT: usize = 200;
/// How often all schedules are looked at, in case an entry was lost.
const ROUND: Duration = Duration::from_mins(10);
/// How late a look is that was lost.
const LOST_US: u64 = 120 * 1_000_000;

/// A run that is to be made.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) invocation: Invocation,
    /// The effect that it is for its target; `None`: it may run beside others.
    pub(crate) effect: Option<(Arc<EffectSource>, EffectId)>,
    /// Until it is dropped the target does not forget what it has seen of the schedule.
    pub(crate) being_made: BeingMade,
}

/// The schedules of a store; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Schedules(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    due: DueWork,
    epoch: u64,
    created: AtomicU64,
    bounds: ScheduleBounds,
    counted: Counted,
    runs: Arc<OpenRuns>,
    locks: Vec<Mutex<()>>,
}

impl Schedules {
    /// Those of the store of due work, whose owner has this epoch. `runs` learns of their runs.
    pub(crate) fn new(
        due: DueWork,
        epoch: u64,
        bounds: ScheduleBounds,
        runs: Arc<OpenRuns>,
    ) -> Self {
        let locks = std::iter::repeat_with(Mutex::default).take(LOCKS).collect();
        let (created, counted) = (AtomicU64::new(0), Counted::default());
        Self(Arc::new(Inner { due, epoch, created, bounds, counted, runs, locks }))
    }

    fn now(&self) -> Timestamp {
        self.0.due.now()
    }

    /// Nothing else happens to a schedule meanwhile.
    async fn lock(&self, key: &ScheduleKey) -> MutexGuard<'_, ()> {
        let hash = xxh3_64(format!("{}\0{}", key.system, key.name).as_bytes());
        let place = usize::try_from(hash % LOCKS as u64).unwrap_or(0);
        self.0.locks[place].lock().await
    }

    async fn load(&self, key: &ScheduleKey) -> Result<Option<Schedule>, Error> {
        if [&key.system, &key.name].iter().any(|name| check_name(name).is_err()) {
            // Stores cannot look for such a name; there is none.
            return Ok(None);
        }
        let row = in_time(self.0.due.store().schedule(key)).await?;
        let damaged = || StoreError::Corrupt(format!("schedule {} cannot be decoded", key.name));
        row.map(|row| Schedule::decode(row).ok_or_else(damaged)).transpose().map_err(Error::from)
    }

    async fn find(&self, key: &ScheduleKey) -> Result<Schedule, Error> {
        self.load(key).await?.ok_or_else(|| unknown(key))
    }

    /// Writes what a schedule has become. Entries first: one that the record does not know is dropped, one that is missing is
    /// missed.
    async fn keep(&self, before: Option<&Schedule>, after: &Schedule) -> Result<(), Error> {
        let old = before.map(entries).unwrap_or_default();
        let is_new = |entry: &DueEntry| old.iter().all(|old| old.key != entry.key);
        let new: Vec<_> = entries(after).into_iter().filter(is_new).collect();
        if !new.is_empty() {
            self.0.due.put_all(new).await?;
        }
        let is_open = !after.open.is_empty();
        if is_open {
            self.0.runs.opened(&after.key);
        }
        in_time(self.0.due.store().put_schedule(after.encode())).await?;
        if !is_open {
            self.0.runs.ended(&after.key);
        }
        if let Some(before) = before {
            let count = |outcome, before, after: u64| {
                counter!(SCHEDULE_RUNS_TOTAL, "outcome" => outcome)
                    .increment(after.saturating_sub(before));
            };
            count("skipped", before.skipped, after.skipped);
            count("missed", before.missed, after.missed);
        }
        Ok(())
    }

    /// Removes a look that has become useless.
    async fn cancel_look(&self, before: &Schedule, after: Option<&Schedule>) {
        let wake = after.and_then(|after| after.wake);
        if let Some(at) = before.wake.filter(|at| wake != Some(*at)) {
            // What stays is dropped at its time.
            drop(self.0.due.cancel(vec![look_key(&before.key, at)]).await);
        }
    }

    /// Creates a schedule. With `replaces`, one of this name has something else to do from now on. With `keeps_first`, it keeps the
    /// first time that it has if the period stays.
    ///
    /// # Errors
    /// When a name or a bound is not kept to, it would never run, there is one of this name, there are as many as there may be, or
    /// the store fails.
    pub(crate) async fn put(
        &self,
        key: ScheduleKey,
        mut spec: Spec,
        is_paused: bool,
        replaces: bool,
        keeps_first: bool,
    ) -> Result<Schedule, Error> {
        for (part, name) in [("system", &key.system), ("name", &key.name)] {
            check_name(name).map_err(|error| Error::Invalid(format!("{part} {error}")))?;
        }
        spec.check().map_err(Error::Invalid)?;
        let _lock = self.lock(&key).await;
        let before = self.load(&key).await?;
        if let Some(before) = before.as_ref().filter(|_| keeps_first) {
            spec.keep_first(&before.spec);
        }
        if spec.next(self.now()).is_none() {
            return Err(Error::Invalid("the schedule would never run".into()));
        }
        let Inner { due, bounds, counted, .. } = &*self.0;
        let created = match &before {
            None => Some(counted.create(&key.system, *bounds, &**due.store()).await?),
            Some(_) => None,
        };
        let now = self.now();
        let mut after = match &before {
            Some(_) if !replaces => {
                let text = format!("there is a schedule {} already", key.name);
                return Err(Error::Conflict(text));
            }
            Some(before) => {
                let mut after = before.clone();
                after.replace(spec, now);
                after
            }
            None => {
                let number = self.0.created.fetch_add(1, Ordering::Relaxed);
                Schedule::new(key, Creation { epoch: self.0.epoch, number }, spec, now)
            }
        };
        match (is_paused, after.is_paused) {
            (true, false) => after.pause(),
            (false, true) => after.resume(now),
            _ => {}
        }
        self.keep(before.as_ref(), &after).await?;
        if let Some(created) = created {
            created.written();
        }
        if let Some(before) = &before {
            self.cancel_look(before, Some(&after)).await;
        }
        Ok(after)
    }

    /// Returns a schedule.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub(crate) async fn get(&self, key: &ScheduleKey) -> Result<Schedule, Error> {
        self.find(key).await
    }

    /// Returns schedules of a system: a page of at most `limit`, after a name.
    ///
    /// # Errors
    /// When `after` is no name, or the store fails.
    pub(crate) async fn list(
        &self,
        system: &str,
        after: &str,
        limit: usize,
    ) -> Result<Page<Schedule>, Error> {
        if !after.is_empty() {
            check_name(after).map_err(|error| Error::Invalid(format!("after {error}")))?;
        }
        if check_name(system).is_err() {
            return Ok(Page { items: Vec::new(), more: false });
        }
        let after = ScheduleKey { system: system.into(), name: after.into() };
        let page = in_time(self.0.due.store().schedules(Some(&after), limit)).await?;
        let mut own = Page { items: Vec::new(), more: page.more };
        for row in page.items {
            if row.key.system != system {
                own.more = false;
                break;
            }
            let name = row.key.name.clone();
            if let Some(schedule) = Schedule::decode(row) {
                own.items.push(schedule);
            } else {
                warn!(system, name, "a schedule cannot be decoded");
            }
        }
        Ok(own)
    }

    async fn change(
        &self,
        key: &ScheduleKey,
        change: impl FnOnce(&mut Schedule, Timestamp) -> Result<(), Error>,
    ) -> Result<Schedule, Error> {
        let _lock = self.lock(key).await;
        let before = self.find(key).await?;
        let mut after = before.clone();
        change(&mut after, self.now())?;
        self.keep(Some(&before), &after).await?;
        self.cancel_look(&before, Some(&after)).await;
        Ok(after)
    }

    /// Begins no run of a schedule from now on.
    ///
    /// # Errors
    /// When there is none, or the store fails; here and below.
    pub(crate) async fn pause(&self, key: &ScheduleKey) -> Result<Schedule, Error> {
        self.change(key, |schedule, _| {
            schedule.pause();
            Ok(())
        })
        .await
    }

    /// Ends a pause.
    pub(crate) async fn resume(&self, key: &ScheduleKey) -> Result<Schedule, Error> {
        self.change(key, |schedule, now| {
            schedule.resume(now);
            Ok(())
        })
        .await
    }

    /// Begins a run now.
    pub(crate) async fn run_now(&self, key: &ScheduleKey) -> Result<Schedule, Error> {
        self.change(key, |schedule, now| {
            if schedule.run_now(now) {
                return Ok(());
            }
            let text = "a run has not ended, and the overlap policy allows no other one";
            Err(Error::Conflict(text.into()))
        })
        .await
    }

    /// Removes a schedule. A run that has begun goes on.
    pub(crate) async fn delete(&self, key: &ScheduleKey) -> Result<(), Error> {
        let _lock = self.lock(key).await;
        let before = self.find(key).await?;
        let removed = self.0.counted.remove().await;
        in_time(self.0.due.store().remove_schedule(key)).await?;
        removed.removed(&key.system);
        self.0.runs.ended(key);
        self.cancel_look(&before, None).await;
        Ok(())
    }

    /// The time of a look has come. One that the schedule does not know is dropped.
    ///
    /// # Errors
    /// When the store fails: the look is to be repeated.
    pub(crate) async fn look(&self, key: &ScheduleKey, at: Timestamp) -> Result<(), Error> {
        let _lock = self.lock(key).await;
        let Some(before) = self.load(key).await? else { return Ok(()) };
        if before.wake != Some(at) {
            return Ok(());
        }
        let mut after = before.clone();
        // The clock may have gone back meanwhile.
        after.look(self.now().max(at));
        self.keep(Some(&before), &after).await
    }

    /// A run is to be made. `None`: it is none any more.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn begin(&self, run: &RunId, since: Timestamp) -> Result<Option<Run>, Error> {
        let RunId { key, creation, number } = run;
        let _lock = self.lock(key).await;
        let Some(schedule) = self.load(key).await? else { return Ok(None) };
        // The write of what was read may have got no answer.
        if schedule.open.is_empty() {
            self.0.runs.ended(key);
        } else {
            self.0.runs.opened(key);
        }
        if !schedule.is_running(*creation, *number, since) {
            return Ok(None);
        }
        let due = schedule.open.iter().find(|open| open.number == *number);
        let due_ms = due.map_or(0, |open| open.due.0 / 1000);
        let Creation { epoch, number: activation } = *creation;
        let id = EffectId { epoch, activation, number: *number };
        let is_parallel = schedule.spec.is_parallel();
        let mut invocation = schedule.spec.call;
        invocation.metadata.extend([
            (EFFECT_ID.to_owned(), format!("schedule/{}/{}/{id}", key.system, key.name)),
            (SCHEDULE_NAME.to_owned(), key.name.clone()),
            (SCHEDULE_DUE.to_owned(), due_ms.to_string()),
        ]);
        let ScheduleKey { system, name } = key.clone();
        let source = Arc::new(EffectSource { kind: SourceKind::Schedule, system, name });
        let effect = (!is_parallel).then_some((source, id));
        Ok(Some(Run { invocation, effect, being_made: self.0.runs.make(key) }))
    }

    /// A run has ended.
    ///
    /// # Errors
    /// When the store fails: then it is not known that it has ended.
    pub(crate) async fn ended(
        &self,
        run: &RunId,
        outcome: Result<(), &Error>,
    ) -> Result<(), Error> {
        let RunId { key, creation, number } = run;
        let _lock = self.lock(key).await;
        let Some(before) = self.load(key).await? else { return Ok(()) };
        if before.creation != *creation {
            return Ok(());
        }
        let outcome = match outcome {
            Ok(()) => Outcome::Answered,
            Err(error) => Outcome::Failed(error.to_string().chars().take(TEXT).collect()),
        };
        let word = if outcome == Outcome::Answered { "answered" } else { "failed" };
        let mut after = before.clone();
        after.ended(*number, outcome, self.now());
        self.keep(Some(&before), &after).await?;
        counter!(SCHEDULE_RUNS_TOTAL, "outcome" => word).increment(1);
        Ok(())
    }

    /// Looks through all schedules from time to time for one whose entries of due work are lost, until `stop`. The first time,
    /// runs are found that a former start has left.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(ROUND) => {}
            }
            if let Err(error) = self.find_lost().await {
                warn!(%error, "schedules cannot be looked through now");
            }
        }
    }

    async fn find_lost(&self) -> Result<(), StoreError> {
        let all_found = self.0.runs.all_found();
        let mut after = None;
        loop {
            let page = in_time(self.0.due.store().schedules(after.as_ref(), PAGE)).await?;
            after = page.items.last().map(|row| row.key.clone());
            let lost_before = Timestamp(self.now().0.saturating_sub(LOST_US));
            let late = |schedule: &Schedule| schedule.wake.is_some_and(|wake| wake < lost_before);
            for row in page.items {
                let key = row.key.clone();
                let schedule = Schedule::decode(row);
                if !all_found && may_have_run(schedule.as_ref()) {
                    self.find_run(&key).await?;
                }
                let Some(schedule) = schedule.filter(late) else { continue };
                let ScheduleKey { system, name } = &schedule.key;
                warn!(
                    system,
                    name, "a schedule was not looked at in time; its entry is written again"
                );
                self.0.due.put_all(entries(&schedule)).await?;
            }
            if !page.more {
                self.0.runs.found_all();
                return Ok(());
            }
        }
    }

    /// Notes a schedule if it still has a run that has not ended.
    async fn find_run(&self, key: &ScheduleKey) -> Result<(), StoreError> {
        let _lock = self.lock(key).await;
        let row = in_time(self.0.due.store().schedule(key)).await?;
        if row.is_some_and(|row| may_have_run(Schedule::decode(row).as_ref())) {
            self.0.runs.opened(key);
        }
        Ok(())
    }
}

/// Whether a schedule has a run that has not ended; of one that cannot be decoded it is not known.
fn may_have_run(schedule: Option<&Schedule>) -> bool {
    schedule.is_none_or(|schedule| !schedule.open.is_empty())
}

fn unknown(key: &ScheduleKey) -> Error {
    Error::NotFound(format!("there is no schedule {} on ActorSystem {}", key.name, key.system))
}

fn look_key(key: &ScheduleKey, at: Timestamp) -> DueKey {
    let ScheduleKey { system, name } = key.clone();
    DueKey { at, source: EffectSource { kind: SourceKind::Schedule, system, name }.into() }
}

/// The entries of due work that a schedule has.
pub fn entries(schedule: &Schedule) -> Vec<DueEntry> {
    let key = &schedule.key;
    let look = schedule.wake.map(|at| {
        // No actor has this name: looks share no bound with calls.
        let name = format!("\u{1f}{}", key.name);
        let actor = ActorId { name, system: key.system.clone(), parent: String::new() };
        let invocation = Invocation { actor, ..Invocation::default() };
        let record = Record { invocation, purpose: Purpose::Look };
        DueEntry { key: look_key(key, at), record: record.encode() }
    });
    let runs = schedule.open.iter().filter_map(|open| {
        let number = open.number;
        let run = RunId { key: key.clone(), creation: schedule.creation, number };
        let name = bounded_name(&format!("run/{number}/"), &key.name);
        let source = EffectSource { kind: SourceKind::Due, system: key.system.clone(), name };
        let actor = schedule.spec.call.actor.clone();
        let invocation = Invocation { actor, ..Invocation::default() };
        let record = Record { invocation, purpose: Purpose::Run(run) };
        let key = DueKey { at: open.since?, source: source.into() };
        Some(DueEntry { key, record: record.encode() })
    });
    look.into_iter().chain(runs).collect()
}
