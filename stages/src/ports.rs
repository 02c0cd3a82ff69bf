//! Ports: the traits through which the stages use the outside world.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};

use crate::actor::{ActorId, ActorRef};
use crate::history::{Interval, Keep, Page};
use crate::outbox::{EffectRows, OutboxKey, OutboxRow, Seen};
use crate::state::{Head, Revision, Timestamp};

mod bus;
mod due;
mod host;
mod members;
mod pauses;
mod registry;
mod schedules;

pub use bus::{Bus, BusError, BusMessage, BusSubscription, Delivered, OtherSystems};
pub use due::DueStore;
pub use host::{Host, HostError, HostProbe};
pub use members::{MemberBroadcast, OtherMembers};
pub use pauses::{Pause, PauseStore};
pub use registry::{Registered, RegisteredEntry, Registry, RegistryChange};
pub use schedules::ScheduleStore;

/// Wall-clock time. All other time is tokio's, so that tests can pause it.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// Why an operation of a store failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing was written or read; a retry is safe.
    #[error("the state store is unavailable: {0}")]
    Unavailable(String),
    /// The device has no space left (its reserve included); nothing was written.
    #[error("the state store is out of space: {0}")]
    Full(String),
    /// The write is larger than the store accepts; nothing was written, and a retry always fails.
    #[error("too large for the state store: {0}")]
    TooLarge(String),
    /// The outcome of a write is unknown: it may have happened.
    #[error("the outcome of a write to the state store is unknown: {0}")]
    Unknown(String),
    /// Stored bytes are damaged; nothing was written. The text names the file.
    #[error("the state store is damaged: {0}")]
    Corrupt(String),
    /// A stored state is sealed with a key that is not configured; nothing was written.
    #[error("a stored state cannot be opened: {0}")]
    Sealed(String),
    /// A later owner has claimed the store (its epoch is given). The write was not acknowledged; the later owner may or may not
    /// have seen it.
    #[error("a later owner holds the state store (epoch {0})")]
    Fenced(u64),
}

impl StoreError {
    /// Whether the write may have happened despite the error.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, StoreError::Unknown(_) | StoreError::Fenced(_))
    }

    /// Whether every retry fails, even a late one.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            StoreError::Fenced(_)
                | StoreError::Corrupt(_)
                | StoreError::Sealed(_)
                | StoreError::TooLarge(_)
        )
    }
}

/// One actor's commit: its new head, the revision appended with it, and rows of effects. All of it is written, or nothing.
#[derive(Debug, Clone)]
pub struct Save {
    /// The key of the actor's state: (system, name, parent).
    pub actor: Arc<ActorId>,
    /// Epoch of the writing owner; that of the head, if there is one.
    pub epoch: u64,
    /// The new head. `None` leaves the head as it is: a stateless source and a target without a state write rows only.
    pub head: Option<Head>,
    /// Whether the head's content is also appended to the history as revision `head.revision`.
    pub append: bool,
    /// Rows of effects. Boxed: most commits have none.
    pub rows: Option<Box<EffectRows>>,
}

impl Save {
    /// The commit of a head without effects.
    pub fn of_head(actor: Arc<ActorId>, head: Head, append: bool) -> Self {
        Self { actor, epoch: head.epoch, head: Some(head), append, rows: None }
    }

    /// The commit of rows without a head.
    pub fn of_rows(actor: Arc<ActorId>, epoch: u64, rows: EffectRows) -> Self {
        Self { actor, epoch, head: None, append: false, rows: Some(rows.into()) }
    }

    /// Size in bytes that counts against bounds.
    pub fn bytes(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.content.bytes())
            + self.rows.as_ref().map_or(0, |rows| rows.bytes())
    }
}

/// The index of a save in its batch, and its outcome.
pub type Outcome = (usize, Result<(), StoreError>);

/// What a new owner finds of an actor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The head, now of the new owner's epoch; `None` when the actor has none.
    pub head: Option<Head>,
    /// The newest effects that the actor has seen.
    pub seen: Vec<Seen>,
}

/// Stores states. Futures are owned: they borrow neither the store nor the arguments.
///
/// Saves of one actor are applied in the order of the `save` calls. When a save fails, the saves of the same actor that were
/// called before its result was taken also fail.
///
/// Writers have epochs. A save under an epoch older than the newest [claimed](Self::claim_epoch) fails with
/// [`StoreError::Fenced`] and never replaces a write of a later epoch. Numbers and times are below 2^63.
pub trait StateStore: DueStore + PauseStore + ScheduleStore {
    /// Makes a batch durable. The stream yields one outcome per save, as soon as the store knows the outcome: for one actor in
    /// order, for different actors in any order. A save without an outcome in the stream has an unknown outcome. A save with `Ok`
    /// survives a power loss. Each save is atomic. A store that keeps head and revision apart writes the revision before the
    /// outcome; when a crash loses the revision, [`load_revision`](Self::load_revision) finds none under the head's number.
    ///
    /// The batch is queued during this call: dropping the stream undoes nothing.
    fn save(&self, batch: Vec<Save>) -> BoxStream<'static, Outcome>;

