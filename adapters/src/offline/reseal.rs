//! Reseal: seals with the current key and layout all values that are in the clear or sealed otherwise.
//!
//! Everything is read. Only pages in which the vault met such a value are written again, with the same
//! content and numbers. So the run may be interrupted and repeated. A completed run has opened every state.

use std::pin::pin;
use std::sync::Arc;

use futures_util::{FutureExt, TryStreamExt};
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Interval;
use tidegate_stages::history_stream;
use tidegate_stages::outbox::{EffectRows, OutboxRow};
use tidegate_stages::ports::{Save, StateStore, StoreError, TakenOver};
use tidegate_stages::state::{Head, Revision};

use super::writes::{Writes, retried};
use super::{OfflineError, Progress, pages};
use crate::store::Vault;

/// Limit of the bytes of states in concurrent writes.
const WINDOW_BYTES: usize = 8 << 20;
/// Effects in a page, and in one save.
const PAGE: usize = 256;
/// Bytes of the rows of effects in one save, and one row more. Every store takes a save of this size.
pub(super) const ROWS_BYTES: usize = 1 << 20;

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Actors read.
    pub actors: u64,
    /// Revisions read.
    pub revisions: u64,
    /// Heads written again.
    pub heads_written: u64,
    /// Revisions written again, including the others in their pages.
    pub revisions_written: u64,
    /// Undelivered effects read.
    pub effects: u64,
    /// Undelivered effects written again, including the others in their pages.
    pub effects_written: u64,
}

/// One pass through a store.
struct Pass<'a> {
    states: Arc<dyn StateStore>,
    vault: &'a Vault,
    /// Claimed before the first head or effect is written.
    epoch: Option<u64>,
    under_way: Writes,
    done: Resealed,
}

/// Seals again every value of these systems that is not sealed with the vault's first key and in its layout. The store must
/// use the same vault.
///
/// # Errors
/// When the store fails; earlier writes are complete.
pub async fn reseal(
    states: Arc<dyn StateStore>,
    vault: &Vault,
    systems: impl IntoIterator<Item = String>,
    progress: &mut Progress,
) -> Result<Resealed, OfflineError> {
    let under_way = Writes::new(WINDOW_BYTES);
    let mut pass =
        Pass { states: states.clone(), vault, epoch: None, under_way, done: Resealed::default() };
    let pending = pages::pending(&states).await.map_err(OfflineError::store("the outboxes"))?;
    for system in systems {
        let listing = || OfflineError::store(format!("the actors of system {system}"));
        let mut pages = pin!(pages::actors(states.clone(), system.clone(), None));
        while let Some(page) = pages.try_next().await.map_err(listing())? {
            for actor in page {
                pass.actor(&actor).await?;
                let done = pass.done;
                progress.at(done.actors, || {
                    let Resealed { actors, revisions, .. } = done;
                    let written =
                        done.heads_written + done.revisions_written + done.effects_written;
                    format!("{actors} actors, {revisions} revisions; {written} written again")
                });
            }
        }
        // With a state or without.
        for actor in pending.iter().filter(|actor| actor.system == system) {
            pass.effects(actor).await?;
        }
    }
    pass.due().await?;
    pass.schedules().await?;
    pass.under_way.finish().await?;
    Ok(pass.done)
}

