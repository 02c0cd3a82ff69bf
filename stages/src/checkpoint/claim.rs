//! Claim: the right to write for one activation.
//!
//! An activation has one commit with the store at a time, so that its changes reach the store in order. While a
//! [`Claim`] exists, later turns of the activation queue behind it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::activation::incarnation::{CommitState, Incarnation};
use crate::call::BoxPlanned;
use crate::error::Error;
use crate::ports::{Save, StoreError};

/// The claimed activations, by number, each with the turns that queue behind its claim.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashMap<u64, VecDeque<BoxPlanned>>>);

/// One activation that is being written; see the [module](self). If it is dropped before [`next`](Self::next) has released
/// it, the activation is abandoned and the turns that queue behind it fail.
pub(super) struct Claim {
    claims: Arc<Claims>,
    incarnation: Arc<Incarnation>,
    is_released: bool,
}

/// The turns of one activation in a batch, in order.
pub(super) struct Group {
    pub(super) claim: Claim,
    pub(super) turns: VecDeque<BoxPlanned>,
}

impl Claims {
    /// How many activations are being written, and turns behind these.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().values().map(|queue| 1 + queue.len()).sum()
    }

    /// Groups a batch by activation and claims each. A turn of an activation that another batch has claimed queues
    /// there; a turn of an abandoned one fails.
    pub(super) fn group(self: &Arc<Self>, batch: Vec<BoxPlanned>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::with_capacity(batch.len());
        let mut indices: HashMap<u64, usize> = HashMap::with_capacity(batch.len());
        let mut failed = Vec::new();
        let mut claimed = self.0.lock();
        for planned in batch {
            let number = planned.incarnation.number;
            if let Some(group) = indices.get(&number).and_then(|index| groups.get_mut(*index)) {
                group.turns.push_back(planned);
            } else if let Some(queue) = claimed.get_mut(&number) {
                queue.push_back(planned);
            } else if let CommitState::Abandoned(error) = planned.incarnation.commit_state() {
                failed.push((planned, error));
            } else {
                claimed.insert(number, VecDeque::new());
                indices.insert(number, groups.len());
                let (claims, incarnation) = (self.clone(), planned.incarnation.clone());
                let claim = Claim { claims, incarnation, is_released: false };
                groups.push(Group { claim, turns: [planned].into() });
            }
        }
        drop(claimed);
        for (planned, error) in failed {
            planned.fail(Error::Store(error));
        }
        groups
    }
}

impl Claim {
    pub(super) fn incarnation(&self) -> &Arc<Incarnation> {
        &self.incarnation
    }

    /// Returns the turns that queued behind this claim, which must be written next. `None` when there are none: the
    /// claim is released. Turns of an abandoned activation fail instead.
    pub(super) fn next(mut self) -> Option<Group> {
        loop {
            let turns = {
                let mut claimed = self.claims.0.lock();
                let queue = claimed.get_mut(&self.incarnation.number).map(std::mem::take);
                let Some(turns) = queue.filter(|queue| !queue.is_empty()) else {
                    claimed.remove(&self.incarnation.number);
                    self.is_released = true;
                    return None;
                };
                turns
            };
            let CommitState::Abandoned(error) = self.incarnation.commit_state() else {
                return Some(Group { claim: self, turns });
            };
            fail_all(turns, &error);
        }
    }

    /// Puts turns whose outcome is unknown back, before those that queue.
    pub(super) fn put_back(&self, mut turns: VecDeque<BoxPlanned>) {
        if let Some(queue) = self.claims.0.lock().get_mut(&self.incarnation.number) {
            turns.append(queue);
            *queue = turns;
        }
    }

    /// The saves of the first `most` turns that queue, in order, so that they can be written again.
    pub(super) fn queued_saves(&self, most: usize) -> Vec<Option<Save>> {
        let claimed = self.claims.0.lock();
        let queue = claimed.get(&self.incarnation.number);
        queue.into_iter().flatten().take(most).map(|planned| planned.save.clone()).collect()
    }

    /// Takes the first `count` turns that queue.
    pub(super) fn take(&self, count: usize) -> VecDeque<BoxPlanned> {
        let mut claimed = self.claims.0.lock();
        let Some(queue) = claimed.get_mut(&self.incarnation.number) else { return VecDeque::new() };
        queue.drain(..count.min(queue.len())).collect()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        let queue = self.claims.0.lock().remove(&self.incarnation.number).unwrap_or_default();
        let unknown =
            StoreError::Unknown("the proxy stopped before the commit's outcome was known".into());
        self.incarnation.abandon(&unknown);
        fail_all(queue, &unknown);
    }
}

pub(super) fn fail_all(turns: impl IntoIterator<Item = BoxPlanned>, error: &StoreError) {
    for planned in turns {
        planned.fail(Error::Store(error.clone()));
    }
}
