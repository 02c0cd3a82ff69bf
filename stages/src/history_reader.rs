//! History reader: reads an actor's state at a time, directly from the store's durable history.
//!
//! A read activates no actor and does not wait for the actor's mailbox. A history holds only appended states; the actor may have
//! had others. [`StateAt::exact`] says whether the state is certain.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::actor::ActorId;
use crate::error::Error;
use crate::history::{Interval, Page};
use crate::ports::{Clock, StateStore};
use crate::state::{Head, Revision, Timestamp};
use crate::store_limit::{STORE_LIMIT, in_time};

/// Concurrent reads of the store; more reads wait.
const READERS: usize = 32;

/// The state of an actor at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateAt {
    /// The newest revision at or before that time.
    pub revision: Revision,
    /// Whether this revision is certainly the actor's durable state at that time.
    pub exact: bool,
}

/// Reads histories from a store; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    readers: Arc<Semaphore>,
}

impl HistoryReader {
    /// Reads from this store.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, readers: Arc::new(Semaphore::new(READERS)) }
    }

    async fn enter(&self) -> Result<SemaphorePermit<'_>, Error> {
        let entered = timeout(STORE_LIMIT, self.readers.acquire()).await;
        entered.ok().and_then(Result::ok).ok_or_else(|| Error::Overloaded {
            reason: "too many questions for histories wait for the state store".into(),
            retry_after: Duration::from_secs(1),
        })
    }

    /// Returns a page of the revisions in an interval, ascending.
    ///
    /// # Errors
    /// When the store fails or does not respond in time.
    pub async fn revisions(
        &self,
        id: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> Result<Page<Revision>, Error> {
        let _entered = self.enter().await?;
        Ok(in_time(self.store.load_by_interval(id, interval, limit)).await?)
    }

    /// Returns one revision.
    ///
    /// # Errors
    /// When the history does not hold the revision, or the store fails or does not respond in time.
    pub async fn revision(&self, id: &ActorId, number: u64) -> Result<Revision, Error> {
        let _entered = self.enter().await?;
        let found = in_time(self.store.load_revision(id, number)).await?;
        found.ok_or_else(|| Error::no_revision(&id.system, &id.name, number))
    }

    /// Returns the latest durable state, in the history or not. Its number is that of the newest revision; that revision's
    /// content may be older.
    ///
    /// # Errors
    /// When there is no state, or the store fails or does not respond in time.
    pub async fn latest(&self, id: &ActorId) -> Result<Revision, Error> {
        let _entered = self.enter().await?;
        let head = in_time(self.store.load(id)).await?.ok_or_else(|| {
            let ActorId { name, system, .. } = id;
            Error::NotFound(format!("Actor {name} on ActorSystem {system} has no durable state"))
        })?;
        Ok(head.as_revision())
    }

    /// Returns the newest revision at or before a time. `settled`: whether the actor had no commit in flight before this call.
    ///
    /// # Errors
    /// When the history has no revision that old, or the store fails or does not respond in time.
    pub async fn at(&self, id: &ActorId, at: Timestamp, settled: bool) -> Result<StateAt, Error> {
        let now = self.clock.now();
        let _entered = self.enter().await?;
        let found = in_time(self.store.load_at(id, at)).await?;
        let revision = found.ok_or_else(|| {
            let ActorId { name, system, .. } = id;
            Error::NotFound(format!(
                "the history of Actor {name} on ActorSystem {system} has no revision at or before that time"
            ))
        })?;
        let next =
            in_time(self.store.load_revision(id, revision.revision.saturating_add(1))).await?;
        let exact = if let Some(next) = next {
            follows(&revision, next.version, next.at, at)
        } else {
            let head = in_time(self.store.load(id)).await?;
            // A commit in flight may have an earlier time. When `at` is in the future, a later commit may too.
            settled && at < now && head.is_some_and(|head| is_still(&revision, &head, at))
        };
        Ok(StateAt { revision, exact })
    }
}

