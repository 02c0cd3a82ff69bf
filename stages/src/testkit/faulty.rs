//! Faulty: wraps a store and makes it fail, hang or return late, on command.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, pending, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::actor::{ActorId, ActorRef};
use crate::due::{DueEntry, DueKey};
use crate::history::{Interval, Keep, Page};
use crate::outbox::{OutboxKey, OutboxRow, Seen};
use crate::ports::{
    DueStore, Outcome, Pause, PauseStore, Save, ScheduleStore, StateStore, StoreError, TakenOver,
};
use crate::schedules::{ScheduleKey, ScheduleRow};
use crate::state::{Head, Revision, Timestamp};

/// How a save fails.
#[derive(Debug, Clone)]
pub enum SaveFault {
    /// Nothing reaches the wrapped store; the caller gets this error.
    Lose(StoreError),
    /// The wrapped store writes the batch; the caller still gets this error.
    WriteAndFail(StoreError),
    /// The first `usize` saves of the batch are written, the others are lost. The caller gets this error for all.
    Tear(usize, StoreError),
    /// The first save of the batch is lost with this error, the others are written.
    LoseFirst(StoreError),
    /// The batch reaches the wrapped store only after this time; later calls may overtake it.
    Late(Duration),
    /// As [`Late`](Self::Late), for the first save of the batch; the others are written at once.
    LateFirst(Duration),
}

/// Outcomes of a batch, as they come.
type Answers = BoxStream<'static, Outcome>;

/// A save that waits for [`FaultyStore::release_saves`].
struct Held {
    batch: Vec<Save>,
    released: oneshot::Sender<Answers>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("batch", &self.batch).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Script {
    saves: VecDeque<SaveFault>,
    loads: VecDeque<StoreError>,
    take_overs: VecDeque<StoreError>,
    refusing: Option<StoreError>,
    refusing_saves: Option<StoreError>,
    writes: VecDeque<SaveFault>,
    write_time: Duration,
    refusing_prunes: Option<StoreError>,
    unreadable: Option<String>,
    holding: bool,
    hanging: bool,
    held: VecDeque<Held>,
}

impl Script {
    fn next_fault(&mut self) -> Option<SaveFault> {
        let refusing = || self.refusing_saves.clone().map(SaveFault::Lose);
        self.saves.pop_front().or_else(refusing)
    }
}

/// A [`StateStore`] that follows a script, and otherwise calls the wrapped store. Saves keep their order, also held ones.
#[derive(Debug)]
pub struct FaultyStore {
    below: Arc<dyn StateStore>,
    script: Arc<Mutex<Script>>,
    saves: AtomicUsize,
    entries: AtomicUsize,
    loads: AtomicUsize,
    due_reads: AtomicUsize,
    take_overs: AtomicUsize,
}

impl FaultyStore {
    /// Wraps a store. Without commands, every call goes to that store unchanged.
    pub fn new(below: Arc<dyn StateStore>) -> Self {
        Self {
            below,
            script: Arc::default(),
            saves: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
            due_reads: AtomicUsize::new(0),
            take_overs: AtomicUsize::new(0),
        }
    }

    /// Queues a fault for the next call of `save` that has none.
    pub fn fail_next_save(&self, fault: SaveFault) {
        self.script.lock().saves.push_back(fault);
    }

    /// Queues a fault for the next write of due work, schedules or pauses that has none. It strikes the whole write.
    pub fn fail_next_write(&self, fault: SaveFault) {
        self.script.lock().writes.push_back(fault);
    }

    /// How long each write of due work, schedules and pauses takes from now on.
    pub fn slow_writes(&self, write_time: Duration) {
        self.script.lock().write_time = write_time;
    }

    /// Drops the queued faults of saves and other writes.
    pub fn forget_faults(&self) {
        let mut script = self.script.lock();
        script.saves.clear();
        script.writes.clear();
    }

    /// Queues an error for the next `load` of a head that has none.
    pub fn fail_next_load(&self, error: StoreError) {
        self.script.lock().loads.push_back(error);
    }

