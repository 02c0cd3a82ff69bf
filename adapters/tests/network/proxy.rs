//! Proxy: the whole proxy on a simulated machine; its ingress records the start and the end of calls.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use tidegate::audit::Audit;
use tidegate::host::{HostOptions, HttpHost};
use tidegate::ingress::{Auth, Calls, Hosts, Ingress, Lifecycle, Limits, Parts, Trust, serve};
use tidegate::wire::json::Types;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::error::Error;
use tidegate_stages::history::{Interval, Page};
use tidegate_stages::history_reader::StateAt;
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{Broadcast, Invocation, Payload, Reached, Registration, Spawn};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::{Announced, HostView, Mesh, ScheduleAsk, ScheduleTold};
use tidegate_stages::reply::Deadlines;
use tidegate_stages::state::{ActorState, Checkpoint, Revision, Timestamp};
use tidegate_stages::testkit::faulty::FaultyStore;
use tidegate_stages::topology::{self, Ports, Settings};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turmoil::net::TcpListener;

use crate::call::id_of;
use crate::facts::Facts;
use crate::wires::{ACTORS_ADDRESS, ProxyListener, SimulatedClock, Wire};

/// Short, so that a simulation is: every one of them is reached.
pub(crate) const DEADLINES: Deadlines = Deadlines {
    start: Duration::from_secs(1),
    host: Duration::from_millis(700),
    commit: Duration::from_millis(300),
    patience: Duration::from_secs(1),
};
/// How long connecting to a host may take.
pub(crate) const CONNECT_TIME: Duration = Duration::from_millis(150);
/// How long a connection to a host may wait for its next call.
pub(crate) const MAX_IDLE: Duration = Duration::from_millis(400);

/// How long writing to the store takes at most; a crash loses what is being written.
const WRITE_TIME: Duration = Duration::from_millis(10);

/// All simulated machines.
const NETWORK: &str = "192.168.0.0/16";

const LIMITS: Limits = Limits {
    connections: 64,
    peer_connections: None,
    head_bytes: 65_536,
    body_bytes: 65_536,
    bodies_bytes: 1 << 20,
    registered: 100,
    answers_bytes: 1 << 20,
    state_bytes: 4 << 10,
    head_time: Duration::from_secs(10),
    body_time: Duration::from_secs(30),
    idle_time: Duration::from_secs(75),
    write_time: Duration::from_secs(30),
};

/// The machine's software. What is in `disk` outlives a crash.
pub(crate) async fn run(facts: Arc<Facts>, disk: MemoryStore) -> turmoil::Result {
    let options = HostOptions {
        connect_time: CONNECT_TIME,
        max_idle: MAX_IDLE,
        connections: 16,
        body_bytes: 65_536,
        bodies_bytes: 1 << 20,
    };
    let host = HttpHost::new(Wire, options);
    let background = TaskTracker::new();
    background.spawn(host.clone().trim(CancellationToken::new()));
    let store = Arc::new(FaultyStore::new(Arc::new(disk.clone())));
    store.slow_writes(WRITE_TIME);
    facts.begin_life(&store);
    background.spawn(write_in_turns(store.clone()));
    let (probe, clock) = (Arc::new(host.clone()), Arc::new(SimulatedClock));
    let ports = Ports { host, probe, store, registry: Arc::new(disk), clock };
    let settings = Settings { deadlines: DEADLINES, ..Settings::default() };
    let mesh = topology::open(settings, ports).await?;
    let ingress = Ingress::new(Parts {
        limits: LIMITS,
        tls: None,
        hosts: Hosts::Sidecar(HostAddress::new(ACTORS_ADDRESS)),
        trust: Trust { peers: vec![NETWORK.parse()?], ..Trust::default() },
        auth: Auth::default(),
        audit: Audit::on_log(),
        lifecycle: Lifecycle::default(),
        reloads: Vec::new(),
        types: Types::default(),
        scrape: None,
    });
    ingress.open(Watched { mesh, facts }, || true);
    let _serving = serve(ProxyListener(TcpListener::bind("0.0.0.0:9001").await?), ingress);
    // It ends in a crash, or with the simulation.
    pending().await
}

