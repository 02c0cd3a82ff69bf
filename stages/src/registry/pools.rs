//! Pools: the members of pooled actors.
//!
//! A member is made by its first call and chosen by how many calls wait for it or run. It is an actor of its own, with its own
//! mailbox and memory, that hosts and policies see under the name of the pool. It is not registered and keeps no state.
//!
//! A member that its pool has no more is [dismissed](Entry::dismiss): its timers end, calls that wait for it still run, and
//! another call of the same number makes a new member.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tidegate_pipeline::randomness::Seeded;
use xxhash_rust::xxh3::xxh3_64;

use crate::actor::{ActorRef, Definition, Kind};
use crate::registry::entry::{Entry, Hosted};

/// Most members of one pool.
const MAX_MEMBERS: u32 = 4_096;

/// How many members, from a random one on, a call may choose from.
const CHOICE: u32 = 16;

/// The members of all pools; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_name: RwLock<HashMap<ActorRef, Mutex<Members>, Seeded>>,
    calls: AtomicU64,
}

/// The members of one pool that were called, by their number. Those that were dismissed stay while they are
/// [kept](is_kept).
type Members = HashMap<u32, Arc<Entry>, Seeded>;

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

/// The first number of a pool's members as it is registered now, and how many there are. `None` when the actor is no pool.
fn size(pool: &Entry) -> Option<(u32, u32)> {
    match pool.with_hosted(|hosted| hosted.definition.kind) {
        Kind::Pooled { min, max } if !pool.is_removed() => Some(numbers(min, max)),
        _ => None,
    }
}

/// The member of a pool with a number, made when there is none.
fn numbered_of<'a>(members: &'a mut Members, pool: &Arc<Entry>, number: u32) -> &'a Arc<Entry> {
    let new = || Arc::new(Entry::member(pool, number));
    let member = members.entry(number).or_insert_with(new);
    if member.is_dismissed() {
        let next = new();
        // Both have the same mailbox.
        next.set_paused(member.is_paused());
        *member = next;
    }
    member
}

/// Whether a pool's table has a member. A dismissed member stays while it is paused or calls of it wait or run: through the
/// table a pause of the pool, a cancellation and whoever looks for stuck turns find its mailbox.
fn is_kept(member: &Entry) -> bool {
    !member.is_dismissed() || member.is_paused() || member.pooled_calls.load(Ordering::Relaxed) > 0
}

/// Dismisses the members whose numbers a pool does not keep: they have `definition` from now on, without timers and without a
/// state. Returns these members.
fn dismiss(
    members: &mut Members,
    definition: impl Fn() -> Hosted,
    keeps: impl Fn(u32) -> bool,
) -> Vec<Arc<Entry>> {
    let mut alone = None;
    let mut dismissed = Vec::new();
    members.retain(|number, member| {
        if keeps(*number) {
            return true;
        }
        if !member.is_dismissed() {
            member.dismiss(alone.get_or_insert_with(|| without_timers(definition())).clone());
            dismissed.push(member.clone());
        }
        is_kept(member)
    });
    dismissed
}

/// A definition without timers and without a state, which is what the calls need that wait for dismissed members.
fn without_timers(hosted: Hosted) -> Hosted {
    let definition = Definition::clone(&hosted.definition);
    let definition = Definition { stateful: false, timers: Vec::new(), ..definition };
    Hosted { definition: Arc::new(definition), ..hosted }
}

impl Pools {
    /// The member of a pool for its next call: the one with the fewest calls of some, from a random one on. `None` when the actor
    /// is no pool.
    pub(crate) fn member(&self, pool: &Arc<Entry>) -> Option<(Arc<Entry>, MemberLoad)> {
        self.with_members(pool, |members, (first, count)| {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let random = xxh3_64(&call.to_ne_bytes()) % u64::from(count);
            let start = u32::try_from(random).expect("a remainder of a u32");
            let calls_of = |number: &u32| {
                let member = members.get(number);
                member.map_or(0, |member| member.pooled_calls.load(Ordering::Relaxed))
            };
            let choice = (0..count.min(CHOICE)).map(|step| first + (start + step) % count);
            let number = choice.min_by_key(calls_of).unwrap_or(first);
            let member = numbered_of(members, pool, number);
            (member.clone(), MemberLoad::new(member))
        })
    }

