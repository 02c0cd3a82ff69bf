//! Owner: says that it lives, each second; a start looks whether an owner does.
//!
//! A start that finds the [row](super::heartbeat) watches it for some seconds on its own monotonic clock; no two clocks are
//! compared. The heartbeat protects nothing, the [fence](super::fence) does: the heartbeat keeps a start from taking a living
//! owner's place by mistake, and says where the owner is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_stages::ports::StoreError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::CqlStore;
use super::heartbeat::read;
use super::rows::signed;
use super::shared::Shared;
use crate::store::ownership::Owner;

/// How often the owner says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How long a start watches a heartbeat that does not move.
const WATCHED: Duration = Duration::from_secs(3);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(250);

impl CqlStore {
    /// Returns the owner of the keyspace if it lives. Takes 3 s when a former owner has not ended in an orderly way.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn living_owner(&self) -> Result<Option<Owner>, StoreError> {
        let database = &self.shared.database;
        let Some(found) = read(database).await? else { return Ok(None) };
        info!(owner = %found.clone().owner(), "the last owner did not end, or lives: watching its heartbeat for {WATCHED:?}");
        let from = Instant::now();
        loop {
            sleep(LOOK).await;
            let is_last = from.elapsed() >= WATCHED;
            match read(database).await? {
                None => return Ok(None),
                Some(beat) if beat != found => {
                    let owner = beat.owner();
                    return Ok(Some(owner).filter(|owner| !self.shared.fence.may_replace(owner)));
                }
                Some(_) if is_last => return Ok(None),
                Some(_) => {}
            }
        }
    }

    /// From its next claim on, this store has a heartbeat that names this address; the first call counts.
    pub fn beat_as(&self, address: String) {
        let heart = &self.shared.heart;
        if heart.address.set(address).is_ok() {
            heart.beating.spawn(beat(self.shared.clone(), self.ended.clone()));
        }
    }
}

/// Writes the heartbeat each second while this store is the owner.
async fn beat(shared: Arc<Shared>, ended: CancellationToken) {
    let beating = async {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            // The database that does not answer is logged elsewhere.
            if let Err(error) = shared.beat().await {
                tracing::debug!(%error, "no heartbeat");
            }
        }
    };
    tokio::select! {
        () = beating => {}
        () = ended.cancelled() => {}
    }
}

impl Shared {
    /// Writes the heartbeat, if this store is the owner and has one.
    pub(super) async fn beat(&self) -> Result<(), StoreError> {
        let own = self.fence.own();
        let Some(address) = self.heart.address.get() else { return Ok(()) };
        if own == 0 || self.fence.is_fenced() {
            return Ok(());
        }
        let count = self.heart.count.fetch_add(1, Ordering::Relaxed);
        let values = (address, signed(own)?, count);
        let stamp = self.stamp().await?;
        self.database.write(&self.database.cql.put_beat, values, stamp).await
    }

    /// Ends the heartbeat: the next start need not watch it. Call it when all is written.
    pub(super) async fn end_heartbeat(&self, ended: &CancellationToken) {
        ended.cancel();
        self.heart.beating.close();
        self.heart.beating.wait().await;
        if self.heart.address.get().is_none() || self.fence.own() == 0 || self.fence.is_fenced() {
            return;
        }
        let cleared = async {
            let stamp = self.stamp().await?;
            self.database.write(&self.database.cql.drop_beat, (), stamp).await
        };
        if let Err(error) = cleared.await {
            warn!(%error, "the heartbeat is not cleared: the next start watches it for {WATCHED:?}");
        }
    }
}
