//! Space-Saving: the keys of a stream that weigh most, in a table of a fixed size (Metwally, Agrawal, El Abbadi: Efficient
//! computation of frequent and top-k elements in data streams, 2005).
//!
//! A key that is in the table is counted. A new key takes the entry with the smallest count when the table is full, and that count
//! with it: it is the *error* of the new count. So of each entry the true weight is between `count - error` and `count`, and a key
//! that weighs more than the `capacity`th part of the total is in the table.
//!
//! A known key costs a look at a hash table, a new one also the order of a heap. The heap may know smaller counts than the entries
//! have: it is put right when the smallest count is needed, so each addition is paid for once, O(log capacity).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use tidegate_pipeline::randomness::Seeded;

/// A key, and what it weighs: at most `count`, at least `count - error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted<K> {
    pub(crate) key: K,
    pub(crate) count: u64,
    pub(crate) error: u64,
}

/// The keys that weigh most; see the [module](self).
#[derive(Debug)]
pub(crate) struct SpaceSaving<K> {
    capacity: usize,
    total: u64,
    entries: Vec<Entry<K>>,
    /// Places of the entries, by key.
    index: HashTable<usize>,
    /// Places of the entries, each with a count that is at most the entry's, the smallest first.
    order: BinaryHeap<Reverse<(u64, usize)>>,
    hasher: Seeded,
}

/// A counted key with its hash: whoever compares and moves entries leaves the keys alone, which are scattered in memory.
#[derive(Debug)]
struct Entry<K> {
    hash: u64,
    counted: Counted<K>,
}

/// What several tables say together.
#[derive(Debug)]
pub(crate) struct Together<K> {
    /// What all keys weigh.
    pub(crate) total: u64,
    /// The most that a key weighs that is not among the entries.
    pub(crate) others_at_most: u64,
    /// In no order.
    pub(crate) entries: Vec<Counted<K>>,
}

const HAS_PLACE: &str = "the index and the order have places of entries";

