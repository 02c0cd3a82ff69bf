//! Work: where calls for a later time are handed over to the table of due work.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::actor::{ActorRef, MAX_NAME_BYTES, check_name};
use crate::call::Admitted;
use crate::due::record::{Purpose, Record};
use crate::due::window::WindowView;
use crate::due::{DueEntry, DueKey};
use crate::error::Error;
use crate::invocation::{Invocation, Payload, SCHEDULE_ID};
use crate::outbox::{EffectId, EffectSource, SourceKind};
use crate::ports::{Clock, StateStore, StoreError};
use crate::state::Timestamp;
use crate::store_limit::in_time;

/// What the names of calls begin with that have an id. A hash of the actor follows; former versions put none there.
const BY_ID: &str = "id/";
/// What the names of side effects begin with; the number of the effect follows.
const EFFECT: &str = "effect/";
/// New entries that wait for the task; more are read from the store.
const NEW: usize = 1_024;

/// What happened to an entry of the store.
#[derive(Debug)]
pub(super) enum Change {
    Put(DueEntry),
    Cancelled(DueKey),
}

/// What happened and the task has not seen.
#[derive(Debug, Default)]
pub(super) struct New {
    pub(super) changes: Vec<Change>,
    /// Calls with an id that are being stored, and how many of the same actor, id and time. Each may replace an entry of that key.
    putting: HashMap<DueKey, usize>,
    /// The first entry that did not fit.
    pub(super) first_left: Option<DueKey>,
    /// Whether a removal did not fit.
    pub(super) has_forgotten: bool,
}

impl New {
    /// Takes what has happened.
    pub(super) fn take(&mut self) -> Self {
        let putting = std::mem::take(&mut self.putting);
        std::mem::replace(self, Self { putting, ..Self::default() })
    }
}

/// The table of due work; see the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DueWork(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Arc<dyn StateStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) new: Mutex<New>,
    pub(super) added: Notify,
    /// What the task has in memory, for metrics.
    pub(super) view: Mutex<WindowView>,
    epoch: u64,
    next: AtomicU64,
    /// Whether new entries are taken; those in the store run in any case.
    takes_new: bool,
}

impl Inner {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.clock.now().0 / 1_000).unwrap_or(i64::MAX)
    }

    /// Whether another entry with this key is being stored, or was and the task has not seen it. None begins to be stored after
    /// the time of the key.
    pub(super) fn is_replaced(&self, key: &DueKey) -> bool {
        if !key.has_id() {
            return false;
        }
        let new = self.new.lock();
        let is_it = |change: &Change| matches!(change, Change::Put(entry) if entry.key == *key);
        new.has_forgotten || new.putting.contains_key(key) || new.changes.iter().any(is_it)
    }
}

impl DueKey {
    /// Whether the client has named the call: another one with the same key replaces it.
    pub(super) fn has_id(&self) -> bool {
        self.source.kind == SourceKind::Due && self.source.name.starts_with(BY_ID)
    }

    /// What its call comes from, for its target. The time tells apart calls that have the same name one after the other.
    pub(super) fn call_source(&self) -> EffectSource {
        let EffectSource { kind, system, name } = &*self.source;
        let name = bounded_name(&format!("{}/", self.at.0), name);
        EffectSource { kind: *kind, system: system.clone(), name }
    }

    /// The number that a side effect had at its source; `None` when this is the key of something else.
    pub(super) fn effect_id(&self) -> Option<EffectId> {
        let (id, _) = self.source.name.strip_prefix(EFFECT)?.split_once('/')?;
        id.parse().ok()
    }
}

/// A call with an id while it is being stored.
struct BeingPut(Arc<Inner>, DueKey);

impl BeingPut {
    /// The entry of a call. Its time is a later one: what has that time is not called yet.
    fn begin(due: &Arc<Inner>, name: String, mut invocation: Invocation) -> (Self, DueEntry) {
        let mut new = due.new.lock();
        invocation.scheduled_to = invocation.scheduled_to.max(due.now_ms().saturating_add(1));
        let entry = entry(name, invocation, Purpose::Call);
        *new.putting.entry(entry.key.clone()).or_default() += 1;
        (Self(due.clone(), entry.key.clone()), entry)
    }
}

impl Drop for BeingPut {
    fn drop(&mut self) {
        let putting = &mut self.0.new.lock().putting;
        if let Some(count) = putting.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                putting.remove(&self.1);
            }
        }
    }
}

/// The entry of a call. From here on its time is in the key: at that time it is a call for now.
fn entry(name: String, mut invocation: Invocation, purpose: Purpose) -> DueEntry {
    let at = std::mem::take(&mut invocation.scheduled_to);
    let at = Timestamp(u64::try_from(at).unwrap_or(0).saturating_mul(1000));
    // Numbers of a store are below 2^63.
    let at = at.min(Timestamp(u64::MAX / 2));
    let system = invocation.actor.system.clone();
    let source = EffectSource { kind: SourceKind::Due, system, name };
    let record = Record { invocation, purpose }.encode();
    DueEntry { key: DueKey { at, source: source.into() }, record }
}

impl DueWork {
    /// The table of this store, whose owner has this epoch.
    pub(crate) fn new(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        epoch: u64,
        takes_new: bool,
    ) -> Self {
        let (new, added, next) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        let view = Mutex::default();
        Self(Arc::new(Inner { store, clock, new, added, view, epoch, next, takes_new }))
    }

    /// How many calls for a later time are in memory, of how many schedules the next time is, and for how long the first call whose
    /// time has come waits.
    pub(crate) fn view(&self) -> (usize, usize, Duration) {
        let WindowView { entries, schedules, first } = *self.0.view.lock();
        let now = self.0.clock.now();
        let late = first.map_or(0, |first| now.0.saturating_sub(first.0));
        (entries, schedules, Duration::from_micros(late))
    }

