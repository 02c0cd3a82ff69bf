//! NATS: the connections of a running proxy, and what goes over them.

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::Bound;
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::{OtherMembers, OtherSystems};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::config::Settings;
use crate::nats::{
    Carries, NatsBus, NatsCalls, NatsError, NatsListening, NatsMembers, NatsOptions, NatsServing,
};

/// The connections; they are made in the background.
#[derive(Debug, Clone)]
pub(super) struct Nats {
    calls: Option<NatsBus>,
    calls_at_once: usize,
    broadcasts: Option<(NatsBus, NatsMembers)>,
}

/// Where calls and broadcasts go beside this proxy. The default is: nowhere.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Where calls for other systems go.
    pub(super) systems: Option<Arc<dyn OtherSystems>>,
    /// Where broadcasts go.
    pub(super) members: Option<Arc<dyn OtherMembers>>,
}

impl Nats {
    /// Begins to connect, as far as anything goes over NATS: once, when calls and broadcasts have the same settings.
    pub(super) async fn connect(
        settings: &Settings,
        background: &TaskTracker,
        ended: &CancellationToken,
    ) -> Result<Self, StartError> {
        let connect = async |options: &Option<NatsOptions>, carries| match options {
            Some(options) => {
                let bus = NatsBus::start(options, carries, background, ended).await;
                bus.map(Some).map_err(|error| match error {
                    NatsError::Tls(error) => StartError::Tls(error),
                    error => StartError::Usage(error.to_string()),
                })
            }
            None => Ok(None),
        };
        let wanted = &settings.nats;
        let (calls, broadcasts) = if wanted.calls == wanted.broadcasts {
            let both = connect(&wanted.calls, Carries::Both).await?;
            (both.clone(), both)
        } else {
            let calls = connect(&wanted.calls, Carries::Calls).await?;
            (calls, connect(&wanted.broadcasts, Carries::Broadcasts).await?)
        };
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let bound = Bound {
            events: size(settings.bounds.broadcast_events),
            bytes: size(settings.bounds.broadcast_bytes),
        };
        let broadcasts = broadcasts.map(|bus| {
            let members =
                NatsMembers::start(Arc::new(bus.clone()), bound, background, ended.clone());
            (bus, members)
        });
        Ok(Self { calls, calls_at_once: settings.nats_calls, broadcasts })
    }

    /// Where calls and broadcasts go.
    pub(super) fn others(&self) -> Others {
        let systems = self.calls.clone().map(|bus| {
            let calls = NatsCalls::new(Arc::new(bus), self.calls_at_once);
            Arc::new(calls) as Arc<dyn OtherSystems>
        });
        let members = self.broadcasts.clone();
        let members = members.map(|(_, members)| Arc::new(members) as Arc<dyn OtherMembers>);
        Others { systems, members }
    }

    /// Begins to take the calls of other systems, and the broadcasts of other members.
    pub(super) fn serve(self, mesh: &Mesh) -> Taking {
        let listening = self
            .broadcasts
            .map(|(bus, members)| NatsListening::start(mesh.clone(), Arc::new(bus), &members));
        let serving = self.calls.map(|bus| {
            let at_once = self.calls_at_once;
            let serving = NatsServing::start(mesh.clone(), Arc::new(bus.clone()), at_once);
            (bus, serving)
        });
        Taking { serving, listening }
    }
}

/// What is taken: the calls of other systems, and the broadcasts of other members.
#[derive(Debug)]
pub(super) struct Taking {
    serving: Option<(NatsBus, NatsServing)>,
    listening: Option<NatsListening>,
}

impl Taking {
    /// Asks for no more calls. Broadcasts are taken until the mesh refuses them.
    pub(super) fn leave(&self) {
        if let Some((_, serving)) = &self.serving {
            serving.leave();
        }
    }

    /// Waits up to `limit` until all calls are answered, and the answers are sent.
    pub(super) async fn finish(self, limit: Duration) {
        if let Some(listening) = self.listening {
            listening.finish().await;
        }
        if let Some((bus, serving)) = self.serving {
            serving.finish(limit).await;
            bus.flush().await;
        }
    }
}
