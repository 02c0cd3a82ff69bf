//! Observe: gauges of what the mesh does at one moment. They are set when they are read, so that calls pay nothing for them.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashSet;
use metrics::{counter, gauge};
use tidegate_pipeline::metrics::show_buffer;
use tidegate_pipeline::{KeySeen, WaitsFor};
use tokio::time::Instant;

use crate::actor::ActorRef;
use crate::blocked_on::RetryOf;
use crate::call::TurnHandle;
use crate::mesh::Mesh;
use crate::metrics::{
    BLOCKED_OLDEST_SECONDS, BLOCKED_TURNS, BROADCASTS_TOTAL, CALLS_LOST_TOTAL, CALLS_REFUSED_TOTAL,
    DEACTIVATIONS_TOTAL, DEAD_LETTERS_DROPPED_TOTAL, DELIVERIES_TOTAL, DUE_CALLS_TOTAL,
    DUE_LAG_SECONDS, DUE_PENDING, EFFECTS_TOTAL, HOSTS, HOSTS_AWAY, HOSTS_AWAY_SECONDS_TOTAL,
    MAILBOX_DEEPEST, MAILBOXES, PARKED_TOTAL, PAUSED_ACTORS, REGISTERED_ACTORS, RETRIES_TOTAL,
    SCHEDULE_RUNS_TOTAL, SCHEDULES_PENDING, STATELESS_EVICTIONS_TOTAL, STORE_BREAKER_OPEN,
    STORE_BREAKER_SECONDS_TOTAL, TIMER_TICKS_TOTAL, TOPIC_DELIVERIES_TOTAL,
    TOPIC_EVENTS_MISSED_TOTAL, TOPIC_LAG_EVENTS, TOPIC_SUBSCRIBERS, TOPICS,
};
use crate::registry::reachability::Phase;

/// What turns can wait for, as (stage, reason): every series is there from the start.
pub(super) const REASONS: [(&str, &str); 12] = [
    ADMISSION,
    ACTOR_TURN,
    PAUSED,
    WORKER,
    HOST_PERMIT,
    HOST_BREAKER,
    CHECKPOINT_PLACE,
    STORE,
    RETRY_HOST,
    RETRY_STORE,
    RETRY_SPAWN,
    COMMIT,
];
pub(super) const ADMISSION: (&str, &str) = ("caller", "admission");
pub(super) const ACTOR_TURN: (&str, &str) = ("caller", "actor_turn");
const PAUSED: (&str, &str) = ("caller", "paused");
const WORKER: (&str, &str) = ("caller", "worker");
pub(super) const HOST_PERMIT: (&str, &str) = ("caller", "host_permit");
pub(super) const HOST_BREAKER: (&str, &str) = ("caller", "host_breaker");
const CHECKPOINT_PLACE: (&str, &str) = ("caller", "checkpoint_place");
const STORE: (&str, &str) = ("lookup", "store");
const RETRY_HOST: (&str, &str) = ("parked", "retry_host");
const RETRY_STORE: (&str, &str) = ("parked", "retry_store");
const RETRY_SPAWN: (&str, &str) = ("parked", "retry_spawn");
pub(super) const COMMIT: (&str, &str) = ("checkpoint", "commit");

/// The classes of mailboxes, each with the most turns that wait in one.
const DEPTHS: [(&str, usize); 6] =
    [("1", 1), ("2-4", 4), ("5-16", 16), ("17-64", 64), ("65-256", 256), ("257-", usize::MAX)];

const STATES: [(&str, Phase); 5] = [
    ("new", Phase::New),
    ("reached", Phase::Reached),
    ("away", Phase::Away),
    ("open", Phase::Open),
    ("tried", Phase::Tried),
];

