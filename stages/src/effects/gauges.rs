//! Gauges: how many effects wait, and for how long.

use std::time::Duration;

use metrics::gauge;
use tokio::time::sleep;

use super::Effects;
use crate::metrics::{
    DEAD_LETTERS, DEAD_LETTERS_BYTES, DEAD_LETTERS_OLDEST_SECONDS, EFFECTS_OLDEST_SECONDS,
    EFFECTS_PENDING,
};
use crate::ports::Clock;
use crate::state::Timestamp;

/// How often they are set.
const PERIOD: Duration = Duration::from_secs(5);

impl Effects {
    /// Sets the gauges again and again.
    pub(super) async fn show(&self, clock: &dyn Clock) {
        let pending = gauge!(EFFECTS_PENDING);
        let oldest = gauge!(EFFECTS_OLDEST_SECONDS);
        let dead = (gauge!(DEAD_LETTERS), gauge!(DEAD_LETTERS_BYTES));
        let dead_for = gauge!(DEAD_LETTERS_OLDEST_SECONDS);
        loop {
            let (count, since) = self.waiting();
            let now = clock.now();
            pending.set(of(count));
            oldest.set(seconds_since(since, now));
            let (letters, bytes, since) = {
                let ledger = self.0.dead.lock();
                (ledger.len(), ledger.bytes(), ledger.oldest())
            };
            dead.0.set(of(letters as u64));
            dead.1.set(of(bytes as u64));
            dead_for.set(seconds_since(since, now));
            sleep(PERIOD).await;
        }
    }

    /// How many effects wait, and since when the oldest does.
    fn waiting(&self) -> (u64, Option<Timestamp>) {
        let sources = self.0.sources.lock().all();
        let (mut count, mut since) = (0, None);
        for source in sources {
            let state = source.state.lock();
            count += state.pending().get().0 as u64;
            let oldest = state.in_memory.values().next().map(|in_memory| in_memory.at);
            let in_store = state.tried_in_store().map(|(_, tried)| tried.at);
            since = since.into_iter().chain(oldest).chain(in_store).min();
        }
        (count, since)
    }
}

/// 0 when there is nothing.
fn seconds_since(since: Option<Timestamp>, now: Timestamp) -> f64 {
    let age = since.map_or(0, |since| now.0.saturating_sub(since.0));
    Duration::from_micros(age).as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "beyond 2^52 nobody counts single effects")]
fn of(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use tidegate_pipeline::Bound;

    use super::*;
    use crate::activation::incarnation::Incarnation;
    use crate::actor::tests::definition;
    use crate::call::{Emitted, EmittedEffect};
    use crate::effects::DeadLetterBounds;
    use crate::invocation::Invocation;
    use crate::outbox::{EffectId, OutboxKey, OutboxRow};
    use crate::registry::directory::Directory;
    use crate::registry::entry::{Hosted, Source};

    #[test]
    fn the_oldest_effect_and_all_of_them_are_seen() {
        let definition = definition("joe");
        let id = Arc::new(definition.id.clone());
        let hosted = Hosted {
            definition: definition.into(),
            host_limit: 1,
            host: Arc::default(),
            several: None,
        };
        let entry = Directory::new().put(id, Source::Defined(hosted));
        let bound = Bound { events: 9, bytes: 1 << 20 };
        let effects = Effects::new(bound, DeadLetterBounds::default(), 1);
        effects.0.all_found.store(true, Ordering::Relaxed);
        assert_eq!(effects.waiting(), (0, None));
        let incarnation = Arc::new(Incarnation::new(1, 1));
        for place in [1, 2] {
            let row = OutboxRow {
                key: OutboxKey { epoch: 1, place },
                id: EffectId { epoch: 1, activation: 1, number: place },
                record: bytes::Bytes::new(),
            };
            let (invocation, at) = (Invocation::default(), Timestamp(10 + place));
            let emitted = vec![EmittedEffect { row, invocation, at }];
            effects.send(Emitted::new(entry.clone(), &incarnation, emitted));
        }
        assert_eq!(effects.waiting(), (2, Some(Timestamp(11))));
    }
}
