//! Names of the metrics, as scraped.

/// Seconds from handing a commit to the engine until it is durable; histogram.
pub const STORE_COMMIT_SECONDS: &str = "tidegate_store_commit_seconds";
/// Saves in one commit of the store; histogram.
pub const STORE_COMMIT_SAVES: &str = "tidegate_store_commit_saves";
/// Bytes on disk of the embedded store's tables, by part (current, history); gauge.
pub const STORE_BYTES: &str = "tidegate_store_bytes";
