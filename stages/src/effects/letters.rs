//! Letters: what administrators see of outboxes, and do with dead letters.

use std::mem::take;
use std::sync::Arc;

use metrics::counter;

use crate::actor::ActorId;
use crate::call::{ChangeLetters, Task};
use crate::error::Error;
use crate::metrics::DEAD_LETTERS_DROPPED_TOTAL;
use crate::outbox::record::Record;
use crate::outbox::view::{
    DeadLetterChange, DeadLettersChanged, EffectCursor, EffectFilter, EffectPage, EffectView,
};
use crate::outbox::{EffectRows, OutboxKey, OutboxRow};
use crate::placement::Mailboxes;
use crate::ports::{Clock, Save, StateStore, StoreError};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::store_limit::in_time;

use super::Effects;

/// Sources that are asked for at once, and rows.
const SOURCES: usize = 256;
const ROWS: usize = 64;

/// Sources and bytes of rows that one look reads at most; whoever looks goes on then.
const SOURCES_AT_MOST: usize = 4_096;
const BYTES_AT_MOST: usize = 8 << 20;

/// Dead letters that one request changes at most.
const CHANGES: usize = 256;

/// See the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Letters {
    effects: Effects,
    store: Arc<dyn StateStore>,
    directory: Arc<Directory>,
    mailboxes: Mailboxes,
    clock: Arc<dyn Clock>,
}

/// What is left of a look at all effects.
struct Look<'a> {
    filter: &'a EffectFilter,
    limit: usize,
    page: EffectPage,
    bytes: usize,
    sources: usize,
}

/// Counts dead letters that were dropped because somebody asked for it.
pub(crate) fn count_dropped(count: u64) {
    counter!(DEAD_LETTERS_DROPPED_TOTAL, "reason" => "asked").increment(count);
}

impl Letters {
    pub(crate) fn new(
        effects: &Effects,
        store: &Arc<dyn StateStore>,
        directory: &Arc<Directory>,
        mailboxes: &Mailboxes,
        clock: &Arc<dyn Clock>,
    ) -> Letters {
        Letters {
            effects: effects.clone(),
            store: store.clone(),
            directory: directory.clone(),
            mailboxes: mailboxes.clone(),
            clock: clock.clone(),
        }
    }

