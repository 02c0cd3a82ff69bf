//! Shared: state shared by the writer's thread and the readers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tidegate_stages::ports::StoreError;
use tokio::time::Instant;

use super::damage::ReadError;
use super::engine::{self, Engine};
use super::options::Options;
use super::prunings::Prunings;
use super::queue::{Queue, closed};
use super::space::SpaceWatch;

/// How long a read waits for an engine that is being reopened.
const READ_TURN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Arc<Queue>,
    /// `None` when the engine is closed, or failed and cannot be reopened.
    pub(super) engine: RwLock<Option<Engine>>,
    pub(super) stall: Stall,
    pub(super) prunings: Prunings,
    pub(super) space: SpaceWatch,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
}

/// When the running commit began.
#[derive(Debug)]
pub(super) struct Stall {
    base: Instant,
    /// Microseconds after `base`, plus one; 0 when no commit runs.
    since: AtomicU64,
}

impl Stall {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), since: AtomicU64::new(0) }
    }

    pub(super) fn start(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.base).as_micros();
        self.since.store(u64::try_from(micros).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    pub(super) fn elapsed(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.base.elapsed().saturating_sub(Duration::from_micros(since - 1)),
        }
    }
}

impl Shared {
    /// Reads from the engine; a panic of the engine counts as damage.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, ReadError>,
    ) -> Result<T, StoreError> {
        let Some(engine) = self.engine.try_read_for(READ_TURN) else {
            return Err(StoreError::Unavailable("the engine is being opened again".into()));
        };
        let Some(engine) = &*engine else { return Err(closed()) };
        engine::guarded(engine.dir(), || read(engine)).map_err(StoreError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_running_commit_counts_until_it_ends() {
        let stall = Stall::new();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(stall.elapsed(), Duration::ZERO);
        stall.start(Instant::now());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(stall.elapsed(), Duration::from_secs(6));
        stall.end();
        assert_eq!(stall.elapsed(), Duration::ZERO);
    }
}
