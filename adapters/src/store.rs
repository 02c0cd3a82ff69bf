//! Store: states and registrations in one directory, without a server.
//!
//! [`EmbeddedStore`] keeps them in [fjall](https://docs.rs/fjall), an LSM tree, and watches over it: see
//! `docs/decisions/001-embedded-engine.md`. All writing is done by one thread, which turns what waits into one
//! commit and one `fdatasync`. Reading runs beside it on tokio's blocking threads: most reads are served from
//! memory in microseconds, but one that is not may take a disk's milliseconds, and would hold up a worker.
//!
//! There is no check of a save's epoch against the stored head's: the directory is held exclusively from open to
//! close, so no other owner can have written, and comparing would cost every save a read.

mod damage;
mod engine;
mod journal;
mod keys;
mod layout;
mod manifest;
mod mark;
mod queue;
mod reader;
mod records;
mod space;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::{Mutex, RwLock};
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use tidegate_stages::state::{Head, Revision, Timestamp};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};

pub use damage::Damage;
pub use layout::FORMAT;
pub use records::DecodeDefinition;
pub use space::FreeSpace;

use engine::{Engine, Op, Space};
use mark::{Acknowledged, Mark};
use queue::{Bounds, Queue, Work, Write, closed};

/// Whether commits are synced; off only in the build against which the sync test proves itself.
pub const SYNCED: bool = !cfg!(feature = "unsynced");

/// A commit that takes longer than this makes the store unhealthy.
const SLOW_COMMIT: Duration = Duration::from_secs(5);
/// How long a read waits for its turn, or for an engine that is being opened again.
const READ_TURN: Duration = Duration::from_secs(5);
/// How long closing waits for what is still to be written.
const CLOSING: Duration = Duration::from_secs(30);

/// Settings of an [`EmbeddedStore`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Free space kept on the device, in bytes; at most an eighth of the device. Saves are refused as
    /// [`StoreError::Full`] below it.
    pub reserve_bytes: u64,
    /// How free space is measured: [`FreeSpace::of`], unless a test says otherwise.
    pub free_space: fn(&Path) -> io::Result<FreeSpace>,
    /// Cache of stored blocks, in bytes.
    pub cache_bytes: u64,
    /// Size at which what was written lately moves from memory into a table, in bytes; twice, for heads and for
    /// history. Taken from here when a store is made; later it is what it was then.
    pub memtable_bytes: u64,
    /// Changes that may wait to be written; more are refused.
    pub queue_events: usize,
    /// Bytes that may wait to be written; more are refused. At least what calls in flight can hold.
    pub queue_bytes: usize,
    /// Reads at a time; more wait.
    pub reads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reserve_bytes: 64 << 20,
            free_space: FreeSpace::of,
            cache_bytes: 32 << 20,
            memtable_bytes: 16 << 20,
            queue_events: 65_536,
            queue_bytes: 64 << 20,
            reads: 16,
        }
    }
}

/// Why a store was not opened; nothing was changed, except that an unfinished commit at the end was cut off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another Tidegate{}", dir.display(), holder.map_or_else(String::new, |id| format!(" (process {id})")))]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// Its process, when it could be read.
        holder: Option<u32>,
    },
    /// A later Tidegate wrote it.
    #[error("{} has format {found}, this Tidegate knows formats up to {known}", dir.display())]
    Newer {
        /// The data directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// It holds something that no Tidegate wrote.
    #[error("{} is not a data directory of Tidegate: it holds {}", dir.display(), entry.display())]
    Stranger {
        /// The directory.
        dir: PathBuf,
        /// What lies in it.
        entry: PathBuf,
    },
    /// Stored bytes are damaged: opening would lose what was acknowledged.
    #[error("the data directory is damaged: {0}")]
    Damaged(#[from] Damage),
    /// A new engine could not be made.
    #[error("{}: {reason}", dir.display())]
    Engine {
        /// Where.
        dir: PathBuf,
        /// What the engine said.
        reason: String,
    },
}

/// States and registrations on disk; made by [`open`](EmbeddedStore::open), ended by [`close`](EmbeddedStore::close).
///
/// Implements [`StateStore`] and [`Registry`]. Dropping it closes it too, but blocks until that is done.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
    decode: DecodeDefinition,
    writer: Mutex<Option<JoinHandle<()>>>,
    // Held until the writer is joined.
    _layout: layout::Layout,
}

