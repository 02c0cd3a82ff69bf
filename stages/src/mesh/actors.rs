//! Actors: lists the actors that a filter matches, with what they do, and cancels several turns of one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;

use crate::actor::{ActorRef, Definition, Kind};
use crate::blocked_on::{ActorFilter, ActorView, Cancellation, TurnKind, Turns};
use crate::error::Error;
use crate::history::Page;
use crate::last_errors;
use crate::mesh::Mesh;
use crate::registry::entry::Entry;

/// Actors that are looked at before other tasks get their turn.
const AT_ONCE: usize = 1_024;

impl Mesh {
    /// Shows the actors that a filter matches, and the members of pools, ordered by system and name: a page of at most `limit`
    /// actors, starting after `after`.
    pub async fn actors(
        &self,
        filter: &ActorFilter,
        after: Option<&(String, String)>,
        limit: usize,
    ) -> Page<ActorView> {
        let Page { items, more } = self.matching(filter, after, limit).await;
        let all = items.iter().flat_map(|entry| self.with_members(entry));
        Page { items: all.map(|entry| self.view(&entry)).collect(), more }
    }

    /// The names of the actors that a filter matches; else as [`actors`](Self::actors).
    pub async fn names(
        &self,
        filter: &ActorFilter,
        after: Option<&(String, String)>,
        limit: usize,
    ) -> Page<ActorRef> {
        let Page { items, more } = self.matching(filter, after, limit).await;
        Page { items: items.iter().map(|entry| entry.actor.clone()).collect(), more }
    }

    async fn matching(
        &self,
        filter: &ActorFilter,
        after: Option<&(String, String)>,
        limit: usize,
    ) -> Page<Arc<Entry>> {
        let is_later = |entry: &Entry| {
            after.is_none_or(|(system, name)| key(entry) > (system.as_str(), name.as_str()))
        };
        if let (Some(system), Some(name)) = (&filter.system, &filter.name) {
            let found = self.directory.find(system, name);
            let items = found.filter(|entry| is_later(entry) && self.is_meant(entry, filter));
            return Page { items: items.into_iter().collect(), more: false };
        }
        // The first ones of what was seen, and one more.
        let mut first: BTreeMap<(String, String), Arc<Entry>> = BTreeMap::new();
        let mut shard = 0;
        while let Some(entries) = self.directory.shard_entries(shard) {
            for (seen, entry) in entries.into_iter().enumerate() {
                if seen % AT_ONCE == AT_ONCE - 1 {
                    yield_now().await;
                }
                let (system, name) = key(&entry);
                let is_past = first.len() > limit
                    && first.last_key_value().is_some_and(|((last_system, last_name), _)| {
                        (system, name) > (last_system, last_name)
                    });
                if is_past || !is_later(&entry) || !self.is_meant(&entry, filter) {
                    continue;
                }
                first.insert((system.to_owned(), name.to_owned()), entry);
                if first.len() > limit + 1 {
                    first.pop_last();
                }
            }
            shard += 1;
            yield_now().await;
        }
        let more = first.len() > limit;
        Page { items: first.into_values().take(limit).collect(), more }
    }

