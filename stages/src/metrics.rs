//! Names of the metrics of the stages, spelled as scraped.

use std::time::Duration;

use metrics::{Histogram, histogram};

/// Time from admission to answer, seconds, by outcome.
pub const INVOCATION_DURATION_SECONDS: &str = "tidegate_invocation_duration_seconds";
/// Time a host took for one action, seconds.
pub const INVOKE_DURATION_SECONDS: &str = "tidegate_invoke_duration_seconds";
/// Actors in memory.
pub const LIVE_ACTORS: &str = "tidegate_live_actors";
/// Activations, by outcome.
pub const ACTIVATIONS_TOTAL: &str = "tidegate_activations_total";
/// Actors unloaded, by reason.
pub const DEACTIVATIONS_TOTAL: &str = "tidegate_deactivations_total";
/// Calls refused at admission, by reason.
pub const CALLS_REFUSED_TOTAL: &str = "tidegate_calls_refused_total";
/// Commits of states, by outcome.
pub const COMMITS_TOTAL: &str = "tidegate_commits_total";
/// Revisions appended to histories.
pub const REVISIONS_APPENDED_TOTAL: &str = "tidegate_revisions_appended_total";
/// Bytes of the states that were appended.
pub const REVISIONS_APPENDED_BYTES_TOTAL: &str = "tidegate_revisions_appended_bytes_total";
/// Revisions dropped from histories by retention.
pub const REVISIONS_DROPPED_TOTAL: &str = "tidegate_revisions_dropped_total";
/// Side effects, by outcome.
pub const EFFECTS_TOTAL: &str = "tidegate_effects_total";

/// How long invocations take, from their admission to their answer.
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
