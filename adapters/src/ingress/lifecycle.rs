//! Lifecycle: the phase of the proxy between start and end, read by readiness and the ingress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The phase of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Ready and serving.
    Serving = 0,
    /// Not ready any more, but still serving: load balancers remove the proxy.
    Leaving = 1,
    /// External calls are refused; what was admitted finishes.
    Draining = 2,
}

/// The current [`Phase`]. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle(Arc<AtomicU8>);

impl Lifecycle {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Leaving,
            _ => Phase::Draining,
        }
    }

    /// Moves to a later phase; never moves back.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }
}
