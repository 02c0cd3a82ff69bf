//! Blocked on: what a call or another turn of an actor waits for (decision 44), and what a look at the actor shows.

use std::time::Duration;

use tidegate_pipeline::EventId;
use tokio::time::Instant;

use crate::last_errors::LastError;
use crate::ports::Pause;

/// Names a turn of an actor from its admission to its end, also while it is parked.
pub type TurnId = EventId;

/// What a turn waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockedOn {
    /// Another turn of its actor: one that runs or is parked, or one that is queued before it.
    ActorTurn {
        /// The first of these turns.
        held_by: TurnId,
    },
    /// Its actor is paused.
    Paused,
    /// A slot among the turns that run at once.
    Worker,
    /// A permit of its host, which has as many calls in flight as it may have.
    HostPermit,
    /// Its host, which accepts no connections (decision 28).
    HostBreaker,
    /// A place at the checkpoint.
    CheckpointPlace,
    /// The store, which loads what the turn needs or is asked whether it works. Its actor is parked. A turn of the mesh itself
    /// that waits for its next try has this value too.
    Store,
    /// The next try; it is parked.
    Retry(RetryOf),
    /// A commit of its actor.
    Commit,
}

/// What failed before a turn was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryOf {
    /// Its host was not reached.
    Host,
    /// The store failed, or has no capacity.
    Store,
    /// Its actor was deleted, and is spawned again.
    Spawn,
}

impl RetryOf {
    pub(crate) const ALL: [RetryOf; 3] = [RetryOf::Host, RetryOf::Store, RetryOf::Spawn];

    /// Its name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            RetryOf::Host => "host",
            RetryOf::Store => "store",
            RetryOf::Spawn => "spawn",
        }
    }
}

/// What a turn does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TurnKind {
    /// Runs an action.
    Call,
    /// Returns tags and state.
    State,
    /// Activates the actor.
    WarmUp,
    /// Keeps the content in the history.
    Checkpoint,
    /// Makes an older revision the current content.
    Restore,
    /// Appends the content to the history when it changed.
    Snapshot,
    /// Takes the actor out of memory.
    Deactivation,
    /// Removes state and history.
    Deletion,
    /// Delivers dead letters again, or drops them.
    DeadLetters,
}

/// The action of a call, cut to [`ActionName::BYTES`]: it is copied with each turn, and takes no memory of its own.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionName {
    len: u8,
    bytes: [u8; Self::BYTES],
}

impl ActionName {
    /// How much of a name is kept.
    pub const BYTES: usize = 31;

    pub(crate) fn of(action: &str) -> Self {
        let kept = action.get(..action.floor_char_boundary(Self::BYTES)).unwrap_or_default();
        let mut bytes = [0; Self::BYTES];
        for (to, from) in bytes.iter_mut().zip(kept.bytes()) {
            *to = from;
        }
        Self { len: u8::try_from(kept.len()).unwrap_or_default(), bytes }
    }

    /// The name, or its beginning. Empty for a turn that runs no action.
    pub fn as_str(&self) -> &str {
        let kept = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(kept).unwrap_or_default()
    }
}

impl std::fmt::Debug for ActionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A turn of an actor, queued or running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnView {
    /// Its name.
    pub id: TurnId,
    /// What it does.
    pub kind: TurnKind,
    /// Its action, if it is a call.
    pub action: ActionName,
    /// Since when it is queued, or runs.
    pub since: Instant,
    /// What it waits for, and since when. `None` for a turn that runs and waits for nothing but its host or the store.
    pub blocked_on: Option<(BlockedOn, Instant)>,
}

/// Turns of an actor that are over in memory and whose replies wait for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingCommits {
    /// How many they are.
    pub turns: u64,
    /// About since when.
    pub since: Instant,
    /// Whether the outcome of a commit is unknown: it is written again, and new calls are refused meanwhile.
    pub in_doubt: bool,
}

/// What an actor does, and what waits for it, at one moment.
#[derive(Debug, Clone)]
pub struct ActorQueue {
    /// Since when the actor is paused.
    pub paused: Option<Instant>,
    /// The turn that runs or is parked.
    pub running: Option<TurnView>,
    /// How many turns are queued.
    pub queued: usize,
    /// The first of them, in order.
    pub first: Vec<TurnView>,
    /// What waits for a commit.
    pub commits: Option<PendingCommits>,
}

/// Which actors are meant: those that all of it is true of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActorFilter {
    /// Of this system.
    pub system: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this [kind](ActorView::kind).
    pub kind: Option<String>,
    /// With this definition.
    pub definition: Option<String>,
    /// With this host.
    pub host: Option<String>,
    /// Paused, or not.
    pub paused: Option<bool>,
    /// With a turn that runs, or waits, for at least so long.
    pub stuck: Option<Duration>,
    /// In memory, or not.
    pub live: Option<bool>,
    /// Not used for at least so long.
    pub unused: Option<Duration>,
    /// With at least so many turns that wait.
    pub mailbox: Option<usize>,
    /// With a last error, or without one.
    pub failed: Option<bool>,
    /// With a last error that has this in its text.
    pub error: Option<String>,
}

impl ActorFilter {
    /// The kinds that there are.
    pub const KINDS: [&str; 5] = ["named", "unnamed", "pooled", "proxy", "task"];
}

/// An actor, and what it does at one moment.
#[derive(Debug, Clone)]
pub struct ActorView {
    /// Its system.
    pub system: String,
    /// Its name.
    pub name: String,
    /// Which member of the pool of that name it is.
    pub member: Option<String>,
    /// Its kind, in lower case.
    pub kind: &'static str,
    /// The definition that it is, or was spawned from.
    pub definition: String,
    /// The address of its host.
    pub host: String,
    /// Whether it is in memory.
    pub is_active: bool,
    /// For how long it was not used; since the start, if it was not used since.
    pub unused_for: Duration,
    /// Why its last failed call failed.
    pub last_error: Option<LastError>,
    /// Its pause.
    pub pause: Option<Pause>,
    /// What it does.
    pub queue: ActorQueue,
}

/// Which turns of an actor are cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// The one with this name.
    One(TurnId),
    /// The call that runs.
    Running,
    /// The calls that are queued.
    Queued,
    /// The calls that run or are queued.
    All,
}

/// What became of a cancelled turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// It was queued and will not run. Its caller got an error that says so.
    Removed,
    /// It runs or is parked, and was told to end: its call to the host is given up, its state and effects are not kept, and
    /// its caller gets an error. A turn whose host has answered already goes on to its end.
    Told,
}
