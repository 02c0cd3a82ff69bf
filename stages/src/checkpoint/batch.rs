//! Batch: a commit of several activations while it is with the store.
//!
//! Each group is decided as soon as the outcomes of its own saves are known, so that a slow write delays the actor that
//! it belongs to and no other.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::checkpoint::claim::Group;
use crate::checkpoint::coalesce::{Outcome, coalesce};
use crate::ports::{self, Save, StateStore, StoreError};

/// The groups of a commit; see the [module](self).
pub(super) struct Batch {
    with_store: BoxStream<'static, ports::Outcome>,
    /// One per save; unknown until the store yields it.
    outcomes: Vec<Outcome>,
    groups: Vec<Option<Undecided>>,
    /// The group of each save.
    group_of: Vec<usize>,
    /// Groups whose outcomes are all known.
    known: Vec<usize>,
}

struct Undecided {
    group: Group,
    /// The save that covers each turn.
    covered_by: Vec<Option<usize>>,
    /// Saves whose outcome is not known.
    left: usize,
}

impl Batch {
    /// Hands what has to be written to the store.
    pub(super) fn new(groups: Vec<Group>, store: &dyn StateStore) -> Self {
        let mut saves: Vec<Save> = Vec::with_capacity(groups.len());
        let (mut group_of, mut known) = (Vec::with_capacity(groups.len()), Vec::new());
        let undecided = groups.into_iter().enumerate().map(|(index, group)| {
            let before = saves.len();
            let turns = group.turns.iter().map(|turn| {
                turn.writing();
                turn.save.as_ref()
            });
            let covered_by = coalesce(turns, &mut saves);
            group_of.resize(saves.len(), index);
            let left = saves.len() - before;
            if left == 0 {
                known.push(index);
            }
            Some(Undecided { group, covered_by, left })
        });
        let groups = undecided.collect();
        let no_answer = || Err(StoreError::Unknown("the store gave no answer".into()));
        let outcomes = saves.iter().map(|_| no_answer()).collect();
        let with_store = if saves.is_empty() {
            futures_util::stream::empty().boxed()
        } else {
            store.save(saves)
        };
        Self { with_store, outcomes, groups, group_of, known }
    }

    /// Waits until the outcomes of a group are known. Returns it, with the save that covers each of its turns; `None`
    /// after the last one.
    pub(super) async fn next(&mut self) -> Option<(Group, Vec<Option<usize>>)> {
        loop {
            while let Some(index) = self.known.pop() {
                let known = self.groups.get_mut(index).and_then(Option::take);
                if let Some(Undecided { group, covered_by, .. }) = known {
                    return Some((group, covered_by));
                }
            }
            match self.with_store.next().await {
                Some((save, outcome)) => self.learn(save, outcome),
                // The store ended without these outcomes: they stay unknown.
                None if self.groups.iter().any(Option::is_some) => {
                    self.known.extend(0..self.groups.len());
                }
                None => return None,
            }
        }
    }

    fn learn(&mut self, save: usize, outcome: Outcome) {
        let (Some(kept), Some(index)) = (self.outcomes.get_mut(save), self.group_of.get(save))
        else {
            return;
        };
        *kept = outcome;
        if let Some(Some(undecided)) = self.groups.get_mut(*index) {
            undecided.left = undecided.left.saturating_sub(1);
            if undecided.left == 0 {
                self.known.push(*index);
            }
        }
    }

    /// One outcome per save. Those of a returned group are known.
    pub(super) fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }
}
