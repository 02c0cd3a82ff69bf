//! Storage: where states are kept, and for how long.

use super::{Default, MIB, MINUTE, PORT, Setting, TIB, setting};
use crate::config::forms;
use crate::config::value::Kind;

/// In the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        hint: Some("states of another store have to be imported, nothing is used in its place"),
        ..setting(
            "PROXY_DATABASE_TYPE",
            Kind::Choice(&["embedded", "scylla", "memory"]),
            Default::Is("embedded"),
            "Where states are kept: in a directory, in ScyllaDB or Apache Cassandra, or nowhere.",
        )
    },
    setting(
        "TIDEGATE_DATA_DIR",
        Kind::Text,
        Default::Is("./tidegate-data"),
        "Directory of the embedded store.",
    ),
    setting(
        "TIDEGATE_STORE_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(100),
        "Memory of the embedded store: its cache and its write buffers.",
    ),
    setting(
        "PROXY_DATABASE_HOST",
        Kind::Text,
        Default::Is("127.0.0.1"),
        "Nodes of the database to begin with, separated by commas; each may name its port.",
    ),
    setting(
        "PROXY_DATABASE_PORT",
        Kind::Count { min: 1, max: PORT },
        Default::Is("9042"),
        "Port of nodes that name none.",
    ),
    setting(
        "PROXY_DATABASE_NAME",
        Kind::Form(
            "a keyspace's name: a letter, then letters, digits and _, at most 48",
            forms::keyspace,
        ),
        Default::Is("tidegate"),
        "Keyspace; made when it is missing.",
    ),
    setting("PROXY_DATABASE_USERNAME", Kind::Text, Default::Unset, "User of the database."),
    setting("PROXY_DATABASE_SECRET", Kind::Secret, Default::Unset, "Its password."),
    setting(
        "PROXY_DATABASE_SECRET_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "PROXY_DATABASE_POOL_SIZE",
        Kind::Count { min: 1, max: 1_000 },
        Default::Unset,
        "Connections to each node; unset: one to each of its shards.",
    ),
    setting(
        "PROXY_DATABASE_SSL",
        Kind::Switch,
        Default::Is("false"),
        "Whether connections to the database are encrypted.",
    ),
    setting(
        "PROXY_DATABASE_SSL_VERIFY",
        Kind::Switch,
        Default::Is("true"),
        "Whether its nodes have to show a certificate that is trusted and names their address.",
    ),
    setting(
        "TIDEGATE_DATABASE_CA",
        Kind::Text,
        Default::Unset,
        "A PEM file of certificates to trust; unset: those that the system trusts.",
    ),
    setting(
        "TIDEGATE_DATABASE_CERT",
        Kind::Text,
        Default::Unset,
        "A PEM file with the certificate that is shown to the database.",
    ),
    setting(
        "TIDEGATE_DATABASE_KEY",
        Kind::Text,
        Default::Unset,
        "A PEM file with its private key.",
    ),
    setting(
        "TIDEGATE_DATABASE_CONSISTENCY",
        Kind::Choice(forms::CONSISTENCIES),
        Default::Is("local_quorum"),
        "How many replicas acknowledge a write or answer a read.",
    ),
    setting(
        "TIDEGATE_DATABASE_REPLICATION",
        Kind::Form(
            "a number of replicas, or one for each data centre: dc1:3,dc2:3",
            forms::replication,
        ),
        Default::Is("1"),
        "Replication of a keyspace that is made; an existing one keeps its own.",
    ),
    setting(
        "TIDEGATE_DATABASE_TIMEOUT",
        Kind::Time { min: 100, max: MINUTE },
        Default::Is("4s"),
        "How long one request to the database may take.",
    ),
    setting(
        "TIDEGATE_DATABASE_WRITES",
        Kind::Count { min: 1, max: 100_000 },
        Default::Is("1024"),
        "Writes to the database under way at once.",
    ),
    setting(
        "TIDEGATE_TAKE_OVER",
        Kind::Switch,
        Default::Is("false"),
        "Whether `serve` takes the database over from a proxy that lives, which then ends with exit code 75; for one start.",
    ),
    setting(
        "TIDEGATE_RETENTION_REVISIONS",
        Kind::Count { min: 0, max: 1_000_000_000 },
        Default::Is("1000"),
        "Newest revisions kept of each actor; 0 keeps all.",
    ),
    setting(
        "TIDEGATE_RETENTION_AGE",
        Kind::Time { min: 0, max: 20 * 365 * 24 * 60 * MINUTE },
        Default::Is("0"),
        "Age up to which revisions are kept, the newest in any case; 0 keeps all.",
    ),
];
