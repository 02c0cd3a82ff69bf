//! Backend: builds the store and the mesh of a running proxy, and ends them.

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::Bound;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::reply::Deadlines;
use tidegate_stages::rules::ChangeRules;
use tidegate_stages::topology::{self, Ports};
use tokio::time::Instant;
use tracing::warn;

use super::StartError;
use super::stores::{self, OpenStore, Purpose};
use crate::clock::SystemClock;
use crate::config::{Database, Settings};
use crate::host::{HttpHost, SystemConnector};

/// The time that closing the store has at least, whatever the drain has used up.
const CLOSING: Duration = Duration::from_secs(2);

/// Commits that a database has in hand at once.
const CQL_COMMITS: usize = 16;

/// The mesh and what it stands on.
#[derive(Debug)]
pub(super) struct Backend {
    mesh: Mesh,
    store: OpenStore,
}

impl Backend {
    /// Opens the store, then the mesh on it.
    pub(super) async fn open(
        settings: &Settings,
        host: HttpHost<SystemConnector>,
    ) -> Result<Self, StartError> {
        let store = stores::open(settings, Purpose::Serve).await?;
        store.note_key(&settings.vault).await?;
        let clock = Arc::new(SystemClock);
        let (states, registry) = (store.states.clone(), store.registry.clone());
        let ports = Ports { host, store: states, registry, clock };
        let mesh = topology::open(plan(settings), ports).await;
        Ok(Self { mesh: mesh.map_err(anyhow::Error::from)?, store })
    }

    /// The mesh, as the ingress calls it.
    pub(super) fn mesh(&self) -> Mesh {
        self.mesh.clone()
    }

    /// Whether what the mesh stands on works, for readiness.
    pub(super) fn health(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        self.store.health()
    }

    /// Lets what was admitted finish within `limit`, then closes the store.
    pub(super) async fn finish(self, limit: Duration) {
        let until = Instant::now() + limit;
        let finished = self.mesh.drain(limit.saturating_sub(CLOSING)).await;
        if !finished {
            warn!("not everything finished in time; what was acknowledged is kept");
        }
        self.store.close(until.saturating_duration_since(Instant::now()).max(CLOSING)).await;
    }
}

/// The mesh's bounds and rules, as set.
fn plan(settings: &Settings) -> topology::Settings {
    let bounds = settings.bounds;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let host_connections = usize_of(settings.host_connections.into());
    let worker_demand =
        settings.max_demand.map_or(host_connections, |demand| usize_of(demand.into()));
    let rules = ChangeRules {
        durability: settings.durability,
        revisions: settings.revisions,
        empty_tags: settings.empty_tags,
        max_state_bytes: usize_of(settings.max_state_bytes),
        ..ChangeRules::default()
    };
    topology::Settings {
        // What waits comes on top of what workers have in hand.
        admission: Bound {
            events: usize_of(bounds.door_events) + worker_demand,
            bytes: usize_of(bounds.door_bytes),
        },
        full: bounds.full,
        rate_limits: settings.rate_limits,
        worker_demand,
        workers: cores.min(worker_demand),
        host_connections,
        checkpoint: Bound {
            events: usize_of(bounds.checkpoint_events),
            bytes: usize_of(bounds.checkpoint_bytes),
        },
        effects: Bound {
            events: usize_of(bounds.effects_events),
            bytes: usize_of(bounds.door_bytes),
        },
        commits_in_flight: match &settings.database {
            // A store over a network answers each write in its own time.
            Database::Scylla(_) => CQL_COMMITS,
            Database::Embedded | Database::Memory => 1,
        },
        deadlines: Deadlines {
            start: settings.start_limit,
            host: settings.host_limit,
            ..Deadlines::default()
        },
        retries: settings.retries,
        rules,
        retention: settings.retention,
        max_live: usize_of(settings.max_live_actors),
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
