//! Live set: the actors in memory, how much they take, and which of them leaves next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::registry::entry::{Entry, LivePlace};

/// The actors in memory. Changes of one actor are made under its key, one after the other.
#[derive(Debug, Default)]
pub(crate) struct LiveSet {
    lists: Mutex<Lists>,
    bytes: AtomicUsize,
}

/// Which actors may leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Stateful ones. False while the store fails.
    pub(crate) stateful: bool,
    /// Stateless ones, although there are stateful ones.
    pub(crate) stateless: bool,
}

#[derive(Debug, Default)]
struct Lists {
    stateful: Vec<Arc<Entry>>,
    stateless: Vec<Arc<Entry>>,
}

impl Lists {
    fn of(&mut self, stateful: bool) -> &mut Vec<Arc<Entry>> {
        if stateful { &mut self.stateful } else { &mut self.stateless }
    }

    fn remove(&mut self, place: LivePlace) {
        let list = self.of(place.stateful);
        list.swap_remove(place.index);
        if let Some(moved) = list.get(place.index) {
            moved.live_place.set(Some(place));
        }
        if is_sparse(list.len(), list.capacity()) {
            let len = 2 * list.len();
            list.shrink_to(len);
        }
    }
}

impl LiveSet {
    /// Adds an actor that takes so many bytes.
    pub(crate) fn add(&self, entry: &Arc<Entry>, stateful: bool, bytes: usize) {
        let mut lists = self.lists.lock();
        match entry.live_place.get() {
            Some(place) if place.stateful == stateful => {}
            other => {
                if let Some(place) = other {
                    lists.remove(place);
                }
                let list = lists.of(stateful);
                entry.live_place.set(Some(LivePlace { stateful, index: list.len() }));
                list.push(entry.clone());
            }
        }
        drop(lists);
        self.resize(entry, bytes);
    }

    /// Removes an actor.
    pub(crate) fn remove(&self, entry: &Entry) {
        let mut lists = self.lists.lock();
        if let Some(place) = entry.live_place.take() {
            lists.remove(place);
        }
        drop(lists);
        self.resize(entry, 0);
    }

    /// Notes how many bytes an actor takes now. Returns whether that has changed.
    pub(crate) fn resize(&self, entry: &Entry, bytes: usize) -> bool {
        let before = entry.live_bytes.load(Ordering::Relaxed);
        if before == bytes {
            return false;
        }
        entry.live_bytes.store(bytes, Ordering::Relaxed);
        if bytes > before {
            self.bytes.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        true
    }

    /// Number of actors in memory.
    pub(crate) fn len(&self) -> usize {
        let lists = self.lists.lock();
        lists.stateful.len() + lists.stateless.len()
    }

    /// How many bytes they take together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns all actors in memory.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let lists = self.lists.lock();
        lists.stateful.iter().chain(&lists.stateless).cloned().collect()
    }

    /// Returns the actor that leaves next: the least recently used one of a sample, busy ones excepted. This approximates LRU;
    /// the cost does not depend on the number of actors.
    pub(crate) fn next_to_leave(&self, seed: usize, choice: Choice) -> Option<Arc<Entry>> {
        let lists = self.lists.lock();
        let least = |list, wanted: bool| if wanted { least_used(list, seed) } else { None };
        let stateless = choice.stateless || lists.stateful.is_empty();
        least(&lists.stateful, choice.stateful)
            .or_else(|| least(&lists.stateless, stateless))
            .cloned()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let lists = self.lists.lock();
        lists.stateful.capacity() + lists.stateless.capacity()
    }
}

fn least_used(list: &[Arc<Entry>], seed: usize) -> Option<&Arc<Entry>> {
    const LOOKED_AT: usize = 64;
    const SAMPLES: usize = 8;
    let stride = list.len() / LOOKED_AT + 1;
    // Samples are spread over the list and start at another index each time.
    let start = seed.wrapping_mul(0x9E37_79B9).checked_rem(list.len())?;
    let places = (0..list.len().min(LOOKED_AT)).map(|step| (start + step * stride) % list.len());
    let free = places.filter_map(|place| list.get(place)).filter(|entry| entry.may_leave());
    free.take(SAMPLES).min_by_key(|entry| entry.last_used_ms())
}

/// Whether a collection uses so little of its memory that shrinking it pays.
pub(super) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > 64 && len < capacity / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::tests::definition;
    use crate::registry::directory::Directory;
    use crate::registry::entry::Source;

    fn entries(count: usize) -> (Directory, Vec<Arc<Entry>>) {
        let directory = Directory::new();
        let put = |number| {
            let definition = definition(&format!("a{number}"));
            let id = Arc::new(definition.id.clone());
            directory.put(id, Source::Defined(directory.hosted(definition.into()).0))
        };
        let entries = (0..count).map(put).collect();
        (directory, entries)
    }

    #[test]
    fn the_live_set_loses_and_repeats_nobody() {
        let (_directory, entries) = entries(10);
        let live = LiveSet::default();
        for entry in &entries {
            live.add(entry, true, 10);
            live.add(entry, false, 10);
            live.add(entry, false, 10);
        }
        assert_eq!((live.len(), live.bytes()), (10, 100));
        for entry in entries.iter().step_by(2) {
            live.remove(entry);
            live.remove(entry);
        }
        let mut left: Vec<_> = live.all().iter().map(|e| e.actor.name().to_owned()).collect();
        left.sort();
        assert_eq!(left, ["a1", "a3", "a5", "a7", "a9"]);
        live.resize(&entries[1], 7);
        assert_eq!(live.bytes(), 47);
        live.add(&entries[1], true, 1);
        live.remove(&entries[3]);
        assert_eq!((live.len(), live.bytes()), (4, 31));
    }
}