    /// As [`save`](Self::save), but returns all outcomes together, in the order of the batch.
    fn save_all(&self, batch: Vec<Save>) -> BoxFuture<'static, Vec<Result<(), StoreError>>> {
        let mut outcomes = vec![None; batch.len()];
        let mut stream = self.save(batch);
        Box::pin(async move {
            while let Some((index, outcome)) = stream.next().await {
                if let Some(place) = outcomes.get_mut(index) {
                    *place = Some(outcome);
                }
            }
            let none = || Err(StoreError::Unknown("the store gave no answer".into()));
            outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(none)).collect()
        })
    }

    /// Durably adds revisions to an actor's history and leaves its head unchanged. A revision with the same number and time is
    /// replaced. For moving and repairing histories: the revisions are ascending, and the actor is not active.
    fn append(
        &self,
        actor: Arc<ActorId>,
        revisions: Vec<Revision>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Returns the latest durable state of an actor; `None` when the actor never had one.
    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>>;

    /// Returns one entry of the history.
    fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>>;

    /// Returns the newest entry of the history at or before a time.
    fn load_at(
        &self,
        actor: &ActorId,
        at: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>>;

    /// Returns the history within an interval, ascending: a page of at most `limit` entries, fewer when entries are large. For a
    /// stream of all pages see [`history_stream::stream`](crate::history_stream::stream).
    fn load_by_interval(
        &self,
        actor: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Revision>, StoreError>>;

    /// Returns the actors of a system that have a head: a page of at most `limit`, starting after `after`. The store chooses the
    /// order.
    fn actors(
        &self,
        system: &str,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>>;

    /// Drops the revisions that `keep` does not select, never the newest. Returns their number.
    fn prune(&self, actor: &ActorId, keep: Keep) -> BoxFuture<'static, Result<u64, StoreError>>;

    /// Returns the rows of an actor's outbox, ascending: a page of at most `limit`, fewer when rows are large, starting after
    /// `after`.
    fn outbox(
        &self,
        actor: &ActorId,
        after: Option<OutboxKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<OutboxRow>, StoreError>>;

    /// Returns the newest effects that an actor has seen, one per source, ordered by source.
    fn seen(&self, actor: &ActorId) -> BoxFuture<'static, Result<Vec<Seen>, StoreError>>;

    /// Returns the actors of all systems whose outbox is not empty: a page of at most `limit`, starting after `after`. Does not
    /// read other actors. The store chooses the order; it may also return an actor whose outbox is empty by now.
    fn pending(
        &self,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>>;

    /// Makes `epoch` the owner of an actor, before its first turn and its first delivery under that epoch. The head and the seen
    /// rows go on under this epoch; rows of the outbox stay as they are. A save of an older owner that was not complete before
    /// is lost as a whole, whenever it arrives (decision 18 d).
    ///
    /// Fails with [`StoreError::Fenced`] when a later owner has claimed the store.
    fn take_over(
        &self,
        actor: Arc<ActorId>,
        epoch: u64,
    ) -> BoxFuture<'static, Result<TakenOver, StoreError>>;

    /// Durably removes head and history of an actor, and those under the same system and name with any other parent (decision
    /// 48). Outbox and seen rows stay (decision 18 k).
    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Durably starts a new epoch, higher than every earlier one. Called once per start of the proxy.
    fn claim_epoch(&self) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.claim_epoch_above(0)
    }

    /// As [`claim_epoch`](Self::claim_epoch); the new epoch is also higher than `floor`, the newest one in data that comes from
    /// elsewhere. So no effect gets a number that such data has (decision 18 b).
    fn claim_epoch_above(&self, floor: u64) -> BoxFuture<'static, Result<u64, StoreError>>;

    /// Whether nothing that a former owner writes can come after a claim. Otherwise, after a crash, a head is written once more
    /// before it is used.
    fn keeps_former_owners_out(&self) -> bool {
        false
    }
}

/// The node of an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In this process.
    Here,
    /// On another node, by its name.
    Node(String),
    /// On no node at the moment: the owner is being chosen.
    Nobody,
}

/// Knows which node owns an actor.
pub trait Placement: Debug + Send + Sync + 'static {
    /// Returns the location of an actor.
    fn locate(&self, actor: &ActorRef) -> Location;

    /// Returns the epoch under which this node owns an actor. Called when the actor is activated.
    fn owner_epoch(&self, actor: &ActorRef) -> u64;
}
