//! Settings: the values in the types that the stages take.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::Full;
use tidegate_stages::history::Retention;
use tidegate_stages::rules::{Durability, EmptyTags, Revisions};
use tidegate_stages::schedules::ScheduleBounds;
use tidegate_stages::topics::rules::TopicRules;
use tidegate_stages::topology::{HostRules, RateLimits, RegistryBounds, RetryRates};
use tidegate_stages::traces::TraceRules;

use crate::host::HostOptions;
use crate::ingress::{AuthOptions, Hosts, Limits, Trust};
use crate::nats::NatsOptions;
use crate::policies::PolicyFolder;
use crate::store::{CqlOptions, Vault};
use crate::tls::{ClientFiles, ServerFiles};
use crate::traces::Otlp;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The HTTP server.
    pub http: HttpSettings,
    /// Where hosts listen.
    pub hosts: Hosts,
    /// How the hosts of a definition are kept and chosen.
    pub host_rules: HostRules,
    /// The TLS of connections to hosts.
    pub host_tls: ClientFiles,
    /// The TLS of commands that ask a running proxy.
    pub proxy_tls: ClientFiles,
    /// The host client.
    pub host: HostOptions,
    /// How long a host may take to answer.
    pub host_limit: Duration,
    /// How long calls wait for a host that refuses connections.
    pub host_grace: Duration,
    /// How long accepted asynchronous calls wait for an unreachable host.
    pub async_patience: Duration,
    /// Whether calls for a later time are taken and timers of actors run.
    pub delayed_calls: bool,
    /// How long a call may take until its host is called: queue, lookup, activation and connecting together.
    pub start_limit: Duration,
    /// Calls that may be in flight per host.
    pub host_connections: u32,
    /// How often a failing host or store is tried again.
    pub retries: RetryRates,
    /// Calls that run at once; `None`: as many as the hosts' connections allow.
    pub max_demand: Option<u32>,
    /// Where states are kept.
    pub database: Database,
    /// Whether a database is claimed from an owner that lives.
    pub take_over: bool,
    /// Directory of the embedded store.
    pub data_dir: PathBuf,
    /// Files that the embedded store keeps open.
    pub store_files: usize,
    /// Seals states at rest.
    pub vault: Arc<Vault>,
    /// Which revisions are kept.
    pub retention: Retention,
    /// Which topics are durable, and how.
    pub topics: TopicRules,
    /// When a change is durable.
    pub durability: Durability,
    /// When history is appended.
    pub revisions: Revisions,
    /// What an empty map of tags from a host means.
    pub empty_tags: EmptyTags,
    /// A file with the types that have a form of their own in JSON.
    pub descriptors: Option<PathBuf>,
    /// Largest state, in bytes.
    pub max_state_bytes: u64,
    /// How many actors may be registered.
    pub registry: RegistryBounds,
    /// How many schedules there may be.
    pub schedules: ScheduleBounds,
    /// Most live actors. Beyond it the least recently used are deactivated.
    pub max_live_actors: u64,
    /// Most bytes of live states.
    pub live_bytes: usize,
    /// Bounds of buffers.
    pub bounds: Bounds,
    /// How often clients may call.
    pub rate_limits: RateLimits,
    /// Where policy files are.
    pub policies: PolicyFolder,
    /// The connections to NATS.
    pub nats: NatsConnections,
    /// Calls over NATS under way at once, in each direction.
    pub nats_calls: usize,
    /// How the proxy ends.
    pub drain: Drain,
    /// What is logged and how.
    pub log: LogSettings,
    /// What is traced and where it is sent; `None`: nothing.
    pub traces: TraceSettings,
}

/// The connections to NATS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsConnections {
    /// For calls between actor systems; `None`: there are none.
    pub calls: Option<NatsOptions>,
    /// For broadcasts to other members of a system; `None`: they go to none.
    pub broadcasts: Option<NatsOptions>,
}

/// Settings of the HTTP server.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where to listen.
    pub listen: Listen,
    /// Its TLS; `None`: it speaks in the clear.
    pub tls: Option<ServerFiles>,
    /// Its bounds.
    pub limits: Limits,
    /// Which credentials are read.
    pub auth: AuthOptions,
    /// Who is trusted.
    pub trust: Trust,
    /// Where audit lines are written besides the log.
    pub audit_file: Option<PathBuf>,
    /// Where the admin port is; `None`: there is none.
    pub admin: Option<AdminListen>,
    /// Whether `/metrics` answers.
    pub metrics: bool,
    /// Whether it has the names of Spawn, too.
    pub spawn_metrics: bool,
    /// Whether the log has a line of metrics now and then.
    pub console_metrics: bool,
}

/// Where the proxy listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a TCP port.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Mode of that file.
        mode: u32,
    },
}

/// Where the admin port is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminListen {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the proxy does not start without it. False for the default address.
    pub is_needed: bool,
}

/// Where states are kept.
#[derive(Debug, Clone)]
pub enum Database {
    /// In a directory of this machine.
    Embedded,
    /// In ScyllaDB or Apache Cassandra.
    Scylla(Box<CqlOptions>),
    /// In memory only: lost when the process ends.
    Memory,
}

/// Bounds of buffers; bytes count payloads, names and metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Calls admitted and not yet answered.
    pub admission_events: u64,
    /// Their bytes.
    pub admission_bytes: u64,
    /// What happens to a call beyond these two.
    pub full: Full,
    /// Changes that wait for their commit.
    pub checkpoint_events: u64,
    /// Their bytes.
    pub checkpoint_bytes: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letters_bytes: u64,
    /// Those of one actor.
    pub dead_letters_per_source: u64,
    /// Their bytes.
    pub dead_letters_per_source_bytes: u64,
    /// Side effects that wait to be sent.
    pub effects_events: u64,
    /// Their bytes.
    pub effects_bytes: u64,
    /// Broadcasts on their way, and as many deliveries.
    pub broadcast_events: u64,
    /// The bytes of these broadcasts.
    pub broadcast_bytes: u64,
    /// Memory of the embedded store.
    pub store_bytes: u64,
}

/// How the proxy ends (decision 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How long it goes on serving while it is not ready any more.
    pub delay: Duration,
    /// How long the end may take in all.
    pub timeout: Duration,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Least level that is logged, as tracing spells it.
    pub level: &'static str,
    /// Whether lines are JSON.
    pub json: bool,
    /// Most lines of one kind in ten seconds; 0: any number.
    pub lines_per_kind: u32,
}

/// What is traced, where it is sent, and what is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// Which calls are traced.
    pub rules: TraceRules,
    /// The receiver; `None`: nothing is sent.
    pub otlp: Option<Otlp>,
    /// Failed and slow calls that are kept in memory, and as many that are sampled.
    pub kept_calls: usize,
}
