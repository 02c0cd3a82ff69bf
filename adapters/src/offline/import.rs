//! Import: writes the content of a file into a store.
//!
//! The whole file is [checked](super::check()) before anything is written. An actor's head is written last,
//! under an epoch claimed for the import, so an actor with a head is complete. Progress is
//! [noted](super::unfinished) in the store at intervals. A repeated run continues from the note; what it
//! writes twice is identical.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use futures_util::FutureExt;
use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::PAGE_BYTES;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore};
use tidegate_stages::state::{Head, Revision};

use super::check::Checked;
use super::format::{Counts, Seal};
use super::grammar::{Grammar, Item, Part};
use super::lines::Reader;
use super::progress::{bytes, say};
use super::reseal::{append, claim, save_head};
use super::unfinished::{self, Unfinished};
use super::writes::{Writes, retried};
use super::{OfflineError, Progress};
use crate::store::{Notes, Vault, note_current};

/// Registered entries in one change of the registry.
const ENTRIES: usize = 512;
/// Revisions in one append.
const PAGE: usize = 256;
/// Limit of the bytes of states in concurrent writes.
const WINDOW_BYTES: usize = 8 << 20;
/// Bytes of the file between two progress notes.
const NOTE_BYTES: u64 = 8 << 20;
/// Differing actors that are listed by name; further ones are only counted.
const NAMED: u64 = 20;

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
    under_way: Writes,
    /// Registered entries to be applied.
    entries: Vec<RegistryChange>,
    /// With `merge`: (system, name) of entries registered before the import.
    registered: HashSet<(String, String), Seeded>,
    open: Option<Open>,
    noted_at: u64,
}

/// The actor whose lines are being read.
struct Open {
    actor: Arc<ActorId>,
    page: Vec<Revision>,
    page_bytes: usize,
    /// The actor's version in the store before the import.
    there: Option<u64>,
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
    let unfinished = begin(&states, registry, notes, &import).await?;
    note_current(notes, import.vault).await?;
    let mut progress = Progress::new("importing", import.file.bytes);
    let done = run(states, registry, notes, &import, unfinished, &mut progress).await;
    progress.end();
    done
}

