//! Feeder: reads the rows of sources that are behind, and queues them in order.
//!
//! At the start it asks the store which sources have rows. Before the first delivery of one, this epoch takes it over
//! (decision 18 d).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_pipeline::layer::Delays;
use tidegate_pipeline::{Drain, Permit, Refused};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::{info, warn};

use super::deliver::Delivery;
use super::ledger::Letter;
use super::source::{Reading, Source, State};
use super::{Effects, PER_SOURCE};
use crate::actor::{ActorId, ActorRef};
use crate::call::{EmittedEffect, Task};
use crate::error::Error;
use crate::history::Page;
use crate::outbox::record::Record;
use crate::outbox::{OutboxKey, OutboxRow};
use crate::placement::Mailboxes;
use crate::ports::{Clock, StateStore, StoreError};
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::reply::{Deadlines, Reply, Timing};
use crate::store_limit::in_time;

/// Sources that are asked for at once.
const SOURCES: usize = 256;
/// Rows that are read at once.
pub(super) const ROWS: usize = 64;
/// Sources that are read at the same time.
const ABREAST: usize = 64;

/// Pauses before a failed read is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Feeder {
    pub(crate) effects: Effects,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Drain,
}

impl Feeder {
    /// Runs until deliveries stop.
    pub(crate) async fn run(self) {
        let stop = self.effects.0.stop.clone();
        let abreast = Arc::new(Semaphore::new(ABREAST));
        let feeding = async {
            tokio::join!(
                self.find_all(),
                self.feed_all(&abreast),
                self.try_again(),
                self.effects.show(&*self.clock)
            );
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = feeding => {}
        }
    }

    /// Finds the sources that have rows of former epochs.
    async fn find_all(&self) {
        let mut after: Option<Arc<ActorId>> = None;
        let mut found = 0_u64;
        loop {
            let page = patiently(|| self.store.pending(after.as_deref(), SOURCES)).await;
            for key in &page.items {
                found += 1;
                let actor = ActorRef::new(&key.system, &key.name);
                let mut sources = self.effects.0.sources.lock();
                let source = self.effects.source(&mut sources, key, &actor);
                let mut state = source.state.lock();
                drop(sources);
                if let Some(entry) = self.entry(&source) {
                    state.counts_in(&entry.pending_effects);
                }
                self.effects.feed_if_behind(&source, &mut state);
            }
            after = page.items.last().cloned().or(after);
            if !page.more {
                break;
            }
        }
        self.effects.0.all_found.store(true, Ordering::Release);
        if found > 0 {
            info!(sources = found, "side effects of former starts are delivered");
        }
    }

