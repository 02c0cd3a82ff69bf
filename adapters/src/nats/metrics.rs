//! Metrics: counts calls over NATS by their outcome.

use ::metrics::{Counter, counter};

use crate::metrics::{NATS_CALLS_IN_TOTAL, NATS_CALLS_OUT_TOTAL};

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
