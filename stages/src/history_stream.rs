//! History stream: reads all revisions of an interval, with one page in memory at a time.

use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::try_unfold;

use crate::actor::ActorId;
use crate::history::{Interval, Page, Position};
use crate::ports::{StateStore, StoreError};
use crate::state::Revision;

/// Most revisions in one page of a [`stream`].
const PAGE: usize = 256;

/// Streams the revisions of an interval in pages, one page in memory at a time. Ends at the first error.
pub fn stream(
    store: Arc<dyn StateStore>,
    actor: Arc<ActorId>,
    interval: Interval,
) -> impl Stream<Item = Result<Vec<Revision>, StoreError>> + Send {
    try_unfold(Some(interval), move |asked| {
        let (store, actor) = (store.clone(), actor.clone());
        async move {
            let Some(asked) = asked else { return Ok(None) };
            let Page { items, more } = store.load_by_interval(&actor, asked, PAGE).await?;
            let Some(last) = items.last() else { return Ok(None) };
            let next = more.then(|| Interval { after: Some(Position::of(last)), ..asked });
            Ok(Some((items, next)))
        }
    })
}
