//! Pages: every system of a registry, every actor of a system, a page at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Registered, StateStore, StoreError};

/// Actors in a page.
const PAGE: usize = 256;

/// The systems that registered entries name: an actor with a state has an entry, and is removed with it.
pub fn systems(registered: &[Registered]) -> BTreeSet<String> {
    registered.iter().map(|entry| entry.id().system.clone()).collect()
}

/// Pages of the actors of a system that come after one; the stream ends at the first error.
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
