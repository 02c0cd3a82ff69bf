//! Reader: checked values become [`Settings`].

mod admin;
mod auth;
mod nats;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::layer::RateLimitOptions;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::history::Retention;
use tidegate_stages::rules::{Durability, EmptyTags, Revisions};
use tidegate_stages::schedules::ScheduleBounds;
use tidegate_stages::topology::{
    HostChoice, HostRules, RateLimits, RegistryBounds, RetryRates, least_checkpoint_bytes,
};

use super::settings::{
    AdminListen, Bounds, Database, Drain, HttpSettings, Listen, LogSettings, Settings,
};
use super::sources::Source;
use super::value::Value;
use super::{Config, Mistake, Mistakes, forms, tls};
use crate::host::HostOptions;
use crate::ingress::{AuthOptions, Hosts, Limits};
use crate::net::UNIX_PREFIX;
use crate::policies::PolicyFolder;
use crate::store::{CqlOptions, Credentials, Layout, NewestEpoch, Tls, Vault};
use crate::tls::{Pair, ServerFiles};

/// Files that the embedded store keeps open where that many may be.
const STORE_FILES: usize = 900;
const POLICIES_DIR: &str = "TIDEGATE_POLICIES_DIR";

impl Settings {
    pub(super) fn new(config: &Config) -> Result<Self, Mistakes> {
        let read = Reader(config);
        let drain = Drain {
            delay: read.time("TIDEGATE_DRAIN_DELAY"),
            timeout: read.time("TIDEGATE_DRAIN_TIMEOUT"),
        };
        if drain.delay > drain.timeout {
            let text = "must not be longer than TIDEGATE_DRAIN_TIMEOUT, of which it is a part";
            let setting = "TIDEGATE_DRAIN_DELAY".into();
            return Err(Mistakes(vec![Mistake { setting, text: text.into() }]));
        }
        let bounds = read.bounds()?;
        let host_connections = read
            .some_demand("PROXY_HTTP_CLIENT_ADAPTER_POOL_SIZE")
            .unwrap_or_else(|| read.small("TIDEGATE_HOST_CONNECTIONS"));
        let vault = read.vault();
        Ok(Self {
            http: read.http(read.auth()?, tls::ingress(config)?, read.admin()?)?,
            hosts: read.hosts(),
            host_rules: read.host_rules(),
            host_tls: tls::hosts(config)?,
            proxy_tls: tls::proxy(config)?,
            host: HostOptions {
                connect_time: read.time("TIDEGATE_HOST_CONNECT_TIMEOUT"),
                max_idle: read.time("PROXY_HTTP_CLIENT_ADAPTER_POOL_MAX_IDLE_TIMEOUT"),
                connections: host_connections as usize,
                body_bytes: read.size("TIDEGATE_HOST_BODY_BYTES"),
                bodies_bytes: read.size("TIDEGATE_HOST_BODIES_BYTES"),
            },
            host_limit: read.time("TIDEGATE_HOST_TIMEOUT"),
            start_limit: read.time("TIDEGATE_START_TIMEOUT"),
            host_grace: read.time("TIDEGATE_HOST_GRACE"),
            async_patience: read.time("TIDEGATE_ASYNC_PATIENCE"),
            delayed_calls: read.switch("SPAWN_DELAYED_INVOKES"),
            topics: read.topics(),
            host_connections,
            retries: RetryRates {
                percent: read.small("TIDEGATE_RETRY_PERCENT"),
                per_second: read.small("TIDEGATE_RETRY_PER_SECOND"),
            },
            max_demand: read.some_demand("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND"),
            database: read.database(&vault, tls::database(config)?)?,
            take_over: read.switch("TIDEGATE_TAKE_OVER"),
            data_dir: read.text("TIDEGATE_DATA_DIR").into(),
            store_files: STORE_FILES,
            vault,
            retention: read.retention(),
            durability: read.choose(
                "TIDEGATE_DURABILITY",
                Durability::Snapshot,
                "snapshot",
                Durability::Acknowledged,
            ),
            revisions: read.choose(
                "TIDEGATE_REVISIONS",
                Revisions::Every,
                "every",
                Revisions::Snapshot,
            ),
            empty_tags: read.choose(
                "TIDEGATE_EMPTY_TAGS",
                EmptyTags::Replace,
                "replace",
                EmptyTags::Keep,
            ),
            descriptors: read.value("TIDEGATE_DESCRIPTORS").map(|path| path.to_string().into()),
            max_state_bytes: read.bytes("TIDEGATE_MAX_STATE_BYTES"),
            registry: RegistryBounds {
                system: read.small("TIDEGATE_MAX_REGISTERED_PER_SYSTEM") as usize,
                all: read.small("TIDEGATE_MAX_REGISTERED") as usize,
            },
            schedules: ScheduleBounds {
                system: read.small("TIDEGATE_MAX_SCHEDULES_PER_SYSTEM") as usize,
                all: read.small("TIDEGATE_MAX_SCHEDULES") as usize,
            },
            max_live_actors: read.count("TIDEGATE_MAX_LIVE_ACTORS"),
            bounds,
            live_bytes: read.size("TIDEGATE_LIVE_BYTES"),
            rate_limits: RateLimits {
                peer: read.rate("TIDEGATE_RATE_LIMIT_PEER"),
                identity: read.rate("TIDEGATE_RATE_LIMIT_IDENTITY"),
                system: read.rate("TIDEGATE_RATE_LIMIT_SYSTEM"),
                definition: read.rate("TIDEGATE_RATE_LIMIT_DEFINITION"),
            },
            policies: PolicyFolder {
                path: read.text(POLICIES_DIR).into(),
                is_given: config.get(POLICIES_DIR).source != Source::Default,
            },
            nats: read.nats()?,
            nats_calls: read.small("TIDEGATE_NATS_CALLS") as usize,
            drain,
            traces: read.traces()?,
            log: LogSettings {
                level: level(&read.text("SPAWN_PROXY_LOGGER_LEVEL")),
                json: read.text("TIDEGATE_LOG_FORMAT") == "json",
                lines_per_kind: read.small("TIDEGATE_LOG_LINES_PER_KIND"),
            },
        })
    }
}

