//! Table: every setting there is.

use std::sync::LazyLock;

use super::forms;
use super::lists;
use super::upstream::NO_EFFECT;
use super::value::Kind;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name: the protocol's own, or `TIDEGATE_*`.
    pub name: &'static str,
    /// What it holds: unit and range.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: Default,
    /// What it means.
    pub doc: &'static str,
    /// What else to say about a wrong value.
    pub hint: Option<&'static str>,
}

/// What a setting is when nobody sets it.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// Nothing.
    Unset,
    /// This, as a user would write it.
    Is(&'static str),
    /// That many thousandths of the memory that the process may use.
    Thousandths(u64),
    /// This, or that many thousandths of the memory that the process may use if that is less.
    IsOrThousandths(&'static str, u64),
}

const PORT: i64 = 65_535;
const MINUTE: u64 = 60_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// What a rate limit takes.
const RATE: Kind =
    Kind::Form("calls per second or minute, such as 100/s, or with a burst 100/s:200", forms::rate);
/// Elixir's levels and tracing's.
const LEVELS: &[&str] = &[
    "trace",
    "all",
    "debug",
    "info",
    "notice",
    "warn",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
    "off",
    "none",
];

const fn setting(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Setting {
    Setting { name, kind, default, doc, hint: None }
}

/// All settings: ours, then those of upstream that have no effect here.
pub static TABLE: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let ignored = NO_EFFECT.iter().flat_map(|(why, names)| {
        let row = |name: &&'static str| {
            setting(name, Kind::Ignored(why), Default::Unset, "No effect here.")
        };
        names.iter().map(row)
    });
    EFFECTIVE.iter().copied().chain(ignored).collect()
});

/// Former names, with the name of today. They work, with a warning at start.
pub(super) const FORMER: &[(&str, &str)] = &[
    ("TIDEGATE_DOOR_EVENTS", "TIDEGATE_ADMISSION_EVENTS"),
    ("TIDEGATE_DOOR_BYTES", "TIDEGATE_ADMISSION_BYTES"),
];

