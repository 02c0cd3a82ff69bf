//! Control: pauses an actor, shows what it does and what waits for it, cancels single turns, and takes it out of memory.

use tidegate_pipeline::{Cancelled, EventView, WaitsFor};
use tokio::time::Instant;

use crate::actor::ActorRef;
use crate::blocked_on::{
    ActorQueue, BlockedOn, Cancellation, PendingCommits, TurnId, TurnKind, TurnView,
};
use crate::call::TurnHandle;
use crate::error::Error;
use crate::mesh::Mesh;
use crate::registry::entry::{Entry, Hosted};

/// Queued turns that a look at an actor shows.
const SHOWN: usize = 100;

impl Mesh {
    /// Pauses an actor: a running turn goes on, and no other begins until the actor is resumed, also after a restart. Calls
    /// queue up to the bounds and wait until their own deadlines; effects and calls for a later time stay where they are.
    /// Snapshots and deletes wait too. Pausing a paused actor changes nothing. A shutdown refuses the waiting calls as not
    /// started. A deleted actor that is spawned again is still paused. Returns whether it was not paused before.
    ///
    /// # Errors
    /// When it is unknown, too many actors are paused, the store fails, or the mesh is draining.
    pub async fn pause(&self, system: &str, name: &str, by: &str) -> Result<bool, Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        Ok(self.control.pause(vec![entry.actor.clone()], by).await? > 0)
    }

    /// Ends the pause of an actor, which may have been deleted. Returns whether it was paused.
    ///
    /// # Errors
    /// When the store fails, or the mesh is draining.
    pub async fn resume(&self, system: &str, name: &str) -> Result<bool, Error> {
        self.refuse_while_closed()?;
        let actor = ActorRef::new(system, name);
        if !self.directory.pauses.is_paused(&actor) {
            self.find(system, name)?;
        }
        // Also when it is not paused: the store may have a pause that failed.
        Ok(self.control.resume(vec![actor]).await? > 0)
    }

    /// Takes an actor out of memory, once its last change is durable. Its next call loads it again. A pool's members leave, too.
    ///
    /// # Errors
    /// When it is unknown, its turn does not come in time, its last change cannot be written, or it is paused and a turn of it
    /// runs.
    pub async fn deactivate(&self, system: &str, name: &str) -> Result<(), Error> {
        self.refuse_while_closed()?;
        let entry = self.find(system, name)?;
        for entry in self.with_members(&entry) {
            self.control.deactivate(&entry).await?;
        }
        Ok(())
    }

    /// Shows what an actor does, which turns wait for it, and for each of them what it waits for and since when (decision 44).
    /// Stops nothing.
    ///
    /// # Errors
    /// When it is unknown.
    pub fn queue(&self, system: &str, name: &str) -> Result<ActorQueue, Error> {
        let entry = self.find(system, name)?;
        Ok(self.queue_of(&entry, SHOWN))
    }

    pub(super) fn queue_of(&self, entry: &Entry, most: usize) -> ActorQueue {
        let view = self.mailboxes.queue.look(&entry.mailbox, most);
        let commits = pending_commits(entry);
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
                    WaitsFor::Class if place == 0 => Some((blocked_on_host(entry), turn.since)),
                    _ => {
                        let (held_by, since) = head?;
                        Some((BlockedOn::ActorTurn { held_by }, since.max(turn.since)))
                    }
                }
            };
        let first = view.first.iter().enumerate();
        let first = first.map(|(place, turn)| shown(turn, blocked(place, turn))).collect();
        ActorQueue { paused: view.paused, running, queued: view.queued, first, commits }
    }

    /// Pauses actors; see [`pause`](Self::pause). Returns how many were not paused before.
    ///
    /// # Errors
    /// As [`pause`](Self::pause). Some may be paused then.
    pub async fn pause_all(&self, actors: Vec<ActorRef>, by: &str) -> Result<usize, Error> {
        self.refuse_while_closed()?;
        self.control.pause(actors, by).await
    }

    /// Resumes actors; see [`resume`](Self::resume). Returns how many were paused.
    ///
    /// # Errors
    /// As [`resume`](Self::resume). Some may be resumed then.
    pub async fn resume_all(&self, actors: Vec<ActorRef>) -> Result<usize, Error> {
        self.refuse_while_closed()?;
        self.control.resume(actors).await
    }

    /// Cancels a turn that [`queue`](Mesh::queue) shows. A queued turn frees its permits at once, a running one as soon as its
    /// host call is given up.
    ///
    /// # Errors
    /// When the actor is unknown, when the turn is over, or when it runs and neither runs an action nor may wait for an init
    /// action.
    pub fn cancel(&self, system: &str, name: &str, id: TurnId) -> Result<Cancellation, Error> {
        let entry = self.find(system, name)?;
        self.cancel_of(&entry, id)
    }

    pub(super) fn cancel_of(&self, entry: &Entry, id: TurnId) -> Result<Cancellation, Error> {
        match self.mailboxes.queue.cancel(&entry.mailbox, id) {
            Some(Cancelled::Queued(placed)) => {
                placed.fail(Error::Cancelled);
                Ok(Cancellation::Removed)
            }
            // Those that need the host: an init action may run before each of them.
            Some(Cancelled::Running(TurnHandle {
                kind: TurnKind::Call | TurnKind::State | TurnKind::WarmUp,
                signal: Some(signal),
                ..
            })) => {
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
    let TurnHandle { kind, action, .. } = turn.handle;
    TurnView { id: turn.id, kind, action, since: turn.since, blocked_on }
}

fn blocked_on_host(entry: &Entry) -> BlockedOn {
    let is_away = entry.with_hosted(Hosted::is_away);
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
