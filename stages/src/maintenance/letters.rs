//! Letters: a turn that delivers dead letters of its actor again, or drops them, in one commit.
//!
//! A dead letter that is delivered again is a new effect, with a number above all earlier ones of its source: its target would
//! take it for one that it has seen otherwise. The key is held until the outcome is known, so that no letter is delivered
//! twice by two requests.

use std::sync::Arc;

use futures_util::FutureExt;

use super::MaintenanceInner;
use crate::call::{ChangeLetters, Emitted, LettersChanged};
use crate::effects::count_dropped;
use crate::error::Error;
use crate::outbox::pending::{MAX_EFFECT_BYTES, MAX_EFFECTS, PendingEffects};
use crate::outbox::record::Record;
use crate::outbox::view::DeadLetterChange;
use crate::outbox::{EffectRows, OutboxKey, OutboxRow};
use crate::registry::entry::Entry;
use crate::store_limit::in_time;

/// What one commit does.
#[derive(Debug, Default)]
struct Chosen {
    dead: Vec<(OutboxKey, Record)>,
    left: Vec<OutboxKey>,
    is_full: bool,
}

impl MaintenanceInner {
    pub(super) async fn dead_letters(&self, entry: &Arc<Entry>, asked: ChangeLetters) {
        let ChangeLetters { change, keys, question } = asked;
        question.reply.send(self.change_letters(entry, change, keys).await);
    }

    async fn change_letters(
        &self,
        entry: &Arc<Entry>,
        change: DeadLetterChange,
        keys: Vec<OutboxKey>,
    ) -> Result<LettersChanged, Error> {
        entry.check_registered()?;
        self.lookup.take_over_early(entry).await?;
        let earlier = entry.memory.lock().incarnation.clone();
        if let Some(earlier) = earlier {
            in_time(earlier.settled().map(Ok)).await?;
        }
        let Chosen { dead, left, is_full } = self.choose(entry, change, keys).await?;
        let done = dead.len() as u64;
        if dead.is_empty() {
            return Ok(LettersChanged { done, left, is_full });
        }
        let (planner, incarnation) = (&self.side_effects.0, self.incarnation(entry));
        let acknowledged: Vec<OutboxKey> = dead.iter().map(|(key, _)| *key).collect();
        let emitted = (change == DeadLetterChange::Retry).then(|| {
            let now = planner.clock.now();
            let again = dead.into_iter();
            let again = again.map(|(_, dead)| planner.emitted(&incarnation, dead.invocation, now));
            Box::new(Emitted::new(entry.clone(), &incarnation, again.collect()))
        });
        let appends = emitted.as_ref().map(|emitted| emitted.rows()).unwrap_or_default();
        let removed = acknowledged.clone();
        let rows = EffectRows { appends, acknowledged: removed, ..EffectRows::default() };
        self.commit(entry, incarnation, rows, emitted).await?;
        if change == DeadLetterChange::Drop {
            count_dropped(done);
        }
        for key in acknowledged {
            planner.effects.letter_left(&entry.key, key);
        }
        Ok(LettersChanged { done, left, is_full })
    }

    /// Reads which of these rows are dead letters now, as many as fit into one commit.
    async fn choose(
        &self,
        entry: &Entry,
        change: DeadLetterChange,
        keys: Vec<OutboxKey>,
    ) -> Result<Chosen, Error> {
        let planner = &self.side_effects.0;
        let (pending, pending_bytes) = entry.pending_effects.get();
        let (mut chosen, mut bytes) = (Chosen::default(), 0);
        let mut keys = keys.into_iter();
        while let Some(key) = keys.next() {
            let Some(row) = self.row(entry, key).await? else { continue };
            let size = row.bytes();
            let Some(record) = Record::decode(row.record) else { continue };
            if record.dead.is_none() || planner.effects.is_dying(&entry.key, key) {
                continue;
            }
            let count = chosen.dead.len();
            if change == DeadLetterChange::Retry {
                let counted = (pending + count, pending_bytes + bytes);
                let max_events = planner.rules.max_pending_effects;
                chosen.is_full = PendingEffects::is_too_much(counted, max_events, false);
                let is_large = count > 0 && bytes + size > MAX_EFFECT_BYTES;
                if chosen.is_full || is_large || count >= MAX_EFFECTS {
                    chosen.left.push(key);
                    chosen.left.extend(keys);
                    break;
                }
            }
            bytes += size;
            chosen.dead.push((key, record));
        }
        Ok(chosen)
    }

    /// The row under a key.
    async fn row(&self, entry: &Entry, key: OutboxKey) -> Result<Option<OutboxRow>, Error> {
        let OutboxKey { epoch, place } = key;
        let before = match place.checked_sub(1) {
            Some(place) => Some(OutboxKey { epoch, place }),
            None => epoch.checked_sub(1).map(|epoch| OutboxKey { epoch, place: u64::MAX >> 1 }),
        };
        let page = in_time(self.store.outbox(&entry.key, before, 1)).await?;
        Ok(page.items.into_iter().next().filter(|row| row.key == key))
    }
}
