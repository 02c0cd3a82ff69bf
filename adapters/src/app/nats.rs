//! NATS: the connection of a running proxy, and the calls of actor systems over it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::OtherSystems;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::config::Settings;
use crate::nats::{NatsBus, NatsCalls, NatsError, NatsServing};

/// The connection; it is made in the background.
#[derive(Debug, Clone)]
pub(super) struct Nats {
    bus: NatsBus,
    calls_at_once: usize,
}

impl Nats {
    /// Begins to connect, if calls go over NATS.
    pub(super) async fn connect(
        settings: &Settings,
        background: &TaskTracker,
        ended: &CancellationToken,
    ) -> Result<Option<Self>, StartError> {
        let Some(options) = &settings.nats else { return Ok(None) };
        let bus = NatsBus::start(options, background, ended).await;
        let bus = bus.map_err(|error| match error {
            NatsError::Tls(error) => StartError::Tls(error),
            error => StartError::Usage(error.to_string()),
        })?;
        Ok(Some(Self { bus, calls_at_once: options.calls_at_once }))
    }

    /// Where calls for other systems go.
    pub(super) fn other_systems(&self) -> Arc<dyn OtherSystems> {
        Arc::new(NatsCalls::new(Arc::new(self.bus.clone()), self.calls_at_once))
    }

    /// Begins to take the calls of other systems.
    pub(super) fn serve(&self, mesh: Mesh) -> Taking {
        let serving = NatsServing::start(mesh, Arc::new(self.bus.clone()), self.calls_at_once);
        Taking(Some((self.bus.clone(), serving)))
    }
}

/// The calls of other systems that are taken. The default takes none.
#[derive(Debug, Default)]
pub(super) struct Taking(Option<(NatsBus, NatsServing)>);

impl Taking {
    /// Asks for no more calls.
    pub(super) fn leave(&self) {
        if let Some((_, serving)) = &self.0 {
            serving.leave();
        }
    }

    /// Waits up to `limit` until all calls are answered, and the answers are sent.
    pub(super) async fn finish(self, limit: Duration) {
        if let Some((bus, serving)) = self.0 {
            serving.finish(limit).await;
            bus.flush().await;
        }
    }
}
