//! Names of the metrics, as scraped.

/// Spans that the receiver of traces has taken.
pub const TRACE_SPANS_EXPORTED_TOTAL: &str = "tidegate_trace_spans_exported_total";
/// Spans that were dropped: too many waited, or the receiver did not take them.
pub const TRACE_SPANS_DROPPED_TOTAL: &str = "tidegate_trace_spans_dropped_total";