impl Pass<'_> {
    async fn actor(&mut self, actor: &Arc<ActorId>) -> Result<(), OfflineError> {
        let reading = || OfflineError::store(format!("the state of {actor}"));
        let known = self.vault.stale();
        let head = self.states.load(actor).await.map_err(reading())?;
        if let Some(head) = head
            && self.vault.stale() > known
        {
            self.head(actor.clone(), head).await?;
        }
        let mut pages =
            pin!(history_stream::stream(self.states.clone(), actor.clone(), Interval::ALL));
        loop {
            let known = self.vault.stale();
            let Some(page) = pages.try_next().await.map_err(reading())? else { break };
            self.done.revisions += page.len() as u64;
            if self.vault.stale() > known {
                self.page(actor.clone(), page).await?;
            }
        }
        self.done.actors += 1;
        Ok(())
    }

    /// Seals the effects in an actor's outbox. They keep their places.
    async fn effects(&mut self, actor: &Arc<ActorId>) -> Result<(), OfflineError> {
        let mut after = None;
        loop {
            let known = self.vault.stale();
            let reading = OfflineError::store(format!("the outbox of {actor}"));
            let page = self.states.outbox(actor, after, PAGE).await.map_err(reading)?;
            if self.vault.stale() > known && self.claims().await? {
                continue;
            }
            after = page.items.last().map(|row| row.key);
            self.done.effects += page.items.len() as u64;
            if self.vault.stale() > known {
                self.done.effects_written += page.items.len() as u64;
                self.rows(actor, page.items).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Seals the calls for later times. They keep their keys.
    async fn due(&mut self) -> Result<(), OfflineError> {
        let mut after = None;
        loop {
            let known = self.vault.stale();
            let reading = OfflineError::store("the calls for later times");
            let page = self.states.due(after.as_ref(), PAGE).await.map_err(reading)?;
            // A database refuses writes of an owner that is none.
            if self.vault.stale() > known && self.claims().await? {
                continue;
            }
            after = page.items.last().map(|entry| entry.key.clone());
            if self.vault.stale() > known {
                let put = retried(|| self.states.put_due(page.items.clone())).await;
                put.map_err(OfflineError::store("saving the calls for later times"))?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Seals the schedules.
    async fn schedules(&mut self) -> Result<(), OfflineError> {
        let mut after = None;
        loop {
            let known = self.vault.stale();
            let reading = OfflineError::store("the schedules");
            let page = self.states.schedules(after.as_ref(), PAGE).await.map_err(reading)?;
            if self.vault.stale() > known && self.claims().await? {
                continue;
            }
            after = page.items.last().map(|row| row.key.clone());
            if self.vault.stale() > known {
                for row in page.items {
                    let put = retried(|| self.states.put_schedule(row.clone())).await;
                    put.map_err(OfflineError::store("saving the schedules"))?;
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn rows(
        &mut self,
        actor: &Arc<ActorId>,
        rows: Vec<OutboxRow>,
    ) -> Result<(), OfflineError> {
        let epoch = self.epoch().await?;
        let mut again = EffectRows::default();
        let mut left = rows.into_iter().peekable();
        while let Some(row) = left.next() {
            again.appends.push(row);
            let bytes = again.bytes();
            if left.peek().is_none() || bytes >= ROWS_BYTES {
                let rows = Save::of_rows(actor.clone(), epoch, std::mem::take(&mut again));
                self.under_way.put(bytes, save(self.states.clone(), rows).boxed()).await?;
            }
        }
        Ok(())
    }

    /// Claims the store if this run has not claimed it yet. Returns whether this call did: then a former owner may have changed since
    /// what was read before the call.
    async fn claims(&mut self) -> Result<bool, OfflineError> {
        let is_new = self.epoch.is_none();
        self.epoch().await?;
        Ok(is_new)
    }

    async fn epoch(&mut self) -> Result<u64, OfflineError> {
        if let Some(epoch) = self.epoch {
            return Ok(epoch);
        }
        let epoch = claim(&self.states, 0).await?;
        self.epoch = Some(epoch);
        Ok(epoch)
    }

    async fn head(&mut self, actor: Arc<ActorId>, head: Head) -> Result<(), OfflineError> {
        let is_new = self.claims().await?;
        let epoch = self.epoch().await?;
        let reading = || OfflineError::store(format!("the effects of {actor}"));
        let outbox = self.states.outbox(&actor, None, 1).await.map_err(reading())?;
        let head = if !outbox.items.is_empty()
            || !self.states.seen(&actor).await.map_err(reading())?.is_empty()
        {
            // The head that counts with these rows: it may be newer than the one that was loaded.
            take_over(&self.states, &actor, epoch).await?.head
        } else if !is_new {
            Some(head)
        } else {
            self.states.load(&actor).await.map_err(reading())?
        };
        let Some(head) = head else { return Ok(()) };
        self.done.heads_written += 1;
        let bytes = head.content.bytes();
        let again = Save::of_head(actor, Head { epoch, ..head }, false);
        self.under_way.put(bytes, save(self.states.clone(), again).boxed()).await
    }

    async fn page(&mut self, actor: Arc<ActorId>, page: Vec<Revision>) -> Result<(), OfflineError> {
        self.done.revisions_written += page.len() as u64;
        let bytes = page.iter().map(|revision| revision.content.bytes()).sum();
        self.under_way.put(bytes, append(self.states.clone(), actor, page).boxed()).await
    }
}

/// Claims an epoch above `floor`, for writing heads and effects.
pub(super) async fn claim(states: &Arc<dyn StateStore>, floor: u64) -> Result<u64, OfflineError> {
    retried(|| states.claim_epoch_above(floor))
        .await
        .map_err(OfflineError::store("claiming the store"))
}

/// Makes the rows of effects that an actor has count on under an epoch. Under a head that is written alone, rows of older
/// epochs do not count. Returns the head that counts with them.
pub(super) async fn take_over(
    states: &Arc<dyn StateStore>,
    actor: &Arc<ActorId>,
    epoch: u64,
) -> Result<TakenOver, OfflineError> {
    let taking = OfflineError::store(format!("taking over {actor}"));
    retried(|| states.take_over(actor.clone(), epoch)).await.map_err(taking)
}

pub(super) async fn save(states: Arc<dyn StateStore>, save: Save) -> Result<(), OfflineError> {
    let saving = OfflineError::store(format!("saving the state of {}", save.actor));
    let saved = retried(|| {
        let saved = states.save_all(vec![save.clone()]);
        let none = || Err(StoreError::Unknown("a save without an answer".into()));
        async move { saved.await.pop().unwrap_or_else(none) }.boxed()
    });
    saved.await.map_err(saving)
}

pub(super) async fn append(
    states: Arc<dyn StateStore>,
    actor: Arc<ActorId>,
    page: Vec<Revision>,
) -> Result<(), OfflineError> {
    let saving = OfflineError::store(format!("saving the history of {actor}"));
    retried(|| states.append(actor.clone(), page.clone())).await.map_err(saving)
}
