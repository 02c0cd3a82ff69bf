//! Options: the settings of the store.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::store::vault::Vault;

/// How many replicas have to acknowledge a write or answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// One, anywhere.
    One,
    /// One, in this data centre.
    LocalOne,
    /// Most, in this data centre.
    LocalQuorum,
    /// Most, over all data centres.
    Quorum,
    /// Most, in each data centre.
    EachQuorum,
    /// All.
    All,
}

/// How a keyspace that is made is replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// So often in every data centre.
    Everywhere(u16),
    /// So often in each of these.
    Centres(Vec<(String, u16)>),
}

/// Encryption on the way to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whether the server has to show a certificate that is trusted and names its address.
    pub verify: bool,
    /// A PEM file of what is trusted; `None`: what the system trusts.
    pub ca: Option<PathBuf>,
}

/// User and secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The secret; never shown.
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
    /// Who asks; `None`: nobody in particular.
    pub credentials: Option<Credentials>,
    /// Encryption; `None`: in the clear.
    pub tls: Option<Tls>,
    /// Connections per node, or per shard where the server has shards; `None`: one per shard.
    pub connections: Option<u32>,
    /// For reads and writes.
    pub consistency: Consistency,
    /// For a keyspace that is not there yet.
    pub replication: Replication,
    /// How long one request may take.
    pub request_time: Duration,
    /// How old a revision may get: longer it is not kept by the database.
    pub time_to_live: Option<Duration>,
    /// Largest state that must be storable, in bytes.
    pub max_state_bytes: usize,
    /// Writes that may be under way at once.
    pub writes: usize,
    /// Seals states.
    pub vault: Arc<Vault>,
}
