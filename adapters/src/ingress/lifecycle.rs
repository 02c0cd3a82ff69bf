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

type Check = dyn Fn() -> bool + Send + Sync;

/// The current [`Phase`], and a health check that readiness also needs. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle {
    phase: Arc<AtomicU8>,
    healthy: Arc<Check>,
}

impl std::fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lifecycle").field(&self.phase()).finish()
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new(|| true)
    }
}

impl Lifecycle {
    /// Starts in [`Phase::Serving`]; `healthy` returns whether the dependencies of the proxy work.
    pub fn new(healthy: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { phase: Arc::default(), healthy: Arc::new(healthy) }
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Leaving,
            _ => Phase::Draining,
        }
    }

    /// Moves to a later phase; never moves back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Whether clients should send new work to this proxy.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving && (self.healthy)()
    }
}
