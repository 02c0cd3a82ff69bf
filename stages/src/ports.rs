//! Ports: what the stages ask of the outside world.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tower::Service;

use crate::actor::{ActorId, ActorRef, Definition};
use crate::history::{Interval, Keep, Page};
use crate::invocation::{ActorInvocation, ActorInvocationResponse};
use crate::state::{Head, Revision, Timestamp};

/// Wall-clock time. Everything else uses tokio's clock, so that tests can pause it.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Why a user function gave no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No connection could be made: the function never ran, trying again is safe.
    #[error("cannot connect to the actor host at {address}: {reason}")]
    Connect {
        /// Where it was tried.
        address: String,
        /// What the operating system said, and a hint.
        reason: String,
    },
    /// The connection failed after the request was handed over: the function may have run.
    #[error("the actor host at {address} broke off: {reason}; the action may have run")]
    Broken {
        /// Which host.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The host answered with something that is not a response: the function may have run.
    #[error("the actor host at {address} answered {answer}; the action may have run")]
    Garbled {
        /// Which host.
        address: String,
        /// What it answered, in words.
        answer: String,
    },
}

impl HostError {
    /// Whether the user function certainly never ran.
    pub fn is_unsent(&self) -> bool {
        matches!(self, HostError::Connect { .. })
    }
}

/// Calls the user function; one call is one execution, never a retry after the request was sent.
///
/// It has no limit of its own on the time to answer: the invoke stage sets it. Dropping the future gives the call up.
pub trait Host:
    Service<
        ActorInvocation,
        Response = ActorInvocationResponse,
        Error = HostError,
        Future: Future + Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Host for S where
    S: Service<
            ActorInvocation,
            Response = ActorInvocationResponse,
            Error = HostError,
            Future: Future + Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing was written or read; trying again is safe.
    #[error("the state store is unavailable: {0}")]
    Unavailable(String),
    /// The device has no room (its reserve included); nothing was written.
    #[error("the state store is out of space: {0}")]
    Full(String),
    /// Larger than the store can take in one write; nothing was written, and trying again is of no use.
    #[error("too large for the state store: {0}")]
    TooLarge(String),
    /// A write was handed over and its outcome is unknown: it may have happened.
    #[error("the outcome of a write to the state store is unknown: {0}")]
    Unknown(String),
    /// Stored bytes are damaged; nothing was written. The text names the file.
    #[error("the state store is damaged: {0}")]
    Corrupt(String),
    /// A stored state is sealed with a key that was not given; nothing was written.
    #[error("a stored state cannot be opened: {0}")]
    Sealed(String),
    /// A later owner has claimed the store (its epoch): a write under this one was not acknowledged, and
    /// the later owner may or may not have seen it.
    #[error("a later owner holds the state store (epoch {0})")]
    Fenced(u64),
}

impl StoreError {
    /// Whether the write may have happened all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, StoreError::Unknown(_) | StoreError::Fenced(_))
    }

    /// Whether trying again is of no use, however long one waits.
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

/// One actor's commit: its new head, and the revision appended with it.
#[derive(Debug, Clone)]
pub struct Save {
    /// The actor: (system, name, parent).
    pub actor: Arc<ActorId>,
    /// The new head. Its epoch is that of the owner that writes.
    pub head: Head,
    /// Whether the head's content is also appended to the history as revision `head.revision`.
    pub append: bool,
}

/// Keeps states. Futures are owned: they borrow neither the store nor the arguments.
///
/// Saves of one actor are applied in the order in which `save` was called, also across calls. When one fails, so do
/// those of the same actor that were called before its answer was taken.
///
/// Writers have epochs: a save under an epoch older than the newest [claimed](Self::claim_epoch) is answered with
/// [`StoreError::Fenced`] and never replaces what was written under a later one. Numbers and times are below 2^63.
pub trait StateStore: Debug + Send + Sync + 'static {
    /// Makes a batch durable: when an entry of the answer is `Ok`, that save survives the loss of power.
    /// Each save is atomic by itself: when head and revision are kept apart, the revision is there before the answer,
    /// and one that a crash kept away is missed by [`load_revision`](Self::load_revision) under the head's number.
    /// The answer has one entry per save, in order.
    fn save(&self, batch: Vec<Save>) -> BoxFuture<'static, Vec<Result<(), StoreError>>>;

    /// Adds revisions to an actor's history without touching its head, durably; those of the same number and time are
    /// replaced. For moving and repairing histories: ascending, and of an actor that is not running.
    fn append(
        &self,
        actor: Arc<ActorId>,
        revisions: Vec<Revision>,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The latest durable state of an actor, `None` when it never had one.
    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>>;

    /// One entry of the history.
    fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>>;

    /// The newest entry of the history at or before a time.
    fn load_at(
        &self,
        actor: &ActorId,
        at: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>>;

    /// History within an interval, ascending: a page of at most `limit` entries, fewer when they are large.
    /// All of it as a stream: [`history_stream::stream`](crate::history_stream::stream).
    fn load_by_interval(
        &self,
        actor: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Revision>, StoreError>>;

    /// Actors of a system that have a head, in an order of the store's own: a page of at most `limit`, of those that
    /// come after `after`.
    fn actors(
        &self,
        system: &str,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>>;

    /// Drops revisions that retention does not ask to keep, never the newest one; answers how many.
    fn prune(&self, actor: &ActorId, keep: Keep) -> BoxFuture<'static, Result<u64, StoreError>>;

    /// Removes an actor's head and history, durably.
    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Starts a new epoch, higher than every earlier one, durably. Called once per start of the proxy.
    fn claim_epoch(&self) -> BoxFuture<'static, Result<u64, StoreError>>;
}

/// What a registry remembers across a restart.
#[derive(Debug, Clone, PartialEq)]
pub enum Registered {
    /// A definition that a host announced, keyed by (system, name).
    Definition(Arc<Definition>),
    /// An instance made from a definition, keyed by (system, name).
    Spawned {
        /// Its identity; the parent names the definition.
        id: Arc<ActorId>,
        /// Revision that its first activation loads.
        revision: Option<u64>,
    },
}

impl Registered {
    /// The identity under which it is kept.
    pub fn id(&self) -> &ActorId {
        match self {
            Registered::Definition(definition) => &definition.id,
            Registered::Spawned { id, .. } => id,
        }
    }
}

/// A change to the registry.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryChange {
    /// Adds or replaces an entry under its (system, name).
    Put(Registered),
    /// Removes the entry of this (system, name).
    Remove(Arc<ActorId>),
}

/// Keeps definitions and spawned ids across a restart: hosts do not register again by themselves.
pub trait Registry: Debug + Send + Sync + 'static {
    /// Everything that is registered.
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>>;

    /// Applies all changes atomically and durably, in order.
    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// Where an actor lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In this process.
    Here,
    /// On another node, by its name.
    Node(String),
    /// Nowhere at the moment: its owner is being chosen.
    Nobody,
}

/// Knows which node owns an actor.
pub trait Placement: Debug + Send + Sync + 'static {
    /// Where an actor lives.
    fn locate(&self, actor: &ActorRef) -> Location;

    /// The epoch under which this node owns an actor; asked when the actor is activated.
    fn owner_epoch(&self, actor: &ActorRef) -> u64;
}
