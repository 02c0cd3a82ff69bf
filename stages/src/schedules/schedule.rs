//! Schedule: what a schedule is and what happens to it. Pure: it is told the time.

use std::collections::VecDeque;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::actor::check_name;
use crate::invocation::Invocation;
use crate::schedules::when::{When, micros};
use crate::state::Timestamp;

/// Runs that are kept with their outcome.
pub const KEPT_RUNS: usize = 20;
/// Runs that wait for the one before, where that is allowed.
const MOST_OPEN: usize = 256;
/// Times that one look goes through; the next look goes on.
const TIMES_AT_ONCE: u64 = 1_000;
/// Longest jitter.
const MOST_JITTER: Duration = Duration::from_hours(1);
/// Largest call: its payload, metadata and names, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// How late a run may be that is not caught up.
const PUNCTUAL: Duration = Duration::from_secs(10);

/// Which schedule: system and name. Two names are the same one only if all their bytes are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleKey {
    /// Its system, which is that of its actor.
    pub system: String,
    /// Its name.
    pub name: String,
}

/// What happens when a run is due and the one before has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// One waits, further ones are skipped.
    QueueOne,
    /// All wait; at a member of a pool each, they run at once.
    Allow,
}

impl Overlap {
    /// Runs that have not ended.
    fn most(self) -> usize {
        match self {
            Self::Skip => 1,
            Self::QueueOne => 2,
            Self::Allow => MOST_OPEN,
        }
    }
}

/// How late a run may be; a later one is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Not later than usual.
    None,
    /// So late.
    Within(Duration),
    /// However late.
    All,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self::Within(Duration::from_mins(1))
    }
}

/// What a schedule is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// At which times it runs.
    pub when: When,
    /// What happens while the run before has not ended.
    pub overlap: Overlap,
    /// How late a run may be.
    pub catch_up: CatchUp,
    /// Each run is later by up to so much, but never later than the next time or the end.
    pub jitter: Duration,
    /// No run is later than this.
    pub end: Option<Timestamp>,
    /// The call that it makes.
    pub call: Invocation,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its actor answered, and what that changed is kept.
    Answered,
    /// Why not.
    Failed(String),
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    /// Its number; the first run is 1.
    pub number: u64,
    /// The time for which it was meant.
    pub due: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Its number; the first run is 1.
    pub number: u64,
    /// The time for which it is meant.
    pub due: Timestamp,
    /// Since when it may run; `None`: it waits for the run before.
    pub since: Option<Timestamp>,
}

/// Tells schedules apart that had the same name one after the other. Later ones are larger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Creation {
    /// Epoch of the owner that created it.
    pub epoch: u64,
    /// Ascends with the schedules that this owner created.
    pub number: u64,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Which one it is.
    pub key: ScheduleKey,
    /// Which one of this name.
    pub creation: Creation,
    /// When it was created.
    pub created_at: Timestamp,
    /// What it is to do.
    pub spec: Spec,
    /// Whether it begins no run.
    pub is_paused: bool,
    /// Runs that were begun; also the number of the newest one.
    pub runs: u64,
    /// Of these, so many failed.
    pub failed: u64,
    /// Times that came while a run had not ended.
    pub skipped: u64,
    /// Times that were too long ago to be caught up; at least so many.
    pub missed: u64,
    /// The time of the next run, without jitter.
    pub next: Option<Timestamp>,
    /// When it is looked at next; `None`: when a run ends, or never.
    pub wake: Option<Timestamp>,
    /// Runs that have not ended, oldest first.
    pub open: VecDeque<OpenRun>,
    /// The last runs that have ended, newest first.
    pub past: VecDeque<PastRun>,
}

