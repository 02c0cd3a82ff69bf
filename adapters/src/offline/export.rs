//! Export: writes everything in a store to a file, under a name that ends in `.part` until it is whole.
//!
//! Each actor is exported as of the time when its head was read; later revisions are left for the next
//! export. An interrupted export continues after the last complete line, if the registered entries are
//! still the same. Actors with a head come first, in the order of the store; then those with rows of effects only.

mod begin;
mod read;

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate_stages::actor::{ActorId, ActorRef};
use tidegate_stages::due::DueKey;
use tidegate_stages::history::{Interval, Position};
use tidegate_stages::ports::{Registered, Registry, StateStore};
use tidegate_stages::schedules::ScheduleKey;

use super::format::{self, Counts, FORMAT, Header, Line, Seal};
use super::grammar::{Grammar, Part, place_of};
use super::lines::{Mark, Writer};
use super::progress::bytes;
use super::{OfflineError, Progress, pages, systems};
use crate::store::{Vault, named};
use read::{Found, PAGE};

/// Actors that are read ahead of the one being written, each with at most a page of its history.
const AHEAD: usize = 8;

/// Options of an export.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// The file.
    pub path: &'a Path,
    /// Seals states as in the store; `None` writes them in the clear.
    pub vault: Option<&'a Vault>,
    /// Continues an existing file.
    pub resume: bool,
    /// Start time, for the header.
    pub at: &'a str,
}

/// Counts of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Registered entries.
    pub registered: u64,
    /// Actors with a state or rows of effects.
    pub actors: u64,
    /// Revisions of their histories.
    pub revisions: u64,
    /// Effects that are not delivered yet.
    pub outbox: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

struct Job<'a> {
    states: Arc<dyn StateStore>,
    /// Actors that may have effects in their outbox.
    pending: BTreeSet<Arc<ActorId>>,
    writer: Writer,
    counts: Counts,
    seal: Seal<'a>,
    progress: &'a mut Progress,
}

/// Writes everything registered, and every actor with its history, to a file.
///
/// # Errors
/// When the store or the file fails; a run with `resume` continues from there.
pub async fn export(
    states: Arc<dyn StateStore>,
    registry: &dyn Registry,
    export: Export<'_>,
    progress: &mut Progress,
) -> Result<Exported, OfflineError> {
    let loading = OfflineError::store("what is registered");
    let mut registered = registry.load().await.map_err(loading)?;
    let key = |entry: &Registered| (entry.id().system.clone(), entry.id().name.clone());
    registered.sort_by_cached_key(key);
    let path = begin::file_of(&export)?;
    let (file, begun) = begin::begin(&export, &path, &registered)?;
    let (mark, grammar) = begun.unwrap_or_else(|| (Mark::default(), Grammar::of_format(FORMAT)));
    let seal = export.vault.map_or(Seal::Clear, Seal::With);
    let writer = Writer::new(&path, file, mark)?;
    let pending = pages::pending(&states).await.map_err(OfflineError::store("the outboxes"))?;
    let mut job = Job { states, pending, writer, counts: grammar.counts, seal, progress };
    if mark == Mark::default() {
        let (by, at) = (env!("CARGO_PKG_VERSION").into(), export.at.into());
        let header = Header { format: FORMAT, by, at, seal: seal.text() };
        job.writer.put(&Line::TidegateExport(header))?;
    }
    if grammar.part != Part::End {
        let missing = usize::try_from(grammar.counts.registered).unwrap_or(usize::MAX);
        for entry in registered.iter().skip(missing) {
            job.writer.put(&format::registered_out(entry))?;
            job.counts.registered += 1;
        }
        let (due, schedule) = (grammar.due.clone(), grammar.schedule.clone());
        let pause = grammar.pause.clone();
        if due.is_none() && schedule.is_none() && pause.is_none() {
            job.all_actors(&registered, grammar).await?;
        }
        if schedule.is_none() && pause.is_none() {
            job.due(due).await?;
        }
        if pause.is_none() {
            job.schedules(schedule).await?;
        }
        job.pauses(pause.as_ref()).await?;
        job.writer.put(&Line::End(job.counts))?;
    }
    let Counts { registered, actors, revisions, outbox, .. } = job.counts;
    let bytes = job.writer.bytes();
    job.writer.finish(export.path)?;
    Ok(Exported { registered, actors, revisions, outbox, bytes })
}

