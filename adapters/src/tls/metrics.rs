//! Metrics of TLS, named as they are scraped.

/// Clients whose handshake failed, by reason (late, refused).
pub const HANDSHAKES_FAILED_TOTAL: &str = "tidegate_tls_handshakes_failed_total";
/// When the first certificate of a file ends, in seconds since the Unix epoch, by the setting that names the file; gauge.
pub const CERTIFICATE_END: &str = "tidegate_tls_certificate_end_timestamp_seconds";
