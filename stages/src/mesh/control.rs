//! Control: pauses an actor, shows what it does and what waits for it, and cancels single turns.
//!
//! No route of an ingress calls this yet. A pause is in memory only: it ends with the process.

use std::time::Duration;

use tidegate_pipeline::{Cancelled, EventView, PauseError, WaitsFor};
use tokio::time::Instant;

use crate::blocked_on::{
    ActorQueue, BlockedOn, Cancellation, PendingCommits, TurnId, TurnKind, TurnView,
};
use crate::call::TurnHandle;
use crate::error::Error;
use crate::mesh::Mesh;
use crate::registry::entry::Entry;

/// Queued turns that a look at an actor shows.
const SHOWN: usize = 100;

impl Mesh {
    /// Pauses an actor: a running turn goes on, and no other begins until the actor is resumed. Calls queue up to the bound of
    /// its mailbox and wait until their own deadlines; snapshots, deactivations and deletes wait too. Pausing a paused actor
    /// changes nothing. A shutdown ends all pauses and refuses the waiting calls as not started. A deleted actor that is
    /// spawned again is still paused.
    ///
    /// # Errors
    /// When it is unknown, too many actors are paused, or the mesh is draining.
    pub fn pause(&self, system: &str, name: &str) -> Result<(), Error> {
        let entry = self.find(system, name)?;
        self.mailboxes.queue.pause(&entry.actor).map_err(|error| match error {
            PauseError::Closed => Error::Draining,
            too_many => Error::Overloaded {
                reason: format!("{} cannot be paused: {too_many}", entry.actor),
                retry_after: Duration::from_secs(1),
            },
        })
    }

    /// Ends the pause of an actor. Returns whether it was paused.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn resume(&self, system: &str, name: &str) -> Result<bool, Error> {
        let entry = self.find(system, name)?;
        Ok(self.mailboxes.queue.resume(&entry.actor))
    }

    /// Shows what an actor does, which turns wait for it, and for each of them what it waits for and since when (decision 44).
    /// Stops nothing.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn queue(&self, system: &str, name: &str) -> Result<ActorQueue, Error> {
        let entry = self.find(system, name)?;
        let view = self.mailboxes.queue.look(&entry.actor, SHOWN);
        let commits = pending_commits(&entry);
        let running = view.running.as_ref().map(|turn| {
            let blocked_on = match (view.parked, commits) {
                (_, Some(commits)) if waits_for_commits(turn.handle.kind) => {
                    Some((BlockedOn::Commit, commits.since.max(turn.since)))
                }
                (Some(since), _) => {
                    let retry_of = turn.handle.signal.as_ref().and_then(|signal| signal.retry_of());
                    Some((retry_of.map_or(BlockedOn::Store, BlockedOn::Retry), since))
                }
                _ => None,
            };
            shown(turn, blocked_on)
        });
        let head = running.map(|turn| (turn.id, turn.since));
        let head = head.or_else(|| view.first.first().map(|turn| (turn.id, turn.since)));
        let blocked =
            |place: usize, turn: &EventView<TurnHandle>| -> Option<(BlockedOn, Instant)> {
                if let Some(paused) = view.paused {
                    return Some((BlockedOn::Paused, paused.max(turn.since)));
                }
                match view.waits_for? {
                    WaitsFor::Demand if place == 0 => Some((BlockedOn::Worker, turn.since)),
                    WaitsFor::Gate if place == 0 => Some((BlockedOn::CheckpointPlace, turn.since)),
                    WaitsFor::Class if place == 0 => Some((blocked_on_host(&entry), turn.since)),
                    _ => {
                        let (held_by, since) = head?;
                        Some((BlockedOn::ActorTurn { held_by }, since.max(turn.since)))
                    }
                }
            };
        let first = view.first.iter().enumerate();
        let first = first.map(|(place, turn)| shown(turn, blocked(place, turn))).collect();
        Ok(ActorQueue { paused: view.paused, running, queued: view.queued, first, commits })
    }

    /// Cancels a turn that [`queue`](Mesh::queue) shows. A queued turn frees its permits at once, a running one as soon as its
    /// host call is given up.
    ///
    /// # Errors
    /// When the actor is unknown, when the turn is over, or when it runs and is one of the mesh itself.
    pub fn cancel(&self, system: &str, name: &str, id: TurnId) -> Result<Cancellation, Error> {
        let entry = self.find(system, name)?;
        match self.mailboxes.queue.cancel(&entry.actor, id) {
            Some(Cancelled::Queued(placed)) => {
                placed.fail(Error::Cancelled);
                Ok(Cancellation::Removed)
            }
            Some(Cancelled::Running(TurnHandle { kind: TurnKind::Call, signal: Some(signal) })) => {
                signal.cancel();
                Ok(Cancellation::Told)
            }
            Some(Cancelled::Running(turn)) => {
                Err(Error::Conflict(format!("a running {:?} cannot be cancelled", turn.kind)))
            }
            None => Err(Error::NotFound(format!("{} has no such turn any more", entry.actor))),
        }
    }
}

fn shown(turn: &EventView<TurnHandle>, blocked_on: Option<(BlockedOn, Instant)>) -> TurnView {
    TurnView { id: turn.id, kind: turn.handle.kind, since: turn.since, blocked_on }
}

fn blocked_on_host(entry: &Entry) -> BlockedOn {
    let is_away = entry.spec().hosted.host.reachability.is_away();
    if is_away { BlockedOn::HostBreaker } else { BlockedOn::HostPermit }
}

/// Whether a turn of this kind ends only when the outcome of its actor's commits is known.
fn waits_for_commits(kind: TurnKind) -> bool {
    matches!(kind, TurnKind::Deactivation | TurnKind::Deletion | TurnKind::DeadLetters)
}

fn pending_commits(entry: &Entry) -> Option<PendingCommits> {
    let incarnation = entry.memory.lock().incarnation.clone()?;
    let (turns, since) = incarnation.unsettled()?;
    Some(PendingCommits { turns, since, in_doubt: incarnation.is_in_doubt() })
}
