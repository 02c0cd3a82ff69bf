//! Export: writes everything in a store to a file.
//!
//! Each actor is exported as of the time when its head was read; later revisions are left for the next
//! export. An interrupted export continues after the last complete line, if the registered entries are
//! still the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::{Interval, Page, Position};
use tidegate_stages::ports::{Registered, Registry, StateStore, StoreError};
use tidegate_stages::state::{Head, Revision};

use super::format::{self, Counts, FORMAT, Header, Line, Seal};
use super::grammar::{Grammar, Item, Part};
use super::lines::{Mark, Reader, Writer};
use super::progress::bytes;
use super::{OfflineError, Progress, pages, systems};
use crate::store::Vault;

/// Actors that are read ahead of the one being written, each with at most a page of its history.
const AHEAD: usize = 8;
/// First bytes of every export.
const BEGINNING: &[u8] = b"{\"tidegate_export\":";
/// Every header is shorter than this.
const HEADER_BYTES: usize = 4096;
/// Revisions in a page.
const PAGE: usize = 256;

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
    /// Actors with a state.
    pub actors: u64,
    /// Revisions of their histories.
    pub revisions: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

struct Job<'a> {
    states: Arc<dyn StateStore>,
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
    let (file, begun) = begin(&export, &registered)?;
    let (mark, grammar) = begun.unwrap_or_default();
    let seal = export.vault.map_or(Seal::Clear, Seal::With);
    let writer = Writer::new(export.path, file, mark)?;
    let mut job = Job { states, writer, counts: grammar.counts, seal, progress };
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
        job.actors(&registered, grammar).await?;
        job.writer.put(&Line::End(job.counts))?;
    }
    let Counts { registered, actors, revisions } = job.counts;
    let bytes = job.writer.bytes();
    job.writer.finish()?;
    Ok(Exported { registered, actors, revisions, bytes })
}

