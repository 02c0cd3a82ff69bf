//! Entry: one registered actor: where its definition comes from, and what is in memory of it.
//!
//! An [`Entry`] exists as long as its actor is registered. A turn takes the live state out of it and puts it back
//! ([`CheckedOut`]): with one turn at a time per actor there is never a second taker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::activation::Live;
use crate::activation::incarnation::Incarnation;
use crate::actor::{ActorId, ActorRef, Definition};
use crate::error::Error;
use crate::outbox::pending::PendingEffects;
use crate::places::held::Held;
use crate::ports::{Registered, RegisteredEntry};
use crate::state::Timestamp;
use crate::topics::log::{Log, Subscribed};
use crate::turn_time::MeanTurn;

mod checked_out;
mod hosted;
mod live_place;

pub(crate) use checked_out::CheckedOut;
pub(crate) use hosted::Hosted;

pub(super) use live_place::LivePlace;

use live_place::PlaceCell;

/// Where an entry's definition comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A host announced it.
    Defined(Hosted),
    /// It was spawned from another entry, which stays registered as long as this one names it: no
    /// chain of parents is broken or leads back to itself.
    Spawned {
        parent: Arc<Entry>,
        /// Revision that the first activation loads.
        revision: Option<u64>,
    },
}

impl Source {
    pub(super) fn count_instance(&self) {
        if let Source::Spawned { parent, .. } = self {
            parent.instances.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(super) fn uncount_instance(&self) {
        if let Source::Spawned { parent, .. } = self {
            parent.instances.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// How many entries were made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// What a call needs to know of its actor, as registered at the moment of asking.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) id: Arc<ActorId>,
    pub(crate) hosted: Hosted,
    pub(crate) revision: Option<u64>,
}

/// What is in memory of one actor.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The state after the last turn. `None` while a turn has it, or when the actor is not active.
    pub(crate) live: Option<Box<Live>>,
    /// The newest activation, kept until its commits are known to be durable or lost.
    pub(crate) incarnation: Option<Arc<Incarnation>>,
}

/// One registered actor; see the [module](self).
pub(crate) struct Entry {
    /// Its number among all entries of this process.
    number: u64,
    pub(crate) actor: ActorRef,
    /// The name of its mailbox: the same, unless it is a member of a pool.
    pub(crate) mailbox: ActorRef,
    /// The key under which its state lies: the identity with which it was first registered. Its parent may have changed since
    /// (decision 48).
    pub(crate) key: Arc<ActorId>,
    /// Identity and source, as registered now.
    pub(super) registered: RwLock<(Arc<ActorId>, Source)>,
    pub(crate) memory: Mutex<Memory>,
    /// Time of the newest record, in microseconds since 1970; a record never gets an earlier one.
    pub(crate) newest_record_us: AtomicU64,
    /// The epoch under which it was loaded, its rows of effects taken over.
    pub(crate) owned_under: AtomicU64,
    /// How long its turns take.
    pub(crate) mean_turn: MeanTurn,
    /// Bytes that its turn which runs has given the store and its caller.
    turn_bytes: AtomicUsize,
    /// Size of its last state in memory.
    state_bytes: AtomicUsize,
    /// Its places at the checkpoint.
    pub(crate) held_places: Held,
    /// Its effects that are planned or stored, and not delivered.
    pub(crate) pending_effects: Arc<PendingEffects>,
    /// Whether the store has, or may have, effects that it has seen.
    pub(crate) has_seen: AtomicBool,
    /// Whether it was taken over before its first load.
    pub(crate) taken_over_early: AtomicBool,
    /// Deliveries of broadcasts to it that wait or run, and the bytes of their messages.
    pub(crate) deliveries: AtomicUsize,
    pub(crate) delivery_bytes: AtomicUsize,
    /// Of a member of a pool: calls that wait for it or run.
    pub(crate) pooled_calls: AtomicU32,
    /// Whether its snapshot timer runs.
    pub(crate) snapshot_armed: AtomicBool,
    /// Whether its idle timer runs.
    pub(crate) idle_armed: AtomicBool,
    /// Whether its timers run or are about to be started.
    pub(crate) ticks_armed: AtomicBool,
    /// How often its timers have ended because it was deleted.
    pub(crate) ticks_ended: AtomicU32,
    /// Whether its warm-up waits or runs.
    pub(crate) warming: AtomicBool,
    /// Registered entries that were spawned from this one.
    instances: AtomicUsize,
    /// Whether it was taken out of the directory: a successor of the same name is another entry.
    pub(super) removed: AtomicBool,
    last_used_ms: AtomicU64,
    /// Its place among the actors in memory; changed under the lock of the [`LiveSet`](super::live_set::LiveSet).
    pub(super) live_place: PlaceCell,
    /// How many bytes it takes in memory.
    pub(super) live_bytes: AtomicUsize,
    /// Whether it was asked to leave memory and has not answered yet.
    pub(crate) leaving: AtomicBool,
    /// Whether it is paused.
    paused: AtomicBool,
    /// The durable topic that it keeps; `None` for an actor of users.
    pub(crate) topic: Option<Arc<Log>>,
}

impl Entry {
    pub(super) fn new(
        actor: ActorRef,
        key: Arc<ActorId>,
        id: Arc<ActorId>,
        source: Source,
    ) -> Self {
        Self {
            number: MADE.fetch_add(1, Ordering::Relaxed),
            mailbox: actor.clone(),
            actor,
            key,
            registered: RwLock::new((id, source)),
            memory: Mutex::default(),
            newest_record_us: AtomicU64::new(0),
            owned_under: AtomicU64::new(0),
            mean_turn: MeanTurn::default(),
            turn_bytes: AtomicUsize::new(0),
            state_bytes: AtomicUsize::new(0),
            held_places: Held::default(),
            pending_effects: Arc::default(),
            has_seen: AtomicBool::new(false),
            taken_over_early: AtomicBool::new(false),
            deliveries: AtomicUsize::new(0),
            delivery_bytes: AtomicUsize::new(0),
            pooled_calls: AtomicU32::new(0),
            snapshot_armed: AtomicBool::new(false),
            idle_armed: AtomicBool::new(false),
            ticks_armed: AtomicBool::new(false),
            ticks_ended: AtomicU32::new(0),
            warming: AtomicBool::new(false),
            instances: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
            last_used_ms: AtomicU64::new(0),
            live_place: PlaceCell::default(),
            live_bytes: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            topic: None,
        }
    }

    /// The actor that keeps a durable topic. Nobody finds it in the directory; its mailbox has a name that no actor can have.
    pub(crate) fn of_topic(log: Arc<Log>, key: Arc<ActorId>, definition: Arc<Definition>) -> Self {
        let hosted = Hosted { definition, host_limit: 0, host: Arc::default(), several: None };
        let (actor, mailbox) = (log.topic.clone(), ActorRef::new(&key.system, &key.name));
        let entry = Self::new(actor, key.clone(), key, Source::Defined(hosted));
        Self { mailbox, topic: Some(log), ..entry }
    }

    /// A member of a pool. Hosts and policies see the name of the pool; mailbox and key have names that no actor can have.
    pub(super) fn member(pool: &Arc<Entry>, number: u32) -> Self {
        let (system, name) = (pool.actor.system().to_owned(), pool.actor.name());
        let own_name = format!("{name}\u{1}{number}");
        let mailbox = ActorRef::new(&system, &own_name);
        let parent = format!("{name}-{number}");
        let key = ActorId { name: own_name, system: system.clone(), parent: parent.clone() };
        let id = ActorId { name: name.to_owned(), system, parent };
        let source = Source::Spawned { parent: pool.clone(), revision: None };
        Self { mailbox, ..Self::new(pool.actor.clone(), key.into(), id.into(), source) }
    }

    /// Takes a member of a pool out of its pool: from now on it has this definition, not that of the pool.
    pub(super) fn dismiss(&self, hosted: Hosted) {
        self.registered.write().1 = Source::Defined(hosted);
    }

    /// Whether it is a member of a pool that was [dismissed](Self::dismiss).
    pub(crate) fn is_dismissed(&self) -> bool {
        let is_member = self.mailbox != self.actor && self.topic.is_none();
        is_member && matches!(self.registered.read().1, Source::Defined(_))
    }

    /// Identity, definition and host limit, as registered now.
    pub(crate) fn spec(&self) -> Spec {
        let (id, mut source) = self.registered.read().clone();
        let revision = match &source {
            Source::Spawned { revision, .. } => *revision,
            Source::Defined(_) => None,
        };
        loop {
            match source {
                Source::Defined(hosted) => return Spec { id, hosted, revision },
                Source::Spawned { parent, .. } => source = parent.source(),
            }
        }
    }

    /// Reads the definition and the host of the actor. It copies nothing, so it is cheaper than [`spec`](Self::spec); `read`
    /// must be short, must not ask this entry again, and must not take the lock of a queue: a gate reads entries under that lock.
    pub(crate) fn with_hosted<R>(&self, read: impl FnOnce(&Hosted) -> R) -> R {
        let parent = match &self.registered.read().1 {
            Source::Defined(hosted) => return read(hosted),
            Source::Spawned { parent, .. } => parent.clone(),
        };
        parent.with_hosted(read)
    }

    /// Identity as registered now.
    pub(crate) fn id(&self) -> Arc<ActorId> {
        self.registered.read().0.clone()
    }

    /// Its source as registered now.
    pub(crate) fn source(&self) -> Source {
        self.registered.read().1.clone()
    }

    /// The entry as it is stored.
    pub(super) fn as_registered(&self) -> Registered {
        let (id, source) = self.registered.read().clone();
        let entry = match source {
            Source::Defined(hosted) => RegisteredEntry::Definition(hosted.definition),
            Source::Spawned { revision, .. } => RegisteredEntry::Spawned { id, revision },
        };
        Registered { entry, key: self.key.clone() }
    }

    /// The actor that a host registered with the definition: this one, or the one that it was spawned from.
    pub(crate) fn definition(&self) -> ActorRef {
        let (mut actor, mut source) = (self.actor.clone(), self.source());
        while let Source::Spawned { parent, .. } = source {
            (actor, source) = (parent.actor.clone(), parent.source());
        }
        actor
    }

    /// How many registered entries were spawned from this one.
    pub(crate) fn instances(&self) -> usize {
        self.instances.load(Ordering::Acquire)
    }

    /// Adds to what the turn that runs moves.
    pub(crate) fn add_turn_bytes(&self, bytes: usize) {
        // Most often it is 0 before: only one turn runs.
        self.turn_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What its turn has moved, which is over.
    pub(crate) fn take_turn_bytes(&self) -> usize {
        self.turn_bytes.swap(0, Ordering::Relaxed)
    }

    /// Notes the size of its state in memory.
    pub(crate) fn note_state(&self, bytes: usize) {
        self.state_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Size of its state as it was last seen in memory; 0 when it never was.
    pub(crate) fn state_bytes(&self) -> usize {
        self.state_bytes.load(Ordering::Relaxed)
    }

    /// Notes a use, in milliseconds since the directory was made.
    pub(crate) fn touch(&self, now_ms: u64) {
        self.last_used_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The last noted use.
    pub(crate) fn last_used_ms(&self) -> u64 {
        self.last_used_ms.load(Ordering::Relaxed)
    }

    /// Whether it was deleted: another entry may be the actor of this name now.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Refuses an entry that is no longer registered.
    ///
    /// # Errors
    /// When it was deleted.
    pub(crate) fn check_registered(&self) -> Result<(), Error> {
        if !self.is_removed() {
            return Ok(());
        }
        let (system, name) = (self.actor.system().into(), self.actor.name().into());
        Err(Error::ActorNotFound { system, name })
    }

    /// Ends its timers; its next activation starts them anew.
    pub(crate) fn end_ticks(&self) {
        self.ticks_ended.fetch_add(1, Ordering::AcqRel);
        self.ticks_armed.store(false, Ordering::Release);
    }

    /// Whether it is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// What a durable topic knows it by.
    pub(crate) fn subscribed(&self) -> Subscribed {
        (self.actor.clone(), self.number)
    }

    /// Whether a delete takes it out of the registry: what a host announced stays, and so does what others were spawned from.
    pub(crate) fn goes_when_deleted(&self) -> bool {
        self.instances() == 0 && matches!(self.source(), Source::Spawned { .. })
    }

    /// Notes whether it is paused.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.paused.store(is_paused, Ordering::Relaxed);
    }

    /// Whether it is counted among the actors in memory.
    pub(crate) fn is_live(&self) -> bool {
        self.live_place.get().is_some()
    }

    /// How many bytes it takes in memory.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// Whether it can leave memory now: no turn has it, and the outcome of all its commits is known.
    pub(super) fn may_leave(&self) -> bool {
        // The turn of a paused one does not come.
        if self.leaving.load(Ordering::Relaxed) || self.is_paused() {
            return false;
        }
        let Some(memory) = self.memory.try_lock() else { return false };
        let is_settled = memory.incarnation.as_ref().is_some_and(|of| of.is_settled());
        memory.live.is_some() && is_settled
    }

    /// The time of a new record: never earlier than an older record's (decision 15).
    pub(crate) fn record_time(&self, now: Timestamp) -> Timestamp {
        let last = self.newest_record_us.load(Ordering::Relaxed);
        let at = now.after(Timestamp(last));
        self.newest_record_us.fetch_max(at.0, Ordering::Relaxed);
        at
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("actor", &self.actor).finish_non_exhaustive()
    }
}
