//! Workload: concurrent workers, each with one change or one read in flight, over 10,000 actors.
//!
//! Only one worker changes an actor, so the order of its changes is known and every read can be checked.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_stages::actor::ActorId;
use tokio::task::JoinSet;

use super::storage::{Change, Storage, identity, version_in};
use crate::counter::mix;

/// Actors that are changed and read.
pub const ACTORS: u64 = 10_000;
/// Number of actors whose revisions are all read at the end.
const COUNTED: u64 = 500;

/// One actor, and its saved version and revision.
#[derive(Debug)]
struct Kept {
    actor: Arc<ActorId>,
    version: AtomicU64,
    revision: AtomicU64,
}

/// A storage, and the changes that it has saved.
#[derive(Debug)]
pub struct Workload<K> {
    storage: K,
    kept: Vec<Kept>,
    /// Gives each round another order.
    rounds: AtomicU64,
}

/// Converts a number to an index.
fn place(number: u64) -> usize {
    usize::try_from(number).expect("one of the actors")
}

impl<K: Storage> Workload<K> {
    /// Gives each actor a head and a revision.
    ///
    /// # Panics
    /// When the storage fails.
    pub async fn gather(storage: K) -> Arc<Workload<K>> {
        let nobody = |number| Kept {
            actor: identity(number),
            version: AtomicU64::new(0),
            revision: AtomicU64::new(0),
        };
        let kept = (0..ACTORS).map(nobody).collect();
        let workload = Arc::new(Workload { storage, kept, rounds: AtomicU64::new(0) });
        let mut workers = JoinSet::new();
        for worker in 0..64 {
            let workload = Arc::clone(&workload);
            workers.spawn(async move {
                for actor in (worker..ACTORS).step_by(64) {
                    workload.save(actor, true).await;
                }
            });
        }
        workers.join_all().await;
        workload
    }

    async fn save(&self, actor: u64, append: bool) {
        let kept = &self.kept[place(actor)];
        let version = kept.version.load(Ordering::Relaxed) + 1;
        let revision = kept.revision.load(Ordering::Relaxed) + u64::from(append);
        let change =
            Change { actor: Arc::clone(&kept.actor), number: actor, version, revision, append };
        self.storage.save(change).await;
        // No other worker changes this actor.
        kept.version.store(version, Ordering::Relaxed);
        kept.revision.store(revision, Ordering::Relaxed);
    }

    async fn load(&self, actor: u64) {
        let kept = &self.kept[place(actor)];
        let found = version_in(actor, &self.storage.load(&kept.actor).await);
        assert_eq!(found, kept.version.load(Ordering::Relaxed), "the newest state of {actor}");
    }

    async fn load_revision(&self, actor: u64, random: u64) {
        let kept = &self.kept[place(actor)];
        let newest = kept.revision.load(Ordering::Relaxed);
        let revision = 1 + random % newest;
        let found = self.storage.load_revision(&kept.actor, revision).await;
        let version = version_in(actor, &found);
        let newest_version = kept.version.load(Ordering::Relaxed);
        assert!((revision..=newest_version).contains(&version), "revision {revision} of {actor}");
    }

    /// Changes actors at random.
    ///
    /// # Panics
    /// When the storage fails.
    pub async fn save_at_random(self: Arc<Self>, workers: u64, saves: u64, append: bool) {
        let act =
            move |workload: Arc<Self>, actor, _| async move { workload.save(actor, append).await };
        self.keep_busy(workers, saves, act).await;
    }

    /// Reads the newest states of actors at random.
    ///
    /// # Panics
    /// When a state is not the last saved one.
    pub async fn load_at_random(self: Arc<Self>, workers: u64, loads: u64) {
        let act = |workload: Arc<Self>, actor, _| async move { workload.load(actor).await };
        self.keep_busy(workers, loads, act).await;
    }

    /// Reads revisions at random.
    ///
    /// # Panics
    /// When a revision is not the appended one.
    pub async fn load_revisions_at_random(self: Arc<Self>, workers: u64, loads: u64) {
        let act = |workload: Arc<Self>, actor, random| async move {
            workload.load_revision(actor, random).await;
        };
        self.keep_busy(workers, loads, act).await;
    }

    async fn keep_busy<F: Future<Output = ()> + Send>(
        self: Arc<Self>,
        workers: u64,
        operations: u64,
        act: impl Fn(Arc<Self>, u64, u64) -> F + Copy + Send + Sync + 'static,
    ) {
        let round = mix(self.rounds.fetch_add(1, Ordering::Relaxed));
        let mut busy = JoinSet::new();
        for worker in 0..workers.min(operations) {
            let workload = Arc::clone(&self);
            let turns = operations / workers + u64::from(worker < operations % workers);
            let own = (ACTORS - worker).div_ceil(workers);
            busy.spawn(async move {
                for turn in 0..turns {
                    let random = mix(round ^ mix(worker) ^ turn);
                    let actor = worker + workers * (random % own);
                    act(Arc::clone(&workload), actor, mix(random)).await;
                }
            });
        }
        busy.join_all().await;
    }

    /// Reads the head of each actor, and all revisions of some actors.
    ///
    /// # Panics
    /// When something is missing.
    pub async fn verify(self: Arc<Self>) {
        let mut workers = JoinSet::new();
        for worker in 0..64 {
            let workload = Arc::clone(&self);
            workers.spawn(async move {
                for actor in (worker..ACTORS).step_by(64) {
                    workload.load(actor).await;
                    if actor % (ACTORS / COUNTED) == 0 {
                        workload.verify_revisions(actor).await;
                    }
                }
            });
        }
        workers.join_all().await;
    }

    async fn verify_revisions(&self, actor: u64) {
        let (kept, mut last) = (&self.kept[place(actor)], 0);
        for revision in 1..=kept.revision.load(Ordering::Relaxed) {
            let found = self.storage.load_revision(&kept.actor, revision).await;
            let version = version_in(actor, &found);
            assert!(last < version, "revision {revision} of actor {actor}");
            last = version;
        }
    }

    /// Drops the storage and opens another on the same content.
    pub async fn reopen<L, F: Future<Output = L>>(self, open: impl FnOnce() -> F) -> Workload<L> {
        let Workload { storage, kept, rounds } = self;
        drop(storage);
        Workload { storage: open().await, kept, rounds }
    }
}
