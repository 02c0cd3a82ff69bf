//! Remover: removes answered rows from the store, and writes dead letters there, many sources at once (decision 18 h).
//!
//! A row that a crash leaves is delivered again, and recognised.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tidegate_pipeline::layer::Delays;
use tokio::time::sleep;
use tracing::warn;

use super::Effects;
use super::source::{Delivered, Died, Source};
use crate::outbox::{EffectRows, OutboxKey};
use crate::ports::{Save, StateStore, StoreError};

/// How long answered rows gather.
const GATHER: Duration = Duration::from_millis(50);
/// Rows of one source that one commit removes.
const ROWS: usize = 512;
/// Bytes of dead letters of one source in one commit, beyond the first of them.
const DEAD_BYTES: usize = 512 << 10;
/// Sources in one write.
const SOURCES: usize = 1_024;

/// Pauses after a failed write.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Remover {
    pub(crate) effects: Effects,
    pub(crate) store: Arc<dyn StateStore>,
}

/// What one commit of a source does.
#[derive(Debug)]
struct Removal {
    source: Arc<Source>,
    answered: Vec<Delivered>,
    dead: Vec<Died>,
    dropped: Vec<OutboxKey>,
}

impl Remover {
    /// Runs until the end, and removes the last rows then.
    pub(crate) async fn run(self) {
        let inner = &self.effects.0;
        let mut delays = None;
        loop {
            tokio::select! {
                () = inner.is_answered.notified() => {}
                () = inner.end.cancelled() => {}
            }
            tokio::select! {
                () = sleep(GATHER) => {}
                () = inner.end.cancelled() => {}
            }
            let outcome = self.remove().await;
            if inner.end.is_cancelled() && (outcome.is_err() || inner.answered.lock().is_empty()) {
                return;
            }
            let Err(error) = outcome else {
                delays = None;
                continue;
            };
            warn!(%error, "answered side effects are not removed yet");
            let delays = delays.get_or_insert_with(|| Delays::new(FIRST_PAUSE, LONGEST_PAUSE));
            tokio::select! {
                () = sleep(delays.next_delay()) => {}
                () = inner.end.cancelled() => {}
            }
        }
    }

    /// Writes once what is there to be written.
    async fn remove(&self) -> Result<(), StoreError> {
        let sources: Vec<_> = {
            let mut answered = self.effects.0.answered.lock();
            let count = answered.len().min(SOURCES);
            answered.drain(..count).collect()
        };
        let removals = sources.into_iter().map(Removal::of);
        // On a full disk a store takes what only removes.
        let (dead, answered): (Vec<_>, Vec<_>) =
            removals.partition(|removal| !removal.dead.is_empty());
        let answered = self.write(answered).await;
        answered.and(self.write(dead).await)
    }

    async fn write(&self, removals: Vec<Removal>) -> Result<(), StoreError> {
        if removals.is_empty() {
            return Ok(());
        }
        let epoch = self.effects.0.epoch;
        let saves = removals.iter().map(|removal| removal.save(epoch)).collect();
        let mut outcomes = self.store.save(saves);
        let mut removals: Vec<_> = removals.into_iter().map(Some).collect();
        let mut failed = None;
        while let Some((index, outcome)) = outcomes.next().await {
            let Some(removal) = removals.get_mut(index).and_then(Option::take) else { continue };
            match outcome {
                Ok(()) => self.removed(removal),
                Err(error) => {
                    self.put_back(removal);
                    failed = Some(error);
                }
            }
        }
        for removal in removals.into_iter().flatten() {
            self.put_back(removal);
            failed = Some(StoreError::Unknown("the store gave no answer".into()));
        }
        failed.map_or(Ok(()), Err)
    }

    fn removed(&self, removal: Removal) {
        let Removal { source, answered, dead, dropped: _ } = removal;
        let mut state = source.state.lock();
        let bytes = answered.iter().map(|row| row.bytes).chain(dead.iter().map(|row| row.bytes));
        state.pending().sub(answered.len() + dead.len(), bytes.sum());
        for died in &dead {
            state.dying.remove(&died.row.key);
        }
        self.go_on(&source, &mut state);
        let is_idle = state.is_idle();
        drop(state);
        if is_idle {
            self.effects.forget_idle(&source);
        }
    }

    /// Writes it again later: that has the same effect.
    fn put_back(&self, removal: Removal) {
        let Removal { source, answered, dead, dropped } = removal;
        let mut state = source.state.lock();
        state.answered.extend(answered);
        state.dead.extend(dead);
        state.dropped.extend(dropped);
        self.go_on(&source, &mut state);
    }

    fn go_on(&self, source: &Arc<Source>, state: &mut super::source::State) {
        state.removing = false;
        let is_done = state.answered.is_empty() && state.dead.is_empty();
        if !is_done || !state.dropped.is_empty() {
            self.effects.remove_soon(source, state);
        }
    }
}

impl Removal {
    fn of(source: Arc<Source>) -> Self {
        let mut state = source.state.lock();
        let count = state.answered.len().min(ROWS);
        let answered = state.answered.drain(..count).collect();
        let mut bytes = 0;
        let is_taken = |died: &&Died| {
            let is_first = bytes == 0;
            bytes += died.row.bytes();
            is_first || bytes <= DEAD_BYTES
        };
        let count = state.dead.iter().take_while(is_taken).count();
        let dead = state.dead.drain(..count).collect();
        // Not before the row is written as a dead letter.
        let count = if state.dead.is_empty() { state.dropped.len().min(ROWS) } else { 0 };
        let dropped = state.dropped.drain(..count).collect();
        drop(state);
        Self { source, answered, dead, dropped }
    }

    fn save(&self, epoch: u64) -> Save {
        let rows = EffectRows {
            appends: self.dead.iter().map(|died| died.row.clone()).collect(),
            acknowledged: self
                .answered
                .iter()
                .map(|row| row.key)
                .chain(self.dropped.clone())
                .collect(),
            ..EffectRows::default()
        };
        Save::of_rows(self.source.key.clone(), epoch, rows)
    }
}
