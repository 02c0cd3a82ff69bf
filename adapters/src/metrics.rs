//! Metrics: their names, as scraped, and what they mean.

pub(crate) mod histograms;
pub(crate) mod process;
pub(crate) mod rare;
pub(crate) mod spawn;
pub(crate) mod summary;
mod table;
mod text;

pub use table::{describe, markdown};

tidegate_pipeline::described! {
    /// Lines of the log that were dropped, because the queue was full or stderr did not take them.
    Counter LOG_LINES_DROPPED_TOTAL = "tidegate_log_lines_dropped_total";
    /// Lines of the log that were left out, because there were too many of one kind.
    Counter LOG_LINES_LEFT_OUT_TOTAL = "tidegate_log_lines_left_out_total";
    /// Whether the last change of files that are read again could not be used, by what they hold: 1 or 0.
    Gauge RELOAD_BROKEN = "tidegate_reload_broken" {what};
    /// Changes of files that are read again, by what they hold.
    Counter RELOADS_TOTAL = "tidegate_reloads_total" {what, outcome};
    /// Lines that an audit file did not take: outcomes, whose requests were on it before, and calls that a policy refused.
    Counter AUDIT_LINES_DROPPED_TOTAL = "tidegate_audit_lines_dropped_total";
    /// Time from handing a commit to the store until it is durable.
    Histogram STORE_COMMIT_SECONDS = "tidegate_store_commit_seconds";
    /// Bytes of the saves in one commit of the embedded store.
    Histogram STORE_COMMIT_BYTES = "tidegate_store_commit_bytes";
    /// Time that opening the store took at the start, with what was replayed.
    Gauge STORE_OPEN_SECONDS = "tidegate_store_open_seconds";
    /// Saves in one commit of the store.
    Histogram STORE_COMMIT_SAVES = "tidegate_store_commit_saves";
    /// Bytes on disk of the embedded store's tables (current, history).
    Gauge STORE_BYTES = "tidegate_store_bytes" {part};
    /// Bytes that are free on the device of the embedded store.
    Gauge STORE_DISK_FREE_BYTES = "tidegate_store_disk_free_bytes";
    /// Whether the embedded store refuses changes because less than its reserve is free: 1 or 0.
    Gauge STORE_DISK_FULL = "tidegate_store_disk_full";
    /// Whether the store works: 1 or 0.
    Gauge STORE_UP = "tidegate_store_up";
    /// Idle connections to hosts.
    Gauge IDLE_CONNECTIONS = "tidegate_host_idle_connections";
    /// Connections opened to hosts.
    Counter CONNECTS_TOTAL = "tidegate_host_connects_total";
    /// Open connections of clients.
    Gauge CONNECTIONS = "tidegate_http_connections";
    /// Connections that the proxy closed (idle, head, write: time limits; place: made way for a new one).
    Counter CONNECTIONS_CLOSED_TOTAL = "tidegate_http_connections_closed_total" {reason};
    /// Connections that were closed as soon as they were accepted.
    Counter CONNECTIONS_REFUSED_TOTAL = "tidegate_http_connections_refused_total" {reason};
    /// Requests with a response, at the admin port too; an unusual status of an action counts as 4xx.
    Counter REQUESTS_TOTAL = "tidegate_http_requests_total" {route, status};
    /// Requests that failed, by kind of failure, who failed (proxy, host, store, policy) and status; an unusual status of an action
    /// counts as 4xx.
    Counter ERRORS_TOTAL = "tidegate_errors_total" {kind, source, status};
    /// Requests whose credentials were wrong (token, password).
    Counter CREDENTIALS_REFUSED_TOTAL = "tidegate_credentials_refused_total" {means};
    /// Clients whose handshake failed (late, refused).
    Counter HANDSHAKES_FAILED_TOTAL = "tidegate_tls_handshakes_failed_total" {reason};
    /// When the first certificate of a file ends, in seconds since the Unix epoch, by the setting that names the file.
    Gauge CERTIFICATE_END = "tidegate_tls_certificate_end_timestamp_seconds" {setting};
    /// Whether there is a connection to a NATS server: 1 or 0.
    Gauge NATS_CONNECTED = "tidegate_nats_connected";
    /// Calls that were sent to other systems, or were to be (ok; error, an answer that says no; unsent; unanswered).
    Counter NATS_CALLS_OUT_TOTAL = "tidegate_nats_calls_out_total" {outcome};
    /// Calls of other systems (ok; error, an answer that says no; refused, because too many are under way).
    Counter NATS_CALLS_IN_TOTAL = "tidegate_nats_calls_in_total" {outcome};
    /// Messages that were dropped, because too many waited to be read.
    Counter NATS_MESSAGES_DROPPED_TOTAL = "tidegate_nats_messages_dropped_total";
    /// Whether there is a connection to a NATS server for broadcasts: 1 or 0.
    Gauge NATS_BROADCASTS_CONNECTED = "tidegate_nats_broadcasts_connected";
    /// Broadcasts for other members (sent; dropped, because too many waited to be sent; unsent, without a connection or larger
    /// than NATS carries).
    Counter NATS_BROADCASTS_OUT_TOTAL = "tidegate_nats_broadcasts_out_total" {outcome};
    /// Broadcasts of other members (taken; dropped, because too many wait for their subscribers; refused, by a policy or because they
    /// cannot be read; repeated).
    Counter NATS_BROADCASTS_IN_TOTAL = "tidegate_nats_broadcasts_in_total" {outcome};
    /// Broadcasts of other members that did not come, as the next one of the same topic showed.
    Counter NATS_BROADCASTS_MISSED_TOTAL = "tidegate_nats_broadcasts_missed_total";
    /// Spans that the receiver of traces has taken.
    Counter TRACE_SPANS_EXPORTED_TOTAL = "tidegate_trace_spans_exported_total";
    /// Spans that were dropped: too many waited, or the receiver did not take them.
    Counter TRACE_SPANS_DROPPED_TOTAL = "tidegate_trace_spans_dropped_total";
    /// 1, with the version of this binary.
    Gauge BUILD_INFO = "tidegate_build_info" {version};
    /// Seconds of processor time that the process has used.
    Counter PROCESS_CPU = "process_cpu_seconds_total";
    /// Bytes of memory that the process has in use.
    Gauge PROCESS_RESIDENT = "process_resident_memory_bytes";
    /// Bytes of addresses that the process has in use.
    Gauge PROCESS_VIRTUAL = "process_virtual_memory_bytes";
    /// Files and sockets that the process has open.
    Gauge PROCESS_FILES = "process_open_fds";
    /// Most files and sockets that it may have open.
    Gauge PROCESS_FILES_MOST = "process_max_fds";
    /// Threads of the process.
    Gauge PROCESS_THREADS = "process_threads";
    /// When the process started, in seconds since the Unix epoch.
    Gauge PROCESS_START = "process_start_time_seconds";
}
