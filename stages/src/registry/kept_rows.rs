//! Kept rows: the rows of effects of a deleted actor, and which of them it forgets.
//!
//! A deleted actor forgets the effects of a source when no effect of this source can come again (decision 18 i). A durable topic
//! begins anew with an actor that leaves the registry and comes back, so the actor's rows of topics go at the delete. The writes go
//! to the store at once and are not repeated: a repeated write could remove the rows of the next actor of this name.

use std::sync::Arc;

use crate::activation::seen::FORGOTTEN;
use crate::actor::ActorId;
use crate::effects::Effects;
use crate::outbox::{EffectRows, EffectSource, SourceKind};
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
        let seen = in_time(self.store.seen(key)).await?;
        Ok(!outbox.items.is_empty() || !seen.iter().all(|seen| self.may_go(&seen.source, true)))
    }

    /// Forgets what a deleted actor has seen and cannot come again. Returns whether any rows are left. Nobody may have the
    /// actor called meanwhile. `is_owned`: whether the rows are known to lie under the owner's epoch; `leaves`: whether the actor
    /// leaves the registry, or has left it.
    ///
    /// # Errors
    /// When the store fails: rows may be left.
    pub(crate) async fn forget(
        &self,
        key: &Arc<ActorId>,
        is_owned: bool,
        leaves: bool,
    ) -> Result<bool, StoreError> {
        let mut seen = in_time(self.store.seen(key)).await?;
        seen.retain(|seen| self.may_go(&seen.source, leaves));
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

    /// Whether a deleted actor need not know any more what it has seen of a source.
    fn may_go(&self, source: &EffectSource, leaves: bool) -> bool {
        let is_anew = leaves && source.kind == SourceKind::Topic;
        is_anew || self.effects.has_nothing_pending(source)
    }
}
