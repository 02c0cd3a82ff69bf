//! Ledger: which dead letters there are, and which of them leave because there are too many.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_pipeline::Bound;

use crate::actor::ActorId;
use crate::outbox::{EffectId, OutboxKey, OutboxRow};
use crate::state::Timestamp;

/// How many dead letters are kept, and bytes of their rows. Beyond that the oldest are dropped, never the newest.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetterBounds {
    /// Those of all sources.
    pub all: Bound,
    /// Those of one source.
    pub of_source: Bound,
}

impl Default for DeadLetterBounds {
    fn default() -> Self {
        Self {
            all: Bound { events: 16_384, bytes: 256 << 20 },
            of_source: Bound { events: 1_024, bytes: 16 << 20 },
        }
    }
}

/// The dead letters of all sources, without their content.
#[derive(Debug)]
pub(super) struct Ledger {
    bounds: DeadLetterBounds,
    by_source: HashMap<Arc<ActorId>, OfSource>,
    /// Those of all sources, the one that is dead longest first.
    by_age: BTreeMap<(Timestamp, OutboxKey), Arc<ActorId>>,
    bytes: usize,
}

/// Those of one source, by their row.
#[derive(Debug, Default)]
struct OfSource {
    letters: BTreeMap<OutboxKey, Letter>,
    bytes: usize,
}

/// One dead letter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    /// Since when it is dead.
    at: Timestamp,
    /// Its number.
    id: EffectId,
    /// Size of its row.
    bytes: usize,
}

impl Letter {
    /// The one in a row, dead since `at`.
    pub(super) fn of(row: &OutboxRow, at: Timestamp) -> Self {
        Self { at, id: row.id, bytes: row.bytes() }
    }
}

/// One that leaves because there are too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Surplus {
    pub(super) source: Arc<ActorId>,
    pub(super) key: OutboxKey,
    pub(super) id: EffectId,
}

fn is_over(bound: Bound, events: usize, bytes: usize) -> bool {
    events > 1 && (events > bound.events || bytes > bound.bytes)
}

impl Ledger {
    pub(super) fn new(bounds: DeadLetterBounds) -> Self {
        Self { bounds, by_source: HashMap::new(), by_age: BTreeMap::new(), bytes: 0 }
    }

    /// Adds one. It replaces what was there under its row. Returns those that are too many then, which are not counted any more:
    /// the first ones of its source, then those of all that are dead longest.
    pub(super) fn add(
        &mut self,
        source: &Arc<ActorId>,
        key: OutboxKey,
        letter: Letter,
    ) -> Vec<Surplus> {
        self.insert(source, key, letter);
        let mut surplus = Vec::new();
        while let Some((source, key)) = self.next_surplus(source) {
            let id = self.remove(&source, key).unwrap_or_default();
            surplus.push(Surplus { source, key, id });
        }
        surplus
    }

    fn next_surplus(&self, source: &Arc<ActorId>) -> Option<(Arc<ActorId>, OutboxKey)> {
        if let Some(OfSource { letters, bytes }) = self.by_source.get(source)
            && is_over(self.bounds.of_source, letters.len(), *bytes)
        {
            return letters.first_key_value().map(|(key, _)| (source.clone(), *key));
        }
        if is_over(self.bounds.all, self.by_age.len(), self.bytes) {
            return self.by_age.first_key_value().map(|((_, key), source)| (source.clone(), *key));
        }
        None
    }

    fn insert(&mut self, source: &Arc<ActorId>, key: OutboxKey, letter: Letter) {
        self.remove(source, key);
        let of_source = self.by_source.entry(source.clone()).or_default();
        of_source.letters.insert(key, letter);
        of_source.bytes += letter.bytes;
        self.bytes += letter.bytes;
        self.by_age.insert((letter.at, key), source.clone());
    }

    /// Removes one, if it is there; returns its number.
    pub(super) fn remove(&mut self, source: &Arc<ActorId>, key: OutboxKey) -> Option<EffectId> {
        let of_source = self.by_source.get_mut(source)?;
        let Letter { at, id, bytes } = of_source.letters.remove(&key)?;
        of_source.bytes -= bytes;
        if of_source.letters.is_empty() {
            self.by_source.remove(source);
        }
        self.bytes -= bytes;
        self.by_age.remove(&(at, key));
        Some(id)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Bytes of their rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when the oldest is dead.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.by_age.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Arc<ActorId> {
        Arc::new(ActorId { name: name.into(), ..ActorId::default() })
    }

    fn key(place: u64) -> OutboxKey {
        OutboxKey { epoch: 1, place }
    }

    fn letter(at: u64, bytes: usize) -> Letter {
        Letter { at: Timestamp(at), id: EffectId { number: at, ..EffectId::default() }, bytes }
    }

    /// The numbers of those that are too many.
    fn surplus(ledger: &mut Ledger, of: &str, place: u64, letter: Letter) -> Vec<u64> {
        let surplus = ledger.add(&source(of), key(place), letter);
        surplus.into_iter().map(|surplus| surplus.id.number).collect()
    }

    #[test]
    fn the_first_of_a_source_leaves_and_then_the_oldest_of_all() {
        let of_source = Bound { events: 2, bytes: 100 };
        let all = Bound { events: 3, bytes: 150 };
        let mut ledger = Ledger::new(DeadLetterBounds { all, of_source });
        assert_eq!(surplus(&mut ledger, "a", 1, letter(2, 10)), []);
        assert_eq!(surplus(&mut ledger, "a", 2, letter(1, 10)), []);
        assert_eq!(surplus(&mut ledger, "a", 3, letter(3, 10)), [2], "the first row");
        assert_eq!(surplus(&mut ledger, "b", 4, letter(4, 10)), []);
        assert_eq!(surplus(&mut ledger, "c", 5, letter(5, 10)), [1], "dead longest");
        assert_eq!(surplus(&mut ledger, "b", 6, letter(6, 95)), [4], "bytes of a source");
        assert_eq!(surplus(&mut ledger, "d", 7, letter(7, 60)), [3, 5, 6], "bytes of all");
        assert_eq!(surplus(&mut ledger, "e", 8, letter(8, 999)), [7]);
        assert_eq!((ledger.len(), ledger.bytes()), (1, 999), "the newest stays");
    }

    #[test]
    fn the_oldest_and_all_of_them_are_known() {
        let mut ledger = Ledger::new(DeadLetterBounds::default());
        ledger.add(&source("a"), key(1), letter(7, 10));
        ledger.add(&source("b"), key(2), letter(5, 20));
        ledger.add(&source("b"), key(2), letter(6, 30));
        assert_eq!((ledger.len(), ledger.bytes(), ledger.oldest()), (2, 40, Some(Timestamp(6))));
        ledger.remove(&source("b"), key(1));
        ledger.remove(&source("c"), key(2));
        ledger.remove(&source("b"), key(2));
        assert_eq!((ledger.len(), ledger.bytes(), ledger.oldest()), (1, 10, Some(Timestamp(7))));
        ledger.remove(&source("a"), key(1));
        assert_eq!((ledger.len(), ledger.bytes(), ledger.oldest()), (0, 0, None));
        assert!(ledger.by_source.is_empty());
    }
}
