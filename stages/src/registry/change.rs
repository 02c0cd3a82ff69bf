//! Change: what is to change in the registry, and the bounded queue that it waits in.

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::{Bound, Demand, Full, Producer, ProducerOptions, Refused};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::actor::ActorId;
use crate::error::Error;
use crate::invocation::{Registration, Spawn};
use crate::placement::overloaded;
use crate::ports::StoreError;
use crate::registry::entry::Entry;
use crate::registry::hosts::Leave;
use crate::reply::{Deadlines, Reply, Timing};

/// How long a change waits until it is stored, and how long storing it may take.
pub(super) const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Why a change is refused that cannot begin.
const BEHIND: &str = "older changes to what is registered are still being stored";

/// What each change counts for beside its content, in bytes.
const WEIGHT: usize = 512;

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Store a host's definitions.
    Register(Registration),
    /// Store spawned identities.
    Spawn(Spawn),
    /// Remove a spawned identity; with `keeps_key` its key stays.
    Forget { entry: Arc<Entry>, keeps_key: bool },
    /// Remove a host from definitions that have others.
    Leave(Leave),
    /// Store that the revision which a spawn asked for was loaded: no later activation loads it.
    Restored { entry: Arc<Entry>, revision: u64 },
    /// Remove the key of a deleted actor, unless its name is registered again.
    GiveBack(Arc<ActorId>),
    /// Store what is in doubt, as is done before each change, and nothing else.
    Settle,
}

/// A change that waits.
#[derive(Debug)]
pub(crate) struct Change {
    pub(super) asked: Asked,
    pub(super) timing: Timing,
    pub(super) asker: Waiter,
}

/// The caller that waits for a change. It gets the entries of the change.
#[derive(Debug)]
pub(super) struct Waiter {
    reply: Reply<Vec<Arc<Entry>>>,
    /// The bytes that the change counts for, until it is stored or refused.
    _held: OwnedSemaphorePermit,
}

impl Change {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.asked.bytes()
    }
}

impl Waiter {
    pub(super) fn send(self, answer: Result<Vec<Arc<Entry>>, Error>) {
        self.reply.send(answer);
    }
}

impl Asked {
    fn bytes(&self) -> usize {
        let of_id =
            |id: &ActorId| size_of::<ActorId>() + id.name.len() + id.system.len() + id.parent.len();
        let bytes: usize = match self {
            // The decoded form is about as large as the registered bytes.
            Self::Register(registration) => {
                registration.definitions.iter().map(|one| of_id(&one.id) + 2 * one.raw.len()).sum()
            }
            Self::Spawn(spawn) => spawn.actors.iter().map(of_id).sum(),
            Self::Forget { .. }
            | Self::Leave(_)
            | Self::Restored { .. }
            | Self::GiveBack(_)
            | Self::Settle => 0,
        };
        WEIGHT + bytes
    }
}

/// The bounded queue of changes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ChangeQueue {
    producer: Producer<Change>,
    /// What may wait or be on its way to the registry, in bytes.
    capacity: Arc<Semaphore>,
    bytes: u32,
}

impl ChangeQueue {
    pub(super) fn new(bytes: usize) -> Self {
        // `capacity` is the bound: it also counts changes that are being stored.
        let bound = Bound { events: usize::MAX, bytes: usize::MAX };
        let options = ProducerOptions { name: "registry", bound, full: Full::Shed };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let capacity = Arc::new(Semaphore::new(bytes as usize));
        Self { producer: Producer::new(options, Demand::new()), capacity, bytes }
    }

    /// What the registry's stage consumes.
    pub(crate) fn producer(&self) -> &Producer<Change> {
        &self.producer
    }

    /// Stores a change and returns its entries. The change goes on when the future is dropped.
    ///
    /// # Errors
    /// When the queue is full, the change could not begin in time, makes no sense or could not be stored.
    pub(super) async fn put(&self, asked: Asked) -> Result<Vec<Arc<Entry>>, Error> {
        // A change that is larger than the whole capacity waits until it is alone.
        let bytes = u32::try_from(asked.bytes()).unwrap_or(u32::MAX).min(self.bytes);
        let held = self.capacity.clone().try_acquire_many_owned(bytes).map_err(|_| full())?;
        let permit = self.producer.try_reserve(0).map_err(refusal)?;
        let deadlines = Deadlines {
            start: CHANGE_LIMIT,
            host: CHANGE_LIMIT,
            commit: CHANGE_LIMIT,
            ..Deadlines::default()
        };
        let timing = Timing::of_store(deadlines, None);
        let (reply, waiting) = Reply::new(&timing);
        let change = Change { asked, timing, asker: Waiter { reply, _held: held } };
        self.producer.cast(change, permit).map_err(|rejected| refusal(rejected.reason))?;
        waiting.answer().await.map_err(|error| match error {
            // What it waited for is the store.
            Error::NotStarted(..) => StoreError::Unavailable(BEHIND.into()).into(),
            error => error,
        })
    }
}

fn refusal(refused: Refused) -> Error {
    if refused == Refused::Closed { Error::Draining } else { full() }
}

fn full() -> Error {
    overloaded("registry", BEHIND.into())
}
