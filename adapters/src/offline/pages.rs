//! Pages: lists all systems of a registry, and all actors of a system page by page.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Registered, StateStore, StoreError};

use super::OfflineError;

/// Actors in a page.
const PAGE: usize = 256;

/// Returns the systems of the registered entries. This finds every state: an actor with a state has an
/// entry, and both are removed together.
pub fn systems(registered: &[Registered]) -> BTreeSet<String> {
    registered.iter().map(|entry| entry.id().system.clone()).collect()
}

/// Returns the systems of actors that have effects in their outbox. These stay when an actor is deleted, so nothing may be
/// registered in such a system any more.
///
/// # Errors
/// When the store fails.
pub async fn systems_with_effects(
    states: &Arc<dyn StateStore>,
) -> Result<BTreeSet<String>, OfflineError> {
    let pending = pending(states).await.map_err(OfflineError::store("the outboxes"))?;
    Ok(pending.iter().map(|actor| actor.system.clone()).collect())
}

/// Streams pages of a system's actors that come after `after`; ends at the first error.
pub(super) fn actors(
    states: Arc<dyn StateStore>,
    system: String,
    after: Option<Arc<ActorId>>,
) -> impl Stream<Item = Result<Vec<Arc<ActorId>>, StoreError>> + Send {
    try_unfold(Some(after), move |place| {
        let (states, system) = (states.clone(), system.clone());
        async move {
            let Some(after) = place else { return Ok(None) };
            let page = states.actors(&system, after.as_deref(), PAGE).await?;
            let Some(last) = page.items.last().cloned() else { return Ok(None) };
            Ok(Some((page.items, page.more.then_some(Some(last)))))
        }
    })
}

/// Returns the actors of all systems that may have effects in their outbox.
pub(super) async fn pending(
    states: &Arc<dyn StateStore>,
) -> Result<BTreeSet<Arc<ActorId>>, StoreError> {
    let mut all = BTreeSet::new();
    let mut after = None;
    loop {
        let page = states.pending(after.as_deref(), PAGE).await?;
        after = page.items.last().cloned();
        all.extend(page.items);
        if !page.more {
            return Ok(all);
        }
    }
}
