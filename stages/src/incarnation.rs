//! Incarnation: one activation of an actor, and the turns of it whose outcome is on its way to the store.
//!
//! It is sound, in doubt (a commit's outcome is unknown, and what came after it waits behind it) or
//! doomed (a commit was lost, and nothing of it will be written any more).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::departure::{Departure, WayOut};
use crate::directory::Entry;
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
    pub(crate) standing: Mutex<Standing>,
    quiet: Notify,
}

#[derive(Default)]
pub(crate) enum Standing {
    #[default]
    Sound,
    /// A commit's outcome is unknown; these wait behind it.
    Doubtful(VecDeque<Settled>),
    /// A commit was lost: nothing of this activation will be written any more.
    Doomed(StoreError),
}

impl Incarnation {
    pub(crate) fn new(number: u64, epoch: u64) -> Self {
        Self {
            number,
            epoch,
            submitted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            standing: Mutex::default(),
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
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        match &*self.standing.lock() {
            Standing::Sound => None,
            Standing::Doubtful(_) => Some(Trouble::InDoubt),
            Standing::Doomed(_) => Some(Trouble::Doomed),
        }
    }

    /// Ends this activation: nothing of it will be written any more.
    pub(crate) fn doom(&self, error: StoreError) {
        let former = std::mem::replace(&mut *self.standing.lock(), Standing::Doomed(error));
        // Outside the lock: what waited there takes the same lock when it is dropped.
        drop(former);
    }

    /// Ends a doubt that nobody settles any more; what waited behind it fails.
    pub(crate) fn give_up(&self, error: &StoreError) {
        let mut standing = self.standing.lock();
        if !matches!(*standing, Standing::Doubtful(_)) {
            return;
        }
        let former = std::mem::replace(&mut *standing, Standing::Doomed(error.clone()));
        drop(standing);
        if let Standing::Doubtful(waiting) = former {
            for settled in waiting {
                settled.fail(Error::Store(error.clone()));
            }
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
pub(crate) enum Trouble {
    /// A commit's outcome is unknown and being settled.
    InDoubt,
    /// A commit was lost.
    Doomed,
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
    departure: Departure,
    effects: Vec<PlannedEffect>,
    way_out: WayOut,
    decided: bool,
}

impl Settled {
    /// Notes it with its incarnation, which is then not settled until this is.
    pub(crate) fn new(
        entry: Arc<Entry>,
        incarnation: Arc<Incarnation>,
        save: Option<Save>,
        (departure, effects): (Departure, Vec<PlannedEffect>),
        way_out: WayOut,
    ) -> Self {
        incarnation.submitted.fetch_add(1, Ordering::AcqRel);
        Self { entry, incarnation, save, departure, effects, way_out, decided: false }
    }

    /// Bytes that it counts for.
    pub(crate) fn bytes(&self) -> usize {
        self.save.as_ref().map_or(0, |save| save.head.content.bytes())
    }

    /// Ends it for want of room to write. What it would have changed will not be written, so nothing may
    /// build on it; unless an older write is in doubt, behind which it is written too.
    pub(crate) fn refuse(self, error: StoreError) {
        let Some(settled) = stand_in_line(self) else { return };
        if settled.save.is_some() {
            settled.incarnation.doom(error.clone());
        }
        settled.fail(Error::Store(error));
    }

    /// Lets everything go.
    pub(crate) fn depart(mut self) {
        let (departure, effects) = self.take();
        self.way_out.depart(departure, effects);
    }

    /// Ends it with an error.
    pub(crate) fn fail(mut self, error: Error) {
        let (departure, _effects) = self.take();
        departure.fail(&self.entry.actor, error);
    }

    fn take(&mut self) -> (Departure, Vec<PlannedEffect>) {
        self.decided = true;
        (
            std::mem::replace(&mut self.departure, Departure::Nothing),
            std::mem::take(&mut self.effects),
        )
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        // Dropped undecided (a panic, the end of a drain), its write may have happened: nothing may build on this activation.
        if !self.decided {
            self.incarnation.doom(StoreError::Unknown("the commit was abandoned".into()));
        }
        self.incarnation.settle();
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// Holds back what belongs to an activation in trouble; gives back what may go on.
pub(crate) fn stand_in_line(settled: Settled) -> Option<Settled> {
    let settled = wait_behind_doubt(settled)?;
    let incarnation = settled.incarnation.clone();
    let error = match &*incarnation.standing.lock() {
        Standing::Doomed(error) => error.clone(),
        _ => return Some(settled),
    };
    settled.fail(Error::Store(error));
    None
}

/// Holds back what belongs to an activation in doubt.
pub(crate) fn wait_behind_doubt(settled: Settled) -> Option<Settled> {
    let incarnation = settled.incarnation.clone();
    let mut standing = incarnation.standing.lock();
    if let Standing::Doubtful(waiting) = &mut *standing {
        waiting.push_back(settled);
        return None;
    }
    Some(settled)
}
