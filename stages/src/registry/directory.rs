//! Directory: all actors that this proxy knows, by system and name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::{HashMap, HashTable};
use parking_lot::{Mutex, RwLock};
use tidegate_pipeline::randomness::Seeded;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::actor::{ActorId, ActorRef, Definition, HostAddress};
use crate::registry::entry::{Entry, Hosted, Source};
use crate::registry::hosts::{OneHost, RANDOM, Several, Strategy};
use crate::registry::kept_keys::KeptKeys;
use crate::registry::known_host::KnownHost;
use crate::registry::live_set::{LiveSet, is_sparse};
use crate::registry::pauses::Pauses;
use crate::registry::pools::Pools;
use crate::registry::subscribers::Subscribers;

const SHARDS: usize = 64;

/// All entries; see the [module](self).
pub(crate) struct Directory {
    shards: Vec<RwLock<HashTable<Arc<Entry>>>>,
    host_limits: Mutex<HostLimits>,
    /// Which of several hosts a turn is for.
    strategy: &'static dyn Strategy,
    /// How many hosts are known.
    pub(crate) hosts: Arc<AtomicUsize>,
    /// The actors in memory.
    pub(crate) live: LiveSet,
    /// Whom topics may reach.
    pub(crate) subscribers: Subscribers,
    /// The members of pools.
    pub(crate) pools: Pools,
    kept_keys: KeptKeys,
    /// Which actors are paused.
    pub(crate) pauses: Arc<Pauses>,
    registered: Mutex<Registered>,
    began: Instant,
    /// Notified when an actor gets other timers, or one with timers is deleted.
    pub(crate) timers_changed: Notify,
    /// Notified when a system gets its first entry, or loses its last.
    pub(crate) systems_changed: watch::Sender<()>,
}

/// How many entries and kept keys there are.
#[derive(Debug, Default)]
struct Registered {
    by_system: HashMap<String, usize>,
    all: usize,
}

/// For each host the number of its limit on calls in flight, and what else is known of it. A number is never used again,
/// because queued turns may still count against it.
#[derive(Debug, Default)]
struct HostLimits {
    by_host: HashMap<HostAddress, (u32, Arc<KnownHost>), Seeded>,
    newest: u32,
}

impl HostLimits {
    /// The limit of a host; one that is new is added to `new`.
    fn of(&mut self, address: &HostAddress, new: &mut Vec<u32>) -> OneHost {
        let known = self.by_host.get(address).cloned();
        let (limit, known) = known.unwrap_or_else(|| {
            // Number 0 is that of turns which need no host.
            self.newest += 1;
            new.push(self.newest);
            let one = (self.newest, Arc::default());
            self.by_host.insert(address.clone(), one.clone());
            one
        });
        OneHost { limit, address: address.clone(), known }
    }
}

impl Registered {
    /// Returns whether the system is new.
    fn add(&mut self, system: &str) -> bool {
        self.all += 1;
        if let Some(count) = self.by_system.get_mut(system) {
            *count += 1;
            return false;
        }
        self.by_system.insert(system.to_owned(), 1);
        true
    }

    /// Returns whether the system is gone.
    fn remove(&mut self, system: &str) -> bool {
        self.all -= 1;
        let Some(count) = self.by_system.get_mut(system) else { return false };
        *count -= 1;
        let is_gone = *count == 0;
        if is_gone {
            self.by_system.remove(system);
            if is_sparse(self.by_system.len(), self.by_system.capacity()) {
                self.by_system.shrink_to(2 * self.by_system.len());
            }
        }
        is_gone
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("live", &self.live.len()).finish_non_exhaustive()
    }
}

