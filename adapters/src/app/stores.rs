//! Stores: opens the store that the settings name, for the proxy and for commands that run while the proxy is stopped.

use std::sync::Arc;
use std::time::Duration;

use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{Clock, Registry, StateStore};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::StartError;
use crate::clock::SystemClock;
use crate::config::{Database, Settings};
use crate::offline;
use crate::store::{
    Access, CqlOptions, EmbeddedStore, KeyError, Notes, OpenError, Options, Ownership, SYNCED,
    Vault,
};
#[cfg(feature = "scylla")]
use crate::store::{CqlOpenError, CqlStore};
use crate::wire;

/// How long the close may take when a check fails after the store was opened.
pub(crate) const CLOSING: Duration = Duration::from_secs(10);

/// The end of an error: the setting to check.
const WHERE: &str = "; TIDEGATE_DATA_DIR says where states are kept";

/// An open store; [`close`](Self::close) closes it.
#[derive(Debug)]
pub(crate) struct OpenStore {
    /// Its states.
    pub(crate) states: Arc<dyn StateStore>,
    /// Its registrations.
    pub(crate) registry: Arc<dyn Registry>,
    /// The store's notes about itself. `None`: the store ends with the process.
    pub(crate) notes: Option<Arc<dyn Notes>>,
    kind: Kind,
}

/// Why a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To serve calls.
    Serve,
    /// To import into it. An unfinished import of an earlier run is allowed.
    Import,
    /// To give up an unfinished import.
    GiveUp,
    /// To seal its states again.
    Reseal,
    /// To read only.
    Read,
}

impl Purpose {
    fn access(self) -> Access {
        match self {
            Self::Serve | Self::Import => Access::Create,
            Self::GiveUp | Self::Reseal => Access::Write,
            Self::Read => Access::Read,
        }
    }
}

/// The concrete store, for operations that the ports do not have.
#[derive(Debug, Clone)]
enum Kind {
    Embedded(Arc<EmbeddedStore>),
    #[cfg(feature = "scylla")]
    Cql(CqlStore),
    Memory,
}

/// Opens the store that the settings name and checks its keys. Call [`note_key`](OpenStore::note_key) before the first sealed
/// write.
///
/// # Errors
/// When the store cannot be used; then nothing was written.
pub(crate) async fn open(settings: &Settings, purpose: Purpose) -> Result<OpenStore, StartError> {
    if !SYNCED {
        warn!(
            "this build does not sync what it writes: a crash of the machine loses acknowledged states"
        );
    }
    let store = connect(settings, purpose.access()).await?;
    let checked = async {
        check(&store, &settings.vault, purpose).await?;
        let may_claim = purpose == Purpose::Serve && settings.take_over;
        if may_claim || purpose == Purpose::Read { Ok(()) } else { store.check_unowned().await }
    };
    match checked.await {
        Ok(()) => {
            if purpose == Purpose::Serve
                && let Database::Scylla(options) = &settings.database
            {
                for concern in store.concerns(options, &SystemClock).await {
                    warn!("{concern}");
                }
            }
            Ok(store)
        }
        Err(error) => {
            store.close(CLOSING).await;
            Err(error)
        }
    }
}

async fn check(store: &OpenStore, vault: &Vault, purpose: Purpose) -> Result<(), StartError> {
    let Some(notes) = store.notes.as_deref() else { return Ok(()) };
    if !matches!(purpose, Purpose::Import | Purpose::GiveUp)
        && offline::is_unfinished(notes).await.map_err(anyhow::Error::from)?
    {
        let text = "an import into this store was not finished: run `tidegate import` again with the same file, or \
                    `tidegate import --give-up` to go on with what is there";
        return Err(StartError::Format(text.into()));
    }
    crate::store::check(notes, vault).await?;
    Ok(())
}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Damaged(_) => Self::Format(error.to_string()),
            KeyError::Store(error) => anyhow::Error::from(error).into(),
            error => Self::Key(error),
        }
    }
}

async fn connect(settings: &Settings, access: Access) -> Result<OpenStore, StartError> {
    match &settings.database {
        Database::Embedded => {
            let store = open_embedded(settings, access).await?;
            Ok(OpenStore {
                states: store.clone(),
                registry: store.clone(),
                notes: Some(store.clone()),
                kind: Kind::Embedded(store),
            })
        }
        #[cfg(not(feature = "scylla"))]
        Database::Scylla(_) => Err(StartError::Usage("this build has no CQL store".into())),
        #[cfg(feature = "scylla")]
        Database::Scylla(options) => {
            let store = open_cql(options, access).await?;
            Ok(OpenStore {
                states: Arc::new(store.clone()),
                registry: Arc::new(store.clone()),
                notes: Some(Arc::new(store.clone())),
                kind: Kind::Cql(store),
            })
        }
        Database::Memory => {
            warn!("PROXY_DATABASE_TYPE=memory: every state is lost when the proxy ends");
            let store = MemoryStore::new();
            Ok(OpenStore {
                states: Arc::new(store.clone()),
                registry: Arc::new(store),
                notes: None,
                kind: Kind::Memory,
            })
        }
    }
}

impl OpenStore {
    /// Writes to the notes which key seals from now on, and logs how states are kept.
    ///
    /// # Errors
    /// When the configured keys are not the keys of the store, or the store fails.
    pub(crate) async fn note_key(&self, vault: &Vault) -> Result<(), StartError> {
        let Some(notes) = self.notes.as_deref() else { return Ok(()) };
        crate::store::note_current(notes, vault).await?;
        match vault.keys() {
            0 => info!("states are kept in the clear: SPAWN_STATESTORE_KEY is not set"),
            keys => info!(old_keys = keys - 1, "states are sealed at rest"),
        }
        Ok(())
    }

