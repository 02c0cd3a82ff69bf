//! Incarnation: one activation of an actor, as its commits see it.
//!
//! Its [`CommitState`] says whether a turn may build on what is in memory. The commits themselves, and the turns that
//! queue behind one, belong to the [checkpoint](crate::checkpoint).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ports::StoreError;

/// One activation of an actor, shared by its live state and its commits (decision 13).
pub(crate) struct Incarnation {
    /// Its number, unique within the epoch.
    pub(crate) number: u64,
    /// The start of the proxy in which it lives.
    pub(crate) epoch: u64,
    submitted: AtomicU64,
    settled: AtomicU64,
    commit_state: Mutex<CommitState>,
    all_settled: Notify,
    began: Instant,
    /// About when the oldest unsettled write was handed in, in microseconds after `began`.
    unsettled_since_us: AtomicU64,
}

/// What is known of the outcome of an activation's commits.
#[derive(Debug, Clone, Default)]
pub(crate) enum CommitState {
    /// No commit failed.
    #[default]
    Clean,
    /// The outcome of a commit is unknown; it is written again until the store acknowledges it.
    InDoubt,
    /// A commit was lost: nothing of this activation is written any more but what may have been written already.
    Abandoned(StoreError),
}

impl Incarnation {
    pub(crate) fn new(number: u64, epoch: u64) -> Self {
        Self {
            number,
            epoch,
            submitted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            commit_state: Mutex::default(),
            all_settled: Notify::new(),
            began: Instant::now(),
            unsettled_since_us: AtomicU64::new(0),
        }
    }

    /// What is known of the outcome of its commits.
    pub(crate) fn commit_state(&self) -> CommitState {
        self.commit_state.lock().clone()
    }

    /// Whether a commit was lost.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(*self.commit_state.lock(), CommitState::Abandoned(_))
    }

    /// Whether a commit's outcome is unknown.
    pub(crate) fn is_in_doubt(&self) -> bool {
        matches!(*self.commit_state.lock(), CommitState::InDoubt)
    }

    /// Whether a turn that writes nothing may complete at once: no commit failed, and none but the turn's own
    /// [`Unsettled`] is outstanding.
    pub(crate) fn has_nothing_before(&self) -> bool {
        let submitted = self.submitted.load(Ordering::Acquire);
        submitted - self.settled.load(Ordering::Acquire) <= 1
            && matches!(*self.commit_state.lock(), CommitState::Clean)
    }

    /// Whether the outcome of everything that was handed to the checkpoint is known.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) == self.submitted.load(Ordering::Acquire)
    }

    /// How many writes are not settled, and about since when; `None` when all are.
    pub(crate) fn unsettled(&self) -> Option<(u64, Instant)> {
        let settled = self.settled.load(Ordering::Acquire);
        let turns = self.submitted.load(Ordering::Acquire).saturating_sub(settled);
        let since = Duration::from_micros(self.unsettled_since_us.load(Ordering::Relaxed));
        (turns > 0).then(|| (turns, self.began + since))
    }

    /// Waits until [`is_settled`](Self::is_settled).
    pub(crate) async fn settled(&self) {
        loop {
            let all_settled = self.all_settled.notified();
            if self.is_settled() {
                return;
            }
            all_settled.await;
        }
    }

    /// Notes that a commit's outcome is unknown.
    ///
    /// # Errors
    /// Why the activation is abandoned, when it is.
    pub(crate) fn enter_doubt(&self) -> Result<(), StoreError> {
        let mut state = self.commit_state.lock();
        if let CommitState::Abandoned(error) = &*state {
            return Err(error.clone());
        }
        *state = CommitState::InDoubt;
        Ok(())
    }

    /// Notes that the commit in doubt is durable.
    pub(crate) fn leave_doubt(&self) {
        let mut state = self.commit_state.lock();
        if matches!(*state, CommitState::InDoubt) {
            *state = CommitState::Clean;
        }
    }

    /// Ends this activation. Of its turns only those are still written that the store may have already. Returns why the activation
    /// ended: the reason that was given first.
    pub(crate) fn abandon(&self, error: &StoreError) -> StoreError {
        let mut state = self.commit_state.lock();
        if let CommitState::Abandoned(first) = &*state {
            return first.clone();
        }
        *state = CommitState::Abandoned(error.clone());
        error.clone()
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnation").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A guard for a write whose outcome is not known yet. While it exists its activation is not
/// [settled](Incarnation::is_settled).
#[derive(Debug)]
pub(crate) struct Unsettled(Arc<Incarnation>);

impl Unsettled {
    pub(crate) fn new(incarnation: &Arc<Incarnation>) -> Self {
        let submitted = incarnation.submitted.fetch_add(1, Ordering::AcqRel);
        if submitted == incarnation.settled.load(Ordering::Acquire) {
            let since = u64::try_from(incarnation.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            incarnation.unsettled_since_us.store(since, Ordering::Relaxed);
        }
        Self(incarnation.clone())
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.settled.fetch_add(1, Ordering::AcqRel);
        self.0.all_settled.notify_waiters();
    }
}