    /// Queues an error for the next `take_over` that has none; nothing is taken over.
    pub fn fail_next_take_over(&self, error: StoreError) {
        self.script.lock().take_overs.push_back(error);
    }

    /// Whether every `load` of a head answers this error from now on.
    pub fn refuse_loads(&self, error: Option<StoreError>) {
        self.script.lock().refusing = error;
    }

    /// Whether every write without a fault of its own fails with this error from now on; nothing of it is written.
    pub fn refuse_saves(&self, error: Option<StoreError>) {
        self.script.lock().refusing_saves = error;
    }

    /// Whether every `prune` fails with this error from now on, and drops nothing.
    pub fn refuse_prunes(&self, error: Option<StoreError>) {
        self.script.lock().refusing_prunes = error;
    }

    /// The name of actors whose outboxes cannot be read from now on.
    pub fn refuse_outbox_of(&self, name: Option<&str>) {
        self.script.lock().unreadable = name.map(ToOwned::to_owned);
    }

    /// From now on calls of `save` wait, in order, before anything reaches the store below.
    pub fn hold_saves(&self) {
        self.script.lock().holding = true;
    }

    /// Releases held saves in the order of their calls, and holds no more.
    pub fn release_saves(&self) {
        let mut script = self.script.lock();
        script.holding = false;
        while let Some(Held { batch, released }) = script.held.pop_front() {
            let fault = script.next_fault();
            // A save runs even when its caller has dropped the future.
            drop(released.send(run(&self.below, batch, fault)));
        }
    }

    /// Whether reads of a head or a revision hang from now on.
    pub fn hang_loads(&self, hanging: bool) {
        self.script.lock().hanging = hanging;
    }

    /// Number of calls of `save` that wait.
    pub fn held_saves(&self) -> usize {
        self.script.lock().held.len()
    }

    /// Number of calls of `save`.
    pub fn saves(&self) -> usize {
        self.saves.load(Ordering::SeqCst)
    }

    /// Number of heads in all calls of `save`.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::SeqCst)
    }

    /// Number of calls of `take_over`.
    pub fn take_overs(&self) -> usize {
        self.take_overs.load(Ordering::SeqCst)
    }

    /// Number of reads of due work.
    pub fn due_reads(&self) -> usize {
        self.due_reads.load(Ordering::SeqCst)
    }

    /// Number of loads of a head.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Makes a write of due work, schedules or pauses, or fails it.
    fn write(&self, write: impl FnOnce(&dyn StateStore) -> Written + Send + 'static) -> Written {
        let (fault, write_time) = {
            let mut script = self.script.lock();
            let refusing = script.refusing_saves.clone().map(SaveFault::Lose);
            (script.writes.pop_front().or(refusing), script.write_time)
        };
        let (write_time, error) = match fault {
            None => (write_time, None),
            Some(SaveFault::Late(by) | SaveFault::LateFirst(by)) => (write_time + by, None),
            Some(SaveFault::WriteAndFail(error)) => (write_time, Some(error)),
            Some(
                SaveFault::Lose(error) | SaveFault::Tear(_, error) | SaveFault::LoseFirst(error),
            ) => return ready(Err(error)).boxed(),
        };
        let below = self.below.clone();
        let written = async move {
            if !write_time.is_zero() {
                sleep(write_time).await;
            }
            write(&*below).await?;
            error.map_or(Ok(()), Err)
        };
        written.boxed()
    }
}

/// What became of a write.
type Written = BoxFuture<'static, Result<(), StoreError>>;

