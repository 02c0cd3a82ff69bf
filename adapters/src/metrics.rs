//! Names of the metrics, as scraped.

/// Lines of the log that were dropped, because the queue was full or stderr did not take them.
pub const LOG_LINES_DROPPED_TOTAL: &str = "tidegate_log_lines_dropped_total";
/// Whether the last change of files that are read again could not be used, by what they hold: 1 or 0.
pub const RELOAD_BROKEN: &str = "tidegate_reload_broken";
/// Changes of such files, by what they hold and outcome.
pub const RELOADS_TOTAL: &str = "tidegate_reloads_total";
/// Outcomes that an audit file did not take; the requests were on it before.
pub const AUDIT_LINES_DROPPED_TOTAL: &str = "tidegate_audit_lines_dropped_total";
/// Seconds from handing a commit to the engine until it is durable; histogram.
pub const STORE_COMMIT_SECONDS: &str = "tidegate_store_commit_seconds";
/// Saves in one commit of the store; histogram.
pub const STORE_COMMIT_SAVES: &str = "tidegate_store_commit_saves";
/// Bytes on disk of the embedded store's tables, by part (current, history); gauge.
pub const STORE_BYTES: &str = "tidegate_store_bytes";
/// Bytes that are free on the device of the embedded store; gauge.
pub const STORE_DISK_FREE_BYTES: &str = "tidegate_store_disk_free_bytes";
/// Whether the embedded store refuses changes because less than its reserve is free: 1 or 0.
pub const STORE_DISK_FULL: &str = "tidegate_store_disk_full";
