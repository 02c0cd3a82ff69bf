//! Stores: opens the store that the settings name, for the proxy and for what works beside a stopped one.

use std::sync::Arc;
use std::time::Duration;

use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{Registry, StateStore};
use tracing::{error, warn};

use super::StartError;
use crate::config::{Database, Settings};
use crate::store::{EmbeddedStore, OpenError, Options};
use crate::wire;

/// A store that is open; ended by [`close`](Self::close).
#[derive(Debug)]
pub(crate) struct OpenStore {
    /// Its states.
    pub(crate) states: Arc<dyn StateStore>,
    /// Its registrations.
    pub(crate) registry: Arc<dyn Registry>,
    kind: Kind,
}

/// Which store it is: what the ports do not tell.
#[derive(Debug)]
enum Kind {
    Embedded(Arc<EmbeddedStore>),
    Memory,
}

/// Opens the store that the settings name.
///
/// # Errors
/// When it cannot be used; nothing was written then.
pub(crate) async fn open(settings: &Settings) -> Result<OpenStore, StartError> {
    match &settings.database {
        Database::Embedded => {
            let store = open_embedded(settings).await?;
            Ok(OpenStore {
                states: store.clone(),
                registry: store.clone(),
                kind: Kind::Embedded(store),
            })
        }
        Database::Scylla(_) => {
            Err(anyhow::anyhow!("PROXY_DATABASE_TYPE=scylla is not built yet").into())
        }
        Database::Memory => {
            warn!("PROXY_DATABASE_TYPE=memory: every state is lost when the proxy ends");
            let store = MemoryStore::new();
            Ok(OpenStore {
                states: Arc::new(store.clone()),
                registry: Arc::new(store),
                kind: Kind::Memory,
            })
        }
    }
}

impl OpenStore {
    /// Whether it works, for readiness.
    pub(crate) fn health(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let embedded = match &self.kind {
            Kind::Embedded(store) => Some(store.clone()),
            Kind::Memory => None,
        };
        move || embedded.as_ref().is_none_or(|store| store.is_healthy())
    }

    /// Writes what waits and closes it, within `limit`.
    pub(crate) async fn close(self, limit: Duration) {
        match self.kind {
            Kind::Embedded(store) => match tokio::time::timeout(limit, store.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!(%error, "the store was not closed in order"),
                Err(_) => error!("the store was not closed in time"),
            },
            Kind::Memory => {}
        }
    }
}

/// Opens the data directory; that reads its journals, so it runs beside the runtime's workers.
async fn open_embedded(settings: &Settings) -> Result<Arc<EmbeddedStore>, StartError> {
    let dir = settings.data_dir.clone();
    let options = Options {
        queue_bytes: usize::try_from(settings.bounds.checkpoint_bytes).unwrap_or(usize::MAX),
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
