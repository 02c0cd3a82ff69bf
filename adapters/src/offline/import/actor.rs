//! Actor: writes the lines of one actor, its head last.

use std::collections::HashSet;
use std::mem::take;
use std::sync::Arc;

use futures_util::FutureExt;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::PAGE_BYTES;
use tidegate_stages::outbox::{EffectId, EffectRows, OutboxKey, OutboxRow, Seen};
use tidegate_stages::ports::Save;
use tidegate_stages::state::{Head, Revision};

use super::Job;
use crate::offline::OfflineError;
use crate::offline::progress::say;
use crate::offline::reseal::{ROWS_BYTES, append, save, take_over};
use crate::offline::writes::retried;

/// Revisions in one append, and rows of effects in one save.
const PAGE: usize = 256;
/// Differing actors that are listed by name; further ones are only counted.
const NAMED: u64 = 20;

/// The actor whose lines are being read.
pub(super) struct Open {
    actor: Arc<ActorId>,
    /// The actor's version in the store before the import.
    there: Option<u64>,
    page: Vec<Revision>,
    page_bytes: usize,
    rows: EffectRows,
    rows_bytes: usize,
    /// Effects that were added to its outbox.
    appended: u64,
    /// Rows of effects that the store holds. `None`: not looked up yet.
    held: Option<Held>,
}

/// Rows of effects that the store holds of an actor.
#[derive(Default)]
struct Held {
    outbox: HashSet<EffectId>,
    seen: Vec<Seen>,
}

impl Open {
    fn new(actor: Arc<ActorId>, there: Option<u64>) -> Self {
        let rows = EffectRows::default();
        let (page, page_bytes, rows_bytes) = (Vec::new(), 0, 0);
        Self { actor, there, page, page_bytes, rows, rows_bytes, appended: 0, held: None }
    }
}

/// Whether it is the key of a member of a pool. Former versions stored states of members, which no request can name.
fn is_member(key: &ActorId) -> bool {
    let parts = key.name.split_once('\u{1}');
    parts.is_some_and(|(pool, number)| key.parent == format!("{pool}-{number}"))
}

