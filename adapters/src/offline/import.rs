//! Import: writes the content of a file into a store.
//!
//! The whole file is [checked](super::check()) before anything is written. An actor's head is written last,
//! under an epoch claimed for the import, above all in the file, so an actor with a head is complete. Progress is
//! [noted](super::unfinished) in the store at intervals. A repeated run continues from the note; what it
//! writes twice is identical.

mod actor;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;

use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::actor::ActorRef;
use tidegate_stages::due::DueEntry;
use tidegate_stages::ports::{
    Pause, Registered, RegisteredEntry, Registry, RegistryChange, StateStore,
};
use tidegate_stages::schedules::{Schedule, ScheduleRow, entries};

use super::check::Checked;
use super::format::{Counts, Seal};
use super::grammar::{Grammar, Item, Part};
use super::lines::Reader;
use super::progress::bytes;
use super::reseal::claim;
use super::unfinished::{self, Unfinished};
use super::writes::{Writes, retried};
use super::{OfflineError, Progress};
use crate::store::{Notes, Vault, note_current};
use actor::Open;

/// Registered entries in one change of the registry.
const ENTRIES: usize = 512;
/// Calls for later times in one write: each may be as large as a request.
const DUE: usize = 64;
/// Pauses in one write.
const PAUSES: usize = 256;
/// Limit of the bytes of states in concurrent writes.
const WINDOW_BYTES: usize = 8 << 20;
/// Bytes of the file between two progress notes.
const NOTE_BYTES: u64 = 8 << 20;

/// Options of an import.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    /// The file.
    pub file: &'a Checked,
    /// Opens the file's sealed values; the store must use the same vault.
    pub vault: &'a Vault,
    /// Adds to a store that is not empty; existing content stays as it is.
    pub merge: bool,
}

/// Counts of an import, over all its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Registered entries in the file.
    pub registered: u64,
    /// Actors in the file.
    pub actors: u64,
    /// Revisions in the file.
    pub revisions: u64,
    /// Effects in the file that are not delivered yet.
    pub outbox: u64,
    /// Actors that existed already and were not changed.
    pub kept: u64,
    /// Existing actors whose version differs from the file's.
    pub differing: u64,
}

struct Job<'a> {
    states: Arc<dyn StateStore>,
    registry: &'a dyn Registry,
    notes: &'a dyn Notes,
    unfinished: Unfinished,
    epoch: u64,
    /// Whether the store may hold rows of effects already: from before the import, or from an earlier run.
    may_hold_rows: bool,
    under_way: Writes,
    /// Registered entries to be applied.
    entries: Vec<RegistryChange>,
    /// Calls for later times to be written.
    due: Vec<DueEntry>,
    /// Pauses to be written.
    pauses: Vec<Pause>,
    /// With `merge`: actors that were paused, or resumed, before the import.
    paused: HashSet<ActorRef, Seeded>,
    /// With `merge`: what was registered before the import, by (system, name), and whether it is only the key of a deleted actor.
    registered: HashMap<(String, String), bool, Seeded>,
    open: Option<Open>,
    noted_at: u64,
}

/// Writes everything in a file into a store.
///
/// # Errors
/// When the store already holds something else (nothing is written), or when the store fails; a repeated
/// run continues.
pub async fn import(
    states: Arc<dyn StateStore>,
    registry: &dyn Registry,
    notes: &dyn Notes,
    import: Import<'_>,
) -> Result<Imported, OfflineError> {
    let (unfinished, is_repeated) = begin(&states, registry, notes, &import).await?;
    note_current(notes, import.vault).await?;
    let may_hold_rows = is_repeated || unfinished.merge;
    let epoch = claim(&states, import.file.newest_epoch).await?;
    let job = Job {
        states,
        registry,
        notes,
        epoch,
        may_hold_rows,
        under_way: Writes::new(WINDOW_BYTES),
        entries: Vec::new(),
        due: Vec::new(),
        pauses: Vec::new(),
        paused: HashSet::default(),
        registered: HashMap::default(),
        open: None,
        noted_at: unfinished.mark().offset,
        unfinished,
    };
    let mut progress = Progress::new("importing", import.file.bytes);
    let done = job.run(&import, &mut progress).await;
    progress.end();
    done
}