    /// Looks at effects after `after`, at `limit` of them at most. It may end earlier, with where to go on.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn look(
        &self,
        filter: &EffectFilter,
        after: Option<EffectCursor>,
        limit: usize,
    ) -> Result<EffectPage, Error> {
        let began = after.as_ref().map_or_else(|| self.clock.now(), |after| after.began);
        let mut look = Look { filter, limit, page: EffectPage::default(), bytes: 0, sources: 0 };
        let mut last = None;
        if let Some(EffectCursor { source, row, .. }) = after {
            if let Some(row) = row
                && let Some(row) = self.look_at(&source, Some(row), &mut look).await?
            {
                look.page.next = Some(EffectCursor { began, source, row: Some(row) });
                return Ok(look.page);
            }
            last = Some(source);
        }
        loop {
            let sources = in_time(self.store.pending(last.as_deref(), SOURCES)).await?;
            for source in sources.items {
                if look.page.effects.len() >= limit || look.bytes >= BYTES_AT_MOST {
                    let next = last.map(|source| EffectCursor { began, source, row: None });
                    return Ok(EffectPage { next, ..look.page });
                }
                look.sources += 1;
                if look.filter.has_source(&source)
                    && let Some(row) = self.look_at(&source, None, &mut look).await?
                {
                    look.page.next = Some(EffectCursor { began, source, row: Some(row) });
                    return Ok(look.page);
                }
                last = Some(source);
            }
            if !sources.more {
                return Ok(look.page);
            }
            if look.sources >= SOURCES_AT_MOST {
                let next = last.map(|source| EffectCursor { began, source, row: None });
                return Ok(EffectPage { next, ..look.page });
            }
        }
    }

    /// Looks at the rows of a source. Returns the last one when it ends before the last row.
    async fn look_at(
        &self,
        source: &Arc<ActorId>,
        mut after: Option<OutboxKey>,
        look: &mut Look<'_>,
    ) -> Result<Option<OutboxKey>, StoreError> {
        loop {
            let rows = in_time(self.store.outbox(source, after, ROWS)).await?;
            for row in rows.items {
                if look.page.effects.len() >= look.limit || look.bytes >= BYTES_AT_MOST {
                    // It looked at a row before this one.
                    return Ok(after);
                }
                after = Some(row.key);
                look.bytes += row.bytes();
                let effect = self.view(source, row);
                look.page.effects.extend(effect.filter(|effect| look.filter.has(effect)));
            }
            if !rows.more {
                return Ok(None);
            }
        }
    }

    /// `None`: the row cannot be read.
    fn view(&self, source: &Arc<ActorId>, row: OutboxRow) -> Option<EffectView> {
        let bytes = row.bytes() as u64;
        let OutboxRow { key, id, record } = row;
        let Record { at, dead, invocation } = Record::decode(record)?;
        let attempts = self.effects.attempts(source, key).filter(|_| dead.is_none());
        let (target, action) = (invocation.actor, invocation.action);
        Some(EffectView {
            source: source.clone(),
            key,
            id,
            target,
            action,
            at,
            bytes,
            attempts,
            dead,
        })
    }

    /// Changes the dead letters after `after` that a filter means: some hundreds at most, each source's in turns of its own.
    /// Dead letters that came since the look began stay. With `is_dry_run` it only counts.
    ///
    /// # Errors
    /// When the store fails, or a source does not get its turn. What was changed before stays changed.
    pub(crate) async fn change(
        &self,
        change: DeadLetterChange,
        filter: EffectFilter,
        after: Option<EffectCursor>,
        is_dry_run: bool,
    ) -> Result<DeadLettersChanged, Error> {
        let began = after.as_ref().map_or_else(|| self.clock.now(), |after| after.began);
        let before = Some(filter.before.map_or(began, |before| before.min(began)));
        let filter = EffectFilter { dead: Some(true), before, ..filter };
        let EffectPage { effects, mut next } = self.look(&filter, after, CHANGES).await?;
        if let Some(next) = &mut next {
            next.began = began;
        }
        let matched = effects.len() as u64;
        let mut changed = DeadLettersChanged { matched, next, ..DeadLettersChanged::default() };
        if is_dry_run {
            return Ok(changed);
        }
        let mut of_source: Vec<OutboxKey> = Vec::new();
        let mut effects = effects.into_iter().peekable();
        while let Some(EffectView { source, key, .. }) = effects.next() {
            of_source.push(key);
            if effects.peek().is_none_or(|next| next.source != source) {
                self.change_of(change, &source, take(&mut of_source), &mut changed).await?;
            }
        }
        Ok(changed)
    }

    /// Changes dead letters of one source.
    async fn change_of(
        &self,
        change: DeadLetterChange,
        source: &Arc<ActorId>,
        mut keys: Vec<OutboxKey>,
        changed: &mut DeadLettersChanged,
    ) -> Result<(), Error> {
        let Some(entry) = self.entry(source) else {
            if change == DeadLetterChange::Retry {
                changed.unregistered += keys.len() as u64;
                return Ok(());
            }
            changed.done += keys.len() as u64;
            return self.drop_rows(source, keys).await;
        };
        while !keys.is_empty() {
            let asked = take(&mut keys);
            let task = |question| {
                Task::DeadLetters(Box::new(ChangeLetters { change, keys: asked, question }))
            };
            let outcome = self.mailboxes.ask_for(&entry, task).await?.answer().await?;
            changed.done += outcome.done;
            if outcome.is_full {
                changed.full += outcome.left.len() as u64;
                return Ok(());
            }
            keys = outcome.left;
        }
        Ok(())
    }

    /// Removes dead letters of a source that is not registered: it has no turns.
    async fn drop_rows(&self, source: &Arc<ActorId>, keys: Vec<OutboxKey>) -> Result<(), Error> {
        let rows = EffectRows { acknowledged: keys.clone(), ..EffectRows::default() };
        let save = Save::of_rows(source.clone(), self.effects.0.epoch, rows);
        let outcomes = self.store.save_all(vec![save]);
        let written = in_time(async { outcomes.await.pop().unwrap_or(Ok(())) }).await;
        written?;
        count_dropped(keys.len() as u64);
        for key in keys {
            self.effects.letter_left(source, key);
        }
        Ok(())
    }

    /// The actor, or the member of a pool, that a source is now.
    fn entry(&self, source: &ActorId) -> Option<Arc<Entry>> {
        let found = if let Some((pool, number)) = source.name.split_once('\u{1}') {
            let pool = self.directory.find(&source.system, pool)?;
            self.directory.pools.numbered(&pool, number.parse().ok()?)
        } else {
            self.directory.find(&source.system, &source.name)
        };
        found.filter(|entry| *entry.key == *source)
    }
}
