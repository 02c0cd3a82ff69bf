//! Reclaim: wins space back on a full disk once something was removed.
//!
//! The engine removes by writing that a key is gone, and merges tables when there are enough of them. On a full disk nothing
//! is written any more, so that time never comes. Merging needs as much space as what is left, so only that is
//! merged which fits. It runs beside the writer: deletes and prunings go on.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use super::damage::ReadError;
use super::engine::Engine;
use super::shared::Shared;

/// How long writing tables of what is in memory may take.
const FLUSH: Duration = Duration::from_secs(30);
/// Bytes that are left free beside what is merged.
const SPARE: u64 = 4 << 20;

#[derive(Debug)]
pub(super) struct Reclaim {
    shared: Arc<Shared>,
    /// Bytes that were removed and may still be on the disk. Not counted: what an earlier start removed.
    removed: u64,
    /// Whether something was removed since the last try.
    is_due: bool,
    running: Option<JoinHandle<Merged>>,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merged {
    /// The former tables go once a later commit is in a table.
    Done,
    /// The engine has to be opened again.
    Failed,
}

impl Reclaim {
    /// Due at the start: an earlier one may have removed something.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, removed: 0, is_due: true, running: None }
    }

    /// Notes that values of so many bytes were removed.
    pub(super) fn removed(&mut self, bytes: u64) {
        self.removed = self.removed.saturating_add(bytes);
        self.is_due = true;
    }

    /// Begins when it is due and the disk is full. Returns what came of one that has ended.
    pub(super) fn tend(&mut self) -> Option<Merged> {
        let ended = self.running.take_if(|running| running.is_finished());
        if let Some(ended) = ended {
            return Some(ended.join().unwrap_or(Merged::Failed));
        }
        if self.running.is_none() && self.is_due && self.shared.space.is_full() {
            let (shared, removed) = (self.shared.clone(), self.removed);
            let thread = thread::Builder::new().name("tidegate-space".into());
            let running = thread.spawn(move || run(&shared, removed));
            let told =
                running.inspect_err(|error| tracing::warn!(%error, "no thread to win space back"));
            (self.running, self.is_due) = (told.ok(), false);
        }
        None
    }

    /// Waits for what is running.
    pub(super) fn end(self) {
        drop(self.running.map(JoinHandle::join));
    }
}

fn run(shared: &Shared, removed: u64) -> Merged {
    let free = || (shared.options.free_space)(&shared.dir).map_or(0, |space| space.free);
    match shared.read(|engine| merge(engine, removed, free)) {
        Ok(is_all) => {
            if !is_all {
                tracing::warn!(
                    "not all tables are merged on the full disk: what is left of them does not fit beside them"
                );
            }
            Merged::Done
        }
        Err(error) => {
            tracing::warn!(%error, "merging tables on the full disk failed");
            Merged::Failed
        }
    }
}

/// Returns whether everything was merged.
fn merge(engine: &Engine, removed: u64, free: impl Fn() -> u64) -> Result<bool, ReadError> {
    let failed = |error: fjall::Error| ReadError::from(engine.damage(&error));
    let spaces = [(&engine.history, removed), (&engine.current, 0)];
    for (space, _) in spaces {
        space.rotate_memtable().map_err(failed)?;
    }
    let deadline = Instant::now() + FLUSH;
    while spaces.iter().any(|(space, _)| space.sealed_memtable_count() > 0) {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    let mut is_all = true;
    for (space, removed) in spaces {
        let left = space.disk_space().saturating_sub(removed);
        if left.saturating_add(SPARE) > free() {
            is_all = false;
        } else {
            space.major_compact().map_err(failed)?;
        }
    }
    Ok(is_all)
}
