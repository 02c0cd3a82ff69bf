//! Names of the metrics of the stages, spelled as scraped.

use std::time::Duration;

use metrics::{Histogram, histogram};

/// Time from admission to reply, seconds, by outcome.
pub const INVOCATION_DURATION_SECONDS: &str = "tidegate_invocation_duration_seconds";
/// Duration of one action on its host, seconds.
pub const INVOKE_DURATION_SECONDS: &str = "tidegate_invoke_duration_seconds";
/// Actors in memory.
pub const LIVE_ACTORS: &str = "tidegate_live_actors";
/// Bytes of their states and tags, with a fixed part for each.
pub const LIVE_BYTES: &str = "tidegate_live_bytes";
/// Activations, by outcome.
pub const ACTIVATIONS_TOTAL: &str = "tidegate_activations_total";
/// Deactivations, by reason.
pub const DEACTIVATIONS_TOTAL: &str = "tidegate_deactivations_total";
/// Stateless actors that lost their memory because there was too much in memory.
pub const STATELESS_EVICTIONS_TOTAL: &str = "tidegate_stateless_evictions_total";
/// Calls refused at admission, by reason.
pub const CALLS_REFUSED_TOTAL: &str = "tidegate_calls_refused_total";
/// Calls refused by access policies, by policy.
pub const POLICY_REFUSALS_TOTAL: &str = "tidegate_policy_refusals_total";
/// Hosts that accept no connections now.
pub const HOSTS_AWAY: &str = "tidegate_hosts_away";
/// Accepted asynchronous calls that were given up before they ran.
pub const CALLS_LOST_TOTAL: &str = "tidegate_calls_lost_total";
/// Ticks of actors' timers: run, or skipped and why.
pub const TIMER_TICKS_TOTAL: &str = "tidegate_timer_ticks_total";
/// Calls of due work, by outcome.
pub const DUE_CALLS_TOTAL: &str = "tidegate_due_calls_total";
/// Runs of schedules that ended or were not begun, by outcome.
pub const SCHEDULE_RUNS_TOTAL: &str = "tidegate_schedule_runs_total";
/// Commits of states, by outcome.
pub const COMMITS_TOTAL: &str = "tidegate_commits_total";
/// Revisions appended to histories.
pub const REVISIONS_APPENDED_TOTAL: &str = "tidegate_revisions_appended_total";
/// Bytes of the appended states.
pub const REVISIONS_APPENDED_BYTES_TOTAL: &str = "tidegate_revisions_appended_bytes_total";
/// Revisions that retention dropped from histories.
pub const REVISIONS_DROPPED_TOTAL: &str = "tidegate_revisions_dropped_total";
/// Tries to deliver side effects, by outcome.
pub const EFFECTS_TOTAL: &str = "tidegate_effects_total";
/// Broadcasts, by outcome.
pub const BROADCASTS_TOTAL: &str = "tidegate_broadcasts_total";
/// Deliveries of broadcasts to subscribers, by outcome.
pub const DELIVERIES_TOTAL: &str = "tidegate_broadcast_deliveries_total";
/// Side effects that are planned or stored, and neither delivered nor dead.
pub const EFFECTS_PENDING: &str = "tidegate_effects_pending";
/// Age of the oldest of them, seconds; 0 without any.
pub const EFFECTS_OLDEST_SECONDS: &str = "tidegate_effects_oldest_seconds";
/// Side effects that are dead letters.
pub const DEAD_LETTERS: &str = "tidegate_dead_letters";
/// Bytes of their rows.
pub const DEAD_LETTERS_BYTES: &str = "tidegate_dead_letters_bytes";
/// Dead letters that were dropped, by reason: asked for, or because there were too many.
pub const DEAD_LETTERS_DROPPED_TOTAL: &str = "tidegate_dead_letters_dropped_total";
/// For how long the oldest of them is dead, seconds; 0 without any.
pub const DEAD_LETTERS_OLDEST_SECONDS: &str = "tidegate_dead_letters_oldest_seconds";

/// Durations of invocations, from admission to reply.
#[derive(Debug, Clone)]
pub(crate) struct InvocationDurations {
    ok: Histogram,
    error: Histogram,
}

impl InvocationDurations {
    pub(crate) fn new() -> Self {
        let of = |outcome| histogram!(INVOCATION_DURATION_SECONDS, "outcome" => outcome);
        Self { ok: of("ok"), error: of("error") }
    }

    pub(crate) fn record(&self, took: Duration, is_ok: bool) {
        let duration = if is_ok { &self.ok } else { &self.error };
        duration.record(took);
    }
}
