//! World: a complete mesh of counters in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidegate::clock::SystemClock;
use tidegate::proto::eigr::functions::protocol::RegistrationRequest;
use tidegate::proto::eigr::functions::protocol::actors::{
    Action, Actor, ActorId as WireId, ActorSettings, ActorSnapshotStrategy, ActorState,
    ActorSystem, Kind, Registry as WireRegistry, TimeoutStrategy, actor_snapshot_strategy,
};
use tidegate::store::{EmbeddedStore, Options};
use tidegate::wire;
use tidegate_stages::access::Policies;
use tidegate_stages::actor::{ActorId, HostAddress};
use tidegate_stages::invocation::{Invocation, Payload, Registration, Spawn};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Clock, Registry, StateStore};
use tidegate_stages::rules::{ChangeRules, Durability};
use tidegate_stages::topology::{self, Ports, Settings};

use crate::callers::call_at_random;
use crate::counter::{ACTION, CounterHost, EMIT, count_in, name, value, value_in};
use crate::forgetful::Forgetful;

const SYSTEM: &str = "benches";
const TEMPLATE: &str = "counter";
/// How long a mesh may take to finish.
const DRAIN_LIMIT: Duration = Duration::from_mins(1);
/// Actors per spawn request.
const SPAWNED_TOGETHER: u64 = 1000;

/// Where states are kept.
#[derive(Debug, Clone)]
pub enum Keep {
    /// In this process.
    Memory(MemoryStore),
    /// In a directory.
    Embedded(PathBuf),
    /// Nowhere.
    Nowhere,
}

/// A running mesh, and the number of calls to its actors.
#[derive(Debug)]
pub struct World {
    mesh: Mesh,
    embedded: Option<Arc<EmbeddedStore>>,
    actors: u64,
    calls: AtomicU64,
}

impl World {
    /// Opens a mesh with one template, for this many actors that were or will be [spawned](Self::spawn).
    ///
    /// # Panics
    /// When the mesh does not open.
    pub async fn open(keep: Keep, durability: Durability, actors: u64) -> Arc<World> {
        Self::guarded(keep, durability, actors, Policies::default()).await
    }

    /// The same, with access policies.
    ///
    /// # Panics
    /// When the mesh does not open.
    pub async fn guarded(
        keep: Keep,
        durability: Durability,
        actors: u64,
        policies: Policies,
    ) -> Arc<World> {
        Self::timed(keep, durability, actors, policies, Arc::new(SystemClock)).await
    }

    /// The same, with a clock of its own.
    ///
    /// # Panics
    /// When the mesh does not open.
    pub async fn timed(
        keep: Keep,
        durability: Durability,
        actors: u64,
        policies: Policies,
        clock: Arc<dyn Clock>,
    ) -> Arc<World> {
        let embedded = match &keep {
            Keep::Embedded(directory) => Some(open_store(directory).await),
            Keep::Memory(_) | Keep::Nowhere => None,
        };
        let (store, registry): (Arc<dyn StateStore>, Arc<dyn Registry>) = match (&keep, &embedded) {
            (Keep::Memory(memory), _) => (Arc::new(memory.clone()), Arc::new(memory.clone())),
            (_, Some(embedded)) => (embedded.clone(), embedded.clone()),
            (_, None) => (Arc::new(Forgetful), Arc::new(Forgetful)),
        };
        let rules = ChangeRules { durability, ..ChangeRules::default() };
        let settings = Settings { rules, ..Settings::default() };
        settings.policies.replace(policies);
        let probe = Arc::new(());
        let ports = Ports { host: CounterHost, probe, store, registry, clock };
        let mesh = topology::open(settings, ports).await.expect("the mesh opens");
        mesh.register(registration()).await.expect("the template is registered");
        Arc::new(World { mesh, embedded, actors, calls: AtomicU64::new(0) })
    }

    /// Spawns the actors; none of them is in memory yet.
    ///
    /// # Panics
    /// When they cannot be spawned.
    pub async fn spawn(&self) {
        for first in (0..self.actors).step_by(usize::try_from(SPAWNED_TOGETHER).expect("small")) {
            let some = first..self.actors.min(first + SPAWNED_TOGETHER);
            let spawn = Spawn { actors: some.map(identity).collect(), revision: None };
            self.mesh.spawn(spawn).await.expect("the actors are spawned");
        }
    }

    /// Calls an actor and returns its new count.
    ///
    /// # Panics
    /// When the call fails.
    pub async fn call(&self, actor: u64) -> u64 {
        let answer = self.mesh.invoke(self.invocation(actor, ACTION)).await.expect("an answer");
        self.calls.fetch_add(1, Ordering::Relaxed);
        value_in(&answer)
    }

    /// Calls an actor that calls another one by a side effect. Both count.
    ///
    /// # Panics
    /// When the call fails.
    pub async fn emit(&self, actor: u64, target: u64) -> u64 {
        let payload = Payload::Value(value(target));
        let emit = Invocation { payload, ..self.invocation(actor, EMIT) };
        let answer = self.mesh.invoke(emit).await.expect("an answer");
        self.calls.fetch_add(2, Ordering::Relaxed);
        value_in(&answer)
    }