impl Job<'_> {
    pub(super) async fn begin_actor(&mut self, actor: Arc<ActorId>) -> Result<(), OfflineError> {
        let there = if self.unfinished.merge {
            let looking = OfflineError::store(format!("looking for {actor}"));
            let head = retried(|| self.states.load(&actor)).await.map_err(looking)?;
            head.map(|head| head.version)
        } else {
            None
        };
        self.open = Some(Open::new(actor, there));
        Ok(())
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("the grammar lets no line of an actor pass without the actor")
    }

    pub(super) async fn revision(&mut self, revision: Revision) -> Result<(), OfflineError> {
        let open = self.open();
        if open.there.is_some() || is_member(&open.actor) {
            return Ok(());
        }
        open.page_bytes += revision.content.bytes();
        open.page.push(revision);
        if open.page.len() < PAGE && open.page_bytes < PAGE_BYTES {
            return Ok(());
        }
        // A long history: its pages are written one after the other.
        open.page_bytes = 0;
        let page = take(&mut open.page);
        let actor = open.actor.clone();
        self.under_way.finish().await?;
        append(self.states.clone(), actor, page).await
    }

    /// Adds an effect to the outbox. Its place is one of this import's epoch, because a store may have ended the places of
    /// older ones; its number stays, so an effect that is there already is known.
    pub(super) async fn outbox(&mut self, row: OutboxRow) -> Result<(), OfflineError> {
        self.look_up_rows().await?;
        let epoch = self.epoch;
        let open = self.open();
        let is_held = open.held.as_ref().is_some_and(|held| held.outbox.contains(&row.id));
        if open.there.is_some() || is_held {
            return Ok(());
        }
        let key = OutboxKey { epoch, place: open.appended };
        open.appended += 1;
        open.rows_bytes += row.bytes();
        open.rows.appends.push(OutboxRow { key, ..row });
        self.full_page_of_rows().await
    }

    /// Notes the newest effect that the actor has seen of a source, unless it has seen a newer one.
    pub(super) async fn seen(&mut self, seen: Seen) -> Result<(), OfflineError> {
        self.look_up_rows().await?;
        let open = self.open();
        let held = open.held.iter().flat_map(|held| &held.seen);
        let is_held = held.into_iter().any(|held| held.source == seen.source && held.id >= seen.id);
        if open.there.is_some() || is_held {
            return Ok(());
        }
        open.rows.seen.push(seen);
        self.full_page_of_rows().await
    }

    /// Looks for the rows of effects that the store holds of the actor, once.
    async fn look_up_rows(&mut self) -> Result<(), OfflineError> {
        let (states, may_hold_rows) = (self.states.clone(), self.may_hold_rows);
        let open = self.open();
        if !may_hold_rows || open.held.is_some() || open.there.is_some() {
            return Ok(());
        }
        let mut held = Held::default();
        let mut after = None;
        let looking = || OfflineError::store(format!("looking for the effects of {}", open.actor));
        loop {
            let page = retried(|| states.outbox(&open.actor, after, PAGE)).await;
            let page = page.map_err(looking())?;
            after = page.items.last().map(|row| row.key);
            held.outbox.extend(page.items.iter().map(|row| row.id));
            if !page.more {
                break;
            }
        }
        held.seen = retried(|| states.seen(&open.actor)).await.map_err(looking())?;
        open.held = Some(held);
        Ok(())
    }

    /// Writes rows of effects once they fill a save.
    async fn full_page_of_rows(&mut self) -> Result<(), OfflineError> {
        let (states, epoch) = (self.states.clone(), self.epoch);
        let open = self.open();
        if open.rows.appends.len() + open.rows.seen.len() < PAGE && open.rows_bytes < ROWS_BYTES {
            return Ok(());
        }
        open.rows_bytes = 0;
        let rows = take(&mut open.rows);
        let rows = Save::of_rows(open.actor.clone(), epoch, rows);
        self.under_way.finish().await?;
        save(states, rows).await
    }

    pub(super) async fn head(&mut self, head: Option<Head>) -> Result<(), OfflineError> {
        self.look_up_rows().await?;
        let open = self.open.take().expect("the grammar lets no head pass without its actor");
        let Open { actor, page, page_bytes, rows, rows_bytes, there, held, .. } = open;
        let holds_rows = held.is_some_and(|held| !held.outbox.is_empty() || !held.seen.is_empty());
        if let Some(version) = there {
            self.unfinished.kept += 1;
            let found = head.map(|head| head.version);
            if found != Some(version) {
                self.unfinished.differing += 1;
                if self.unfinished.differing <= NAMED {
                    let found = found.map_or_else(|| "none".into(), |found| found.to_string());
                    say(&format!("{actor} stays at version {version}, the file has {found}"));
                }
            }
            return Ok(());
        }
        let is_left_out = head.is_some() && is_member(&actor);
        if is_left_out {
            let ActorId { parent, system, .. } = &*actor;
            say(&format!("the state of {system}/{parent} is left out: members of pools keep none"));
        }
        let head = head.filter(|_| !is_left_out);
        let bytes = page_bytes + rows_bytes + head.as_ref().map_or(0, |head| head.content.bytes());
        let (states, epoch) = (self.states.clone(), self.epoch);
        let write = async move {
            if !page.is_empty() {
                append(states.clone(), actor.clone(), page).await?;
            }
            if !rows.is_empty() {
                save(states.clone(), Save::of_rows(actor.clone(), epoch, rows)).await?;
            }
            match head {
                Some(head) => {
                    if holds_rows {
                        take_over(&states, &actor, epoch).await?;
                    }
                    save(states, Save::of_head(actor, Head { epoch, ..head }, false)).await
                }
                None => Ok(()),
            }
        };
        self.under_way.put(bytes, write.boxed()).await
    }
}