/// Counters of what is rare, with a label and its values: each is there from the first scrape on. Otherwise its first count would be
/// its first sample, and `increase` would not see it.
const RARE: [(&str, &str, &[&str]); 12] = [
    (EFFECTS_TOTAL, "outcome", &["delivered", "retried", "dead"]),
    (DEAD_LETTERS_DROPPED_TOTAL, "reason", &["asked", "full"]),
    (SCHEDULE_RUNS_TOTAL, "outcome", &["answered", "failed", "skipped", "missed"]),
    (TIMER_TICKS_TOTAL, "outcome", &["run", "running", "paused", "host_away", "refused", "missed"]),
    (BROADCASTS_TOTAL, "outcome", &["sent", "dropped"]),
    (DELIVERIES_TOTAL, "outcome", &["queued", "dropped", "failed"]),
    (TOPIC_DELIVERIES_TOTAL, "outcome", &["delivered", "retried", "dead"]),
    (
        DUE_CALLS_TOTAL,
        "outcome",
        &["run", "again", "failed", "unknown_target", "given_up", "damaged"],
    ),
    (
        CALLS_REFUSED_TOTAL,
        "reason",
        &[
            "admission",
            "mailbox",
            "host_share",
            "deadline",
            "rate_limit",
            "paused",
            "effects",
            "broadcasts",
            "topics",
            "schedules",
            "pauses",
            "registry",
        ],
    ),
    (DEACTIVATIONS_TOTAL, "reason", &["idle", "asked", "evicted"]),
    (PARKED_TOTAL, "reason", &["load", "host", "store"]),
    (RETRIES_TOTAL, "reason", &["host", "store"]),
];

/// How many turns wait for something, and for how long the first of them.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    turns: usize,
    oldest: Duration,
}

/// What is seen of all mailboxes.
#[derive(Debug)]
struct Seen {
    now: Instant,
    waiting: BTreeMap<(&'static str, &'static str), Waiting>,
    depths: [usize; DEPTHS.len()],
    deepest: usize,
}

impl Seen {
    fn new() -> Self {
        let waiting = REASONS.map(|reason| (reason, Waiting::default()));
        let depths = [0; DEPTHS.len()];
        Self { now: Instant::now(), waiting: waiting.into(), depths, deepest: 0 }
    }

    fn add(&mut self, reason: (&'static str, &'static str), turns: usize, since: Option<Instant>) {
        let waiting = self.waiting.entry(reason).or_default();
        waiting.turns += turns;
        let waits = since.map_or(Duration::ZERO, |since| self.now.saturating_duration_since(since));
        waiting.oldest = waiting.oldest.max(waits);
    }

    /// Adds a mailbox. `away` are the limits of hosts that accept no connections.
    fn mailbox(&mut self, key: &KeySeen<'_, ActorRef, TurnHandle>, away: &HashSet<u32>) {
        if let Some((reason, since)) = parked(key) {
            self.add(reason, 1, Some(since));
        }
        let Some((_, since)) = key.first else { return };
        self.deepest = self.deepest.max(key.queued);
        let depth = DEPTHS.iter().position(|(_, most)| key.queued <= *most);
        if let Some(count) = depth.and_then(|depth| self.depths.get_mut(depth)) {
            *count += 1;
        }
        let first = first_waits_for(key, away);
        if first == PAUSED || first == ACTOR_TURN {
            return self.add(first, key.queued, Some(since));
        }
        self.add(first, 1, Some(since));
        // The second waits at most as long as the first.
        self.add(ACTOR_TURN, key.queued - 1, None);
    }

    fn show(&self) {
        for ((stage, reason), waiting) in &self.waiting {
            let labels = [("stage", *stage), ("reason", *reason)];
            gauge!(BLOCKED_TURNS, &labels).set(of(waiting.turns));
            gauge!(BLOCKED_OLDEST_SECONDS, &labels).set(waiting.oldest.as_secs_f64());
        }
        for ((depth, _), count) in DEPTHS.iter().zip(self.depths) {
            gauge!(MAILBOXES, "depth" => *depth).set(of(count));
        }
        gauge!(MAILBOX_DEEPEST).set(of(self.deepest));
    }
}

/// What a turn can wait for, as (stage, reason).
pub(super) type Reason = (&'static str, &'static str);

/// What the parked turn of a mailbox waits for, if it has one, and since when.
pub(super) fn parked(key: &KeySeen<'_, ActorRef, TurnHandle>) -> Option<(Reason, Instant)> {
    let (running, since) = (key.running?, key.parked?);
    let retry_of = running.signal.as_ref().and_then(|signal| signal.retry_of());
    let reason = match retry_of {
        None => STORE,
        Some(RetryOf::Host) => RETRY_HOST,
        Some(RetryOf::Store) => RETRY_STORE,
        Some(RetryOf::Spawn) => RETRY_SPAWN,
    };
    Some((reason, since))
}

