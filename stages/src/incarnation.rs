//! Incarnation: one activation of an actor, and the turns of it whose outcome is on its way to the store.
//!
//! It is sound, being written (a commit is with the store, and what came after it waits), in doubt (that commit's
//! outcome is unknown, and what came after it waits still) or abandoned (a commit was lost, and nothing of it will be
//! written any more). One commit at a time: however many the store has in hand, an actor's changes reach it in order.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::directory::Entry;
use crate::egress::{Completion, Egress};
use crate::error::Error;
use crate::ports::{Save, StoreError};
use crate::side_effects::PlannedEffect;

/// One activation of an actor, shared by its live state and its commits (decision 13).
pub(crate) struct Incarnation {
    /// Its number, unique within the epoch.
    pub(crate) number: u64,
    /// The start of the proxy in which it lives.
    pub(crate) epoch: u64,
    submitted: AtomicU64,
    settled: AtomicU64,
    pub(crate) commit_state: Mutex<CommitState>,
    quiet: Notify,
}

#[derive(Default)]
pub(crate) enum CommitState {
    #[default]
    Clean,
    /// A commit is with the store; these wait for it.
    Writing(VecDeque<Settled>),
    /// A commit's outcome is unknown; these wait behind it.
    InDoubt(VecDeque<Settled>),
    /// A commit was lost: nothing of this activation will be written any more.
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
            quiet: Notify::new(),
        }
    }

    /// Whether everything handed to the checkpoint has been decided.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) == self.submitted.load(Ordering::Acquire)
    }

    /// Waits until [`is_settled`](Self::is_settled).
    pub(crate) async fn settled(&self) {
        loop {
            let quiet = self.quiet.notified();
            if self.is_settled() {
                return;
            }
            quiet.await;
        }
    }

    /// Why calls cannot use this activation.
    pub(crate) fn unusable(&self) -> Option<Unusable> {
        match &*self.commit_state.lock() {
            CommitState::Clean | CommitState::Writing(_) => None,
            CommitState::InDoubt(_) => Some(Unusable::InDoubt),
            CommitState::Abandoned(_) => Some(Unusable::Abandoned),
        }
    }

    /// Takes a turn to be written now; `None` when it waits behind an older one, or failed because nothing of this
    /// activation is written any more. Who gets it back writes, and then [lets go](Self::written).
    pub(crate) fn claim(&self, settled: Settled) -> Option<Settled> {
        let mut commit_state = self.commit_state.lock();
        let error = match &mut *commit_state {
            CommitState::Clean => {
                *commit_state = CommitState::Writing(VecDeque::new());
                return Some(settled);
            }
            CommitState::Writing(waiting) | CommitState::InDoubt(waiting) => {
                waiting.push_back(settled);
                return None;
            }
            CommitState::Abandoned(error) => error.clone(),
        };
        drop(commit_state);
        settled.fail(Error::Store(error));
        None
    }

    /// What was claimed is written; answers what has come meanwhile and is to be written now, still claimed.
    pub(crate) fn written(&self) -> Vec<Settled> {
        let mut commit_state = self.commit_state.lock();
        let CommitState::Writing(waiting) = &mut *commit_state else { return Vec::new() };
        let next = std::mem::take(waiting);
        if next.is_empty() {
            *commit_state = CommitState::Clean;
        }
        next.into()
    }

    /// Whether what was claimed is in doubt now: `unsure`, the oldest first, with what waits behind it. Otherwise the
    /// activation was abandoned meanwhile, and they have failed.
    pub(crate) fn doubt(&self, mut unsure: VecDeque<Settled>) -> bool {
        let mut commit_state = self.commit_state.lock();
        let error = match &mut *commit_state {
            CommitState::Abandoned(error) => error.clone(),
            CommitState::Clean => {
                *commit_state = CommitState::InDoubt(unsure);
                return true;
            }
            CommitState::Writing(waiting) | CommitState::InDoubt(waiting) => {
                unsure.append(waiting);
                *commit_state = CommitState::InDoubt(unsure);
                return true;
            }
        };
        drop(commit_state);
        fail_all(unsure, &error);
        false
    }

    /// Ends this activation: nothing of it will be written any more, and what waits fails.
    pub(crate) fn abandon(&self, error: &StoreError) {
        let former = std::mem::replace(
            &mut *self.commit_state.lock(),
            CommitState::Abandoned(error.clone()),
        );
        // Outside the lock: what waited there takes the same lock when it is dropped.
        if let CommitState::Writing(waiting) | CommitState::InDoubt(waiting) = former {
            fail_all(waiting, error);
        }
    }

    /// Ends a doubt that nobody settles any more; what waited behind it fails.
    pub(crate) fn give_up(&self, error: &StoreError) {
        if self.unusable() == Some(Unusable::InDoubt) {
            self.abandon(error);
        }
    }

    fn settle(&self) {
        self.settled.fetch_add(1, Ordering::AcqRel);
        self.quiet.notify_waiters();
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnation").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What is wrong with an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// A commit's outcome is unknown and being settled.
    InDoubt,
    /// A commit was lost.
    Abandoned,
}

