//! Grammar: checks the order of an export's lines, and parses each line.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_stages::actor::{ActorId, check_name};
use tidegate_stages::history::Position;
use tidegate_stages::ports::Registered;
use tidegate_stages::state::{Head, Revision};

use super::format::{self, Counts, Line, Seal};

/// Numbers and times are below this value.
const END_OF_NUMBERS: u64 = 1 << 63;

/// A parsed line after the header.
#[derive(Debug)]
pub(super) enum Item {
    Registered(Registered),
    /// The start of an actor.
    Actor(Arc<ActorId>),
    /// A revision of the current actor.
    Revision(Revision),
    /// The head of the current actor; the actor's last line.
    Head(Head),
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
#[derive(Debug, Clone, Default)]
pub(super) struct Grammar {
    pub(super) part: Part,
    pub(super) counts: Counts,
    /// The current actor and the place of its last revision.
    pub(super) open: Option<(Arc<ActorId>, Option<Position>)>,
    /// The last complete actor.
    pub(super) last: Option<Arc<ActorId>>,
}

impl Grammar {
    /// Starts between two actors, or before the first.
    pub(super) fn between(part: Part, counts: Counts) -> Self {
        Self { part, counts, open: None, last: None }
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
            Line::Revision(line) => self.revision(format::revision_in(line, seal)?),
            Line::Head(line) => self.head(format::head_in(line, seal)?),
            Line::End(counts) => self.end(counts),
        }
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
        if let Some((open, _)) = &self.open {
            return Err(format!("the head of {open} is missing before it"));
        }
        check_id(&id)?;
        let id = Arc::new(id);
        self.part = Part::Actors;
        self.open = Some((id.clone(), None));
        Ok(Item::Actor(id))
    }

    fn revision(&mut self, revision: Revision) -> Result<Item, String> {
        let Some((_, last)) = &mut self.open else {
            return Err("a revision without its actor".into());
        };
        let Revision { revision: number, version, incarnation, epoch, at, .. } = revision;
        check_numbers(&[number, version, incarnation, epoch, at.0])?;
        let place = Position::of(&revision);
        let ascends = last.is_none_or(|last| last.revision < place.revision && last.at <= place.at);
        if number == 0 || !ascends {
            return Err(format!("revision {number} does not follow the one before it"));
        }
        *last = Some(place);
        self.counts.revisions += 1;
        Ok(Item::Revision(revision))
    }

    fn head(&mut self, head: Head) -> Result<Item, String> {
        let Some((id, last)) = self.open.take() else {
            return Err("a head without its actor".into());
        };
        let Head { revision, version, incarnation, epoch, at, .. } = head;
        check_numbers(&[revision, version, incarnation, epoch, at.0])?;
        if last.is_some_and(|last| last.revision > revision) {
            return Err(format!("the head of {id} is older than its history"));
        }
        self.last = Some(id);
        self.counts.actors += 1;
        Ok(Item::Head(head))
    }

    fn end(&mut self, counts: Counts) -> Result<Item, String> {
        if let Some((open, _)) = &self.open {
            return Err(format!("the head of {open} is missing before it"));
        }
        if counts != self.counts {
            return Err(format!("it counts {counts:?}, and there were {:?}", self.counts));
        }
        self.part = Part::End;
        Ok(Item::End)
    }
}

fn check_id(id: &ActorId) -> Result<(), String> {
    check_name(&id.system).map_err(|error| format!("the system {error}"))?;
    check_name(&id.name).map_err(|error| format!("the name {error}"))?;
    if id.parent.is_empty() {
        return Ok(());
    }
    check_name(&id.parent).map_err(|error| format!("the parent {error}"))
}

fn check_numbers(numbers: &[u64]) -> Result<(), String> {
    if numbers.iter().any(|number| *number >= END_OF_NUMBERS) {
        return Err("a number is not below 2^63".into());
    }
    Ok(())
}
