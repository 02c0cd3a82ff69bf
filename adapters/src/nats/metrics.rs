//! Metrics of NATS, named as they are scraped.

use ::metrics::{Counter, counter};

/// Whether there is a connection to a NATS server: 1 or 0.
pub const NATS_CONNECTED: &str = "tidegate_nats_connected";
/// Calls that were sent to other systems, or were to be, by outcome: `ok`; `error`, an answer that says no; `unsent`;
/// `unanswered`.
pub const NATS_CALLS_OUT_TOTAL: &str = "tidegate_nats_calls_out_total";
/// Calls of other systems, by outcome: `ok`; `error`, an answer that says no; `refused`, because too many are under way.
pub const NATS_CALLS_IN_TOTAL: &str = "tidegate_nats_calls_in_total";
/// Messages that were dropped, because too many waited to be read.
pub const NATS_MESSAGES_DROPPED_TOTAL: &str = "tidegate_nats_messages_dropped_total";

/// Counts calls to other systems.
#[derive(Clone)]
pub(super) struct CallsOut {
    pub(super) ok: Counter,
    pub(super) error: Counter,
    pub(super) unsent: Counter,
    pub(super) unanswered: Counter,
}

impl std::fmt::Debug for CallsOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallsOut")
    }
}

impl CallsOut {
    pub(super) fn new() -> Self {
        let of = |outcome| counter!(NATS_CALLS_OUT_TOTAL, "outcome" => outcome);
        Self {
            ok: of("ok"),
            error: of("error"),
            unsent: of("unsent"),
            unanswered: of("unanswered"),
        }
    }
}

/// Counts calls of other systems.
#[derive(Clone)]
pub(super) struct CallsIn {
    pub(super) ok: Counter,
    pub(super) error: Counter,
    pub(super) refused: Counter,
}

impl std::fmt::Debug for CallsIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallsIn")
    }
}

impl CallsIn {
    pub(super) fn new() -> Self {
        let of = |outcome| counter!(NATS_CALLS_IN_TOTAL, "outcome" => outcome);
        Self { ok: of("ok"), error: of("error"), refused: of("refused") }
    }
}
