//! Connect: opens a session with the cluster.
//!
//! A write is tried once: only the caller knows what the first try may have done, so a second try is the
//! caller's. A read is tried again on another node. A consistency that is local to a data centre means the
//! centre of the first contact point. All requests go to that centre, because a quorum of one centre says
//! nothing about a quorum of another.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileBuilder};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::{Consistency as Level, SerialConsistency};
use tracing::{info, warn};

use super::error::CqlOpenError;
use super::tls;
use crate::store::cql_options::{Consistency, CqlOptions, Credentials};

/// Shortest interval between two keep-alive requests to a node.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(1);
/// A server that refuses a certificate says so after the handshake, and its word is often lost with the connection.
const REFUSED_CERTIFICATE: &str = "a server that asks for a client's certificate breaks the connection of one that it does \
    not trust: TIDEGATE_DATABASE_CERT and TIDEGATE_DATABASE_KEY show one";

impl CqlOptions {
    /// Returns the contact points, each with its port.
    pub(super) fn addresses(&self) -> Vec<String> {
        let with_port = |host: &String| match host.parse::<std::net::Ipv6Addr>() {
            Ok(six) => format!("[{six}]:{}", self.port),
            Err(_)
                if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
            {
                host.clone()
            }
            Err(_) => format!("{host}:{}", self.port),
        };
        self.hosts.iter().map(with_port).collect()
    }

    /// Returns the keyspace as CQL spells it. Names are lower case, as unquoted names are in CQL.
    pub(super) fn keyspace_name(&self) -> String {
        self.keyspace.to_lowercase()
    }
}

impl Consistency {
    fn is_local(self) -> bool {
        matches!(self, Self::LocalOne | Self::LocalQuorum)
    }

    pub(super) fn of_writes(self) -> Level {
        match self {
            Self::One => Level::One,
            Self::LocalOne => Level::LocalOne,
            Self::LocalQuorum => Level::LocalQuorum,
            Self::Quorum => Level::Quorum,
            Self::EachQuorum => Level::EachQuorum,
            Self::All => Level::All,
        }
    }

    /// A quorum of one centre overlaps writes that reached a quorum of each centre; not every server
    /// supports `EACH_QUORUM` for reads.
    pub(super) fn of_reads(self) -> Level {
        match self {
            Self::EachQuorum => Level::LocalQuorum,
            other => other.of_writes(),
        }
    }

    pub(super) fn of_claims(self) -> SerialConsistency {
        if self.is_local() { SerialConsistency::LocalSerial } else { SerialConsistency::Serial }
    }
}

pub(super) async fn session(options: &CqlOptions) -> Result<Session, CqlOpenError> {
    let addresses = options.addresses();
    let profile = profile(options).build().into_handle();
    let mut builder = SessionBuilder::new()
        .known_nodes(&addresses)
        .connection_timeout(options.request_time)
        // A silent node is given up as soon as its requests are, not after the driver's minute.
        .keepalive_interval((options.request_time / 2).max(SHORTEST_KEEPALIVE))
        .keepalive_timeout(options.request_time)
        .keyspaces_to_fetch([options.keyspace_name()])
        .pool_size(pool_size(options.connections))
        .default_execution_profile_handle(profile.clone());
    if let Some(Credentials { user, secret }) = &options.credentials {
        builder = builder.user(user, secret);
    }
    if let Some(tls) = &options.tls {
        builder = builder.tls_context(Some(tls::config(tls)?));
    }
    // Boxed: the driver's future is large.
    let session = Box::pin(builder.build()).await.map_err(|error| CqlOpenError::Connect {
        addresses: addresses.join(", "),
        reason: match &options.tls {
            None => error.to_string(),
            Some(_) => format!("{error}; {REFUSED_CERTIFICATE}"),
        },
    })?;
    if options.consistency.is_local()
        && let Some(centre) = local_centre(&session, &addresses).await
    {
        let policy = DefaultPolicy::builder().prefer_datacenter(centre).permit_dc_failover(false);
        let mut handle = profile;
        handle.map_to_another_profile(
            self::profile(options).load_balancing_policy(policy.build()).build(),
        );
    }
    Ok(session)
}

fn profile(options: &CqlOptions) -> ExecutionProfileBuilder {
    ExecutionProfile::builder()
        .consistency(options.consistency.of_writes())
        .serial_consistency(Some(options.consistency.of_claims()))
        .request_timeout(Some(options.request_time))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
}

fn pool_size(connections: Option<u32>) -> PoolSize {
    let connections = connections.and_then(|count| usize::try_from(count).ok());
    connections
        .and_then(NonZeroUsize::new)
        .map_or(PoolSize::PerShard(NonZeroUsize::MIN), PoolSize::PerHost)
}

/// Returns the data centre to send all requests to: the only one, or the one of the first contact point that is a node. So no
/// request goes to a data centre that is added later, which may hold no data yet.
async fn local_centre(session: &Session, addresses: &[String]) -> Option<String> {
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info();
    let mut centres: Vec<_> = nodes.iter().filter_map(|node| node.datacenter.clone()).collect();
    centres.sort_unstable();
    centres.dedup();
    if centres.len() < 2 {
        return centres.pop();
    }
    for address in addresses {
        let Ok(found) = tokio::net::lookup_host(address).await else { continue };
        for socket in found {
            let node = nodes.iter().find(|node| node.address.ip() == socket.ip());
            if let Some(centre) = node.and_then(|node| node.datacenter.clone()) {
                info!(centre, ?centres, "the database's local data centre is that of {address}");
                return Some(centre);
            }
        }
    }
    warn!(?centres, "no contact point is a node of the database: requests go to any data centre");
    None
}
