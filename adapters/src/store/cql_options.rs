//! CQL options: the settings of the CQL store, which a build without that store checks too.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ownership::OwnershipCheck;
use super::vault::Vault;
use crate::tls::Pair;

/// How many replicas must acknowledge a write or answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// One replica, in any data centre.
    One,
    /// One replica, in the local data centre.
    LocalOne,
    /// A majority of the local data centre.
    LocalQuorum,
    /// A majority over all data centres.
    Quorum,
    /// A majority of each data centre.
    EachQuorum,
    /// All replicas.
    All,
}

/// Replication of a keyspace that the store creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// This many replicas in every data centre.
    Everywhere(u16),
    /// This many replicas in each of these data centres.
    Centres(Vec<(String, u16)>),
}

/// Encryption of connections to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether the server must show a trusted certificate for its address.
    pub verify: bool,
    /// A PEM file of trusted certificates; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// What the proxy shows; `None`: nothing.
    pub shown: Option<Pair>,
}

/// User and secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The secret; never printed.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Settings of the store.
#[derive(Debug, Clone)]
pub struct CqlOptions {
    /// Contact points, `host` or `host:port`.
    pub hosts: Vec<String>,
    /// Port of contact points that name none.
    pub port: u16,
    /// Keyspace.
    pub keyspace: String,
    /// The login; `None`: without a login.
    pub credentials: Option<Credentials>,
    /// Encryption; `None`: in the clear.
    pub tls: Option<Tls>,
    /// Connections per node, or per shard where the server has shards; `None`: one per shard.
    pub connections: Option<u32>,
    /// Consistency of reads and writes.
    pub consistency: Consistency,
    /// Replication of a keyspace that does not exist yet.
    pub replication: Replication,
    /// How long one request may take.
    pub request_time: Duration,
    /// How long the database keeps a revision.
    pub time_to_live: Option<Duration>,
    /// Largest allowed state, in bytes.
    pub max_state_bytes: usize,
    /// Concurrent writes.
    pub writes: usize,
    /// Seals states.
    pub vault: Arc<Vault>,
    /// Decides whether this process may use the database.
    pub ownership: Arc<dyn OwnershipCheck>,
}
