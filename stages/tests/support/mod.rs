//! A mesh with a scripted host and a store that fails on command.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_stages::actor::{ActorId, Channel, Definition, Encoding, HostAddress, Kind};
use tidegate_stages::error::Error;
use tidegate_stages::history::Interval;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Invocation, Payload, Registration, Spawn,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{Clock, HostError, HostProbe, StateStore};
use tidegate_stages::rules::ChangeRules;
use tidegate_stages::state::{Any, Tags, Timestamp};
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::testkit::faulty::FaultyStore;
use tidegate_stages::topology::{self, Ports, Settings};
use tower::util::BoxCloneSyncService;

pub type Answer = Result<ActorInvocationResponse, HostError>;
pub type BoxedHost = BoxCloneSyncService<ActorInvocation, ActorInvocationResponse, HostError>;

/// A host that runs a function.
pub fn host<F, R>(function: F) -> BoxedHost
where
    F: Fn(ActorInvocation) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    BoxCloneSyncService::new(tower::service_fn(function))
}

/// A counter: adds one to its state and returns the new count.
pub fn counter() -> BoxedHost {
    host(|invocation| async move { Ok(counted(&invocation)) })
}

pub fn counted(invocation: &ActorInvocation) -> ActorInvocationResponse {
    let count = number(invocation.state.as_ref()) + 1;
    ActorInvocationResponse {
        state: Some(any(count)),
        payload: Payload::Value(any(count)),
        ..ActorInvocationResponse::default()
    }
}

pub fn any(number: u64) -> Any {
    Any { type_url: "test/count".into(), value: Bytes::from(number.to_string()) }
}

pub fn number(state: Option<&Any>) -> u64 {
    state.map_or(0, |any| std::str::from_utf8(&any.value).unwrap().parse().unwrap())
}

pub fn answered(payload: Payload) -> u64 {
    match payload {
        Payload::Value(any) => number(Some(&any)),
        other => panic!("expected a value, got {other:?}"),
    }
}

pub struct World {
    pub mesh: Mesh,
    pub store: Arc<FaultyStore>,
    pub memory: MemoryStore,
    pub clock: Arc<SetClock>,
}

pub async fn world(host: BoxedHost) -> World {
    world_with(host, Settings::default(), MemoryStore::new()).await
}

pub async fn world_with(host: BoxedHost, settings: Settings, memory: MemoryStore) -> World {
    world_of((host, Arc::new(())), settings, memory).await
}

/// The same with a probe of the host.
pub async fn world_of(
    (host, probe): (BoxedHost, Arc<dyn HostProbe>),
    settings: Settings,
    memory: MemoryStore,
) -> World {
    let store = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
    let clock = Arc::new(SetClock::at(Timestamp(1_000_000_000_000)));
    let ports = Ports {
        host,
        probe,
        store: store.clone() as Arc<dyn StateStore>,
        registry: Arc::new(memory.clone()),
        clock: clock.clone(),
    };
    let mesh = topology::open(settings, ports).await.unwrap();
    World { mesh, store, memory, clock }
}

/// The default settings with changed rules.
pub fn rules(change: impl FnOnce(&mut ChangeRules)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings.rules);
    settings
}

/// The counts in an actor's history, oldest first.
pub async fn history(world: &World, name: &str) -> Vec<u64> {
    let all = world.memory.load_by_interval(&id(name), Interval::ALL, 100);
    all.await
        .unwrap()
        .items
        .iter()
        .map(|revision| number(revision.content.state.as_ref()))
        .collect()
}

pub fn definition(name: &str) -> Definition {
    Definition {
        id: id(name),
        hosts: HostAddress::new("127.0.0.1:8090").into(),
        kind: Kind::Named,
        stateful: true,
        snapshot_every: None,
        deactivate_after: None,
        actions: ["add", "other", "slow"].map(String::from).to_vec(),
        timers: Vec::new(),
        // Without metadata, nothing is warmed up unless a test asks for it.
        channels: None,
        initial_state: None,
        initial_tags: Tags::new(),
        retired: false,
        encoding: Encoding::Protobuf,
        raw: Bytes::new(),
    }
}

pub fn warmed(name: &str) -> Definition {
    Definition { channels: Some(Vec::<Channel>::new()), ..definition(name) }
}

pub fn id(name: &str) -> ActorId {
    ActorId { name: name.into(), system: "s".into(), parent: String::new() }
}

pub fn stored_id(name: &str, parent: &str) -> ActorId {
    ActorId { parent: parent.into(), ..id(name) }
}

pub fn call(name: &str, action: &str) -> Invocation {
    Invocation { actor: id(name), action: action.into(), ..Invocation::default() }
}

impl World {
    pub async fn register(&self, definitions: Vec<Definition>) -> Result<(), Error> {
        let host = HostAddress::new("127.0.0.1:8090");
        self.mesh.register(Registration { system: "s".into(), host, definitions }).await
    }

    pub async fn spawn(&self, name: &str, parent: &str) -> Result<(), Error> {
        self.mesh.spawn(Spawn { actors: vec![stored_id(name, parent)], revision: None }).await
    }

    pub async fn add(&self, name: &str) -> Result<u64, Error> {
        self.mesh.invoke(call(name, "add")).await.map(answered)
    }

    /// Starts a call in the background.
    #[allow(clippy::disallowed_methods, reason = "the test awaits or aborts it")]
    pub fn start(&self, invocation: Invocation) -> tokio::task::JoinHandle<Result<Payload, Error>> {
        let mesh = self.mesh.clone();
        tokio::task::spawn(async move { mesh.invoke(invocation).await })
    }

    pub async fn head(&self, name: &str) -> Option<tidegate_stages::state::Head> {
        self.memory.load(&id(name)).await.unwrap()
    }
}

/// Yields until everything has run that needs no passing time.
pub async fn until_idle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub async fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the condition never became true");
}

/// xorshift64*: seeded, so that a failure can be reproduced.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// A call that is due after so many seconds.
pub fn later(world: &World, name: &str, seconds: u64) -> Invocation {
    let at_ms = world.clock.now().0 / 1_000 + seconds * 1_000;
    Invocation { scheduled_to: i64::try_from(at_ms).unwrap(), ..call(name, "add") }
}

/// Lets time pass, on both clocks.
pub async fn pass(world: &World, seconds: u64) {
    for _ in 0..seconds * 10 {
        world.clock.advance(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