/// Settings that have an effect, in the order in which they are shown.
const EFFECTIVE: &[Setting] = &[
    setting(
        "PROXY_HTTP_PORT",
        Kind::Count { min: 0, max: PORT },
        Default::Is("9001"),
        "Port of the API, health and metrics; 0 lets the operating system choose.",
    ),
    setting(
        "TIDEGATE_HTTP_ADDRESS",
        Kind::Address,
        Default::Is("0.0.0.0"),
        "Address that the port is opened on.",
    ),
    setting(
        "TIDEGATE_TLS_CERT",
        Kind::Text,
        Default::Unset,
        "PEM file with the certificate of the port, and those between it and its root; unset: the port has no TLS.",
    ),
    setting("TIDEGATE_TLS_KEY", Kind::Text, Default::Unset, "PEM file with its private key."),
    setting(
        "TIDEGATE_TLS_CLIENT_CA",
        Kind::Text,
        Default::Unset,
        "PEM file with the roots of clients' certificates; unset: clients are not asked for one.",
    ),
    setting(
        "TIDEGATE_TLS_CLIENT_AUTH",
        Kind::Choice(&["required", "optional"]),
        Default::Is("required"),
        "With such roots, whether a client needs a certificate. Health and metrics are answered without one.",
    ),
    setting(
        "PROXY_UDS_ENABLED",
        Kind::Switch,
        Default::Is("false"),
        "Whether a Unix socket is opened instead of the port.",
    ),
    setting(
        "PROXY_UDS_ADDRESS",
        Kind::Text,
        Default::Is("/var/run/spawn.sock"),
        "Path of that socket.",
    ),
    setting(
        "PROXY_UDS_MODE",
        Kind::Form("an octal mode such as 0660 that lets its owner read and write", forms::mode),
        Default::Is("0660"),
        "Mode of that socket: connecting takes the right to write.",
    ),
    setting(
        "PROXY_DEPLOYMENT_MODE",
        Kind::Choice(&["sidecar", "daemon"]),
        Default::Is("sidecar"),
        "Whether hosts are beside the proxy, or listen where their registration comes from.",
    ),
    setting(
        "USER_FUNCTION_HOST",
        Kind::Text,
        Default::Is("0.0.0.0"),
        "Where the host listens beside the proxy, or unix: and a path; 0.0.0.0 means this machine.",
    ),
    setting(
        "USER_FUNCTION_PORT",
        Kind::Count { min: 1, max: PORT },
        Default::Is("8090"),
        "Port that the host listens on (SDK defaults: Node 8090, Python 8091, Rust 8093, Go none).",
    ),
    setting(
        "TIDEGATE_HOST_TLS",
        Kind::Switch,
        Default::Is("false"),
        "Whether hosts are called over TLS; one that names its own address says so itself, with https://.",
    ),
    setting(
        "TIDEGATE_HOST_TLS_CA",
        Kind::Text,
        Default::Unset,
        "PEM file with the roots of hosts' certificates; unset: those that the system trusts.",
    ),
    setting(
        "TIDEGATE_HOST_TLS_CERT",
        Kind::Text,
        Default::Unset,
        "PEM file with the certificate that is shown to hosts that ask for one.",
    ),
    setting("TIDEGATE_HOST_TLS_KEY", Kind::Text, Default::Unset, "PEM file with its private key."),
    setting(
        "TIDEGATE_ADMIN_TOKEN",
        Kind::Secret,
        Default::Unset,
        "Bearer token whose holders may do everything. Once it is set, deleting, checkpoints, restoring and reading histories need it, also for local clients.",
    ),
    setting(
        "TIDEGATE_ADMIN_TOKEN_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "TIDEGATE_TRUSTED_PEERS",
        Kind::Form(
            "networks or addresses separated by commas, such as 10.1.0.0/16",
            lists::networks,
        ),
        Default::Unset,
        "Clients that may register and spawn, besides local ones and the machine of USER_FUNCTION_HOST.",
    ),
    setting(
        "TIDEGATE_TRUST_LOOPBACK",
        Kind::Switch,
        Default::Is("true"),
        "Whether clients over loopback may register and spawn, and everything else while no token is set; false where a proxy in front makes every client a local one.",
    ),
    setting(
        "TIDEGATE_ORIGINS",
        Kind::Form("origins separated by commas, such as https://console.example", lists::origins),
        Default::Unset,
        "Web pages that may change something: what a browser sends as Origin. Others are a 403.",
    ),
    setting(
        "TIDEGATE_HOST_NAMES",
        Kind::Form("names separated by commas, without ports", lists::names),
        Default::Unset,
        "Names besides localhost and IP addresses by which clients over loopback may call the proxy; others are a 403, since they may be a web page's.",
    ),
    setting(
        "TIDEGATE_AUDIT_FILE",
        Kind::Text,
        Default::Unset,
        "A file that gets one line for each request that is refused, and two for each that administers: who, what, its outcome. A request whose line cannot be written is a 503, and is not carried out. The log has these lines in any case.",
    ),
    setting(
        "TIDEGATE_AUTHENTICATION",
        Kind::Choice(&["optional", "network", "always"]),
        Default::Is("optional"),
        "Who needs credentials for the API, a token or a password: nobody, clients that are not trusted for where they are, or everybody; without them 401. Wrong ones always are a 401.",
    ),
    setting(
        "TIDEGATE_TOKEN_KEYS",
        Kind::Text,
        Default::Unset,
        "File of the keys that sign tokens (JWT): a JWKS, public keys in PEM, or one secret of at least 32 bytes. Unset: tokens are not read.",
    ),
    setting(
        "TIDEGATE_TOKEN_AUDIENCE",
        Kind::Text,
        Default::Unset,
        "What tokens have to name as their audience, or several such separated by commas; unset: tokens that name one are refused.",
    ),
    setting(
        "TIDEGATE_TOKEN_ISSUER",
        Kind::Text,
        Default::Unset,
        "Who has to have issued tokens, or several such separated by commas; unset: anybody.",
    ),
    setting(
        "TIDEGATE_TOKEN_LEEWAY",
        Kind::Time { min: 0, max: 10 * MINUTE },
        Default::Is("30s"),
        "How much the clocks of issuers and the proxy may differ.",
    ),
    setting(
        "TIDEGATE_TOKEN_CLAIM",
        Kind::Text,
        Default::Is("sub"),
        "Claim of a token that names its client.",
    ),
    setting(
        "TIDEGATE_USERS",
        Kind::Text,
        Default::Unset,
        "File of users and bcrypt hashes, as `htpasswd -B` writes it. Unset: passwords are not read.",
    ),
    setting(
        "TIDEGATE_POLICIES_DIR",
        Kind::Text,
        Default::Is("policies"),
        "Directory of the access policies, files named *.policy; one that is named here has to be there.",
    ),
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
    setting(
        "TIDEGATE_DURABILITY",
        Kind::Choice(&["acknowledged", "snapshot"]),
        Default::Is("acknowledged"),
        "When a change is on disk: before its reply, or at the next snapshot.",
    ),
    setting(
        "TIDEGATE_REVISIONS",
        Kind::Choice(&["snapshot", "every"]),
        Default::Is("snapshot"),
        "When history is appended: with snapshots and checkpoints, or with every durable change.",
    ),
    setting(
        "TIDEGATE_EMPTY_TAGS",
        Kind::Choice(&["keep", "replace"]),
        Default::Is("keep"),
        "What an empty map of tags from a host does to the tags; upstream replaces them.",
    ),
    setting(
        "TIDEGATE_MAX_STATE_BYTES",
        Kind::Bytes { min: 1024, max: GIB },
        Default::IsOrThousandths("4 MiB", 16),
        "Largest state; a larger one is an error, and the old one stays. A state that is above it already may stay or shrink.",
    ),
    setting(
        "TIDEGATE_MAX_REGISTERED_PER_REQUEST",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("10000"),
        "Definitions of one registration, and names of one spawn, at most; more are a 413.",
    ),
    setting(
        "TIDEGATE_MAX_REGISTERED_PER_SYSTEM",
        Kind::Count { min: 1, max: 1_000_000_000 },
        Default::Is("1000000"),
        "Definitions and spawned names of one system at most; a new one is a 503 then. What a store holds beyond is served.",
    ),
    setting(
        "TIDEGATE_MAX_REGISTERED",
        Kind::Count { min: 1, max: 1_000_000_000 },
        Default::Is("2000000"),
        "The same of all systems together.",
    ),
    setting(
        "TIDEGATE_MAX_LIVE_ACTORS",
        Kind::Count { min: 1, max: 1_000_000_000 },
        Default::Is("100000"),
        "Live actors at most; beyond it the longest unused are deactivated.",
    ),
    setting(
        "TIDEGATE_LIVE_BYTES",
        Kind::Bytes { min: 64 << 10, max: TIB },
        Default::Thousandths(60),
        "Tags and states in memory, and 1 KiB for each actor there, at most; beyond it the longest unused are deactivated, stateless ones last: they lose their memory.",
    ),
    setting(
        "TIDEGATE_START_TIMEOUT",
        Kind::Time { min: 1, max: 10 * MINUTE },
        Default::Is("10s"),
        "How long a call may take until its host is called, unless it brings a request-timeout.",
    ),
    setting(
        "TIDEGATE_HOST_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("60s"),
        "How long a host may take to answer.",
    ),
    setting(
        "TIDEGATE_HOST_CONNECT_TIMEOUT",
        Kind::Time { min: 1, max: MINUTE },
        Default::Is("5s"),
        "How long connecting to a host may take.",
    ),
    setting(
        "TIDEGATE_HOST_GRACE",
        Kind::Time { min: 0, max: 10 * MINUTE },
        Default::Is("4s"),
        "How long calls wait for a host that was reached before and refuses connections now. Then synchronous calls of the host are a 502 at once, until it is back.",
    ),
    setting(
        "TIDEGATE_ASYNC_PATIENCE",
        Kind::Time { min: 0, max: 24 * 60 * MINUTE },
        Default::Is("60s"),
        "How long accepted asynchronous calls wait for a host that cannot be reached, or for a store that fails.",
    ),
    setting(
        "TIDEGATE_HOST_CONNECTIONS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("4096"),
        "Calls in flight per host.",
    ),
    setting(
        "TIDEGATE_HOST_BODIES_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(75),
        "Answers of hosts that are being read, and at least one of the largest; beyond it they wait unread up to 10 s, then 503.",
    ),
    setting(
        "TIDEGATE_RETRY_PERCENT",
        Kind::Count { min: 0, max: 100 },
        Default::Is("20"),
        "Retries of what fails at a host or at the store: that many for 100 calls of the host, or loads from the store.",
    ),
    setting(
        "TIDEGATE_RETRY_PER_SECOND",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("10"),
        "Retries that are allowed besides, per second, for each host and for the store.",
    ),
    setting(
        "PROXY_HTTP_CLIENT_ADAPTER_POOL_SIZE",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Unset,
        "The same, under the name of the protocol; wins when both are set.",
    ),
    setting(
        "PROXY_HTTP_CLIENT_ADAPTER_POOL_MAX_IDLE_TIMEOUT",
        Kind::Time { min: 1, max: MINUTE },
        Default::Is("1s"),
        "How long a connection to a host may wait for its next call.",
    ),
    setting(
        "TIDEGATE_HOST_BODY_BYTES",
        Kind::Bytes { min: 1024, max: GIB },
        Default::IsOrThousandths("16 MiB", 65),
        "Largest answer of a host.",
    ),
    setting(
        "ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND",
        Kind::Count { min: -1, max: 1_000_000 },
        Default::Unset,
        "Calls that workers have in hand at once; unset or -1: as many as connections to hosts.",
    ),
    setting(
        "TIDEGATE_ADMISSION_EVENTS",
        Kind::Count { min: 8, max: 100_000_000 },
        Default::Is("16384"),
        "Calls admitted and not yet answered.",
    ),
    setting(
        "TIDEGATE_ADMISSION_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(40),
        "Their bytes.",
    ),
    setting(
        "TIDEGATE_ADMISSION_FULL",
        Kind::Form("shed, or wait: and a time of 1 ms to 60 s, such as wait:500ms", forms::full),
        Default::Is("shed"),
        "What happens beyond these bounds: 503 at once, or only when nothing has become free in that time.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_PEER",
        RATE,
        Default::Unset,
        "Calls of one client address (in IPv6: of one /64; all clients of the Unix socket together); beyond it 429.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_IDENTITY",
        RATE,
        Default::Unset,
        "Calls of one client that has a name, from its token or certificate, at whatever address; beyond it 429.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_SYSTEM",
        RATE,
        Default::Unset,
        "Calls of one system; beyond it 429.",
    ),
    setting(
        "TIDEGATE_RATE_LIMIT_DEFINITION",
        RATE,
        Default::Unset,
        "Calls of all actors made from one definition; beyond it 429.",
    ),
    setting(
        "TIDEGATE_CHECKPOINT_EVENTS",
        Kind::Count { min: 8, max: 100_000_000 },
        Default::Is("8192"),
        "Changes of stateful actors on their way to the store: each takes its place before its action runs, until its outcome is known.",
    ),
    setting(
        "TIDEGATE_CHECKPOINT_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(110),
        "Their bytes, at least 16 KiB each until the action has run; at least three times TIDEGATE_MAX_STATE_BYTES, to which the default is raised.",
    ),
    setting(
        "TIDEGATE_EFFECTS_EVENTS",
        Kind::Count { min: 8, max: 100_000_000 },
        Default::Is("8192"),
        "Side effects that wait to be sent.",
    ),
    setting(
        "TIDEGATE_EFFECTS_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(15),
        "Their bytes.",
    ),
    setting(
        "TIDEGATE_HTTP_CONNECTIONS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Is("10000"),
        "Client connections at once; beyond it those idle longest are closed for new ones, and when none is idle, new ones wait.",
    ),
    setting(
        "TIDEGATE_HTTP_PEER_CONNECTIONS",
        Kind::Count { min: 1, max: 1_000_000 },
        Default::Unset,
        "Connections of one client address (in IPv6: of one /64) at once; more are closed and counted. Unset: a quarter of TIDEGATE_HTTP_CONNECTIONS, and no such bound for this machine.",
    ),
    setting(
        "TIDEGATE_HTTP_HEAD_BYTES",
        Kind::Bytes { min: 8192, max: 16 * MIB },
        Default::Is("64 KiB"),
        "Largest head of a request.",
    ),
    setting(
        "TIDEGATE_HTTP_BODY_BYTES",
        Kind::Bytes { min: 1024, max: GIB },
        Default::IsOrThousandths("8000000", 35),
        "Largest body of a request.",
    ),
    setting(
        "TIDEGATE_HTTP_BODIES_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(45),
        "Bodies of all requests in flight; beyond it 503.",
    ),
    setting(
        "TIDEGATE_HTTP_ANSWERS_BYTES",
        Kind::Bytes { min: MIB, max: TIB },
        Default::Thousandths(80),
        "Answers of all requests until clients have taken them; beyond it those over 16 KiB wait up to 2 s, then 503.",
    ),
    setting(
        "TIDEGATE_HTTP_HEAD_TIMEOUT",
        Kind::Time { min: 1, max: 10 * MINUTE },
        Default::Is("10s"),
        "How long the head of a request may take to arrive.",
    ),
    setting(
        "TIDEGATE_HTTP_BODY_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("30s"),
        "How long the body of a request may take to arrive.",
    ),
    setting(
        "TIDEGATE_HTTP_IDLE_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("75s"),
        "How long a connection may stay without a request, from the last byte of its last answer.",
    ),
    setting(
        "TIDEGATE_HTTP_WRITE_TIMEOUT",
        Kind::Time { min: 1, max: 60 * MINUTE },
        Default::Is("30s"),
        "How long a client may go without taking a byte of its answer.",
    ),
    setting(
        "TIDEGATE_DRAIN_DELAY",
        Kind::Time { min: 0, max: 10 * MINUTE },
        Default::Is("6s"),
        "After SIGTERM: how long calls are still served while readiness says no.",
    ),
    setting(
        "TIDEGATE_DRAIN_TIMEOUT",
        Kind::Time { min: 0, max: 60 * MINUTE },
        Default::Is("25s"),
        "After SIGTERM: how long all of it may take, the delay included.",
    ),
    setting(
        "SPAWN_PROXY_LOGGER_LEVEL",
        Kind::Choice(LEVELS),
        Default::Is("info"),
        "Least level that is logged.",
    ),
    setting(
        "TIDEGATE_LOG_FORMAT",
        Kind::Choice(&["text", "json"]),
        Default::Is("text"),
        "How lines of the log look.",
    ),
    setting(
        "SPAWN_DISABLE_METRICS",
        Kind::Switch,
        Default::Is("false"),
        "Whether /metrics is off.",
    ),
    setting("TIDEGATE_CONFIG", Kind::Text, Default::Unset, "A TOML file of settings, as --config."),
    setting(
        "SPAWN_STATESTORE_KEY",
        Kind::SecretForm("32 bytes in base64", forms::key),
        Default::Unset,
        "Key that seals states at rest; unset: they are kept in the clear.",
    ),
    setting(
        "SPAWN_STATESTORE_KEY_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds it, instead.",
    ),
    setting(
        "TIDEGATE_STATESTORE_OLD_KEYS",
        Kind::SecretForm("such keys separated by commas", forms::keys),
        Default::Unset,
        "Former keys, that open what they sealed until `tidegate reseal` has been run.",
    ),
    setting(
        "TIDEGATE_STATESTORE_OLD_KEYS_FILE",
        Kind::Text,
        Default::Unset,
        "A file that holds them, instead.",
    ),
];
