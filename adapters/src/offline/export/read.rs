//! Read: what an export reads of an actor before it writes the first line of it.

use std::sync::Arc;

use tidegate_stages::actor::ActorId;
use tidegate_stages::history::{Interval, Page, Position};
use tidegate_stages::outbox::{OutboxRow, Seen};
use tidegate_stages::ports::{StateStore, StoreError};
use tidegate_stages::state::{Head, Revision};

/// Revisions or rows in a page.
pub(super) const PAGE: usize = 256;

/// An actor: its head, the first page of its history and of its outbox, and what it has seen.
pub(super) struct Found {
    pub(super) head: Option<Head>,
    pub(super) page: Page<Revision>,
    pub(super) outbox: Page<OutboxRow>,
    pub(super) seen: Vec<Seen>,
}

pub(super) type Read = Result<Option<Found>, StoreError>;

/// Reads an actor that has a head.
pub(super) async fn with_head(
    states: Arc<dyn StateStore>,
    actor: Arc<ActorId>,
    is_pending: bool,
) -> (Arc<ActorId>, Read) {
    let read = after(&states, &actor, None, is_pending).await;
    (actor, read)
}

/// Reads an actor's head, then a page of its history after `last`: in this order, so that the history reaches the head.
pub(super) async fn after(
    states: &Arc<dyn StateStore>,
    actor: &ActorId,
    last: Option<Position>,
    is_pending: bool,
) -> Read {
    let Some(head) = states.load(actor).await? else { return Ok(None) };
    let interval = Interval { after: last, ..Interval::ALL };
    let page = states.load_by_interval(actor, interval, PAGE).await?;
    let outbox = outbox(states, actor, is_pending).await?;
    let seen = states.seen(actor).await?;
    Ok(Some(Found { head: Some(head), page, outbox, seen }))
}

/// Reads an actor that has rows of effects and no head.
pub(super) async fn without_head(
    states: Arc<dyn StateStore>,
    actor: Arc<ActorId>,
    is_pending: bool,
) -> (Arc<ActorId>, Read) {
    let read = async {
        let seen = states.seen(&actor).await?;
        let outbox = outbox(&states, &actor, is_pending).await?;
        if (seen.is_empty() && outbox.items.is_empty()) || states.load(&actor).await?.is_some() {
            return Ok(None);
        }
        Ok(Some(Found { head: None, page: Page::EMPTY, outbox, seen }))
    };
    let read = read.await;
    (actor, read)
}

async fn outbox(
    states: &Arc<dyn StateStore>,
    actor: &ActorId,
    is_pending: bool,
) -> Result<Page<OutboxRow>, StoreError> {
    if is_pending { states.outbox(actor, None, PAGE).await } else { Ok(Page::EMPTY) }
}