    /// Has an actor called at a later time, in milliseconds since 1970. Returns when that is stored.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn call_later(&self, actor: u64, at_ms: u64) {
        let invocation = Invocation {
            scheduled_to: i64::try_from(at_ms).expect("a time of today"),
            ..self.invocation(actor, ACTION)
        };
        self.mesh.invoke(invocation).await.expect("it is stored");
    }

    /// Asks an actor for its count: a turn without the host and without a write.
    ///
    /// # Panics
    /// When the call fails.
    pub async fn get(&self, actor: u64) {
        self.mesh.invoke(self.invocation(actor, "get")).await.expect("an answer");
    }

    fn invocation(&self, actor: u64, action: &str) -> Invocation {
        assert!(actor < self.actors, "one of the actors");
        Invocation {
            actor: ActorId { parent: String::new(), ..identity(actor) },
            action: action.into(),
            payload: Payload::Value(value(actor)),
            ..Invocation::default()
        }
    }

    /// Calls actors from [64 tasks](crate::callers).
    pub async fn call_at_random(self: Arc<World>, calls: u64) {
        let actors = self.actors;
        call_at_random(actors, calls, move |actor| {
            let world = Arc::clone(&self);
            async move { world.call(actor).await }
        })
        .await;
    }

    /// Waits for all calls and closes the store.
    ///
    /// # Panics
    /// When the actors have not counted every call of this world exactly once, or do not finish in time.
    pub async fn close(self: Arc<World>) {
        self.finish(true).await;
    }

    /// Like [`close`](Self::close), for a world whose actors had counts before.
    ///
    /// # Panics
    /// When the actors do not finish in time.
    pub async fn leave(self: Arc<World>) {
        self.finish(false).await;
    }

    async fn finish(self: Arc<World>, counted: bool) {
        if counted {
            assert_eq!(self.counted().await, self.calls(), "calls that were counted");
        }
        assert!(self.mesh.drain(DRAIN_LIMIT).await, "the mesh finishes in time");
        let world = Arc::into_inner(self).expect("nobody else has it");
        let Some(store) = world.embedded else { return };
        store.close().await.expect("the store closes");
    }

    /// Successful calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn counted(&self) -> u64 {
        self.counted_of(0..self.actors).await
    }

    /// The sum of the counts of these actors.
    ///
    /// # Panics
    /// When a state cannot be read.
    pub async fn counted_of(&self, actors: std::ops::Range<u64>) -> u64 {
        let mut counted = 0;
        for actor in actors {
            match self.mesh.state(SYSTEM, &name(actor)).await {
                Ok(held) => counted += count_in(actor, held.state.as_ref()),
                // A short round does not call every actor.
                Err(error) => assert!(error.to_string().contains("has no state"), "{error}"),
            }
        }
        counted
    }
}

/// Reads the sum of the actors' counts from a closed directory.
///
/// # Panics
/// When the directory cannot be read.
pub async fn counted_on_disk(directory: &Path, actors: u64) -> u64 {
    let store = open_store(directory).await;
    let mut counted = 0;
    for actor in 0..actors {
        let head = StateStore::load(&*store, &identity(actor)).await.expect("it is read");
        counted += head.map_or(0, |head| count_in(actor, head.content.state.as_ref()));
    }
    store.close().await.expect("the store closes");
    counted
}

async fn open_store(directory: &Path) -> Arc<EmbeddedStore> {
    let directory = directory.to_owned();
    let open = move || EmbeddedStore::open(&directory, Options::default(), wire::definition);
    let opened = tokio::task::spawn_blocking(open).await.expect("it does not panic");
    opened.expect("the store opens")
}

fn identity(actor: u64) -> ActorId {
    ActorId { name: name(actor), system: SYSTEM.into(), parent: TEMPLATE.into() }
}

/// A registration as a host sends it: a template of stateful actors with a snapshot every ten seconds.
fn registration() -> Registration {
    let timeout = TimeoutStrategy { timeout: 10_000 };
    let snapshots = ActorSnapshotStrategy {
        strategy: Some(actor_snapshot_strategy::Strategy::Timeout(timeout)),
    };
    let template = Actor {
        id: Some(WireId { name: TEMPLATE.into(), system: SYSTEM.into(), ..WireId::default() }),
        state: Some(ActorState::default()),
        settings: Some(ActorSettings {
            kind: Kind::Unnamed.into(),
            stateful: true,
            snapshot_strategy: Some(snapshots),
            ..ActorSettings::default()
        }),
        actions: [ACTION, EMIT].map(|name| Action { name: name.into() }).into(),
        ..Actor::default()
    };
    let registry = WireRegistry { actors: [(TEMPLATE.into(), template)].into() };
    let request = RegistrationRequest {
        service_info: Some(tidegate::proto::eigr::functions::protocol::ServiceInfo::default()),
        actor_system: Some(ActorSystem { name: SYSTEM.into(), registry: Some(registry) }),
    };
    let body = Bytes::from(request.encode_to_vec());
    let host = HostAddress::new("127.0.0.1:8090");
    wire::registration(body, &host, usize::MAX).expect("a registration")
}
