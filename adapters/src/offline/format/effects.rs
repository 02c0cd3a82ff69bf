//! Effects: the lines of an actor's outbox, and of what it has seen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_stages::due::{DueEntry, DueKey};
use tidegate_stages::outbox::{self, EffectId, EffectSource, OutboxKey, OutboxRow, SourceKind};
use tidegate_stages::schedules::{ScheduleKey, ScheduleRow};
use tidegate_stages::state::Timestamp;

use super::{Base64, Line, Seal};
use crate::store::{Place, due_source, schedule_named};

/// An effect that is not delivered yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Outbox {
    epoch: u64,
    place: u64,
    effect: Effect,
    record: Base64,
}

/// The newest effect of a source that the actor has answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Seen {
    kind: Kind,
    system: String,
    name: String,
    effect: Effect,
}

/// A call to be made at a later time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Due {
    at_us: u64,
    kind: Kind,
    system: String,
    name: String,
    record: Base64,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::offline) struct Schedule {
    system: String,
    name: String,
    runs: u64,
    record: Base64,
}

/// The number of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Effect {
    epoch: u64,
    activation: u64,
    number: u64,
}

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Actor,
    Due,
    Schedule,
    Topic,
}

impl Kind {
    /// All kinds, by their [numbers](SourceKind::number).
    const ALL: [Self; 4] = [Self::Actor, Self::Due, Self::Schedule, Self::Topic];
}

fn effect_out(EffectId { epoch, activation, number }: EffectId) -> Effect {
    Effect { epoch, activation, number }
}

fn effect_in(Effect { epoch, activation, number }: Effect) -> EffectId {
    EffectId { epoch, activation, number }
}

pub(in crate::offline) fn due_out(entry: DueEntry, seal: Seal<'_>) -> Result<Line, String> {
    let DueEntry { key, record } = entry;
    let (kind, system, name) = source_out(&key.source)?;
    let record = seal.out(record, Place::due(&due_source(&key), &key));
    Ok(Line::Due(Due { at_us: key.at.0, kind, system, name, record }))
}

pub(in crate::offline) fn due_in(line: Due, seal: Seal<'_>) -> Result<DueEntry, String> {
    let Due { at_us, kind, system, name, record } = line;
    let source = EffectSource { kind: kind_in(kind), system, name };
    let key = DueKey { at: Timestamp(at_us), source: source.into() };
    let record = seal.open(record, Place::due(&due_source(&key), &key))?;
    Ok(DueEntry { key, record })
}

pub(in crate::offline) fn schedule_out(row: ScheduleRow, seal: Seal<'_>) -> Line {
    let ScheduleRow { key, runs, record } = row;
    let record = seal.out(record, Place::schedule(&schedule_named(&key), runs));
    let ScheduleKey { system, name } = key;
    Line::Schedule(Schedule { system, name, runs, record })
}

pub(in crate::offline) fn schedule_in(
    line: Schedule,
    seal: Seal<'_>,
) -> Result<ScheduleRow, String> {
    let Schedule { system, name, runs, record } = line;
    let key = ScheduleKey { system, name };
    let record = seal.open(record, Place::schedule(&schedule_named(&key), runs))?;
    Ok(ScheduleRow { key, runs, record })
}

pub(in crate::offline) fn outbox_out(actor: &[u8], row: OutboxRow, seal: Seal<'_>) -> Line {
    let OutboxRow { key, id, record } = row;
    let record = seal.out(record, Place::effect(actor, key, id));
    Line::Outbox(Outbox { epoch: key.epoch, place: key.place, effect: effect_out(id), record })
}

pub(in crate::offline) fn outbox_in(
    actor: &[u8],
    line: Outbox,
    seal: Seal<'_>,
) -> Result<OutboxRow, String> {
    let Outbox { epoch, place, effect, record } = line;
    let (key, id) = (OutboxKey { epoch, place }, effect_in(effect));
    Ok(OutboxRow { key, id, record: seal.open(record, Place::effect(actor, key, id))? })
}

/// # Errors
/// When this format has no name for the kind of the source.
pub(in crate::offline) fn seen_out(seen: &outbox::Seen) -> Result<Line, String> {
    let (kind, system, name) = source_out(&seen.source)?;
    Ok(Line::Seen(Seen { kind, system, name, effect: effect_out(seen.id) }))
}

pub(in crate::offline) fn seen_in(line: Seen) -> outbox::Seen {
    let Seen { kind, system, name, effect } = line;
    let source = EffectSource { kind: kind_in(kind), system, name };
    outbox::Seen { source: Arc::new(source), id: effect_in(effect) }
}

fn source_out(source: &EffectSource) -> Result<(Kind, String, String), String> {
    let EffectSource { kind, system, name } = source;
    let number = kind.number();
    let kind = Kind::ALL.get(usize::from(number)).copied();
    let kind = kind.ok_or_else(|| format!("a source of effects of kind {number}"))?;
    Ok((kind, system.clone(), name.clone()))
}

fn kind_in(kind: Kind) -> SourceKind {
    match kind {
        Kind::Actor => SourceKind::Actor,
        Kind::Due => SourceKind::Due,
        Kind::Schedule => SourceKind::Schedule,
        Kind::Topic => SourceKind::Topic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_source_keeps_its_name() {
        for kind in [SourceKind::Actor, SourceKind::Due, SourceKind::Schedule, SourceKind::Topic] {
            let source = EffectSource { kind, system: "s".into(), name: "n".into() };
            let id = EffectId { epoch: 1, activation: 2, number: 3 };
            let seen = outbox::Seen { source: source.into(), id };
            let Line::Seen(line) = seen_out(&seen).unwrap() else { panic!("a line of this kind") };
            assert_eq!(seen_in(line), seen);
        }
    }
}