    fn is_meant(&self, entry: &Arc<Entry>, filter: &ActorFilter) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&filter.system, entry.actor.system())
            && is(&filter.name, entry.actor.name())
            && filter.paused.is_none_or(|paused| paused == entry.is_paused())
            && (filter.definition.is_none() || is(&filter.definition, entry.definition().name()))
            && entry.with_hosted(|hosted| {
                is(&filter.kind, kind(&hosted.definition))
                    && is(&filter.host, hosted.definition.host().as_str())
            })
            && filter.live.is_none_or(|live| live == self.is_in_memory(entry))
            && filter.unused.is_none_or(|least| self.unused_for(entry) >= least)
            && is_meant_by_error(entry, filter)
            && filter.mailbox.is_none_or(|least| {
                let waiting = |entry: &Arc<Entry>| self.mailboxes.queue.look(&entry.mailbox, 0);
                self.with_members(entry).iter().any(|entry| waiting(entry).queued >= least)
            })
            && filter.stuck.is_none_or(|least| {
                self.with_members(entry).iter().any(|entry| self.is_stuck(entry, least))
            })
    }

    /// Whether it, or a member of the pool that it is, is in memory.
    fn is_in_memory(&self, entry: &Arc<Entry>) -> bool {
        self.with_members(entry).iter().any(|entry| entry.is_live())
    }

    fn unused_for(&self, entry: &Entry) -> Duration {
        Duration::from_millis(self.directory.now_ms().saturating_sub(entry.last_used_ms()))
    }

    fn is_stuck(&self, entry: &Entry, least: Duration) -> bool {
        let view = self.mailboxes.queue.look(&entry.mailbox, 1);
        let oldest = view.running.as_ref().or_else(|| view.first.first());
        oldest.is_some_and(|turn| turn.since.elapsed() >= least)
    }

    /// An actor, and the members of the pool that it is.
    pub(super) fn with_members(&self, entry: &Arc<Entry>) -> Vec<Arc<Entry>> {
        let mut all = self.directory.pools.members(&entry.actor);
        all.sort_unstable_by(|one, other| one.mailbox.name().cmp(other.mailbox.name()));
        all.insert(0, entry.clone());
        all
    }

    pub(super) fn view(&self, entry: &Entry) -> ActorView {
        let spec = entry.spec();
        let definition = &spec.hosted.definition;
        ActorView {
            system: entry.actor.system().to_owned(),
            name: entry.actor.name().to_owned(),
            member: (entry.mailbox != entry.actor).then(|| spec.id.parent.clone()),
            kind: kind(definition),
            definition: entry.definition().name().to_owned(),
            host: definition.host().as_str().to_owned(),
            is_active: entry.is_live(),
            unused_for: self.unused_for(entry),
            last_error: last_errors::of(&entry.actor),
            pause: self.directory.pauses.of(&entry.actor).filter(|pause| pause.ended.is_none()),
            queue: self.queue_of(entry, 1),
        }
    }

    /// Cancels turns of an actor, and of the members of the pool that it is. Returns how many: those that were queued, and those
    /// that ran and were told.
    ///
    /// # Errors
    /// When the actor is unknown. One turn: as [`cancel`](Self::cancel).
    pub fn cancel_turns(
        &self,
        system: &str,
        name: &str,
        turns: Turns,
    ) -> Result<(usize, usize), Error> {
        let entry = self.find(system, name)?;
        let (mut removed, mut told) = (0, 0);
        let mut count = |cancelled: Cancellation| match cancelled {
            Cancellation::Removed => removed += 1,
            Cancellation::Told => told += 1,
        };
        let all = self.with_members(&entry);
        if let Turns::One(id) = turns {
            let mut outcome = self.cancel_of(&entry, id);
            for member in all.iter().skip(1) {
                if matches!(outcome, Err(Error::NotFound(_))) {
                    outcome = self.cancel_of(member, id);
                }
            }
            count(outcome?);
            return Ok((removed, told));
        }
        for entry in &all {
            if matches!(turns, Turns::Queued | Turns::All) {
                // What comes meanwhile stays.
                let mut left = self.mailboxes.queue.look(&entry.mailbox, 0).queued;
                while left > 0 {
                    let queued = self.mailboxes.queue.look(&entry.mailbox, left).first;
                    let of_clients = queued.iter().filter(|turn| is_of_client(turn.handle.kind));
                    let cancelled: Vec<_> =
                        of_clients.filter_map(|turn| self.cancel_of(entry, turn.id).ok()).collect();
                    left = if cancelled.is_empty() { 0 } else { left - cancelled.len().min(left) };
                    for cancelled in cancelled {
                        count(cancelled);
                    }
                }
            }
            if matches!(turns, Turns::Running | Turns::All)
                && let Some(running) = self.mailboxes.queue.look(&entry.mailbox, 0).running
                && let Ok(cancelled) = self.cancel_of(entry, running.id)
            {
                count(cancelled);
            }
        }
        Ok((removed, told))
    }
}

fn key(entry: &Entry) -> (&str, &str) {
    (entry.actor.system(), entry.actor.name())
}

/// The kind of an actor, as people see it.
fn kind(definition: &Definition) -> &'static str {
    match definition.kind {
        Kind::Unnamed => "unnamed",
        Kind::Pooled { .. } => "pooled",
        Kind::Proxy => "proxy",
        Kind::Task => "task",
        _ => "named",
    }
}

fn is_meant_by_error(entry: &Entry, filter: &ActorFilter) -> bool {
    if filter.failed.is_none() && filter.error.is_none() {
        return true;
    }
    let last = last_errors::of(&entry.actor);
    filter.failed.is_none_or(|failed| failed == last.is_some())
        && filter
            .error
            .as_ref()
            .is_none_or(|part| last.is_some_and(|last| last.text.contains(part)))
}

/// Whether somebody outside asked for a turn of this kind, and it may be taken out of the queue together with others.
fn is_of_client(kind: TurnKind) -> bool {
    matches!(kind, TurnKind::Call | TurnKind::State | TurnKind::Checkpoint | TurnKind::Restore)
}