fn run(below: &Arc<dyn StateStore>, mut batch: Vec<Save>, fault: Option<SaveFault>) -> Answers {
    let count = batch.len();
    let (written, error) = match fault {
        None => return below.save(batch),
        Some(SaveFault::Lose(error)) => (0, error),
        Some(SaveFault::WriteAndFail(error)) => (count, error),
        Some(SaveFault::Tear(written, error)) => (written.min(count), error),
        Some(SaveFault::Late(by)) => {
            let below = below.clone();
            let late = async move {
                sleep(by).await;
                below.save(batch)
            };
            return late.flatten_stream().boxed();
        }
        Some(SaveFault::LateFirst(by)) => {
            let below = below.clone();
            let first: Vec<_> = batch.drain(..count.min(1)).collect();
            let rest = below.save(batch).map(|(index, outcome)| (index + 1, outcome));
            let late = async move {
                sleep(by).await;
                below.save(first)
            };
            return stream::select(rest, late.flatten_stream().boxed()).boxed();
        }
        Some(SaveFault::LoseFirst(error)) => {
            batch.drain(..count.min(1));
            let rest = below.save(batch).map(|(index, outcome)| (index + 1, outcome));
            return stream::iter([(0, Err(error))]).chain(rest).boxed();
        }
    };
    batch.truncate(written);
    let answers = stream::iter((0..count).map(move |index| (index, Err(error.clone()))));
    if batch.is_empty() {
        return answers.boxed();
    }
    let written = below.save_all(batch);
    written.map(move |_written| answers).flatten_stream().boxed()
}

impl DueStore for FaultyStore {
    fn put_due(&self, entries: Vec<DueEntry>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |below| below.put_due(entries))
    }

    fn due(
        &self,
        after: Option<&DueKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<DueEntry>, StoreError>> {
        self.due_reads.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.script.lock().refusing.clone() {
            // Who asks again at once lets others run, so that a test can count it.
            return yield_now().map(|()| Err(error)).boxed();
        }
        self.below.due(after, limit)
    }

    fn remove_due(&self, keys: Vec<DueKey>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |below| below.remove_due(keys))
    }
}

impl PauseStore for FaultyStore {
    fn pauses(&self) -> BoxFuture<'static, Result<Vec<Pause>, StoreError>> {
        self.below.pauses()
    }

    fn put_pauses(&self, pauses: Vec<Pause>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |below| below.put_pauses(pauses))
    }

    fn remove_pauses(&self, actors: Vec<ActorRef>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |below| below.remove_pauses(actors))
    }
}

impl ScheduleStore for FaultyStore {
    fn put_schedule(&self, row: ScheduleRow) -> BoxFuture<'static, Result<(), StoreError>> {
        self.write(move |below| below.put_schedule(row))
    }

    fn schedule(
        &self,
        key: &ScheduleKey,
    ) -> BoxFuture<'static, Result<Option<ScheduleRow>, StoreError>> {
        if let Some(error) = self.script.lock().refusing.clone() {
            return ready(Err(error)).boxed();
        }
        self.below.schedule(key)
    }

    fn schedules(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<ScheduleRow>, StoreError>> {
        if let Some(error) = self.script.lock().refusing.clone() {
            return ready(Err(error)).boxed();
        }
        self.below.schedules(after, limit)
    }

    fn remove_schedule(&self, key: &ScheduleKey) -> BoxFuture<'static, Result<(), StoreError>> {
        let key = key.clone();
        self.write(move |below| below.remove_schedule(&key))
    }
}

impl StateStore for FaultyStore {
    fn save(&self, batch: Vec<Save>) -> Answers {
        self.saves.fetch_add(1, Ordering::SeqCst);
        self.entries.fetch_add(batch.len(), Ordering::SeqCst);
        let mut script = self.script.lock();
        if !script.holding {
            let fault = script.next_fault();
            return run(&self.below, batch, fault);
        }
        let count = batch.len();
        let (released, answer) = oneshot::channel();
        script.held.push_back(Held { batch, released });
        let gone = move || {
            let error = StoreError::Unavailable("the store was dropped".into());
            stream::iter((0..count).map(move |index| (index, Err(error.clone())))).boxed()
        };
        answer.map(move |answers| answers.unwrap_or_else(|_| gone())).flatten_stream().boxed()
    }

    fn append(
        &self,
        actor: Arc<ActorId>,
        revisions: Vec<Revision>,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.below.append(actor, revisions)
    }

