//! Admin: opens the admin port, and closes it with the port of the API.

use std::time::Duration;

use tidegate_stages::mesh::Mesh;
use tracing::{info, warn};

use super::StartError;
use crate::config::AdminListen;
use crate::ingress::{self, Administration, Ingress, Serving, Socket};

/// The setting that says where it is.
const SETTING: &str = "TIDEGATE_ADMIN_ADDRESS";

/// Listens where the settings say. `None`: nowhere, since they say so or the default port is taken.
pub(super) async fn bind(listen: Option<AdminListen>) -> Result<Option<Socket>, StartError> {
    let Some(AdminListen { address, is_needed }) = listen else { return Ok(None) };
    match Socket::tcp(address).await {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if is_needed => Err(StartError::Bind { error, setting: SETTING }),
        Err(error) => {
            warn!("no admin port: {error}; {SETTING} says where to open it, or that it is off");
            Ok(None)
        }
    }
}

/// The servers of both ports.
#[derive(Debug)]
pub(super) struct Ports {
    api: Serving,
    admin: Option<Serving>,
}

impl Ports {
    /// Answers at the port of the API, and at the admin port if there is one.
    pub(super) fn serve(api: Socket, admin: Option<Socket>, ingress: &Ingress<Mesh>) -> Self {
        let admin = admin.map(|socket| {
            let scheme = if ingress.has_tls() { "https" } else { "http" };
            match socket.url() {
                Ok(url) => info!("admin port on {}", url.replacen("http", scheme, 1)),
                Err(error) => warn!(%error, "the address of the admin port is not known"),
            }
            Administration::serve(socket, ingress.clone())
        });
        Self { api: ingress::serve(api, ingress.clone()), admin }
    }

    /// As [`Serving::stopped`], of the port of the API.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.api.stopped()
    }

    /// As [`Serving::close`].
    pub(super) async fn close(self, limit: Duration) {
        let admin = async {
            if let Some(admin) = self.admin {
                admin.close(limit).await;
            }
        };
        tokio::join!(self.api.close(limit), admin);
    }
}
