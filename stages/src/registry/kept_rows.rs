//! Kept rows: the rows of effects of a deleted actor, and which of them it forgets.
//!
//! What it has seen goes when no effect of any of its sources can come again (decision 18 i). The writes go to the store at
//! once, and are not repeated: one that is repeated later could remove what the next actor of this name has seen.

use std::sync::Arc;

use crate::activation::seen::FORGOTTEN;
use crate::actor::ActorId;
use crate::effects::Effects;
use crate::outbox::{EffectRows, Seen};
use crate::ports::{Save, StateStore, StoreError};
use crate::store_limit::in_time;

/// See the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct KeptRows {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) effects: Effects,
    /// The owner's epoch.
    pub(crate) epoch: u64,
}

impl KeptRows {
    /// Whether rows stay that an actor of this key needs, now: effects that it has not delivered, or that it has seen and that
    /// may come again.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn are_needed(&self, key: &ActorId) -> Result<bool, StoreError> {
        let outbox = in_time(self.store.outbox(key, None, 1)).await?;
        Ok(!outbox.items.is_empty() || self.to_forget(key).await?.is_none())
    }

    /// Forgets what a deleted actor has seen, if none of it can come again. Returns whether any rows are left. Nobody may have the
    /// actor called meanwhile. `is_owned`: whether the rows are known to lie under the owner's epoch.
    ///
    /// # Errors
    /// When the store fails: rows may be left.
    pub(crate) async fn forget(
        &self,
        key: &Arc<ActorId>,
        is_owned: bool,
    ) -> Result<bool, StoreError> {
        let Some(seen) = self.to_forget(key).await? else { return Ok(true) };
        if !seen.is_empty() {
            if !is_owned {
                // A store removes such rows under the epoch of their owner.
                in_time(self.store.take_over(key.clone(), self.epoch)).await?;
            }
            for seen in seen.chunks(FORGOTTEN) {
                let forgotten = seen.iter().map(|seen| seen.source.clone()).collect();
                let rows = EffectRows { forgotten, ..EffectRows::default() };
                let save = Save::of_rows(key.clone(), self.epoch, rows);
                let saving = self.store.save_all(vec![save]);
                in_time::<()>(async { saving.await.into_iter().collect() }).await?;
            }
        }
        let outbox = in_time(self.store.outbox(key, None, 1)).await?;
        Ok(!outbox.items.is_empty() || !in_time(self.store.seen(key)).await?.is_empty())
    }

    /// What an actor has seen. `None` when some of it may come again.
    async fn to_forget(&self, key: &ActorId) -> Result<Option<Vec<Seen>>, StoreError> {
        let seen = in_time(self.store.seen(key)).await?;
        let may_go = |seen: &Seen| self.effects.has_nothing_pending(&seen.source);
        Ok(seen.iter().all(may_go).then_some(seen))
    }
}
