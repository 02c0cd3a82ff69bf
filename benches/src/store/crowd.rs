//! Crowd: concurrent workers, each with one change or one read in flight, over 10,000 actors.
//!
//! Only one worker changes an actor, so the order of its changes is known and every read can be checked.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_stages::actor::ActorId;
use tokio::task::JoinSet;

use super::keeper::{Change, Keeper, identity, version_in};
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

/// A keeper, and the changes that it has saved.
#[derive(Debug)]
pub struct Crowd<K> {
    keeper: K,
    kept: Vec<Kept>,
    /// Gives each round another order.
    rounds: AtomicU64,
}

/// Converts a number to an index.
fn place(number: u64) -> usize {
    usize::try_from(number).expect("one of the actors")
}

impl<K: Keeper> Crowd<K> {
    /// Gives each actor a head and a revision.
    ///
    /// # Panics
    /// When the keeper fails.
    pub async fn gather(keeper: K) -> Arc<Crowd<K>> {
        let nobody = |number| Kept {
            actor: identity(number),
            version: AtomicU64::new(0),
            revision: AtomicU64::new(0),
        };
        let kept = (0..ACTORS).map(nobody).collect();
        let crowd = Arc::new(Crowd { keeper, kept, rounds: AtomicU64::new(0) });
        let mut hands = JoinSet::new();
        for hand in 0..64 {
            let crowd = Arc::clone(&crowd);
            hands.spawn(async move {
                for actor in (hand..ACTORS).step_by(64) {
                    crowd.save(actor, true).await;
                }
            });
        }
        hands.join_all().await;
        crowd
    }

    async fn save(&self, actor: u64, append: bool) {
        let kept = &self.kept[place(actor)];
        let version = kept.version.load(Ordering::Relaxed) + 1;
        let revision = kept.revision.load(Ordering::Relaxed) + u64::from(append);
        let change =
            Change { actor: Arc::clone(&kept.actor), number: actor, version, revision, append };
        self.keeper.save(change).await;
        // No other worker changes this actor.
        kept.version.store(version, Ordering::Relaxed);
        kept.revision.store(revision, Ordering::Relaxed);
    }

    async fn load(&self, actor: u64) {
        let kept = &self.kept[place(actor)];
        let found = version_in(actor, &self.keeper.load(&kept.actor).await);
        assert_eq!(found, kept.version.load(Ordering::Relaxed), "the newest state of {actor}");
    }

    async fn load_revision(&self, actor: u64, luck: u64) {
        let kept = &self.kept[place(actor)];
        let newest = kept.revision.load(Ordering::Relaxed);
        let revision = 1 + luck % newest;
        let found = self.keeper.load_revision(&kept.actor, revision).await;
        let version = version_in(actor, &found);
        let newest_version = kept.version.load(Ordering::Relaxed);
        assert!((revision..=newest_version).contains(&version), "revision {revision} of {actor}");
    }

    /// Changes actors at random.
    ///
    /// # Panics
    /// When the keeper fails.
    pub async fn save_at_random(self: Arc<Self>, hands: u64, saves: u64, append: bool) {
        let act = move |crowd: Arc<Self>, actor, _| async move { crowd.save(actor, append).await };
        self.keep_busy(hands, saves, act).await;
    }

    /// Reads the newest states of actors at random.
    ///
    /// # Panics
    /// When a state is not the last saved one.
    pub async fn load_at_random(self: Arc<Self>, hands: u64, loads: u64) {
        let act = |crowd: Arc<Self>, actor, _| async move { crowd.load(actor).await };
        self.keep_busy(hands, loads, act).await;
    }

    /// Reads revisions at random.
    ///
    /// # Panics
    /// When a revision is not the appended one.
    pub async fn load_revisions_at_random(self: Arc<Self>, hands: u64, loads: u64) {
        let act = |crowd: Arc<Self>, actor, luck| async move {
            crowd.load_revision(actor, luck).await;
        };
        self.keep_busy(hands, loads, act).await;
    }

    async fn keep_busy<F: Future<Output = ()> + Send>(
        self: Arc<Self>,
        hands: u64,
        operations: u64,
        act: impl Fn(Arc<Self>, u64, u64) -> F + Copy + Send + Sync + 'static,
    ) {
        let round = mix(self.rounds.fetch_add(1, Ordering::Relaxed));
        let mut busy = JoinSet::new();
        for hand in 0..hands.min(operations) {
            let crowd = Arc::clone(&self);
            let turns = operations / hands + u64::from(hand < operations % hands);
            let own = (ACTORS - hand).div_ceil(hands);
            busy.spawn(async move {
                for turn in 0..turns {
                    let luck = mix(round ^ mix(hand) ^ turn);
                    let actor = hand + hands * (luck % own);
                    act(Arc::clone(&crowd), actor, mix(luck)).await;
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
        let mut hands = JoinSet::new();
        for hand in 0..64 {
            let crowd = Arc::clone(&self);
            hands.spawn(async move {
                for actor in (hand..ACTORS).step_by(64) {
                    crowd.load(actor).await;
                    if actor % (ACTORS / COUNTED) == 0 {
                        crowd.verify_revisions(actor).await;
                    }
                }
            });
        }
        hands.join_all().await;
    }

    async fn verify_revisions(&self, actor: u64) {
        let (kept, mut last) = (&self.kept[place(actor)], 0);
        for revision in 1..=kept.revision.load(Ordering::Relaxed) {
            let found = self.keeper.load_revision(&kept.actor, revision).await;
            let version = version_in(actor, &found);
            assert!(last < version, "revision {revision} of actor {actor}");
            last = version;
        }
    }

    /// Drops the keeper and opens another on the same content.
    pub async fn reopen<L, F: Future<Output = L>>(self, open: impl FnOnce() -> F) -> Crowd<L> {
        let Crowd { keeper, kept, rounds } = self;
        drop(keeper);
        Crowd { keeper: open().await, kept, rounds }
    }
}