    async fn feed_all(&self, abreast: &Arc<Semaphore>) {
        loop {
            let is_behind = self.effects.0.is_behind.notified();
            let Some(source) = self.effects.0.behind.lock().pop_front() else {
                is_behind.await;
                continue;
            };
            let Ok(permit) = abreast.clone().acquire_owned().await else { return };
            let feeder = self.clone();
            self.tasks.spawn(async move {
                let stop = feeder.effects.0.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = feeder.feed(&source) => {}
                }
                drop(permit);
            });
        }
    }

    /// Queues the rows of a source as long as there is capacity.
    async fn feed(&self, source: &Arc<Source>) {
        if !self.take_over(source).await {
            self.feed_when_resumed(source.clone());
            return;
        }
        if source.state.lock().uncounted {
            self.count(source).await;
        }
        'read: loop {
            self.feed_stuck(source).await;
            if self.effects.0.stop.is_cancelled() {
                return;
            }
            let (after, committed) = {
                let mut state = source.state.lock();
                if state.loaded() >= PER_SOURCE {
                    if state.has_ready() {
                        continue;
                    }
                    // It is read on when half of them have gone.
                    state.reading = Reading::Behind;
                    return;
                }
                (state.through, state.committed)
            };
            let page = patiently(|| self.store.outbox(&source.key, after, ROWS)).await;
            let mut is_last = !page.more;
            for row in page.items {
                if row.key.epoch == self.effects.0.epoch && Some(row.key) > committed {
                    // Its commit is not known to be durable.
                    is_last = true;
                    break;
                }
                match self.queue(source, row).await {
                    Some(true) => {}
                    Some(false) => continue 'read,
                    None => return,
                }
            }
            let mut state = source.state.lock();
            if is_last && state.committed == committed && !state.has_ready() {
                state.reading = Reading::UpToDate;
                break;
            }
        }
        self.effects.forget_idle(source);
    }

    /// Queues a row. Returns whether the source may have more in memory; `None`: the proxy ends.
    async fn queue(&self, source: &Arc<Source>, row: OutboxRow) -> Option<bool> {
        let effects = &self.effects;
        let Some(Record { at, dead, invocation }) = Record::decode(row.record.clone()) else {
            warn!(source = %source.actor, id = %row.id, "a side effect cannot be read: it is not delivered");
            source.state.lock().read_through(row.key);
            return Some(true);
        };
        let passes_over = |state: &mut State| {
            let passes_over = dead.is_some() || state.is_stuck(&invocation.actor);
            if passes_over {
                state.read_through(row.key);
            }
            passes_over
        };
        if passes_over(&mut source.state.lock()) {
            return Some(true);
        }
        let bytes = row.bytes().min(effects.0.most_bytes);
        let permit = self.permit(bytes).await?;
        let mut state = source.state.lock();
        // Its target may be stuck by now.
        if passes_over(&mut state) {
            return Some(true);
        }
        let effect = EmittedEffect { row, invocation, at };
        let delivery = Delivery::new(effects.clone(), source.clone(), effect, permit);
        effects.enqueue(&mut state, delivery);
        Some(state.loaded() < PER_SOURCE)
    }

    /// Waits for a place in memory. `None`: the proxy ends.
    pub(super) async fn permit(&self, bytes: usize) -> Option<Permit> {
        let inner = &self.effects.0;
        inner.wanted.fetch_add(1, Ordering::Relaxed);
        let permit = loop {
            match inner.queue.reserve(bytes).await {
                Ok(permit) => break Some(permit),
                Err(Refused::Full) => {}
                Err(_) => break None,
            }
        };
        inner.wanted.fetch_sub(1, Ordering::Relaxed);
        permit
    }

    /// Counts the rows of former epochs.
    async fn count(&self, source: &Arc<Source>) {
        let mut after: Option<OutboxKey> = None;
        let (mut events, mut bytes) = (0, 0);
        loop {
            let page = patiently(|| self.store.outbox(&source.key, after, ROWS)).await;
            after = page.items.last().map(|row| row.key).or(after);
            let former = page.items.into_iter().filter(|row| row.key.epoch < self.effects.0.epoch);
            for row in former {
                let Some(record) = Record::decode(row.record.clone()) else { continue };
                if let Some(dead) = record.dead {
                    self.effects.keep_letter(&source.key, row.key, Letter::of(&row, dead.at));
                } else {
                    events += 1;
                    bytes += row.bytes();
                }
            }
            if !page.more {
                break;
            }
        }
        let mut state = source.state.lock();
        state.pending().add(events, bytes);
        state.uncounted = false;
    }

    /// Makes this epoch the owner of a source, under its key. An actor that is not registered has nothing that could be taken
    /// over but its rows. Returns false when the actor is paused: its turn would wait for the end of the pause, and so would other
    /// sources behind it.
    async fn take_over(&self, source: &Source) -> bool {
        let mut delays = Delays::new(FIRST_PAUSE, LONGEST_PAUSE);
        while let Some(entry) = self.entry(source) {
            if entry.owned_under.load(Ordering::Relaxed) == self.effects.0.epoch {
                return true;
            }
            if entry.is_paused() {
                return false;
            }
            let limits = Deadlines::default();
            let (reply, taken_over) = Reply::new(&Timing::new(limits, Some(limits.host)));
            self.mailboxes.ask(&entry, Task::TakeOver(reply));
            match taken_over.answer().await {
                Ok(()) => return true,
                Err(Error::ActorNotFound { .. }) => {}
                Err(error) => {
                    warn!(source = %source.actor, %error, "side effects wait: their source cannot be taken over");
                }
            }
            sleep(delays.next_delay()).await;
        }
        true
    }

    /// Feeds a source once its actor is not paused any more; as many wait as actors are paused.
    fn feed_when_resumed(&self, source: Arc<Source>) {
        let feeder = self.clone();
        self.tasks.spawn(async move {
            let effects = &feeder.effects.0;
            tokio::select! {
                () = effects.stop.cancelled() => {}
                () = feeder.directory.pauses.resumed(&source.actor) => {
                    effects.behind.lock().push_back(source);
                    effects.is_behind.notify_one();
                }
            }
        });
    }

    fn entry(&self, source: &Source) -> Option<Arc<Entry>> {
        let entry = self.directory.find(source.actor.system(), source.actor.name());
        entry.filter(|entry| entry.key == source.key)
    }
}

/// Reads until the store can.
pub(super) async fn patiently<T, F>(mut read: impl FnMut() -> F) -> Page<T>
where
    F: Future<Output = Result<Page<T>, StoreError>>,
{
    let mut delays = Delays::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        match in_time(read()).await {
            Ok(page) => return page,
            Err(error) => warn!(%error, "outboxes cannot be read"),
        }
        sleep(delays.next_delay()).await;
    }
}