impl Spec {
    /// Checks names and bounds.
    ///
    /// # Errors
    /// When one of them is not kept to; says which one.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.call.actor.name).map_err(|error| format!("actor {error}"))?;
        if self.call.bytes() > MOST_BYTES {
            return Err(format!("payload and metadata have more than {MOST_BYTES} bytes"));
        }
        if self.jitter > MOST_JITTER {
            return Err("jitter is longer than an hour".into());
        }
        match &self.when {
            When::Every { period, .. } => {
                When::check_period(*period).map_err(|error| format!("every {error}"))?;
                if self.jitter > *period {
                    return Err("jitter is longer than the period".into());
                }
                Ok(())
            }
            When::Cron(..) | When::At(_) => Ok(()),
        }
    }

    /// Takes the first time of a spec with the same period.
    pub(super) fn keep_first(&mut self, of: &Spec) {
        if let When::Every { period, first } = &mut self.when
            && let When::Every { period: same, first: kept } = &of.when
            && *period == *same
        {
            *first = *kept;
        }
    }

    /// Whether runs are made at once: each by another member of a pool.
    pub fn is_parallel(&self) -> bool {
        self.call.pooled && self.overlap == Overlap::Allow
    }

    /// The first time after another one; `None` when there is none.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.when.next(after).filter(|next| self.end.is_none_or(|end| *next <= end))
    }
}

impl Schedule {
    /// A new one.
    pub fn new(key: ScheduleKey, creation: Creation, spec: Spec, now: Timestamp) -> Self {
        let mut schedule = Self {
            key,
            creation,
            created_at: now,
            spec,
            is_paused: false,
            runs: 0,
            failed: 0,
            skipped: 0,
            missed: 0,
            next: None,
            wake: None,
            open: VecDeque::new(),
            past: VecDeque::new(),
        };
        schedule.begin(now);
        schedule
    }

    /// Whether it will never run again by itself.
    pub fn has_ended(&self) -> bool {
        self.next.is_none() && !self.is_paused
    }

