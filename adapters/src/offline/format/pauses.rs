//! Pauses: the lines of paused actors.

use serde::{Deserialize, Serialize};
use tidegate_stages::actor::ActorRef;
use tidegate_stages::ports;
use tidegate_stages::state::Timestamp;

use super::Line;

/// That an actor is paused, or was until a short time ago.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Pause {
    system: String,
    name: String,
    since_us: u64,
    /// Who paused it.
    by: String,
    /// When it was resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_us: Option<u64>,
}

pub(in crate::offline) fn pause_out(pause: ports::Pause) -> Line {
    let ports::Pause { actor, since, by, ended } = pause;
    let (system, name) = (actor.system().to_owned(), actor.name().to_owned());
    let ended_us = ended.map(|ended| ended.0);
    Line::Pause(Pause { system, name, since_us: since.0, by, ended_us })
}

pub(in crate::offline) fn pause_in(line: Pause) -> ports::Pause {
    let Pause { system, name, since_us, by, ended_us } = line;
    let actor = ActorRef::new(&system, &name);
    ports::Pause { actor, since: Timestamp(since_us), by, ended: ended_us.map(Timestamp) }
}
