//! Spawn: metrics under the names of Spawn 1.3, for dashboards that use those names (REQ-MET). Off by default, because systems and actions
//! are labels, and everybody who reaches the port can read labels. The first [`PAIRS`] pairs of system and action have series of their own.

use std::sync::Arc;

use ::metrics::{Counter, Histogram, counter, gauge, histogram};
use hashbrown::HashMap;
use parking_lot::RwLock;
use tidegate_stages::mesh::Observed;
use tokio::time::Instant;

/// Pairs of a system and an action that have series of their own; further ones are [`OTHER`].
const PAIRS: usize = 256;
/// The labels of the others.
const OTHER: &str = "other";

tidegate_pipeline::described! {
    /// Calls from outside that have ended, whatever their outcome. Without a suffix, as Spawn has it.
    Counter INVOKE_STOP = "spawn_invoke_stop_duration" {system, action};
    /// Time of these calls. Spawn declares it in native units and does not export it.
    Histogram INVOKE_STOP_SECONDS = "spawn_invoke_stop_duration_seconds" {system, action};
    /// Turns of actors that run.
    Gauge INFLIGHT = "spawn_actor_inflight_messages_messages";
    /// Turns that wait in mailboxes.
    Gauge QUEUE_LEN = "spawn_actor_message_queue_len";
    /// Bytes of the states and tags of actors in memory, with a fixed part for each.
    Gauge MEMORY = "spawn_actor_memory";
    /// Actors in memory, which are processes in Spawn.
    Gauge PROCESS_COUNT = "vm_system_info_process_count";
    /// Bytes of memory that the process has in use.
    Gauge MEMORY_TOTAL = "vm_memory_total";
    /// Turns that wait in mailboxes.
    Gauge RUN_QUEUE = "vm_total_run_queue_lengths_total";
}

/// The series of calls.
#[derive(Debug, Default)]
pub(crate) struct SpawnNames {
    /// By system, then by action.
    known: RwLock<HashMap<String, HashMap<String, Arc<OfAction>>>>,
}

#[derive(Debug)]
struct OfAction {
    calls: Counter,
    seconds: Histogram,
}

impl OfAction {
    fn new(system: &str, action: &str) -> Self {
        let labels = [("system", system.to_owned()), ("action", action.to_owned())];
        let (calls, seconds) =
            (counter!(INVOKE_STOP, &labels), histogram!(INVOKE_STOP_SECONDS, &labels));
        Self { calls, seconds }
    }
}

/// Counts a call when it is dropped.
#[derive(Debug)]
pub(crate) struct CountedCall {
    of: Arc<OfAction>,
    began: Instant,
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.of.calls.increment(1);
        self.of.seconds.record(self.began.elapsed());
    }
}

impl SpawnNames {
    /// Counts a call of this action from now on.
    pub(crate) fn begin(&self, system: &str, action: &str) -> CountedCall {
        let known = self.known.read().get(system).and_then(|known| known.get(action)).cloned();
        let of = known.unwrap_or_else(|| self.add(system, action));
        CountedCall { of, began: Instant::now() }
    }

    fn add(&self, system: &str, action: &str) -> Arc<OfAction> {
        let mut known = self.known.write();
        let pairs: usize = known.values().map(HashMap::len).sum();
        // One place is that of the others.
        let is_known = known.get(system).is_some_and(|known| known.contains_key(action));
        let (system, action) =
            if is_known || pairs + 1 < PAIRS { (system, action) } else { (OTHER, OTHER) };
        let of_system = known.entry_ref(system).or_default();
        let new = || Arc::new(OfAction::new(system, action));
        of_system.entry_ref(action).or_insert_with(new).clone()
    }

    /// Sets the gauges.
    pub(crate) fn show(observed: &Observed) {
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        let set = |name, value: usize| gauge!(name).set(value as f64);
        set(INFLIGHT, observed.running);
        set(QUEUE_LEN, observed.waiting);
        set(RUN_QUEUE, observed.waiting);
        set(MEMORY, observed.live_bytes);
        set(PROCESS_COUNT, observed.live_actors);
        gauge!(MEMORY_TOTAL).set(super::process::resident_bytes().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_systems_and_actions_have_series_of_their_own() {
        let names = SpawnNames::default();
        for number in 0..10_000 {
            drop(names.begin("s", &format!("action{number}")));
            drop(names.begin(&format!("system{number}"), "add"));
        }
        let pairs = || names.known.read().values().map(HashMap::len).sum::<usize>();
        assert_eq!(pairs(), PAIRS);
        assert!(names.known.read().get(OTHER).is_some_and(|other| other.contains_key(OTHER)));
        let again = names.begin("s", "action1");
        let others = names.begin("s", "action9999");
        assert!(!Arc::ptr_eq(&again.of, &others.of));
        assert!(Arc::ptr_eq(&others.of, &names.begin("unknown", "add").of));
        assert_eq!(pairs(), PAIRS);
    }
}
