//! Grammar: checks the order of an export's lines, and parses each line.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_stages::actor::{ActorId, ActorRef, check_name};
use tidegate_stages::due::{DueEntry, DueKey};
use tidegate_stages::history::Position;
use tidegate_stages::outbox::{EffectId, EffectSource, OutboxKey, OutboxRow, Seen, SourceKind};
use tidegate_stages::ports::{Pause, Registered};
use tidegate_stages::schedules::{Schedule, ScheduleKey, ScheduleRow};
use tidegate_stages::state::{Head, Revision};

use super::format::{self, Counts, Line, Seal};
use crate::store::named;

/// Numbers and times are below this value.
const END_OF_NUMBERS: u64 = 1 << 63;
/// Epochs are below this value, so that there are later ones.
const END_OF_EPOCHS: u64 = 1 << 62;

/// A parsed line after the header.
#[derive(Debug)]
pub(super) enum Item {
    Registered(Registered),
    /// The start of an actor.
    Actor(Arc<ActorId>),
    /// A revision of the current actor.
    Revision(Revision),
    /// An effect in the outbox of the current actor.
    Outbox(OutboxRow),
    /// What the current actor has seen of one source.
    Seen(Seen),
    /// The head of the current actor; the actor's last line. `None`: it has rows of effects only.
    Head(Option<Head>),
    /// A call to be made at a later time.
    Due(DueEntry),
    /// A schedule.
    Schedule(ScheduleRow),
    /// That an actor is paused.
    Pause(Pause),
    /// The end of the file.
    End,
}

/// A part of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Part {
    #[default]
    Registered,
    Actors,
    /// After the last line.
    End,
}

/// The state on which the next line depends.
#[derive(Debug, Clone)]
pub(super) struct Grammar {
    /// The format of the file.
    format: u32,
    pub(super) part: Part,
    pub(super) counts: Counts,
    /// The current actor.
    pub(super) open: Option<Open>,
    /// The last complete actor, and whether it has a head.
    pub(super) last: Option<(Arc<ActorId>, bool)>,
    /// The last call to be made at a later time: these come after all actors.
    pub(super) due: Option<DueKey>,
    /// The last schedule: these come after all calls.
    pub(super) schedule: Option<ScheduleKey>,
    /// The last paused actor: these come after all schedules, by system and name.
    pub(super) pause: Option<ActorRef>,
    /// The newest epoch of a record so far.
    pub(super) newest_epoch: u64,
}

/// How far the lines of an actor have come.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) actor: Arc<ActorId>,
    /// See [`named`].
    named: Arc<[u8]>,
    /// The place of its last revision.
    pub(super) place: Option<Position>,
    row: Option<OutboxKey>,
    source: Option<Arc<EffectSource>>,
}

impl Grammar {
    /// Starts after the header.
    pub(super) fn of_format(format: u32) -> Self {
        Self::between(format, Part::default(), Counts::default())
    }

    /// Starts between two actors, or before the first.
    pub(super) fn between(format: u32, part: Part, counts: Counts) -> Self {
        Self {
            format,
            part,
            counts,
            open: None,
            last: None,
            due: None,
            schedule: None,
            pause: None,
            newest_epoch: 0,
        }
    }

    /// Checks and parses the next line.
    ///
    /// # Errors
    /// When the line is invalid; the text says why.
    pub(super) fn take(&mut self, line: Line, seal: Seal<'_>) -> Result<Item, String> {
        if self.part == Part::End {
            return Err("follows the end".into());
        }
        match line {
            Line::TidegateExport(_) => Err("is a second header".into()),
            Line::Definition(line) => self.registered(format::definition_in(line)?),
            Line::Spawned(line) => self.registered(format::spawned_in(line)),
            Line::Actor(line) => self.actor(format::actor_in(line)),
            Line::Revision(line) => self.revision(format::revision_in(self.named()?, line, seal)?),
            Line::Deleted(_)
            | Line::Outbox(_)
            | Line::Seen(_)
            | Line::Due(_)
            | Line::Schedule(_)
            | Line::Pause(_)
            | Line::Head(None)
                if self.format < 2 =>
            {
                Err("is no line of format 1".into())
            }
            Line::Deleted(line) => self.registered(format::deleted_in(line)),
            Line::Outbox(line) => self.outbox(format::outbox_in(self.named()?, line, seal)?),
            Line::Seen(line) => self.seen(format::seen_in(line)),
            Line::Head(Some(line)) => self.head(Some(format::head_in(self.named()?, line, seal)?)),
            Line::Head(None) => self.head(None),
            Line::Due(line) => self.due(format::due_in(line, seal)?),
            Line::Schedule(line) => self.schedule(format::schedule_in(line, seal)?),
            Line::Pause(line) => self.pause(format::pause_in(line)),
            Line::End(counts) => self.end(counts),
        }
    }