impl Job<'_> {
    /// Writes every actor that comes after the last written one.
    async fn all_actors(
        &mut self,
        registered: &[Registered],
        grammar: Grammar,
    ) -> Result<(), OfflineError> {
        let mut last = grammar.last;
        if let Some(open) = grammar.open {
            self.rest_of(&open.actor, open.place).await?;
            last = Some((open.actor, true));
        }
        match last {
            Some((last, false)) => self.without_head(registered, Some(last)).await,
            last => {
                self.with_head(registered, last.map(|(last, _)| last)).await?;
                self.without_head(registered, None).await
            }
        }
    }

    /// Writes the actors that have a head, after `last`.
    async fn with_head(
        &mut self,
        registered: &[Registered],
        last: Option<Arc<ActorId>>,
    ) -> Result<(), OfflineError> {
        for system in systems(registered) {
            let after = last.clone().filter(|last| last.system == system);
            if last.as_ref().is_some_and(|last| system < last.system) {
                continue;
            }
            let listing = || OfflineError::store(format!("the actors of system {system}"));
            let mut pages = pin!(pages::actors(self.states.clone(), system.clone(), after));
            while let Some(page) = pages.try_next().await.map_err(listing())? {
                let read = |actor: Arc<ActorId>| {
                    let is_pending = self.pending.contains(&actor);
                    read::with_head(self.states.clone(), actor, is_pending)
                };
                let reads: Vec<_> = page.into_iter().map(read).collect();
                self.write(reads).await?;
            }
        }
        Ok(())
    }

    /// Writes the actors that have rows of effects and no head, after `last`. Such an actor is registered, or has effects
    /// in its outbox.
    async fn without_head(
        &mut self,
        registered: &[Registered],
        last: Option<Arc<ActorId>>,
    ) -> Result<(), OfflineError> {
        let keys = registered.iter().map(|entry| entry.key.clone());
        let keys: BTreeSet<_> = keys.chain(self.pending.iter().cloned()).collect();
        let keys: Vec<_> =
            keys.into_iter().filter(|key| last.as_ref().is_none_or(|last| key > last)).collect();
        for keys in keys.chunks(PAGE) {
            let read = |actor: &Arc<ActorId>| {
                let is_pending = self.pending.contains(actor);
                read::without_head(self.states.clone(), actor.clone(), is_pending)
            };
            let reads: Vec<_> = keys.iter().map(read).collect();
            self.write(reads).await?;
        }
        Ok(())
    }

    /// Writes actors as they are read, a few ahead of the one being written.
    async fn write(
        &mut self,
        reads: Vec<impl Future<Output = (Arc<ActorId>, read::Read)>>,
    ) -> Result<(), OfflineError> {
        let mut ahead = pin!(stream::iter(reads).buffered(AHEAD));
        while let Some((actor, read)) = ahead.next().await {
            let reading = OfflineError::store(format!("the state of {actor}"));
            // Removed after it was listed, or not of this kind.
            let Some(found) = read.map_err(reading)? else { continue };
            self.writer.put(&format::actor_out(&actor))?;
            self.actor(&actor, found).await?;
        }
        Ok(())
    }

    /// Continues an actor's history after `last`.
    async fn rest_of(
        &mut self,
        actor: &Arc<ActorId>,
        last: Option<Position>,
    ) -> Result<(), OfflineError> {
        let reading = OfflineError::store(format!("the state of {actor}"));
        let is_pending = self.pending.contains(actor);
        let found = read::after(&self.states, actor, last, is_pending).await.map_err(reading)?;
        let Some(found) = found else {
            let text = format!("{actor}, with which the file ends, is gone; begin a new export");
            return Err(OfflineError::Refused(text));
        };
        self.actor(actor, found).await
    }

    /// Writes an actor's history and its rows of effects, starting with the pages already read, and then its head.
    async fn actor(&mut self, actor: &Arc<ActorId>, found: Found) -> Result<(), OfflineError> {
        let Found { head, mut page, mut outbox, seen } = found;
        let newest = head.as_ref().map_or(0, |head| head.revision);
        let named = named(actor);
        loop {
            let last = page.items.last().map(Position::of);
            for revision in page.items {
                // Newer than the head: appended since, or by a run that ended before it wrote the head.
                if revision.revision <= newest {
                    self.counts.revisions += 1;
                    self.writer.put(&format::revision_out(&named, revision, self.seal))?;
                }
            }
            self.tell();
            if !page.more {
                break;
            }
            let reading = OfflineError::store(format!("the history of {actor}"));
            let interval = Interval { after: last, ..Interval::ALL };
            let next = self.states.load_by_interval(actor, interval, PAGE);
            page = next.await.map_err(reading)?;
        }
        loop {
            let last = outbox.items.last().map(|row| row.key);
            for row in outbox.items {
                self.counts.outbox += 1;
                self.writer.put(&format::outbox_out(&named, row, self.seal))?;
            }
            if !outbox.more {
                break;
            }
            let reading = OfflineError::store(format!("the outbox of {actor}"));
            outbox = self.states.outbox(actor, last, PAGE).await.map_err(reading)?;
        }
        for seen in &seen {
            self.counts.seen += 1;
            self.writer.put(&format::seen_out(seen).map_err(OfflineError::Refused)?)?;
        }
        self.counts.actors += 1;
        self.writer.put(&format::head_out(&named, head, self.seal))?;
        self.tell();
        Ok(())
    }

    /// Writes the calls that are to be made later, after `last`.
    async fn due(&mut self, mut last: Option<DueKey>) -> Result<(), OfflineError> {
        loop {
            let reading = OfflineError::store("the calls for later times");
            let page = self.states.due(last.as_ref(), PAGE).await.map_err(reading)?;
            last = page.items.last().map(|entry| entry.key.clone());
            for entry in page.items {
                self.counts.due += 1;
                let line = format::due_out(entry, self.seal).map_err(OfflineError::Refused)?;
                self.writer.put(&line)?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Writes the schedules after `last`.
    async fn schedules(&mut self, mut last: Option<ScheduleKey>) -> Result<(), OfflineError> {
        loop {
            let reading = OfflineError::store("the schedules");
            let page = self.states.schedules(last.as_ref(), PAGE).await.map_err(reading)?;
            last = page.items.last().map(|row| row.key.clone());
            for row in page.items {
                self.counts.schedules += 1;
                self.writer.put(&format::schedule_out(row, self.seal))?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Writes the pauses after `last`, by system and name.
    async fn pauses(&mut self, last: Option<&ActorRef>) -> Result<(), OfflineError> {
        let reading = OfflineError::store("the paused actors");
        let mut pauses = self.states.pauses().await.map_err(reading)?;
        pauses.retain(|pause| last.is_none_or(|last| place_of(last) < place_of(&pause.actor)));
        pauses.sort_by(|one, other| place_of(&one.actor).cmp(&place_of(&other.actor)));
        for pause in pauses {
            self.counts.pauses += 1;
            self.writer.put(&format::pause_out(pause))?;
        }
        Ok(())
    }

    fn tell(&mut self) {
        let (Counts { actors, revisions, .. }, written) = (self.counts, self.writer.bytes());
        self.progress
            .at(actors, || format!("{actors} actors, {revisions} revisions, {}", bytes(written)));
    }
}