    /// Has the task look again at what it holds back: an actor was resumed.
    pub(crate) fn look_again(&self) {
        self.0.added.notify_one();
    }

    /// Whether a call is one for the table: it names a time. One that is past means now; it is kept like the others, so a crash
    /// loses none that was acknowledged. Where new entries are not taken no call is, and the caller stage refuses those for later.
    pub(crate) fn is_kept(&self, invocation: &Invocation) -> bool {
        self.0.takes_new && invocation.scheduled_to != 0
    }

    /// Whether a side effect is one for the table: for a later time than that at which it was emitted, or else it would be delivered
    /// by its source as well when it was handed over before a crash. Others are kept by their source.
    pub(crate) fn is_later(&self, invocation: &Invocation, emitted: Timestamp) -> bool {
        self.is_kept(invocation) && invocation.is_due_after(emitted)
    }

    /// Keeps an admitted call until its time, durably; a time that is past is now. Calls of one actor are separate ones unless they
    /// have the same time and the same [`SCHEDULE_ID`]: then the last one counts, as long as that time has not come. An empty id is
    /// none.
    ///
    /// # Errors
    /// When its id is no name, or the store fails.
    pub(crate) async fn schedule(&self, admitted: Admitted) -> Result<Payload, Error> {
        let Admitted { mut invocation, permit: _held_until_stored, .. } = admitted;
        if let Some(id) = invocation.metadata.get(SCHEDULE_ID).filter(|id| !id.is_empty()) {
            check_name(id)
                .map_err(|error| Error::Invalid(format!("metadata {SCHEDULE_ID} {error}")))?;
            let actor = xxhash_rust::xxh3::xxh3_128(invocation.actor.name.as_bytes());
            let name = bounded_name(&format!("{BY_ID}{actor:032x}/"), id);
            let (_being_put, entry) = BeingPut::begin(&self.0, name, *invocation);
            self.put_all(vec![entry]).await?;
        } else {
            invocation.scheduled_to = invocation.scheduled_to.max(self.0.now_ms());
            let number = self.0.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("call/{}.{number}", self.0.epoch);
            self.put_all(vec![entry(name, *invocation, Purpose::Call)]).await?;
        }
        Ok(Payload::Unset)
    }

    /// Hands a side effect for a later time over. Its source and number are its id: handing it over again changes nothing.
    /// The source may forget it when this succeeds.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn hand_over(
        &self,
        source: &ActorRef,
        id: EffectId,
        invocation: Invocation,
    ) -> Result<(), Error> {
        let name = bounded_name(&format!("{EFFECT}{id}/"), source.name());
        let effect = Purpose::Effect(source.system().to_owned(), source.name().to_owned());
        Ok(self.put_all(vec![entry(name, invocation, effect)]).await?)
    }

    /// Keeps entries, durably.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn put_all(&self, entries: Vec<DueEntry>) -> Result<(), StoreError> {
        in_time(self.0.store.put_due(entries.clone())).await?;
        let mut new = self.0.new.lock();
        for entry in entries {
            if new.changes.len() < NEW {
                new.changes.push(Change::Put(entry));
            } else if entry.key.has_id() {
                // It may replace one that is in memory.
                new.has_forgotten = true;
            } else if new.first_left.as_ref().is_none_or(|first| entry.key < *first) {
                new.first_left = Some(entry.key);
            }
        }
        drop(new);
        self.0.added.notify_one();
        Ok(())
    }

    /// Removes entries whose time has not come, durably.
    ///
    /// # Errors
    /// When the store fails; they may be there still.
    pub(crate) async fn cancel(&self, keys: Vec<DueKey>) -> Result<(), StoreError> {
        in_time(self.0.store.remove_due(keys.clone())).await?;
        let mut new = self.0.new.lock();
        for key in keys {
            if new.changes.len() < NEW {
                new.changes.push(Change::Cancelled(key));
            } else {
                new.has_forgotten = true;
            }
        }
        drop(new);
        self.0.added.notify_one();
        Ok(())
    }

    /// The store of the table.
    pub(crate) fn store(&self) -> &Arc<dyn StateStore> {
        &self.0.store
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Whether new entries are taken.
    pub(crate) fn takes_new(&self) -> bool {
        self.0.takes_new
    }
}

/// A name that begins with `prefix` and tells `name` apart from all others, however long that is.
pub(crate) fn bounded_name(prefix: &str, name: &str) -> String {
    let mut whole = format!("{prefix}{name}");
    if whole.len() > MAX_NAME_BYTES {
        // The hash in place of the end keeps them apart.
        let hash = xxhash_rust::xxh3::xxh3_128(name.as_bytes());
        let mut end = MAX_NAME_BYTES - 33;
        while !whole.is_char_boundary(end) {
            end -= 1;
        }
        whole.truncate(end);
        whole = format!("{whole}/{hash:032x}");
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;
    use crate::testkit::clock::SetClock;

    #[test]
    fn a_key_is_being_stored_until_the_last_one_of_its_id_and_time_is() {
        let clock = Arc::new(SetClock::at(Timestamp(1)));
        let due = DueWork::new(Arc::new(MemoryStore::new()), clock, 1, true);
        let begin = || {
            let invocation = Invocation { scheduled_to: 5_000, ..Invocation::default() };
            BeingPut::begin(&due.0, "id/x".into(), invocation)
        };
        let ((first, entry), (second, _)) = (begin(), begin());
        drop(first);
        assert!(due.0.is_replaced(&entry.key));
        drop(second);
        assert!(!due.0.is_replaced(&entry.key));
    }
}