/// Creates the file, or finds the position in it at which to continue.
fn begin(
    export: &Export<'_>,
    registered: &[Registered],
) -> Result<(File, Option<(Mark, Grammar)>), OfflineError> {
    let io = OfflineError::file(export.path);
    // The file may hold states in the clear: only its owner may read it.
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    if !export.resume {
        return match options.create_new(true).open(export.path) {
            Ok(file) => Ok((file, None)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OfflineError::Exists(export.path.into()))
            }
            Err(error) => Err(io(error)),
        };
    }
    let file = options.create(true).truncate(false).open(export.path).map_err(&io)?;
    let reading = file.try_clone().map_err(&io)?;
    if is_beginning(&file).map_err(&io)? {
        return Ok((file, None));
    }
    let (mut reader, header) = Reader::open(export.path, reading)?;
    if header.seal.is_some() != export.vault.is_some() {
        let path = export.path.display();
        let how = if header.seal.is_some() { "with" } else { "without" };
        return Err(OfflineError::Refused(format!("{path} was begun {how} --sealed")));
    }
    let vault = Vault::default();
    let vault = export.vault.unwrap_or(&vault);
    let key = |error: crate::store::SealError| OfflineError::Key {
        path: PathBuf::from(export.path),
        why: error.to_string(),
    };
    header.check_seal(vault).map_err(key)?;
    let seal = header.seal(vault);
    let mut grammar = Grammar::default();
    loop {
        let mark = reader.mark();
        match reader.next() {
            Ok(Some(line)) => {
                let item = grammar.take(line, seal).map_err(|why| reader.damaged(why))?;
                if let Item::Registered(entry) = &item {
                    let place =
                        usize::try_from(grammar.counts.registered - 1).unwrap_or(usize::MAX);
                    if registered.get(place) != Some(entry) {
                        return Err(changed(export.path));
                    }
                }
            }
            Ok(None) => {
                let all = grammar.counts.registered == registered.len() as u64;
                if grammar.part != Part::Registered && !all {
                    return Err(changed(export.path));
                }
                return Ok((file, Some((mark, grammar))));
            }
            Err(_) if reader.is_torn() => {
                return Ok((file, Some((mark, grammar))));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a file holds only a part of a header, because the export was interrupted before the first line
/// was complete.
fn is_beginning(file: &File) -> io::Result<bool> {
    let mut begun = [0; BEGINNING.len()];
    let len = file.read_at(&mut begun, 0)?;
    let begun = begun.get(..len).unwrap_or_default();
    if !BEGINNING.starts_with(begun) {
        return Ok(false);
    }
    let mut first = vec![0; HEADER_BYTES];
    let len = file.read_at(&mut first, 0)?;
    Ok(len < HEADER_BYTES && !first.iter().take(len).any(|byte| *byte == b'\n'))
}

fn changed(path: &Path) -> OfflineError {
    let path = path.display();
    let text = format!("what is registered has changed since {path} was begun; begin a new export");
    OfflineError::Refused(text)
}

impl Job<'_> {
    /// Writes every actor that comes after the last written one.
    async fn actors(
        &mut self,
        registered: &[Registered],
        grammar: Grammar,
    ) -> Result<(), OfflineError> {
        if let Some((actor, last)) = grammar.open.clone() {
            self.rest_of(&actor, last).await?;
        }
        let last = grammar.open.map(|(open, _)| open).or(grammar.last);
        for system in systems(registered) {
            let after = last.clone().filter(|last| last.system == system);
            if last.as_ref().is_some_and(|last| system < last.system) {
                continue;
            }
            let listing = || OfflineError::store(format!("the actors of system {system}"));
            let mut pages = pin!(pages::actors(self.states.clone(), system.clone(), after));
            while let Some(page) = pages.try_next().await.map_err(listing())? {
                let states = self.states.clone();
                let read = |actor: Arc<ActorId>| read(states.clone(), actor);
                let mut ahead = pin!(stream::iter(page).map(read).buffered(AHEAD));
                while let Some((actor, read)) = ahead.next().await {
                    let reading = OfflineError::store(format!("the state of {actor}"));
                    // Removed after it was listed.
                    let Some((head, page)) = read.map_err(reading)? else { continue };
                    self.writer.put(&format::actor_out(&actor))?;
                    self.actor(&actor, head, page).await?;
                }
            }
        }
        Ok(())
    }

    /// Continues an actor's history after `last`.
    async fn rest_of(
        &mut self,
        actor: &Arc<ActorId>,
        last: Option<Position>,
    ) -> Result<(), OfflineError> {
        let reading = || OfflineError::store(format!("the state of {actor}"));
        let Some(head) = self.states.load(actor).await.map_err(reading())? else {
            let text = format!("{actor}, with which the file ends, is gone; begin a new export");
            return Err(OfflineError::Refused(text));
        };
        let interval = Interval { after: last, ..Interval::ALL };
        let page = self.states.load_by_interval(actor, interval, PAGE).await.map_err(reading())?;
        self.actor(actor, head, page).await
    }

    /// Writes an actor's history, starting with the page already read, and then its head.
    async fn actor(
        &mut self,
        actor: &Arc<ActorId>,
        head: Head,
        mut page: Page<Revision>,
    ) -> Result<(), OfflineError> {
        loop {
            let last = page.items.last().map(Position::of);
            for revision in page.items {
                // Newer than the head: appended since, or by a run that ended before it wrote the head.
                if revision.revision <= head.revision {
                    self.counts.revisions += 1;
                    self.writer.put(&format::revision_out(revision, self.seal))?;
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
        self.counts.actors += 1;
        self.writer.put(&format::head_out(head, self.seal))?;
        self.tell();
        Ok(())
    }

    fn tell(&mut self) {
        let (Counts { actors, revisions, .. }, written) = (self.counts, self.writer.bytes());
        self.progress
            .at(actors, || format!("{actors} actors, {revisions} revisions, {}", bytes(written)));
    }
}

type Read = Result<Option<(Head, Page<Revision>)>, StoreError>;

/// Reads an actor's head, then the first page of its history. This order ensures that the history reaches
/// the head.
async fn read(states: Arc<dyn StateStore>, actor: Arc<ActorId>) -> (Arc<ActorId>, Read) {
    let read = async {
        let Some(head) = states.load(&actor).await? else { return Ok(None) };
        let page = states.load_by_interval(&actor, Interval::ALL, PAGE).await?;
        Ok(Some((head, page)))
    };
    let read = read.await;
    (actor, read)
}