    /// What names the current actor in the place of a sealed value.
    fn named(&self) -> Result<&[u8], String> {
        self.open.as_ref().map(|open| &*open.named).ok_or_else(without_actor)
    }

    fn registered(&mut self, entry: Registered) -> Result<Item, String> {
        if self.part != Part::Registered {
            return Err("an entry of the registry follows an actor".into());
        }
        check_id(entry.id())?;
        self.counts.registered += 1;
        Ok(Item::Registered(entry))
    }

    fn actor(&mut self, id: ActorId) -> Result<Item, String> {
        if let Some(Open { actor, .. }) = &self.open {
            return Err(format!("the head of {actor} is missing before it"));
        }
        if self.due.is_some() || self.schedule.is_some() || self.pause.is_some() {
            return Err("an actor follows a call for a later time, a schedule or a pause".into());
        }
        check_key(&id)?;
        let actor = Arc::new(id);
        self.part = Part::Actors;
        let named = named(&actor).into();
        self.open =
            Some(Open { actor: actor.clone(), named, place: None, row: None, source: None });
        Ok(Item::Actor(actor))
    }

    fn revision(&mut self, revision: Revision) -> Result<Item, String> {
        let Revision { revision: number, version, incarnation, epoch, at, .. } = revision;
        self.epoch(epoch)?;
        let open = open(&mut self.open)?;
        check_numbers(&[number, version, incarnation, at.0])?;
        let place = Position::of(&revision);
        let ascends =
            open.place.is_none_or(|last| last.revision < place.revision && last.at <= place.at);
        if number == 0 || !ascends || open.row.is_some() || open.source.is_some() {
            return Err(format!("revision {number} does not follow the one before it"));
        }
        open.place = Some(place);
        self.counts.revisions += 1;
        Ok(Item::Revision(revision))
    }

    fn outbox(&mut self, row: OutboxRow) -> Result<Item, String> {
        let OutboxKey { epoch, place } = row.key;
        self.epoch(epoch)?;
        self.effect(row.id)?;
        check_numbers(&[place])?;
        let open = open(&mut self.open)?;
        if open.row.is_some_and(|last| last >= row.key) || open.source.is_some() {
            return Err(format!(
                "place {place} of epoch {epoch} does not follow what is before it"
            ));
        }
        open.row = Some(row.key);
        self.counts.outbox += 1;
        Ok(Item::Outbox(row))
    }

    fn seen(&mut self, seen: Seen) -> Result<Item, String> {
        self.effect(seen.id)?;
        let open = open(&mut self.open)?;
        let source = &seen.source;
        if source.kind == SourceKind::Actor {
            check_name(&source.system).map_err(|error| format!("the system {error}"))?;
            // A member of a pool is a source under the name of both.
            check_parts(&source.name, '\u{1f}')?;
        }
        if open.source.as_ref().is_some_and(|last| last >= source) {
            return Err(format!("source {} does not follow what is before it", source.name));
        }
        open.source = Some(source.clone());
        self.counts.seen += 1;
        Ok(Item::Seen(seen))
    }

    fn head(&mut self, head: Option<Head>) -> Result<Item, String> {
        let open = self.open.take().ok_or_else(without_actor)?;
        if let Some(head) = &head {
            let Head { revision, version, incarnation, epoch, at, .. } = head;
            self.epoch(*epoch)?;
            check_numbers(&[*revision, *version, *incarnation, at.0])?;
        }
        let newest = head.as_ref().map_or(0, |head| head.revision);
        if open.place.is_some_and(|last| last.revision > newest) {
            return Err(format!("the head of {} is older than its history", open.actor));
        }
        self.last = Some((open.actor, head.is_some()));
        self.counts.actors += 1;
        Ok(Item::Head(head))
    }

    fn due(&mut self, entry: DueEntry) -> Result<Item, String> {
        if let Some(Open { actor, .. }) = &self.open {
            return Err(format!("the head of {actor} is missing before it"));
        }
        check_numbers(&[entry.key.at.0])?;
        if self.schedule.is_some() || self.pause.is_some() {
            return Err("a call for a later time follows a schedule or a pause".into());
        }
        if self.due.as_ref().is_some_and(|last| last.at > entry.key.at) {
            return Err("a call for a later time is due before the one before it".into());
        }
        self.part = Part::Actors;
        self.due = Some(entry.key.clone());
        self.counts.due += 1;
        Ok(Item::Due(entry))
    }