/// Checks that the file may be imported; returns the progress so far.
async fn begin(
    states: &Arc<dyn StateStore>,
    registry: &dyn Registry,
    notes: &dyn Notes,
    import: &Import<'_>,
) -> Result<Unfinished, OfflineError> {
    let checked = import.file;
    let looking = || OfflineError::store("looking at what the store holds");
    if let Some(unfinished) = unfinished::load(notes).await.map_err(looking())? {
        if unfinished.file == checked.sum {
            return Ok(unfinished);
        }
        let text = "the import of another file into this store was not finished: finish it first, or forget it \
                    with `tidegate import --give-up`";
        return Err(OfflineError::Refused(text.into()));
    }
    if !import.merge {
        let mut holds = !registry.load().await.map_err(looking())?.is_empty();
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
    Ok(unfinished)
}

async fn run(
    states: Arc<dyn StateStore>,
    registry: &dyn Registry,
    notes: &dyn Notes,
    import: &Import<'_>,
    unfinished: Unfinished,
    progress: &mut Progress,
) -> Result<Imported, OfflineError> {
    let registered = if unfinished.merge {
        let loaded = registry.load().await.map_err(OfflineError::store("what is registered"))?;
        let key = |entry: &Registered| (entry.id().system.clone(), entry.id().name.clone());
        loaded.iter().map(key).collect()
    } else {
        HashSet::default()
    };
    let epoch = claim(&states).await?;
    let mut job = Job {
        states,
        registry,
        notes,
        epoch,
        under_way: Writes::new(WINDOW_BYTES),
        entries: Vec::new(),
        registered,
        open: None,
        noted_at: unfinished.mark().offset,
        unfinished,
    };
    let path = &import.file.path;
    let file = File::open(path).map_err(OfflineError::file(path))?;
    let (mut reader, header) = Reader::open(path, file)?;
    reader.seek(unfinished.mark())?;
    let seal: Seal<'_> = header.seal(import.vault);
    let mut grammar = Grammar::between(unfinished.part, unfinished.counts);
    while let Some(line) = reader.next()? {
        let item = grammar.take(line, seal).map_err(|why| reader.damaged(why))?;
        job.take(item).await?;
        let mark = reader.mark();
        if job.open.is_none() && mark.offset >= job.noted_at + NOTE_BYTES {
            job.unfinished.move_to(mark);
            (job.unfinished.part, job.unfinished.counts) = (grammar.part, grammar.counts);
            job.note().await?;
        }
        progress.at(mark.offset, || {
            let Counts { actors, revisions, .. } = grammar.counts;
            format!("{actors} actors, {revisions} revisions, {}", bytes(mark.offset))
        });
    }
    if grammar.part != Part::End || reader.mark().sum != import.file.sum {
        return Err(reader.damaged("the file has changed while it was read"));
    }
    job.under_way.finish().await?;
    unfinished::give_up(notes).await.map_err(OfflineError::store("noting the import's end"))?;
    let Counts { registered, actors, revisions } = grammar.counts;
    let Unfinished { kept, differing, .. } = job.unfinished;
    Ok(Imported { registered, actors, revisions, kept, differing })
}

impl Job<'_> {
    async fn take(&mut self, item: Item) -> Result<(), OfflineError> {
        match item {
            Item::Registered(entry) => {
                let id = entry.id();
                if !self.registered.contains(&(id.system.clone(), id.name.clone())) {
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
            Item::Head(head) => self.head(head).await,
            Item::End => self.register().await,
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

    async fn begin_actor(&mut self, actor: Arc<ActorId>) -> Result<(), OfflineError> {
        let there = if self.unfinished.merge {
            let looking = OfflineError::store(format!("looking for {actor}"));
            let head = retried(|| self.states.load(&actor)).await.map_err(looking)?;
            head.map(|head| head.version)
        } else {
            None
        };
        self.open = Some(Open { actor, page: Vec::new(), page_bytes: 0, there });
        Ok(())
    }

    async fn revision(&mut self, revision: Revision) -> Result<(), OfflineError> {
        let open = self.open.as_mut().expect("the grammar lets no revision pass without its actor");
        if open.there.is_some() {
            return Ok(());
        }
        open.page_bytes += revision.content.bytes();
        open.page.push(revision);
        if open.page.len() < PAGE && open.page_bytes < PAGE_BYTES {
            return Ok(());
        }
        // A long history: its pages are written one after the other.
        open.page_bytes = 0;
        let page = std::mem::take(&mut open.page);
        let actor = open.actor.clone();
        self.under_way.finish().await?;
        append(self.states.clone(), actor, page).await
    }

    async fn head(&mut self, head: Head) -> Result<(), OfflineError> {
        let open = self.open.take().expect("the grammar lets no head pass without its actor");
        let Open { actor, page, page_bytes, there } = open;
        if let Some(version) = there {
            self.unfinished.kept += 1;
            if version != head.version {
                self.unfinished.differing += 1;
                if self.unfinished.differing <= NAMED {
                    let found = head.version;
                    say(&format!("{actor} stays at version {version}, the file has {found}"));
                }
            }
            return Ok(());
        }
        let bytes = page_bytes + head.content.bytes();
        let head = Head { epoch: self.epoch, ..head };
        let states = self.states.clone();
        let write = async move {
            if !page.is_empty() {
                append(states.clone(), actor.clone(), page).await?;
            }
            save_head(states, Save::of_head(actor, head, false)).await
        };
        self.under_way.put(bytes, write.boxed()).await
    }

    /// Completes all earlier writes, then notes the progress.
    async fn note(&mut self) -> Result<(), OfflineError> {
        self.register().await?;
        self.under_way.finish().await?;
        self.noted_at = self.unfinished.mark().offset;
        let noting = OfflineError::store("noting how far the import has come");
        unfinished::note(self.notes, self.unfinished).await.map_err(noting)
    }
}