    /// The store, when it is the embedded one.
    pub(crate) fn embedded(&self) -> Option<Arc<EmbeddedStore>> {
        match &self.kind {
            Kind::Embedded(store) => Some(store.clone()),
            #[cfg(feature = "scylla")]
            Kind::Cql(_) => None,
            Kind::Memory => None,
        }
    }

    /// Returns an error if another proxy lives on the same database. The embedded store is locked instead.
    #[cfg_attr(
        not(feature = "scylla"),
        expect(clippy::unused_async, reason = "this build has no such store")
    )]
    async fn check_unowned(&self) -> Result<(), StartError> {
        match &self.kind {
            #[cfg(feature = "scylla")]
            Kind::Cql(store) => match store.living_owner().await.map_err(anyhow::Error::from)? {
                Some(owner) => Err(StartError::Owned(owner)),
                None => Ok(()),
            },
            Kind::Embedded(_) | Kind::Memory => Ok(()),
        }
    }

    /// Says that this proxy lives, and where, from its claim to its end.
    #[cfg_attr(
        not(feature = "scylla"),
        expect(
            unused_variables,
            clippy::needless_pass_by_value,
            reason = "this build has no such store"
        )
    )]
    pub(crate) fn beat_as(&self, address: String) {
        match &self.kind {
            #[cfg(feature = "scylla")]
            Kind::Cql(store) => store.beat_as(address),
            Kind::Embedded(_) | Kind::Memory => {}
        }
    }

    /// Whether this process still owns the store.
    pub(crate) fn ownership(&self) -> Ownership {
        match &self.kind {
            #[cfg(feature = "scylla")]
            Kind::Cql(store) => store.ownership(),
            // No other process opens it meanwhile.
            Kind::Embedded(_) | Kind::Memory => Ownership::default(),
        }
    }

    /// Returns what is to be changed at the database so that nothing acknowledged is lost, and why.
    #[cfg_attr(
        not(feature = "scylla"),
        expect(unused_variables, clippy::unused_async, reason = "this build has no such store")
    )]
    pub(crate) async fn concerns(&self, options: &CqlOptions, clock: &dyn Clock) -> Vec<String> {
        match &self.kind {
            #[cfg(feature = "scylla")]
            Kind::Cql(store) => store.concerns(options, clock).await,
            Kind::Embedded(_) | Kind::Memory => Vec::new(),
        }
    }

    /// Returns a check of whether the store works.
    pub(crate) fn health(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let kind = self.kind.clone();
        move || match &kind {
            Kind::Embedded(store) => store.is_healthy(),
            #[cfg(feature = "scylla")]
            Kind::Cql(store) => store.is_healthy(),
            Kind::Memory => true,
        }
    }

    /// Writes the waiting changes and closes the store, within `limit`.
    pub(crate) async fn close(self, limit: Duration) {
        let closing = async {
            match &self.kind {
                Kind::Embedded(store) => store.close().await,
                #[cfg(feature = "scylla")]
                Kind::Cql(store) => store.close().await,
                Kind::Memory => Ok(()),
            }
        };
        match timeout(limit, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "the store was not closed in order"),
            Err(_) => error!("the store was not closed in time"),
        }
    }
}

/// Connects to the database.
#[cfg(feature = "scylla")]
async fn open_cql(options: &CqlOptions, access: Access) -> Result<CqlStore, StartError> {
    let opened = CqlStore::open_to(access, options, Arc::new(SystemClock), wire::definition).await;
    opened.map_err(|error| match error {
        CqlOpenError::Missing { .. } => StartError::NoStore(error.to_string()),
        CqlOpenError::Newer { .. } | CqlOpenError::Older { .. } => {
            StartError::Format(error.to_string())
        }
        _ => StartError::Database(error.to_string()),
    })
}

/// Opens the data directory. This reads journals, so it runs on a blocking thread.
async fn open_embedded(
    settings: &Settings,
    access: Access,
) -> Result<Arc<EmbeddedStore>, StartError> {
    let dir = settings.data_dir.clone();
    let options = Options {
        queue_bytes: usize::try_from(settings.bounds.checkpoint_bytes).unwrap_or(usize::MAX),
        files: settings.store_files,
        vault: settings.vault.clone(),
        ..Options::default().within(settings.bounds.store_bytes)
    };
    let opened = tokio::task::spawn_blocking(move || {
        EmbeddedStore::open_to(access, &dir, options, wire::definition)
    });
    opened.await.map_err(anyhow::Error::from)?.map_err(|error| not_opened(&error, WHERE))
}

/// Why a directory cannot be used, as an error of the command. `hint` is appended to an error of the directory as such.
pub(crate) fn not_opened(error: &OpenError, hint: &str) -> StartError {
    match error {
        OpenError::Newer { .. }
        | OpenError::Older { .. }
        | OpenError::Damaged(_)
        | OpenError::UnknownEntry { .. } => StartError::Format(error.to_string()),
        OpenError::Missing { .. } | OpenError::NoBackup { .. } => {
            StartError::NoStore(format!("{error}{hint}"))
        }
        _ => StartError::DataDirectory(format!("{error}{hint}")),
    }
}