/// Keeps its activation unsettled while a write of it is under way.
pub(crate) struct Underway(Arc<Incarnation>);

impl Underway {
    pub(crate) fn new(incarnation: &Arc<Incarnation>) -> Self {
        incarnation.submitted.fetch_add(1, Ordering::AcqRel);
        Self(incarnation.clone())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// An activation in doubt, as the task that settles it holds it. When that task is ended before its
/// time, what waits must not wait for ever.
pub(crate) struct Doubt(pub(crate) Arc<Incarnation>);

impl Drop for Doubt {
    fn drop(&mut self) {
        self.0.give_up(&StoreError::Unknown("the proxy stopped before it was settled".into()));
    }
}

/// A turn that is over in memory: what is to be written, and what leaves then.
pub(crate) struct Settled {
    pub(crate) entry: Arc<Entry>,
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) save: Option<Save>,
    completion: Completion,
    effects: Vec<PlannedEffect>,
    egress: Egress,
    decided: bool,
}

impl Settled {
    /// Notes it with its incarnation, which is then not settled until this is.
    pub(crate) fn new(
        entry: Arc<Entry>,
        incarnation: Arc<Incarnation>,
        save: Option<Save>,
        (completion, effects): (Completion, Vec<PlannedEffect>),
        egress: Egress,
    ) -> Self {
        incarnation.submitted.fetch_add(1, Ordering::AcqRel);
        Self { entry, incarnation, save, completion, effects, egress, decided: false }
    }

    /// Bytes that it counts for.
    pub(crate) fn bytes(&self) -> usize {
        self.save.as_ref().map_or(0, |save| save.head.content.bytes())
    }

    /// Ends it for want of room to write. What it would have changed will not be written, so nothing may
    /// build on it; unless an older write is in doubt, behind which it is written too.
    pub(crate) fn refuse(self, error: StoreError) {
        let incarnation = self.incarnation.clone();
        if let CommitState::InDoubt(waiting) = &mut *incarnation.commit_state.lock() {
            return waiting.push_back(self);
        }
        if self.save.is_some() {
            incarnation.abandon(&error);
        }
        self.fail(Error::Store(error));
    }

    /// Lets everything go.
    pub(crate) fn complete(mut self) {
        let (completion, effects) = self.take();
        self.egress.complete(completion, effects);
    }

    /// Ends it with an error.
    pub(crate) fn fail(mut self, error: Error) {
        let (completion, _effects) = self.take();
        completion.fail(&self.entry.actor, error);
    }

    fn take(&mut self) -> (Completion, Vec<PlannedEffect>) {
        self.decided = true;
        (
            std::mem::replace(&mut self.completion, Completion::Nothing),
            std::mem::take(&mut self.effects),
        )
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        // Dropped undecided (a panic, the end of a drain), its write may have happened: nothing may build on this activation.
        if !self.decided {
            self.incarnation.abandon(&StoreError::Unknown("the commit was abandoned".into()));
        }
        self.incarnation.settle();
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").field("entry", &self.entry).finish_non_exhaustive()
    }
}

fn fail_all(waiting: VecDeque<Settled>, error: &StoreError) {
    for settled in waiting {
        settled.fail(Error::Store(error.clone()));
    }
}
