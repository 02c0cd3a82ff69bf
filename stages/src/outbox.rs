//! Outbox: the rows of effects that a commit writes beside the head (decision 18).

pub(crate) mod pending;
pub mod record;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::actor::ActorId;

/// The number of an effect, unique per [source](EffectSource). A later effect of a source has a larger one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId {
    /// Epoch of the owner that committed the effect.
    pub epoch: u64,
    /// Number of the source's activation.
    pub activation: u64,
    /// Ascends with the effects of the activation.
    pub number: u64,
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.activation, self.number)
    }
}

/// The position of a row in its actor's outbox. Rows leave in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutboxKey {
    /// Epoch of the owner that appended the row.
    pub epoch: u64,
    /// Ascends with the rows that this owner appended for the actor.
    pub place: u64,
}

/// An effect that is not delivered yet: a row beside the head of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its position.
    pub key: OutboxKey,
    /// The number of the effect.
    pub id: EffectId,
    /// Target, action and payload, encoded. A store seals it like a state and does not look inside.
    pub record: Bytes,
}

impl OutboxRow {
    /// Size in bytes that counts against bounds.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.record.len()
    }
}

/// What an effect comes from (decision 18 j).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SourceKind {
    /// An actor's turn; the name is the actor's.
    #[default]
    Actor,
    /// A scheduled call or a delayed effect; the name is its time and its id.
    Due,
    /// A schedule; the name is the schedule's.
    Schedule,
    /// A durable topic; the name is the topic's.
    Topic,
}

impl SourceKind {
    /// All kinds, in the order of their numbers.
    const ALL: [Self; 4] = [Self::Actor, Self::Due, Self::Schedule, Self::Topic];

    /// The number under which stores keep it; it never changes.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The kind with a number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// The source of effects. An actor is named without its parent: that may change (decision 48).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectSource {
    /// What it is.
    pub kind: SourceKind,
    /// Its system.
    pub system: String,
    /// Its name within system and kind.
    pub name: String,
}

impl EffectSource {
    /// The source that an actor is, by the key under which its rows lie. A member of a pool is a source of its own: its parent is
    /// `NAME-NUMBER`, and the name of no other actor has a unit separator.
    pub fn of(key: &ActorId) -> Self {
        let ActorId { system, name, parent } = key;
        let number = parent.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        let is_member = number.is_some_and(|number| number.parse::<u32>().is_ok());
        let name = if is_member { format!("{name}\u{1f}{parent}") } else { name.clone() };
        Self { kind: SourceKind::Actor, system: system.clone(), name }
    }
}

/// The newest effect of one source that an actor has answered durably. Effects up to it are not run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The source.
    pub source: Arc<EffectSource>,
    /// The number of its effect.
    pub id: EffectId,
}

/// The rows of effects in one commit of an actor. They are written with its head, or all of them are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectRows {
    /// Rows added to the actor's outbox. A row with the same key is replaced.
    pub appends: Vec<OutboxRow>,
    /// Rows removed from the actor's outbox: delivered, or dead. A missing row is no error. A row that the same commit
    /// appends is not written.
    pub acknowledged: Vec<OutboxKey>,
    /// Effects that the actor has answered. They replace what it had seen of their sources; of several of one source the
    /// newest counts. Later commits bring newer ones only.
    pub seen: Vec<Seen>,
    /// Sources of which it keeps no seen effect any more. A missing one is no error. None of them is in `seen`.
    pub forgotten: Vec<Arc<EffectSource>>,
}

impl EffectRows {
    /// Adds the rows of a later commit of the same actor, so that one commit has the effect of both.
    pub fn merge(&mut self, later: &EffectRows) {
        self.appends.extend_from_slice(&later.appends);
        self.acknowledged.extend_from_slice(&later.acknowledged);
        if !later.forgotten.is_empty() || !self.forgotten.is_empty() {
            // The later one counts.
            let later_seen: BTreeSet<_> = later.seen.iter().map(|seen| &*seen.source).collect();
            let later_forgotten: BTreeSet<_> = later.forgotten.iter().collect();
            self.forgotten.retain(|source| !later_seen.contains(&**source));
            self.seen.retain(|seen| !later_forgotten.contains(&seen.source));
            self.forgotten.extend_from_slice(&later.forgotten);
        }
        self.seen.extend_from_slice(&later.seen);
        self.reduce();
    }

