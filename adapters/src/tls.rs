//! TLS: encrypted connections with rustls, and the names of those at the other end.
//!
//! Certificates and keys are PEM files that settings name. `files` reads them, `server` makes the TLS of the ingress from
//! them, `client` that of connections to hosts, and `proxy` that of commands. `certificate` finds in a certificate who shows it and until when it
//! is valid. When the content of a file changes, `watch` makes the TLS anew; open connections keep what they began with.
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
mod metrics;

pub(crate) use bootstrap::{Bootstrap, BootstrapError, MAX_COMMON_BYTES};
pub use channel::Channel;
pub use client::{ClientFiles, ClientTls, Pair};
#[cfg(feature = "scylla")]
pub(crate) use database::ShownToDatabase;
pub(crate) use examine::{
    Examined, Standing, roots as examine_roots, server as examine_server, shown as examine_shown,
};
pub use files::{PemFile, TlsError};
pub use metrics::{CERTIFICATE_END, HANDSHAKES_FAILED_TOTAL};
pub(crate) use proxy::ProxyTls;
pub use server::{ClientAuth, ServerFiles, ServerTls};
