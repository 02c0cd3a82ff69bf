//! Take-over: a new owner makes what it found of an actor its own.
//!
//! Copies of the seen rows that count are written under the new epoch first, in writes of bounded size: until the next step
//! they say the same as the rows that they are made from. (If a take-over ends here, what a late write of the former owner
//! forgets stays seen, which keeps a row and loses nothing.) Then one batch writes the head and the owner's row. From then on
//! rows of older epochs do not count, whatever their write timestamps: a late write of a former owner is lost as a whole. The
//! outbox rows that were found stay where they are, and the owner's row names the last of each epoch. What does not count is
//! deleted when that row is certainly there: a batch of unknown outcome that arrives late would delete what a repeated
//! take-over has found since. See `docs/decisions/020-a-new-owner-takes-over.md`.

use std::sync::Arc;

use tidegate_stages::actor::ActorId;
use tidegate_stages::outbox::Seen;
use tidegate_stages::ports::{StoreError, TakenOver};
use tidegate_stages::state::Head;
use tracing::debug;

use super::database::Changes;
use super::effects::{Number, SeenMap, Source, Taken, newest, number, owner, source};
use super::known::Known;
use super::rows::{
    Content, FORMER_OUTBOX, HEAD, HeadOut, Key, OUTBOX, OWNER, SEEN, bound, signed, unsigned,
};
use super::shared::Shared;

/// Seen rows in one write.
const TOGETHER: usize = 512;
/// How often the rows are read again when they change during the read.
const TRIES: u32 = 8;

/// A row without its content: kind, epoch, place, version of a head, seen effects, last places of older epochs.
type Bare = (i8, i64, i64, Option<i64>, Option<SeenMap>, Option<Taken>);

/// The rows of an actor that count.
struct ActorRows {
    /// Epoch of the owner.
    owner: i64,
    head: Option<Head>,
    seen: Vec<Seen>,
    /// Positions of the rows in the outbox: epoch, place.
    outbox: Vec<(i64, i64)>,
}

impl Shared {
    pub(super) async fn take_over(
        &self,
        actor: &Arc<ActorId>,
        own: u64,
    ) -> Result<TakenOver, StoreError> {
        self.fence.check(own)?;
        let (key, epoch) = (Key::of(actor)?, signed(own)?);
        self.memory.forget(actor);
        let _turn = self.turn().await?;
        let ActorRows { owner, head, seen, outbox } = self.actor_rows(actor, &key).await?;
        let head = head.map(|head| Head { epoch: own, ..head });
        if owner > epoch {
            return Err(StoreError::Fenced(unsigned(owner)?));
        }
        if owner < epoch {
            self.put_all_seen(&key, epoch, &seen).await?;
            let taken = last_places(&outbox, epoch);
            self.put_taken_over(&key, epoch, head.as_ref(), &taken).await?;
            self.look().await?;
            self.fence.check(own)?;
            let dropped = self.drop_former(&key, epoch, &taken).await;
            if let Err(error) = &dropped {
                debug!(%actor, %error, "rows of former owners that do not count are left");
            }
            let (cleared, outstanding) = (dropped.ok().map(|()| epoch), Some(outbox.len()));
            self.memory.keep(actor, Known { cleared, outstanding, ..Known::default() });
        }
        Ok(TakenOver { head, seen })
    }

    /// Reads what counts of an actor. All of it is of one moment: a late write of a former owner is seen whole, or not.
    async fn actor_rows(&self, actor: &ActorId, key: &Key<'_>) -> Result<ActorRows, StoreError> {
        for _ in 0..TRIES {
            let rows: Vec<Bare> = self.database.read(&self.database.cql.bare, *key).await?;
            let (owner, taken) = owner(rows.iter().map(|row| (row.0, row.1, row.5.clone())));
            let version = rows.iter().find(|row| row.0 == HEAD && row.1 >= owner);
            let version = version.map(|row| (row.1, row.3.unwrap_or_default()));
            let head = self.load(actor).await?;
            if head.as_ref().map(|head| (bound(head.epoch), bound(head.version))) != version {
                continue;
            }
            let counts = |of: i64, place: i64| {
                of >= owner || taken.get(&of).is_some_and(|last| place <= *last)
            };
            let outbox = rows.iter().filter(|row| row.0 == OUTBOX && counts(row.1, row.2));
            let outbox = outbox.map(|row| (row.1, row.2)).collect();
            let seen = rows.into_iter().filter(|row| row.0 == SEEN && row.1 >= owner);
            let seen = newest(seen.filter_map(|row| row.4))?;
            return Ok(ActorRows { owner, head, seen, outbox });
        }
        Err(StoreError::Unavailable(format!("{actor} was written {TRIES} times while it was read")))
    }

    /// Writes seen rows under an epoch.
    async fn put_all_seen(
        &self,
        key: &Key<'_>,
        epoch: i64,
        seen: &[Seen],
    ) -> Result<(), StoreError> {
        for seen in seen.chunks(TOGETHER) {
            let rows = seen.iter().map(|seen| Ok((source(&seen.source)?, number(seen.id)?)));
            let rows: Vec<(Source, Number)> = rows.collect::<Result<_, StoreError>>()?;
            let mut changes = Changes::default();
            for (source, number) in &rows {
                self.put_seen(key, epoch, source, *number, &mut changes);
            }
            self.commit(changes, self.stamp().await?).await?;
        }
        Ok(())
    }

    /// Writes head and owner's row under an epoch.
    async fn put_taken_over(
        &self,
        key: &Key<'_>,
        epoch: i64,
        head: Option<&Head>,
        taken: &Taken,
    ) -> Result<(), StoreError> {
        let named = key.named();
        let content = head.map(|head| Content::of_head(&named, head.clone(), &self.vault));
        let content = content.transpose()?;
        let mut changes = Changes::default();
        if let Some(content) = &content {
            let row = HeadOut { key: *key, kind: HEAD, epoch, place: 0, owner: epoch, content };
            changes.add(&self.database.cql.put_head, row);
        }
        let values = (key.system, key.actor, key.parent, epoch, taken);
        changes.add(&self.database.cql.put_owner, values);
        self.commit(changes, self.stamp().await?).await
    }

    /// Removes what does not count any more: rows of older epochs, and rows beyond the last places.
    async fn drop_former(
        &self,
        key: &Key<'_>,
        epoch: i64,
        taken: &Taken,
    ) -> Result<(), StoreError> {
        let (cql, Key { system, actor, parent }) = (&self.database.cql, *key);
        let mut changes = Changes::default();
        for kind in [HEAD, FORMER_OUTBOX, SEEN, OWNER] {
            changes.add(&cql.drop_epochs, (system, actor, parent, kind, epoch));
        }
        let mut after = -1;
        for (of, last) in taken.iter().map(|(of, last)| (*of, *last)) {
            changes.add(&cql.drop_between, (system, actor, parent, after, of));
            changes.add(&cql.drop_beyond, (system, actor, parent, of, last));
            after = of;
        }
        changes.add(&cql.drop_between, (system, actor, parent, after, epoch));
        self.commit(changes, self.stamp().await?).await
    }
}

/// The last position of each epoch before this one.
fn last_places(outbox: &[(i64, i64)], epoch: i64) -> Taken {
    let mut taken = Taken::new();
    for (of, place) in outbox.iter().filter(|(of, _)| *of < epoch) {
        let last = taken.entry(*of).or_insert(*place);
        *last = *place.max(last);
    }
    taken
}
