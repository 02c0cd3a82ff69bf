//! Error: why the store was not opened.

/// Why the store was not opened; no state was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CqlOpenError {
    /// No node answers, or none lets us in.
    #[error(
        "cannot connect to the database at {addresses}: {reason}; PROXY_DATABASE_HOST, \
         PROXY_DATABASE_PORT, PROXY_DATABASE_USERNAME and PROXY_DATABASE_SSL say how"
    )]
    Connect {
        /// The contact points.
        addresses: String,
        /// What the driver said.
        reason: String,
    },
    /// Encryption cannot be set up.
    #[error("cannot set up encryption to the database: {0} (TIDEGATE_DATABASE_CA)")]
    Tls(String),
    /// Keyspace or tables are not there and cannot be made, or are not what they should be.
    #[error("keyspace {keyspace} (PROXY_DATABASE_NAME) cannot be used: {reason}")]
    Schema {
        /// The keyspace.
        keyspace: String,
        /// What the database said.
        reason: String,
    },
    /// There is no store, and none was to be made.
    #[error("keyspace {keyspace} (PROXY_DATABASE_NAME) holds no store of Tidegate")]
    Missing {
        /// The keyspace.
        keyspace: String,
    },
    /// A later Tidegate made it.
    #[error("keyspace {keyspace} has schema {found}, this Tidegate knows schemas up to {known}")]
    Newer {
        /// The keyspace.
        keyspace: String,
        /// Its version.
        found: i64,
        /// The newest version that is known.
        known: i64,
    },
    /// The largest state that must be storable does not fit into one write.
    #[error(
        "the database takes at most {limit} bytes in one write, too few for states of {max_state_bytes} bytes: \
         lower TIDEGATE_MAX_STATE_BYTES to {fitting}, or raise the server's max_mutation_size"
    )]
    StateLimit {
        /// What the server takes.
        limit: usize,
        /// What is asked for.
        max_state_bytes: usize,
        /// What would fit.
        fitting: usize,
    },
    /// The database does not take what it has to take.
    #[error(
        "the database refuses a revision kept for {seconds} s (TIDEGATE_RETENTION_AGE): {reason}"
    )]
    Retention {
        /// How long revisions are kept.
        seconds: i32,
        /// What the database said.
        reason: String,
    },
    /// A request failed that opening needs.
    #[error("the database at {addresses} fails: {reason}")]
    Request {
        /// The contact points.
        addresses: String,
        /// What it said.
        reason: String,
    },
}
