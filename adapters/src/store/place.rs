//! Place: where a sealed value belongs. The [vault](super::vault) seals a value for its place, and it opens nowhere else.
//!
//! ```text
//! kind (1 byte)   system, name, parent of the stored key, each after its length (2 bytes)   numbers (8 bytes each)
//! 1 head          version
//! 2 revision      its number
//! 3 effect        epoch and place of its row in the outbox; the three parts of its own number
//! 4 due work      its time, and the kind of its source; system and name are the source's, without parent
//! 5 schedule      its number of runs; system and name are its own, without parent
//! 0 check         neither key nor numbers
//! ```
//! Numbers are big-endian. The bytes are the same for every store and for export files, so they must not change.

use tidegate_stages::actor::ActorId;
use tidegate_stages::due::DueKey;
use tidegate_stages::outbox::{EffectId, OutboxKey};
use tidegate_stages::schedules::ScheduleKey;

/// Where a sealed value belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stored key of the actor, see [`named`].
    actor: &'a [u8],
    record: Record,
}

/// The record that holds the value.
#[derive(Debug, Clone, Copy)]
enum Record {
    Check,
    Head { version: u64 },
    Revision { number: u64 },
    Effect { key: OutboxKey, id: EffectId },
    Due { at: u64, kind: u8 },
    Schedule { runs: u64 },
}

impl<'a> Place<'a> {
    /// The known text that tells whether a key is the right one.
    pub const CHECK: Place<'static> = Place { actor: &[], record: Record::Check };

    /// The head of an actor.
    pub fn head(actor: &'a [u8], version: u64) -> Self {
        Self { actor, record: Record::Head { version } }
    }

    /// A revision in the history of an actor.
    pub fn revision(actor: &'a [u8], number: u64) -> Self {
        Self { actor, record: Record::Revision { number } }
    }

    /// An effect in the outbox of an actor.
    pub fn effect(actor: &'a [u8], key: OutboxKey, id: EffectId) -> Self {
        Self { actor, record: Record::Effect { key, id } }
    }

    /// An entry of the table of due work; `source` is its source as [`due_source`] names it.
    pub fn due(source: &'a [u8], key: &DueKey) -> Self {
        let record = Record::Due { at: key.at.0, kind: key.source.kind.number() };
        Self { actor: source, record }
    }

    /// A schedule that has begun so many runs; `named` names it, see [`schedule_named`].
    pub fn schedule(named: &'a [u8], runs: u64) -> Self {
        Self { actor: named, record: Record::Schedule { runs } }
    }

    /// Appends the bytes of the place.
    pub(super) fn write_to(&self, bytes: &mut Vec<u8>) {
        let (kind, numbers): (u8, &[u64]) = match &self.record {
            Record::Check => (0, &[]),
            Record::Head { version } => (1, &[*version]),
            Record::Revision { number } => (2, &[*number]),
            Record::Effect { key, id } => {
                (3, &[key.epoch, key.place, id.epoch, id.activation, id.number])
            }
            Record::Due { at, kind } => (4, &[*at, u64::from(*kind)]),
            Record::Schedule { runs } => (5, &[*runs]),
        };
        bytes.push(kind);
        bytes.extend_from_slice(self.actor);
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    }
}

/// Returns the stored key of an actor as it stands in a [`Place`].
///
/// # Panics
/// When a name has more than 65,535 bytes; no accepted name has.
pub fn named(ActorId { system, name, parent }: &ActorId) -> Vec<u8> {
    named_by([system, name, parent])
}

/// Returns the source of due work as it stands in a [`Place`].
pub fn due_source(DueKey { source, .. }: &DueKey) -> Vec<u8> {
    named_by([&source.system, &source.name, ""])
}

/// Returns the name of a schedule as it stands in a [`Place`].
pub fn schedule_named(ScheduleKey { system, name }: &ScheduleKey) -> Vec<u8> {
    named_by([system, name, ""])
}

/// As [`named`], of system, name and parent.
pub(super) fn named_by(parts: [&str; 3]) -> Vec<u8> {
    let mut key = Vec::with_capacity(6 + parts.iter().map(|part| part.len()).sum::<usize>());
    for part in parts {
        let len = u16::try_from(part.len()).expect("an accepted name is short");
        key.extend_from_slice(&len.to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(place: Place<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        place.write_to(&mut bytes);
        bytes
    }

    #[test]
    fn the_bytes_of_a_place_are_those_of_every_release() {
        let id = ActorId { system: "s".into(), name: "joe".into(), parent: String::new() };
        let joe = named(&id);
        assert_eq!(joe, b"\0\x01s\0\x03joe\0\0");
        let key = OutboxKey { epoch: 1, place: 2 };
        let id = EffectId { epoch: 3, activation: 4, number: 5 };
        for (place, expected) in [
            (Place::CHECK, &b"\0"[..]),
            (Place::head(&joe, 258), b"\x01\0\x01s\0\x03joe\0\0\0\0\0\0\0\0\x01\x02"),
            (Place::revision(&joe, 7), b"\x02\0\x01s\0\x03joe\0\0\0\0\0\0\0\0\0\x07"),
            (Place::schedule(&joe, 9), b"\x05\0\x01s\0\x03joe\0\0\0\0\0\0\0\0\0\x09"),
        ] {
            assert_eq!(bytes(place), expected);
        }
        let effect = bytes(Place::effect(&joe, key, id));
        assert_eq!(effect[..11], *b"\x03\0\x01s\0\x03joe\0\0");
        assert_eq!(effect[11..], [1, 2, 3, 4, 5].map(u64::to_be_bytes).concat());
    }

    #[test]
    fn names_that_run_together_are_different_places() {
        let places = [["a", "b", "c"], ["ab", "c", ""], ["a", "bc", ""], ["", "a", "bc"]];
        let keys = places.map(named_by);
        for (i, one) in keys.iter().enumerate() {
            for (j, other) in keys.iter().enumerate() {
                assert_eq!(one == other, i == j);
            }
        }
    }
}
