//! Migrate: brings a store of format 1 to format 2.
//!
//! Both formats keep heads, histories and the registry under the same keys, and their records have the same encoding.
//! Format 2 adds keys that format 1 does not have, and a head has no outbox in it. So only heads with an outbox are
//! written again. A migration that was interrupted does this for the heads that are left.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::OpenError;
use super::damage::Damage;
use super::engine::{Engine, Op, Space};
use super::keys;
use super::mark::{Acknowledged, MARK, Mark};
use crate::store::records;

/// Heads in one commit.
const STEP: usize = 16;
/// Time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Migrates the content of an engine. The format is noted afterwards, by the caller.
pub(super) fn run(engine: &Engine, mark: &mut Mark) -> Result<(), OpenError> {
    info!("migrating the data directory to format 2");
    let (mut heads, mut dropped, mut told) = (0_u64, 0_u64, Instant::now());
    let mut ops = Vec::with_capacity(STEP);
    for entry in engine.current.prefix([keys::HEAD]) {
        let (key, value) = entry.into_inner().map_err(|error| engine.damage(&error))?;
        let damaged = |error: String| Damage::new(engine.dir(), format!("a head: {error}"));
        heads += 1;
        if let Some(head) = records::without_outbox(&value).map_err(damaged)? {
            dropped += 1;
            ops.push(Op::put(Space::Current, key.to_vec(), head));
        }
        if ops.len() >= STEP {
            commit(engine, mark, std::mem::take(&mut ops))?;
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            info!(heads, "migrating the data directory");
        }
    }
    if !ops.is_empty() {
        commit(engine, mark, ops)?;
    }
    if dropped > 0 {
        warn!(heads = dropped, "dropped outboxes of format 1, which no release has ever filled");
    }
    info!(heads, "all states are of format 2");
    Ok(())
}

fn commit(engine: &Engine, mark: &mut Mark, ops: Vec<Op>) -> Result<(), OpenError> {
    let failed = |error: fjall::Error| OpenError::Engine {
        dir: engine.dir().into(),
        reason: format!("migrating it failed, and goes on at the next start: {error}"),
    };
    let commit = mark.newest().commit + 1;
    let seqno = engine.commit(commit, ops).map_err(failed)?;
    let io = |source| OpenError::Io { path: engine.dir().join(MARK), source };
    mark.note(Acknowledged { commit, seqno }).map_err(io)
}
