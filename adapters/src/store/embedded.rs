//! Embedded: states and registrations in one directory, without a server.
//!
//! [`EmbeddedStore`] keeps them in [fjall](https://docs.rs/fjall), an LSM tree, and checks fjall's files:
//! see `docs/decisions/001-embedded-engine.md`. One thread does all writing; it turns the waiting changes
//! into one commit and one `fdatasync`. Reads run on tokio's blocking threads: memory serves most reads in
//! microseconds, but the disk may take milliseconds, too long for an async worker.
//!
//! The epoch of a save is compared with the newest claimed epoch, which the writer knows, not with the
//! epoch of the stored head: the directory is locked from open to close, so no other owner can write.

mod backup;
mod committer;
mod damage;
mod due;
mod pauses;
mod schedules;
mod engine;
mod error;
mod examine;
mod journal;
mod keys;
mod layout;
mod manifest;
mod mark;
mod merge;
mod migrate;
mod options;
mod ports;
mod prune;
mod prunings;
mod queue;
mod reader;
mod reclaim;
mod shared;
mod space;
mod writer;
#[cfg(test)]
mod fuzz;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::{Mutex, RwLock};
use tidegate_stages::ports::StoreError;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tracing::info;

pub use backup::{
    BACKUP_PAGE_BYTES, BackupError, Begun, Page as BackupPage, Totals, restore as restore_backup,
    write as write_backup,
};
pub use damage::Damage;
pub use error::OpenError;
pub use examine::{Examined, examine};
pub use layout::FORMAT;
pub use options::Options;
pub use space::{FreeSpace, check as check_space};

use super::access::Access;
use super::records::DecodeDefinition;
use damage::ReadError;
use engine::{Background, Engine};
use layout::Layout;
use mark::{Acknowledged, Mark};
use prunings::Prunings;
use queue::{Bounds, Queue, Work};
use shared::{Shared, Stall};
use space::SpaceWatch;

/// Whether commits are synced. Off only in the build that proves that the sync test can fail.
pub const SYNCED: bool = !cfg!(tidegate_unsynced);

/// A commit that takes longer than this makes the store unhealthy.
const SLOW_COMMIT: Duration = Duration::from_secs(5);
/// How long a read waits for a permit.
const READ_TURN: Duration = Duration::from_secs(5);
/// How long closing waits for pending writes.
const CLOSING: Duration = Duration::from_secs(30);

/// States and registrations on disk; made by [`open`](EmbeddedStore::open), ended by
/// [`close`](EmbeddedStore::close).
///
/// Implements the ports [`StateStore`](tidegate_stages::ports::StateStore) and
/// [`Registry`](tidegate_stages::ports::Registry). Dropping the store also closes it, and blocks until it
/// is closed.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
    decode: DecodeDefinition,
    writer: Mutex<Option<JoinHandle<()>>>,
    // Held until the writer is joined.
    _layout: Layout,
}

