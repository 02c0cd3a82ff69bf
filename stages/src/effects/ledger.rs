//! Ledger: which dead letters there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::actor::ActorId;
use crate::outbox::OutboxKey;
use crate::state::Timestamp;

/// The dead letters of all sources, without their content.
#[derive(Debug, Default)]
pub(super) struct Ledger {
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
    pub(super) at: Timestamp,
    /// Size of its row.
    pub(super) bytes: usize,
}

impl Ledger {
    /// Adds one. It replaces what was there under its row.
    pub(super) fn add(&mut self, source: &Arc<ActorId>, key: OutboxKey, letter: Letter) {
        self.remove(source, key);
        let of_source = self.by_source.entry(source.clone()).or_default();
        of_source.letters.insert(key, letter);
        of_source.bytes += letter.bytes;
        self.bytes += letter.bytes;
        self.by_age.insert((letter.at, key), source.clone());
    }

    /// Removes one, if it is there.
    pub(super) fn remove(&mut self, source: &Arc<ActorId>, key: OutboxKey) {
        let Some(of_source) = self.by_source.get_mut(source) else { return };
        let Some(Letter { at, bytes }) = of_source.letters.remove(&key) else { return };
        of_source.bytes -= bytes;
        if of_source.letters.is_empty() {
            self.by_source.remove(source);
        }
        self.bytes -= bytes;
        self.by_age.remove(&(at, key));
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

    #[test]
    fn the_oldest_and_all_of_them_are_known() {
        let mut ledger = Ledger::default();
        let letter = |at, bytes| Letter { at: Timestamp(at), bytes };
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