    /// Removes the rows that need not be written: appends that are acknowledged in the same commit, and all but the newest
    /// seen effect per source. A store does this first.
    pub fn reduce(&mut self) {
        let Self { appends, acknowledged, seen, forgotten } = self;
        forgotten.sort_unstable();
        forgotten.dedup();
        acknowledged.sort_unstable();
        acknowledged.dedup();
        // Written again after a doubt, an appended row may be there already: its removal is kept.
        appends.retain(|row| acknowledged.binary_search(&row.key).is_err());
        let mut newest = BTreeMap::new();
        for Seen { source, id } in seen.drain(..) {
            let entry = newest.entry(source).or_insert(id);
            *entry = id.max(*entry);
        }
        seen.extend(newest.into_iter().map(|(source, id)| Seen { source, id }));
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let Self { appends, acknowledged, seen, forgotten } = self;
        appends.is_empty() && acknowledged.is_empty() && seen.is_empty() && forgotten.is_empty()
    }

    /// Size in bytes that counts against bounds.
    pub fn bytes(&self) -> usize {
        let source =
            |source: &EffectSource| size_of::<Seen>() + source.system.len() + source.name.len();
        self.appends.iter().map(OutboxRow::bytes).sum::<usize>()
            + self.acknowledged.len() * size_of::<OutboxKey>()
            + self.seen.iter().map(|seen| source(&seen.source)).sum::<usize>()
            + self.forgotten.iter().map(|forgotten| source(forgotten)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, number: u64) -> Seen {
        let source = EffectSource { name: name.into(), ..EffectSource::default() };
        Seen { source: source.into(), id: EffectId { number, ..EffectId::default() } }
    }

    #[test]
    fn an_effect_of_a_later_epoch_or_activation_is_newer() {
        let id = |epoch, activation, number| EffectId { epoch, activation, number };
        let ascending = [id(1, 1, 1), id(1, 1, 2), id(1, 2, 0), id(2, 0, 0)];
        assert!(ascending.is_sorted());
    }

    #[test]
    fn members_of_a_pool_are_different_sources_and_a_changed_parent_is_none() {
        let of = |parent: &str| {
            let (system, name) = ("s".into(), "pool".into());
            EffectSource::of(&ActorId { system, name, parent: parent.into() })
        };
        assert_ne!(of("pool-1"), of("pool-2"));
        assert_ne!(of("pool-1"), of(""));
        assert_eq!(of(""), of("template"));
        assert_eq!(of(""), of("pool-house"));
    }

    #[test]
    fn a_kind_of_source_keeps_its_number() {
        for (number, kind) in (0..).zip(SourceKind::ALL) {
            assert_eq!((kind.number(), SourceKind::of_number(number)), (number, Some(kind)));
        }
        assert_eq!(SourceKind::of_number(4), None);
    }

    #[test]
    fn two_commits_made_one_have_the_effect_of_both() {
        let row = |place| OutboxRow {
            key: OutboxKey { epoch: 1, place },
            id: EffectId::default(),
            record: Bytes::new(),
        };
        let mut rows = EffectRows {
            appends: vec![row(1), row(2)],
            acknowledged: vec![row(0).key],
            seen: vec![seen("a", 5), seen("b", 1)],
            forgotten: Vec::new(),
        };
        rows.merge(&EffectRows {
            appends: vec![row(3)],
            acknowledged: vec![row(1).key],
            seen: vec![seen("b", 2), seen("a", 4)],
            forgotten: Vec::new(),
        });
        assert_eq!(rows.appends, [row(2), row(3)]);
        assert_eq!(rows.acknowledged, [row(0).key, row(1).key]);
        assert_eq!(rows.seen, [seen("a", 5), seen("b", 2)]);
    }

    #[test]
    fn of_forgetting_a_source_and_seeing_it_again_the_later_one_counts() {
        let saw = |all: &[Seen]| EffectRows { seen: all.to_vec(), ..EffectRows::default() };
        let forgot = |all: &[&str]| EffectRows {
            forgotten: all.iter().map(|name| seen(name, 0).source).collect(),
            ..EffectRows::default()
        };
        let mut rows = saw(&[seen("a", 5), seen("b", 1)]);
        rows.merge(&forgot(&["c", "a"]));
        assert_eq!((&rows.seen, rows.forgotten.len()), (&vec![seen("b", 1)], 2));
        rows.merge(&saw(&[seen("a", 6)]));
        assert_eq!(rows.seen, [seen("a", 6), seen("b", 1)]);
        assert_eq!(rows.forgotten, forgot(&["c"]).forgotten);
        assert!(!forgot(&["c"]).is_empty() && forgot(&["c"]).bytes() > 0);
    }
}
