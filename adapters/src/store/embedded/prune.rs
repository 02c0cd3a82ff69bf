//! Prune: finds the revisions of a history that may go. The writer only removes them.
//!
//! A revision lies in the tables beside its key, so finding keys reads values: of all revisions that are kept, when they
//! are counted. No commit may wait for that.

use std::sync::Arc;

use tidegate_stages::history::{Keep, PAGE_BYTES};
use tidegate_stages::ports::StoreError;
use tokio::sync::{Semaphore, oneshot};

use super::damage::ReadError;
use super::engine::Engine;
use super::prunings::Pruning;
use super::queue::Work;
use super::reader::History;
use super::shared::Shared;
use super::{read_in_turn, unknown};

/// Revisions that one commit removes.
const STEP: usize = 4_096;

/// Drops the revisions that `keep` does not select, in steps: saves continue in between. Returns their number.
pub(super) async fn prune(
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
    history: Vec<u8>,
    keep: Keep,
) -> Result<u64, StoreError> {
    shared.queue.check_open()?;
    let pruning = shared.prunings.begin(history);
    let read = Reader { shared: &shared, permits: &reads, pruning: &pruning };
    let Some(end) = read.first_kept(keep).await? else { return Ok(0) };
    let (mut from, mut dropped) = (0, 0);
    loop {
        let mut keys = Vec::new();
        let mut more = true;
        while more && keys.len() < STEP {
            let limit = STEP - keys.len();
            let page = read.page(move |history| history.keys(from, end, limit)).await?;
            more = page.more;
            from = page.next;
            keys.extend(page.keys);
        }
        let count = keys.len() as u64;
        if count > 0 {
            let (answer, answered) = oneshot::channel();
            shared.queue.put(Work::Prune(pruning.clone(), keys, answer))?;
            if !answered.await.unwrap_or_else(|_| Err(unknown()))? {
                return Ok(dropped);
            }
            dropped += count;
        }
        if !more {
            return Ok(dropped);
        }
    }
}

/// Reads a history in pages, each in its turn: other readers get theirs in between.
#[derive(Clone, Copy)]
struct Reader<'a> {
    shared: &'a Arc<Shared>,
    permits: &'a Arc<Semaphore>,
    pruning: &'a Arc<Pruning>,
}

impl Reader<'_> {
    async fn page<T: Send + 'static>(
        self,
        read: impl FnOnce(&History<'_>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let pruning = self.pruning.clone();
        let read = move |engine: &Engine| read(&History { engine, prefix: &pruning.history });
        read_in_turn(self.shared.clone(), self.permits.clone(), read).await
    }

    /// Returns the number of the first revision that stays; `None` when all do. Reads each revision at most once.
    async fn first_kept(self, keep: Keep) -> Result<Option<u64>, StoreError> {
        let found = self.page(move |history| {
            let Some((first, _)) = history.first_from(0)? else { return Ok(None) };
            let Some(newest) = history.newest()? else { return Ok(None) };
            let end = keep.since.map(|since| history.boundary(since)).transpose()?;
            Ok(Some((first, end.unwrap_or(0), newest)))
        });
        let Some((first, mut end, newest)) = found.await? else { return Ok(None) };
        let kept = keep.newest.map(|count| count.max(1));
        // Not so many numbers, so not so many revisions.
        if let Some(mut left) = kept.filter(|kept| newest - first >= *kept) {
            let mut below = newest.saturating_add(1);
            while left > 0 {
                let page = self.page(move |history| history.count_down(end, below, left)).await?;
                (below, left) = (page.lowest, left - page.count);
                if !page.more {
                    break;
                }
            }
            if left == 0 {
                end = end.max(below);
            }
        }
        let end = end.min(newest);
        Ok((end > first).then_some(end))
    }
}

/// Some keys of a history, from the oldest on.
#[derive(Debug)]
struct Surplus {
    keys: Vec<Vec<u8>>,
    /// Of their values.
    bytes: usize,
    /// Where the next page begins.
    next: u64,
    more: bool,
}

/// Some revisions of a history, passed from the newest on.
#[derive(Debug)]
struct Passed {
    count: u64,
    /// The number of the last one.
    lowest: u64,
    more: bool,
}

impl History<'_> {
    /// Returns keys of the numbers from `from` to below `end`.
    fn keys(&self, from: u64, end: u64, limit: usize) -> Result<Surplus, ReadError> {
        let mut page = Surplus { keys: Vec::new(), bytes: 0, next: from, more: false };
        for entry in self.engine.history.range(self.key(from)..self.key(end.max(from))) {
            if page.keys.len() >= limit || page.bytes >= PAGE_BYTES {
                page.more = true;
                break;
            }
            let (key, value) = entry.into_inner().map_err(|error| self.engine.damage(&error))?;
            page.bytes += value.len();
            page.next = self.number(&key)?.saturating_add(1);
            page.keys.push(key.to_vec());
        }
        Ok(page)
    }

    /// Passes up to `count` revisions below the number `below`, none below `end`.
    fn count_down(&self, end: u64, below: u64, count: u64) -> Result<Passed, ReadError> {
        let mut page = Passed { count: 0, lowest: below, more: false };
        let mut bytes = 0;
        for entry in self.engine.history.range(self.key(end.min(below))..self.key(below)).rev() {
            if page.count >= count || bytes >= PAGE_BYTES {
                page.more = true;
                break;
            }
            let (key, value) = entry.into_inner().map_err(|error| self.engine.damage(&error))?;
            bytes += value.len();
            page.lowest = self.number(&key)?;
            page.count += 1;
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_stages::ports::StateStore;
    use tidegate_stages::testkit::conformance::registries::plain_definition;
    use tidegate_stages::testkit::conformance::states::{id, keep, save};

    use super::super::{EmbeddedStore, Options, keys};
    use super::*;

    #[tokio::test]
    async fn a_history_that_was_removed_and_begun_again_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), Options::default(), plain_definition).unwrap();
        let (actor, states) = (id("s", "a", ""), store.clone() as Arc<dyn StateStore>);
        let prune = async |pruning: &Arc<Pruning>| {
            let key = keys::revision(keys::history(&actor).unwrap(), 1);
            let (answer, answered) = oneshot::channel();
            store.shared.queue.put(Work::Prune(pruning.clone(), vec![key], answer)).unwrap();
            answered.await.unwrap().unwrap()
        };
        let begin = || store.shared.prunings.begin(keys::history(&actor).unwrap());

        keep(&states, vec![save(&actor, 1, true)]).await;
        let (before, other) = (begin(), store.shared.prunings.begin(b"other".to_vec()));
        states.delete(&actor).await.unwrap();
        keep(&states, vec![save(&actor, 1, true)]).await;
        assert!(!prune(&before).await);
        assert!(states.load_revision(&actor, 1).await.unwrap().is_some());
        assert!(!other.is_void());
        assert!(prune(&begin()).await);
        assert!(states.load_revision(&actor, 1).await.unwrap().is_none());
    }
}
