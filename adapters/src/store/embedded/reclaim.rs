//! Reclaim: wins space back on a full disk once something was removed.
//!
//! The engine removes by writing that a key is gone, and merges tables when there are enough of them. On a full disk nothing
//! is written any more, so that time never comes. And its own merges may take the last byte, and end it. So they are stopped
//! meanwhile ([`Background::Off`](super::engine::Background)), and each keyspace whose entries fit into what is free is
//! merged into new tables. It runs beside the writer: deletes and prunings go on.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use super::damage::ReadError;
use super::engine::Engine;
use super::merge::SPARE;
use super::shared::Shared;

/// Time between two runs when one has not merged everything: it reads as much as is free.
const PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Reclaim {
    shared: Arc<Shared>,
    /// Whether something may have been removed since the last run.
    is_due: bool,
    not_before: Instant,
    running: Option<JoinHandle<Merged>>,
}

/// What came of a run. In each case the engine has to be opened again: the former tables go then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merged {
    Done,
    /// Tables of removed values are gone. What is left may fit now.
    Dropped,
    /// What is left of some tables does not fit beside them.
    InPart,
    Failed,
}

impl Reclaim {
    /// Due at the start: an earlier one may have removed something.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, is_due: true, not_before: Instant::now(), running: None }
    }

    /// Notes that something was removed, or that the engine no longer merges by itself.
    pub(super) fn is_due(&mut self) {
        self.is_due = true;
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a run is to begin now.
    pub(super) fn wants_to_begin(&self) -> bool {
        self.is_due && self.running.is_none() && Instant::now() >= self.not_before
    }

    /// Begins a run on an engine that does not merge by itself and was opened after all that was removed.
    pub(super) fn begin(&mut self) {
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("tidegate-space".into());
        let running = thread.spawn(move || run(&shared));
        let told =
            running.inspect_err(|error| tracing::warn!(%error, "no thread to win space back"));
        (self.running, self.is_due) = (told.ok(), false);
    }

    /// Returns what came of a run that has ended.
    pub(super) fn ended(&mut self) -> Option<Merged> {
        let ended = self.running.take_if(|running| running.is_finished())?;
        let merged = ended.join().unwrap_or(Merged::Failed);
        match merged {
            Merged::Done => {}
            Merged::Dropped => self.is_due = true,
            Merged::InPart => self.not_before = Instant::now() + PAUSE,
            Merged::Failed => {
                (self.is_due, self.not_before) = (true, Instant::now() + PAUSE);
            }
        }
        Some(merged)
    }

    /// Waits for what is running.
    pub(super) fn end(self) {
        drop(self.running.map(JoinHandle::join));
    }
}

fn run(shared: &Shared) -> Merged {
    let free = || (shared.options.free_space)(&shared.dir).map_or(0, |space| space.free);
    match shared.read(|engine| merge(engine, free)) {
        Ok(merged) => {
            if merged == Merged::InPart {
                tracing::warn!(
                    "not all tables are merged on the full disk: what is left of them does not fit beside them"
                );
            }
            merged
        }
        Err(error) => {
            tracing::warn!(%error, "merging tables on the full disk failed");
            Merged::Failed
        }
    }
}

fn merge(engine: &Engine, free: impl Fn() -> u64) -> Result<Merged, ReadError> {
    let spaces = [&engine.history, &engine.current];
    let mut dropped = false;
    for space in spaces {
        dropped |= engine.drop_removed(space)?;
    }
    if dropped {
        return Ok(Merged::Dropped);
    }
    let failed = |error: fjall::Error| ReadError::from(engine.damage(&error));
    let mut merged = Merged::Done;
    for space in spaces {
        // Only then: a table of what is in memory takes space, too.
        if engine.fits(space, free().saturating_sub(SPARE))? {
            engine.flush(space).map_err(failed)?;
            space.major_compact().map_err(failed)?;
        } else {
            merged = Merged::InPart;
        }
    }
    Ok(merged)
}
