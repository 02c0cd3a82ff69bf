//! Seen: the newest effect of each source that an actor has answered, and which sources it may forget (decision 18 i).

use std::sync::Arc;

use hashbrown::HashMap;

use crate::outbox::{EffectId, EffectSource, Seen};

/// Sources that one commit forgets at most: a store takes so many in one write.
pub(crate) const FORGOTTEN: usize = 256;

/// What an active actor has seen.
#[derive(Debug, Default)]
pub(crate) struct SeenEffects {
    newest: HashMap<Arc<EffectSource>, EffectId>,
    /// After how many more effects it asks again which sources it may forget.
    pause: usize,
}

impl SeenEffects {
    pub(crate) fn len(&self) -> usize {
        self.newest.len()
    }

    /// Whether an effect was answered already.
    pub(crate) fn has(&self, source: &EffectSource, id: EffectId) -> bool {
        self.newest.get(source).is_some_and(|newest| id <= *newest)
    }

    pub(crate) fn see(&mut self, seen: Seen) {
        let newest = self.newest.entry(seen.source).or_insert(seen.id);
        *newest = seen.id.max(*newest);
    }

    /// Forgets sources when there are more than `most`: the oldest of those that have nothing pending. Returns the forgotten
    /// sources, whose rows the caller removes in the commit of the effect. After a look at all `n`
    /// sources, the next one comes `n / 4` effects later, or at once when there were more to forget than one look may.
    pub(crate) fn forget(
        &mut self,
        most: usize,
        has_nothing_pending: impl Fn(&EffectSource) -> bool,
    ) -> Vec<Arc<EffectSource>> {
        let count = self.newest.len();
        self.pause = self.pause.saturating_sub(1);
        if count <= most || self.pause > 0 {
            return Vec::new();
        }
        let mut oldest: Vec<_> = self.newest.iter().map(|(source, id)| (*id, source)).collect();
        oldest.sort_unstable();
        // Some more than those that are too many, so that this is not asked with each effect.
        let asked = oldest.into_iter().take(count - most + most / 4);
        let may_go = asked.map(|(_, source)| source).filter(|source| has_nothing_pending(source));
        let forgotten: Vec<_> = may_go.take(FORGOTTEN).cloned().collect();
        for source in &forgotten {
            self.newest.remove(source);
        }
        self.pause = if forgotten.len() == FORGOTTEN { 0 } else { self.newest.len() / 4 };
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: u64) -> EffectSource {
        EffectSource { name: name.to_string(), ..EffectSource::default() }
    }

    fn id(number: u64) -> EffectId {
        EffectId { number, ..EffectId::default() }
    }

    fn having_seen(numbers: std::ops::Range<u64>) -> SeenEffects {
        let mut seen = SeenEffects::default();
        for number in numbers {
            seen.see(Seen { source: source(number).into(), id: id(number) });
        }
        seen
    }

    #[test]
    fn the_oldest_sources_with_nothing_pending_are_forgotten_when_there_are_too_many() {
        let mut seen = having_seen(0..40);
        assert!(seen.forget(40, |_| true).is_empty(), "not too many");
        seen.see(Seen { source: source(40).into(), id: id(40) });
        let is_even = |source: &EffectSource| source.name.parse::<u64>().unwrap() % 2 == 0;
        let mut forgotten: Vec<u64> =
            seen.forget(40, is_even).iter().map(|of| of.name.parse().unwrap()).collect();
        forgotten.sort_unstable();
        assert_eq!(forgotten, [0, 2, 4, 6, 8, 10]);
        assert!(seen.has(&source(1), id(1)) && !seen.has(&source(2), id(2)));
        assert!(seen.has(&source(40), id(40)));
    }

    #[test]
    fn what_is_pending_is_kept_however_many_and_not_asked_for_each_time() {
        let mut seen = having_seen(0..50);
        assert!(seen.forget(40, |_| false).is_empty());
        let asked = std::cell::Cell::new(0);
        let ask = |_: &EffectSource| {
            asked.set(asked.get() + 1);
            true
        };
        for _ in 0..11 {
            assert!(seen.forget(40, ask).is_empty() && asked.get() == 0);
        }
        assert_eq!((seen.forget(40, ask).len(), seen.len()), (20, 30));
    }

    #[test]
    fn one_commit_forgets_a_bounded_number_and_the_next_one_goes_on() {
        let mut seen = having_seen(0..1_000);
        let mut left = Vec::new();
        for _ in 0..5 {
            left.push(seen.forget(100, |_| true).len());
        }
        assert_eq!(left, [256, 256, 256, 157, 0]);
    }
}
