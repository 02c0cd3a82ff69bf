//! Metrics: counts calls and broadcasts over NATS by their outcome.

use ::metrics::{Counter, counter};

use crate::metrics::{
    NATS_BROADCASTS_IN_TOTAL, NATS_BROADCASTS_MISSED_TOTAL, NATS_BROADCASTS_OUT_TOTAL,
    NATS_CALLS_IN_TOTAL, NATS_CALLS_OUT_TOTAL,
};

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

/// Counts broadcasts for other members.
#[derive(Clone)]
pub(super) struct BroadcastsOut {
    pub(super) sent: Counter,
    pub(super) dropped: Counter,
    pub(super) unsent: Counter,
}

impl std::fmt::Debug for BroadcastsOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BroadcastsOut")
    }
}

impl BroadcastsOut {
    pub(super) fn new() -> Self {
        let of = |outcome| counter!(NATS_BROADCASTS_OUT_TOTAL, "outcome" => outcome);
        Self { sent: of("sent"), dropped: of("dropped"), unsent: of("unsent") }
    }
}

/// Counts broadcasts of other members.
#[derive(Clone)]
pub(super) struct BroadcastsIn {
    pub(super) taken: Counter,
    pub(super) dropped: Counter,
    pub(super) refused: Counter,
    pub(super) repeated: Counter,
    pub(super) missed: Counter,
}

impl std::fmt::Debug for BroadcastsIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BroadcastsIn")
    }
}

impl BroadcastsIn {
    pub(super) fn new() -> Self {
        let of = |outcome| counter!(NATS_BROADCASTS_IN_TOTAL, "outcome" => outcome);
        Self {
            taken: of("taken"),
            dropped: of("dropped"),
            refused: of("refused"),
            repeated: of("repeated"),
            missed: counter!(NATS_BROADCASTS_MISSED_TOTAL),
        }
    }
}
