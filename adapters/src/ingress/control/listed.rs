//! Listed: an actor in the list of actors, as JSON.

use serde::{Deserialize, Serialize};
use tidegate_stages::blocked_on::{ActorView, BlockedOn, RetryOf, TurnKind, TurnView};
use tokio::time::Instant;

use super::super::failure::name as name_of;
use crate::moment;

/// A page of actors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActorList {
    pub(crate) actors: Vec<Listed>,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// One actor. Times are in milliseconds up to now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) system: String,
    pub(crate) name: String,
    /// The member of the pool of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) member: Option<String>,
    pub(crate) kind: String,
    pub(crate) definition: String,
    pub(crate) host: String,
    /// Whether it is in memory.
    pub(crate) active: bool,
    /// Turns that wait.
    pub(crate) queued: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) running: Option<ListedTurn>,
    /// The first turn that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<ListedTurn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<ListedPause>,
    /// For how long it was not used; since the start, if it was not used since.
    #[serde(default)]
    pub(crate) unused_for_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<ListedError>,
}

/// Why the last failed call of an actor failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListedError {
    pub(crate) kind: String,
    /// What its caller was told, or the beginning of it.
    pub(crate) text: String,
    pub(crate) ago_ms: u64,
}

/// A turn that runs or waits.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListedTurn {
    /// As text: numbers in JSON are exact to 2^53 only.
    pub(crate) turn: String,
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(crate) action: String,
    pub(crate) for_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocked_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocked_for_ms: Option<u64>,
}

/// A pause.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListedPause {
    /// In RFC 3339.
    pub(crate) since: String,
    pub(crate) by: String,
}

/// An actor, and what it does, for people and programs.
pub(in crate::ingress) fn listed(view: ActorView, now: Instant) -> Listed {
    let turn = |turn: &TurnView| ListedTurn {
        turn: turn.id.number().to_string(),
        kind: kind(turn.kind).to_owned(),
        action: turn.action.as_str().to_owned(),
        for_ms: millis(now, turn.since),
        blocked_on: turn.blocked_on.map(|(on, _)| reason(on)),
        blocked_for_ms: turn.blocked_on.map(|(_, since)| millis(now, since)),
    };
    let ActorView { system, name, member, definition, host, queue, .. } = view;
    Listed {
        system,
        name,
        member,
        kind: view.kind.to_owned(),
        definition,
        host,
        active: view.is_active,
        queued: queue.queued,
        running: queue.running.as_ref().map(turn),
        waiting: queue.first.first().map(turn),
        unused_for_ms: u64::try_from(view.unused_for.as_millis()).unwrap_or(u64::MAX),
        last_error: view.last_error.map(|error| ListedError {
            kind: name_of(error.kind).to_owned(),
            text: error.text,
            ago_ms: millis(now, error.at),
        }),
        paused: view
            .pause
            .map(|pause| ListedPause { since: moment::show(pause.since), by: pause.by }),
    }
}

fn millis(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
}

fn kind(kind: TurnKind) -> &'static str {
    match kind {
        TurnKind::Call => "call",
        TurnKind::State => "state",
        TurnKind::WarmUp => "warm_up",
        TurnKind::Checkpoint => "checkpoint",
        TurnKind::Restore => "restore",
        TurnKind::Snapshot => "snapshot",
        TurnKind::Deactivation => "deactivation",
        TurnKind::Deletion => "deletion",
        _ => "other",
    }
}

fn reason(on: BlockedOn) -> String {
    match on {
        BlockedOn::ActorTurn { held_by } => format!("turn {}", held_by.number()),
        BlockedOn::Paused => "paused".into(),
        BlockedOn::Worker => "worker".into(),
        BlockedOn::HostPermit => "host_permit".into(),
        BlockedOn::HostBreaker => "host_breaker".into(),
        BlockedOn::CheckpointPlace => "checkpoint_place".into(),
        BlockedOn::Store => "store".into(),
        BlockedOn::Retry(RetryOf::Host) => "retry_host".into(),
        BlockedOn::Retry(RetryOf::Store) => "retry_store".into(),
        BlockedOn::Retry(RetryOf::Spawn) => "retry_spawn".into(),
        BlockedOn::Commit => "commit".into(),
        _ => "unknown".into(),
    }
}
