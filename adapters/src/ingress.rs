//! Ingress: the HTTP server. Requests come in, responses go out.
//!
//! [`serve()`] accepts connections of any [`Listener`] and hands each request to an [`Ingress`]. The ingress finds the route,
//! reads the body within limits, calls the mesh through [`Calls`] and returns the response. Every failure has a status, a text
//! and an encoded body; all three are made in [`http`]. When a client disconnects, the future of its request is dropped, and so
//! is the mesh's future of that call.

#![warn(clippy::indexing_slicing, reason = "bytes from outside are read here")]

pub mod lifecycle;
mod listener;
mod progress;
mod pace;
mod places;
mod spare;
mod http2;
mod serve;
mod route;
mod head;
mod body;
mod cancelled;
mod sending;
mod taken;
mod mesh;
mod allowed;
mod answer;
mod administration;
mod admin;
mod trust;
mod cors;
mod auth;
pub(crate) mod history;
mod backup;
mod effects;
mod channels;
mod hosts;
mod json;
mod names;
pub(crate) mod query;
mod schedules;
pub(crate) mod control;
pub(crate) mod hot;
mod log_level;
pub(crate) mod warnings;
pub(crate) mod calls;
mod accept;
mod identity;
pub(crate) mod failure;
pub mod http;
mod metrics;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_stages::actor::HostAddress;
use tidegate_stages::identity::{Identity, PeerAddress};
use tidegate_stages::mesh::Mesh;

pub use admin::AdminToken;
pub use administration::Administration;
pub use auth::{Auth, AuthFileError, AuthOptions, Required, TokenRules};
pub use lifecycle::{Lifecycle, Phase};
pub use listener::{BindError, Listener, Socket};
pub use mesh::Calls;
pub use sending::Held;
pub use serve::{Serving, serve};
pub use trust::{Trust, UserFunction};

use crate::audit::Audit;
use crate::byte_bound::ByteBound;
use crate::metrics::spawn::{CountedCall, SpawnNames};
use crate::reload::Status;
use crate::store::{EmbeddedStore, Ownership};
use crate::tls::ServerTls;
use crate::traces::Kept;
use crate::wire::json::Types;

/// Bounds of the ingress.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections. At the bound, those idle longest are closed; when none is idle, new ones wait in the backlog of the
    /// operating system.
    pub connections: usize,
    /// Open connections of one address; `None`: a quarter of `connections`, and no bound for this machine. More are closed.
    pub peer_connections: Option<usize>,
    /// Size of a request's head, in bytes.
    pub head_bytes: usize,
    /// Size of a request's body, in bytes.
    pub body_bytes: usize,
    /// Bodies of all requests in flight, in bytes. At the bound, requests fail with status 503.
    pub bodies_bytes: usize,
    /// Definitions or names that one request may register.
    pub registered: usize,
    /// Answers of all requests until their last byte is sent, in bytes. At the bound, a large answer becomes a 503.
    pub answers_bytes: usize,
    /// Largest state, in bytes. It is the estimate for an answer that is not loaded yet.
    pub state_bytes: usize,
    /// How long a request's head may take to arrive.
    pub head_time: Duration,
    /// How long a request's body may take to arrive.
    pub body_time: Duration,
    /// How long a connection may stay without a request.
    pub idle_time: Duration,
    /// How long a client may take no byte of its response.
    pub write_time: Duration,
}

/// Where a host listens when its registration does not name an address.
#[derive(Debug, Clone)]
pub enum Hosts {
    /// Beside the proxy, always at this address.
    Sidecar(HostAddress),
    /// At the peer address of the registration, at this port.
    Daemon {
        /// The port of every host.
        port: u16,
        /// Whether they are called over TLS.
        tls: bool,
    },
}

/// The HTTP server; see the [module](self). Cheap to clone. Until it is [opened](Self::open), it answers health and metrics
/// only.
#[derive(Debug)]
pub struct Ingress<C>(Arc<Inner<C>>);

impl<C> Clone for Ingress<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The parts of an ingress that it has from the start.
#[derive(Debug)]
pub struct Parts {
    /// Its bounds.
    pub limits: Limits,
    /// Its TLS; `None`: it speaks in the clear.
    pub tls: Option<ServerTls>,
    /// Where hosts listen.
    pub hosts: Hosts,
    /// Who is trusted.
    pub trust: Trust,
    /// Reads the credentials of requests.
    pub auth: Auth,
    /// Where audit lines go.
    pub audit: Audit,
    /// The phase of the proxy, between start and end.
    pub lifecycle: Lifecycle,
    /// What is read again when its files change.
    pub reloads: Vec<Status>,
    /// The types that have a form of their own in JSON.
    pub types: Types,
    /// Renders all metrics. `None`: none are gathered.
    pub scrape: Option<Scrape>,
}