/// Checks that the file may be imported; returns the progress so far, and whether there was an earlier run.
async fn begin(
    states: &Arc<dyn StateStore>,
    registry: &dyn Registry,
    notes: &dyn Notes,
    import: &Import<'_>,
) -> Result<(Unfinished, bool), OfflineError> {
    let checked = import.file;
    let looking = || OfflineError::store("looking at what the store holds");
    if let Some(unfinished) = unfinished::load(notes).await.map_err(looking())? {
        if unfinished.file == checked.sum {
            return Ok((unfinished, true));
        }
        let text = "the import of another file into this store was not finished: finish it first, or forget it \
                    with `tidegate import --give-up`";
        return Err(OfflineError::Refused(text.into()));
    }
    if !import.merge {
        let mut holds = !registry.load().await.map_err(looking())?.is_empty();
        holds |= !states.schedules(None, 1).await.map_err(looking())?.items.is_empty();
        holds |= !states.due(None, 1).await.map_err(looking())?.items.is_empty();
        let pauses = states.pauses().await.map_err(looking())?;
        holds |= pauses.iter().any(|pause| pause.ended.is_none());
        holds |= !states.pending(None, 1).await.map_err(looking())?.items.is_empty();
        for system in &checked.systems {
            holds |= !states.actors(system, None, 1).await.map_err(looking())?.items.is_empty();
        }
        if holds {
            let text = "the store holds actors already: --merge adds those that it has not, and leaves the others as \
                        they are";
            return Err(OfflineError::Refused(text.into()));
        }
    }
    let unfinished = Unfinished::new(checked.sum, import.merge, checked.first);
    unfinished::note(notes, unfinished).await.map_err(looking())?;
    Ok((unfinished, false))
}

fn name(one: &Registered) -> (String, String) {
    (one.id().system.clone(), one.id().name.clone())
}

fn is_deleted(one: &Registered) -> bool {
    matches!(one.entry, RegisteredEntry::Deleted(_))
}