/// What the writer's thread and readers share.
#[derive(Debug)]
struct Shared {
    queue: Arc<Queue>,
    /// `None`: closed, or could not be opened again after it failed.
    engine: RwLock<Option<Engine>>,
    stall: Stall,
    dir: PathBuf,
    options: Options,
}

/// Since when the running commit runs.
#[derive(Debug)]
struct Stall {
    base: Instant,
    /// Microseconds after `base`, plus one; 0: none runs.
    since: AtomicU64,
}

impl Stall {
    fn start(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.base).as_micros();
        self.since.store(u64::try_from(micros).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.base.elapsed().saturating_sub(Duration::from_micros(since - 1)),
        }
    }
}

impl Shared {
    /// Reads from the engine; what it panics on is damage.
    fn read<T>(&self, read: impl FnOnce(&Engine) -> Result<T, Damage>) -> Result<T, StoreError> {
        let Some(engine) = self.engine.try_read_for(READ_TURN) else {
            return Err(StoreError::Unavailable("the engine is being opened again".into()));
        };
        let Some(engine) = &*engine else { return Err(closed()) };
        engine::guarded(engine.dir(), || read(engine))
            .map_err(|damage| StoreError::Corrupt(damage.to_string()))
    }
}

impl EmbeddedStore {
    /// Opens a data directory, making a new store when there is none, and holds it until closed. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        dir: &Path,
        options: Options,
        decode: DecodeDefinition,
    ) -> Result<Arc<Self>, OpenError> {
        let layout = layout::Layout::open(dir, |place| Engine::create(place, &options))?;
        let dir = layout.engine();
        let mut mark = Mark::open(&dir)?;
        let (engine, newest) = Engine::open(&dir, &options, mark.newest(), u64::MAX)?;
        // From here on what was found counts as acknowledged: readers may tell of it.
        let io = |source| OpenError::Io { path: dir.join(mark::MARK), source };
        mark.note(Acknowledged { commit: newest, seqno: engine.next_seqno() }).map_err(io)?;
        mark.sync().map_err(io)?;
        let purging = reader::unfinished_purges(&engine)?;
        let bounds = Bounds { events: options.queue_events, bytes: options.queue_bytes };
        let (queue, jobs) = Queue::new(bounds);
        let reads = Arc::new(Semaphore::new(options.reads.max(1)));
        let stall = Stall { base: Instant::now(), since: AtomicU64::new(0) };
        let engine = RwLock::new(Some(engine));
        let shared = Arc::new(Shared { queue, engine, stall, dir: dir.clone(), options });
        let writer = writer::Writer::new(shared.clone(), jobs, mark, purging);
        let thread = std::thread::Builder::new().name("tidegate-store".into());
        let thread = thread.spawn(move || {
            // The writer's invariants are gone: a restart is safer than going on (decision 5).
            let _abort = AbortOnPanic;
            writer.run();
        });
        let thread = thread.map_err(|source| OpenError::Io { path: dir, source })?;
        let writer = Mutex::new(Some(thread));
        Ok(Arc::new(Self { shared, reads, decode, writer, _layout: layout }))
    }

    /// Writes what waits, marks the store as complete and closes it; later calls are refused.
    ///
    /// # Errors
    /// When that took longer than 30 s; it goes on in the background.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.shared.queue.close();
        let writer = self.writer.lock().take();
        let Some(writer) = writer else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || writer.join());
        match timeout(CLOSING, joined).await {
            Ok(_joined) => Ok(()),
            Err(_) => Err(StoreError::Unavailable(format!("not closed within {CLOSING:?}"))),
        }
    }

    /// Whether the engine is open and no commit has been running for more than 5 s.
    pub fn is_healthy(&self) -> bool {
        self.stalled_for() <= SLOW_COMMIT
            && self.shared.engine.try_read().is_some_and(|engine| engine.is_some())
    }

    /// How long the running commit has been running; zero when none is.
    pub fn stalled_for(&self) -> Duration {
        self.shared.stall.elapsed()
    }

    /// Puts work in line now, so that the order of calls is the order of writing, and awaits its answer later.
    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Result<Work, StoreError>,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        match work(answer).and_then(|work| self.shared.queue.put(work)) {
            Ok(()) => answered.map(|answer| answer.unwrap_or_else(|_| Err(unknown()))).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, Damage> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (shared, reads) = (self.shared.clone(), self.reads.clone());
        async move {
            let Ok(Ok(turn)) = timeout(READ_TURN, reads.acquire_owned()).await else {
                return Err(StoreError::Unavailable(format!("no read within {READ_TURN:?}")));
            };
            let read = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                shared.read(read)
            });
            read.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
        }
        .boxed()
    }
}

