//! Directory: every actor that this proxy knows of, by system and name, and what is in memory of it.
//!
//! An [`Entry`] exists as long as its actor is registered; it holds where the definition comes from
//! and, in its cell, the live state. A call takes the live state out of the cell and puts it back
//! (checked out, checked in): with one call at a time per key there is never a second taker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hashbrown::{HashMap, HashTable};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::activation::Live;
use crate::actor::{ActorId, ActorRef, Definition, HostAddress};
use crate::error::Error;
use crate::incarnation::Incarnation;
use crate::state::Timestamp;

/// A definition and the host_limit of its host: calls of one host_limit share that host's bound on calls in flight.
#[derive(Debug, Clone)]
pub(crate) struct Hosted {
    pub(crate) definition: Arc<Definition>,
    pub(crate) host_limit: u32,
}

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
    fn count_instance(&self) {
        if let Source::Spawned { parent, .. } = self {
            parent.instances.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn uncount_instance(&self) {
        if let Source::Spawned { parent, .. } = self {
            parent.instances.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What a call needs to know of its actor, as registered at the moment of asking.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) id: Arc<ActorId>,
    pub(crate) hosted: Hosted,
    pub(crate) revision: Option<u64>,
}

/// What is in memory of one actor.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// Checked in: the state of the last call. `None` while a call has it, or when it is not active.
    pub(crate) live: Option<Box<Live>>,
    /// The newest activation, kept until its commits are known to be durable or lost.
    pub(crate) incarnation: Option<Arc<Incarnation>>,
}

/// One registered actor; see the [module](self).
pub(crate) struct Entry {
    pub(crate) actor: ActorRef,
    id: RwLock<(Arc<ActorId>, Source)>,
    pub(crate) cell: Mutex<Cell>,
    /// Time of the newest record; a record never gets an earlier one.
    pub(crate) newest_record_us: AtomicU64,
    /// Effects planned and not yet sent.
    pub(crate) pending_effects: AtomicU32,
    /// Whether its snapshot timer runs.
    pub(crate) snapshot_armed: AtomicBool,
    /// Whether its idle timer runs.
    pub(crate) idle_armed: AtomicBool,
    /// Whether its warm-up waits or runs.
    pub(crate) warming: AtomicBool,
    /// Registered entries that were spawned from this one.
    instances: AtomicUsize,
    /// Whether it was taken out of the directory: a successor of the same name is another entry.
    removed: AtomicBool,
    last_used_ms: AtomicU64,
    live_place: AtomicUsize,
}

const NOT_LIVE: usize = usize::MAX;

impl Entry {
    fn new(actor: ActorRef, id: Arc<ActorId>, source: Source) -> Self {
        Self {
            actor,
            id: RwLock::new((id, source)),
            cell: Mutex::default(),
            newest_record_us: AtomicU64::new(0),
            pending_effects: AtomicU32::new(0),
            snapshot_armed: AtomicBool::new(false),
            idle_armed: AtomicBool::new(false),
            warming: AtomicBool::new(false),
            instances: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
            last_used_ms: AtomicU64::new(0),
            live_place: AtomicUsize::new(NOT_LIVE),
        }
    }

    /// Identity, definition and host_limit, as registered now.
    pub(crate) fn spec(&self) -> Spec {
        let (id, mut source) = self.id.read().clone();
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

    /// Identity as registered now.
    pub(crate) fn id(&self) -> Arc<ActorId> {
        self.id.read().0.clone()
    }

    /// Its source as registered now.
    pub(crate) fn source(&self) -> Source {
        self.id.read().1.clone()
    }

    /// How many registered entries were spawned from this one.
    pub(crate) fn instances(&self) -> usize {
        self.instances.load(Ordering::Acquire)
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

    /// Whether it is counted among the actors in memory.
    pub(crate) fn is_live(&self) -> bool {
        self.live_place.load(Ordering::Relaxed) != NOT_LIVE
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

const SHARDS: usize = 64;

/// All entries; see the [module](self).
pub(crate) struct Directory {
    shards: Vec<RwLock<HashTable<Arc<Entry>>>>,
    host_limits: Mutex<HostLimits>,
    live: Mutex<Vec<Arc<Entry>>>,
    began: Instant,
}

/// A host_limit per host; a number is never given twice, since calls of a former host_limit may still be queued.
#[derive(Debug, Default)]
struct HostLimits {
    by_host: HashMap<HostAddress, u32>,
    newest: u32,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("live", &self.live_count()).finish_non_exhaustive()
    }
}

impl Directory {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            host_limits: Mutex::default(),
            live: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// Milliseconds since it was made.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Arc<Entry>>> {
        // The table inside a shard uses the low and the top bits of the hash: take others.
        let place = usize::try_from((hash >> 32) % SHARDS as u64).expect("a remainder of 64");
        &self.shards[place]
    }

    /// The entry of an actor.
    pub(crate) fn find(&self, system: &str, name: &str) -> Option<Arc<Entry>> {
        let hash = ActorRef::hash_of(system, name);
        let shard = self.shard(hash).read();
        shard
            .find(hash, |entry| entry.actor.name() == name && entry.actor.system() == system)
            .cloned()
    }

    /// Adds an entry, or gives the existing one a new identity and source; its live state stays.
    pub(crate) fn put(&self, id: Arc<ActorId>, source: Source) -> Arc<Entry> {
        let hash = ActorRef::hash_of(&id.system, &id.name);
        source.count_instance();
        let mut shard = self.shard(hash).write();
        let same =
            |entry: &Arc<Entry>| entry.actor.name() == id.name && entry.actor.system() == id.system;
        if let Some(entry) = shard.find(hash, same) {
            let (_, former) = std::mem::replace(&mut *entry.id.write(), (id, source));
            former.uncount_instance();
            return entry.clone();
        }
        let actor = ActorRef::new(&id.system, &id.name);
        let entry = Arc::new(Entry::new(actor, id, source));
        shard.insert_unique(hash, entry.clone(), |entry| entry.actor.precomputed_hash());
        entry
    }

    /// Removes an entry; calls that wait for it find no actor.
    pub(crate) fn remove(&self, entry: &Entry) {
        let hash = entry.actor.precomputed_hash();
        let mut shard = self.shard(hash).write();
        if !entry.removed.swap(true, Ordering::AcqRel) {
            entry.source().uncount_instance();
        }
        if let Ok(found) = shard.find_entry(hash, |other| other.actor == entry.actor) {
            found.remove();
        }
    }

    /// The host_limit of a host, and whether it is a new one.
    pub(crate) fn host_limit(&self, host: &HostAddress) -> (u32, bool) {
        let mut host_limits = self.host_limits.lock();
        if let Some(host_limit) = host_limits.by_host.get(host) {
            return (*host_limit, false);
        }
        // Lane 0 is that of work which needs no host.
        host_limits.newest += 1;
        let host_limit = host_limits.newest;
        host_limits.by_host.insert(host.clone(), host_limit);
        (host_limit, true)
    }

    /// Forgets the host_limit of a host that no definition names any more; answers whether it did. It looks
    /// at every entry, which is rare: only when a host has moved.
    pub(crate) fn forget_host_limit(&self, hosted: &Hosted) -> bool {
        let is_used = self.shards.iter().any(|shard| {
            shard.read().iter().any(|entry| {
                matches!(entry.source(), Source::Defined(other) if other.host_limit == hosted.host_limit)
            })
        });
        !is_used && self.host_limits.lock().by_host.remove(&hosted.definition.host).is_some()
    }

    /// The entries of one shard, all of them counting from 0; `None` after the last.
    pub(crate) fn shard_entries(&self, shard: usize) -> Option<Vec<Arc<Entry>>> {
        Some(self.shards.get(shard)?.read().iter().cloned().collect())
    }

    /// The definitions that a host has announced in a system.
    pub(crate) fn defined_by(&self, host: &HostAddress, system: &str) -> Vec<Arc<Definition>> {
        let defined = |entry: &Arc<Entry>| match entry.source() {
            Source::Defined(Hosted { definition, .. }) => {
                let is_meant = definition.host == *host && definition.id.system == system;
                is_meant.then_some(definition)
            }
            Source::Spawned { .. } => None,
        };
        let of = |shard: &RwLock<HashTable<Arc<Entry>>>| -> Vec<_> {
            shard.read().iter().filter_map(defined).collect()
        };
        self.shards.iter().flat_map(of).collect()
    }

    /// Notes that an actor is in memory; answers how many are.
    pub(crate) fn add_live(&self, entry: &Arc<Entry>) -> usize {
        let mut live = self.live.lock();
        if entry.live_place.load(Ordering::Relaxed) == NOT_LIVE {
            entry.live_place.store(live.len(), Ordering::Relaxed);
            live.push(entry.clone());
        }
        live.len()
    }

    /// Notes that an actor is no longer in memory; answers how many are.
    pub(crate) fn remove_live(&self, entry: &Entry) -> usize {
        let mut live = self.live.lock();
        let place = entry.live_place.swap(NOT_LIVE, Ordering::Relaxed);
        if place != NOT_LIVE {
            live.swap_remove(place);
            if let Some(moved) = live.get(place) {
                moved.live_place.store(place, Ordering::Relaxed);
            }
        }
        live.len()
    }

    /// How many actors are in memory.
    pub(crate) fn live_count(&self) -> usize {
        self.live.lock().len()
    }

    /// Every actor in memory.
    pub(crate) fn all_live(&self) -> Vec<Arc<Entry>> {
        self.live.lock().clone()
    }

    /// The least recently used of a few actors picked from those in memory: an approximation of the
    /// least recently used of all that costs the same for ten actors as for a million.
    pub(crate) fn eviction_candidate(&self, seed: u64) -> Option<Arc<Entry>> {
        const SAMPLES: u64 = 8;
        let live = self.live.lock();
        let len = u64::try_from(live.len()).ok().filter(|len| *len > 0)?;
        let stride = len / SAMPLES + 1;
        (0..SAMPLES)
            .filter_map(|sample| {
                let place =
                    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(sample * stride) % len;
                live.get(usize::try_from(place).ok()?)
            })
            .min_by_key(|entry| entry.last_used_ms())
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::tests::definition;

    fn hosted(directory: &Directory, name: &str) -> (Arc<ActorId>, Source) {
        let definition = definition(name);
        let (host_limit, _) = directory.host_limit(&definition.host);
        (
            Arc::new(definition.id.clone()),
            Source::Defined(Hosted { definition: definition.into(), host_limit }),
        )
    }

    #[test]
    fn an_instance_follows_its_parent_s_definition() {
        let directory = Directory::new();
        let (id, source) = hosted(&directory, "template");
        let parent = directory.put(id, source);
        let id = ActorId { name: "joe".into(), system: "s".into(), parent: "template".into() };
        let joe = directory.put(id.into(), Source::Spawned { parent, revision: Some(3) });
        assert_eq!(joe.spec().hosted.definition.id.name, "template");
        assert_eq!(joe.spec().revision, Some(3));
        let mut changed = definition("template");
        changed.actions.push("new".into());
        let id = Arc::new(changed.id.clone());
        directory.put(id, Source::Defined(Hosted { definition: changed.into(), host_limit: 1 }));
        assert!(joe.spec().hosted.definition.knows("new"));
        assert_eq!(joe.spec().id.parent, "template");
    }

    #[test]
    fn an_entry_knows_how_many_were_spawned_from_it() {
        let directory = Directory::new();
        let (id, source) = hosted(&directory, "template");
        let template = directory.put(id, source);
        let (id, source) = hosted(&directory, "other");
        let other = directory.put(id, source);
        let spawn = |name: &str, parent: &Arc<Entry>| {
            let parent_name = parent.actor.name().to_owned();
            let id = ActorId { name: name.into(), system: "s".into(), parent: parent_name };
            directory.put(id.into(), Source::Spawned { parent: parent.clone(), revision: None })
        };
        let joe = spawn("joe", &template);
        spawn("joe", &template);
        let moe = spawn("moe", &template);
        assert_eq!((template.instances(), other.instances()), (2, 0));
        spawn("moe", &other);
        assert_eq!((template.instances(), other.instances()), (1, 1));
        let (id, source) = hosted(&directory, "moe");
        directory.put(id, source);
        directory.remove(&joe);
        directory.remove(&joe);
        assert_eq!((template.instances(), other.instances()), (0, 0));
        assert_eq!(moe.instances(), 0);
    }

    #[test]
    fn a_lane_is_kept_while_a_definition_names_its_host_and_never_given_twice() {
        let directory = Directory::new();
        let (id, Source::Defined(old)) = hosted(&directory, "joe") else { panic!("defined") };
        directory.put(id.clone(), Source::Defined(old.clone()));
        assert!(!directory.forget_host_limit(&old));
        let elsewhere = HostAddress::new("127.0.0.1:8091");
        let (host_limit, _) = directory.host_limit(&elsewhere);
        let definition = Definition { host: elsewhere, ..definition("joe") };
        directory.put(id, Source::Defined(Hosted { definition: definition.into(), host_limit }));
        assert!(directory.forget_host_limit(&old));
        let (back, is_new) = directory.host_limit(&old.definition.host);
        assert!(is_new && back != old.host_limit && back != host_limit);
    }

    #[test]
    fn the_live_set_loses_and_repeats_nobody() {
        let directory = Directory::new();
        let entries: Vec<_> = (0..10)
            .map(|n| {
                let (id, source) = hosted(&directory, &format!("a{n}"));
                directory.put(id, source)
            })
            .collect();
        for entry in &entries {
            directory.add_live(entry);
            directory.add_live(entry);
        }
        assert_eq!(directory.live_count(), 10);
        for entry in entries.iter().step_by(2) {
            directory.remove_live(entry);
            directory.remove_live(entry);
        }
        let mut left: Vec<_> =
            directory.all_live().iter().map(|e| e.actor.name().to_owned()).collect();
        left.sort();
        assert_eq!(left, ["a1", "a3", "a5", "a7", "a9"]);
    }
}