    /// The times of its next runs, without jitter.
    pub fn upcoming(&self, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next, |last| self.spec.next(*last)).take(count).collect()
    }

    /// Plans the first run after now.
    fn begin(&mut self, now: Timestamp) {
        self.next = if self.is_paused { None } else { self.spec.next(now) };
        self.wake = self.next.map(|next| self.delayed(next).max(Timestamp(now.0 + 1)));
    }

    /// When the run of a time begins. A random time that is always the same. It is not later than the next time, or runs would
    /// wait for one that comes before them, and not later than the end.
    fn delayed(&self, due: Timestamp) -> Timestamp {
        let jitter = micros(self.spec.jitter);
        if jitter == 0 {
            return due;
        }
        let bounds = [self.spec.when.next(due), self.spec.end].into_iter().flatten();
        let most = bounds.map(|bound| bound.0.saturating_sub(due.0)).fold(jitter, u64::min);
        let mut hash = Xxh3::new();
        hash.update(&due.0.to_le_bytes());
        hash.update(&self.creation.number.to_le_bytes());
        hash.update(self.key.name.as_bytes());
        Timestamp(due.0.saturating_add(hash.digest() % (most + 1)))
    }

    /// The time before which a run is too late, if its time has come.
    fn too_late_before(&self, now: Timestamp) -> Timestamp {
        let window = match self.spec.catch_up {
            CatchUp::None => PUNCTUAL,
            CatchUp::Within(window) => window.max(PUNCTUAL),
            CatchUp::All => return Timestamp(0),
        };
        Timestamp(now.0.saturating_sub(micros(window)))
    }

    /// Begins the runs whose times have come, or counts them as skipped or missed.
    pub fn look(&mut self, now: Timestamp) {
        let too_late_before = self.too_late_before(now);
        let mut times = 0;
        while let Some(due) = self.next {
            let at = self.delayed(due);
            if at > now || times == TIMES_AT_ONCE {
                self.wake = Some(at.max(Timestamp(now.0 + 1)));
                return;
            }
            times += 1;
            if at < too_late_before {
                self.miss(due, too_late_before);
                continue;
            }
            if self.open.len() < self.spec.overlap.most() {
                self.open_run(due, now);
            } else if self.spec.overlap == Overlap::Allow {
                // Goes on when a run ends.
                self.wake = None;
                return;
            } else {
                self.skipped += 1;
            }
            self.next = self.spec.next(due);
        }
        self.wake = None;
    }

    /// Counts a time as missed; and those after it up to the one from which on they are not too late, if that is quick.
    fn miss(&mut self, due: Timestamp, too_late_before: Timestamp) {
        let last = Timestamp(too_late_before.0.saturating_sub(micros(self.spec.jitter) + 1));
        let last = self.spec.end.map_or(last, |end| last.min(end));
        match self.spec.when.count(due, last) {
            Some(count) if count > 1 => {
                self.missed += count;
                self.next = self.spec.next(last);
            }
            _ => {
                let (mut newest, mut next, mut missed) = (due, Some(due), 0);
                while let Some(due) = next
                    && self.delayed(due) < too_late_before
                    && missed < TIMES_AT_ONCE
                {
                    (newest, next, missed) = (due, self.spec.next(due), missed + 1);
                }
                if missed == TIMES_AT_ONCE {
                    next = self.spec.next(newest.max(last));
                }
                self.missed += missed;
                self.next = next;
            }
        }
    }

    fn open_run(&mut self, due: Timestamp, now: Timestamp) {
        self.runs += 1;
        self.open.push_back(OpenRun { number: self.runs, due, since: None });
        self.start(now);
    }

    /// Has the runs made that need not wait.
    fn start(&mut self, now: Timestamp) {
        let at_once = if self.spec.is_parallel() { MOST_OPEN } else { 1 };
        for run in self.open.iter_mut().take(at_once) {
            run.since.get_or_insert(now);
        }
    }

    /// Begins a run now, besides those of its times. Returns false when too many have not ended.
    pub fn run_now(&mut self, now: Timestamp) -> bool {
        let has_place = self.open.len() < self.spec.overlap.most();
        if has_place {
            self.open_run(now, now);
        }
        has_place
    }

    /// Whether this is a run that has not ended and need not wait.
    pub fn is_running(&self, creation: Creation, number: u64, since: Timestamp) -> bool {
        let is_it = |run: &&OpenRun| run.number == number;
        self.creation == creation
            && self.open.iter().find(is_it).is_some_and(|run| run.since == Some(since))
    }

    /// A run has ended.
    pub fn ended(&mut self, number: u64, outcome: Outcome, now: Timestamp) {
        let Some(place) = self.open.iter().position(|run| run.number == number) else { return };
        let Some(OpenRun { due, .. }) = self.open.remove(place) else { return };
        self.failed += u64::from(outcome != Outcome::Answered);
        self.past.push_front(PastRun { number, due, ended: now, outcome });
        self.past.truncate(KEPT_RUNS);
        self.start(now);
        if self.wake.is_none() && self.next.is_some() {
            self.wake = Some(Timestamp(now.0 + 1));
        }
    }

    /// Begins no run from now on. Those that were begun go on. Times that pass meanwhile are neither skipped nor missed.
    pub fn pause(&mut self) {
        (self.is_paused, self.next, self.wake) = (true, None, None);
    }

    /// Ends a pause.
    pub fn resume(&mut self, now: Timestamp) {
        if self.is_paused {
            self.is_paused = false;
            self.begin(now);
        }
    }

    /// Has something else to do from now on. Counts and runs stay.
    pub fn replace(&mut self, spec: Spec, now: Timestamp) {
        let is_same = spec.when == self.spec.when
            && spec.end == self.spec.end
            && spec.jitter == self.spec.jitter;
        self.spec = spec;
        if !is_same {
            self.begin(now);
        }
        self.start(now);
    }
}

#[cfg(test)]
mod tests;
