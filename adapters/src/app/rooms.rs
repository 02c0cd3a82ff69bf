//! Rooms: builds the store and the house of a running proxy, and ends them.

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::{Bound, Full};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{Registry, StateStore, StoreError};
use tidegate_stages::reply::Deadlines;
use tidegate_stages::side_effects::ChangeRules;
use tidegate_stages::topology::{self, House, Ports};
use tokio::time::Instant;
use tracing::{error, warn};

use super::StartError;
use crate::clock::SystemClock;
use crate::config::{Database, Settings};
use crate::host::{HttpHost, SystemConnector};
use crate::store::{CqlOpenError, CqlOptions, CqlStore, EmbeddedStore, OpenError, Options};
use crate::wire;

/// The time that closing the store has at least, whatever the drain has used up.
const CLOSING: Duration = Duration::from_secs(2);

/// The house and what it stands on.
#[derive(Debug)]
pub(super) struct Rooms {
    house: House,
    store: Opened,
}

/// The store that is open.
#[derive(Debug, Clone)]
enum Opened {
    Embedded(Arc<EmbeddedStore>),
    Cql(CqlStore),
    /// States are kept in memory only.
    Memory(MemoryStore),
}

impl Opened {
    async fn open(settings: &Settings) -> Result<Self, StartError> {
        match &settings.database {
            Database::Embedded => open_embedded(settings).await.map(Self::Embedded),
            Database::Scylla(options) => open_cql(options).await.map(Self::Cql),
            Database::Memory => {
                warn!("PROXY_DATABASE_TYPE=memory: every state is lost when the proxy ends");
                Ok(Self::Memory(MemoryStore::new()))
            }
        }
    }

    fn ports(&self) -> (Arc<dyn StateStore>, Arc<dyn Registry>) {
        match self {
            Self::Embedded(store) => (store.clone(), store.clone()),
            Self::Cql(store) => (Arc::new(store.clone()), Arc::new(store.clone())),
            Self::Memory(store) => (Arc::new(store.clone()), Arc::new(store.clone())),
        }
    }

    fn is_healthy(&self) -> bool {
        match self {
            Self::Embedded(store) => store.is_healthy(),
            Self::Cql(store) => store.is_healthy(),
            Self::Memory(_) => true,
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.close().await,
            Self::Cql(store) => store.close().await,
            Self::Memory(_) => Ok(()),
        }
    }
}

impl Rooms {
    /// Opens the store, then the house on it.
    pub(super) async fn open(
        settings: &Settings,
        host: HttpHost<SystemConnector>,
    ) -> Result<Self, StartError> {
        let opened = Opened::open(settings).await?;
        let (store, registry) = opened.ports();
        let clock = Arc::new(SystemClock);
        let house = House::open(plan(settings), Ports { host, store, registry, clock }).await;
        Ok(Self { house: house.map_err(anyhow::Error::from)?, store: opened })
    }

    /// The house, as the door calls it.
    pub(super) fn house(&self) -> House {
        self.house.clone()
    }

    /// Whether what the house stands on works, for readiness.
    pub(super) fn health(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let store = self.store.clone();
        move || store.is_healthy()
    }

    /// Lets what was admitted finish within `limit`, then closes the store.
    pub(super) async fn finish(self, limit: Duration) {
        let until = Instant::now() + limit;
        let finished = self.house.drain(limit.saturating_sub(CLOSING)).await;
        if !finished {
            warn!("not everything finished in time; what was acknowledged is kept");
        }
        let left = until.saturating_duration_since(Instant::now()).max(CLOSING);
        match tokio::time::timeout(left, self.store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "the store was not closed in order"),
            Err(_) => error!("the store was not closed in time"),
        }
    }
}

/// Connects to the database.
async fn open_cql(options: &CqlOptions) -> Result<CqlStore, StartError> {
    let opened = CqlStore::open(options, Arc::new(SystemClock), wire::definition).await;
    opened.map_err(|error| match error {
        CqlOpenError::Newer { .. } => StartError::Format(error.to_string()),
        _ => StartError::Database(error.to_string()),
    })
}

/// Opens the data directory; that reads its journals, so it runs beside the runtime's workers.
async fn open_embedded(settings: &Settings) -> Result<Arc<EmbeddedStore>, StartError> {
    let dir = settings.data_dir.clone();
    let options = Options {
        queue_bytes: usize_of(settings.bounds.checkpoint_bytes),
        vault: settings.vault.clone(),
        ..Options::default()
    };
    let opened =
        tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir, options, wire::definition));
    opened.await.map_err(anyhow::Error::from)?.map_err(|error| match error {
        OpenError::Newer { .. } | OpenError::Damaged(_) | OpenError::Stranger { .. } => {
            StartError::Format(error.to_string())
        }
        _ => StartError::DataDirectory(format!(
            "{error}; TIDEGATE_DATA_DIR says where states are kept"
        )),
    })
}

/// The house's bounds and rules, as set.
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
        door: Bound {
            events: usize_of(bounds.door_events) + worker_demand,
            bytes: usize_of(bounds.door_bytes),
        },
        full: Full::Shed,
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
        deadlines: Deadlines {
            start: settings.start_limit,
            host: settings.host_limit,
            ..Deadlines::default()
        },
        rules,
        max_live: usize_of(settings.max_live_actors),
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
