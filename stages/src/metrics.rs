//! Names of the metrics of the stages, spelled as scraped.

use std::time::Duration;

use metrics::{Histogram, histogram};

tidegate_pipeline::described! {
    /// Time from admission to reply (ok, error).
    Histogram INVOCATION_DURATION_SECONDS = "tidegate_invocation_duration_seconds" {outcome};
    /// Time that a host took for one action.
    Histogram INVOKE_DURATION_SECONDS = "tidegate_invoke_duration_seconds";
    /// Turns and calls that wait, by what they wait for. Stage `caller`: `admission` (a free place), `actor_turn` (another turn of
    /// their actor), `paused`, `worker` (a slot), `host_permit` (as many calls of their host are in flight as may be), `host_breaker`
    /// (their host accepts no connections), `checkpoint_place`; `lookup`: `store`; `parked`, until their next try: `retry_host`,
    /// `retry_store`, `retry_spawn`; `checkpoint`: `commit`.
    Gauge BLOCKED_TURNS = "tidegate_blocked_turns" {stage, reason};
    /// For how long the first of them waits; 0 without any. Not known of admission and commit.
    Gauge BLOCKED_OLDEST_SECONDS = "tidegate_blocked_oldest_seconds" {stage, reason};
    /// Mailboxes in which so many turns wait.
    Gauge MAILBOXES = "tidegate_mailboxes" {depth};
    /// Turns that wait in the fullest mailbox.
    Gauge MAILBOX_DEEPEST = "tidegate_mailbox_deepest_turns";
    /// Times that a turn was parked, by reason: `load` (the store loads what it needs), or the failure after which it is tried again
    /// (`host`, `store`).
    Counter PARKED_TOTAL = "tidegate_turns_parked_total" {reason};
    /// Turns that were tried again after a failure of their host, or of the store.
    Counter RETRIES_TOTAL = "tidegate_retries_total" {reason};
    /// Whether the breaker of the store is open: 1 or 0.
    Gauge STORE_BREAKER_OPEN = "tidegate_store_breaker_open";
    /// Whole seconds that the breaker of the store was open.
    Counter STORE_BREAKER_SECONDS_TOTAL = "tidegate_store_breaker_open_seconds_total";
    /// Hosts by what is known of them (new, reached, away: its calls wait, open: its calls fail at once, tried: a probe has connected).
    Gauge HOSTS = "tidegate_hosts" {state};
    /// Whole seconds that hosts accepted no connections, added up.
    Counter HOSTS_AWAY_SECONDS_TOTAL = "tidegate_hosts_away_seconds_total";
    /// Actors whose last commit is in doubt: it is written again until the store acknowledges it.
    Gauge COMMITS_IN_DOUBT = "tidegate_commits_in_doubt";
    /// Definitions and spawned actors that are registered.
    Gauge REGISTERED_ACTORS = "tidegate_registered_actors";
    /// Actors that are paused.
    Gauge PAUSED_ACTORS = "tidegate_paused_actors";
    /// Calls for a later time, runs of schedules among them, that are in memory; further ones are in the store only.
    Gauge DUE_PENDING = "tidegate_due_pending_calls";
    /// Schedules whose next run is in memory; further ones are in the store only. How late they are: `tidegate_due_lag_seconds`.
    Gauge SCHEDULES_PENDING = "tidegate_schedules_pending";
    /// For how long the first call whose time has come waits to be made; 0 without any.
    Gauge DUE_LAG_SECONDS = "tidegate_due_lag_seconds";
    /// Actors in memory.
    Gauge LIVE_ACTORS = "tidegate_live_actors";
    /// Bytes of the states and tags of actors in memory, with a fixed part for each.
    Gauge LIVE_BYTES = "tidegate_live_bytes";
    /// Activations.
    Counter ACTIVATIONS_TOTAL = "tidegate_activations_total";
    /// Deactivations.
    Counter DEACTIVATIONS_TOTAL = "tidegate_deactivations_total" {reason};
    /// Stateless actors that lost their memory because there was too much in memory.
    Counter STATELESS_EVICTIONS_TOTAL = "tidegate_stateless_evictions_total";
    /// Calls and changes that were refused, by the bound that is reached.
    Counter CALLS_REFUSED_TOTAL = "tidegate_calls_refused_total" {reason};
    /// Calls refused by access policies, by the name of the file.
    Counter POLICY_REFUSALS_TOTAL = "tidegate_policy_refusals_total" {policy};
    /// Hosts that accept no connections now.
    Gauge HOSTS_AWAY = "tidegate_hosts_away";
    /// Accepted asynchronous calls that were given up before they ran.
    Counter CALLS_LOST_TOTAL = "tidegate_calls_lost_total";
    /// Ticks of actors' timers: run, or skipped and why.
    Counter TIMER_TICKS_TOTAL = "tidegate_timer_ticks_total" {outcome};
    /// Tries to make calls for a later time.
    Counter DUE_CALLS_TOTAL = "tidegate_due_calls_total" {outcome};
    /// Runs of schedules that ended (answered, failed) or were not begun (skipped, missed).
    Counter SCHEDULE_RUNS_TOTAL = "tidegate_schedule_runs_total" {outcome};
    /// Commits of states (written, lost).
    Counter COMMITS_TOTAL = "tidegate_commits_total" {outcome};
    /// Revisions appended to histories.
    Counter REVISIONS_APPENDED_TOTAL = "tidegate_revisions_appended_total";
    /// Bytes of the states that were appended to histories.
    Counter REVISIONS_APPENDED_BYTES_TOTAL = "tidegate_revisions_appended_bytes_total";
    /// Revisions that retention dropped from histories.
    Counter REVISIONS_DROPPED_TOTAL = "tidegate_revisions_dropped_total";
    /// Tries to deliver side effects (delivered, retried, dead).
    Counter EFFECTS_TOTAL = "tidegate_effects_total" {outcome};
    /// Broadcasts (sent, dropped).
    Counter BROADCASTS_TOTAL = "tidegate_broadcasts_total" {outcome};
    /// Deliveries of broadcasts to subscribers.
    Counter DELIVERIES_TOTAL = "tidegate_broadcast_deliveries_total" {outcome};
    /// Durable topics in memory: those that definitions bind, or that were used in the last minutes.
    Gauge TOPICS = "tidegate_topics";
    /// Their subscribers, added up.
    Gauge TOPIC_SUBSCRIBERS = "tidegate_topic_subscribers";
    /// Events that the subscriber has to get that is furthest behind, of all topics.
    Gauge TOPIC_LAG_EVENTS = "tidegate_topic_lag_events";
    /// Tries to deliver events of durable topics (delivered, failed: the answer is a failure, repeated: answered before, retried,
    /// dead).
    Counter TOPIC_DELIVERIES_TOTAL = "tidegate_topic_deliveries_total" {outcome};
    /// Events of durable topics that subscribers did not get, because they were not kept long enough.
    Counter TOPIC_EVENTS_MISSED_TOTAL = "tidegate_topic_events_missed_total";
    /// Side effects that are planned or stored, and neither delivered nor dead.
    Gauge EFFECTS_PENDING = "tidegate_effects_pending";
    /// Age of the oldest side effect that is neither delivered nor dead; 0 without any.
    Gauge EFFECTS_OLDEST_SECONDS = "tidegate_effects_oldest_seconds";
    /// Side effects that are dead letters.
    Gauge DEAD_LETTERS = "tidegate_dead_letters";
    /// Bytes of the rows of dead letters.
    Gauge DEAD_LETTERS_BYTES = "tidegate_dead_letters_bytes";
    /// Dead letters that were dropped (asked: by an administrator; full: there were too many).
    Counter DEAD_LETTERS_DROPPED_TOTAL = "tidegate_dead_letters_dropped_total" {reason};
    /// For how long the oldest dead letter is dead; 0 without any.
    Gauge DEAD_LETTERS_OLDEST_SECONDS = "tidegate_dead_letters_oldest_seconds";
}

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
