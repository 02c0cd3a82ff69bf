//! Ported: a storage that uses a store through its port, like the proxy.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidegate::store::{EmbeddedStore, Options};
use tidegate::wire;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Save, StateStore};
use tidegate_stages::state::{ActorState, Any, Head};

use super::storage::{Change, STATE_URL, Storage, state, time};

/// A store and the epoch of its writes.
#[derive(Debug, Clone)]
pub struct Ported {
    store: Arc<dyn StateStore>,
    epoch: u64,
}

impl Ported {
    /// Claims the store's epoch.
    ///
    /// # Panics
    /// When that fails.
    pub async fn claim(store: Arc<dyn StateStore>) -> Ported {
        let epoch = store.claim_epoch().await.expect("an epoch");
        Ported { store, epoch }
    }
}

impl Storage for Ported {
    async fn save(&self, change: Change) {
        let Change { actor, number, version, revision, append } = change;
        let value = state(number, version);
        let state = Some(Any { type_url: STATE_URL.into(), value });
        let content = ActorState { state, ..ActorState::default() };
        let (at, epoch) = (time(version), self.epoch);
        let head =
            Head { version, revision, incarnation: 1, epoch, at, content, ..Head::default() };
        let saved = self.store.save_all(vec![Save::of_head(actor, head, append)]).await;
        saved.into_iter().collect::<Result<(), _>>().expect("it is saved");
    }

    async fn load(&self, actor: &ActorId) -> Bytes {
        let head = self.store.load(actor).await.expect("it is read").expect("a head");
        head.content.state.expect("a state").value
    }

    async fn load_revision(&self, actor: &ActorId, revision: u64) -> Bytes {
        let found = self.store.load_revision(actor, revision).await.expect("it is read");
        let found = found.expect("a revision");
        assert_eq!(found.revision, revision);
        found.content.state.expect("a state").value
    }
}

/// Opens an embedded store.
///
/// # Panics
/// When that fails.
pub async fn open_embedded(directory: &Path) -> Arc<EmbeddedStore> {
    let directory = directory.to_owned();
    let open = move || EmbeddedStore::open(&directory, Options::default(), wire::definition);
    let opened = tokio::task::spawn_blocking(open).await.expect("it does not panic");
    opened.expect("the store opens")
}
