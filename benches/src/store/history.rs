//! History: a long history, appended in pages and read in parts.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, pin_mut};
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Interval;
use tidegate_stages::history_stream::stream;
use tidegate_stages::ports::StateStore;
use tidegate_stages::state::{ActorState, Any, Revision, Timestamp};

use super::storage::{STATE_URL, identity, state, time, version_in};
use crate::counter::mix;
use crate::usage::resident;

/// Revisions appended with one call.
const PAGE: u64 = 1_000;
/// Concurrent append calls.
const AT_ONCE: usize = 4;

/// One actor's history in a store.
#[derive(Debug, Clone)]
pub struct History {
    store: Arc<dyn StateStore>,
    actor: Arc<ActorId>,
    number: u64,
    revisions: u64,
}

fn revision(actor: u64, number: u64) -> Revision {
    let value = state(actor, number);
    let state = Some(Any { type_url: STATE_URL.into(), value });
    let content = ActorState { state, ..ActorState::default() };
    let (version, at) = (number, time(number));
    Revision { revision: number, version, at, content, ..Revision::default() }
}

impl History {
    /// The history of an actor; has `revisions` revisions once it is [filled](Self::append).
    pub fn new(store: Arc<dyn StateStore>, number: u64, revisions: u64) -> History {
        History { store, actor: identity(number), number, revisions }
    }

    /// Number of revisions.
    pub fn revisions(&self) -> u64 {
        self.revisions
    }

    /// Appends the revisions with these numbers.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn append(&self, numbers: RangeInclusive<u64>) {
        let (first, last) = (*numbers.start(), *numbers.end());
        let pages = numbers.step_by(usize::try_from(PAGE).expect("small"));
        let appends = pages.map(|from| {
            let page = from..=last.min(from + PAGE - 1);
            let revisions = page.map(|number| revision(self.number, number)).collect();
            self.store.append(Arc::clone(&self.actor), revisions)
        });
        let appended = futures_util::stream::iter(appends).buffered(AT_ONCE);
        let done = appended.try_collect::<Vec<()>>().await;
        done.unwrap_or_else(|error| panic!("revisions from {first} on: {error}"));
    }

    fn check(&self, expected: u64, found: &Revision) {
        let state = found.content.state.as_ref().expect("a state");
        let version = version_in(self.number, &state.value);
        let all = [found.revision, found.version, version];
        assert_eq!((all, found.at), ([expected; 3], time(expected)), "of {}", self.actor.name);
    }

    /// Reads an interval of `count` revisions; `random` chooses its place.
    ///
    /// # Panics
    /// When a revision is wrong, missing or too many.
    pub async fn read_part(&self, count: u64, random: u64) {
        let first = 1 + random % (self.revisions - count + 1);
        let last = first + count - 1;
        let interval = Interval::between(time(first), time(last));
        let pages = stream(Arc::clone(&self.store), Arc::clone(&self.actor), interval);
        pin_mut!(pages);
        let mut next = first;
        while let Some(page) = pages.try_next().await.expect("it is read") {
            for found in page {
                self.check(next, &found);
                next += 1;
            }
        }
        assert_eq!(next, last + 1, "the end of the interval");
    }

    /// Reads the newest revision at a time that `random` chooses.
    ///
    /// # Panics
    /// When the store returns another revision.
    pub async fn read_at(&self, random: u64) {
        let expected = 1 + random % self.revisions;
        let (at, next) = (time(expected).0, time(expected + 1).0);
        let at = Timestamp(at + mix(random) % (next - at));
        let found = self.store.load_at(&self.actor, at).await.expect("it is read");
        self.check(expected, &found.expect("a revision"));
    }

    /// Streams the whole history. Returns the largest growth of resident memory, in bytes.
    ///
    /// # Panics
    /// When a revision is wrong or missing.
    pub async fn read_whole(&self) -> u64 {
        let before = resident();
        let (mut next, mut most) = (1, before);
        let pages = stream(Arc::clone(&self.store), Arc::clone(&self.actor), Interval::ALL);
        pin_mut!(pages);
        while let Some(page) = pages.try_next().await.expect("it is read") {
            most = most.max(resident());
            for found in page {
                self.check(next, &found);
                next += 1;
            }
        }
        assert_eq!(next, self.revisions + 1, "the end of the history");
        most - before
    }
}