impl EmbeddedStore {
    /// As [`open_to`](Self::open_to) with [`Access::Create`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        dir: &Path,
        options: Options,
        decode: DecodeDefinition,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_to(Access::Create, dir, options, decode)
    }

    /// Opens a data directory and locks it until the store is closed. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_to(
        access: Access,
        at: &Path,
        options: Options,
        decode: DecodeDefinition,
    ) -> Result<Arc<Self>, OpenError> {
        let mut layout = match access {
            Access::Create => Layout::open(at, |place| {
                Engine::create(place, &options)?;
                let io = |source| OpenError::Io { path: place.into(), source };
                Mark::create(place).map_err(io)
            })?,
            Access::Read | Access::Write => Layout::find(at)?,
        };
        let dir = layout.engine();
        if access != Access::Read && backup::is_backup(&dir) {
            return Err(OpenError::IsBackup { dir: at.into() });
        }
        let mut mark = Mark::open(&dir)?;
        // A migration needs its flushes; on a full disk it is refused like any other write.
        let is_quiet =
            access == Access::Read || (layout.format == FORMAT && space::is_low(&dir, &options));
        let background = if is_quiet { Background::Off } else { Background::On };
        let (engine, newest) = Engine::open(&dir, &options, background, mark.newest(), u64::MAX)?;
        // Every commit found counts as acknowledged from here on, because readers may return it.
        if access != Access::Read || newest > mark.newest().commit {
            let io = |source| OpenError::Io { path: dir.join(mark::MARK), source };
            mark.note(Acknowledged { commit: newest, seqno: engine.next_seqno() }).map_err(io)?;
            mark.sync().map_err(io)?;
        }
        if layout.format < FORMAT {
            migrate::run(&engine, &mut mark)?;
            layout.migrated()?;
            info!(
                format = FORMAT,
                "data directory migrated; to go back to an older version, export it"
            );
        }
        let purging = reader::unfinished_purges(&engine)?;
        let epoch = reader::epoch(&engine)?;
        let bounds = Bounds { events: options.queue_events, bytes: options.queue_bytes };
        let (queue, jobs) = Queue::new(bounds);
        let reads = Arc::new(Semaphore::new(options.reads.max(1)));
        let engine = RwLock::new(Some(engine));
        let stall = Stall::new();
        let shared = Arc::new(Shared {
            queue,
            engine,
            stall,
            prunings: Prunings::default(),
            space: SpaceWatch::new(),
            dir: dir.clone(),
            options,
        });
        let writer = if access == Access::Read {
            // A store opened for reading has no writer.
            shared.queue.close();
            None
        } else {
            let writer = writer::Writer::new(shared.clone(), jobs, mark, purging, epoch);
            let thread = std::thread::Builder::new().name("tidegate-store".into());
            let thread = thread.spawn(move || {
                // After a panic the writer's invariants are gone: a restart is safer (decision 5).
                let _abort = AbortOnPanic;
                writer.run();
            });
            Some(thread.map_err(|source| OpenError::Io { path: dir, source })?)
        };
        Ok(Arc::new(Self { shared, reads, decode, writer: Mutex::new(writer), _layout: layout }))
    }

    /// Writes what waits, marks the store as complete and closes it; later calls are refused.
    ///
    /// # Errors
    /// When closing takes longer than 30 s; it continues in the background.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.shared.queue.close();
        let (writer, shared) = (self.writer.lock().take(), self.shared.clone());
        let closed = tokio::task::spawn_blocking(move || close_engine(writer, &shared));
        match timeout(CLOSING, closed).await {
            Ok(_closed) => Ok(()),
            Err(_) => Err(StoreError::Unavailable(format!("not closed within {CLOSING:?}"))),
        }
    }

    /// Whether the engine is open and no commit has been running for more than 5 s.
    pub fn is_healthy(&self) -> bool {
        self.stalled_for() <= SLOW_COMMIT
            && self.shared.engine.try_read().is_some_and(|engine| engine.is_some())
    }

    /// Returns how long the running commit has been running; zero when none is.
    pub fn stalled_for(&self) -> Duration {
        self.shared.stall.elapsed()
    }

    /// Whether changes are refused because the disk is full; reads are served.
    pub fn is_disk_full(&self) -> bool {
        self.shared.space.is_full()
    }

    /// The free bytes of the disk at the last look, and the bytes of the reserve. Changes are refused when less than the reserve is
    /// free.
    pub(crate) fn disk_seen(&self) -> (u64, u64) {
        self.shared.space.seen()
    }

    /// Queues work during the call, so that work is written in the order of calls; the future waits for the
    /// result.
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
        read: impl FnOnce(&Engine) -> Result<T, ReadError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        read_in_turn(self.shared.clone(), self.reads.clone(), read).boxed()
    }
}

/// Reads on a blocking thread, when a permit is free.
async fn read_in_turn<T: Send + 'static>(
    shared: Arc<Shared>,
    reads: Arc<Semaphore>,
    read: impl FnOnce(&Engine) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, StoreError> {
    let Ok(Ok(turn)) = timeout(READ_TURN, reads.acquire_owned()).await else {
        return Err(StoreError::Unavailable(format!("no read within {READ_TURN:?}")));
    };
    let read = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        shared.read(read)
    });
    read.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

/// The writer ended without a result; this happens only when the process ends.
fn unknown() -> StoreError {
    StoreError::Unknown("the writer ended without an answer".into())
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        close_engine(self.writer.lock().take(), &self.shared);
    }
}

/// Waits for the writer, which closes the engine when it ends. Without a writer, closes the engine itself.
fn close_engine(writer: Option<JoinHandle<()>>, shared: &Shared) {
    match writer {
        // A panic of the writer ends the process, so this join cannot fail.
        Some(writer) => drop(writer.join()),
        None => drop(shared.engine.write().take()),
    }
}

/// Ends the process when dropped by a panic.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the store's writer panicked, ending the process");
            crate::log::abort();
        }
    }
}
