//! Pending: how many effects of one source are not delivered yet, and when that is too many (decision 18 l).

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of pending effects from which on the next call of their source is refused.
pub(crate) const MAX_PENDING_BYTES: usize = 4 << 20;

/// Effects of one response.
pub(crate) const MAX_EFFECTS: usize = 256;

/// Bytes of the effects of one response.
pub(crate) const MAX_EFFECT_BYTES: usize = 1 << 20;

/// What of a source is planned or stored, and neither delivered nor dead.
#[derive(Debug, Default)]
pub(crate) struct PendingEffects {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

impl PendingEffects {
    pub(crate) fn add(&self, events: usize, bytes: usize) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Never below zero, so that an uncounted effect hides no counted one.
    pub(crate) fn sub(&self, events: usize, bytes: usize) {
        for (count, less) in [(&self.events, events), (&self.bytes, bytes)] {
            let subtract = |now: usize| Some(now.saturating_sub(less));
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract).unwrap_or_default();
        }
    }

    /// Effects and their bytes.
    pub(crate) fn get(&self) -> (usize, usize) {
        (self.events.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Whether the source is called no more for now. The delivery of an effect may go on to twice the bounds: two full actors
    /// must be able to drain each other.
    pub(crate) fn is_full(&self, max_events: u32, is_effect: bool) -> bool {
        Self::is_too_much(self.get(), max_events, is_effect)
    }

    /// Whether so many effects of a source, and bytes of them, are too many.
    pub(crate) fn is_too_much(
        (events, bytes): (usize, usize),
        max_events: u32,
        is_effect: bool,
    ) -> bool {
        let times = if is_effect { 2 } else { 1 };
        let max_events = usize::try_from(max_events).unwrap_or(usize::MAX).saturating_mul(times);
        events >= max_events || bytes >= times * MAX_PENDING_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_delivered_to_a_source_that_calls_no_longer_reach() {
        let pending = PendingEffects::default();
        pending.add(4, MAX_PENDING_BYTES - 1);
        assert!(
            pending.is_full(4, false) && !pending.is_full(4, true) && !pending.is_full(5, false)
        );
        pending.add(0, 1);
        assert!(pending.is_full(5, false) && !pending.is_full(5, true));
        pending.sub(9, usize::MAX);
        assert_eq!(pending.get(), (0, 0));
    }
}