    /// The member of a pool with a number; `None` when the actor is no pool.
    pub(crate) fn numbered(&self, pool: &Arc<Entry>, number: u32) -> Option<Arc<Entry>> {
        self.with_members(pool, |members, _| numbered_of(members, pool, number).clone())
    }

    /// The members of a pool that were called, and former ones that are [kept](is_kept).
    pub(crate) fn members(&self, pool: &ActorRef) -> Vec<Arc<Entry>> {
        self.each_member(pool, |_| {})
    }

    /// Notes of these [members](Self::members) whether they are paused, before another one gets the number of one of them.
    /// Returns them.
    pub(crate) fn set_paused(&self, pool: &ActorRef, is_paused: bool) -> Vec<Arc<Entry>> {
        self.each_member(pool, |member| member.set_paused(is_paused))
    }

    fn each_member(&self, pool: &ActorRef, act: impl Fn(&Entry)) -> Vec<Arc<Entry>> {
        let by_name = self.by_name.read();
        let Some(members) = by_name.get(pool) else { return Vec::new() };
        let mut members = members.lock();
        members.retain(|_, member| is_kept(member));
        members.values().inspect(|member| act(member)).cloned().collect()
    }

    /// Does something with the members of a pool, and with its [size]. `None` when the actor is no pool.
    fn with_members<R>(
        &self,
        pool: &Entry,
        act: impl FnOnce(&mut Members, (u32, u32)) -> R,
    ) -> Option<R> {
        let is_pool = |hosted: &Hosted| matches!(hosted.definition.kind, Kind::Pooled { .. });
        if pool.is_removed() || !pool.with_hosted(is_pool) {
            return None;
        }
        loop {
            if let Some(members) = self.by_name.read().get(&pool.actor) {
                let mut members = members.lock();
                // Read under the lock: whoever dismisses members takes it after the pool has changed.
                return size(pool).map(|size| act(&mut members, size));
            }
            self.by_name.write().entry(pool.actor.clone()).or_default();
        }
    }

    /// The names of pools that have, or had, members which were called.
    pub(super) fn names(&self) -> Vec<ActorRef> {
        self.by_name.read().keys().cloned().collect()
    }

    /// Dismisses the members that a pool, as it is registered now, has no more. Returns these members.
    pub(super) fn fit(&self, pool: &Entry) -> Vec<Arc<Entry>> {
        let by_name = self.by_name.read();
        let Some(members) = by_name.get(&pool.actor) else { return Vec::new() };
        let mut members = members.lock();
        let size = size(pool);
        let definition = || pool.spec().hosted;
        dismiss(&mut members, definition, |number| {
            size.is_some_and(|(first, count)| {
                (first..first.saturating_add(count)).contains(&number)
            })
        })
    }

    /// Forgets the dismissed members of an actor that are not [kept](is_kept), and its table when that is empty then.
    pub(super) fn tidy(&self, pool: &ActorRef) {
        let mut by_name = self.by_name.write();
        let Some(members) = by_name.get_mut(pool) else { return };
        let members = members.get_mut();
        members.retain(|_, member| is_kept(member));
        if members.is_empty() {
            by_name.remove(pool);
        }
    }

    /// Dismisses all members of an actor that is deleted. Returns these members.
    pub(super) fn remove(&self, pool: &Entry) -> Vec<Arc<Entry>> {
        self.dismiss_all(pool, || pool.spec().hosted)
    }

    /// Dismisses all members of a pool that is about to be no pool, but `next`. Returns these members.
    pub(super) fn end(&self, pool: &Entry, next: &Hosted) -> Vec<Arc<Entry>> {
        self.dismiss_all(pool, || next.clone())
    }