/// The levels of Elixir's logger, as tracing spells them.
fn level(given: &str) -> &'static str {
    match given {
        "emergency" | "alert" | "critical" | "error" => "error",
        "warning" | "warn" => "warn",
        "debug" => "debug",
        "trace" | "all" => "trace",
        "none" | "off" => "off",
        _ => "info",
    }
}

/// Reads values whose kind the table fixes; a test reads them all.
pub(super) struct Reader<'a>(pub(super) &'a Config);

impl Reader<'_> {
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).value.as_ref()
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Switch(true)))
    }

    fn signed(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        }
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        let count = self.signed(name).and_then(|count| u64::try_from(count).ok());
        count.expect("a count of the table has a default and is not negative")
    }

    pub(super) fn small(&self, name: &str) -> u32 {
        u32::try_from(self.count(name)).expect("the table bounds it")
    }

    /// Reads a demand of Spawn: -1 asks for the default.
    fn some_demand(&self, name: &str) -> Option<u32> {
        self.signed(name).and_then(|given| u32::try_from(given).ok()).filter(|given| *given > 0)
    }

    fn bounds(&self) -> Result<Bounds, Mistakes> {
        let states = self.bytes("TIDEGATE_MAX_STATE_BYTES");
        let least = least_checkpoint_bytes(self.size("TIDEGATE_MAX_STATE_BYTES")) as u64;
        let why = format!("three states of {states} bytes (TIDEGATE_MAX_STATE_BYTES)");
        let checkpoint_bytes = self.at_least("TIDEGATE_CHECKPOINT_BYTES", least, &why)?;
        Ok(Bounds {
            admission_events: self.count("TIDEGATE_ADMISSION_EVENTS"),
            admission_bytes: self.bytes("TIDEGATE_ADMISSION_BYTES"),
            full: forms::parse_full(&self.text("TIDEGATE_ADMISSION_FULL")).expect("it was checked"),
            checkpoint_events: self.count("TIDEGATE_CHECKPOINT_EVENTS"),
            checkpoint_bytes,
            dead_letters: self.count("TIDEGATE_DEAD_LETTERS"),
            dead_letters_bytes: self.bytes("TIDEGATE_DEAD_LETTERS_BYTES"),
            dead_letters_per_source: self.count("TIDEGATE_DEAD_LETTERS_PER_SOURCE"),
            dead_letters_per_source_bytes: self.bytes("TIDEGATE_DEAD_LETTERS_PER_SOURCE_BYTES"),
            effects_events: self.count("TIDEGATE_EFFECTS_EVENTS"),
            effects_bytes: self.bytes("TIDEGATE_EFFECTS_BYTES"),
            broadcast_events: self.count("TIDEGATE_BROADCAST_EVENTS"),
            broadcast_bytes: self.bytes("TIDEGATE_BROADCAST_BYTES"),
            store_bytes: self.bytes("TIDEGATE_STORE_BYTES"),
        })
    }

    /// Reads a size that has to hold so many bytes. Its default grows to them.
    fn at_least(&self, name: &str, least: u64, why: &str) -> Result<u64, Mistakes> {
        let bytes = self.bytes(name);
        if bytes < least && self.0.get(name).source != Source::Default {
            let text = format!("must be at least {least} bytes: {why}");
            return Err(Mistakes(vec![Mistake { setting: name.into(), text }]));
        }
        Ok(bytes.max(least))
    }

    fn bytes(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Bytes(bytes)) => *bytes,
            _ => unreachable!("{name} is a size with a default"),
        }
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.bytes(name)).unwrap_or(usize::MAX)
    }

    pub(super) fn time(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Time(time)) => *time,
            _ => unreachable!("{name} is a time with a default"),
        }
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.value(name).map(ToString::to_string).unwrap_or_default()
    }

    fn rate(&self, name: &str) -> Option<RateLimitOptions> {
        let rate = self.value(name)?.to_string();
        Some(forms::parse_rate(&rate).expect("it was checked"))
    }

    fn choose<T>(&self, name: &str, one: T, word: &str, other: T) -> T {
        if self.text(name) == word { one } else { other }
    }

    fn http(
        &self,
        auth: AuthOptions,
        tls: Option<ServerFiles>,
        admin: Option<AdminListen>,
    ) -> Result<HttpSettings, Mistakes> {
        let port = u16::try_from(self.count("PROXY_HTTP_PORT")).expect("the table bounds it");
        let address: IpAddr = self.text("TIDEGATE_HTTP_ADDRESS").parse().expect("it was checked");
        let listen = if self.switch("PROXY_UDS_ENABLED") {
            let mode = forms::parse_mode(&self.text("PROXY_UDS_MODE")).expect("it was checked");
            Listen::Unix { path: self.text("PROXY_UDS_ADDRESS").into(), mode }
        } else {
            Listen::Tcp(SocketAddr::new(address, port))
        };
        let bodies_bytes = self.at_least(
            "TIDEGATE_HTTP_BODIES_BYTES",
            self.bytes("TIDEGATE_HTTP_BODY_BYTES"),
            "the largest body (TIDEGATE_HTTP_BODY_BYTES)",
        )?;
        let limits = Limits {
            connections: self.small("TIDEGATE_HTTP_CONNECTIONS") as usize,
            peer_connections: self
                .signed("TIDEGATE_HTTP_PEER_CONNECTIONS")
                .and_then(|given| usize::try_from(given).ok()),
            head_bytes: self.size("TIDEGATE_HTTP_HEAD_BYTES"),
            body_bytes: self.size("TIDEGATE_HTTP_BODY_BYTES"),
            bodies_bytes: usize::try_from(bodies_bytes).unwrap_or(usize::MAX),
            registered: self.small("TIDEGATE_MAX_REGISTERED_PER_REQUEST") as usize,
            answers_bytes: self.size("TIDEGATE_HTTP_ANSWERS_BYTES"),
            state_bytes: self.size("TIDEGATE_MAX_STATE_BYTES"),
            head_time: self.time("TIDEGATE_HTTP_HEAD_TIMEOUT"),
            body_time: self.time("TIDEGATE_HTTP_BODY_TIMEOUT"),
            idle_time: self.time("TIDEGATE_HTTP_IDLE_TIMEOUT"),
            write_time: self.time("TIDEGATE_HTTP_WRITE_TIMEOUT"),
        };
        let metrics = !self.switch("SPAWN_DISABLE_METRICS");
        let audit_file = self.value("TIDEGATE_AUDIT_FILE").map(|path| path.to_string().into());
        let (spawn_metrics, console_metrics) =
            (self.switch("TIDEGATE_SPAWN_METRICS"), self.switch("SPAWN_CONSOLE_METRICS"));
        let trust = self.trust();
        Ok(HttpSettings {
            listen,
            tls,
            limits,
            auth,
            trust,
            audit_file,
            admin,
            metrics,
            spawn_metrics,
            console_metrics,
        })
    }

    /// The keys were checked when they were read.
    fn vault(&self) -> Arc<Vault> {
        let of = |name| self.value(name).and_then(Value::reveal).map(forms::parse_keys);
        let keys = ["SPAWN_STATESTORE_KEY", "TIDEGATE_STATESTORE_OLD_KEYS"].into_iter();
        let keys: Vec<_> = keys.filter_map(of).flat_map(Result::unwrap_or_default).collect();
        let layout = match self.text("TIDEGATE_SEALING").as_str() {
            "spawn" => Layout::Spawn,
            _ => Layout::Place,
        };
        Arc::new(Vault::new(&keys).with_layout(layout))
    }

    fn retention(&self) -> Retention {
        let revisions = self.count("TIDEGATE_RETENTION_REVISIONS");
        let age = self.time("TIDEGATE_RETENTION_AGE");
        Retention {
            revisions: (revisions > 0).then_some(revisions),
            age: (!age.is_zero()).then_some(age),
        }
    }

    fn database(&self, vault: &Arc<Vault>, shown: Option<Pair>) -> Result<Database, Mistakes> {
        const NAME: &str = "PROXY_DATABASE_TYPE";
        match self.text(NAME).as_str() {
            "memory" => Ok(Database::Memory),
            "scylla" if cfg!(not(feature = "scylla")) => {
                let text =
                    "scylla is not in this build of Tidegate; its Cargo feature `scylla` adds it";
                Err(Mistakes(vec![Mistake { setting: NAME.into(), text: text.into() }]))
            }
            "scylla" => Ok(Database::Scylla(Box::new(self.cql(vault.clone(), shown)))),
            _ => Ok(Database::Embedded),
        }
    }

    fn cql(&self, vault: Arc<Vault>, shown: Option<Pair>) -> CqlOptions {
        let hosts = self.text("PROXY_DATABASE_HOST");
        let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
        let user = self.value("PROXY_DATABASE_USERNAME").map(ToString::to_string);
        let tls = self.switch("PROXY_DATABASE_SSL").then(|| Tls {
            verify: self.switch("PROXY_DATABASE_SSL_VERIFY"),
            ca: self.value("TIDEGATE_DATABASE_CA").map(|path| path.to_string().into()),
            shown,
        });
        let connections = self.signed("PROXY_DATABASE_POOL_SIZE");
        CqlOptions {
            hosts: hosts.map(str::to_owned).collect(),
            port: u16::try_from(self.count("PROXY_DATABASE_PORT")).expect("the table bounds it"),
            keyspace: self.text("PROXY_DATABASE_NAME"),
            credentials: user.map(|user| Credentials {
                user,
                secret: self.0.secret("PROXY_DATABASE_SECRET").unwrap_or_default(),
            }),
            tls,
            connections: connections.and_then(|count| u32::try_from(count).ok()),
            consistency: forms::consistency(&self.text("TIDEGATE_DATABASE_CONSISTENCY")),
            replication: forms::parse_replication(&self.text("TIDEGATE_DATABASE_REPLICATION"))
                .expect("it was checked"),
            request_time: self.time("TIDEGATE_DATABASE_TIMEOUT"),
            time_to_live: self.retention().age,
            max_state_bytes: self.size("TIDEGATE_MAX_STATE_BYTES"),
            writes: self.small("TIDEGATE_DATABASE_WRITES") as usize,
            vault,
            ownership: Arc::new(NewestEpoch),
        }
    }

    fn host_rules(&self) -> HostRules {
        let is_daemon = self.text("PROXY_DEPLOYMENT_MODE") == "daemon";
        let join = match self.text("TIDEGATE_HOSTS").as_str() {
            "many" => true,
            "one" => false,
            _ => is_daemon,
        };
        let choice = match self.text("TIDEGATE_HOSTS_STRATEGY").as_str() {
            "round_robin" => HostChoice::RoundRobin,
            "least_loaded" => HostChoice::LeastLoaded,
            "sticky" => HostChoice::Sticky,
            _ => HostChoice::Random,
        };
        HostRules { join, choice, leave_after: self.time("TIDEGATE_HOSTS_LEAVE_AFTER") }
    }

    fn hosts(&self) -> Hosts {
        let port = u16::try_from(self.count("USER_FUNCTION_PORT")).expect("the table bounds it");
        let tls = self.switch("TIDEGATE_HOST_TLS");
        if self.text("PROXY_DEPLOYMENT_MODE") == "daemon" {
            return Hosts::Daemon { port, tls };
        }
        let host = self.text("USER_FUNCTION_HOST");
        let scheme = if tls { "https" } else { "http" };
        let address = match host.as_str() {
            // A host listens on this address; a client cannot connect to it.
            "0.0.0.0" | "::" | "[::]" => format!("{scheme}://127.0.0.1:{port}"),
            unix if unix.starts_with(UNIX_PREFIX) => unix.into(),
            six if six.contains(':') && !six.starts_with('[') => {
                format!("{scheme}://[{six}]:{port}")
            }
            name => format!("{scheme}://{name}:{port}"),
        };
        Hosts::Sidecar(HostAddress::new(&address))
    }
}
