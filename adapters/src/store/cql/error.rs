//! Error: why the store was not opened.

/// Why the store was not opened; no state was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CqlOpenError {
    /// No node responds, or none accepts the login.
    #[error(
        "cannot connect to the database at {addresses}: {reason}; PROXY_DATABASE_HOST, \
         PROXY_DATABASE_PORT, PROXY_DATABASE_USERNAME and PROXY_DATABASE_SSL say how"
    )]
    Connect {
        /// The contact points.
        addresses: String,
        /// The driver's error.
        reason: String,
    },
    /// Encryption cannot be set up.
    #[error("cannot set up encryption to the database: {0} (TIDEGATE_DATABASE_CA)")]
    Tls(String),
    /// Keyspace or tables are missing and cannot be created, or do not have the expected form.
    #[error("keyspace {keyspace} (PROXY_DATABASE_NAME) cannot be used: {reason}")]
    Schema {
        /// The keyspace.
        keyspace: String,
        /// The database's error.
        reason: String,
    },
    /// There is no store, and the access mode does not create one.
    #[error("keyspace {keyspace} (PROXY_DATABASE_NAME) holds no store of Tidegate")]
    Missing {
        /// The keyspace.
        keyspace: String,
    },
    /// A later version of Tidegate made the schema.
    #[error("keyspace {keyspace} has schema {found}, this Tidegate knows schemas up to {known}")]
    Newer {
        /// The keyspace.
        keyspace: String,
        /// The version found.
        found: i64,
        /// The newest version that this Tidegate knows.
        known: i64,
    },
    /// An earlier version of Tidegate made the schema, and the access mode does not migrate it.
    #[error(
        "keyspace {keyspace} has schema {found}: start the proxy once (`tidegate serve`), it migrates the keyspace to schema {known}"
    )]
    Older {
        /// The keyspace.
        keyspace: String,
        /// The version found.
        found: i64,
        /// The version of this Tidegate.
        known: i64,
    },
    /// The migration of a former schema failed; the next start goes on with it.
    #[error("keyspace {keyspace} is not migrated yet, the next start goes on: {reason}")]
    Migration {
        /// The keyspace.
        keyspace: String,
        /// The request's error.
        reason: String,
    },
    /// The largest allowed state does not fit into one write.
    #[error(
        "the database takes at most {limit} bytes in one write, too few for states of {max_state_bytes} bytes: \
         lower TIDEGATE_MAX_STATE_BYTES to {fitting}, or raise the server's max_mutation_size"
    )]
    StateLimit {
        /// Bytes that the server accepts in one write.
        limit: usize,
        /// Configured size of the largest state, in bytes.
        max_state_bytes: usize,
        /// Largest state that would fit, in bytes.
        fitting: usize,
    },
    /// The database refuses a row that the store needs.
    #[error(
        "the database refuses a revision kept for {seconds} s (TIDEGATE_RETENTION_AGE): {reason}"
    )]
    Retention {
        /// How long revisions are kept.
        seconds: i32,
        /// The database's error.
        reason: String,
    },
    /// A request failed during opening.
    #[error("the database at {addresses} fails: {reason}")]
    Request {
        /// The contact points.
        addresses: String,
        /// The request's error.
        reason: String,
    },
}
