//! Rare: counters of what seldom happens are there from the first scrape on. Otherwise their first count would be their first sample,
//! which `increase` does not see, and a panel of a dashboard would have no data until then.

use metrics::counter;

use super::{
    AUDIT_LINES_DROPPED_TOTAL, CONNECTIONS_CLOSED_TOTAL, CONNECTIONS_REFUSED_TOTAL,
    CREDENTIALS_REFUSED_TOTAL, HANDSHAKES_FAILED_TOTAL, NATS_MESSAGES_DROPPED_TOTAL,
    TRACE_SPANS_DROPPED_TOTAL, TRACE_SPANS_EXPORTED_TOTAL,
};

/// With a label and its values.
const LABELLED: [(&str, &str, &[&str]); 4] = [
    (CONNECTIONS_CLOSED_TOTAL, "reason", &["idle", "head", "write", "place"]),
    (CONNECTIONS_REFUSED_TOTAL, "reason", &["peer", "descriptors"]),
    (CREDENTIALS_REFUSED_TOTAL, "means", &["token", "password"]),
    (HANDSHAKES_FAILED_TOTAL, "reason", &["late", "refused"]),
];

const PLAIN: [&str; 4] = [
    AUDIT_LINES_DROPPED_TOTAL,
    NATS_MESSAGES_DROPPED_TOTAL,
    TRACE_SPANS_EXPORTED_TOTAL,
    TRACE_SPANS_DROPPED_TOTAL,
];

/// Makes them.
pub(crate) fn prepare() {
    for (name, label, values) in LABELLED {
        for value in values {
            counter!(name, label => *value).increment(0);
        }
    }
    for name in PLAIN {
        counter!(name).increment(0);
    }
}
