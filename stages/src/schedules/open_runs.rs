//! Open runs: the schedules of which a target may get a run once more. A target may forget the runs of all other schedules (decision
//! 18 i).
//!
//! A run is noted here before the schedule's record has the run, and its end is noted after the record has the end. The runs that
//! a former start has left are known when all schedules were looked through; until then nothing is forgotten.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::outbox::EffectSource;
use crate::schedules::schedule::ScheduleKey;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct OpenRuns(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Whether every schedule with an open run is known.
    all_found: bool,
    /// Schedules whose record has a run that has not ended, or may have one.
    open: HashSet<ScheduleKey>,
    /// How many runs are being made of a schedule, which may have been deleted meanwhile.
    made: HashMap<ScheduleKey, usize>,
}

/// A run while it is being made.
#[derive(Debug)]
pub(crate) struct BeingMade {
    runs: Arc<OpenRuns>,
    key: ScheduleKey,
}

impl Drop for BeingMade {
    fn drop(&mut self) {
        let mut known = self.runs.0.lock();
        if let Some(count) = known.made.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                known.made.remove(&self.key);
            }
        }
    }
}

impl OpenRuns {
    /// Whether a schedule has no run that its target may get once more. Runs that begin from now on are newer than all that it
    /// ever had.
    pub(crate) fn has_none(&self, source: &EffectSource) -> bool {
        let key = ScheduleKey { system: source.system.clone(), name: source.name.clone() };
        let known = self.0.lock();
        known.all_found && !known.open.contains(&key) && !known.made.contains_key(&key)
    }

    /// The record of a schedule is about to say that a run has not ended, or says so.
    pub(super) fn opened(&self, key: &ScheduleKey) {
        self.0.lock().open.insert(key.clone());
    }

    /// All runs of a schedule have ended, durably.
    pub(super) fn ended(&self, key: &ScheduleKey) {
        self.0.lock().open.remove(key);
    }

    /// A run is made until what this returns is dropped.
    pub(super) fn make(self: &Arc<Self>, key: &ScheduleKey) -> BeingMade {
        *self.0.lock().made.entry(key.clone()).or_default() += 1;
        BeingMade { runs: self.clone(), key: key.clone() }
    }

    /// Whether every schedule with an open run is known.
    pub(super) fn all_found(&self) -> bool {
        self.0.lock().all_found
    }

    /// Every schedule with an open run is known from now on.
    pub(super) fn found_all(&self) {
        self.0.lock().all_found = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::SourceKind;

    #[test]
    fn a_schedule_has_no_run_when_all_are_known_and_the_last_one_has_ended() {
        let runs = Arc::new(OpenRuns::default());
        let key = ScheduleKey { system: "s".into(), name: "once".into() };
        let ScheduleKey { system, name } = key.clone();
        let source = EffectSource { kind: SourceKind::Schedule, system, name };
        assert!(!runs.has_none(&source), "a former start may have left one");
        runs.found_all();
        assert!(runs.has_none(&source));
        runs.opened(&key);
        let (first, second) = (runs.make(&key), runs.make(&key));
        assert!(!runs.has_none(&source));
        // Deleted while it is made.
        runs.ended(&key);
        assert!(!runs.has_none(&source));
        drop(first);
        assert!(!runs.has_none(&source));
        drop(second);
        assert!(runs.has_none(&source));
    }
}
