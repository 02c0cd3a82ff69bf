//! TLS: encrypted connections with rustls, and the names of those at the other end.
//!
//! Certificates and keys are PEM files that settings name. `files` reads these files. From their content `server` makes the
//! TLS of the ingress, `client` the TLS of connections to hosts and to the receiver of traces, and `proxy` the TLS of commands. `certificate` tells whom a
//! certificate names and when its validity ends. When the content of a file changes, `watch` makes the TLS anew; open
//! connections keep the TLS that they began with.
//! `bootstrap` makes an authority and certificates for those who have none.

mod files;
mod certificate;
mod channel;
mod watch;
mod server;
mod client;
mod proxy;
#[cfg(feature = "scylla")]
mod database;
mod bootstrap;
mod examine;

pub(crate) use bootstrap::{Bootstrap, BootstrapError, MAX_COMMON_BYTES};
pub(crate) use certificate::endings;
pub use channel::Channel;
pub(crate) use client::Servers;
pub use client::{ClientFiles, ClientTls, Pair};
#[cfg(feature = "scylla")]
pub(crate) use database::ShownToDatabase;
pub(crate) use examine::{
    Examined, Standing, roots as examine_roots, server as examine_server, shown as examine_shown,
};
pub use files::{PemFile, TlsError};
pub(crate) use proxy::ProxyTls;
pub use server::{ClientAuth, ServerFiles, ServerTls};
pub(crate) use watch::Certificates;