/// What the first turn that waits in a mailbox waits for.
pub(super) fn first_waits_for(
    key: &KeySeen<'_, ActorRef, TurnHandle>,
    away: &HashSet<u32>,
) -> Reason {
    if key.is_paused {
        return PAUSED;
    }
    match key.waits_for {
        Some(WaitsFor::Demand) => WORKER,
        Some(WaitsFor::Gate) => CHECKPOINT_PLACE,
        Some(WaitsFor::Class) if key.first.is_some_and(|(class, _)| away.contains(&class)) => {
            HOST_BREAKER
        }
        Some(WaitsFor::Class) => HOST_PERMIT,
        _ => ACTOR_TURN,
    }
}

/// Some of what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Turns that run.
    pub running: usize,
    /// Turns that wait in mailboxes.
    pub waiting: usize,
    /// Actors in memory.
    pub live_actors: usize,
    /// Bytes that they take.
    pub live_bytes: usize,
}

impl Mesh {
    /// Sets the gauges to what they are now; call it before they are read. Looks at the mailboxes in which something waits or
    /// runs, some at a time: calls go on meanwhile.
    pub fn observe(&self) -> Observed {
        for (name, label, values) in RARE {
            for value in values {
                counter!(name, label => *value).increment(0);
            }
        }
        counter!(CALLS_LOST_TOTAL).increment(0);
        counter!(STATELESS_EVICTIONS_TOTAL).increment(0);
        counter!(HOSTS_AWAY_SECONDS_TOTAL).increment(0);
        gauge!(HOSTS_AWAY).increment(0);
        self.mailboxes.queue.observe();
        self.effects.queue().observe();
        self.channels.queue.observe();
        self.registrar.changes.producer().observe();
        self.checkpoint.producer().observe();
        let (held, limit) = self.checkpoint.places().view();
        show_buffer("checkpoint", held, limit);
        self.observe_waiting();
        gauge!(REGISTERED_ACTORS).set(of(self.directory.registered()));
        gauge!(PAUSED_ACTORS).set(of(self.directory.pauses.paused()));
        let (is_open, open_for) = self.control.store_breaker();
        gauge!(STORE_BREAKER_OPEN).set(of(usize::from(is_open)));
        counter!(STORE_BREAKER_SECONDS_TOTAL).absolute(open_for.as_secs());
        let (pending, schedules, lag) = self.due.view();
        gauge!(SCHEDULES_PENDING).set(of(schedules));
        gauge!(DUE_PENDING).set(of(pending));
        gauge!(DUE_LAG_SECONDS).set(lag.as_secs_f64());
        self.observe_topics();
        Observed {
            running: self.mailboxes.queue.in_flight(),
            waiting: self.mailboxes.queue.queued(),
            live_actors: self.directory.live.len(),
            live_bytes: self.directory.live.bytes(),
        }
    }

    fn observe_topics(&self) {
        let topics = self.topics.views();
        let subscribers: u64 = topics.iter().map(|topic| topic.subscribers).sum();
        let lag = topics.iter().map(|topic| topic.lag).max().unwrap_or_default();
        let count = |count: u64| of(usize::try_from(count).unwrap_or(usize::MAX));
        gauge!(TOPICS).set(of(topics.len()));
        gauge!(TOPIC_SUBSCRIBERS).set(count(subscribers));
        gauge!(TOPIC_LAG_EVENTS).set(count(lag));
        counter!(TOPIC_EVENTS_MISSED_TOTAL).increment(0);
    }

    fn observe_waiting(&self) {
        let (mut away, mut states) = (HashSet::new(), [0; STATES.len()]);
        self.directory.see_hosts(|limit, known| {
            let phase = known.reachability.phase();
            let state = STATES.iter().position(|(_, state)| *state == phase);
            if let Some(count) = state.and_then(|state| states.get_mut(state)) {
                *count += 1;
            }
            if known.reachability.is_away() {
                away.insert(limit);
            }
        });
        for ((state, _), count) in STATES.iter().zip(states) {
            gauge!(HOSTS, "state" => *state).set(of(count));
        }
        let mut seen = Seen::new();
        self.mailboxes.queue.survey(|key| seen.mailbox(key, &away));
        seen.add(ADMISSION, self.mailboxes.queue.waiting(), None);
        seen.add(COMMIT, self.checkpoint.waiting(), None);
        seen.show();
    }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^52 nobody counts single turns")]
fn of(count: usize) -> f64 {
    count as f64
}