    fn load(&self, actor: &ActorId) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let mut script = self.script.lock();
        if script.hanging {
            return pending().boxed();
        }
        if let Some(error) = script.loads.pop_front().or_else(|| script.refusing.clone()) {
            return ready(Err(error)).boxed();
        }
        drop(script);
        self.below.load(actor)
    }

    fn load_revision(
        &self,
        actor: &ActorId,
        revision: u64,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        if self.script.lock().hanging {
            return pending().boxed();
        }
        self.below.load_revision(actor, revision)
    }

    fn load_at(
        &self,
        actor: &ActorId,
        at: Timestamp,
    ) -> BoxFuture<'static, Result<Option<Revision>, StoreError>> {
        self.below.load_at(actor, at)
    }

    fn load_by_interval(
        &self,
        actor: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Revision>, StoreError>> {
        self.below.load_by_interval(actor, interval, limit)
    }

    fn actors(
        &self,
        system: &str,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        self.below.actors(system, after, limit)
    }

    fn keeps_former_owners_out(&self) -> bool {
        self.below.keeps_former_owners_out()
    }

    fn prune(&self, actor: &ActorId, keep: Keep) -> BoxFuture<'static, Result<u64, StoreError>> {
        match self.script.lock().refusing_prunes.clone() {
            Some(error) => Box::pin(ready(Err(error))),
            None => self.below.prune(actor, keep),
        }
    }

    fn outbox(
        &self,
        actor: &ActorId,
        after: Option<OutboxKey>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<OutboxRow>, StoreError>> {
        if self.script.lock().unreadable.as_ref() == Some(&actor.name) {
            return ready(Err(StoreError::Unavailable("not to be read".into()))).boxed();
        }
        self.below.outbox(actor, after, limit)
    }

    fn seen(&self, actor: &ActorId) -> BoxFuture<'static, Result<Vec<Seen>, StoreError>> {
        self.below.seen(actor)
    }

    fn pending(
        &self,
        after: Option<&ActorId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page<Arc<ActorId>>, StoreError>> {
        self.below.pending(after, limit)
    }

    fn take_over(
        &self,
        actor: Arc<ActorId>,
        epoch: u64,
    ) -> BoxFuture<'static, Result<TakenOver, StoreError>> {
        self.take_overs.fetch_add(1, Ordering::SeqCst);
        let fault = self.script.lock().take_overs.pop_front();
        match fault {
            Some(error) => ready(Err(error)).boxed(),
            None => self.below.take_over(actor, epoch),
        }
    }

    fn delete(&self, actor: &ActorId) -> BoxFuture<'static, Result<(), StoreError>> {
        self.below.delete(actor)
    }

    fn claim_epoch_above(&self, floor: u64) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.below.claim_epoch_above(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    fn save(version: u64) -> Vec<Save> {
        let actor = Arc::new(ActorId { name: "a".into(), ..ActorId::default() });
        vec![Save::of_head(actor, Head { version, ..Head::default() }, false)]
    }

    #[tokio::test]
    async fn a_fault_strikes_once_and_says_truly_what_was_written() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        let actor = save(0)[0].actor.clone();
        store.fail_next_save(SaveFault::Lose(StoreError::Full("f".into())));
        store.fail_next_save(SaveFault::WriteAndFail(StoreError::Unknown("u".into())));
        assert!(matches!(store.save_all(save(1)).await[0], Err(StoreError::Full(_))));
        assert_eq!(store.load(&actor).await.unwrap(), None);
        assert!(matches!(store.save_all(save(2)).await[0], Err(StoreError::Unknown(_))));
        assert_eq!(store.load(&actor).await.unwrap().unwrap().version, 2);
        assert!(store.save_all(save(3)).await[0].is_ok());
    }

    #[tokio::test]
    async fn held_saves_are_written_in_the_order_of_their_calls() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        let actor = save(0)[0].actor.clone();
        store.hold_saves();
        let (first, second) = (store.save_all(save(1)), store.save_all(save(2)));
        assert_eq!(store.held_saves(), 2);
        assert_eq!(store.load(&actor).await.unwrap(), None);
        store.release_saves();
        assert!(second.await[0].is_ok());
        assert!(first.await[0].is_ok());
        assert_eq!(store.load(&actor).await.unwrap().unwrap().version, 2);
    }
}