impl Directory {
    /// Creates an empty directory.
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            host_limits: Mutex::default(),
            strategy: RANDOM,
            hosts: Arc::default(),
            live: LiveSet::default(),
            subscribers: Subscribers::default(),
            pools: Pools::default(),
            kept_keys: KeptKeys::default(),
            pauses: Arc::default(),
            registered: Mutex::default(),
            began: Instant::now(),
            timers_changed: Notify::new(),
            systems_changed: watch::Sender::default(),
        }
    }

    /// Chooses among several hosts of a definition with this strategy.
    pub(crate) fn with_strategy(self, strategy: &'static dyn Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// Milliseconds since the directory was created.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Arc<Entry>>> {
        // The table inside a shard uses the low and the top bits of the hash; the shard uses others.
        let place = usize::try_from((hash >> 32) % SHARDS as u64).expect("a remainder of 64");
        &self.shards[place]
    }

    /// Returns the entry of an actor.
    pub(crate) fn find(&self, system: &str, name: &str) -> Option<Arc<Entry>> {
        let hash = ActorRef::hash_of(system, name);
        let shard = self.shard(hash).read();
        shard
            .find(hash, |entry| entry.actor.name() == name && entry.actor.system() == system)
            .cloned()
    }

    /// As [`put_with_key`](Self::put_with_key); the state of a new entry lies under its own identity.
    #[cfg(test)]
    pub(crate) fn put(&self, id: Arc<ActorId>, source: Source) -> Arc<Entry> {
        self.put_with_key(id.clone(), id, source)
    }

    /// Adds an entry whose state lies under a key, or replaces identity and source of the existing entry; its key and the live
    /// state stay.
    pub(crate) fn put_with_key(
        &self,
        key: Arc<ActorId>,
        id: Arc<ActorId>,
        source: Source,
    ) -> Arc<Entry> {
        let hash = ActorRef::hash_of(&id.system, &id.name);
        source.count_instance();
        let mut shard = self.shard(hash).write();
        let same =
            |entry: &Arc<Entry>| entry.actor.name() == id.name && entry.actor.system() == id.system;
        if let Some(entry) = shard.find(hash, same) {
            let before = entry.spec().hosted.definition;
            let (_, former) = std::mem::replace(&mut *entry.registered.write(), (id, source));
            former.uncount_instance();
            if before.timers != entry.spec().hosted.definition.timers {
                self.timers_changed.notify_one();
            }
            let entry = entry.clone();
            let has_instances = self.subscribers.note(&entry, Some(&former));
            drop(shard);
            if has_instances {
                self.note_instances_of(&entry);
            }
            return entry;
        }
        if !self.kept_keys.remove(&id) && self.registered.lock().add(&id.system) {
            self.systems_changed.send_replace(());
        }
        let actor = ActorRef::new(&id.system, &id.name);
        let entry = Arc::new(Entry::new(actor, key, id, source));
        entry.set_paused(self.pauses.is_paused(&entry.actor));
        shard.insert_unique(hash, entry.clone(), |entry| entry.actor.precomputed_hash());
        self.subscribers.note(&entry, None);
        entry
    }

    /// Notes what was spawned from a definition that binds its first topic. Reads every entry.
    fn note_instances_of(&self, definition: &Entry) {
        for entry in (0..SHARDS).filter_map(|shard| self.shard_entries(shard)).flatten() {
            if entry.actor != definition.actor && entry.definition() == definition.actor {
                self.subscribers.note_instance(&entry);
            }
        }
    }

    /// Removes an entry. Calls that wait for the entry then find no actor. Returns the members that the pool had, if it was one.
    pub(crate) fn remove(&self, entry: &Entry) -> Vec<Arc<Entry>> {
        let hash = entry.actor.precomputed_hash();
        let mut shard = self.shard(hash).write();
        let mut members = Vec::new();
        if !entry.removed.swap(true, Ordering::AcqRel) {
            entry.source().uncount_instance();
            members = self.pools.remove(entry);
            if !entry.spec().hosted.definition.timers.is_empty() {
                self.timers_changed.notify_one();
            }
            self.subscribers.note_removed(entry);
        }
        if let Ok(found) = shard.find_entry(hash, |other| other.actor == entry.actor) {
            found.remove();
            if self.registered.lock().remove(entry.actor.system()) {
                self.systems_changed.send_replace(());
            }
            if is_sparse(shard.len(), shard.capacity()) {
                let len = 2 * shard.len();
                shard.shrink_to(len, |entry| entry.actor.precomputed_hash());
            }
        }
        members
    }

    /// Keeps the key of a deleted actor, which stays counted as registered.
    pub(crate) fn keep_key(&self, key: Arc<ActorId>) {
        let system = key.system.clone();
        if self.kept_keys.add(key) && self.registered.lock().add(&system) {
            self.systems_changed.send_replace(());
        }
    }

    /// The key with which an actor that is not registered goes on: it was deleted, and rows of effects are left.
    pub(crate) fn kept_key(&self, system: &str, name: &str) -> Option<Arc<ActorId>> {
        self.kept_keys.find(system, name)
    }

    /// Removes the key of a deleted actor, if there is one.
    pub(super) fn remove_kept_key(&self, id: &ActorId) {
        if self.kept_keys.remove(id) && self.registered.lock().remove(&id.system) {
            self.systems_changed.send_replace(());
        }
    }

    /// At most `count` kept keys, without the first `skip` of them.
    pub(super) fn kept_keys_from(&self, skip: usize, count: usize) -> Vec<Arc<ActorId>> {
        self.kept_keys.some(skip, count)
    }

    /// How many entries and kept keys a system has.
    pub(crate) fn registered_in(&self, system: &str) -> usize {
        self.registered.lock().by_system.get(system).copied().unwrap_or_default()
    }

    /// The systems that have any.
    pub(crate) fn systems(&self) -> Vec<String> {
        self.registered.lock().by_system.keys().cloned().collect()
    }

    /// How many entries and kept keys there are.
    pub(crate) fn registered(&self) -> usize {
        self.registered.lock().all
    }

    /// The systems that have more than so many entries and kept keys.
    pub(crate) fn systems_above(&self, bound: usize) -> Vec<(String, usize)> {
        let registered = self.registered.lock();
        let above = registered.by_system.iter().filter(|(_, count)| **count > bound);
        above.map(|(system, count)| (system.clone(), *count)).collect()
    }

    /// Whether a host is known, and how many are.
    pub(crate) fn knows_host(&self, host: &HostAddress) -> (bool, usize) {
        let host_limits = self.host_limits.lock();
        (host_limits.by_host.contains_key(host), host_limits.by_host.len())
    }

    /// A definition with the limits of its hosts, and those limits that are new.
    pub(crate) fn hosted(&self, definition: Arc<Definition>) -> (Hosted, Vec<u32>) {
        let mut host_limits = self.host_limits.lock();
        let mut new = Vec::new();
        let all = definition.hosts.all().iter();
        let all: Vec<_> = all.map(|address| host_limits.of(address, &mut new)).collect();
        self.hosts.store(host_limits.by_host.len(), Ordering::Relaxed);
        drop(host_limits);
        let OneHost { limit, known, .. } = all.first().expect("a definition has a host").clone();
        let first = ActorRef::hash_of(&definition.id.system, &definition.id.name);
        let several = (all.len() > 1).then(|| Several::new(all, self.strategy, first).into());
        (Hosted { definition, host_limit: limit, host: known, several }, new)
    }

    /// Removes the limit of a host if no definition names the host any more. Returns whether the limit was removed. Reads every
    /// entry; called only when a host has moved.
    pub(crate) fn forget_host_limit(&self, host: &OneHost) -> bool {
        let names_it = |source| matches!(source, Source::Defined(hosted) if hosted.definition.hosts.all().contains(&host.address));
        let is_used = self
            .shards
            .iter()
            .any(|shard| shard.read().iter().any(|entry| names_it(entry.source())));
        if is_used {
            return false;
        }
        let mut host_limits = self.host_limits.lock();
        if host_limits.by_host.remove(&host.address).is_none() {
            return false;
        }
        self.hosts.store(host_limits.by_host.len(), Ordering::Relaxed);
        drop(host_limits);
        host.known.reachability.forget();
        true
    }

    /// What is known of a host that definitions name.
    pub(crate) fn known_host(&self, host: &HostAddress) -> Option<Arc<KnownHost>> {
        self.host(host).map(|host| host.known)
    }

    /// The same, with its limit.
    pub(crate) fn host(&self, address: &HostAddress) -> Option<OneHost> {
        let host_limits = self.host_limits.lock();
        let (limit, known) = host_limits.by_host.get(address)?.clone();
        Some(OneHost { limit, address: address.clone(), known })
    }

    /// Shows all known hosts, each with its limit.
    pub(crate) fn see_hosts(&self, mut see: impl FnMut(u32, &KnownHost)) {
        for (limit, known) in self.host_limits.lock().by_host.values() {
            see(*limit, known);
        }
    }

    /// The addresses of all hosts that are known, with their limits and what else is known of them.
    pub(crate) fn all_hosts(&self) -> Vec<OneHost> {
        let of = |(address, (limit, known)): (&HostAddress, &(u32, Arc<KnownHost>))| OneHost {
            limit: *limit,
            address: address.clone(),
            known: known.clone(),
        };
        self.host_limits.lock().by_host.iter().map(of).collect()
    }

    /// Returns the entries of one shard. Shards count from 0; `None` after the last.
    pub(crate) fn shard_entries(&self, shard: usize) -> Option<Vec<Arc<Entry>>> {
        Some(self.shards.get(shard)?.read().iter().cloned().collect())
    }

    /// Returns the definitions for which `is_meant`. Reads every entry.
    pub(crate) fn definitions(
        &self,
        is_meant: impl Fn(&Definition) -> bool + Copy,
    ) -> Vec<Arc<Definition>> {
        let defined = |entry: &Arc<Entry>| match entry.source() {
            Source::Defined(Hosted { definition, .. }) => {
                is_meant(&definition).then_some(definition)
            }
            Source::Spawned { .. } => None,
        };
        let of = |shard: &RwLock<HashTable<Arc<Entry>>>| -> Vec<_> {
            shard.read().iter().filter_map(defined).collect()
        };
        self.shards.iter().flat_map(of).collect()
    }

    /// Returns all actors in memory.
    pub(crate) fn all_live(&self) -> Vec<Arc<Entry>> {
        self.live.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::tests::definition;

    fn hosted(directory: &Directory, name: &str) -> (Arc<ActorId>, Source) {
        let definition = definition(name);
        let id = Arc::new(definition.id.clone());
        (id, Source::Defined(directory.hosted(definition.into()).0))
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
        directory.put(id, Source::Defined(directory.hosted(changed.into()).0));
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
    fn a_host_limit_is_kept_while_a_definition_names_its_host_and_never_given_twice() {
        let directory = Directory::new();
        let (id, Source::Defined(old)) = hosted(&directory, "joe") else { panic!("defined") };
        directory.put(id.clone(), Source::Defined(old.clone()));
        let former = old.all_hosts().pop().unwrap();
        assert!(!directory.forget_host_limit(&former));
        let elsewhere = HostAddress::new("127.0.0.1:8091");
        let definition = Definition { hosts: elsewhere.into(), ..definition("joe") };
        let (moved, _) = directory.hosted(definition.into());
        let host_limit = moved.host_limit;
        directory.put(id, Source::Defined(moved));
        assert!(directory.forget_host_limit(&former));
        let (back, new) = directory.hosted(old.definition.clone());
        assert!(
            !new.is_empty() && back.host_limit != old.host_limit && back.host_limit != host_limit
        );
    }

    #[test]
    fn what_is_removed_gives_its_memory_back() {
        let directory = Directory::new();
        let (id, source) = hosted(&directory, "template");
        let template = directory.put(id, source);
        let spawn = |number: usize| {
            let (name, system) = (format!("a{number}"), format!("s{}", number % 1_000));
            let id = ActorId { name, system, parent: "template".into() };
            let source = Source::Spawned { parent: template.clone(), revision: None };
            let entry = directory.put(id.into(), source);
            directory.live.add(&entry, true, 1);
            entry
        };
        let capacity = || {
            let shards = directory.shards.iter().map(|shard| shard.read().capacity());
            let systems = directory.registered.lock().by_system.capacity();
            shards.sum::<usize>() + systems + directory.live.capacity()
        };
        let entries: Vec<_> = (0..100_000).map(spawn).collect();
        assert_eq!((directory.registered(), directory.registered_in("s7")), (100_001, 100));
        assert!(capacity() > 200_000, "{}", capacity());
        for entry in &entries {
            directory.live.remove(entry);
            directory.remove(entry);
            directory.remove(entry);
        }
        assert_eq!((directory.registered(), directory.registered_in("s7")), (1, 0));
        assert!(capacity() < 10_000, "{}", capacity());
        let released = entries.iter().filter(|entry| Arc::strong_count(entry) == 1).count();
        assert_eq!(released, entries.len());
        spawn(0);
        assert_eq!(directory.registered(), 2);
    }
}
