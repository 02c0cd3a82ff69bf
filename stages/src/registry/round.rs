//! Round: which changes of a batch are stored in one write, and which have to wait for the next one.

use std::collections::HashMap;

use crate::actor::{ActorId, ActorRef};
use crate::registry::capacity::NewNames;
use crate::registry::change::{Asked, Change, Waiter};
use crate::registry::plan::Plan;

/// Changes that are stored in one write, and those that wait for the next one.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) planned: Vec<(Plan, Waiter)>,
    pub(super) later: Vec<(Change, Touches)>,
    pub(super) new_names: NewNames,
    /// The names that the changes of both lists touch.
    touched: HashMap<u64, Touch>,
    /// Whether one is among them that depends on all.
    is_closed: bool,
}

/// How a change touches a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// Its entry stays as it is; others are spawned from it, or cease to be.
    Parent,
    /// Its entry is added, replaced or removed.
    Changed,
}

/// The names that a change touches, by their hashes. Two names with the same hash only cost one more round. `None` for what
/// depends on all that a host has registered.
pub(super) type Touches = Option<Vec<(u64, Touch)>>;

impl Round {
    /// Whether a change depends on an earlier one of this round.
    pub(super) fn concerns(&self, touches: &Touches) -> bool {
        let Some(touches) = touches else {
            return !self.planned.is_empty() || !self.later.is_empty();
        };
        self.is_closed
            || touches.iter().any(|(name, touch)| match self.touched.get(name) {
                None => false,
                Some(Touch::Changed) => true,
                Some(Touch::Parent) => *touch == Touch::Changed,
            })
    }

    pub(super) fn touch(&mut self, touches: &Touches) {
        let Some(touches) = touches else {
            self.is_closed = true;
            return;
        };
        for (name, touch) in touches {
            let strongest = self.touched.entry(*name).or_insert(*touch);
            if *touch == Touch::Changed {
                *strongest = *touch;
            }
        }
    }
}

impl Asked {
    pub(super) fn touches(&self) -> Touches {
        let of = |id: &ActorId| {
            let changed = (ActorRef::hash_of(&id.system, &id.name), Touch::Changed);
            [changed, (ActorRef::hash_of(&id.system, &id.parent), Touch::Parent)]
        };
        match self {
            Self::Register(_) | Self::Leave(_) => None,
            Self::Spawn(spawn) => Some(spawn.actors.iter().flat_map(of).collect()),
            Self::Settle => Some(Vec::new()),
            Self::GiveBack(key) => Some(of(key).into()),
            Self::Forget { entry, .. } | Self::Restored { entry, .. } => {
                Some(of(&entry.id()).into())
            }
        }
    }
}