impl<K: Hash + Eq + Clone> SpaceSaving<K> {
    /// A table of so many entries, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            capacity,
            total: 0,
            entries: Vec::new(),
            // Twice the room: places of keys that went are used again before the table is put in order.
            index: HashTable::with_capacity(2 * capacity),
            order: BinaryHeap::new(),
            hasher: Seeded::default(),
        }
    }

    /// Adds to the weight of a key.
    pub(crate) fn add(&mut self, key: &K, weight: u64) {
        if weight == 0 {
            return;
        }
        self.total = self.total.saturating_add(weight);
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.place(hash, key) {
            let count = &mut self.entries.get_mut(place).expect(HAS_PLACE).counted.count;
            *count = count.saturating_add(weight);
            return;
        }
        let Self { entries, index, order, .. } = self;
        let place = if entries.len() < self.capacity {
            let counted = Counted { key: key.clone(), count: weight, error: 0 };
            entries.push(Entry { hash, counted });
            let place = entries.len() - 1;
            order.push(Reverse((weight, place)));
            place
        } else {
            let mut least = loop {
                let mut first = order.peek_mut().expect("a table has at least one entry");
                let Reverse((known, place)) = *first;
                let count = entries.get(place).expect(HAS_PLACE).counted.count;
                if known == count {
                    break first;
                }
                *first = Reverse((count, place));
                // Puts it where it belongs.
                drop(first);
            };
            let Reverse((error, place)) = *least;
            let entry = entries.get_mut(place).expect(HAS_PLACE);
            if let Ok(old) = index.find_entry(entry.hash, |at| *at == place) {
                old.remove();
            }
            let count = error.saturating_add(weight);
            *entry = Entry { hash, counted: Counted { key: key.clone(), count, error } };
            *least = Reverse((count, place));
            place
        };
        index.insert_unique(hash, place, |place| entries.get(*place).expect(HAS_PLACE).hash);
    }

    fn place(&self, hash: u64, key: &K) -> Option<usize> {
        let is_meant = |place: &usize| {
            let entry = self.entries.get(*place);
            entry.is_some_and(|entry| entry.hash == hash && entry.counted.key == *key)
        };
        self.index.find(hash, is_meant).copied()
    }

    /// What is known of each key that has an entry.
    fn counted(&self) -> impl Iterator<Item = &Counted<K>> {
        self.entries.iter().map(|entry| &entry.counted)
    }

    /// Forgets everything, and keeps the memory for it.
    pub(crate) fn clear(&mut self) {
        self.total = 0;
        self.entries.clear();
        self.index.clear();
        self.order.clear();
    }

    /// What is known of a key.
    fn get(&self, key: &K) -> Option<&Counted<K>> {
        let place = self.place(self.hasher.hash_one(key), key)?;
        self.entries.get(place).map(|entry| &entry.counted)
    }

    /// The most that a key weighs that has no entry.
    fn others_at_most(&self) -> u64 {
        if self.entries.len() < self.capacity {
            return 0;
        }
        self.counted().map(|counted| counted.count).min().unwrap_or_default()
    }

    /// What this table and another one say together, of two parts of a stream. A key that weighs more than the `capacity`th part
    /// of both is in it.
    pub(crate) fn together(&self, other: &Self) -> Together<K> {
        let least = (self.others_at_most(), other.others_at_most());
        let sum = |of: &Counted<K>, elsewhere: &Self, unseen: u64| {
            let (count, error) =
                elsewhere.get(&of.key).map_or((unseen, unseen), |found| (found.count, found.error));
            Counted {
                key: of.key.clone(),
                count: of.count.saturating_add(count),
                error: of.error.saturating_add(error),
            }
        };
        let own = self.counted().map(|entry| sum(entry, other, least.1));
        let rest = other.counted().filter(|entry| self.get(&entry.key).is_none());
        Together {
            total: self.total.saturating_add(other.total),
            others_at_most: least.0.saturating_add(least.1),
            entries: own.chain(rest.map(|entry| sum(entry, self, least.0))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    type Stream = Vec<(u8, u64)>;

    fn table_of(capacity: usize, stream: &Stream) -> SpaceSaving<u8> {
        let mut table = SpaceSaving::new(capacity);
        for (key, weight) in stream {
            table.add(key, *weight);
        }
        table
    }

    fn entries<K: Hash + Eq + Clone>(table: &SpaceSaving<K>) -> Vec<Counted<K>> {
        table.counted().cloned().collect()
    }

    fn weights(stream: &Stream) -> HashMap<u8, u64> {
        let mut weights = HashMap::new();
        for (key, weight) in stream {
            *weights.entry(*key).or_default() += weight;
        }
        weights
    }

    /// What has to be true of what a table, or two of them, say of a stream.
    fn check(
        entries: &[Counted<u8>],
        others_at_most: u64,
        capacity: usize,
        stream: &Stream,
    ) -> Result<(), TestCaseError> {
        let weights = weights(stream);
        let total: u64 = weights.values().sum();
        for Counted { key, count, error } in entries {
            let weight = weights.get(key).copied().unwrap_or_default();
            prop_assert!(count - error <= weight && weight <= *count, "{key}: {weight}");
        }
        let mut keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), entries.len());
        for (key, weight) in weights {
            if keys.binary_search(&key).is_err() {
                prop_assert!(weight <= others_at_most, "{key} weighs {weight}");
                prop_assert!(weight * u64::try_from(capacity).unwrap() <= total, "{key}: {weight}");
            }
        }
        Ok(())
    }

    fn stream() -> impl Strategy<Value = Stream> {
        // Some keys are more frequent than others.
        let key = prop_oneof![0..4_u8, 0..60_u8];
        prop::collection::vec((key, prop_oneof![Just(1_u64), 0..1_000_u64]), 0..400)
    }

    proptest! {
        #[test]
        fn the_true_weight_is_within_the_error_and_what_is_heavy_is_there(
            capacity in 1..24_usize,
            stream in stream(),
        ) {
            let table = table_of(capacity, &stream);
            prop_assert!(table.entries.len() <= capacity);
            prop_assert_eq!(table.order.len(), table.entries.len());
            prop_assert_eq!(table.index.len(), table.entries.len());
            let counts: u64 = table.counted().map(|counted| counted.count).sum();
            prop_assert_eq!(counts, table.total);
            check(&entries(&table), table.others_at_most(), capacity, &stream)?;
        }

        #[test]
        fn two_tables_say_together_what_is_true_of_both_parts(
            capacity in 1..24_usize,
            (one, other) in (stream(), stream()),
        ) {
            let together = table_of(capacity, &one).together(&table_of(capacity, &other));
            let both = [one, other].concat();
            prop_assert_eq!(together.total, both.iter().map(|(_, weight)| weight).sum::<u64>());
            check(&together.entries, together.others_at_most, capacity, &both)?;
        }

        #[test]
        fn a_table_that_forgot_is_as_a_new_one(capacity in 1..8_usize, stream in stream()) {
            let mut table = table_of(capacity, &stream);
            table.clear();
            for (key, weight) in &stream {
                table.add(key, *weight);
            }
            prop_assert_eq!(entries(&table), entries(&table_of(capacity, &stream)));
        }
    }

    #[test]
    fn what_is_heavy_among_a_hundred_thousand_keys_is_found_in_a_thousand_entries() {
        let mut table = SpaceSaving::new(1_000);
        for round in 0..100_000_u32 {
            table.add(&round, 1);
            // Each of ten keys has a hundredth of the total or more.
            table.add(&(1_000_000 + round % 10), 1);
        }
        assert_eq!(
            (table.entries.len(), table.index.len(), table.order.len()),
            (1_000, 1_000, 1_000)
        );
        let mut heaviest = entries(&table);
        heaviest.sort_by_key(|entry| Reverse(entry.count));
        let first: Vec<_> = heaviest.iter().take(10).collect();
        assert!(first.iter().all(|entry| entry.key >= 1_000_000), "{first:?}");
        assert!(first.iter().all(|entry| entry.count - entry.error <= 10_000), "{first:?}");
        assert!(first.iter().all(|entry| entry.count >= 10_000), "{first:?}");
        assert!(table.others_at_most() <= 200, "{}", table.others_at_most());
    }
}
