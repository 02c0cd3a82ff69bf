//! Pools: the members of pooled actors.
//!
//! A member is made by its first call and chosen by how many calls wait for it or run. It is an actor of its own, with its own
//! mailbox and memory, that hosts and policies see under the name of the pool. It is not registered and keeps no state.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tidegate_pipeline::randomness::Seeded;
use xxhash_rust::xxh3::xxh3_64;

use crate::actor::{ActorRef, Kind};
use crate::registry::entry::Entry;

/// Most members of one pool.
const MAX_MEMBERS: u32 = 4_096;

/// How many members, from a random one on, a call may choose from.
const CHOICE: u32 = 16;

/// The members of all pools; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_name: RwLock<HashMap<ActorRef, Arc<Members>, Seeded>>,
    calls: AtomicU64,
}

/// The members of one pool that were called, by their number.
type Members = Mutex<HashMap<u32, Arc<Entry>, Seeded>>;

/// Counts a call of a member until it has run.
pub(crate) struct MemberLoad(Arc<Entry>);

impl MemberLoad {
    fn new(member: &Arc<Entry>) -> Self {
        member.pooled_calls.fetch_add(1, Ordering::Relaxed);
        Self(member.clone())
    }
}

impl Drop for MemberLoad {
    fn drop(&mut self) {
        self.0.pooled_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for MemberLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemberLoad").field(&self.0).finish()
    }
}

/// The first number of a pool's members, and how many there are. A largest number below the least one stands for what the
/// machine has: one member per core, and the least number on top.
fn numbers(min: u32, max: u32) -> (u32, u32) {
    let max = if max < min {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        min.saturating_add(u32::try_from(cores).unwrap_or(MAX_MEMBERS))
    } else {
        max
    };
    (min, (max - min).saturating_add(1).min(MAX_MEMBERS))
}

impl Pools {
    /// The member of a pool for its next call: the one with the fewest calls of some, from a random one on. `None` when the actor
    /// is no pool.
    pub(crate) fn member(&self, pool: &Arc<Entry>) -> Option<(Arc<Entry>, MemberLoad)> {
        let Kind::Pooled { min, max } = pool.spec().hosted.definition.kind else { return None };
        let (first, count) = numbers(min, max);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let random = xxh3_64(&call.to_ne_bytes()) % u64::from(count);
        let start = u32::try_from(random).expect("a remainder of a u32");
        let members = self.members_of(pool);
        let mut members = members.lock();
        if members.len() > count as usize {
            // The pool has become smaller.
            members.retain(|number, _| (first..first + count).contains(number));
        }
        let calls_of = |number: &u32| {
            let member = members.get(number);
            member.map_or(0, |member| member.pooled_calls.load(Ordering::Relaxed))
        };
        let choice = (0..count.min(CHOICE)).map(|step| first + (start + step) % count);
        let number = choice.min_by_key(calls_of).unwrap_or(first);
        let member = members.entry(number).or_insert_with(|| Arc::new(Entry::member(pool, number)));
        Some((member.clone(), MemberLoad::new(member)))
    }

    /// The member of a pool with a number; `None` when the actor is no pool.
    pub(crate) fn numbered(&self, pool: &Arc<Entry>, number: u32) -> Option<Arc<Entry>> {
        let Kind::Pooled { .. } = pool.spec().hosted.definition.kind else { return None };
        let members = self.members_of(pool);
        let mut members = members.lock();
        let member = members.entry(number).or_insert_with(|| Arc::new(Entry::member(pool, number)));
        Some(member.clone())
    }

    /// The members of a pool that were called.
    pub(crate) fn members(&self, pool: &Entry) -> Vec<Arc<Entry>> {
        let members = self.by_name.read().get(&pool.actor).cloned();
        members.map_or_else(Vec::new, |members| members.lock().values().cloned().collect())
    }

    fn members_of(&self, pool: &Arc<Entry>) -> Arc<Members> {
        if let Some(known) = self.by_name.read().get(&pool.actor) {
            return known.clone();
        }
        self.by_name.write().entry(pool.actor.clone()).or_default().clone()
    }

    /// Forgets the members of an actor that is no longer registered.
    pub(super) fn remove(&self, pool: &ActorRef) {
        if self.by_name.read().contains_key(pool) {
            self.by_name.write().remove(pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::actor::Definition;
    use crate::actor::tests::definition;
    use crate::registry::directory::Directory;
    use crate::registry::entry::Source;

    fn pool(directory: &Directory, min: u32, max: u32) -> Arc<Entry> {
        let definition = Definition { kind: Kind::Pooled { min, max }, ..definition("pool") };
        let id = Arc::new(definition.id.clone());
        directory.put(id, Source::Defined(directory.hosted(definition.into()).0))
    }

    fn parents(directory: &Directory, pool: &Arc<Entry>, calls: usize) -> BTreeSet<String> {
        let member = |_| directory.pools.member(pool).unwrap();
        let at_once: Vec<_> = (0..calls).map(member).collect();
        at_once.iter().map(|(member, _)| member.id().parent.clone()).collect()
    }

    #[test]
    fn calls_go_to_members_that_have_none_and_each_has_its_own_mailbox() {
        let directory = Directory::new();
        let entry = pool(&directory, 2, 5);
        let expected = ["pool-2", "pool-3", "pool-4", "pool-5"].map(str::to_owned).into();
        assert_eq!(parents(&directory, &entry, 4), expected);
        let (one, load) = directory.pools.member(&entry).unwrap();
        let (other, other_load) = directory.pools.member(&entry).unwrap();
        assert_eq!((&one.actor, &one.actor), (&other.actor, &entry.actor));
        assert!(one.mailbox != other.mailbox && one.mailbox != entry.mailbox);
        assert_ne!(one.key, other.key);
        drop((load, other_load));
        assert_eq!(one.pooled_calls.load(Ordering::Relaxed), 0);
        // Calls that follow each other do not all go to the first one.
        let alone: BTreeSet<_> = (0..100).flat_map(|_| parents(&directory, &entry, 1)).collect();
        assert_eq!(alone.len(), 4);
        let entry = pool(&directory, 3, 3);
        assert_eq!(parents(&directory, &entry, 9), ["pool-3".to_owned()].into());
        assert!(directory.pools.member(&directory.find("s", "pool").unwrap()).is_some());
        directory.remove(&entry);
        assert!(directory.pools.by_name.read().is_empty());
    }

    #[test]
    fn a_pool_without_a_largest_number_has_as_many_members_as_there_are_cores_and_its_least() {
        let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert_eq!(numbers(1, 0), (1, cores + 1));
        assert_eq!(numbers(0, 0), (0, 1));
        assert_eq!(numbers(0, u32::MAX), (0, MAX_MEMBERS));
    }
}