    fn dismiss_all(&self, pool: &Entry, definition: impl Fn() -> Hosted) -> Vec<Arc<Entry>> {
        if !self.by_name.read().contains_key(&pool.actor) {
            return Vec::new();
        }
        let mut by_name = self.by_name.write();
        let Some(members) = by_name.get_mut(&pool.actor) else { return Vec::new() };
        let members = members.get_mut();
        let dismissed = dismiss(members, definition, |_| false);
        if members.is_empty() {
            by_name.remove(&pool.actor);
        }
        dismissed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
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
    fn a_member_that_its_pool_has_no_more_is_dismissed_and_another_one_has_its_number() {
        let directory = Directory::new();
        let entry = pool(&directory, 1, 3);
        let numbered = |number| directory.pools.numbered(&entry, number).unwrap();
        let (kept, former) = (numbered(1), numbered(3));
        pool(&directory, 1, 2);
        let dismissed = directory.pools.fit(&entry);
        assert!(dismissed.len() == 1 && Arc::ptr_eq(&dismissed[0], &former));
        assert!(former.is_dismissed() && !kept.is_dismissed());
        assert!(former.spec().hosted.definition.timers.is_empty());
        assert!(directory.pools.fit(&entry).is_empty(), "each is dismissed once");
        pool(&directory, 1, 3);
        let again = numbered(3);
        assert!(!Arc::ptr_eq(&again, &former) && again.mailbox == former.mailbox);

        // The end of a pause has to find its mailbox.
        let set_paused = |is_paused| directory.pools.set_paused(&entry.actor, is_paused).len();
        assert_eq!((set_paused(true), again.is_paused()), (2, true));
        kept.set_paused(false);
        assert_eq!(directory.pools.remove(&entry).len(), 2);
        let names = || directory.pools.members(&entry.actor);
        assert!(names().len() == 1 && Arc::ptr_eq(&names()[0], &again));
        let last = numbered(3);
        assert!(!last.is_dismissed() && last.is_paused(), "their mailbox is paused");
        assert_eq!((set_paused(false), last.is_paused()), (1, false));
        pool(&directory, 1, 1);
        assert_eq!(directory.pools.fit(&entry).len(), 1);
        assert!(names().is_empty());
        directory.remove(&entry);
        assert!(directory.pools.member(&entry).is_none());
    }

    #[test]
    fn a_dismissed_member_is_listed_until_its_calls_have_run() {
        let directory = Directory::new();
        let entry = pool(&directory, 1, 1);
        let (former, load) = directory.pools.member(&entry).unwrap();
        pool(&directory, 2, 2);
        assert_eq!(directory.pools.fit(&entry).len(), 1);
        let names = || directory.pools.members(&entry.actor);
        assert!(names().len() == 1 && Arc::ptr_eq(&names()[0], &former));
        drop(load);
        assert!(names().is_empty());

        // The same of a deleted pool, of which nothing is left then.
        let (_, load) = directory.pools.member(&entry).unwrap();
        assert_eq!(directory.remove(&entry).len(), 1);
        directory.pools.tidy(&entry.actor);
        assert_eq!(names().len(), 1);
        drop(load);
        directory.pools.tidy(&entry.actor);
        assert!(directory.pools.by_name.read().is_empty());
    }

    #[test]
    fn members_of_a_pool_that_gets_a_state_have_the_next_definition_without_it() {
        let directory = Directory::new();
        let entry = pool(&directory, 1, 1);
        let member = directory.pools.numbered(&entry, 1).unwrap();
        let (next, _) = directory.hosted(definition("pool").into());
        assert!(next.definition.stateful);
        assert_eq!(directory.pools.end(&entry, &next).len(), 1);
        let hosted = member.spec().hosted;
        assert_eq!((hosted.definition.kind, hosted.definition.stateful), (Kind::Named, false));
        assert_eq!(hosted.host_limit, next.host_limit);
    }

    #[test]
    fn a_pool_without_a_largest_number_has_as_many_members_as_there_are_cores_and_its_least() {
        let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert_eq!(numbers(1, 0), (1, cores + 1));
        assert_eq!(numbers(0, 0), (0, 1));
        assert_eq!(numbers(0, u32::MAX), (0, MAX_MEMBERS));
    }
}
