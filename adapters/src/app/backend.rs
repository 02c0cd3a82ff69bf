//! Backend: builds the store and the mesh of a running proxy, and shuts them down.

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::Bound;
use tidegate_stages::access::CurrentPolicies;
use tidegate_stages::error::Error;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::StoreError;
use tidegate_stages::reply::Deadlines;
use tidegate_stages::rules::ChangeRules;
use tidegate_stages::topology::{self, DeadLetterBounds, Ports};
use tidegate_stages::traces::Tracer;
use tokio::time::Instant;
use tracing::warn;

use super::StartError;
use super::nats::Others;
use super::stores::{self, OpenStore, Purpose};
use crate::clock::SystemClock;
use crate::config::{Database, Settings};
use crate::host::{HttpHost, SystemConnector};
use crate::store::{EmbeddedStore, Owner, Ownership};

/// The least time for closing the store, even when the drain has used up its own time.
const CLOSING: Duration = Duration::from_secs(2);

/// Commits in flight to a database.
const CQL_COMMITS: usize = 16;

/// The mesh and its store.
#[derive(Debug)]
pub(super) struct Backend {
    mesh: Mesh,
    store: OpenStore,
}

impl Backend {
    /// Opens the store, then the mesh on it. Other proxies that meet the store's owner are told this `address`.
    pub(super) async fn open(
        settings: &Settings,
        host: HttpHost<SystemConnector>,
        (policies, others, tracer): (CurrentPolicies, Others, Tracer),
        address: String,
    ) -> Result<Self, StartError> {
        let store = stores::open(settings, Purpose::Serve).await?;
        store.note_key(&settings.vault).await?;
        store.beat_as(address);
        let clock = Arc::new(SystemClock);
        let (states, registry) = (store.states.clone(), store.registry.clone());
        let probe = Arc::new(host.clone());
        let ports = Ports { host, probe, store: states, registry, clock };
        let plan = topology::Settings {
            other_systems: others.systems,
            other_members: others.members,
            tracer,
            ..plan(settings, policies)
        };
        let mesh = topology::open(plan, ports).await;
        let mesh = mesh.map_err(|error| match error {
            Error::Store(StoreError::Fenced(epoch)) => {
                let later = store.ownership().later().cloned();
                StartError::Fenced(later.unwrap_or(Owner { epoch, address: None }))
            }
            error => anyhow::Error::from(error).into(),
        });
        Ok(Self { mesh: mesh?, store })
    }

    /// Whether this process still owns the store.
    pub(super) fn ownership(&self) -> Ownership {
        self.store.ownership()
    }

    /// A handle to the mesh, for the ingress.
    pub(super) fn mesh(&self) -> Mesh {
        self.mesh.clone()
    }

    /// The store, when it is one that the proxy backs up itself.
    pub(super) fn backed_up(&self) -> Option<Arc<EmbeddedStore>> {
        self.store.embedded()
    }

    /// Returns a check of whether the store works.
    pub(super) fn health(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        self.store.health()
    }

    /// Waits up to `limit` for the admitted calls, then closes the store.
    pub(super) async fn finish(self, limit: Duration) {
        let until = Instant::now() + limit;
        let finished = self.mesh.drain(limit.saturating_sub(CLOSING)).await;
        if !finished {
            warn!("not everything finished in time; what was acknowledged is kept");
        }
        self.store.close(until.saturating_duration_since(Instant::now()).max(CLOSING)).await;
    }
}

/// The mesh's bounds and rules, from the settings.
fn plan(settings: &Settings, policies: CurrentPolicies) -> topology::Settings {
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
        // The bound counts waiting calls and the calls that workers hold.
        admission: Bound {
            events: usize_of(bounds.admission_events) + worker_demand,
            bytes: usize_of(bounds.admission_bytes),
        },
        // No worker holds a call of a paused actor.
        for_paused: usize_of(bounds.admission_events / 8).max(1),
        full: bounds.full,
        rate_limits: settings.rate_limits,
        other_systems: None,
        other_members: None,
        policies,
        worker_demand,
        workers: cores.min(worker_demand),
        host_connections,
        host_grace: settings.host_grace,
        hosts: settings.host_rules,
        checkpoint: Bound {
            events: usize_of(bounds.checkpoint_events),
            bytes: usize_of(bounds.checkpoint_bytes),
        },
        effects: Bound {
            events: usize_of(bounds.effects_events),
            bytes: usize_of(bounds.effects_bytes),
        },
        dead_letters: DeadLetterBounds {
            all: Bound {
                events: usize_of(bounds.dead_letters),
                bytes: usize_of(bounds.dead_letters_bytes),
            },
            of_source: Bound {
                events: usize_of(bounds.dead_letters_per_source),
                bytes: usize_of(bounds.dead_letters_per_source_bytes),
            },
        },
        broadcasts: Bound {
            events: usize_of(bounds.broadcast_events),
            bytes: usize_of(bounds.broadcast_bytes),
        },
        commits_in_flight: match &settings.database {
            // A store over a network completes each write independently.
            Database::Scylla(_) => CQL_COMMITS,
            Database::Embedded | Database::Memory => 1,
        },
        deadlines: Deadlines {
            start: settings.start_limit,
            host: settings.host_limit,
            patience: settings.async_patience,
            ..Deadlines::default()
        },
        delayed_calls: settings.delayed_calls,
        topics: settings.topics.clone(),
        retries: settings.retries,
        rules,
        registry: settings.registry,
        schedules: settings.schedules,
        retention: settings.retention,
        max_live: usize_of(settings.max_live_actors),
        max_live_bytes: settings.live_bytes,
        tracer: Tracer::default(),
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