/// Renders all metrics as Prometheus text.
#[derive(Clone)]
pub struct Scrape {
    render: Arc<dyn Fn() -> String + Send + Sync>,
    /// The names that Spawn has, when they are asked for.
    spawn_names: Option<Arc<SpawnNames>>,
    /// Whether `/metrics` answers with them.
    is_served: bool,
}

impl Scrape {
    /// Wraps a renderer.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self { render: Arc::new(render), spawn_names: None, is_served: true }
    }

    /// Counts a call under the names of Spawn, when they are asked for, until what is returned is dropped.
    fn begin(&self, system: &str, action: &str) -> Option<CountedCall> {
        self.spawn_names.as_ref().map(|names| names.begin(system, action))
    }

    /// Has metrics under the names of Spawn, too.
    #[must_use]
    pub fn with_spawn_names(self) -> Self {
        Self { spawn_names: Some(Arc::default()), ..self }
    }

    /// Has metrics for the log, the flow and the console only: `/metrics` is off.
    #[must_use]
    pub fn for_itself(self) -> Self {
        Self { is_served: false, ..self }
    }
}

impl std::fmt::Debug for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrape")
    }
}

/// What recordings say of the proxy itself.
#[derive(Debug)]
pub struct Described {
    /// Where it listens, and on which machine.
    pub address: String,
    /// The settings in effect, one a line, with secrets masked.
    pub settings: String,
}

/// The mesh, and whether its store works.
struct Opened<C> {
    calls: C,
    store_works: Box<dyn Fn() -> bool + Send + Sync>,
}

impl<C> std::fmt::Debug for Opened<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Inner<C> {
    parts: Parts,
    opened: OnceLock<Opened<C>>,
    backed_up: OnceLock<Arc<EmbeddedStore>>,
    ownership: OnceLock<Ownership>,
    controlled: OnceLock<Mesh>,
    kept: OnceLock<Arc<Kept>>,
    described: OnceLock<Described>,
    bodies: Arc<ByteBound>,
    sending: sending::Sending,
    counted: metrics::Requests,
}

impl<C: Calls> Ingress<C> {
    /// Builds the ingress; [`serve()`] starts it.
    pub fn new(parts: Parts) -> Self {
        let bodies = ByteBound::new(parts.limits.bodies_bytes);
        let sending = sending::Sending::new(parts.limits.answers_bytes);
        let counted = metrics::Requests::default();
        let (opened, backed_up, ownership) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (controlled, kept, described) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner {
            parts,
            opened,
            backed_up,
            ownership,
            controlled,
            kept,
            described,
            bodies,
            sending,
            counted,
        }))
    }

    /// Calls go to this mesh from now on; the first mesh counts. `store_works` returns whether its store answers.
    pub fn open(&self, calls: C, store_works: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.opened.get_or_init(|| Opened { calls, store_works: Box::new(store_works) });
    }

    /// Calls that find the store claimed by a later owner are told where it is; the first ownership counts.
    pub fn owned_as(&self, ownership: Ownership) {
        self.0.ownership.get_or_init(|| ownership);
    }

    /// Actors of this mesh are listed, paused and cancelled from now on; the first mesh counts.
    pub fn control(&self, mesh: Mesh) {
        self.0.controlled.get_or_init(|| mesh);
    }

    /// What recordings say of the proxy; the first description counts.
    pub fn described_as(&self, described: Described) {
        self.0.described.get_or_init(|| described);
    }

    /// Whether clients speak to it over TLS.
    pub fn has_tls(&self) -> bool {
        self.0.parts.tls.is_some()
    }

    /// These calls are shown from now on; the first ones count.
    pub fn show_kept(&self, kept: Option<Arc<Kept>>) {
        if let Some(kept) = kept {
            self.0.kept.get_or_init(|| kept);
        }
    }

    /// All metrics, as of now, whether `/metrics` is on or not; `None` when none are gathered.
    pub fn metrics(&self) -> Option<String> {
        self.0.metrics()
    }

    /// Backups are made of this store from now on; the first store counts.
    pub fn back_up(&self, store: Arc<EmbeddedStore>) {
        self.0.backed_up.get_or_init(|| store);
    }
}

impl Hosts {
    /// The address of a host that `client` registers without naming one.
    fn address(&self, client: &Identity) -> HostAddress {
        match self {
            Hosts::Sidecar(address) => address.clone(),
            Hosts::Daemon { port, tls } => {
                let address = match client.peer {
                    Some(PeerAddress::Ip(address)) => address,
                    // A peer on a Unix socket is on this machine.
                    Some(PeerAddress::UnixSocket | PeerAddress::Nats) | None => {
                        IpAddr::from([127, 0, 0, 1])
                    }
                };
                let scheme = if *tls { "https" } else { "http" };
                let authority = std::net::SocketAddr::new(address, *port);
                HostAddress::new(&format!("{scheme}://{authority}"))
            }
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
