//! Forgetful: a store that keeps nothing, so that the process's memory is that of its mesh alone.

use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tidegate_stages::actor::{ActorId, ActorRef};
use tidegate_stages::due::{DueEntry, DueKey};
use tidegate_stages::history::{Interval, Keep, Page};
use tidegate_stages::outbox::{OutboxKey, OutboxRow, Seen};
use tidegate_stages::ports::{
    DueStore, Outcome, Pause, PauseStore, Registered, Registry, RegistryChange, Save,
    ScheduleStore, StateStore, StoreError, TakenOver,
};
use tidegate_stages::schedules::{ScheduleKey, ScheduleRow};
use tidegate_stages::state::{Head, Revision, Timestamp};

/// Every write succeeds; every read finds nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forgetful;

type Answer<T> = BoxFuture<'static, Result<T, StoreError>>;

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    ready(Ok(value)).boxed()
}

impl DueStore for Forgetful {
    fn put_due(&self, _: Vec<DueEntry>) -> Answer<()> {
        answer(())
    }

    fn due(&self, _: Option<&DueKey>, _: usize) -> Answer<Page<DueEntry>> {
        answer(Page::EMPTY)
    }

    fn remove_due(&self, _: Vec<DueKey>) -> Answer<()> {
        answer(())
    }
}

impl PauseStore for Forgetful {
    fn pauses(&self) -> Answer<Vec<Pause>> {
        answer(Vec::new())
    }

    fn put_pauses(&self, _: Vec<Pause>) -> Answer<()> {
        answer(())
    }

    fn remove_pauses(&self, _: Vec<ActorRef>) -> Answer<()> {
        answer(())
    }
}

impl ScheduleStore for Forgetful {
    fn put_schedule(&self, _: ScheduleRow) -> Answer<()> {
        answer(())
    }

    fn schedule(&self, _: &ScheduleKey) -> Answer<Option<ScheduleRow>> {
        answer(None)
    }

    fn schedules(&self, _: Option<&ScheduleKey>, _: usize) -> Answer<Page<ScheduleRow>> {
        answer(Page::EMPTY)
    }

    fn remove_schedule(&self, _: &ScheduleKey) -> Answer<()> {
        answer(())
    }
}

impl StateStore for Forgetful {
    fn save(&self, batch: Vec<Save>) -> BoxStream<'static, Outcome> {
        stream::iter((0..batch.len()).map(|index| (index, Ok(())))).boxed()
    }

    fn load(&self, _: &ActorId) -> Answer<Option<Head>> {
        answer(None)
    }

    fn load_revision(&self, _: &ActorId, _: u64) -> Answer<Option<Revision>> {
        answer(None)
    }

    fn append(&self, _: Arc<ActorId>, _: Vec<Revision>) -> Answer<()> {
        answer(())
    }

    fn load_at(&self, _: &ActorId, _: Timestamp) -> Answer<Option<Revision>> {
        answer(None)
    }

    fn load_by_interval(&self, _: &ActorId, _: Interval, _: usize) -> Answer<Page<Revision>> {
        answer(Page::EMPTY)
    }

    fn actors(&self, _: &str, _: Option<&ActorId>, _: usize) -> Answer<Page<Arc<ActorId>>> {
        answer(Page::EMPTY)
    }

    fn prune(&self, _: &ActorId, _: Keep) -> Answer<u64> {
        answer(0)
    }

    fn outbox(&self, _: &ActorId, _: Option<OutboxKey>, _: usize) -> Answer<Page<OutboxRow>> {
        answer(Page::EMPTY)
    }

    fn seen(&self, _: &ActorId) -> Answer<Vec<Seen>> {
        answer(Vec::new())
    }

    fn pending(&self, _: Option<&ActorId>, _: usize) -> Answer<Page<Arc<ActorId>>> {
        answer(Page::EMPTY)
    }

    fn take_over(&self, _: Arc<ActorId>, _: u64) -> Answer<TakenOver> {
        answer(TakenOver::default())
    }

    fn delete(&self, _: &ActorId) -> Answer<()> {
        answer(())
    }

    fn claim_epoch_above(&self, floor: u64) -> Answer<u64> {
        answer(floor + 1)
    }
}

impl Registry for Forgetful {
    fn load(&self) -> Answer<Vec<Registered>> {
        answer(Vec::new())
    }

    fn apply(&self, _: Vec<RegistryChange>) -> Answer<()> {
        answer(())
    }
}