/// Writes what has gathered, again and again.
async fn write_in_turns(store: Arc<FaultyStore>) {
    loop {
        store.hold_saves();
        sleep(WRITE_TIME).await;
        store.release_saves();
    }
}

/// A mesh whose invocations are noted.
#[derive(Clone)]
struct Watched {
    mesh: Mesh,
    facts: Arc<Facts>,
}

impl Calls for Watched {
    fn register(&self, it: Registration) -> impl Future<Output = Result<(), Error>> + Send {
        self.mesh.register(it)
    }

    fn spawn(&self, spawn: Spawn) -> impl Future<Output = Result<(), Error>> + Send {
        self.mesh.spawn(spawn)
    }

    type Announced = Announced;

    fn announce(&self, client: &Identity, system: &str) -> Result<Announced, Error> {
        self.mesh.announce(client, system)
    }

    async fn invoke(&self, invocation: Box<Invocation>, it: Announced) -> Result<Payload, Error> {
        // Noted in the same turn in which the mesh lets it in, so in the same order.
        let stay = id_of(&invocation.payload).map(|id| self.facts.admit(id));
        let answer = self.mesh.invoke_announced(invocation, it).await;
        if let Some(stay) = stay {
            stay.answered();
        }
        answer
    }

    async fn publish(
        &self,
        client: Identity,
        system: &str,
        broadcast: Broadcast,
        traceparent: String,
        announced: Announced,
    ) -> Result<Reached, Error> {
        let stay = id_of(&broadcast.payload).map(|id| self.facts.admit(id.cause()));
        let answer = self.mesh.publish(client, system, broadcast, traceparent, announced).await;
        if let Some(stay) = stay {
            stay.answered();
        }
        answer
    }

    fn ask_schedule(
        &self,
        client: Identity,
        ask: ScheduleAsk,
    ) -> impl Future<Output = Result<ScheduleTold, Error>> + Send {
        self.mesh.ask_schedule(client, ask)
    }

    fn state(
        &self,
        client: &Identity,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<ActorState, Error>> + Send {
        self.mesh.state_for(client, system, name)
    }

    fn delete(&self, system: &str, name: &str) -> impl Future<Output = Result<(), Error>> + Send {
        self.mesh.delete(system, name)
    }

    fn hosts(&self, system: &str) -> Vec<HostView> {
        self.mesh.hosts(system)
    }

    fn drain_host(
        &self,
        system: &str,
        host: &HostAddress,
    ) -> impl Future<Output = Result<usize, Error>> + Send {
        self.mesh.drain_host(system, host)
    }

    fn revisions(
        &self,
        system: &str,
        name: &str,
        interval: Interval,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Revision>, Error>> + Send {
        self.mesh.revisions(system, name, interval, limit)
    }

    fn revision(
        &self,
        system: &str,
        name: &str,
        number: u64,
    ) -> impl Future<Output = Result<Revision, Error>> + Send {
        self.mesh.revision(system, name, number)
    }

    fn state_at(
        &self,
        system: &str,
        name: &str,
        at: Timestamp,
    ) -> impl Future<Output = Result<StateAt, Error>> + Send {
        self.mesh.state_at(system, name, at)
    }

    fn latest(
        &self,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<Revision, Error>> + Send {
        self.mesh.latest(system, name)
    }

    fn checkpoint(
        &self,
        system: &str,
        name: &str,
    ) -> impl Future<Output = Result<Checkpoint, Error>> + Send {
        self.mesh.checkpoint(system, name)
    }

    fn restore(
        &self,
        system: &str,
        name: &str,
        number: u64,
    ) -> impl Future<Output = Result<Checkpoint, Error>> + Send {
        self.mesh.restore(system, name, number)
    }
}
