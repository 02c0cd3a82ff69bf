//! Committer: makes one commit durable, and reopens the engine after a failed commit.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hashbrown::HashMap;
use metrics::{Gauge, Histogram, gauge, histogram};
use tidegate_pipeline::randomness::Seeded;
use tidegate_stages::ports::StoreError;
use tokio::time::Instant;

use super::engine::{Background, Engine, Op, Readiness, Space};
use super::mark::{Acknowledged, Mark};
use super::merge::SPARE;
use super::shared::Shared;
use super::space::{self, Purpose};
use crate::metrics::{STORE_BYTES, STORE_COMMIT_SECONDS};

/// How long a commit waits for flushing and compaction.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Time between two attempts to reopen a broken engine; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The only writer to the engine; lives on the writer's thread.
pub(super) struct Committer {
    shared: Arc<Shared>,
    mark: Mark,
    retry_at: Instant,
    retry_after: Duration,
    commit_seconds: Histogram,
    current_bytes: Gauge,
    history_bytes: Gauge,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, mark: Mark) -> Self {
        let commit_seconds = histogram!(STORE_COMMIT_SECONDS);
        Self {
            shared,
            mark,
            retry_at: Instant::now(),
            retry_after: FIRST_RETRY,
            commit_seconds,
            current_bytes: gauge!(STORE_BYTES, "part" => "current"),
            history_bytes: gauge!(STORE_BYTES, "part" => "history"),
        }
    }

    /// Makes the mark durable and records the size of the tables.
    pub(super) fn sync_mark(&mut self) {
        if let Some(engine) = &*self.shared.engine.read() {
            engine.drop_forgotten_backup();
            let (current, history) = engine.table_bytes();
            self.current_bytes.set(current);
            self.history_bytes.set(history);
        }
        if let Err(error) = self.mark.sync() {
            tracing::warn!(%error, "mark of the store not synced");
        }
    }

    /// Closes the engine and marks the store as complete.
    pub(super) fn close(&mut self) {
        let engine = self.shared.engine.write().take();
        if let Some(Err(error)) = engine.as_ref().map(Engine::sync) {
            tracing::warn!(%error, "store not synced on closing");
        }
        drop(engine);
        self.sync_mark();
    }

    /// Writes one commit; the commit is durable when this returns `Ok`.
    pub(super) fn commit(&mut self, purpose: Purpose, ops: Vec<Op>) -> Result<(), StoreError> {
        let started = Instant::now();
        self.shared.stall.start(started);
        let result = self.commit_when_ready(purpose, ops, started);
        self.shared.stall.end();
        result
    }

    fn commit_when_ready(
        &mut self,
        purpose: Purpose,
        ops: Vec<Op>,
        started: Instant,
    ) -> Result<(), StoreError> {
        self.make_ready(purpose, ops.iter().map(Op::len).sum())?;
        let number = self.mark.newest().commit + 1;
        let result = match &*self.shared.engine.read() {
            Some(engine) => engine.commit(number, last_of_each_key(ops)).map_err(Some),
            None => Err(None),
        };
        match result {
            Ok(seqno) => {
                self.commit_seconds.record(started.elapsed());
                if Instant::now() > self.retry_at + LONGEST_RETRY {
                    self.retry_after = FIRST_RETRY;
                }
                if let Err(error) = self.mark.note(Acknowledged { commit: number, seqno }) {
                    // The commit is durable. Only its loss would go unnoticed until the next mark.
                    tracing::warn!(%error, "mark of the store not written");
                }
                Ok(())
            }
            Err(Some(error)) => Err(self.undo(&error)),
            Err(None) => Err(StoreError::Unavailable("the engine is not open".into())),
        }
    }

    /// Reopens the engine without the commit that failed inside it, so that the commit is known not to be
    /// written.
    fn undo(&mut self, error: &fjall::Error) -> StoreError {
        tracing::error!(%error, "commit failed, opening the engine again");
        let text = format!("a commit failed: {error}");
        let background = if is_full(error) { Background::Off } else { self.background() };
        match self.reopen(background) {
            Ok(()) if is_full(error) => StoreError::Full(text),
            Ok(()) => StoreError::Unavailable(text),
            Err(_) => StoreError::Unknown(text),
        }
    }

    /// Reopens the engine if an earlier attempt failed, or a flush or merge has. Reads need the engine, and without reads
    /// there may be no commit that would reopen it. What a failed merge wrote goes with reopening, and on a full disk no commit
    /// comes so far.
    pub(super) fn recover(&mut self) {
        let readiness = self.shared.engine.read().as_ref().map(|engine| engine.readiness(0));
        let background = match readiness {
            Some(Readiness::Broken) => Background::Off,
            None => self.background(),
            Some(Readiness::Ready | Readiness::Behind) => return,
        };
        if Instant::now() >= self.retry_at && self.reopen(background).is_ok() {
            tracing::info!("engine opened again");
        }
    }

    /// How the engine works on this disk.
    fn background(&self) -> Background {
        let Shared { dir, options, .. } = &*self.shared;
        if space::is_low(dir, options) { Background::Off } else { Background::On }
    }

    /// Opens the engine again after a failure; not too soon after the next one.
    fn reopen(&mut self, background: Background) -> Result<(), StoreError> {
        self.retry_at = Instant::now() + self.retry_after;
        self.retry_after = (self.retry_after * 2).min(LONGEST_RETRY);
        self.open(background)
    }

    /// Opens the engine again. What a merge wrote that has not ended goes, and tables that are no longer needed.
    pub(super) fn open(&mut self, background: Background) -> Result<(), StoreError> {
        // Readers wait meanwhile, see `Shared::read`.
        let mut engine = self.shared.engine.write();
        drop(engine.take());
        let acknowledged = self.mark.newest();
        let Shared { dir, options, .. } = &*self.shared;
        match Engine::open(dir, options, background, acknowledged, acknowledged.commit) {
            Ok((opened, _)) => {
                *engine = Some(opened);
                Ok(())
            }
            Err(damage) => {
                tracing::error!(error = %damage, "engine not opened again");
                Err(StoreError::Unavailable(damage.to_string()))
            }
        }
    }

    /// Whether a backup is being read.
    pub(super) fn is_copied(&self) -> bool {
        self.shared.engine.read().as_ref().is_some_and(Engine::is_copied)
    }

    /// Opens the engine again without merges if these may run out of space: they would take what the write needs that is to
    /// free some. Returns whether it did.
    fn stop_merging(&mut self, free: u64) -> Result<bool, StoreError> {
        let engine = self.shared.engine.read();
        let is_needed = engine.as_ref().is_some_and(|engine| {
            let has_failed = engine.readiness(0) == Readiness::Broken;
            let may_fail = engine.background == Background::On && free < engine.background_needs();
            has_failed || (may_fail && !engine.is_copied())
        });
        drop(engine);
        if is_needed {
            self.open(Background::Off)?;
        }
        Ok(is_needed)
    }

    /// Returns the bytes in memory that are not in tables yet.
    pub(super) fn unflushed_bytes(&self) -> u64 {
        self.shared.engine.read().as_ref().map_or(0, Engine::unflushed_bytes)
    }

    /// Lets the engine merge by itself if what it merges fits into the free space. Returns whether it does not. On a full disk
    /// what is in memory becomes a table, so that its space is no longer kept: there are no writes that would bring it about.
    pub(super) fn allow_merging(&mut self, is_full: bool) -> Result<bool, StoreError> {
        let space = (self.shared.options.free_space)(&self.shared.dir).ok();
        let engine = self.shared.engine.read();
        let (Some(working), Some(space)) = (&*engine, space) else { return Ok(false) };
        let needed = working.background_needs();
        let is_stopped = working.background == Background::Off;
        let goes_on = is_stopped && (space.free < needed || working.is_copied());
        let kept = if goes_on { needed } else { working.largest_merge().min(space.total / 8) };
        self.shared.space.keep_for_merging(kept);
        if is_full && !is_stopped && space.free > working.unflushed_bytes() + SPARE {
            working.flush_all().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
        drop(engine);
        if is_stopped && !goes_on {
            self.open(Background::On)?;
        }
        Ok(goes_on)
    }

    /// Waits until the engine accepts a commit; reopens the engine if needed.
    fn make_ready(&mut self, purpose: Purpose, bytes: usize) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let Shared { dir, options, space, .. } = &*shared;
        let mut found = space::measure(dir, options)?;
        let mut reserve = options.reserve_of(found.total);
        if purpose == Purpose::Free && found.free < reserve {
            if self.stop_merging(found.free)? {
                found = space::measure(dir, options)?;
            }
        } else {
            // What is in memory becomes a table, too.
            reserve = reserve.max(space.merging()).saturating_add(self.unflushed_bytes());
        }
        let fits = space::check_for(purpose, dir, found, reserve, bytes);
        if let (Purpose::Keep, Err(StoreError::Full(_))) = (purpose, &fits) {
            space.refuse(bytes);
        }
        fits?;
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let readiness = self.shared.engine.read().as_ref().map(|of| of.readiness(bytes));
            match readiness {
                Some(Readiness::Ready) => return Ok(()),
                Some(Readiness::Behind) if Instant::now() >= deadline => {
                    // An engine that stopped flushing (fjall issue 257) flushes again after it is reopened.
                    if Instant::now() >= self.retry_at {
                        self.reopen(self.background())?;
                    }
                    let text = format!("tables were not written for {CATCH_UP:?}");
                    return Err(StoreError::Unavailable(text));
                }
                Some(Readiness::Behind) => {
                    let caught_up = |engine: &Engine| {
                        Ok(engine.catch_up().map_err(|error| engine.damage(&error))?)
                    };
                    shared.read(caught_up)?;
                    thread::park_timeout(Duration::from_millis(2));
                }
                Some(Readiness::Broken) | None if Instant::now() < self.retry_at => {
                    let text = "the engine failed and will be opened again shortly";
                    return Err(StoreError::Unavailable(text.into()));
                }
                // What fails by itself is a flush or a merge, most likely for want of space.
                Some(Readiness::Broken) => self.reopen(Background::Off)?,
                None => self.reopen(self.background())?,
            }
        }
    }
}

/// Keeps the last change of each key: a commit has one sequence number, and a key may have only one change
/// under it.
fn last_of_each_key(ops: Vec<Op>) -> Vec<Op> {
    if ops.len() < 2 {
        return ops;
    }
    let mut replaced = Vec::new();
    let mut places: HashMap<(Space, &[u8]), usize, Seeded> =
        HashMap::with_capacity_and_hasher(ops.len(), Seeded::default());
    for (place, op) in ops.iter().enumerate() {
        replaced.extend(places.insert((op.space, &op.key), place));
    }
    drop(places);
    if replaced.is_empty() {
        return ops;
    }
    replaced.sort_unstable();
    let mut replaced = replaced.into_iter().peekable();
    let kept = ops.into_iter().enumerate();
    let kept = kept.filter(|(place, _)| replaced.next_if_eq(place).is_none());
    kept.map(|(_, op)| op).collect()
}

fn is_full(error: &fjall::Error) -> bool {
    let (fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))) = error
    else {
        return false;
    };
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