/// Whether `version` is the next durable change after a revision, and was written after the requested time.
fn follows(revision: &Revision, version: u64, written: Timestamp, asked: Timestamp) -> bool {
    revision.version.checked_add(1) == Some(version) && asked < written
}

/// Whether, by the head, the newest revision's content was the durable state at that time.
fn is_still(newest: &Revision, head: &Head, asked: Timestamp) -> bool {
    // An appended head is itself the newest revision: the second case.
    follows(newest, head.version, head.at, asked)
        || (head.at <= asked && head.content == newest.content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::ports::Save;
    use crate::state::{ActorState, Any};
    use crate::testkit::clock::SetClock;

    fn content(text: &'static str) -> ActorState {
        let state = Any { type_url: "t".into(), value: text.into() };
        ActorState { state: Some(state), ..ActorState::default() }
    }

    /// An actor with these changes: version, time, content, and whether the change is in the history.
    async fn reader(changes: &[(u64, u64, &'static str, bool)]) -> (HistoryReader, ActorId) {
        let store = MemoryStore::new();
        let id = ActorId { name: "a".into(), system: "s".into(), ..ActorId::default() };
        let mut revision = 0;
        for &(version, at, text, append) in changes {
            revision += u64::from(append);
            let (at, content) = (Timestamp(at), content(text));
            let head = Head { version, revision, at, content, ..Head::default() };
            let save = Save::of_head(id.clone().into(), head, append);
            store.save_all(vec![save]).await.pop().unwrap().unwrap();
        }
        (HistoryReader::new(Arc::new(store), Arc::new(SetClock::at(Timestamp(1_000)))), id)
    }

    async fn exact(changes: &[(u64, u64, &'static str, bool)], at: u64) -> (u64, bool) {
        let (history_reader, id) = reader(changes).await;
        let then = history_reader.at(&id, Timestamp(at), true).await.unwrap();
        (then.revision.revision, then.exact)
    }

    #[tokio::test]
    async fn a_state_is_exact_when_the_next_change_came_later() {
        let every = [(1, 10, "a", true), (2, 20, "b", true)];
        assert_eq!(exact(&every, 10).await, (1, true));
        assert_eq!(exact(&every, 19).await, (1, true));
        assert_eq!(exact(&every, 20).await, (2, true));
        assert_eq!(exact(&every, 999).await, (2, true));
        // The next change is the head, but is not in the history.
        assert_eq!(exact(&[(1, 10, "a", true), (2, 20, "b", false)], 19).await, (1, true));
    }

    #[tokio::test]
    async fn a_change_that_the_history_lacks_makes_it_inexact() {
        let gap = [(1, 10, "a", true), (2, 20, "b", false), (3, 30, "c", true)];
        assert_eq!(exact(&gap, 25).await, (1, false));
        assert_eq!(exact(&gap, 15).await, (1, false), "when the change came is not known any more");
        assert_eq!(exact(&gap, 30).await, (2, true));
        assert_eq!(exact(&[(1, 10, "a", true), (2, 20, "b", false)], 20).await, (1, false));
    }

    #[tokio::test]
    async fn an_end_that_changed_nothing_leaves_it_exact() {
        let ended = [(1, 10, "a", true), (2, 20, "a", false)];
        assert_eq!(exact(&ended, 30).await, (1, true));
        let more = [(1, 10, "a", true), (2, 20, "b", false), (3, 30, "a", false)];
        assert_eq!(exact(&more, 30).await, (1, true), "it was so again");
        assert_eq!(exact(&more, 25).await, (1, false));
    }

    #[tokio::test]
    async fn what_may_still_come_is_not_known() {
        let (history_reader, id) = reader(&[(1, 10, "a", true)]).await;
        assert!(
            !history_reader.at(&id, Timestamp(1_000), true).await.unwrap().exact,
            "a time to come"
        );
        assert!(
            !history_reader.at(&id, Timestamp(999), false).await.unwrap().exact,
            "a write under way"
        );
        assert!(history_reader.at(&id, Timestamp(999), true).await.unwrap().exact);
        let error = history_reader.at(&id, Timestamp(9), true).await.unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error}");
    }
}