impl Job<'_> {
    async fn run(
        mut self,
        import: &Import<'_>,
        progress: &mut Progress,
    ) -> Result<Imported, OfflineError> {
        if self.unfinished.merge {
            let loading = OfflineError::store("what is registered");
            let loaded = self.registry.load().await.map_err(loading)?;
            self.registered = loaded.iter().map(|one| (name(one), is_deleted(one))).collect();
            let loading = OfflineError::store("the paused actors");
            let loaded = self.states.pauses().await.map_err(loading)?;
            self.paused = loaded.into_iter().map(|pause| pause.actor).collect();
        }
        let path = &import.file.path;
        let file = File::open(path).map_err(OfflineError::file(path))?;
        let (mut reader, header) = Reader::open(path, file)?;
        reader.seek(self.unfinished.mark())?;
        let seal: Seal<'_> = header.seal(import.vault);
        let Unfinished { part, counts, .. } = self.unfinished;
        let mut grammar = Grammar::between(header.format, part, counts);
        while let Some(line) = reader.next()? {
            let item = grammar.take(line, seal).map_err(|why| reader.damaged(why))?;
            self.take(item).await?;
            let mark = reader.mark();
            if self.open.is_none() && mark.offset >= self.noted_at + NOTE_BYTES {
                self.unfinished.move_to(mark);
                (self.unfinished.part, self.unfinished.counts) = (grammar.part, grammar.counts);
                self.note().await?;
            }
            progress.at(mark.offset, || {
                let Counts { actors, revisions, .. } = grammar.counts;
                format!("{actors} actors, {revisions} revisions, {}", bytes(mark.offset))
            });
        }
        if grammar.part != Part::End || reader.mark().sum != import.file.sum {
            return Err(reader.damaged("the file has changed while it was read"));
        }
        self.under_way.finish().await?;
        let noting = OfflineError::store("noting the import's end");
        unfinished::give_up(self.notes).await.map_err(noting)?;
        let Counts { registered, actors, revisions, outbox, .. } = grammar.counts;
        let Unfinished { kept, differing, .. } = self.unfinished;
        Ok(Imported { registered, actors, revisions, outbox, kept, differing })
    }

    async fn take(&mut self, item: Item) -> Result<(), OfflineError> {
        match item {
            Item::Registered(entry) => {
                // Only what is registered takes the place of a deleted actor.
                let former = self.registered.get(&name(&entry)).copied();
                if former.is_none_or(|was_deleted| was_deleted && !is_deleted(&entry)) {
                    self.entries.push(RegistryChange::Put(entry));
                }
                if self.entries.len() >= ENTRIES { self.register().await } else { Ok(()) }
            }
            Item::Actor(actor) => {
                // All registered entries are written before the first actor.
                self.register().await?;
                self.begin_actor(actor).await
            }
            Item::Revision(revision) => self.revision(revision).await,
            Item::Outbox(row) => self.outbox(row).await,
            Item::Seen(seen) => self.seen(seen).await,
            Item::Head(head) => self.head(head).await,
            Item::Due(entry) => {
                self.register().await?;
                self.due.push(entry);
                if self.due.len() >= DUE { self.put_due().await } else { Ok(()) }
            }
            Item::Schedule(row) => {
                self.register().await?;
                self.schedule(row).await
            }
            Item::Pause(pause) => {
                self.register().await?;
                if !self.paused.contains(&pause.actor) {
                    self.pauses.push(pause);
                }
                if self.pauses.len() >= PAUSES { self.put_pauses().await } else { Ok(()) }
            }
            Item::End => {
                self.register().await?;
                self.put_due().await?;
                self.put_pauses().await
            }
        }
    }

    async fn register(&mut self) -> Result<(), OfflineError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.entries);
        let applied = retried(|| self.registry.apply(entries.clone())).await;
        applied.map_err(OfflineError::store("saving what is registered"))
    }

    /// Writes the calls for later times that were read. Writing one twice changes nothing.
    async fn put_due(&mut self) -> Result<(), OfflineError> {
        let entries = std::mem::take(&mut self.due);
        let put = retried(|| self.states.put_due(entries.clone())).await;
        put.map_err(OfflineError::store("saving the calls for later times"))
    }

    /// Writes the pauses that were read. Writing one twice changes nothing.
    async fn put_pauses(&mut self) -> Result<(), OfflineError> {
        let pauses = std::mem::take(&mut self.pauses);
        if pauses.is_empty() {
            return Ok(());
        }
        let put = retried(|| self.states.put_pauses(pauses.clone())).await;
        put.map_err(OfflineError::store("saving the paused actors"))
    }

    /// Writes a schedule, unless there is one of its name, and its entries among the calls for later times: the file may have
    /// been written while these changed.
    async fn schedule(&mut self, row: ScheduleRow) -> Result<(), OfflineError> {
        let saving = || OfflineError::store(format!("saving the schedule {}", row.key.name));
        let is_there = retried(|| self.states.schedule(&row.key)).await.map_err(saving())?;
        if is_there.is_some() {
            return Ok(());
        }
        let entries = Schedule::decode(row.clone()).map(|schedule| entries(&schedule));
        self.due.extend(entries.unwrap_or_default());
        self.put_due().await?;
        retried(|| self.states.put_schedule(row.clone())).await.map_err(saving())
    }

    /// Completes all earlier writes, then notes the progress.
    async fn note(&mut self) -> Result<(), OfflineError> {
        self.register().await?;
        self.put_due().await?;
        self.put_pauses().await?;
        self.under_way.finish().await?;
        self.noted_at = self.unfinished.mark().offset;
        let noting = OfflineError::store("noting how far the import has come");
        unfinished::note(self.notes, self.unfinished).await.map_err(noting)
    }
}