    fn schedule(&mut self, row: ScheduleRow) -> Result<Item, String> {
        if let Some(Open { actor, .. }) = &self.open {
            return Err(format!("the head of {actor} is missing before it"));
        }
        if self.pause.is_some() {
            return Err("a schedule follows a pause".into());
        }
        check_name(&row.key.system).map_err(|error| format!("the system {error}"))?;
        check_name(&row.key.name).map_err(|error| format!("the name {error}"))?;
        check_numbers(&[row.runs])?;
        let schedule = Schedule::decode(row.clone()).ok_or("its record cannot be decoded")?;
        self.epoch(schedule.creation.epoch)?;
        self.part = Part::Actors;
        self.schedule = Some(row.key.clone());
        self.counts.schedules += 1;
        Ok(Item::Schedule(row))
    }

    fn pause(&mut self, pause: Pause) -> Result<Item, String> {
        if let Some(Open { actor, .. }) = &self.open {
            return Err(format!("the head of {actor} is missing before it"));
        }
        let actor = &pause.actor;
        check_name(actor.system()).map_err(|error| format!("the system {error}"))?;
        check_name(actor.name()).map_err(|error| format!("the name {error}"))?;
        check_numbers(&[pause.since.0, pause.ended.map_or(0, |ended| ended.0)])?;
        if self.pause.as_ref().is_some_and(|last| place_of(last) >= place_of(actor)) {
            return Err(format!("the pause of {} does not follow the one before it", actor.name()));
        }
        self.part = Part::Actors;
        self.pause = Some(actor.clone());
        self.counts.pauses += 1;
        Ok(Item::Pause(pause))
    }

    fn effect(&mut self, id: EffectId) -> Result<(), String> {
        self.epoch(id.epoch)?;
        check_numbers(&[id.activation, id.number])
    }

    fn epoch(&mut self, epoch: u64) -> Result<(), String> {
        if epoch >= END_OF_EPOCHS {
            return Err("an epoch is not below 2^62".into());
        }
        self.newest_epoch = self.newest_epoch.max(epoch);
        Ok(())
    }

    fn end(&mut self, counts: Counts) -> Result<Item, String> {
        if let Some(Open { actor, .. }) = &self.open {
            return Err(format!("the head of {actor} is missing before it"));
        }
        if counts != self.counts {
            return Err(format!("it counts {counts:?}, and there were {:?}", self.counts));
        }
        self.part = Part::End;
        Ok(Item::End)
    }
}

/// By what pauses are ordered.
pub(super) fn place_of(actor: &ActorRef) -> (&str, &str) {
    (actor.system(), actor.name())
}

/// The actor that a line belongs to.
fn open(open: &mut Option<Open>) -> Result<&mut Open, String> {
    open.as_mut().ok_or_else(without_actor)
}

fn without_actor() -> String {
    "a line of an actor without that actor".into()
}

fn check_id(id: &ActorId) -> Result<(), String> {
    check_name(&id.system).map_err(|error| format!("the system {error}"))?;
    check_name(&id.name).map_err(|error| format!("the name {error}"))?;
    if id.parent.is_empty() {
        return Ok(());
    }
    check_name(&id.parent).map_err(|error| format!("the parent {error}"))
}

/// Checks the key of a state. That of a topic, and of a member of a pool, has a name that no actor can have.
fn check_key(id: &ActorId) -> Result<(), String> {
    check_id(&ActorId { name: String::from("-"), ..id.clone() })?;
    check_parts(&id.name, '\u{1}')
}

/// Checks a name that may have two parts with a control character between them.
fn check_parts(name: &str, between: char) -> Result<(), String> {
    let (first, second) = name.split_once(between).unwrap_or((name, "-"));
    let mut parts = [first, second].into_iter();
    parts.try_for_each(check_name).map_err(|error| format!("the name {error}"))
}

fn check_numbers(numbers: &[u64]) -> Result<(), String> {
    if numbers.iter().any(|number| *number >= END_OF_NUMBERS) {
        return Err("a number is not below 2^63".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_that_of_a_topic_or_of_a_member_of_a_pool() {
        let key = |name: &str, parent: &str| {
            let (name, system, parent) = (name.into(), "shop".into(), parent.into());
            check_key(&ActorId { name, system, parent })
        };
        for (name, parent) in [("cart", ""), ("orders\u{1}topic", ""), ("mail\u{1}3", "mail-3")] {
            assert_eq!(key(name, parent), Ok(()), "{name:?}");
        }
        for name in ["", "a\nb", "\u{1}topic", "orders\u{1}", "a\u{1}b\u{1}c", "a\u{2}b"] {
            assert!(key(name, "").is_err(), "{name:?}");
        }
        assert!(key("cart", "a\nb").is_err());
        assert_eq!(check_parts("mail\u{1f}mail-3", '\u{1f}'), Ok(()));
        assert!(check_parts("mail\u{1}3", '\u{1f}').is_err());
    }
}
