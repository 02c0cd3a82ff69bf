//! Metrics of the host client, named as they are scraped.

/// Idle connections in the pool.
pub const IDLE_CONNECTIONS: &str = "tidegate_host_idle_connections";
/// Connections opened to hosts.
pub const CONNECTS_TOTAL: &str = "tidegate_host_connects_total";