/// The writer ended without an answer, which it does only when the process ends.
fn unknown() -> StoreError {
    StoreError::Unknown("the writer ended without an answer".into())
}

fn write(save: Save) -> Write {
    let Save { actor, head, append } = save;
    let ops = keys::actor(keys::HEAD, &actor).and_then(|key| {
        let history = append.then(|| keys::history(&actor)).transpose()?;
        let revision = head.revision;
        let (value, appended) = records::encode_head(head, append);
        let mut ops = Vec::with_capacity(2);
        ops.push(Op { space: Space::Current, key, value: Some(value) });
        if let Some(history) = history {
            let key = keys::revision(history, revision);
            ops.push(Op { space: Space::History, key, value: appended });
        }
        Ok(ops)
    });
    Write { actor, ops }
}

impl StateStore for EmbeddedStore {
    fn save(&self, batch: Vec<Save>) -> BoxFuture<'static, Vec<Result<(), StoreError>>> {
        if batch.is_empty() {
            return ready(Vec::new()).boxed();
        }
        let count = batch.len();
        let (answer, answered) = oneshot::channel();
        let work = Work::Save(batch.into_iter().map(write).collect(), answer);
        if let Err(error) = self.shared.queue.put(work) {
            return ready(vec![Err(error); count]).boxed();
        }
        async move {
            match answered.await {
                Ok(answer) => answer.results,
                Err(_) => vec![Err(unknown()); count],
            }
        }
        .boxed()
    }

    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        match keys::actor(keys::HEAD, actor) {
            Ok(key) => self.read(move |engine| reader::head(engine, &key)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        match keys::history(actor) {
            Ok(history) => self.read(move |engine| reader::revision(engine, history, revision)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn load_by_interval(
        &self,
        actor: &ActorId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<Revision>, StoreError>> {
        match keys::history(actor) {
            Ok(history) => {
                self.read(move |engine| reader::interval(engine, &history, from, to, limit))
            }
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.ask(|answer| {
            keys::actor(keys::HEAD, actor)?;
            Ok(Work::Delete(Arc::new(actor.clone()), answer))
        })
    }

    fn claim_epoch(&self) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.ask(|answer| Ok(Work::ClaimEpoch(answer)))
    }
}

impl Registry for EmbeddedStore {
    fn load(&self) -> BoxFuture<'static, Result<Vec<Registered>, StoreError>> {
        let decode = self.decode;
        self.read(move |engine| reader::registered(engine, decode))
    }

    fn apply(&self, changes: Vec<RegistryChange>) -> BoxFuture<'static, Result<(), StoreError>> {
        let op = |change| {
            let (id, value) = match &change {
                RegistryChange::Put(entry) => (entry.id(), Some(records::encode_registered(entry))),
                RegistryChange::Remove(id) => (id.as_ref(), None),
            };
            Ok(Op { space: Space::Current, key: keys::registered(id)?, value })
        };
        self.ask(|answer| {
            let ops = changes.into_iter().map(op).collect::<Result<_, StoreError>>()?;
            Ok(Work::Apply(ops, answer))
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.lock().take() {
            // It never panics without ending the process.
            drop(writer.join());
        }
    }
}

/// Ends the process when it is dropped by a panic.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the store's writer panicked, ending the process");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_running_commit_counts_until_it_ends() {
        let stall = Stall { base: Instant::now(), since: AtomicU64::new(0) };
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(stall.elapsed(), Duration::ZERO);
        stall.start(Instant::now());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(stall.elapsed(), Duration::from_secs(6));
        stall.end();
        assert_eq!(stall.elapsed(), Duration::ZERO);
    }
}
